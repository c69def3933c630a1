//! What workers tell the control side of what they saw in bridge domains.

use crate::types::PortId;

/// Reports that may wait; more are lost, and made again when the host is next seen.
pub(crate) const REPORTS: usize = 8192;

/// Something seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// A MAC sent a frame from where the tables do not have it.
    Mac { bridge: u32, mac: u64, origin: Origin },
    /// A host on a port said that it has an address.
    Neighbor { bridge: u32, port: PortId, address: u128, mac: u64 },
}

/// Where a frame came into a bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Port(PortId),
    /// Through a tunnel from this VTEP.
    Vtep(u128),
}
