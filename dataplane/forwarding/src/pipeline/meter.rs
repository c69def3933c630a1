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
        self.admit_all(1, rate, now)
    }

    /// Whether `count` more are, all of them. None is counted if not.
    pub(super) fn admit_all(&mut self, count: u64, rate: u32, now: u64) -> bool {
        let Some(before_last) = count.checked_sub(1) else { return true };
        let Some(interval) = SECOND.checked_div(rate.into()) else { return false };
        let due = self.due.max(now);
        let last = due.saturating_add(interval.saturating_mul(before_last));
        if last - now > BURST.max(interval * SMALLEST_BURST) {
            return false;
        }
        self.due = last + interval;
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
    fn many_at_once_are_as_many_one_by_one() {
        for count in 1..200 {
            let (mut at_once, mut one_by_one) = (Meter::default(), Meter::default());
            for meter in [&mut at_once, &mut one_by_one] {
                assert!(meter.admit_all(0, 1000, 5) && meter.admit(1000, 5));
            }
            let before = at_once.due;
            let admitted = at_once.admit_all(count, 1000, 7);
            assert_eq!(admitted, (0..count).all(|_| one_by_one.admit(1000, 7)), "{count}");
            let wanted = if admitted { one_by_one.due } else { before };
            assert_eq!(at_once.due, wanted, "{count}: none is counted when they are refused");
        }
        assert!(!Meter::default().admit_all(u64::MAX, 1, 0));
        assert!(Meter::default().admit_all(0, 0, 0) && !Meter::default().admit_all(1, 0, 0));
    }

    #[test]
    fn small_rates_admit_some_and_zero_none() {
        let mut meter = Meter::default();
        assert!((0..100).filter(|_| meter.admit(1, 0)).count() >= 32);
        assert!(!Meter::default().admit(0, 5));
    }
}
