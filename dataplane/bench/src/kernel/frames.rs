//! The frames that are sent, and what must come out: the same from the kernel and from the engine.

use std::net::Ipv4Addr;

use crate::traffic::{
    ETHERTYPE_IPV4, L2VNI, OUR_ROUTER_MAC, OUR_VTEP, TTL, VNI, ethernet, ipv4, remote_vtep, udp, vxlan,
};

/// Flows, each with a UDP source port and a host of its own.
pub(crate) const FLOWS: u16 = 1024;
/// UDP source port of the first.
const FIRST_PORT: u16 = 1024;

/// The host's own interface, and the PE's that it is connected to.
pub(crate) const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
pub(crate) const ACCESS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The PE's interface towards the fabric, and the one at its other end.
pub(crate) const UNDER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];
pub(crate) const FABRIC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x04];
/// The router behind the remote VTEP, and a host of the bridge domain there.
pub(crate) const REMOTE_ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 2, 0];
pub(crate) const REMOTE_HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 9, 9];

/// The host, and those behind the remote VTEP, from 10.2.0.0 on.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const REMOTE_HOSTS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 0);

/// Ethernet, IPv4, UDP and VXLAN headers, bytes.
const OUTER: usize = 14 + 20 + 8 + 8;
/// Ethernet, IPv4 and UDP headers, bytes.
const HEADERS: usize = 14 + 20 + 8;

/// What connects host and remote VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// A VRF, routed.
    L3,
    /// A bridge domain.
    L2,
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the host into the tunnel.
    Encapsulation,
    /// Out of the tunnel to the host.
    Decapsulation,
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) service: Service,
    pub(crate) direction: Direction,
    /// Of the frames of the host, bytes, without the checksum of 4.
    pub(crate) length: usize,
}

impl Traffic {
    /// What a table calls it.
    pub(crate) fn name(self) -> String {
        let service = match self.service {
            Service::L3 => "L3VNI",
            Service::L2 => "L2VNI",
        };
        let direction = match self.direction {
            Direction::Encapsulation => "encapsulation",
            Direction::Decapsulation => "decapsulation",
        };
        format!("{service} {direction}, {} bytes", self.length + 4)
    }

    /// The frame of a flow as it is sent.
    pub(crate) fn frame(self, flow: u16) -> Vec<u8> {
        match self.direction {
            Direction::Encapsulation => self.outgoing(flow),
            Direction::Decapsulation => {
                let outer = vxlan(remote_vtep(0), OUR_VTEP, self.vni(), flow, &self.incoming(flow));
                ethernet(UNDER_MAC, FABRIC_MAC, ETHERTYPE_IPV4, &outer)
            }
        }
    }

    /// Whether `frame` is that of some flow, as it is sent.
    pub(crate) fn is_sent(self, frame: &[u8]) -> bool {
        self.flow_of(frame, self.direction == Direction::Decapsulation)
            .is_some_and(|flow| frame == self.frame(flow))
    }

    /// By the UDP source port of the packet, which may be in a tunnel.
    fn flow_of(self, frame: &[u8], tunnelled: bool) -> Option<u16> {
        let inner = frame.get(if tunnelled { OUTER } else { 0 }..)?;
        let &[high, low] = inner.get(34..36)? else { return None };
        u16::from_be_bytes([high, low]).checked_sub(FIRST_PORT).filter(|flow| *flow < FLOWS)
    }

    /// Whether `sent` is what the frame of some flow must become. What a VTEP may choose in the outer header is not looked at:
    /// identification, flags, TTL, and the UDP source port but for its range.
    pub(crate) fn is_right(self, sent: &[u8]) -> bool {
        let Some(flow) = self.flow_of(sent, self.direction == Direction::Encapsulation) else { return false };
        match self.direction {
            Direction::Encapsulation => {
                let inner = match self.service {
                    Service::L2 => self.outgoing(flow),
                    Service::L3 => routed(self.outgoing(flow), REMOTE_ROUTER_MAC, OUR_ROUTER_MAC),
                };
                let outer = vxlan(OUR_VTEP, remote_vtep(0), self.vni(), 0, &inner);
                let wanted = ethernet(FABRIC_MAC, UNDER_MAC, ETHERTYPE_IPV4, &outer);
                same_but_for_choices(sent, &wanted)
            }
            Direction::Decapsulation => match self.service {
                Service::L2 => sent == self.incoming(flow),
                Service::L3 => sent == routed(self.incoming(flow), HOST_MAC, ACCESS_MAC),
            },
        }
    }

    fn vni(self) -> u32 {
        match self.service {
            Service::L3 => VNI,
            Service::L2 => L2VNI,
        }
    }

