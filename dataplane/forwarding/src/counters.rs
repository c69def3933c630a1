//! Counters: every worker has its own and is their only writer; the control side adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::reason::Reason;
use crate::tables::chunked::Chunked;
use crate::tables::{MAX_BRIDGES, MAX_PORTS, MAX_VRFS};
use crate::types::{PortId, VrfId};

/// A number with one writer: adding is a load and a store, no locked instruction.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts of one port.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct PortCells {
    pub(crate) rx_packets: Counter,
    pub(crate) rx_bytes: Counter,
    pub(crate) forwarded: Counter,
    pub(crate) tx_packets: Counter,
    pub(crate) tx_bytes: Counter,
    pub(crate) from_kernel: Counter,
    pub(crate) reasons: ReasonCells,
}

pub(crate) struct ReasonCells([Counter; Reason::COUNT]);

impl Default for ReasonCells {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl ReasonCells {
    #[inline(always)]
    pub(crate) fn add(&self, reason: Reason, n: u64) {
        self.0[reason.index()].add(n);
    }
}

/// What one worker counts of one VRF.
#[derive(Default)]
pub(crate) struct VrfCells {
    pub(crate) packets: Counter,
    pub(crate) no_route: Counter,
}

/// What one worker counts of one bridge domain.
#[derive(Default)]
pub(crate) struct BridgeCells {
    pub(crate) packets: Counter,
    pub(crate) flooded: Counter,
    pub(crate) suppressed: Counter,
    pub(crate) limited: Counter,
    pub(crate) refused: Counter,
}

/// One worker's counters.
pub(crate) struct WorkerCells {
    ports: Chunked<PortCells, 2>,
    vrfs: Chunked<VrfCells, 4>,
    bridges: Chunked<BridgeCells, 4>,
}

impl WorkerCells {
    pub(crate) fn new() -> Self {
        Self {
            ports: Chunked::new(MAX_PORTS),
            vrfs: Chunked::new(MAX_VRFS),
            bridges: Chunked::new(MAX_BRIDGES),
        }
    }

    #[inline(always)]
    pub(crate) fn port(&self, port: PortId) -> Option<&PortCells> {
        self.ports.get(port.0.into())
    }

    #[inline(always)]
    pub(crate) fn vrf(&self, vrf: VrfId) -> Option<&VrfCells> {
        self.vrfs.get(vrf.0)
    }

    /// By the domain's slot.
    #[inline(always)]
    pub(crate) fn bridge(&self, slot: u32) -> Option<&BridgeCells> {
        self.bridges.get(slot)
    }

    pub(crate) fn make_bridge(&self, slot: u32) {
        self.bridges.get_or_make(slot);
    }

    /// Makes room, so that the worker finds its cells; by the control side.
    pub(crate) fn make_port(&self, port: PortId) {
        self.ports.get_or_make(port.0.into());
    }

    pub(crate) fn make_vrf(&self, vrf: VrfId) {
        self.vrfs.get_or_make(vrf.0);
    }
}

/// A port's counters, all workers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: u64,
    /// Their bytes, from the Ethernet header on, without the frame check sequence.
    pub rx_bytes: u64,
    /// Received here and sent on by the engine, by any port.
    pub forwarded: u64,
    /// Frames transmitted, as the caller reported them.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames of the kernel sent out here, as the caller reported them.
    pub from_kernel: u64,
    /// Packets received here and not forwarded, in the order of [`Reason::ALL`].
    reasons: [u64; Reason::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            forwarded: 0,
            tx_packets: 0,
            tx_bytes: 0,
            from_kernel: 0,
            reasons: [0; Reason::COUNT],
        }
    }
}

impl PortCounters {
    /// Packets received here that met this end.
    pub const fn reason(&self, reason: Reason) -> u64 {
        self.reasons[reason.index()]
    }

    /// The reasons with a count above zero: drops and hand-overs, told apart by [`Reason::kind`].
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.iter().map(|&reason| (reason, self.reason(reason))).filter(|&(_, count)| count > 0)
    }

    pub(crate) fn add(&mut self, cells: &PortCells) {
        self.rx_packets += cells.rx_packets.load();
        self.rx_bytes += cells.rx_bytes.load();
        self.forwarded += cells.forwarded.load();
        self.tx_packets += cells.tx_packets.load();
        self.tx_bytes += cells.tx_bytes.load();
        self.from_kernel += cells.from_kernel.load();
        for (sum, cell) in self.reasons.iter_mut().zip(&cells.reasons.0) {
            *sum += cell.load();
        }
    }

    /// What was counted since an earlier moment.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        self.rx_packets -= earlier.rx_packets;
        self.rx_bytes -= earlier.rx_bytes;
        self.forwarded -= earlier.forwarded;
        self.tx_packets -= earlier.tx_packets;
        self.tx_bytes -= earlier.tx_bytes;
        self.from_kernel -= earlier.from_kernel;
        for (sum, earlier) in self.reasons.iter_mut().zip(&earlier.reasons) {
            *sum -= earlier;
        }
        self
    }
}

/// A VRF's counters, all workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VrfCounters {
    /// Packets looked up in it.
    pub packets: u64,
    /// Those that matched no route.
    pub no_route: u64,
}

impl VrfCounters {
    pub(crate) fn add(&mut self, cells: &VrfCells) {
        self.packets += cells.packets.load();
        self.no_route += cells.no_route.load();
    }

    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self { packets: self.packets - earlier.packets, no_route: self.no_route - earlier.no_route }
    }
}

/// A bridge domain's counters, all workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeCounters {
    /// Frames that came in by its ports and tunnels.
    pub packets: u64,
    /// Of these, sent to more than one place.
    pub flooded: u64,
    /// ARP and ND requests answered here.
    pub suppressed: u64,
    /// Frames whose sender was not learned because its port, or the domain, has its fill.
    pub limited: u64,
    /// Frames whose sender was not believed: it lied about itself, or may not move here.
    pub refused: u64,
    /// MACs newly learned.
    pub learned: u64,
    /// MACs that moved between ports, or from a VTEP to a port.
    pub moved: u64,
}

impl BridgeCounters {
    pub(crate) fn add(&mut self, cells: &BridgeCells) {
        self.packets += cells.packets.load();
        self.flooded += cells.flooded.load();
        self.suppressed += cells.suppressed.load();
        self.limited += cells.limited.load();
        self.refused += cells.refused.load();
    }

    /// What was counted since an earlier moment.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            flooded: self.flooded - earlier.flooded,
            suppressed: self.suppressed - earlier.suppressed,
            limited: self.limited - earlier.limited,
            refused: self.refused - earlier.refused,
            learned: self.learned - earlier.learned,
            moved: self.moved - earlier.moved,
        }
    }
}
