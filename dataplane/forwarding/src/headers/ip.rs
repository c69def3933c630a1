//! IPv4 and IPv6: validation and what the engine needs of them.

use super::{
    BFD, BGP, ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, IPV4, IPV6, OSPF, PIM, SCTP, TCP, UDP, VRRP,
    be16, be32,
};
use crate::checksum;
use crate::hash::FlowHash;
use crate::reason::Reason;
use crate::types::v4_bits;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => ETHERTYPE_IPV4,
            Self::V6 => ETHERTYPE_IPV6,
        }
    }

    /// The length of a header without options.
    const fn header(self) -> usize {
        match self {
            Self::V4 => IPV4,
            Self::V6 => IPV6,
        }
    }

    pub(crate) const fn of_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            ETHERTYPE_IPV4 => Some(Self::V4),
            ETHERTYPE_IPV6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// A packet whose header was validated and that may be looked up: unicast from and to addresses that are routed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpView {
    pub(crate) family: Family,
    /// Header and payload, bytes: the total length of IPv4, the payload length and 40 of IPv6.
    pub(crate) length: u16,
    /// Type of service or traffic class.
    pub(crate) tos: u8,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// IPv4 as its lower 32 bits only.
    pub(crate) source: u128,
    pub(crate) destination: u128,
    pub(crate) transport: Transport,
}

/// What comes after the IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    /// Protocol or next header.
    pub(crate) protocol: u8,
    /// Any fragment, the first too: only addresses and protocol tell its flow.
    pub(crate) fragment: bool,
    /// Where it starts in the IP packet.
    pub(crate) offset: u8,
    /// Source port in the upper half, destination port in the lower; 0 where there are none.
    pub(crate) ports: u32,
}

impl Transport {
    #[inline(always)]
    pub(crate) const fn destination_port(self) -> u16 {
        (self.ports & 0xffff) as u16
    }

    const fn source_port(self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// A routing protocol or BFD.
    pub(crate) fn is_control(self) -> bool {
        match self.protocol {
            TCP => self.source_port() == BGP || self.destination_port() == BGP,
            UDP => BFD.contains(&self.destination_port()),
            OSPF | PIM | VRRP => true,
            _ => false,
        }
    }

    #[inline(always)]
    fn new(packet: &[u8], offset: usize, protocol: u8, fragment: bool) -> Self {
        let has_ports = !fragment && matches!(protocol, TCP | UDP | SCTP);
        let ports = if has_ports { be32(packet, offset).unwrap_or(0) } else { 0 };
        #[expect(clippy::cast_possible_truncation, reason = "at most 60")]
        Self { protocol, fragment, offset: offset as u8, ports }
    }
}

impl IpView {
    /// Validates a packet that may be followed by padding. What is not to be looked up is an error: malformed or martian,
    /// multicast, link-local, with options.
    #[inline(always)]
    pub(crate) fn new(family: Family, packet: &[u8]) -> Result<Self, Reason> {
        match family {
            Family::V4 => Self::v4(packet),
            Family::V6 => Self::v6(packet),
        }
    }

    #[inline(always)]
    fn v4(packet: &[u8]) -> Result<Self, Reason> {
        let header: &[u8; IPV4] = packet.first_chunk().ok_or(Reason::MalformedIp)?;
        let length = u16::from_be_bytes([header[2], header[3]]);
        let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        let destination = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
        // More fragments, or an offset.
        let fragment = header[6] & 0x3f | header[7] != 0;
        let header_length = usize::from(header[0] & 0xf) * 4;
        if header[0] != 0x45 {
            return Err(v4_unusual(packet, header_length, length, destination));
        }
        let payload = packet.get(..usize::from(length)).filter(|packet| packet.len() >= IPV4);
        let packet = payload.ok_or(Reason::MalformedIp)?;
        if !checksum::header_is_right(header) {
            return Err(Reason::BadChecksum);
        }
        let transport = Transport::new(packet, IPV4, header[9], fragment);
        if v4_is_special(destination) || v4_is_special(source) {
            return Err(v4_special(source, destination, transport));
        }
        Ok(Self {
            family: Family::V4,
            length,
            tos: header[1],
            ttl: header[8],
            source: source.into(),
            destination: destination.into(),
            transport,
        })
    }

    #[inline(always)]
    fn v6(packet: &[u8]) -> Result<Self, Reason> {
        let header: &[u8; IPV6] = packet.first_chunk().ok_or(Reason::MalformedIp)?;
        if header[0] >> 4 != 6 {
            return Err(Reason::MalformedIp);
        }
        let payload_length = u16::from_be_bytes([header[4], header[5]]);
        // A jumbogram's zero comes with hop-by-hop options, which are handed over below.
        let length = usize::from(payload_length) + IPV6;
        let packet = packet.get(..length).ok_or(Reason::MalformedIp)?;
        // Longer than any port's MTU and so too big anyway; the rest of the engine counts in 16 bits.
        let length = u16::try_from(length).map_err(|_| Reason::TooBig)?;
        let address = |at: usize| u128::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        let (source, destination) = (address(8), address(24));
        let protocol = header[6];
        let transport = Transport::new(packet, IPV6, protocol, protocol == FRAGMENT);
        if v6_is_special(destination) || v6_is_special(source) {
            return Err(v6_special(source, destination, transport, packet));
        }
        if protocol == HOP_BY_HOP {
            return Err(Reason::Options);
        }
        Ok(Self {
            family: Family::V6,
            length,
            tos: header[0] << 4 | header[1] >> 4,
            ttl: header[7],
            source,
            destination,
            transport,
        })
    }

