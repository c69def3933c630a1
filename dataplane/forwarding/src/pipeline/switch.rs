//! Frames for one MAC of a bridge domain: where it is, and the frame made ready for that.

use super::exit::{self, Exit};
use super::scratch::{Ip, Packets};
use super::ways::Ways;
use super::{MAX_BURST, rewrite};
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, frame_flow_hash};
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::tables::bridge::{MacPlace, MacWord};
use crate::tables::paths::{PathKind, PathWord};
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

/// The stages' view of the rest.
pub(super) struct Bridged<'a> {
    pub(super) tables: &'a Tables,
    pub(super) ways: &'a mut Ways,
    /// Of bridged frames the frame itself, of routed packets the IP packet in it.
    pub(super) info: &'a Packets,
}

impl Bridged<'_> {
    /// Looks all MACs up.
    #[inline(always)]
    pub(super) fn find(&self, switch: &mut Switching) {
        for at in 0..switch.count.min(MAX_BURST) {
            switch.found[at] = self.tables.mac(switch.bridge[at], switch.destination[at]);
        }
    }

    /// Finds where each frame leaves, if it does, and makes bridged ones ready; routed ones are the routing stages'. `unknown`
    /// says what becomes of one for a MAC that nobody knows.
    #[inline(always)]
    pub(super) fn leave<P: Packet>(
        &mut self,
        switch: &mut Switching,
        exits: &mut [Exit; MAX_BURST],
        packets: &mut [P],
        verdicts: &mut [Verdict],
        mut unknown: impl FnMut(u32) -> Verdict,
    ) {
        for at in 0..switch.count.min(MAX_BURST) {
            let i = usize::from(switch.packet[at]);
            let (Some(packet), Some(verdict)) = (packets.get_mut(i), verdicts.get_mut(i)) else { continue };
            let from = switch.from[at];
            let place = switch.found[at].place();
            *verdict = if from == From::Router {
                self.routed(place, switch, at, &mut exits[i], packet)
            } else {
                match place {
                    MacPlace::Unknown => unknown(switch.bridge[at]),
                    MacPlace::Port(port) if from == From::Port(port) => Verdict::Drop(Reason::SamePort),
                    MacPlace::Tunnel(_) if from == From::Tunnel => Verdict::Drop(Reason::SplitHorizon),
                    MacPlace::Port(port) => self.enter_port(port, self.info.ip[i], switch.tos[at], packet),
                    MacPlace::Tunnel(tunnel) => self.enter_tunnel(tunnel, self.info.ip[i], packet),
                }
            };
        }
    }

    /// A packet that was routed into the domain.
    fn routed<P: Packet>(
        &self,
        place: MacPlace,
        switch: &mut Switching,
        at: usize,
        exit: &mut Exit,
        packet: &P,
    ) -> Verdict {
        let i = usize::from(switch.packet[at]);
        let ip = self.info.ip[i];
        let length = usize::from(ip.length);
        let segment = || packet.segment_length(ip.at.into());
        let result = match place {
            MacPlace::Unknown if switch.destination[at] == exit.own.mac().bits() => Err(Reason::Local),
            MacPlace::Unknown => Err(Reason::UnresolvedMac),
            MacPlace::Port(port) => by_port(self.tables, port, length, segment).map(|()| {
                *exit = exit.bridged(port);
                switch.inner[at] = None;
            }),
            MacPlace::Tunnel(tunnel) => by_tunnel(self.tables, tunnel, self.info.hash[i], length, segment)
                .map(|(neighbor, own)| {
                    switch.inner[at] = Some((exit.neighbor.mac(), exit.own.mac()));
                    *exit = exit.tunnelled(neighbor, own, tunnel);
                }),
        };
        match result {
            Ok(()) => Verdict::Transmit(exit.port()),
            // Of a routed packet that is too big its sender is told.
            Err(Reason::BridgeTooBig) => Reason::TooBig.verdict(),
            Err(reason) => reason.verdict(),
        }
    }

    #[inline(always)]
    fn enter_port<P: Packet>(&self, port: PortId, frame: Ip, tos: Option<u8>, packet: &mut P) -> Verdict {
        let result = by_port(self.tables, port, payload(frame), || segment(frame, packet))
            .and_then(|()| rewrite::bring_out(packet, frame.at, frame.length, tos));
        match result {
            Ok(()) => Verdict::Transmit(port),
            Err(reason) => reason.verdict(),
        }
    }

    #[inline(always)]
    fn enter_tunnel<P: Packet>(&mut self, tunnel: u32, frame: Ip, packet: &mut P) -> Verdict {
        // Out of a port of the domain: the frame is the packet.
        let hash = packet.flow_hash().map_or_else(|| frame_flow_hash(packet.data()), FlowHash::from_nic);
        let path = PathWord::new(PathKind::Tunnel(tunnel));
        if let Some(way) = self.ways.find_tunnel(self.tables, path, hash)
            && way.room > 0
            && payload(frame) <= usize::from(way.room)
        {
            #[expect(clippy::cast_possible_truncation, reason = "it is not above 16 bits' worth of room")]
            let length = payload(frame) as u16;
            let done = rewrite::encapsulate_frame(way, length, hash, packet);
            return if done { way.verdict } else { Reason::NoHeadroom.verdict() };
        }
        enter_new_tunnel(self.tables, tunnel, hash, frame, packet)
    }
}

