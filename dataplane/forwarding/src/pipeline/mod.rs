//! The workers' side: a burst of packets through stages, each over all packets before the next begins.
//!
//! classify (headers, VXLAN, sender's MAC) -> longest-prefix match per family -> choice of path -> neighbour, TTL and MTU
//! -> MAC in the bridge domain, of frames that are bridged or routed into one -> rewrite.
//! A packet is rewritten once its decision is final, and one that is declined at any stage is still as it was received. The
//! stages keep what they find in arrays by packet; within a stage packets do not depend on each other, so the processor works
//! on several at once while memory answers.
//!
//! Most packets are ordinary, come by a port or tunnel that is known and leave by a path that is known. For these the stages
//! are short: [`quick`] looks at headers, [`ends`] remembers tunnels that end here, and [`ways`] remembers ways out with their
//! headers written out, so that everything after the lookup is one step. Whatever a short stage does not know it leaves
//! alone, and the complete one decides.

mod bridge;
mod classify;
mod ends;
mod exit;
mod learn;
mod meter;
mod ordinary;
mod quick;
mod replicate;
mod rewrite;
mod route;
mod scratch;
mod switch;
mod ways;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::counters::WorkerCells;
use crate::fib::{FibReader, TableId};
use crate::headers::Family;
use crate::learn::Report;
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::reclaim::ReaderHandle;
use crate::tables::bridge::BridgeView;
use crate::tables::{NodeView, PortRole, Tables};
use crate::types::{PortId, VrfId, v4_bits};
pub(crate) use bridge::Inside;
pub(crate) use classify::{Frame, Routed, locate};
use ends::Ends;
use learn::Learner;
use ordinary::Short;
use scratch::Scratch;
use ways::Ways;

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
    ways: Ways,
    ends: Ends,
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

