//! When it is safe to conclude that zebra has said everything. FPM has no end-of-replay mark, so: zebra is connected, has
//! been silent for a while, and has stated every route of its own that the kernel holds. After a restart of zebra its daemons
//! need time to converge; until then, what they do not state yet is kept. No I/O; takes `now`.

use std::time::{Duration, Instant};

/// Silence that ends a replay.
const QUIET: Duration = Duration::from_millis(500);
/// Pause after a comparison that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Routes that zebra has not stated for so long are not zebra's: foreign ones with its protocol number.
const GIVE_UP: Duration = Duration::from_secs(300);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Wait,
    /// Compare with the kernel's routes, and tell [`Gate::compared`].
    Compare,
}

/// The state of zebra's replay.
#[derive(Debug)]
pub struct Gate {
    /// How long routes of an earlier connection are kept.
    hold: Duration,
    connected: Option<Instant>,
    last_message: Option<Instant>,
    /// No comparison before.
    not_before: Option<Instant>,
    comparing: bool,
    /// A message came while comparing.
    disturbed: bool,
    complete: bool,
}

impl Gate {
    /// `hold`: how long what zebra said before it restarted is kept when it does not say so again.
    #[must_use]
    pub fn new(hold: Duration) -> Self {
        Self {
            hold,
            connected: None,
            last_message: None,
            not_before: None,
            comparing: false,
            disturbed: false,
            complete: false,
        }
    }

    /// zebra connected: a replay begins.
    pub fn connected(&mut self, now: Instant) {
        let comparing = self.comparing;
        *self = Self { connected: Some(now), last_message: Some(now), ..Self::new(self.hold) };
        (self.comparing, self.disturbed) = (comparing, true);
    }

    /// zebra went away.
    pub fn disconnected(&mut self) {
        let comparing = self.comparing;
        *self = Self::new(self.hold);
        (self.comparing, self.disturbed) = (comparing, true);
    }

    /// zebra said something.
    pub fn message(&mut self, now: Instant) {
        self.last_message = Some(now);
        self.disturbed = true;
    }

    /// zebra is connected and has said everything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The routes came from a kernel dump, which is complete by itself.
    pub fn dumped(&mut self) {
        self.complete = true;
    }

    /// What to do at `now`. After [`Action::Compare`] it waits for [`Gate::compared`].
    pub fn poll(&mut self, now: Instant) -> Action {
        let quiet = self.last_message.is_some_and(|last| now.saturating_duration_since(last) >= QUIET);
        let too_early = self.not_before.is_some_and(|time| now < time);
        if self.complete || self.comparing || self.connected.is_none() || !quiet || too_early {
            return Action::Wait;
        }
        self.comparing = true;
        self.disturbed = false;
        Action::Compare
    }

    /// The comparison's outcome: how many routes of the kernel zebra has not stated, `None` when the kernel could not be
    /// asked; and how many routes of an earlier connection it has not stated again. Returns whether the replay is complete.
    pub fn compared(&mut self, missing: Option<usize>, stale: usize, now: Instant) -> bool {
        self.comparing = false;
        let lasts = |time| self.connected.is_some_and(|since| now.saturating_duration_since(since) >= time);
        let stated = missing == Some(0) || (missing.is_some() && lasts(GIVE_UP));
        if self.connected.is_some() && !self.disturbed && stated && (stale == 0 || lasts(self.hold)) {
            self.complete = true;
        } else {
            self.not_before = Some(now + if self.disturbed { Duration::ZERO } else { AGAIN });
        }
        self.complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn opens_when_zebra_is_quiet_and_has_stated_what_the_kernel_has() {
        let start = Instant::now();
        let mut gate = Gate::new(60_000 * MS);
        assert_eq!(gate.poll(start), Action::Wait, "nobody is connected");
        gate.connected(start);
        gate.message(start + 400 * MS);
        assert_eq!(gate.poll(start + 800 * MS), Action::Wait, "not quiet long enough");
        assert_eq!(gate.poll(start + 900 * MS), Action::Compare);
        assert_eq!(gate.poll(start + 900 * MS), Action::Wait, "one comparison at a time");
        assert!(!gate.compared(Some(3), 0, start + 950 * MS), "zebra has not stated three routes");
        assert_eq!(gate.poll(start + 1000 * MS), Action::Wait, "gives zebra time");
        assert_eq!(gate.poll(start + 1950 * MS), Action::Compare);
        assert!(gate.compared(Some(0), 0, start + 2000 * MS));
        assert!(gate.is_complete());
    }

    #[test]
    fn a_comparison_that_was_overtaken_does_not_count() {
        let start = Instant::now();
        let mut gate = Gate::new(60_000 * MS);
        gate.connected(start);
        assert_eq!(gate.poll(start + 500 * MS), Action::Compare);
        gate.message(start + 510 * MS);
        assert!(!gate.compared(Some(0), 0, start + 520 * MS));
        assert_eq!(gate.poll(start + 530 * MS), Action::Wait);
        assert_eq!(gate.poll(start + 1010 * MS), Action::Compare);
        gate.disconnected();
        gate.connected(start + 1020 * MS);
        assert!(!gate.compared(Some(0), 0, start + 1030 * MS), "that was about the zebra before");
        assert_eq!(gate.poll(start + 1520 * MS), Action::Compare);
        assert!(gate.compared(Some(0), 0, start + 1530 * MS));
    }

    #[test]
    fn after_a_restart_keeps_what_is_not_stated_again_for_a_while() {
        let start = Instant::now();
        let mut gate = Gate::new(60_000 * MS);
        gate.connected(start);
        assert_eq!(gate.poll(start + 500 * MS), Action::Compare);
        assert!(!gate.compared(Some(0), 7, start + 500 * MS));
        assert_eq!(gate.poll(start + 60_000 * MS), Action::Compare);
        assert!(gate.compared(Some(0), 7, start + 60_000 * MS));
    }

    #[test]
    fn stays_shut_while_zebra_is_away_and_gives_up_on_foreign_routes() {
        let start = Instant::now();
        let mut gate = Gate::new(60_000 * MS);
        gate.connected(start);
        gate.disconnected();
        assert_eq!(gate.poll(start + 10_000 * MS), Action::Wait);
        gate.connected(start);
        assert_eq!(gate.poll(start + 600 * MS), Action::Compare);
        assert!(!gate.compared(None, 0, start + 600 * MS), "the kernel could not be asked");
        assert_eq!(gate.poll(start + GIVE_UP), Action::Compare);
        assert!(gate.compared(Some(1), 0, start + GIVE_UP));
    }
}
