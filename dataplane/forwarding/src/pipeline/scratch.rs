//! What the stages know of each packet of a burst.

use super::MAX_BURST;
use super::bridge::{self, Answer, Decision, Inside};
use super::classify::Routed;
use super::exit::Exit;
use super::learn::Learner;
use super::switch::{From, Switching};
use crate::counters::WorkerCells;
use crate::fib::{NextHopIndex, TableId};
use crate::hash::FlowHash;
use crate::headers::Family;
use crate::packet::Packet;
use crate::reason::Verdict;
use crate::tables::Tables;
use crate::tables::paths::PathWord;
use crate::types::VrfId;

pub(super) struct Scratch {
    pub(super) v4: Lookups<u32>,
    pub(super) v6: Lookups<u128>,
    pub(super) packets: Packets,
    pub(super) exits: [Exit; MAX_BURST],
    /// Frames for one MAC of a bridge domain: bridged, and routed into it. Elsewhere, as the answers are, so that what
    /// every packet needs stays close together.
    pub(super) switch: Box<Switching>,
    /// Requests that are answered here.
    pub(super) answers: Box<Answers>,
}

/// By packet.
pub(super) struct Packets {
    pub(super) ip: [Ip; MAX_BURST],
    pub(super) vrf: [VrfId; MAX_BURST],
    /// Of those that go the long way.
    pub(super) hash: [FlowHash; MAX_BURST],
}

/// An IP packet to be forwarded, or a frame to be bridged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ip {
    /// Where it starts in the frame: behind the tunnel's headers, if it came through one.
    pub(super) at: u16,
    pub(super) length: u16,
    /// Of an IP packet.
    pub(super) ttl: u8,
    /// As it is to be when an IP packet is forwarded.
    pub(super) tos: u8,
}

pub(super) struct Answers {
    pub(super) count: usize,
    pub(super) packet: [u8; MAX_BURST],
    pub(super) answer: [Answer; MAX_BURST],
}

/// The packets of one family, without gaps.
pub(super) struct Lookups<K> {
    pub(super) count: usize,
    /// They are looked up in different tables.
    pub(super) mixed: bool,
    pub(super) packet: [u8; MAX_BURST],
    pub(super) keys: [K; MAX_BURST],
    pub(super) tables: [TableId; MAX_BURST],
    pub(super) found: [NextHopIndex; MAX_BURST],
    pub(super) paths: [PathWord; MAX_BURST],
}

impl<K: Copy> Lookups<K> {
    fn new(key: K) -> Self {
        Self {
            count: 0,
            mixed: false,
            packet: [0; MAX_BURST],
            keys: [key; MAX_BURST],
            tables: [TableId::from_index(0); MAX_BURST],
            found: [NextHopIndex::MISS; MAX_BURST],
            paths: [PathWord::default(); MAX_BURST],
        }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, packet: u8, key: K, table: TableId) {
        let at = self.count % MAX_BURST;
        self.packet[at] = packet;
        self.keys[at] = key;
        self.tables[at] = table;
        self.mixed |= self.tables[0] != table;
        self.count = at + 1;
    }

    /// Moves one of them to an earlier place.
    #[inline(always)]
    pub(super) fn keep(&mut self, at: usize, place: usize) {
        self.packet[place] = self.packet[at];
        self.keys[place] = self.keys[at];
        self.found[place] = self.found[at];
    }

    /// The packets.
    #[inline(always)]
    pub(super) fn packets(&self) -> &[u8] {
        &self.packet[..self.count.min(MAX_BURST)]
    }

    const fn clear(&mut self) {
        self.count = 0;
        self.mixed = false;
    }
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            v4: Lookups::new(0),
            v6: Lookups::new(0),
            packets: Packets {
                ip: [Ip::default(); MAX_BURST],
                vrf: [VrfId::DEFAULT; MAX_BURST],
                hash: [FlowHash::default(); MAX_BURST],
            },
            exits: [Exit::default(); MAX_BURST],
            switch: Box::new(Switching::new()),
            answers: Box::new(Answers {
                count: 0,
                packet: [0; MAX_BURST],
                answer: [Answer::default(); MAX_BURST],
            }),
        }
    }

    pub(super) fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.switch.clear();
        self.answers.count = 0;
    }

    /// Takes in a packet to be looked up.
    #[inline(always)]
    pub(super) fn route(&mut self, at: u8, routed: &Routed) {
        let Routed { view, l3, tos, vrf, tables: (v4, v6), .. } = routed;
        let ip = Ip { at: *l3, length: view.length, ttl: view.ttl, tos: *tos };
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses have 32 bits")]
        match view.family {
            Family::V4 => self.route_v4(at, view.destination as u32, ip, *vrf, *v4),
            Family::V6 => self.route_v6(at, view.destination, ip, *vrf, *v6),
        }
    }

    /// Likewise of IPv4.
    #[inline(always)]
    pub(super) fn route_v4(&mut self, at: u8, destination: u32, ip: Ip, vrf: VrfId, table: TableId) {
        self.packets.ip[usize::from(at)] = ip;
        self.packets.vrf[usize::from(at)] = vrf;
        self.v4.push(at, destination, table);
    }

    /// Likewise of IPv6.
    #[inline(always)]
    pub(super) fn route_v6(&mut self, at: u8, destination: u128, ip: Ip, vrf: VrfId, table: TableId) {
        self.packets.ip[usize::from(at)] = ip;
        self.packets.vrf[usize::from(at)] = vrf;
        self.v6.push(at, destination, table);
    }

    /// Decides on a frame in a bridge domain, and takes it in.
    #[inline(always)]
    pub(super) fn bridge(
        &mut self,
        tables: &Tables,
        learner: &mut Learner,
        cells: &WorkerCells,
        inside: &Inside<'_>,
        at: u8,
        verdict: &mut Verdict,
    ) {
        let i = usize::from(at);
        match bridge::decide(tables, learner, cells.bridge(inside.bridge.slot), inside) {
            Ok(Decision::Route(routed)) => self.route(at, &routed),
            Ok(Decision::Switch(switched)) => {
                self.packets.ip[i] = Ip { at: inside.at, length: switched.length, ..Ip::default() };
                let from = if switched.from_tunnel { From::Tunnel } else { From::Port(inside.port) };
                self.switch.push(at, inside.bridge.slot, switched.destination, from, switched.tos);
            }
            Ok(Decision::Flood) => *verdict = Verdict::Replicate,
            Ok(Decision::Answer(answer)) => {
                let place = self.answers.count % MAX_BURST;
                self.answers.packet[place] = at;
                self.answers.answer[place] = answer;
                self.answers.count = place + 1;
            }
            Err(reason) => *verdict = reason.verdict(),
        }
    }
}

/// The flow of the IP packet in a frame that starts at `at`, behind an Ethernet header. It was looked at before, so that it is
/// whole and without options.
#[inline(always)]
pub(super) fn flow_hash<P: Packet>(packet: &P, family: Family, ip: Ip) -> FlowHash {
    // Behind a tunnel's headers the NIC hashed the outer flow, in which all inner ones may be one.
    if usize::from(ip.at) == crate::headers::ETHERNET
        && let Some(hash) = packet.flow_hash()
    {
        return FlowHash::from_nic(hash);
    }
    let (at, length) = (usize::from(ip.at), usize::from(ip.length));
    let bytes = packet.data().get(at..at + length).unwrap_or_default();
    crate::headers::packet_flow_hash(family, bytes)
}
