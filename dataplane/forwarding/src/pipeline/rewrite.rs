//! The last stage: the decision is final, the packet becomes what leaves.

use super::bridge::{Answer, tos};
use super::exit::Exit;
use crate::checksum;
use crate::ecn;
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, Family, IPV4, IPV6, UDP_VXLAN, arp, frame_flow_hash, nd};
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::tables::tunnel::{TEMPLATE_V4, TEMPLATE_V6, TunnelRecord};
use crate::tables::{Station, Tables};
use crate::types::{Mac, PortId};

/// The packet to be forwarded, within its frame.
pub(super) struct Inner {
    pub(super) family: Family,
    pub(super) l3: usize,
    pub(super) length: u16,
    /// As it is to be.
    pub(super) tos: u8,
    pub(super) hash: FlowHash,
}

/// Everything in front of the inner packet, over IPv4: one cache line.
const FRONT_V4: usize = ETHERNET + TEMPLATE_V4 + 2;
/// The same over IPv6.
const FRONT_V6: usize = ETHERNET + TEMPLATE_V6 + 2;
/// The inner addresses at the end of a tunnel's template.
const MACS: usize = 12;
/// What the outer UDP length and IPv6 payload length count besides the inner packet.
#[expect(clippy::cast_possible_truncation, reason = "30")]
const UDP_EXTRA: u16 = (UDP_VXLAN + ETHERNET) as u16;
#[expect(clippy::cast_possible_truncation, reason = "20")]
const IPV4_EXTRA: u16 = UDP_EXTRA + IPV4 as u16;

/// Makes an IP packet ready. `macs` are the destination and source within a tunnel, when they are not the tunnel's own.
///
/// Fails before anything is changed.
#[inline(always)]
pub(super) fn rewrite<P: Packet>(
    tables: &Tables,
    exit: &Exit,
    inner: &Inner,
    macs: Option<(Mac, Mac)>,
    packet: &mut P,
) -> Result<(), Reason> {
    let tunnel = match exit.tunnel {
        None => None,
        Some(tunnel) => Some(tables.tunnels.get(tunnel).ok_or(Reason::NoNextHop)?),
    };
    let front = match tunnel {
        None => ETHERNET,
        Some(tunnel) if tunnel.head().is_v6 => FRONT_V6,
        Some(_) => FRONT_V4,
    };
    let moved = if front > inner.l3 {
        packet.prepend(front - inner.l3)
    } else {
        front == inner.l3 || packet.trim_front(inner.l3 - front)
    };
    if !moved {
        return Err(Reason::NoHeadroom);
    }
    // Padding of the frame, and what an outer length left behind the inner packet.
    packet.truncate(front + usize::from(inner.length));
    let frame = packet.data_mut();
    match tunnel {
        None => ethernet(frame, exit, inner.family.ethertype()),
        Some(tunnel) if front == FRONT_V4 => outer_v4(frame, tunnel, exit, inner),
        Some(tunnel) => outer_v6(frame, tunnel, exit, inner),
    }
    if let Some((destination, source)) = macs
        && let Some(header) = frame.get_mut(front - ETHERNET..)
    {
        header[..6].copy_from_slice(&destination.octets());
        header[6..12].copy_from_slice(&source.octets());
    }
    if let Some(ip) = frame.get_mut(front..) {
        match inner.family {
            Family::V4 => inner_v4(ip, inner.tos),
            Family::V6 => inner_v6(ip, inner.tos),
        }
    }
    Ok(())
}

#[inline(always)]
fn ethernet(frame: &mut [u8], exit: &Exit, ethertype: u16) {
    let Some(header) = frame.first_chunk_mut::<ETHERNET>() else { return };
    let (destination, source) = macs(exit.neighbor, exit.own);
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&source);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
}

#[inline(always)]
const fn macs(neighbor: Station, own: Station) -> ([u8; 6], [u8; 6]) {
    (neighbor.mac().octets(), own.mac().octets())
}

#[inline(always)]
fn outer_v4(frame: &mut [u8], tunnel: &TunnelRecord, exit: &Exit, inner: &Inner) {
    ethernet(frame, exit, Family::V4.ethertype());
    let Some(front) = frame.first_chunk_mut::<FRONT_V4>() else { return };
    let header = header_v4(tunnel, inner.tos, inner.length, inner.hash);
    front[ETHERNET..ETHERNET + TEMPLATE_V4].copy_from_slice(&header);
    front[ETHERNET + TEMPLATE_V4..].copy_from_slice(&inner.family.ethertype().to_be_bytes());
}

/// The outer headers and the inner addresses; `length` is of what follows the inner Ethernet header.
#[inline(always)]
fn header_v4(tunnel: &TunnelRecord, inner_tos: u8, inner_length: u16, hash: FlowHash) -> [u8; TEMPLATE_V4] {
    let mut header = tunnel.template_v4();
    let tos = ecn::encapsulate(inner_tos);
    // No overflow: it fits into the port's MTU.
    let length = inner_length.wrapping_add(IPV4_EXTRA);
    let base = u32::from(u16::from_be_bytes([header[10], header[11]]));
    let checksum = !checksum::fold(base + u32::from(tos) + u32::from(length));
    header[1] = tos;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header[20..22].copy_from_slice(&hash.source_port().to_be_bytes());
    header[24..26].copy_from_slice(&inner_length.wrapping_add(UDP_EXTRA).to_be_bytes());
    header
}

