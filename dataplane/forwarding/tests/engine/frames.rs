//! Frames built by a library that shares nothing with the engine.

use std::net::IpAddr;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header};
use forwarding::Mac;

/// An IP packet in terms of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ttl: u8,
    /// DSCP and ECN.
    pub(crate) tos: u8,
    pub(crate) protocol: u8,
    pub(crate) ports: (u16, u16),
    /// Bytes behind the 8 that hold the ports.
    pub(crate) payload: usize,
    /// IPv4 only: DF, or a middle fragment.
    pub(crate) df: bool,
    pub(crate) fragment: bool,
}

impl Ip {
    pub(crate) fn new(source: &str, destination: &str) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ttl: 64,
            tos: 0,
            protocol: 17,
            ports: (1234, 80),
            payload: 20,
            df: true,
            fragment: false,
        }
    }

    /// What the header is followed by.
    pub(crate) fn body(&self) -> Vec<u8> {
        [
            &self.ports.0.to_be_bytes()[..],
            &self.ports.1.to_be_bytes(),
            &u16::try_from(8 + self.payload).unwrap().to_be_bytes(),
            &[0, 0],
            &vec![0xa5; self.payload],
        ]
        .concat()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        packet(self, &self.body())
    }
}

/// A packet of any content.
pub(crate) fn packet(ip: &Ip, body: &[u8]) -> Vec<u8> {
    [&ip_header(ip, body.len())[..], body].concat()
}

/// An IP header in front of `length` bytes.
pub(crate) fn ip_header(ip: &Ip, length: usize) -> Vec<u8> {
    let protocol = IpNumber(ip.protocol);
    match (ip.source, ip.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4Header::new(
                u16::try_from(length).unwrap(),
                ip.ttl,
                protocol,
                source.octets(),
                destination.octets(),
            )
            .unwrap();
            header.dscp = (ip.tos >> 2).try_into().unwrap();
            header.ecn = (ip.tos & 3).try_into().unwrap();
            header.dont_fragment = ip.df;
            header.more_fragments = ip.fragment;
            if ip.fragment {
                header.fragment_offset = IpFragOffset::try_new(100).unwrap();
            }
            header.header_checksum = header.calc_header_checksum();
            header.to_bytes().to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6Header {
            traffic_class: ip.tos,
            flow_label: 0.try_into().unwrap(),
            payload_length: u16::try_from(length).unwrap(),
            next_header: protocol,
            hop_limit: ip.ttl,
            source: source.octets(),
            destination: destination.octets(),
        }
        .to_bytes()
        .to_vec(),
        mixed => panic!("addresses of two families: {mixed:?}"),
    }
}

pub(crate) fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.octets()[..], &source.octets(), &ethertype.to_be_bytes(), payload].concat()
}

pub(crate) fn ethertype(address: IpAddr) -> u16 {
    if address.is_ipv4() { 0x0800 } else { 0x86dd }
}

/// An IP packet in a frame.
pub(crate) fn frame(destination: Mac, source: Mac, ip: &Ip) -> Vec<u8> {
    ethernet(destination, source, ethertype(ip.destination), &ip.bytes())
}

/// A tunnel's headers, in terms of their fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) ip: Ip,
    pub(crate) vni: u32,
    pub(crate) flags: u8,
    pub(crate) inner_destination: Mac,
    pub(crate) inner_source: Mac,
    /// Bytes that the outer lengths count but the inner packet does not have.
    pub(crate) inner_padding: usize,
}

/// A VXLAN frame.
pub(crate) fn vxlan(destination: Mac, source: Mac, outer: &Outer, inner: &Ip) -> Vec<u8> {
    let body = outer.body(ethertype(inner.destination), &inner.bytes());
    ethernet(destination, source, ethertype(outer.ip.destination), &packet(&outer.ip, &body))
}

impl Outer {
    /// What the outer IP header is followed by.
    pub(crate) fn body(&self, inner_ethertype: u16, inner_packet: &[u8]) -> Vec<u8> {
        let mut frame = ethernet(self.inner_destination, self.inner_source, inner_ethertype, inner_packet);
        frame.resize(frame.len() + self.inner_padding, 0);
        let length = u16::try_from(16 + frame.len()).unwrap();
        [
            &self.ip.ports.0.to_be_bytes()[..],
            &self.ip.ports.1.to_be_bytes(),
            &length.to_be_bytes(),
            &[0, 0],
            &[self.flags, 0, 0, 0],
            &(self.vni << 8).to_be_bytes(),
            &frame,
        ]
        .concat()
    }
}
