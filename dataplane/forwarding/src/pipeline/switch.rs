//! Frames for one MAC of a bridge domain: where it is, and the frame made ready for that.

use super::exit::{self, Exit};
use super::{MAX_BURST, rewrite};
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, frame_flow_hash};
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::tables::bridge::{MacPlace, MacWord};
use crate::tables::{Station, Tables};
use crate::types::{Mac, PortId};

/// Where a frame came into the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Port(PortId),
    Tunnel,
    /// It was routed into it: its headers are written later.
    Router,
}

/// The frames, without gaps.
pub(super) struct Switching {
    count: usize,
    packet: [u8; MAX_BURST],
    bridge: [u32; MAX_BURST],
    destination: [u64; MAX_BURST],
    from: [From; MAX_BURST],
    tos: [Option<u8>; MAX_BURST],
    found: [MacWord; MAX_BURST],
    /// The MACs within the tunnel that a routed packet leaves by.
    inner: [Option<(Mac, Mac)>; MAX_BURST],
}

impl Switching {
    pub(super) const fn new() -> Self {
        Self {
            count: 0,
            packet: [0; MAX_BURST],
            bridge: [0; MAX_BURST],
            destination: [0; MAX_BURST],
            from: [From::Router; MAX_BURST],
            tos: [None; MAX_BURST],
            found: [MacWord(0); MAX_BURST],
            inner: [None; MAX_BURST],
        }
    }

    pub(super) const fn clear(&mut self) {
        self.count = 0;
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    pub(super) fn push(&mut self, packet: u8, bridge: u32, destination: u64, from: From, tos: Option<u8>) {
        let at = self.count % MAX_BURST;
        self.packet[at] = packet;
        self.bridge[at] = bridge;
        self.destination[at] = destination;
        self.from[at] = from;
        self.tos[at] = tos;
        self.count = at + 1;
    }
}

/// The stages' view of the scratch.
pub(super) struct Bridged<'a> {
    pub(super) tables: &'a Tables,
    /// Where the frame starts, of bridged ones.
    pub(super) at: &'a [u16; MAX_BURST],
    /// The frame's length of bridged ones, the IP packet's of routed ones.
    pub(super) length: &'a [u16; MAX_BURST],
    /// Of routed ones, and of bridged ones once they leave by a tunnel.
    pub(super) hash: &'a mut [FlowHash; MAX_BURST],
}

