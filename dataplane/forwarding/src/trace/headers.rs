//! What a filter looks at in a frame: leniently, for a malformed packet is what an operator may be looking for.

use std::net::IpAddr;

use crate::headers::{
    ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, IPV4, IPV6, SCTP, TCP, UDP, UDP_VXLAN,
    VXLAN_FLAG_VNI, be16, be32,
};
use crate::types::{Mac, address_from_bytes};

/// Tags that are looked behind.
const TAGS: usize = 2;
/// Of an 802.1Q or 802.1ad tag, bytes.
const TAG: usize = 4;
const ETHERTYPES_TAGGED: [u16; 2] = [0x8100, 0x88a8];
/// Where ARP's sender and target addresses are.
const ARP_SENDER: usize = 14;
const ARP_TARGET: usize = 24;
/// ICMPv6 types of neighbour discovery, and those of them that have a target address, and where.
const ND: std::ops::RangeInclusive<u8> = 133..=137;
const ND_WITH_TARGET: std::ops::RangeInclusive<u8> = 135..=137;
const ND_TARGET: usize = IPV6 + 8;

/// One Ethernet frame's headers, as far as there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) destination_mac: Option<Mac>,
    pub(super) source_mac: Option<Mac>,
    pub(super) ethertype: Option<u16>,
    /// Of IP, or ARP's sender.
    pub(super) source: Option<IpAddr>,
    /// Of IP, or ARP's target.
    pub(super) destination: Option<IpAddr>,
    /// Of neighbour discovery.
    pub(super) target: Option<IpAddr>,
    pub(super) protocol: Option<u8>,
    pub(super) is_nd: bool,
    /// Source and destination.
    pub(super) ports: Option<(u16, u16)>,
}

/// A frame's headers and, of VXLAN, those within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) outer: Layer,
    pub(super) inner: Option<Layer>,
    /// Of the VXLAN header.
    pub(super) vni: Option<u32>,
}

impl Headers {
    pub(super) fn read(frame: &[u8], udp_ports: &[u16]) -> Self {
        let (outer, rest) = Layer::read(frame);
        let tunnelled = outer.protocol == Some(UDP)
            && outer.ports.is_some_and(|(_, destination)| udp_ports.contains(&destination));
        let Some(vxlan) = rest.filter(|_| tunnelled) else { return Self { outer, ..Self::default() } };
        let has_vni = vxlan.get(8).is_some_and(|flags| flags & VXLAN_FLAG_VNI != 0);
        let vni = be32(vxlan, 12).filter(|_| has_vni).map(|word| word >> 8);
        let inner = vni.and_then(|_| vxlan.get(UDP_VXLAN..)).map(|frame| Layer::read(frame).0);
        Self { outer, inner, vni }
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.outer).chain(&self.inner)
    }
}

impl Layer {
    /// With the bytes from the transport header on, if there is one.
    fn read(frame: &[u8]) -> (Self, Option<&[u8]>) {
        let mac = |at: usize| frame.get(at..at + 6).and_then(|bytes| Mac::try_from(bytes).ok());
        let mut layer = Self { destination_mac: mac(0), source_mac: mac(6), ..Self::default() };
        let mut at = ETHERNET;
        let mut ethertype = be16(frame, at - 2);
        for _ in 0..TAGS {
            if ethertype.is_some_and(|ethertype| ETHERTYPES_TAGGED.contains(&ethertype)) {
                at += TAG;
                ethertype = be16(frame, at - 2);
            }
        }
        layer.ethertype = ethertype;
        let packet = frame.get(at..).unwrap_or_default();
        let address = |at: usize, length: usize| {
            address_from_bytes(packet.get(at..at + length).unwrap_or_default()).ok()
        };
        let transport = match ethertype {
            Some(ETHERTYPE_ARP) => {
                layer.source = address(ARP_SENDER, 4);
                layer.destination = address(ARP_TARGET, 4);
                None
            }
            Some(ETHERTYPE_IPV4) => {
                layer.source = address(12, 4);
                layer.destination = address(16, 4);
                layer.protocol = packet.get(9).copied();
                let header = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
                // Only the first fragment has a transport header.
                let is_first = be16(packet, 6).is_some_and(|field| field & 0x1fff == 0);
                packet.get(header..).filter(|_| is_first && header >= IPV4)
            }
            Some(ETHERTYPE_IPV6) => {
                layer.source = address(8, 16);
                layer.destination = address(24, 16);
                layer.protocol = packet.get(6).copied();
                packet.get(IPV6..)
            }
            _ => None,
        };
        let Some(rest) = transport else { return (layer, None) };
        match layer.protocol {
            Some(TCP | UDP | SCTP) => layer.ports = be16(rest, 0).zip(be16(rest, 2)),
            Some(ICMPV6) if ethertype == Some(ETHERTYPE_IPV6) => {
                let kind = rest.first();
                layer.is_nd = kind.is_some_and(|kind| ND.contains(kind));
                if kind.is_some_and(|kind| ND_WITH_TARGET.contains(kind)) {
                    layer.target = address(ND_TARGET, 16);
                }
            }
            _ => {}
        }
        (layer, Some(rest))
    }
}
