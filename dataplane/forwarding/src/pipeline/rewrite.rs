//! The last stage: the decision is final, the packet becomes what leaves.

use super::bridge::{Answer, tos};
use super::exit::Exit;
use super::scratch::Ip;
use super::ways::{FRONT_V4, FRONT_V6, Way};
use crate::checksum;
use crate::ecn;
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, Family, IPV4, IPV6, UDP_VXLAN, arp, nd};
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::tables::tunnel::{TEMPLATE_V4, TEMPLATE_V6, TunnelRecord};
use crate::tables::{Station, Tables};
use crate::types::{Mac, PortId};

/// The inner addresses at the end of a tunnel's template.
const MACS: usize = 12;
/// What the outer UDP length and IPv6 payload length count besides the inner packet.
#[expect(clippy::cast_possible_truncation, reason = "30")]
const UDP_EXTRA: u16 = (UDP_VXLAN + ETHERNET) as u16;
#[expect(clippy::cast_possible_truncation, reason = "20")]
const IPV4_EXTRA: u16 = UDP_EXTRA + IPV4 as u16;

/// Makes an IP packet ready. Fails before anything is changed.
#[inline(always)]
pub(super) fn rewrite<P: Packet>(
    tables: &Tables,
    exit: &Exit,
    family: Family,
    ip: Ip,
    hash: FlowHash,
    packet: &mut P,
) -> Result<(), Reason> {
    let tunnel = match exit.tunnel() {
        None => None,
        Some(tunnel) => Some(tables.tunnels.get(tunnel).ok_or(Reason::NoNextHop)?),
    };
    let front = match tunnel {
        None => ETHERNET,
        Some(tunnel) if tunnel.head().is_v6 => FRONT_V6,
        Some(_) => FRONT_V4,
    };
    if !put_at(packet, ip, front) {
        return Err(Reason::NoHeadroom);
    }
    let frame = packet.data_mut();
    match tunnel {
        None => ethernet(frame, exit, family.ethertype()),
        Some(tunnel) if front == FRONT_V4 => outer_v4(frame, tunnel, exit, family, ip, hash),
        Some(tunnel) => outer_v6(frame, tunnel, exit, family, ip, hash),
    }
    if let Some(packet) = frame.get_mut(front..) {
        match family {
            Family::V4 => inner_v4(packet, ip.tos),
            Family::V6 => inner_v6(packet, ip.tos),
        }
    }
    Ok(())
}

/// Makes the IP packet start `front` bytes behind the frame's beginning, and nothing follow it: no padding of the frame, nor
/// what an outer length left behind the inner packet. False, and nothing changed, when there is no room.
#[inline(always)]
fn put_at<P: Packet>(packet: &mut P, ip: Ip, front: usize) -> bool {
    packet.reframe(ip.at.into(), front, ip.length.into())
}

/// Makes an IP packet ready to leave by a way that has no tunnel. False, and nothing changed, when that cannot be.
#[inline(always)]
pub(super) fn forward<P: Packet>(way: &Way, family: Family, ip: Ip, packet: &mut P) -> bool {
    if !put_at(packet, ip, ETHERNET) {
        return false;
    }
    let frame = packet.data_mut();
    if let Some(header) = frame.first_chunk_mut::<ETHERNET>() {
        header[..12].copy_from_slice(&way.front[..12]);
        header[12..].copy_from_slice(&family.ethertype().to_be_bytes());
    }
    inner(frame, ETHERNET, family, ip);
    true
}

/// Makes an IP packet ready to leave through a tunnel. Likewise.
#[inline(always)]
pub(super) fn encapsulate_packet<P: Packet>(
    way: &Way,
    family: Family,
    ip: Ip,
    hash: FlowHash,
    packet: &mut P,
) -> bool {
    if usize::from(way.length) == FRONT_V4 {
        if !put_at(packet, ip, FRONT_V4) {
            return false;
        }
        let frame = packet.data_mut();
        if let Some(front) = frame.first_chunk_mut::<FRONT_V4>() {
            *front = *way.front.first_chunk().unwrap_or(&[0; FRONT_V4]);
            if let Some(header) = front[ETHERNET..].first_chunk_mut::<TEMPLATE_V4>() {
                of_packet_v4(header, way.sum.into(), ip.tos, ip.length, hash);
            }
            front[FRONT_V4 - 2..].copy_from_slice(&family.ethertype().to_be_bytes());
        }
        inner(frame, FRONT_V4, family, ip);
    } else {
        if !put_at(packet, ip, FRONT_V6) {
            return false;
        }
        let frame = packet.data_mut();
        if let Some(front) = frame.first_chunk_mut::<FRONT_V6>() {
            *front = way.front;
            if let Some(header) = front[ETHERNET..].first_chunk_mut::<TEMPLATE_V6>() {
                of_packet_v6(header, ip.tos, ip.length, hash);
            }
            front[FRONT_V6 - 2..].copy_from_slice(&family.ethertype().to_be_bytes());
        }
        inner(frame, FRONT_V6, family, ip);
    }
    true
}

