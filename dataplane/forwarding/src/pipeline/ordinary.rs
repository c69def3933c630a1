//! The short way through the first stage: ordinary packets, and those in tunnels that are known.

use super::bridge::Inside;
use super::ends::Place;
use super::quick::{self, Start, wire_mac};
use super::scratch::Ip;
use super::{Ingress, Worker};
use crate::headers::{ETHERNET, IPV4, IPV6, UDP_VXLAN, VXLAN_FLAG_VNI};
use crate::learn::Origin;
use crate::reason::Verdict;
use crate::types::v4_bits;

/// What ordinary packets are held against.
pub(super) struct Short {
    /// The MAC that frames to us have.
    mac: u64,
    /// Our VTEP addresses, as tables of both families have them; zero is none.
    own_v4: u128,
    own_v6: u128,
}

impl Short {
    pub(super) fn new(ingress: &Ingress) -> Self {
        Self {
            mac: wire_mac(ingress.mac),
            own_v4: ingress.node.v4.map_or(0, v4_bits),
            own_v6: ingress.node.v6.unwrap_or(0),
        }
    }
}

/// An outer packet to our VTEP.
struct Outer {
    addresses: (u128, u128),
    tos: u8,
    length: u16,
    /// Of its IP header.
    header: usize,
}

impl Worker {
    /// Takes in a packet that is ordinary; otherwise nothing, and nothing was done.
    #[inline(always)]
    pub(super) fn classify_ordinary(
        &mut self,
        ingress: &Ingress,
        short: &Short,
        at: u8,
        frame: &[u8],
        verdict: &mut Verdict,
    ) -> Option<()> {
        let start = Start::new(frame.first_chunk()?);
        if !start.is_to(short.mac) {
            return None;
        }
        let packet = frame.get(ETHERNET..)?;
        #[expect(clippy::cast_possible_truncation, reason = "14")]
        let l3 = ETHERNET as u16;
        if start.is_ipv4() {
            let ip = quick::v4(packet)?;
            if ip.is_udp && v4_bits(ip.destination) == short.own_v4 {
                if ip.is_fragment {
                    return None;
                }
                let addresses = (v4_bits(ip.source), short.own_v4);
                let outer = Outer { addresses, tos: ip.tos, length: ip.length, header: IPV4 };
                return self.classify_tunnelled(ingress, &outer, at, packet, verdict);
            }
            let (destination, ip) =
                (ip.destination, Ip { at: l3, length: ip.length, ttl: ip.ttl, tos: ip.tos });
            self.scratch.route_v4(at, destination, ip, ingress.vrf, ingress.tables.0);
        } else if start.is_ipv6() {
            let ip = quick::v6(packet)?;
            if ip.is_udp && ip.destination == short.own_v6 {
                let addresses = (ip.source, ip.destination);
                let outer = Outer { addresses, tos: ip.tos, length: ip.length, header: IPV6 };
                return self.classify_tunnelled(ingress, &outer, at, packet, verdict);
            }
            let (destination, ip) =
                (ip.destination, Ip { at: l3, length: ip.length, ttl: ip.ttl, tos: ip.tos });
            self.scratch.route_v6(at, destination, ip, ingress.vrf, ingress.tables.1);
        } else {
            return None;
        }
        Some(())
    }

    /// Likewise one that came through a tunnel.
    #[inline(always)]
    fn classify_tunnelled(
        &mut self,
        ingress: &Ingress,
        outer: &Outer,
        at: u8,
        packet: &[u8],
        verdict: &mut Verdict,
    ) -> Option<()> {
        let udp = packet.get(outer.header..)?;
        let header: &[u8; UDP_VXLAN] = udp.first_chunk()?;
        let udp_port = u16::from_be_bytes([header[2], header[3]]);
        let udp_length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if udp_length < UDP_VXLAN + ETHERNET
            || outer.header + udp_length > usize::from(outer.length)
            || header[8] & VXLAN_FLAG_VNI == 0
            // Marked on the way, or ECT(1): the inner marks may have to change.
            || outer.tos & 1 != 0
        {
            return None;
        }
        let vni = quick::half(header, 12).swap_bytes() >> 8;
        let frame = udp.get(UDP_VXLAN..udp_length)?;
        let end = self.ends.find(&self.tables, ingress, outer.addresses, udp_port, vni)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most 14 + 40 + 16")]
        let inner = (ETHERNET + outer.header + UDP_VXLAN) as u16;
        match end.place {
            Place::Routed { mac, vrf, tables } => {
                let start = Start::new(frame.first_chunk()?);
                if !start.is_to(mac) {
                    return None;
                }
                #[expect(clippy::cast_possible_truncation, reason = "14")]
                let l3 = inner + ETHERNET as u16;
                let packet = frame.get(ETHERNET..)?;
                if start.is_ipv4() {
                    let ip = quick::v4(packet)?;
                    let (destination, ip) =
                        (ip.destination, Ip { at: l3, length: ip.length, ttl: ip.ttl, tos: ip.tos });
                    self.scratch.route_v4(at, destination, ip, vrf, tables.0);
                } else if start.is_ipv6() {
                    let ip = quick::v6(packet)?;
                    let (destination, ip) =
                        (ip.destination, Ip { at: l3, length: ip.length, ttl: ip.ttl, tos: ip.tos });
                    self.scratch.route_v6(at, destination, ip, vrf, tables.1);
                } else {
                    return None;
                }
            }
            Place::Bridged(bridge) => {
                let inside = Inside {
                    bridge,
                    frame,
                    at: inner,
                    port: ingress.port,
                    origin: Origin::Vtep(outer.addresses.0),
                    flood_rate: 0,
                    outer_tos: Some(outer.tos),
                };
                let Self { tables, scratch, cells, learner, .. } = self;
                scratch.bridge(tables, learner, cells, &inside, at, verdict);
            }
        }
        Some(())
    }
}
