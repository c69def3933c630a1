//! The workers' side: a burst of packets through stages, each over all packets before the next begins.
//!
//! classify (headers, VXLAN, sender's MAC) -> longest-prefix match per family -> choice of path -> neighbour, TTL and MTU
//! -> MAC in the bridge domain, of frames that are bridged or routed into one -> rewrite.
//! All but the last only read, so that a packet which is declined at any stage is still as it was received. The stages
//! keep what they find in arrays by packet; within a stage packets do not depend on each other, so the processor works on
//! several at once while memory answers.

mod bridge;
mod classify;
mod exit;
mod learn;
mod meter;
mod replicate;
mod rewrite;
mod switch;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::counters::WorkerCells;
use crate::fib::{FibReader, NextHopIndex, TableId};
use crate::hash::FlowHash;
use crate::headers::{Family, IpView};
use crate::learn::Report;
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::reclaim::ReaderHandle;
use crate::tables::bridge::BridgeView;
use crate::tables::paths::{PathKind, PathWord};
use crate::tables::{NodeView, PortRole, Tables};
use crate::types::{PortId, VrfId, v4_bits};
pub(crate) use bridge::Inside;
use bridge::{Answer, Decision};
pub(crate) use classify::{Frame, Routed, locate};
use exit::Exit;
use learn::Learner;
use switch::{From, Switching};

/// Packets that go through the stages together; longer slices are cut.
pub const MAX_BURST: usize = 256;

/// One polling thread's engine.
///
/// It reads the tables of the [`Control`](crate::Control) that made it. Between bursts it must be
/// [`quiescent`](Self::quiescent), before sleeping [`offline`](Self::offline).
pub struct Worker {
    tables: Arc<Tables>,
    fib4: FibReader<u32>,
    fib6: FibReader<u128>,
    reader: ReaderHandle,
    cells: Arc<WorkerCells>,
    learner: Learner,
    scratch: Box<Scratch>,
}

/// Where packets come from.
#[derive(Clone, Copy)]
pub(crate) struct Ingress {
    pub(crate) port: PortId,
    pub(crate) place: Place,
    /// The MAC that frames to us have, as [`Mac::bits`](crate::Mac).
    pub(crate) mac: u64,
    pub(crate) vrf: VrfId,
    pub(crate) tables: (TableId, TableId),
    /// What makes a packet VXLAN to us; nothing outside the default VRF.
    pub(crate) node: NodeView,
}

/// What a port is part of.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Routed,
    Bridged { bridge: BridgeView, flood_rate: u32 },
}

/// What the stages know of each packet.
struct Scratch {
    v4: Lookups<u32>,
    v6: Lookups<u128>,
    /// Where the IP packet to be forwarded starts in the frame: behind the tunnel's headers, if it came through one.
    l3: [u16; MAX_BURST],
    length: [u16; MAX_BURST],
    ttl: [u8; MAX_BURST],
    /// As it is to be when forwarded.
    tos: [u8; MAX_BURST],
    hash: [FlowHash; MAX_BURST],
    vrf: [VrfId; MAX_BURST],
    exits: [Exit; MAX_BURST],
    /// Frames for one MAC of a bridge domain: bridged, and routed into it. Elsewhere, as the answers are, so that what
    /// every packet needs stays close together.
    switch: Box<Switching>,
    /// Requests that are answered here.
    answers: Box<Answers>,
}

struct Answers {
    count: usize,
    packet: [u8; MAX_BURST],
    answer: [Answer; MAX_BURST],
}

/// The packets of one family, without gaps.
struct Lookups<K> {
    count: usize,
    packet: [u8; MAX_BURST],
    keys: [K; MAX_BURST],
    tables: [TableId; MAX_BURST],
    found: [NextHopIndex; MAX_BURST],
    paths: [PathWord; MAX_BURST],
}

impl<K: Copy + Default> Lookups<K> {
    fn new() -> Self {
        Self {
            count: 0,
            packet: [0; MAX_BURST],
            keys: [K::default(); MAX_BURST],
            tables: [TableId::from_index(0); MAX_BURST],
            found: [NextHopIndex::MISS; MAX_BURST],
            paths: [PathWord::default(); MAX_BURST],
        }
    }