/// One hop less.
#[inline(always)]
fn inner(frame: &mut [u8], at: usize, family: Family, ip: Ip) {
    let Some(packet) = frame.get_mut(at..) else { return };
    match family {
        Family::V4 => inner_v4(packet, ip.tos),
        Family::V6 => inner_v6(packet, ip.tos),
    }
}

/// Puts a whole frame of a bridge domain into a tunnel. False, and nothing changed, when there is no room.
#[inline(always)]
pub(super) fn encapsulate_frame<P: Packet>(way: &Way, length: u16, hash: FlowHash, packet: &mut P) -> bool {
    const V4: usize = FRONT_V4 - ETHERNET;
    const V6: usize = FRONT_V6 - ETHERNET;
    let tos = tos(packet.data()).unwrap_or(0);
    if usize::from(way.length) == FRONT_V4 {
        if !packet.prepend(V4) {
            return false;
        }
        if let Some(front) = packet.data_mut().first_chunk_mut::<V4>() {
            *front = *way.front.first_chunk().unwrap_or(&[0; V4]);
            if let Some(header) = front[ETHERNET..].first_chunk_mut::<{ TEMPLATE_V4 - MACS }>() {
                of_packet_v4(header, way.sum.into(), tos, length, hash);
            }
        }
    } else {
        if !packet.prepend(V6) {
            return false;
        }
        if let Some(front) = packet.data_mut().first_chunk_mut::<V6>() {
            *front = *way.front.first_chunk().unwrap_or(&[0; V6]);
            if let Some(header) = front[ETHERNET..].first_chunk_mut::<{ TEMPLATE_V6 - MACS }>() {
                of_packet_v6(header, tos, length, hash);
            }
        }
    }
    true
}

