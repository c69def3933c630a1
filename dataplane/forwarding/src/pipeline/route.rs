//! Routed packets after their lookup: by which path, by which way out, and what they look like there.
//!
//! Most leave by ways that are [remembered](super::ways), each in one step. The others go through stages: path, neighbour
//! and port, and, once bridge domains have said where theirs go, rewriting.

use super::exit::{self, Exit};
use super::scratch::{Lookups, Packets, flow_hash};
use super::switch::{From, Switching};
use super::ways::Ways;
use super::{MAX_BURST, rewrite};
use crate::counters::WorkerCells;
use crate::headers::{Family, IpView};
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::tables::Tables;
use crate::tables::paths::{PathKind, PathWord};

/// Sends packets out by the ways that are remembered. What is left in `lookups` is for the stages below.
#[inline(always)]
pub(super) fn by_known_ways<K: Copy, P: Packet>(
    tables: &Tables,
    ways: &mut Ways,
    family: Family,
    lookups: &mut Lookups<K>,
    info: &mut Packets,
    packets: &mut [P],
    verdicts: &mut [Verdict],
) {
    let mut left = 0;
    for at in 0..lookups.count.min(MAX_BURST) {
        let i = usize::from(lookups.packet[at]);
        let (Some(packet), Some(verdict)) = (packets.get_mut(i), verdicts.get_mut(i)) else { continue };
        let ip = info.ip[i];
        let hash = || flow_hash(packet, family, ip);
        let way = match tables.path(lookups.found[at].index(), hash) {
            (path, _) if path.is_neighbor() => ways.find(tables, path).map(|way| (way, None)),
            (path, hash) if path.is_tunnel() => {
                let hash = hash.unwrap_or_else(|| flow_hash(packet, family, ip));
                ways.find_tunnel(tables, path, hash).map(|way| (way, Some(hash)))
            }
            _ => None,
        };
        if let Some((way, hash)) = way
            && ip.ttl > 1
            && ip.length <= way.room
        {
            let done = match hash {
                None => rewrite::forward(way, family, ip, packet),
                Some(hash) => rewrite::encapsulate_packet(way, family, ip, hash, packet),
            };
            if done {
                *verdict = way.verdict;
                continue;
            }
        }
        info.hash[i] = flow_hash(packet, family, ip);
        lookups.keep(at, left);
        left += 1;
    }
    lookups.count = left;
}

/// The path of each packet. Misses get a path that says so.
#[inline(always)]
pub(super) fn select<K: Copy>(tables: &Tables, lookups: &mut Lookups<K>, info: &Packets) {
    for at in 0..lookups.count.min(MAX_BURST) {
        let found = lookups.found[at];
        let hash = info.hash[usize::from(lookups.packet[at])].overlay();
        lookups.paths[at] = if found.is_miss() {
            PathWord::new(PathKind::Decline(Reason::NoRoute))
        } else {
            tables.select(found.index(), hash)
        };
    }
}

/// Finds where each packet leaves, if it does: at once, or once its MAC is looked up.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the parts of the scratch")]
pub(super) fn leave<K: Copy, P: Packet>(
    tables: &Tables,
    family: Family,
    lookups: &Lookups<K>,
    bits: impl Fn(&K) -> u128,
    info: &Packets,
    exits: &mut [Exit; MAX_BURST],
    switch: &mut Switching,
    packets: &[P],
    verdicts: &mut [Verdict],
) {
    for at in 0..lookups.count.min(MAX_BURST) {
        let i = usize::from(lookups.packet[at]);
        let path = lookups.paths[at].kind();
        let ip = info.ip[i];
        let segment = || packets.get(i)?.segment_length(ip.at.into());
        let result = exit::leave(tables, path, || bits(&lookups.keys[at]), ip, info.hash[i], segment);
        let (Some(verdict), Some(packet)) = (verdicts.get_mut(i), packets.get(i)) else { continue };
        *verdict = match result {
            Ok(exit) => {
                exits[i] = exit;
                if let Some(bridge) = exit.bridge() {
                    let mac = exit.neighbor.mac().bits();
                    switch.push(lookups.packet[at], bridge, mac, From::Router, None);
                }
                Verdict::Transmit(exit.port())
            }
            Err(Reason::Local) => local(family, packet.data(), ip.at).verdict(),
            Err(reason) => reason.verdict(),
        };
    }
}

/// Makes those ready that leave.
#[inline(always)]
pub(super) fn rewrite<K: Copy, P: Packet>(
    tables: &Tables,
    family: Family,
    lookups: &Lookups<K>,
    info: &Packets,
    exits: &[Exit; MAX_BURST],
    packets: &mut [P],
    verdicts: &mut [Verdict],
) {
    for &at in lookups.packets() {
        let i = usize::from(at);
        let (Some(verdict), Some(packet)) = (verdicts.get_mut(i), packets.get_mut(i)) else { continue };
        if matches!(verdict, Verdict::Transmit(_))
            && let Err(reason) = rewrite::rewrite(tables, &exits[i], family, info.ip[i], info.hash[i], packet)
        {
            *verdict = reason.verdict();
        }
    }
}

/// What kind of local packet it is.
#[cold]
fn local(family: Family, frame: &[u8], l3: u16) -> Reason {
    let packet = frame.get(usize::from(l3)..).unwrap_or_default();
    match IpView::new(family, packet) {
        Ok(view) if family == Family::V6 && crate::headers::is_nd(packet, view.transport) => Reason::Nd,
        Ok(view) if view.transport.is_control() => Reason::LocalControl,
        _ => Reason::Local,
    }
}

/// Counts packets by the VRF that they are looked up in.
#[inline(always)]
pub(super) fn count_lookups<K: Copy>(cells: &WorkerCells, lookups: &Lookups<K>, info: &Packets) {
    let Some(&first) = lookups.packets().first() else { return };
    if !lookups.mixed {
        // One table is one VRF.
        if let Some(cells) = cells.vrf(info.vrf[usize::from(first)]) {
            cells.packets.add(lookups.count as u64);
        }
        return;
    }
    for &at in lookups.packets() {
        if let Some(cells) = cells.vrf(info.vrf[usize::from(at)]) {
            cells.packets.add(1);
        }
    }
}

/// Counts those that found no route; they are among those that no way was known of.
#[inline(always)]
pub(super) fn count_misses<K: Copy>(
    cells: &WorkerCells,
    lookups: &Lookups<K>,
    info: &Packets,
    verdicts: &[Verdict],
) {
    for &at in lookups.packets() {
        let i = usize::from(at);
        if verdicts.get(i) == Some(&Verdict::Drop(Reason::NoRoute))
            && let Some(cells) = cells.vrf(info.vrf[i])
        {
            cells.no_route.add(1);
        }
    }
}