    #[inline(always)]
    fn push(&mut self, packet: u8, key: K, table: TableId) {
        let at = self.count % MAX_BURST;
        self.packet[at] = packet;
        self.keys[at] = key;
        self.tables[at] = table;
        self.count = at + 1;
    }
}

impl Scratch {
    /// Takes in a packet to be looked up.
    #[inline(always)]
    fn route(&mut self, at: u8, routed: &Routed, nic_hash: Option<u32>) {
        let i = usize::from(at);
        let Routed { view, l3, tos, vrf, tables: (v4, v6), .. } = routed;
        self.l3[i] = *l3;
        self.length[i] = view.length;
        self.ttl[i] = view.ttl;
        self.tos[i] = *tos;
        self.vrf[i] = *vrf;
        self.hash[i] = nic_hash.map_or_else(|| view.flow_hash(), FlowHash::from_nic);
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses have 32 bits")]
        match view.family {
            Family::V4 => self.v4.push(at, view.destination as u32, *v4),
            Family::V6 => self.v6.push(at, view.destination, *v6),
        }
    }

    /// Decides on a frame in a bridge domain, and takes it in.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the parts of a worker")]
    fn bridge(
        &mut self,
        tables: &Tables,
        learner: &mut Learner,
        cells: &WorkerCells,
        inside: &Inside<'_>,
        at: u8,
        nic_hash: Option<u32>,
        verdict: &mut Verdict,
    ) {
        let i = usize::from(at);
        match bridge::decide(tables, learner, cells.bridge(inside.bridge.slot), inside) {
            Ok(Decision::Route(routed)) => self.route(at, &routed, nic_hash),
            Ok(Decision::Switch(switched)) => {
                self.l3[i] = inside.at;
                self.length[i] = switched.length;
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

impl Worker {
    pub(crate) fn new(
        tables: Arc<Tables>,
        fib4: FibReader<u32>,
        fib6: FibReader<u128>,
        reader: ReaderHandle,
        cells: Arc<WorkerCells>,
        reports: SyncSender<Report>,
    ) -> Self {
        let scratch = Box::new(Scratch {
            v4: Lookups::new(),
            v6: Lookups::new(),
            l3: [0; MAX_BURST],
            length: [0; MAX_BURST],
            ttl: [0; MAX_BURST],
            tos: [0; MAX_BURST],
            hash: [FlowHash::default(); MAX_BURST],
            vrf: [VrfId::DEFAULT; MAX_BURST],
            exits: [Exit::default(); MAX_BURST],
            switch: Box::new(Switching::new()),
            answers: Box::new(Answers {
                count: 0,
                packet: [0; MAX_BURST],
                answer: [Answer::default(); MAX_BURST],
            }),
        });
        Self { tables, fib4, fib6, reader, cells, learner: Learner::new(reports), scratch }
    }

    /// Decides on packets that came in by `port` and rewrites those to be transmitted; `verdicts` gets what to do with
    /// each. As many are processed as the shorter slice has.
    ///
    /// Counts received, forwarded, handed-over and dropped packets; what is then transmitted is for the caller to
    /// [count](Self::count_transmitted).
    pub fn process<P: Packet>(&mut self, port: PortId, packets: &mut [P], verdicts: &mut [Verdict]) {
        for (packets, verdicts) in packets.chunks_mut(MAX_BURST).zip(verdicts.chunks_mut(MAX_BURST)) {
            let count = packets.len().min(verdicts.len());
            let (packets, verdicts) = (&mut packets[..count], &mut verdicts[..count]);
            // Before they are rewritten.
            let bytes = packets.iter().map(|packet| packet.data().len() as u64).sum();
            match self.ingress(port) {
                Some(ingress) => self.burst(&ingress, packets, verdicts),
                None => verdicts.fill(Verdict::Drop(Reason::PortDown)),
            }
            self.count(port, packets.len() as u64, bytes, verdicts);
        }
    }

    /// Says what time it is, by any clock that never goes back. To be called once per round: rates of bridge domains' ports
    /// are kept by it. While nobody calls it, ports may flood what they may at once, and no more.
    #[inline]
    pub fn tick(&mut self, now: Duration) {
        self.learner.tick(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Whether something was seen in a bridge domain since this was last asked that the control side is to
    /// [look at](crate::Control::upkeep).
    #[inline]
    pub fn take_reported(&mut self) -> bool {
        self.learner.take_reported()
    }

    /// Whether a frame of a bridge domain's port that may be flooded and is cut into several may be flooded in `more` besides
    /// the first. Nothing limits what did not come in by a port of a domain.
    #[cold]
    pub fn may_flood_more(&mut self, port: PortId, more: usize) -> bool {
        let Some(Ingress { place: Place::Bridged { flood_rate, .. }, .. }) = self.ingress(port) else {
            return true;
        };
        (0..more).all(|_| self.learner.may_flood(port, flood_rate))
    }

    /// Says that nothing of the tables is held any more. To be called once per burst, and once per empty poll.
    #[inline]
    pub fn quiescent(&mut self) {
        self.reader.quiescent();
    }

    /// Leaves the tables alone until [`online`](Self::online): before sleeping.
    pub fn offline(&mut self) {
        self.reader.offline();
    }

    /// Comes back. Must precede the first burst after [`offline`](Self::offline).
    pub fn online(&mut self) {
        self.reader.online();
    }

    /// Counts frames that a port's queue took.
    pub fn count_transmitted(&self, port: PortId, packets: u64, bytes: u64) {
        if let Some(cells) = self.cells.port(port) {
            cells.tx_packets.add(packets);
            cells.tx_bytes.add(bytes);
        }
    }

    /// Counts packets that the caller had to drop, by the port they came in by if that is known, or the one they were to
    /// leave by.
    pub fn count_dropped(&self, port: PortId, reason: Reason, packets: u64) {
        if let Some(cells) = self.cells.port(port) {
            cells.reasons.add(reason, packets);
        }
    }

    /// Counts frames of the kernel that a port's queue took; they are transmitted frames too.
    pub fn count_from_kernel(&self, port: PortId, packets: u64) {
        if let Some(cells) = self.cells.port(port) {
            cells.from_kernel.add(packets);
        }
    }

    pub(crate) fn ingress(&self, port: PortId) -> Option<Ingress> {
        let view = self.tables.port(port)?;
        let node = if view.vrf == VrfId::DEFAULT { self.tables.node() } else { NodeView::default() };
        let place = match view.role {
            PortRole::Routed => Place::Routed,
            PortRole::Bridged { bridge, flood_rate } => {
                Place::Bridged { bridge: self.tables.bridge(bridge)?, flood_rate }
            }
            PortRole::Svi(_) => return None,
        };
        let tables = self.tables.vrf(view.vrf)?;
        Some(Ingress { port, place, mac: view.mac.bits(), vrf: view.vrf, tables, node })
    }

    /// At most [`MAX_BURST`] packets, as many verdicts.
    pub(crate) fn burst<P: Packet>(
        &mut self,
        ingress: &Ingress,
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) {
        packets.iter().for_each(P::prefetch);
        self.classify(ingress, packets, verdicts);

        let Self { tables, scratch, fib4, fib6, cells, learner, .. } = self;
        let Scratch { v4, v6, l3, length, ttl, tos, hash, vrf, exits, switch, answers } = &mut **scratch;
        if v4.count + v6.count > 0 {
            fib4.lookup_burst(&v4.tables[..v4.count], &v4.keys[..v4.count], &mut v4.found[..v4.count]);
            fib6.lookup_burst(&v6.tables[..v6.count], &v6.keys[..v6.count], &mut v6.found[..v6.count]);
            select(tables, v4, hash);
            select(tables, v6, hash);

            let finish = Finish { tables, l3, length, ttl, tos, hash };
            let mut ways = Ways { exits, switch };
            finish.leave(Family::V4, v4, |key| v4_bits(*key), &mut ways, packets, verdicts);
            finish.leave(Family::V6, v6, |key| *key, &mut ways, packets, verdicts);
        }
        if switch.count() > 0 {
            let mut bridged = switch::Bridged { tables, at: l3, length, hash };
            bridged.find(switch);
            bridged.leave(switch, exits, packets, verdicts, |bridge| {
                flood_unknown(learner, cells, ingress, bridge)
            });
            bridged.rewrite(switch, exits, packets, verdicts);
        }
        let finish = Finish { tables, l3, length, ttl, tos, hash };
        if v4.count + v6.count > 0 {
            finish.rewrite(Family::V4, v4, exits, packets, verdicts);
            finish.rewrite(Family::V6, v6, exits, packets, verdicts);
            if switch.count() > 0 {
                switch::complete(tables, switch, exits, packets, verdicts);
            }
            count_lookups(cells, ingress.vrf, vrf, &v4.packet[..v4.count], verdicts);
            count_lookups(cells, ingress.vrf, vrf, &v6.packet[..v6.count], verdicts);
        }
        for (&at, answer) in answers.packet.iter().zip(&answers.answer).take(answers.count) {
            let at = usize::from(at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            *verdict = rewrite::answer(packet, ingress.port, answer);
        }
    }

    /// Each kind of port has a loop of its own: routed packets do not pay for bridge domains.
    fn classify<P: Packet>(&mut self, ingress: &Ingress, packets: &[P], verdicts: &mut [Verdict]) {
        self.scratch.v4.count = 0;
        self.scratch.v6.count = 0;
        self.scratch.switch.clear();
        self.scratch.answers.count = 0;
        match ingress.place {
            Place::Routed => self.classify_routed(ingress, packets, verdicts),
            Place::Bridged { bridge, flood_rate } => {
                self.classify_bridged(ingress, bridge, flood_rate, packets, verdicts);
            }
        }
    }

    #[inline(always)]
    fn classify_routed<P: Packet>(&mut self, ingress: &Ingress, packets: &[P], verdicts: &mut [Verdict]) {
        let Self { tables, scratch, cells, learner, .. } = self;
        for ((at, packet), verdict) in (0_u8..=u8::MAX).zip(packets).zip(verdicts) {
            let frame = packet.data();
            let view = match classify::packet(ingress, frame) {
                Ok(view) => view,
                Err(reason) => {
                    *verdict = reason.verdict();
                    continue;
                }
            };
            if classify::may_be_vxlan(ingress, &view) {
                let done = match classify::terminate(tables, ingress, &view, frame) {
                    Ok(None) => Ok(false),
                    Ok(Some(tunnel)) => match tunnel.bridge() {
                        None => tunnel.routed(tables, &view).map(|routed| {
                            // The NIC hashed the outer flow, in which all inner ones may be one.
                            scratch.route(at, &routed, None);
                            true
                        }),
                        Some(slot) => tunnel.inside(tables, ingress, &view, slot).map(|inside| {
                            scratch.bridge(tables, learner, cells, &inside, at, None, verdict);
                            true
                        }),
                    },
                    Err(reason) => Err(reason),
                };
                match done {
                    Ok(false) => {}
                    Ok(true) => continue,
                    Err(reason) => {
                        *verdict = reason.verdict();
                        continue;
                    }
                }
            }
            scratch.route(at, &classify::plain(ingress, view), packet.flow_hash());
        }
    }

    #[inline(always)]
    fn classify_bridged<P: Packet>(
        &mut self,
        ingress: &Ingress,
        bridge: BridgeView,
        flood_rate: u32,
        packets: &[P],
        verdicts: &mut [Verdict],
    ) {
        let Self { tables, scratch, cells, learner, .. } = self;
        for ((at, packet), verdict) in (0_u8..=u8::MAX).zip(packets).zip(verdicts) {
            let inside = classify::of_port(ingress, bridge, flood_rate, packet.data());
            scratch.bridge(tables, learner, cells, &inside, at, packet.flow_hash(), verdict);
        }
    }

    fn count(&self, port: PortId, received: u64, bytes: u64, verdicts: &[Verdict]) {
        let Some(cells) = self.cells.port(port) else { return };
        cells.rx_packets.add(received);
        cells.rx_bytes.add(bytes);
        let mut forwarded = 0;
        for verdict in verdicts {
            match verdict {
                Verdict::Transmit(_) | Verdict::Replicate => forwarded += 1,
                Verdict::HandOver(reason) | Verdict::Drop(reason) => cells.reasons.add(*reason, 1),
            }
        }
        cells.forwarded.add(forwarded);
    }
}

/// The path of each packet. Misses get a path that says so.
#[inline(always)]
fn select<K>(tables: &Tables, lookups: &mut Lookups<K>, hash: &[FlowHash; MAX_BURST]) {
    for at in 0..lookups.count.min(MAX_BURST) {
        let found = lookups.found[at];
        let hash = hash[usize::from(lookups.packet[at])].overlay();
        lookups.paths[at] = if found.is_miss() {
            PathWord::new(PathKind::Decline(Reason::NoRoute))
        } else {
            tables.select(found.index(), hash)
        };
    }
}

/// The last stages' view of the scratch.
struct Finish<'a> {
    tables: &'a Tables,
    l3: &'a [u16; MAX_BURST],
    length: &'a [u16; MAX_BURST],
    ttl: &'a [u8; MAX_BURST],
    tos: &'a [u8; MAX_BURST],
    hash: &'a [FlowHash; MAX_BURST],
}

/// Where packets leave: known at once, or once their MAC is looked up.
struct Ways<'a> {
    exits: &'a mut [Exit; MAX_BURST],
    switch: &'a mut Switching,
}

impl Finish<'_> {
    /// Finds where each packet leaves, if it does.
    #[inline(always)]
    fn leave<K, P: Packet>(
        &self,
        family: Family,
        lookups: &Lookups<K>,
        bits: impl Fn(&K) -> u128,
        ways: &mut Ways<'_>,
        packets: &[P],
        verdicts: &mut [Verdict],
    ) {
        for at in 0..lookups.count.min(MAX_BURST) {
            let i = usize::from(lookups.packet[at]);
            let path = lookups.paths[at].kind();
            let ip = exit::Ip { length: self.length[i], ttl: self.ttl[i], hash: self.hash[i] };
            let segment = || packets.get(i)?.segment_length(self.l3[i].into());
            let result = exit::leave(self.tables, path, || bits(&lookups.keys[at]), ip, segment);
            let (Some(verdict), Some(packet)) = (verdicts.get_mut(i), packets.get(i)) else { continue };
            *verdict = match result {
                Ok(exit) => {
                    ways.exits[i] = exit;
                    if let Some(bridge) = exit.bridge() {
                        let mac = exit.neighbor.mac().bits();
                        ways.switch.push(lookups.packet[at], bridge, mac, From::Router, None);
                    }
                    Verdict::Transmit(exit.port())
                }
                Err(Reason::Local) => local(family, packet.data(), self.l3[i]).verdict(),
                Err(reason) => reason.verdict(),
            };
        }
    }

    #[inline(always)]
    fn rewrite<K, P: Packet>(
        &self,
        family: Family,
        lookups: &Lookups<K>,
        exits: &[Exit; MAX_BURST],
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) {
        for &at in &lookups.packet[..lookups.count.min(MAX_BURST)] {
            let i = usize::from(at);
            let (Some(verdict), Some(packet)) = (verdicts.get_mut(i), packets.get_mut(i)) else { continue };
            if !matches!(verdict, Verdict::Transmit(_)) {
                continue;
            }
            let inner = rewrite::Inner {
                family,
                l3: self.l3[i].into(),
                length: self.length[i],
                tos: self.tos[i],
                hash: self.hash[i],
            };
            if let Err(reason) = rewrite::rewrite(self.tables, &exits[i], &inner, packet) {
                *verdict = reason.verdict();
            }
        }
    }
}

/// A frame to a MAC that nobody knows.
#[cold]
fn flood_unknown(learner: &mut Learner, cells: &WorkerCells, ingress: &Ingress, bridge: u32) -> Verdict {
    if let Place::Bridged { flood_rate, .. } = ingress.place
        && !learner.may_flood(ingress.port, flood_rate)
    {
        return Verdict::Drop(Reason::FloodLimited);
    }
    if let Some(cells) = cells.bridge(bridge) {
        cells.flooded.add(1);
    }
    Verdict::Replicate
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

#[inline(always)]
fn count_lookups(
    cells: &WorkerCells,
    ingress: VrfId,
    vrfs: &[VrfId; MAX_BURST],
    packets: &[u8],
    verdicts: &[Verdict],
) {
    // Most packets of a burst are of the port's VRF; a VNI's are counted one by one.
    let mut of_ingress = 0;
    for &at in packets {
        let vrf = vrfs[usize::from(at)];
        if vrf == ingress {
            of_ingress += 1;
        } else if let Some(cells) = cells.vrf(vrf) {
            cells.packets.add(1);
        }
        if verdicts.get(usize::from(at)) == Some(&Verdict::Drop(Reason::NoRoute))
            && let Some(cells) = cells.vrf(vrf)
        {
            cells.no_route.add(1);
        }
    }
    if let Some(cells) = cells.vrf(ingress) {
        cells.packets.add(of_ingress);
    }
}