/// Gives a packet that was made ready for a tunnel of a bridge domain the MACs that it has in the domain.
pub(super) fn inner_macs<P: Packet>(
    tables: &Tables,
    exit: &Exit,
    (destination, source): (Mac, Mac),
    packet: &mut P,
) {
    let Some(tunnel) = exit.tunnel().and_then(|tunnel| tables.tunnels.get(tunnel)) else { return };
    let front = if tunnel.head().is_v6 { FRONT_V6 } else { FRONT_V4 };
    if let Some(header) = packet.data_mut().get_mut(front - ETHERNET..front) {
        header[..6].copy_from_slice(&destination.octets());
        header[6..12].copy_from_slice(&source.octets());
    }
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
fn outer_v4(frame: &mut [u8], tunnel: &TunnelRecord, exit: &Exit, family: Family, ip: Ip, hash: FlowHash) {
    ethernet(frame, exit, Family::V4.ethertype());
    let Some(front) = frame.first_chunk_mut::<FRONT_V4>() else { return };
    if let Some(header) = front[ETHERNET..].first_chunk_mut::<TEMPLATE_V4>() {
        header_v4(header, tunnel, ip.tos, ip.length, hash);
    }
    front[ETHERNET + TEMPLATE_V4..].copy_from_slice(&family.ethertype().to_be_bytes());
}

/// Writes as much of a tunnel's template as there is room for, and in it what is of this packet: the outer headers at
/// least, without the inner addresses if they are there already. `length` is of what follows the inner Ethernet header.
///
/// In place: to change a copy and to move that costs some cycles more.
#[inline(always)]
fn header_v4<const N: usize>(
    header: &mut [u8; N],
    tunnel: &TunnelRecord,
    inner_tos: u8,
    inner_length: u16,
    hash: FlowHash,
) {
    tunnel.copy_to(header);
    let sum = u32::from(u16::from_be_bytes([header[10], header[11]]));
    of_packet_v4(header, sum, inner_tos, inner_length, hash);
}

/// Writes into outer headers what is of this packet. `sum` is that over the rest of the IPv4 header.
#[inline(always)]
fn of_packet_v4<const N: usize>(
    header: &mut [u8; N],
    sum: u32,
    inner_tos: u8,
    inner_length: u16,
    hash: FlowHash,
) {
    let tos = ecn::encapsulate(inner_tos);
    // No overflow: it fits into the port's MTU.
    let length = inner_length.wrapping_add(IPV4_EXTRA);
    let checksum = !checksum::fold(sum + u32::from(tos) + u32::from(length));
    header[1] = tos;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header[20..22].copy_from_slice(&hash.source_port().to_be_bytes());
    header[24..26].copy_from_slice(&inner_length.wrapping_add(UDP_EXTRA).to_be_bytes());
}

#[inline(always)]
fn outer_v6(frame: &mut [u8], tunnel: &TunnelRecord, exit: &Exit, family: Family, ip: Ip, hash: FlowHash) {
    ethernet(frame, exit, Family::V6.ethertype());
    let Some(front) = frame.first_chunk_mut::<FRONT_V6>() else { return };
    if let Some(header) = front[ETHERNET..].first_chunk_mut::<TEMPLATE_V6>() {
        header_v6(header, tunnel, ip.tos, ip.length, hash);
    }
    front[ETHERNET + TEMPLATE_V6..].copy_from_slice(&family.ethertype().to_be_bytes());
}

/// Likewise.
#[inline(always)]
fn header_v6<const N: usize>(
    header: &mut [u8; N],
    tunnel: &TunnelRecord,
    inner_tos: u8,
    inner_length: u16,
    hash: FlowHash,
) {
    tunnel.copy_to(header);
    of_packet_v6(header, inner_tos, inner_length, hash);
}

/// Likewise.
#[inline(always)]
fn of_packet_v6<const N: usize>(header: &mut [u8; N], inner_tos: u8, inner_length: u16, hash: FlowHash) {
    let tos = ecn::encapsulate(inner_tos);
    let length = inner_length.wrapping_add(UDP_EXTRA).to_be_bytes();
    header[0] = 0x60 | tos >> 4;
    header[1] = tos << 4;
    header[4..6].copy_from_slice(&length);
    header[40..42].copy_from_slice(&hash.source_port().to_be_bytes());
    header[44..46].copy_from_slice(&length);
}

/// Puts a whole frame of a bridge domain into a tunnel. Fails before anything is changed.
#[inline(always)]
pub(super) fn encapsulate<P: Packet>(
    tables: &Tables,
    exit: &Exit,
    hash: FlowHash,
    packet: &mut P,
) -> Result<(), Reason> {
    let tunnel = exit.tunnel().and_then(|tunnel| tables.tunnels.get(tunnel)).ok_or(Reason::NoNextHop)?;
    let frame = packet.data();
    let length = u16::try_from(frame.len().saturating_sub(ETHERNET)).map_err(|_| Reason::BridgeTooBig)?;
    let tos = tos(frame).unwrap_or(0);
    if tunnel.head().is_v6 {
        if !packet.prepend(FRONT_V6 - ETHERNET) {
            return Err(Reason::NoHeadroom);
        }
        let frame = packet.data_mut();
        ethernet(frame, exit, Family::V6.ethertype());
        if let Some((_, frame)) = frame.split_first_chunk_mut::<ETHERNET>()
            && let Some(header) = frame.first_chunk_mut::<{ TEMPLATE_V6 - MACS }>()
        {
            header_v6(header, tunnel, tos, length, hash);
        }
    } else {
        if !packet.prepend(FRONT_V4 - ETHERNET) {
            return Err(Reason::NoHeadroom);
        }
        let frame = packet.data_mut();
        ethernet(frame, exit, Family::V4.ethertype());
        if let Some((_, frame)) = frame.split_first_chunk_mut::<ETHERNET>()
            && let Some(header) = frame.first_chunk_mut::<{ TEMPLATE_V4 - MACS }>()
        {
            header_v4(header, tunnel, tos, length, hash);
        }
    }
    Ok(())
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
    // The TTL is at least 2.
    let word = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    header[8..12].copy_from_slice(&checksum::one_hop_less(word).to_le_bytes());
}

#[inline(always)]
fn inner_v6(ip: &mut [u8], tos: u8) {
    let Some(header) = ip.first_chunk_mut::<IPV6>() else { return };
    if header[0] << 4 | header[1] >> 4 != tos {
        set_tos_v6(header, tos);
    }
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