/// By a tunnel of which nothing is remembered, or a frame that is longer than what fits: a [large one](crate::Offload), or
/// one that does not leave by it.
///
/// Large frames are many, but few beside the packets that they stand for. It is cold for all the others' sake, which have four
/// instructions more each when it is not: by a port of the domain, and out of a tunnel.
#[cold]
fn enter_new_tunnel<P: Packet>(
    tables: &Tables,
    tunnel: u32,
    hash: FlowHash,
    frame: Ip,
    packet: &mut P,
) -> Verdict {
    let way = by_tunnel(tables, tunnel, hash, payload(frame), || segment(frame, packet));
    let result = way.and_then(|(neighbor, own)| {
        let exit = Exit::default().tunnelled(neighbor, own, tunnel);
        rewrite::encapsulate(tables, &exit, hash, packet).map(|()| exit.port())
    });
    match result {
        Ok(port) => Verdict::Transmit(port),
        Err(reason) => reason.verdict(),
    }
}

/// What is in a frame behind its Ethernet header, bytes.
#[inline(always)]
fn payload(frame: Ip) -> usize {
    usize::from(frame.length).saturating_sub(ETHERNET)
}

/// What the packet in a frame is to be cut into, bytes.
fn segment<P: Packet>(frame: Ip, packet: &P) -> Option<usize> {
    packet.segment_length(usize::from(frame.at) + ETHERNET)
}

#[inline(always)]
fn by_port(
    tables: &Tables,
    port: PortId,
    payload: usize,
    segment: impl Fn() -> Option<usize>,
) -> Result<(), Reason> {
    fits(payload, mtu(tables, port)?.number(), segment)
}

fn by_tunnel(
    tables: &Tables,
    tunnel: u32,
    hash: FlowHash,
    payload: usize,
    segment: impl Fn() -> Option<usize>,
) -> Result<(Station, Station), Reason> {
    let (neighbor, overhead) = exit::underlay(tables, tunnel, hash)?;
    let own = mtu(tables, PortId(neighbor.number()))?;
    fits(payload + overhead, own.number(), || segment().map(|length| length + overhead))?;
    Ok((neighbor, own))
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

/// Of a bridged frame that is too big nobody is told. A [large frame](crate::Offload) fits when what it is to be cut into
/// does: `segment` is asked of one that is too big.
#[inline(always)]
pub(super) fn fits(payload: usize, mtu: u16, segment: impl Fn() -> Option<usize>) -> Result<(), Reason> {
    let fits = payload <= usize::from(mtu) || exit::segments_fit(segment, mtu.into());
    if fits { Ok(()) } else { Err(Reason::BridgeTooBig) }
}
