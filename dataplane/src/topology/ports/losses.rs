//! What a port lost before the engine saw it.

use std::sync::atomic::{AtomicU64, Ordering};

use dpdk::PortStats;

/// The reasons, as they are named among those of the engine.
const REASONS: [&str; 5] = ["rx-missed", "rx-no-queue", "rx-too-big", "no-buffer", "rx-error"];

/// Packets that a port lost before the engine saw them, by reason; as old as the last [`Losses::record`].
///
/// * `rx-missed`: nobody fetched packets in time, so device or kernel had no place for more.
/// * `rx-no-queue`: they came by a receive queue that the interface had not when it was opened (AF_XDP). Opening the port again
///   helps.
/// * `rx-too-big`: larger than a buffer.
/// * `no-buffer`: no buffer was free.
/// * `rx-error`: the device calls them damaged.
#[derive(Debug, Default)]
pub struct Losses([AtomicU64; REASONS.len()]);

impl Losses {
    /// Takes over what the device says now. Counters never go back.
    pub(super) fn record(&self, stats: &PortStats) {
        let now = [stats.rx_missed, stats.rx_no_queue, stats.rx_too_big, stats.rx_no_buffer, stats.rx_errors];
        for (counter, packets) in self.0.iter().zip(now) {
            counter.fetch_max(packets, Ordering::Relaxed);
        }
    }

    /// What was lost, by the name of the reason.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS
            .into_iter()
            .zip(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)))
            .filter(|&(_, packets)| packets > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_never_go_back() {
        let losses = Losses::default();
        assert_eq!(losses.reasons().count(), 0);
        losses.record(&PortStats { rx_missed: 5, rx_too_big: 2, ..PortStats::default() });
        losses.record(&PortStats { rx_missed: 4, rx_no_buffer: 1, ..PortStats::default() });
        let reasons: Vec<_> = losses.reasons().collect();
        assert_eq!(reasons, [("rx-missed", 5), ("rx-too-big", 2), ("no-buffer", 1)]);
    }
}