#[inline(always)]
fn outer_v6(frame: &mut [u8], tunnel: &TunnelRecord, exit: &Exit, inner: &Inner) {
    ethernet(frame, exit, Family::V6.ethertype());
    let Some(front) = frame.first_chunk_mut::<FRONT_V6>() else { return };
    let header = header_v6(tunnel, inner.tos, inner.length, inner.hash);
    front[ETHERNET..ETHERNET + TEMPLATE_V6].copy_from_slice(&header);
    front[ETHERNET + TEMPLATE_V6..].copy_from_slice(&inner.family.ethertype().to_be_bytes());
}

/// Likewise.
#[inline(always)]
fn header_v6(tunnel: &TunnelRecord, inner_tos: u8, inner_length: u16, hash: FlowHash) -> [u8; TEMPLATE_V6] {
    let mut header = tunnel.template_v6();
    let tos = ecn::encapsulate(inner_tos);
    let length = inner_length.wrapping_add(UDP_EXTRA).to_be_bytes();
    header[0] = 0x60 | tos >> 4;
    header[1] = tos << 4;
    header[4..6].copy_from_slice(&length);
    header[40..42].copy_from_slice(&hash.source_port().to_be_bytes());
    header[44..46].copy_from_slice(&length);
    header
}

/// Puts a whole frame of a bridge domain into a tunnel. Fails before anything is changed.
#[inline(always)]
pub(super) fn encapsulate<P: Packet>(tables: &Tables, exit: &Exit, packet: &mut P) -> Result<(), Reason> {
    let tunnel = exit.tunnel.and_then(|tunnel| tables.tunnels.get(tunnel)).ok_or(Reason::NoNextHop)?;
    let frame = packet.data();
    let length = u16::try_from(frame.len().saturating_sub(ETHERNET)).map_err(|_| Reason::BridgeTooBig)?;
    let (hash, tos) = (frame_flow_hash(frame), tos(frame).unwrap_or(0));
    if tunnel.head().is_v6 {
        if !packet.prepend(FRONT_V6 - ETHERNET) {
            return Err(Reason::NoHeadroom);
        }
        let header = header_v6(tunnel, tos, length, hash);
        outer(packet.data_mut(), exit, Family::V6, &header[..TEMPLATE_V6 - MACS]);
    } else {
        if !packet.prepend(FRONT_V4 - ETHERNET) {
            return Err(Reason::NoHeadroom);
        }
        let header = header_v4(tunnel, tos, length, hash);
        outer(packet.data_mut(), exit, Family::V4, &header[..TEMPLATE_V4 - MACS]);
    }
    Ok(())
}

#[inline(always)]
fn outer(frame: &mut [u8], exit: &Exit, family: Family, header: &[u8]) {
    ethernet(frame, exit, family.ethertype());
    if let Some(front) = frame.get_mut(ETHERNET..ETHERNET + header.len()) {
        front.copy_from_slice(header);
    }
}

/// Makes a frame that was bridged to a port of its domain ready: nothing is in front of it, nor behind. Fails before
/// anything is changed.
#[inline(always)]
pub(super) fn bring_out<P: Packet>(
    packet: &mut P,
    at: u16,
    length: u16,
    tos: Option<u8>,
) -> Result<(), Reason> {
    if at > 0 {
        if !packet.trim_front(at.into()) {
            return Err(Reason::NoHeadroom);
        }
        packet.truncate(length.into());
    }
    if let Some(tos) = tos
        && let Some((ethernet, ip)) = packet.data_mut().split_at_mut_checked(ETHERNET)
    {
        match Family::of_ethertype(u16::from_be_bytes([ethernet[12], ethernet[13]])) {
            Some(Family::V4) => set_tos_v4(ip, tos),
            Some(Family::V6) => set_tos_v6(ip, tos),
            None => {}
        }
    }
    Ok(())
}

/// Makes a request its own answer, which leaves by the port it came in by.
#[cold]
pub(super) fn answer<P: Packet>(packet: &mut P, port: PortId, answer: &Answer) -> Verdict {
    let done = if answer.is_arp {
        arp::answer(packet.data_mut(), answer.mac)
    } else {
        nd::answer(packet, answer.mac, answer.is_router)
    };
    if done { Verdict::Transmit(port) } else { Verdict::Replicate }
}

/// One less TTL, another ECN after a tunnel, and the checksum's difference.
#[inline(always)]
fn inner_v4(ip: &mut [u8], tos: u8) {
    let Some(header) = ip.first_chunk_mut::<IPV4>() else { return };
    if header[1] != tos {
        set_tos_v4(header, tos);
    }
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    let word = u16::from_be_bytes([header[8], header[9]]);
    // The TTL is at least 2.
    let less = word.wrapping_sub(0x100);
    let checksum = checksum::update(checksum, word, less);
    header[8..10].copy_from_slice(&less.to_be_bytes());
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[inline(always)]
fn inner_v6(ip: &mut [u8], tos: u8) {
    set_tos_v6(ip, tos);
    let Some(header) = ip.first_chunk_mut::<IPV6>() else { return };
    header[7] = header[7].wrapping_sub(1);
}

#[inline(always)]
fn set_tos_v4(ip: &mut [u8], tos: u8) {
    let Some(header) = ip.first_chunk_mut::<IPV4>() else { return };
    let word = |tos| u16::from_be_bytes([header[0], tos]);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    let checksum = checksum::update(checksum, word(header[1]), word(tos));
    header[1] = tos;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[inline(always)]
fn set_tos_v6(ip: &mut [u8], tos: u8) {
    let Some(header) = ip.first_chunk_mut::<2>() else { return };
    header[0] = header[0] & 0xf0 | tos >> 4;
    header[1] = header[1] & 0x0f | tos << 4;
}
