//! Where a packet leaves: its path's neighbour and port, whether its TTL lasts and whether it fits.

use std::sync::atomic::Ordering;

use super::scratch::Ip;
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, IPV4, IPV6, UDP_VXLAN};
use crate::reason::Reason;
use crate::tables::paths::{Group, PathKind, PathWord};
use crate::tables::tunnel::TunnelRecord;
use crate::tables::{Station, Tables, low};
use crate::types::PortId;

/// What VXLAN adds to an IP packet: the outer IP, UDP and VXLAN headers and the inner Ethernet header.
const OVERHEAD_V4: usize = IPV4 + UDP_VXLAN + ETHERNET;
const OVERHEAD_V6: usize = IPV6 + UDP_VXLAN + ETHERNET;

/// A way out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exit {
    /// The neighbour's MAC, and the port.
    pub(super) neighbor: Station,
    /// The port's MAC, and its MTU.
    pub(super) own: Station,
    /// The tunnel record plus one that it goes through.
    tunnel: u32,
    /// The slot plus one of the bridge domain that it is routed into, whose MAC table then says the port.
    bridge: u32,
}

impl Exit {
    #[inline(always)]
    pub(super) const fn port(&self) -> PortId {
        PortId(self.neighbor.number())
    }

    /// The tunnel that it goes through.
    #[inline(always)]
    pub(super) const fn tunnel(&self) -> Option<u32> {
        self.tunnel.checked_sub(1)
    }

    /// The bridge domain that a packet is routed into.
    #[inline(always)]
    pub(super) const fn bridge(&self) -> Option<u32> {
        self.bridge.checked_sub(1)
    }

    /// A way out of a bridge domain: by a port of it, with the MACs that the frame is to have.
    pub(super) const fn bridged(self, port: PortId) -> Self {
        Self { neighbor: Station::new(self.neighbor.mac(), port.0), ..self }
    }

    /// A way out of a bridge domain through a tunnel.
    pub(super) const fn tunnelled(self, neighbor: Station, own: Station, tunnel: u32) -> Self {
        Self { neighbor, own, tunnel: tunnel + 1, ..self }
    }
}

/// By which way a packet leaves. `destination` is its own, of either family; `segment` is asked of one that is too big, for
/// the length of what it is to be cut into.
#[inline(always)]
pub(super) fn leave(
    tables: &Tables,
    path: PathKind,
    destination: impl Fn() -> u128,
    ip: Ip,
    hash: FlowHash,
    segment: impl Fn() -> Option<usize>,
) -> Result<Exit, Reason> {
    match path {
        PathKind::Local => return Err(Reason::Local),
        PathKind::Decline(reason @ (Reason::NoRoute | Reason::Blackhole)) => return Err(reason),
        _ => {}
    }
    // Only for packets that are neither for us nor for nobody; before what may be wrong with the way out.
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let (neighbor, tunnel, overhead) = match path {
        PathKind::Tunnel(tunnel) => {
            let (neighbor, overhead) = underlay(tables, tunnel, hash)?;
            (neighbor, tunnel + 1, overhead)
        }
        path => (neighbor(tables, path, destination)?, 0, 0),
    };
    let record = tables.ports.get(neighbor.number().into()).ok_or(Reason::NoPort)?;
    let own = record.station();
    if own.is_none() {
        return Err(Reason::NoPort);
    }
    let mtu = usize::from(own.number());
    if usize::from(ip.length) + overhead > mtu && !segments_fit(segment, mtu - overhead.min(mtu)) {
        return Err(Reason::TooBig);
    }
    let bridge = record.svi_of().map_or(0, |bridge| bridge + 1);
    Ok(Exit { neighbor, own, tunnel, bridge })
}

/// Whether what a frame is to be cut into fits; an ordinary one is as long as it is.
#[cold]
pub(super) fn segments_fit(segment: impl Fn() -> Option<usize>, room: usize) -> bool {
    segment().is_some_and(|length| length <= room)
}

/// The neighbour that a plain path leads to.
#[inline(always)]
pub(super) fn neighbor(
    tables: &Tables,
    path: PathKind,
    destination: impl Fn() -> u128,
) -> Result<Station, Reason> {
    let record = match path {
        PathKind::Adjacent(record) => tables.neighbors.record(record),
        PathKind::Connected(port) => tables.neighbors.find(port.0.into(), destination()),
        PathKind::Decline(reason) => return Err(reason),
        PathKind::Local | PathKind::Tunnel(_) => return Err(Reason::UnresolvedVtep),
    };
    let station = record.map_or(Station(0), |record| Station(record.value.load(Ordering::Acquire)));
    if station.is_none() { Err(Reason::UnresolvedNeighbor) } else { Ok(station) }
}

/// The neighbour towards a tunnel's VTEP, and what the tunnel adds.
#[inline(always)]
pub(super) fn underlay(tables: &Tables, tunnel: u32, hash: FlowHash) -> Result<(Station, usize), Reason> {
    let record = tables.tunnels.get(tunnel).ok_or(Reason::NoNextHop)?;
    let path = tables.select(underlay_route(tables, record)?, hash.underlay());
    underlay_by(tables, record, path)
}

/// The same by one path of the underlay.
#[inline(always)]
pub(super) fn underlay_by(
    tables: &Tables,
    record: &TunnelRecord,
    path: PathWord,
) -> Result<(Station, usize), Reason> {
    let path = path.kind();
    if !matches!(path, PathKind::Adjacent(_) | PathKind::Connected(_)) {
        return Err(Reason::UnresolvedVtep);
    }
    let neighbor = neighbor(tables, path, || record.destination())?;
    Ok((neighbor, if record.head().is_v6 { OVERHEAD_V6 } else { OVERHEAD_V4 }))
}

/// The paths of the underlay to a tunnel's VTEP.
pub(super) fn underlay_group(tables: &Tables, record: &TunnelRecord) -> Result<Group, Reason> {
    underlay_route(tables, record).map(|group| tables.group(group))
}

#[inline(always)]
fn underlay_route(tables: &Tables, record: &TunnelRecord) -> Result<u32, Reason> {
    let group = tables.vteps.get(record.head().vtep).map_or(0, |word| word.load(Ordering::Acquire));
    group.checked_sub(1).map(low).ok_or(Reason::UnresolvedVtep)
}
