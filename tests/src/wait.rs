//! Waiting for conditions: generously, and saying what was seen last.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// The limit for anything that FRR or a daemon does by itself. Generous: a loaded machine must not fail a test.
pub const LONG: Duration = Duration::from_secs(90);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks again and again until `look` gives a value; its error is the state that was seen last.
///
/// # Errors
/// [`Error::Timeout`] with the last thing seen after `limit`.
pub fn until<T>(limit: Duration, what: impl Into<String>, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() >= limit => {
                return Err(Error::Timeout {
                    seconds: limit.as_secs(),
                    what: what.into(),
                    last: seen.to_string(),
                });
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Looks for as long as `span`; every look must succeed.
///
/// # Errors
/// The first look's that fails.
pub fn holds(span: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        look()?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