    /// From the host.
    fn outgoing(self, flow: u16) -> Vec<u8> {
        let destination = match self.service {
            Service::L3 => ACCESS_MAC,
            Service::L2 => REMOTE_HOST_MAC,
        };
        ethernet(destination, HOST_MAC, ETHERTYPE_IPV4, &self.packet(HOST, remote_host(flow), flow))
    }

    /// From behind the remote VTEP.
    fn incoming(self, flow: u16) -> Vec<u8> {
        let (destination, source) = match self.service {
            Service::L3 => (OUR_ROUTER_MAC, REMOTE_ROUTER_MAC),
            Service::L2 => (HOST_MAC, REMOTE_HOST_MAC),
        };
        ethernet(destination, source, ETHERTYPE_IPV4, &self.packet(remote_host(flow), HOST, flow))
    }

    fn packet(self, source: Ipv4Addr, destination: Ipv4Addr, flow: u16) -> Vec<u8> {
        // Bytes that tell where they are from.
        let payload: Vec<u8> =
            flow.to_be_bytes().into_iter().cycle().zip(0_u8..=250).map(|(a, b)| a ^ b).collect();
        let payload: Vec<u8> = payload.into_iter().cycle().take(self.length - HEADERS).collect();
        ipv4(source, destination, TTL, &udp(FIRST_PORT + flow, 2000, &payload))
    }
}

fn remote_host(flow: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(REMOTE_HOSTS) + u32::from(flow))
}

/// A frame after one hop: other MACs, TTL less one.
fn routed(mut frame: Vec<u8>, destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
    frame[22] -= 1;
    frame[24..26].fill(0);
    let checksum = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The Internet checksum's sum, RFC 1071, of an even number of bytes.
fn sum(bytes: &[u8]) -> u16 {
    let sum =
        bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

fn same_but_for_choices(sent: &[u8], wanted: &[u8]) -> bool {
    if sent.len() != wanted.len() || sum(&sent[14..34]) != 0xffff {
        return false;
    }
    // RFC 7348 section 5: from the dynamic ports. Linux takes those of its own range, from 32768.
    if u16::from_be_bytes([sent[34], sent[35]]) < 32_768 {
        return false;
    }
    let mut masked = sent.to_vec();
    for range in [18..23, 24..26, 34..36] {
        masked[range.clone()].copy_from_slice(&wanted[range]);
    }
    masked == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Traffic> {
        [Service::L3, Service::L2].into_iter().flat_map(|service| {
            [Direction::Encapsulation, Direction::Decapsulation]
                .into_iter()
                .flat_map(move |direction| [60, 1396].map(|length| Traffic { service, direction, length }))
        })
    }

    #[test]
    fn frames_have_their_length() {
        for traffic in all() {
            let tunnel = if traffic.direction == Direction::Decapsulation { OUTER } else { 0 };
            assert_eq!(traffic.frame(7).len(), traffic.length + tunnel);
        }
    }

    /// What goes in is not what must come out, and no byte of that may differ.
    #[test]
    fn a_wrong_byte_is_seen() {
        for traffic in all() {
            assert!(!traffic.is_right(&traffic.frame(7)), "{traffic:?}");
            let right = match (traffic.direction, traffic.service) {
                (Direction::Encapsulation, service) => {
                    let inner = match service {
                        Service::L2 => traffic.outgoing(7),
                        Service::L3 => routed(traffic.outgoing(7), REMOTE_ROUTER_MAC, OUR_ROUTER_MAC),
                    };
                    let outer = vxlan(OUR_VTEP, remote_vtep(0), traffic.vni(), 99, &inner);
                    ethernet(FABRIC_MAC, UNDER_MAC, ETHERTYPE_IPV4, &outer)
                }
                (Direction::Decapsulation, Service::L2) => traffic.incoming(7),
                (Direction::Decapsulation, Service::L3) => routed(traffic.incoming(7), HOST_MAC, ACCESS_MAC),
            };
            assert!(traffic.is_right(&right), "{traffic:?}");
            let free = if traffic.direction == Direction::Encapsulation { 34..36 } else { 0..0 };
            for index in (0..right.len()).filter(|index| !free.contains(index)) {
                let mut wrong = right.clone();
                wrong[index] ^= 1;
                assert!(!traffic.is_right(&wrong), "{traffic:?} byte {index}");
            }
        }
    }

    #[test]
    fn routed_headers_verify() {
        let traffic = Traffic { service: Service::L3, direction: Direction::Encapsulation, length: 60 };
        assert_eq!(sum(&routed(traffic.outgoing(3), [0; 6], [0; 6])[14..34]), 0xffff);
    }
}
