//! Headers on the wire: where their fields are, and checked views of them.
//!
//! A view is made once, by a function that has looked at every length it relies on; after that nothing is checked again.

pub(crate) mod arp;
mod ip;
pub(crate) mod nd;

pub(crate) use ip::{Family, IpView, frame_flow_hash, is_nd, packet_flow_hash, udp_length};

/// Destination, source, EtherType.
pub(crate) const ETHERNET: usize = 14;
pub(crate) const IPV4: usize = 20;
pub(crate) const IPV6: usize = 40;
/// UDP and VXLAN.
pub(crate) const UDP_VXLAN: usize = 16;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Below it, the field is a length and an LLC header follows (IEEE 802.3).
const ETHERTYPE_SMALLEST: u16 = 0x0600;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const OSPF: u8 = 89;
pub(crate) const SCTP: u8 = 132;
const PIM: u8 = 103;
const VRRP: u8 = 112;

const BGP: u16 = 179;
/// BFD single hop and its echo (RFC 5881), multihop (RFC 5883).
const BFD: [u16; 3] = [3784, 3785, 4784];

/// The I flag: a VNI follows (RFC 7348 section 5).
pub(crate) const VXLAN_FLAG_VNI: u8 = 0x08;

/// Groups that no bridge forwards: spanning tree, LACP, LLDP and the like (IEEE 802.1Q table 8-1), without their last 4 bits.
const RESERVED_GROUPS: u64 = 0x0018_0c20_0000;

/// An Ethernet header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EthernetView {
    /// The destination in the upper 48 bits.
    destination: u64,
    pub(crate) ethertype: u16,
}

impl EthernetView {
    #[inline(always)]
    pub(crate) fn new(frame: &[u8]) -> Option<Self> {
        let header: &[u8; ETHERNET] = frame.first_chunk()?;
        let [a, b, c, d, e, f, g, h, ..] = *header;
        Some(Self {
            destination: u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 16,
            ethertype: u16::from_be_bytes([header[12], header[13]]),
        })
    }

    /// The destination as [`Mac::bits`](crate::Mac) has it.
    #[inline(always)]
    pub(crate) const fn destination_bits(self) -> u64 {
        self.destination
    }

    /// Whether the destination is a group.
    #[inline(always)]
    pub(crate) const fn is_group(self) -> bool {
        self.destination >> 40 & 1 == 1
    }

    /// Whether the destination is a group that no bridge forwards.
    pub(crate) const fn is_reserved_group(self) -> bool {
        self.destination >> 4 == RESERVED_GROUPS
    }

    /// The source of a frame that has a header, as [`Mac::bits`](crate::Mac) has it.
    #[inline(always)]
    pub(crate) fn source_bits(frame: &[u8]) -> u64 {
        let Some([.., a, b, c, d, e, f]) = frame.first_chunk::<12>() else { return 0 };
        u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f])
    }

    pub(crate) const fn is_tagged(self) -> bool {
        matches!(self.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ)
    }

    /// IS-IS: LLC with both service access points 0xfe (ISO 10589 section 8.4).
    pub(crate) fn is_isis(self, frame: &[u8]) -> bool {
        self.ethertype < ETHERTYPE_SMALLEST && frame.get(ETHERNET..ETHERNET + 2) == Some(&[0xfe, 0xfe])
    }
}

#[inline(always)]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline(always)]
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