    /// As tables of both families have it.
    #[inline(always)]
    pub(crate) fn destination_bits(&self) -> u128 {
        address_bits(self.family, self.destination)
    }

    #[inline(always)]
    pub(crate) fn source_bits(&self) -> u128 {
        address_bits(self.family, self.source)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses have 32 bits")]
    pub(crate) fn flow_hash(&self) -> FlowHash {
        let Transport { ports, protocol, .. } = self.transport;
        match self.family {
            Family::V4 => FlowHash::v4(self.source as u32, self.destination as u32, ports, protocol),
            Family::V6 => FlowHash::v6(self.source, self.destination, ports, protocol),
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses have 32 bits")]
const fn address_bits(family: Family, address: u128) -> u128 {
    match family {
        Family::V4 => v4_bits(address as u32),
        Family::V6 => address,
    }
}

/// The flow of a frame that is bridged, whatever is in it: by addresses and ports if it looks like IP, else by its MACs.
#[inline(always)]
pub(crate) fn frame_flow_hash(frame: &[u8]) -> FlowHash {
    let Some((ethernet, ip)) = frame.split_first_chunk::<ETHERNET>() else { return FlowHash::default() };
    let ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    match Family::of_ethertype(ethertype) {
        Some(family) if ip.len() >= family.header() => packet_flow_hash(family, ip),
        _ => FlowHash::of_macs(ethernet, ethertype),
    }
}

/// The flow of an IP packet, without regard to what else it says.
#[inline(always)]
pub(crate) fn packet_flow_hash(family: Family, ip: &[u8]) -> FlowHash {
    match family {
        Family::V4 => {
            let Some(header) = ip.first_chunk::<IPV4>() else { return FlowHash::default() };
            let fragment = header[6] & 0x3f | header[7] != 0;
            let offset = usize::from(header[0] & 0xf) * 4;
            let transport = Transport::new(ip, offset, header[9], fragment);
            let address = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| header[at + i]));
            FlowHash::v4(address(12), address(16), transport.ports, transport.protocol)
        }
        Family::V6 => {
            let Some(header) = ip.first_chunk::<IPV6>() else { return FlowHash::default() };
            let transport = Transport::new(ip, IPV6, header[6], header[6] == FRAGMENT);
            let address = |at: usize| u128::from_be_bytes(std::array::from_fn(|i| header[at + i]));
            FlowHash::v6(address(8), address(24), transport.ports, transport.protocol)
        }
    }
}

const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;

/// Another version, or options.
#[cold]
fn v4_unusual(packet: &[u8], header_length: usize, length: u16, destination: u32) -> Reason {
    let length = usize::from(length);
    if packet[0] >> 4 != 4 || header_length < IPV4 || length < header_length || packet.len() < length {
        Reason::MalformedIp
    } else if checksum::fold(checksum::sum(&packet[..header_length])) != 0xffff {
        Reason::BadChecksum
    } else if destination >> 28 == 0xe {
        // IGMP among others.
        Reason::Multicast
    } else {
        Reason::Options
    }
}

/// Not an ordinary unicast address: 0/8, 127/8, 169.254/16, 224/3.
#[inline(always)]
const fn v4_is_special(address: u32) -> bool {
    let first = address >> 24;
    first == 0 || first == 127 || first >= 224 || address >> 16 == 0xa9fe
}

#[cold]
fn v4_special(source: u32, destination: u32, transport: Transport) -> Reason {
    let is_martian = |address: u32| matches!(address >> 24, 0 | 127 | 240..);
    let is_group = |address: u32| address >> 28 == 0xe || address == u32::MAX;
    if is_group(source) || (is_martian(source) && source != 0) {
        Reason::MartianSource
    } else if is_group(destination) {
        // From 0.0.0.0 too: a DHCP client.
        if transport.is_control() { Reason::LinkControl } else { Reason::Multicast }
    } else if source >> 24 == 0 {
        Reason::MartianSource
    } else if is_martian(destination) {
        Reason::MartianDestination
    } else if transport.is_control() {
        Reason::LinkControl
    } else {
        Reason::LinkLocal
    }
}

/// Not an ordinary unicast address: ::/64 (unspecified, loopback, IPv4-mapped and -compatible), fe80::/10, ff00::/8.
#[inline(always)]
const fn v6_is_special(address: u128) -> bool {
    address >> 64 == 0 || address >> 118 == 0xfe80 >> 6 || address >> 120 == 0xff
}

#[cold]
fn v6_special(source: u128, destination: u128, transport: Transport, packet: &[u8]) -> Reason {
    let is_group = |address: u128| address >> 120 == 0xff;
    let is_nd = is_nd(packet, transport);
    if is_group(source) || (source >> 64 == 0 && source != 0) {
        Reason::MartianSource
    } else if is_nd && destination >> 64 != 0 {
        // From :: too: duplicate address detection.
        Reason::Nd
    } else if is_group(destination) {
        if transport.is_control() { Reason::LinkControl } else { Reason::Multicast }
    } else if source == 0 {
        Reason::MartianSource
    } else if destination >> 64 == 0 {
        Reason::MartianDestination
    } else if transport.is_control() {
        Reason::LinkControl
    } else {
        Reason::LinkLocal
    }
}

/// Neighbour discovery: router solicitation to redirect (RFC 4861).
pub(crate) fn is_nd(packet: &[u8], transport: Transport) -> bool {
    transport.protocol == ICMPV6 && matches!(packet.get(IPV6), Some(133..=137))
}

#[inline(always)]
pub(crate) fn udp_length(packet: &[u8], transport: Transport) -> Option<u16> {
    be16(packet, usize::from(transport.offset) + 4)
}
