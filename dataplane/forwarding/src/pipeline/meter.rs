//! Rates: how much a port may flood, and how much of it is reported.

/// Nanoseconds per second.
const SECOND: u64 = 1_000_000_000;
/// What may come at once, in time: a tenth of a second's worth.
const BURST: u64 = SECOND / 10;
/// But never less than this many.
const SMALLEST_BURST: u64 = 32;

/// The generic cell rate algorithm (ITU-T I.371): when the next one would be due at the exact rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    due: u64,
}

impl Meter {
    /// Whether one more is within `rate` per second at the time `now`, nanoseconds. It is counted if so.
    pub(super) fn admit(&mut self, rate: u32, now: u64) -> bool {
        let Some(interval) = SECOND.checked_div(rate.into()) else { return false };
        let due = self.due.max(now);
        if due - now > BURST.max(interval * SMALLEST_BURST) {
            return false;
        }
        self.due = due + interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut meter = Meter::default();
        let burst = (0..100_000).filter(|_| meter.admit(10_000, 0)).count();
        assert!((1000..=1002).contains(&burst), "{burst}");
        let second: usize =
            (1..=1000).map(|ms| (0..100).filter(|_| meter.admit(10_000, ms * 1_000_000)).count()).sum();
        assert!((9_990..=10_010).contains(&second), "{second}");
    }

    #[test]
    fn small_rates_admit_some_and_zero_none() {
        let mut meter = Meter::default();
        assert!((0..100).filter(|_| meter.admit(1, 0)).count() >= 32);
        assert!(!Meter::default().admit(0, 5));
    }
}
