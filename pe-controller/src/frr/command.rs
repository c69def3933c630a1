use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::error::Error;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    /// Standard output, then standard error.
    pub(super) text: String,
}

/// Runs `argv` to its end, at most for `limit`.
///
/// When the future is dropped the command runs on: half a reload is worse than one that nobody waits for.
pub(super) async fn run(argv: &[String], limit: Duration) -> Result<Output, Error> {
    let [program, arguments @ ..] = argv else { unreachable!("a command line has a program") };
    let command = || argv.iter().take(2).cloned().collect::<Vec<_>>().join(" ");
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { command: command(), source })?;
    let id = child.id();
    let Ok(output) = tokio::time::timeout(limit, child.wait_with_output()).await else {
        if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
            // It may have ended at this very moment; then there is nothing to stop.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
        return Err(Error::Stuck { command: command(), limit });
    };
    let output = output.map_err(|source| Error::Start { command: command(), source })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Output { status: output.status, text })
}
