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

/// Ways remembered at once, in pairs of places: a thousand VTEPs by two spines each.
const WAYS: usize = 2048;
/// Tunnels remembered whose underlay has several paths.
const SPREADS: usize = 1024;
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
}

/// A tunnel whose underlay has several paths, each of which makes a way of its own: their buckets, of which there are
/// `1 << log2`.
#[derive(Clone, Copy)]
struct Spread {
    /// The tunnel's path; [`EMPTY`] of none.
    key: u64,
    base: u32,
    log2: u32,
}

impl Spread {
    const NONE: Self = Self { key: EMPTY, base: 0, log2: 0 };
}

/// What is found of a path.
enum Found {
    Way(Way),
    Spread(Spread),
}

impl Way {
    const fn none() -> Self {
        Self { front: [0; FRONT_V6], length: 0, room: 0, sum: 0, verdict: Verdict::Drop(Reason::NoNextHop) }
    }
}

/// See the module.
pub(super) struct Ways {
    version: u64,
    /// The path, and above it the path of the underlay where there are several.
    keys: Box<[u64; WAYS]>,
    ways: Box<[Way]>,
    spreads: Box<[Spread; SPREADS]>,
}

impl Ways {
    pub(super) fn new() -> Self {
        Self {
            version: 0,
            keys: Box::new([EMPTY; WAYS]),
            ways: vec![Way::none(); WAYS].into_boxed_slice(),
            spreads: Box::new([Spread::NONE; SPREADS]),
        }
    }

    /// Before a burst: forgets everything if anything changed. `version` was read before.
    #[inline(always)]
    pub(super) fn renew(&mut self, version: u64) {
        if self.version != version {
            self.keys.fill(EMPTY);
            self.spreads.fill(Spread::NONE);
            self.version = version;
        }
    }

    /// The way to a neighbour. One without [room](Way::room) is no answer: why is for the long way to find out.
    #[inline(always)]
    pub(super) fn find(&mut self, tables: &Tables, path: PathWord) -> Option<&Way> {
        let at = self.place(tables, path, None)?;
        self.ways.get(at)
    }

    /// Likewise the way by a tunnel.
    #[inline(always)]
    pub(super) fn find_tunnel(&mut self, tables: &Tables, path: PathWord, hash: FlowHash) -> Option<&Way> {
        let mut underlay = self.underlay(tables, path, hash);
        let at = match self.place(tables, path, underlay) {
            Some(at) => at,
            None => {
                // It has just turned out that its underlay has several.
                underlay = self.underlay(tables, path, hash);
                self.place(tables, path, underlay)?
            }
        };
        self.ways.get(at)
    }

    /// Which path of its underlay a flow takes through a tunnel, if there are several and that is remembered.
    #[inline(always)]
    fn underlay(&self, tables: &Tables, path: PathWord, hash: FlowHash) -> Option<PathWord> {
        // Tunnels are numbered from 0 on.
        let spread = self.spreads[path.0 as usize % SPREADS];
        (spread.key == path.0.into()).then(|| tables.bucket(spread.base, spread.log2, hash.underlay()))
    }

    /// Where a way is remembered; nothing of a tunnel that turns out to have several.
    #[inline(always)]
    fn place(&mut self, tables: &Tables, path: PathWord, underlay: Option<PathWord>) -> Option<usize> {
        let under = underlay.map_or(0, |underlay| underlay.0);
        let key = u64::from(under) << 32 | u64::from(path.0);
        let at = first_place(path.0, under);
        if self.keys[at] == key { Some(at) } else { self.other(tables, path, underlay, key, at) }
    }

    /// A way that is not the first of its two places: it is the second, or it becomes the first, the older one going.
    #[cold]
    #[inline(never)]
    fn other(
        &mut self,
        tables: &Tables,
        path: PathWord,
        underlay: Option<PathWord>,
        key: u64,
        at: usize,
    ) -> Option<usize> {
        if self.keys[at + 1] == key {
            return Some(at + 1);
        }
        let way = match find(tables, path, underlay) {
            Some(Found::Way(way)) => way,
            Some(Found::Spread(spread)) => {
                self.spreads[path.0 as usize % SPREADS] = spread;
                return None;
            }
            None => Way::none(),
        };
        self.keys.swap(at, at + 1);
        self.ways.swap(at, at + 1);
        self.keys[at] = key;
        *self.ways.get_mut(at)? = way;
        Some(at)
    }
}

/// The first of the two places of a path, by a path of the underlay or 0. Neighbours and tunnels are numbered from 0 on, their
/// kinds being the upper bits; the tunnels by each path of an underlay follow each other from somewhere else on.
#[inline(always)]
const fn first_place(path: u32, under: u32) -> usize {
    let start = path >> 20 ^ under.wrapping_mul(0x9e37_79b1) >> 16;
    path.wrapping_add(start) as usize % (WAYS / 2) * 2
}

/// The way by a path; nothing when packets cannot leave by it, or each has to be looked at.
fn find(tables: &Tables, path: PathWord, underlay: Option<PathWord>) -> Option<Found> {
    let PathKind::Tunnel(tunnel) = path.kind() else {
        let neighbor = exit::neighbor(tables, path.kind(), || 0).ok()?;
        return plain(tables, neighbor).map(Found::Way);
    };
    let record = tables.tunnels.get(tunnel)?;
    let underlay = match underlay {
        Some(underlay) => underlay,
        None => match exit::underlay_group(tables, record).ok()? {
            Group::Path(path) => path,
            Group::Buckets { base, log2 } => {
                return Some(Found::Spread(Spread { key: path.0.into(), base, log2 }));
            }
        },
    };
    let (neighbor, overhead) = exit::underlay_by(tables, record, underlay).ok()?;
    let mut way = plain(tables, neighbor)?;
    way.room = way.room.saturating_sub(u16::try_from(overhead).ok()?);
    if record.head().is_v6 {
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
    Some(Found::Way(way))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_thousand_tunnels_by_two_spines_have_places() {
        let neighbor = |record| PathWord::new(PathKind::Adjacent(record)).0;
        for (one, other) in [(0, 1), (1, 2), (0, 7), (30, 31)] {
            let mut places: BTreeMap<usize, usize> = BTreeMap::new();
            for tunnel in 0..1000 {
                let path = PathWord::new(PathKind::Tunnel(tunnel)).0;
                for spine in [one, other] {
                    *places.entry(first_place(path, neighbor(spine))).or_default() += 1;
                }
            }
            assert!(places.values().all(|&count| count <= 2), "spines {one} and {other}");
        }
    }

    #[test]
    fn neighbors_and_tunnels_without_a_choice_have_places() {
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        for index in 0..1000 {
            for kind in [PathKind::Adjacent(index), PathKind::Tunnel(index)] {
                *places.entry(first_place(PathWord::new(kind).0, 0)).or_default() += 1;
            }
        }
        assert!(places.values().all(|&count| count <= 2));
    }
}