impl Bridged<'_> {
    /// Looks all MACs up.
    #[inline(always)]
    pub(super) fn find(&self, switch: &mut Switching) {
        for at in 0..switch.count.min(MAX_BURST) {
            switch.found[at] = self.tables.mac(switch.bridge[at], switch.destination[at]);
        }
    }

    /// Finds where each frame leaves, if it does; `unknown` says what becomes of one for a MAC that nobody knows.
    #[inline(always)]
    pub(super) fn leave<P: Packet>(
        &mut self,
        switch: &mut Switching,
        exits: &mut [Exit; MAX_BURST],
        packets: &[P],
        verdicts: &mut [Verdict],
        mut unknown: impl FnMut(u32) -> Verdict,
    ) {
        for at in 0..switch.count.min(MAX_BURST) {
            let i = usize::from(switch.packet[at]);
            let (Some(packet), Some(verdict)) = (packets.get(i), verdicts.get_mut(i)) else { continue };
            let from = switch.from[at];
            let routed = from == From::Router;
            let exit = if routed { exits[i] } else { Exit::default() };
            *verdict = match switch.found[at].place() {
                MacPlace::Unknown if routed && switch.destination[at] == exit.own.mac().bits() => {
                    Verdict::HandOver(Reason::Local)
                }
                MacPlace::Unknown if routed => Verdict::HandOver(Reason::UnresolvedMac),
                MacPlace::Unknown => unknown(switch.bridge[at]),
                MacPlace::Port(port) if from == From::Port(port) => Verdict::Drop(Reason::SamePort),
                MacPlace::Tunnel(_) if from == From::Tunnel => Verdict::Drop(Reason::SplitHorizon),
                MacPlace::Port(port) => match self.by_port(port, i, routed, packet) {
                    Ok(()) => {
                        exits[i] = exit.bridged(port);
                        switch.inner[at] = None;
                        Verdict::Transmit(port)
                    }
                    Err(reason) => reason.verdict(),
                },
                MacPlace::Tunnel(tunnel) => {
                    if !routed {
                        // Out of a port of the domain: the frame is the packet.
                        self.hash[i] = packet
                            .flow_hash()
                            .map_or_else(|| frame_flow_hash(packet.data()), FlowHash::from_nic);
                    }
                    match self.by_tunnel(tunnel, self.hash[i], i, routed, packet) {
                        Ok((neighbor, own)) => {
                            switch.inner[at] = routed.then(|| (exit.neighbor.mac(), exit.own.mac()));
                            exits[i] = exit.tunnelled(neighbor, own, tunnel);
                            Verdict::Transmit(exits[i].port())
                        }
                        Err(reason) => reason.verdict(),
                    }
                }
            };
        }
    }

    /// The IP packet's length, or what is in the frame in its place.
    #[inline(always)]
    fn payload(&self, packet: usize, routed: bool) -> usize {
        usize::from(self.length[packet]) - if routed { 0 } else { ETHERNET.min(self.length[packet].into()) }
    }

    #[inline(always)]
    fn by_port<P: Packet>(&self, port: PortId, at: usize, routed: bool, packet: &P) -> Result<(), Reason> {
        let mtu = mtu(self.tables, port)?.number();
        let segment = || packet.segment_length(self.l3(at, routed));
        fits(self.payload(at, routed), mtu, routed, segment)
    }

    /// Where the IP packet starts, if one is in there.
    #[inline(always)]
    fn l3(&self, packet: usize, routed: bool) -> usize {
        usize::from(self.at[packet]) + if routed { 0 } else { ETHERNET }
    }

    #[inline(always)]
    fn by_tunnel<P: Packet>(
        &self,
        tunnel: u32,
        hash: FlowHash,
        at: usize,
        routed: bool,
        packet: &P,
    ) -> Result<(Station, Station), Reason> {
        let (neighbor, overhead) = exit::underlay(self.tables, tunnel, hash)?;
        let own = mtu(self.tables, PortId(neighbor.number()))?;
        let segment = || packet.segment_length(self.l3(at, routed));
        let segment = || segment().map(|length| length + overhead);
        fits(self.payload(at, routed) + overhead, own.number(), routed, segment)?;
        Ok((neighbor, own))
    }

    /// Makes bridged frames ready; routed ones are the routing stages'.
    #[inline(always)]
    pub(super) fn rewrite<P: Packet>(
        &self,
        switch: &Switching,
        exits: &[Exit; MAX_BURST],
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) {
        for at in 0..switch.count.min(MAX_BURST) {
            let i = usize::from(switch.packet[at]);
            let (Some(packet), Some(verdict)) = (packets.get_mut(i), verdicts.get_mut(i)) else { continue };
            if switch.from[at] == From::Router || !matches!(verdict, Verdict::Transmit(_)) {
                continue;
            }
            let result = match exits[i].tunnel() {
                Some(_) => rewrite::encapsulate(self.tables, &exits[i], self.hash[i], packet),
                None => rewrite::bring_out(packet, self.at[i], self.length[i], switch.tos[at]),
            };
            if let Err(reason) = result {
                *verdict = reason.verdict();
            }
        }
    }
}

/// Completes packets that were routed into a domain, when the routing stages have written them.
pub(super) fn complete<P: Packet>(
    tables: &Tables,
    switch: &Switching,
    exits: &[Exit; MAX_BURST],
    packets: &mut [P],
    verdicts: &[Verdict],
) {
    for at in 0..switch.count.min(MAX_BURST) {
        let i = usize::from(switch.packet[at]);
        if switch.from[at] == From::Router
            && let (Some(packet), Some(Verdict::Transmit(_)), Some(macs)) =
                (packets.get_mut(i), verdicts.get(i), switch.inner[at])
        {
            rewrite::inner_macs(tables, &exits[i], macs, packet);
        }
    }
}

/// A port's MAC and MTU.
#[inline(always)]
pub(super) fn mtu(tables: &Tables, port: PortId) -> Result<Station, Reason> {
    let station = tables.ports.get(port.0.into()).map(crate::tables::PortRecord::station);
    station.filter(|station| !station.is_none()).ok_or(Reason::NoPort)
}

/// A routed packet that is too big is answered by the kernel; of a bridged one nobody is told. A large frame fits when what
/// it is to be cut into does.
#[inline(always)]
pub(super) fn fits(
    length: usize,
    mtu: u16,
    routed: bool,
    segment: impl Fn() -> Option<usize>,
) -> Result<(), Reason> {
    if length <= usize::from(mtu) || exit::segments_fit(segment, mtu.into()) {
        Ok(())
    } else if routed {
        Err(Reason::TooBig)
    } else {
        Err(Reason::BridgeTooBig)
    }
}
