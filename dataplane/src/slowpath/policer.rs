//! Policers: one token bucket for each class of handed-over packets.

use std::time::{Duration, Instant};

/// A token bucket: `rate` packets per second, in bursts of a tenth of a second's worth (at least 32).
#[derive(Clone, Debug)]
pub(super) struct Policer {
    /// Nanoseconds' worth of tokens, at most `depth`.
    credit: u64,
    depth: u64,
    cost: u64,
    last: Instant,
}

const MIN_BURST: u64 = 32;
const NANOS: u64 = 1_000_000_000;

impl Policer {
    /// A full bucket. A rate of 0 is taken for 1.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let rate = rate.max(1);
        let cost = NANOS / u64::from(rate);
        let depth = (NANOS / 10).max(cost * MIN_BURST);
        Self { credit: depth, depth, cost, last: now }
    }

    /// Adds what the time since the last call is worth. Once per batch of packets.
    pub(super) fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.last).min(Duration::from_secs(3600));
        self.last = now;
        // An hour in nanoseconds fits with room to spare.
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.credit = self.credit.saturating_add(elapsed).min(self.depth);
    }

    /// Whether one more packet may pass.
    #[must_use]
    pub(super) fn admit(&mut self) -> bool {
        match self.credit.checked_sub(self.cost) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over any stretch of time no more passes than the rate and one burst allow, and no less than the rate does
        /// when there is always a packet waiting.
        #[test]
        fn keeps_the_rate(rate in 1u32..2_000_000, steps in prop::collection::vec(1u64..50_000_000, 1..200)) {
            let start = Instant::now();
            let mut policer = Policer::new(rate, start);
            let mut now = start;
            let mut passed = 0u64;
            for step in steps {
                now += Duration::from_nanos(step);
                policer.refill(now);
                while policer.admit() {
                    passed += 1;
                }
            }
            let elapsed = (now - start).as_nanos();
            let nominal = u64::try_from(elapsed * u128::from(rate) / u128::from(NANOS)).unwrap();
            let burst = u64::from(rate / 10).max(MIN_BURST);
            // Whole nanoseconds per packet make the rate up to 0.2 % higher than asked for at 2 Mpps.
            prop_assert!(passed <= nominal + nominal / 100 + burst + burst / 100 + 1, "{passed} of {nominal} + {burst}");
            prop_assert!(passed >= nominal, "{passed} of {nominal}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let now = Instant::now();
        let mut policer = Policer::new(10, now);
        for _ in 0..MIN_BURST {
            assert!(policer.admit());
        }
        policer.refill(now);
        assert!(!policer.admit());
        policer.refill(now + Duration::from_millis(100));
        assert!(policer.admit());
        assert!(!policer.admit());
    }
}
