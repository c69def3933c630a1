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
    /// By packet: the MACs within the tunnel that a routed packet leaves by.
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

    /// The destination and source MAC of a packet that was routed into a tunnel of a domain.
    #[inline(always)]
    pub(super) const fn inner(&self, packet: usize) -> Option<(Mac, Mac)> {
        self.inner[packet % MAX_BURST]
    }
}

/// The stages' view of the scratch.
pub(super) struct Bridged<'a> {
    pub(super) tables: &'a Tables,
    /// Where the frame starts, of bridged ones.
    pub(super) at: &'a [u16; MAX_BURST],
    /// The frame's length of bridged ones, the IP packet's of routed ones.
    pub(super) length: &'a [u16; MAX_BURST],
    /// Of routed ones.
    pub(super) hash: &'a [FlowHash; MAX_BURST],
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
        &self,
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
                MacPlace::Port(port) => match self.by_port(port, i, routed) {
                    Ok(()) => {
                        exits[i] = exit.bridged(port);
                        switch.inner[i] = None;
                        Verdict::Transmit(port)
                    }
                    Err(reason) => reason.verdict(),
                },
                MacPlace::Tunnel(tunnel) => {
                    let hash = if routed {
                        self.hash[i]
                    } else {
                        // Out of a port of the domain: the frame is the packet.
                        packet.flow_hash().map_or_else(|| frame_flow_hash(packet.data()), FlowHash::from_nic)
                    };
                    match self.by_tunnel(tunnel, hash, i, routed) {
                        Ok((neighbor, own)) => {
                            switch.inner[i] = routed.then(|| (exit.neighbor.mac(), exit.own.mac()));
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
    fn by_port(&self, port: PortId, packet: usize, routed: bool) -> Result<(), Reason> {
        let mtu = mtu(self.tables, port)?.number();
        fits(self.payload(packet, routed), mtu, routed)
    }

    #[inline(always)]
    fn by_tunnel(
        &self,
        tunnel: u32,
        hash: FlowHash,
        packet: usize,
        routed: bool,
    ) -> Result<(Station, Station), Reason> {
        let (neighbor, overhead) = exit::underlay(self.tables, tunnel, hash)?;
        let own = mtu(self.tables, PortId(neighbor.number()))?;
        fits(self.payload(packet, routed) + overhead, own.number(), routed)?;
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
            let result = match exits[i].tunnel {
                Some(_) => rewrite::encapsulate(self.tables, &exits[i], packet),
                None => rewrite::bring_out(packet, self.at[i], self.length[i], switch.tos[at]),
            };
            if let Err(reason) = result {
                *verdict = reason.verdict();
            }
        }
    }
}

/// A port's MAC and MTU.
#[inline(always)]
pub(super) fn mtu(tables: &Tables, port: PortId) -> Result<Station, Reason> {
    let station = tables.ports.get(port.0.into()).map(crate::tables::PortRecord::station);
    station.filter(|station| !station.is_none()).ok_or(Reason::NoPort)
}

/// A routed packet that is too big is answered by the kernel; of a bridged one nobody is told.
#[inline(always)]
pub(super) fn fits(length: usize, mtu: u16, routed: bool) -> Result<(), Reason> {
    if length <= usize::from(mtu) {
        Ok(())
    } else if routed {
        Err(Reason::TooBig)
    } else {
        Err(Reason::BridgeTooBig)
    }
}
