//! Tunnel records: everything of a VXLAN encapsulation that does not depend on the packet or on the underlay path.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::low;
use crate::checksum;
use crate::headers::{IPV4, IPV6, UDP, VXLAN_FLAG_VNI};
use crate::types::{Mac, Vni, address_bits};

/// Outer IPv4, UDP, VXLAN and the inner Ethernet addresses; the inner EtherType is the packet's.
pub(crate) const TEMPLATE_V4: usize = 20 + 8 + 8 + 12;
/// The same with IPv6.
pub(crate) const TEMPLATE_V6: usize = 40 + 8 + 8 + 12;
const WORDS: usize = TEMPLATE_V6.div_ceil(8);

/// A tunnel. IPv4's fits into one cache line, IPv6's into two.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct TunnelRecord {
    vtep: AtomicU32,
    is_v6: AtomicU32,
    template: [AtomicU64; WORDS],
}

/// What a tunnel is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TunnelSpec {
    pub(crate) vni: Vni,
    pub(crate) own: IpAddr,
    pub(crate) vtep: IpAddr,
    pub(crate) udp_port: u16,
    /// Ours, the inner source.
    pub(crate) router_mac: Mac,
    /// Theirs, the inner destination.
    pub(crate) remote_router_mac: Mac,
}

/// Where a tunnel leads, without its headers.
#[derive(Clone, Copy)]
pub(crate) struct TunnelHead {
    /// A slot of [`Tables::vteps`](super::Tables::vteps).
    pub(crate) vtep: u32,
    pub(crate) is_v6: bool,
}

impl TunnelRecord {
    #[inline(always)]
    pub(crate) fn head(&self) -> TunnelHead {
        TunnelHead { vtep: self.vtep.load(Ordering::Relaxed), is_v6: self.is_v6.load(Ordering::Relaxed) != 0 }
    }

    /// The first bytes of the template, a multiple of four: the whole of it, or without the inner addresses.
    #[inline(always)]
    pub(crate) fn copy_to<const N: usize>(&self, bytes: &mut [u8; N]) {
        let (whole, rest) = bytes.as_chunks_mut();
        for (bytes, word) in whole.iter_mut().zip(&self.template) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        if let (Some(bytes), Some(word)) = (rest.first_chunk_mut(), self.template.get(N / 8)) {
            *bytes = low(word.load(Ordering::Relaxed)).to_le_bytes();
        }
    }

    /// The remote VTEP's address.
    #[inline(always)]
    pub(crate) fn destination(&self) -> u128 {
        if self.head().is_v6 {
            let mut ip = [0; IPV6];
            self.copy_to(&mut ip);
            u128::from_be_bytes(std::array::from_fn(|i| ip[24 + i]))
        } else {
            let mut ip = [0; IPV4];
            self.copy_to(&mut ip);
            crate::types::v4_bits(u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]))
        }
    }

    /// Writes a record that no reader can find yet.
    pub(crate) fn write(&self, spec: &TunnelSpec, vtep: u32) {
        let mut bytes = Vec::with_capacity(WORDS * 8);
        match (spec.own, spec.vtep) {
            (IpAddr::V4(own), IpAddr::V4(vtep)) => {
                // DF set, TTL 64, identification 0 (RFC 6864: an atomic datagram's means nothing).
                let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                ip[12..16].copy_from_slice(&own.octets());
                ip[16..20].copy_from_slice(&vtep.octets());
                // The sum of what stays; type of service and length are added per packet.
                let sum = checksum::fold(checksum::sum(&ip));
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                bytes.extend(ip);
            }
            (own, vtep) => {
                // Flow label 0: the UDP source port carries the flow (RFC 6936 section 5).
                bytes.extend([0x60, 0, 0, 0, 0, 0, UDP, 64]);
                bytes.extend(address_bits(own).to_be_bytes());
                bytes.extend(address_bits(vtep).to_be_bytes());
            }
        }
        bytes.extend([0, 0]);
        bytes.extend(spec.udp_port.to_be_bytes());
        // The length is the packet's; the checksum is zero, over IPv6 too (RFC 6935, RFC 7348 section 5).
        bytes.extend([0, 0, 0, 0]);
        bytes.extend([VXLAN_FLAG_VNI, 0, 0, 0]);
        bytes.extend((spec.vni.get() << 8).to_be_bytes());
        bytes.extend(spec.remote_router_mac.octets());
        bytes.extend(spec.router_mac.octets());

        bytes.resize(WORDS * 8, 0);
        for (word, bytes) in self.template.iter().zip(bytes.chunks_exact(8)) {
            let bytes = bytes.try_into().unwrap_or_default();
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        self.is_v6.store(u32::from(spec.vtep.is_ipv6()), Ordering::Relaxed);
        self.vtep.store(vtep, Ordering::Release);
    }
}