impl Worker {
    pub(crate) fn new(
        tables: Arc<Tables>,
        fib4: FibReader<u32>,
        fib6: FibReader<u128>,
        reader: ReaderHandle,
        cells: Arc<WorkerCells>,
        reports: SyncSender<Report>,
    ) -> Self {
        Self {
            tables,
            fib4,
            fib6,
            reader,
            cells,
            learner: Learner::new(reports),
            scratch: Box::new(Scratch::new()),
            ways: Ways::new(),
            ends: Ends::new(),
        }
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
            self.renew();
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
    /// the first: all of them, or none, and none is counted then. Nothing limits what did not come in by a port of a domain.
    #[cold]
    pub fn may_flood_more(&mut self, port: PortId, more: usize) -> bool {
        let Some(Ingress { place: Place::Bridged { flood_rate, .. }, .. }) = self.ingress(port) else {
            return true;
        };
        self.learner.may_flood_all(port, flood_rate, more)
    }

    /// Whether a frame that came in by a port is VXLAN to a VTEP address of ours: UDP to a port of a VNI. One that stands for
    /// many such datagrams would be taken for one, and the others be lost.
    #[cold]
    pub fn is_vxlan_to_us(&self, port: PortId, frame: &[u8]) -> bool {
        let is_vxlan = |ingress: Ingress| classify::is_vxlan_to_us(&ingress, frame);
        self.ingress(port).is_some_and(is_vxlan)
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

    /// Counts frames that came in by a port and go no further, by why.
    pub fn count_refused(&self, port: PortId, reason: Reason, packets: u64, bytes: u64) {
        if let Some(cells) = self.cells.port(port) {
            cells.rx_packets.add(packets);
            cells.rx_bytes.add(bytes);
            cells.reasons.add(reason, packets);
        }
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

    /// Before anything of the tables is read that will be remembered: forgets what was, if it may not be true any more.
    #[inline(always)]
    fn renew(&mut self) {
        let version = self.tables.version();
        self.ways.renew(version);
        self.ends.renew(version);
    }

    /// At most [`MAX_BURST`] packets, as many verdicts; after [`renew`](Self::renew), unless the worker is a new one.
    pub(crate) fn burst<P: Packet>(
        &mut self,
        ingress: &Ingress,
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) {
        packets.iter().for_each(P::prefetch);
        self.classify(ingress, packets, verdicts);

        let Self { tables, scratch, fib4, fib6, cells, ways, .. } = self;
        let Scratch { v4, v6, packets: info, switch, answers, .. } = &mut **scratch;
        if v4.count > 0 {
            let (found, count) = (&mut v4.found[..v4.count], v4.count);
            fib4.lookup_burst(&v4.tables[..count], &v4.keys[..count], found);
            route::count_lookups(cells, v4, info);
            route::by_known_ways(tables, ways, Family::V4, v4, info, packets, verdicts);
        }
        if v6.count > 0 {
            let (found, count) = (&mut v6.found[..v6.count], v6.count);
            fib6.lookup_burst(&v6.tables[..count], &v6.keys[..count], found);
            route::count_lookups(cells, v6, info);
            route::by_known_ways(tables, ways, Family::V6, v6, info, packets, verdicts);
        }
        if v4.count + v6.count + switch.count() + answers.count > 0 {
            self.the_long_way(ingress, packets, verdicts);
        }
    }

    /// Packets that are routed by no way that is remembered, frames of bridge domains, and answers.
    fn the_long_way<P: Packet>(&mut self, ingress: &Ingress, packets: &mut [P], verdicts: &mut [Verdict]) {
        let Self { tables, scratch, cells, learner, ways, .. } = self;
        let Scratch { v4, v6, packets: info, exits, switch, answers } = &mut **scratch;
        if v4.count + v6.count > 0 {
            route::select(tables, v4, info);
            route::select(tables, v6, info);
            let bits = |key: &u32| v4_bits(*key);
            route::leave(tables, Family::V4, v4, bits, info, exits, switch, packets, verdicts);
            route::leave(tables, Family::V6, v6, |key| *key, info, exits, switch, packets, verdicts);
        }
        if switch.count() > 0 {
            let mut bridged = switch::Bridged { tables, ways, info };
            bridged.find(switch);
            bridged.leave(switch, exits, packets, verdicts, |bridge| {
                flood_unknown(learner, cells, ingress, bridge)
            });
        }
        if v4.count + v6.count > 0 {
            route::rewrite(tables, Family::V4, v4, info, exits, packets, verdicts);
            route::rewrite(tables, Family::V6, v6, info, exits, packets, verdicts);
            if switch.count() > 0 {
                switch::complete(tables, switch, exits, packets, verdicts);
            }
            route::count_misses(cells, v4, info, verdicts);
            route::count_misses(cells, v6, info, verdicts);
        }
        for (&at, answer) in answers.packet.iter().zip(&answers.answer).take(answers.count) {
            let at = usize::from(at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            *verdict = rewrite::answer(packet, ingress.port, answer);
        }
    }

    /// Each kind of port has a loop of its own: routed packets do not pay for bridge domains.
    fn classify<P: Packet>(&mut self, ingress: &Ingress, packets: &[P], verdicts: &mut [Verdict]) {
        self.scratch.clear();
        match ingress.place {
            Place::Routed => self.classify_routed(ingress, packets, verdicts),
            Place::Bridged { bridge, flood_rate } => {
                self.classify_bridged(ingress, bridge, flood_rate, packets, verdicts);
            }
        }
    }

    #[inline(always)]
    fn classify_routed<P: Packet>(&mut self, ingress: &Ingress, packets: &[P], verdicts: &mut [Verdict]) {
        let short = Short::new(ingress);
        for ((at, packet), verdict) in (0_u8..=u8::MAX).zip(packets).zip(verdicts) {
            let frame = packet.data();
            if self.classify_ordinary(ingress, &short, at, frame, verdict).is_none() {
                self.classify_any(ingress, at, frame, verdict);
            }
        }
    }

    /// What is neither ordinary nor known.
    #[inline(never)]
    fn classify_any(&mut self, ingress: &Ingress, at: u8, frame: &[u8], verdict: &mut Verdict) {
        let Self { tables, scratch, cells, learner, .. } = self;
        match classify::locate_routed(tables, ingress, frame) {
            Ok(Frame::Routed(routed)) => scratch.route(at, &routed),
            Ok(Frame::Inside(inside)) => scratch.bridge(tables, learner, cells, &inside, at, verdict),
            Err(reason) => *verdict = reason.verdict(),
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
            scratch.bridge(tables, learner, cells, &inside, at, verdict);
        }
    }

    fn count(&self, port: PortId, received: u64, bytes: u64, verdicts: &[Verdict]) {
        let Some(cells) = self.cells.port(port) else { return };
        cells.rx_packets.add(received);
        cells.rx_bytes.add(bytes);
        let forwarded = verdicts.iter().filter(|verdict| verdict.is_forwarded()).count();
        cells.forwarded.add(forwarded as u64);
        if forwarded < verdicts.len() {
            for verdict in verdicts {
                if let Verdict::HandOver(reason) | Verdict::Drop(reason) = verdict {
                    cells.reasons.add(*reason, 1);
                }
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
