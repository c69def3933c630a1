//! The last stage: the decision is final, the packet becomes what leaves.

use super::exit::Exit;
use crate::checksum;
use crate::ecn;
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, Family, IPV4, IPV6, UDP_VXLAN};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::tables::tunnel::{TEMPLATE_V4, TEMPLATE_V6, TunnelRecord};
use crate::tables::{Station, Tables};

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
/// What the outer UDP length and IPv6 payload length count besides the inner packet.
#[expect(clippy::cast_possible_truncation, reason = "30")]
const UDP_EXTRA: u16 = (UDP_VXLAN + ETHERNET) as u16;
#[expect(clippy::cast_possible_truncation, reason = "20")]
const IPV4_EXTRA: u16 = UDP_EXTRA + IPV4 as u16;

/// Fails before anything is changed.
#[inline(always)]
pub(super) fn rewrite<P: Packet>(
    tables: &Tables,
    exit: &Exit,
    inner: &Inner,
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
    let mut header = tunnel.template_v4();
    let tos = ecn::encapsulate(inner.tos);
    // No overflow: it fits into the port's MTU.
    let length = inner.length.wrapping_add(IPV4_EXTRA);
    let base = u32::from(u16::from_be_bytes([header[10], header[11]]));
    let checksum = !checksum::fold(base + u32::from(tos) + u32::from(length));
    header[1] = tos;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header[20..22].copy_from_slice(&inner.hash.source_port().to_be_bytes());
    header[24..26].copy_from_slice(&inner.length.wrapping_add(UDP_EXTRA).to_be_bytes());
    front[ETHERNET..ETHERNET + TEMPLATE_V4].copy_from_slice(&header);
    front[ETHERNET + TEMPLATE_V4..].copy_from_slice(&inner.family.ethertype().to_be_bytes());
}

#[inline(always)]
fn outer_v6(frame: &mut [u8], tunnel: &TunnelRecord, exit: &Exit, inner: &Inner) {
    ethernet(frame, exit, Family::V6.ethertype());
    let Some(front) = frame.first_chunk_mut::<FRONT_V6>() else { return };
    let mut header = tunnel.template_v6();
    let tos = ecn::encapsulate(inner.tos);
    let length = inner.length.wrapping_add(UDP_EXTRA).to_be_bytes();
    header[0] = 0x60 | tos >> 4;
    header[1] = tos << 4;
    header[4..6].copy_from_slice(&length);
    header[40..42].copy_from_slice(&inner.hash.source_port().to_be_bytes());
    header[44..46].copy_from_slice(&length);
    front[ETHERNET..ETHERNET + TEMPLATE_V6].copy_from_slice(&header);
    front[ETHERNET + TEMPLATE_V6..].copy_from_slice(&inner.family.ethertype().to_be_bytes());
}

/// One less TTL, another ECN after a tunnel, and the checksum's difference.
#[inline(always)]
fn inner_v4(ip: &mut [u8], tos: u8) {
    let Some(header) = ip.first_chunk_mut::<IPV4>() else { return };
    let mut checksum = u16::from_be_bytes([header[10], header[11]]);
    if header[1] != tos {
        let word = |tos| u16::from_be_bytes([header[0], tos]);
        checksum = checksum::update(checksum, word(header[1]), word(tos));
        header[1] = tos;
    }
    let word = u16::from_be_bytes([header[8], header[9]]);
    // The TTL is at least 2.
    let less = word.wrapping_sub(0x100);
    checksum = checksum::update(checksum, word, less);
    header[8..10].copy_from_slice(&less.to_be_bytes());
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[inline(always)]
fn inner_v6(ip: &mut [u8], tos: u8) {
    let Some(header) = ip.first_chunk_mut::<IPV6>() else { return };
    header[0] = header[0] & 0xf0 | tos >> 4;
    header[1] = header[1] & 0x0f | tos << 4;
    header[7] = header[7].wrapping_sub(1);
}
