//! A worker's side of learning: which sightings are worth a report.

use std::sync::mpsc::SyncSender;

use super::meter::Meter;
use crate::hash::mix;
use crate::learn::{Origin, Report};
use crate::types::PortId;

/// MACs and neighbours of a port that are reported per second.
const LEARN_RATE: u32 = 20_000;
/// How long the same sighting is not reported again, nanoseconds: the control side acts within milliseconds, and a lost
/// report must be made good soon.
const QUIET: u64 = 100_000_000;
const RECENT: usize = 1024;

/// See the module.
pub(super) struct Learner {
    reports: SyncSender<Report>,
    /// Something was reported since [`take_reported`](Self::take_reported).
    reported: bool,
    /// What was reported lately, by hash.
    recent: Box<[u64; RECENT]>,
    recent_since: u64,
    /// Something is in `recent`.
    remembers: bool,
    /// By port: what it may flood, and what is reported of it.
    meters: Vec<(Meter, Meter)>,
    /// Nanoseconds.
    now: u64,
}

impl Learner {
    pub(super) fn new(reports: SyncSender<Report>) -> Self {
        let recent = Box::new([0; RECENT]);
        Self {
            reports,
            reported: false,
            recent,
            recent_since: 0,
            remembers: false,
            meters: Vec::new(),
            now: 0,
        }
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        if now.wrapping_sub(self.recent_since) > QUIET {
            self.recent_since = now;
            if std::mem::take(&mut self.remembers) {
                self.recent.fill(0);
            }
        }
    }

    pub(super) fn take_reported(&mut self) -> bool {
        std::mem::take(&mut self.reported)
    }

    /// Whether a port may flood one more frame.
    pub(super) fn may_flood(&mut self, port: PortId, rate: u32) -> bool {
        let now = self.now;
        self.meters(port).0.admit(rate, now)
    }

    /// Whether it may flood so many more, all of them.
    pub(super) fn may_flood_all(&mut self, port: PortId, rate: u32, count: usize) -> bool {
        let now = self.now;
        self.meters(port).0.admit_all(count as u64, rate, now)
    }

    /// Reports something seen that came in by `port`, unless it was just now.
    pub(super) fn report(&mut self, port: PortId, report: Report) {
        let key = fingerprint(&report);
        #[expect(clippy::cast_possible_truncation, reason = "hash bits")]
        let place = key as usize % RECENT;
        if self.recent[place] == key {
            return;
        }
        let now = self.now;
        if self.meters(port).1.admit(LEARN_RATE, now) && self.reports.try_send(report).is_ok() {
            self.recent[place] = key;
            self.remembers = true;
            self.reported = true;
        }
    }

    fn meters(&mut self, port: PortId) -> &mut (Meter, Meter) {
        let index = usize::from(port.0);
        if self.meters.len() <= index {
            self.meters.resize(index + 1, Default::default());
        }
        &mut self.meters[index]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn fingerprint(report: &Report) -> u64 {
    let halves =
        |value: u128| mix((value >> 64) as u64 ^ 0x9e37_79b9_7f4a_7c15, value as u64 ^ 0xd6e8_feb8_6659_fd93);
    let (mac, bridge, rest) = match *report {
        Report::Mac { bridge, mac, origin: Origin::Port(port) } => (mac, bridge, u64::from(port.0) + 1),
        Report::Mac { bridge, mac, origin: Origin::Vtep(vtep) } => (mac, bridge, halves(vtep) | 1 << 63),
        Report::Neighbor { bridge, port, address, mac } => {
            (mac, bridge, halves(address) ^ u64::from(port.0) << 32 ^ 0x5555)
        }
    };
    mix(mac ^ 0xa076_1d64_78bd_642f, rest.rotate_left(20) ^ u64::from(bridge) ^ 0xe703_7ed1_a0b4_28db) | 1
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_sighting_is_reported_again_once_it_was_quiet_long_enough() {
        let (reports, reported) = sync_channel(8);
        let mut learner = Learner::new(reports);
        let port = PortId(3);
        let sighting = || Report::Mac { bridge: 1, mac: 0x0200_0000_0001, origin: Origin::Port(port) };
        for (milliseconds, wanted) in [(1_000, 1), (1_050, 0), (1_200, 1), (5_000, 1)] {
            learner.tick(milliseconds * 1_000_000);
            learner.report(port, sighting());
            // The worker wakes the control side at once, long before the next tick.
            learner.take_reported();
            assert_eq!(reported.try_iter().count(), wanted, "at {milliseconds} ms");
        }
    }
}
