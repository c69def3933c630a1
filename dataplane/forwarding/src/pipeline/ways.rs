//! Ways out that a worker remembers, with everything in front of the IP packet written out.
//!
//! Where most packets leave depends on few paths, and a path says the same until some table changes. So a worker keeps what
//! it found of each, as a template of headers and the few numbers that a packet is held against, until the tables'
//! [version](Tables::version) is another one.

use super::exit;
use crate::checksum;
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::reason::{Reason, Verdict};
use crate::tables::paths::{Group, PathKind, PathWord};
use crate::tables::tunnel::{TEMPLATE_V4, TEMPLATE_V6};
use crate::tables::{Station, Tables};
use crate::types::PortId;

/// Everything in front of the inner packet, over IPv4: one cache line.
pub(super) const FRONT_V4: usize = ETHERNET + TEMPLATE_V4 + 2;
/// The same over IPv6.
pub(super) const FRONT_V6: usize = ETHERNET + TEMPLATE_V6 + 2;

/// Ways remembered at once: a thousand VTEPs, or some hundred by two spines each.
const WAYS: usize = 1024;
/// No path's key.
const EMPTY: u64 = u64::MAX;

/// A way out.
#[derive(Clone)]
#[repr(align(128))]
pub(super) struct Way {
    /// From the Ethernet header to the inner one, if there is one. Lengths, type of service, the UDP source port and the last
    /// EtherType are the packet's.
    pub(super) front: [u8; FRONT_V6],
    /// How long the front is: [`ETHERNET`], [`FRONT_V4`] or [`FRONT_V6`].
    pub(super) length: u16,
    /// The largest IP packet that fits; none at all by a way that has to be looked at packet by packet.
    pub(super) room: u16,
    /// The sum over the outer IPv4 header, without what is the packet's.
    pub(super) sum: u16,
    pub(super) verdict: Verdict,
    /// Through a tunnel whose underlay has several paths: their buckets, of which there are `1 << log2`. The way by each is
    /// a way of its own.
    base: u32,
    log2: u8,
}

impl Way {
    const fn none() -> Self {
        Self {
            front: [0; FRONT_V6],
            length: 0,
            room: 0,
            sum: 0,
            verdict: Verdict::Drop(Reason::NoNextHop),
            base: 0,
            log2: 0,
        }
    }
}

/// See the module.
pub(super) struct Ways {
    version: u64,
    /// The path, and above it the path of the underlay where there are several.
    keys: Box<[u64; WAYS]>,
    ways: Box<[Way]>,
}

impl Ways {
    pub(super) fn new() -> Self {
        Self { version: 0, keys: Box::new([EMPTY; WAYS]), ways: vec![Way::none(); WAYS].into_boxed_slice() }
    }

    /// Before a burst: forgets everything if anything changed. `version` was read before.
    #[inline(always)]
    pub(super) fn renew(&mut self, version: u64) {
        if self.version != version {
            self.keys.fill(EMPTY);
            self.version = version;
        }
    }

    /// The way to a neighbour. One without [room](Way::room) is no answer: why is for the long way to find out.
    #[inline(always)]
    pub(super) fn find(&mut self, tables: &Tables, path: PathWord) -> Option<&Way> {
        let at = self.place(tables, path, None);
        self.ways.get(at)
    }

    /// Likewise the way by a tunnel.
    #[inline(always)]
    pub(super) fn find_tunnel(&mut self, tables: &Tables, path: PathWord, hash: FlowHash) -> Option<&Way> {
        let mut at = self.place(tables, path, None);
        let way = self.ways.get(at)?;
        if way.log2 > 0 {
            let underlay = tables.bucket(way.base, way.log2.into(), hash.underlay());
            at = self.place(tables, path, Some(underlay));
        }
        self.ways.get(at)
    }

    #[inline(always)]
    fn place(&mut self, tables: &Tables, path: PathWord, underlay: Option<PathWord>) -> usize {
        let under = underlay.map_or(0, |underlay| underlay.0);
        let key = u64::from(under) << 32 | u64::from(path.0);
        // Neighbours and tunnels are numbered from 0 on; their kinds are the upper bits.
        let at = path.0.wrapping_add(path.0 >> 20).wrapping_add(under.wrapping_mul(37));
        let at = at as usize % WAYS;
        if self.keys[at] != key {
            self.learn(tables, path, underlay, at);
            self.keys[at] = key;
        }
        at
    }

    #[cold]
    #[inline(never)]
    fn learn(&mut self, tables: &Tables, path: PathWord, underlay: Option<PathWord>, at: usize) {
        if let Some(place) = self.ways.get_mut(at) {
            *place = way(tables, path, underlay).unwrap_or_else(Way::none);
        }
    }
}

fn way(tables: &Tables, path: PathWord, underlay: Option<PathWord>) -> Option<Way> {
    let PathKind::Tunnel(tunnel) = path.kind() else {
        let neighbor = exit::neighbor(tables, path.kind(), || 0).ok()?;
        return plain(tables, neighbor);
    };
    let record = tables.tunnels.get(tunnel)?;
    let underlay = match underlay {
        Some(underlay) => underlay,
        None => match exit::underlay_group(tables, record).ok()? {
            Group::Path(path) => path,
            Group::Buckets { base, log2 } => {
                return Some(Way { base, log2: u8::try_from(log2).ok()?, ..Way::none() });
            }
        },
    };
    let (neighbor, overhead) = exit::underlay_by(tables, record, underlay).ok()?;
    let mut way = plain(tables, neighbor)?;
    way.room = way.room.saturating_sub(u16::try_from(overhead).ok()?);
    let is_v6 = record.head().is_v6;
    if is_v6 {
        way.length = u16::try_from(FRONT_V6).ok()?;
        way.front[12..ETHERNET].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        record.copy_to(way.front[ETHERNET..].first_chunk_mut::<TEMPLATE_V6>()?);
    } else {
        way.length = u16::try_from(FRONT_V4).ok()?;
        way.front[12..ETHERNET].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        let template = way.front[ETHERNET..].first_chunk_mut::<TEMPLATE_V4>()?;
        record.copy_to(template);
        // Where the checksum is to be the template has the sum of the rest.
        way.sum = checksum::fold(u16::from_be_bytes([template[10], template[11]]).into());
    }
    Some(way)
}

/// The way by a neighbour, without a tunnel.
fn plain(tables: &Tables, neighbor: Station) -> Option<Way> {
    let record = tables.ports.get(neighbor.number().into())?;
    let own = record.station();
    // What is routed into a bridge domain leaves by what its MAC table says.
    if own.is_none() || record.svi_of().is_some() {
        return None;
    }
    let mut way = Way {
        length: u16::try_from(ETHERNET).ok()?,
        room: own.number(),
        verdict: Verdict::Transmit(PortId(neighbor.number())),
        ..Way::none()
    };
    way.front[..6].copy_from_slice(&neighbor.mac().octets());
    way.front[6..12].copy_from_slice(&own.mac().octets());
    Some(way)
}
