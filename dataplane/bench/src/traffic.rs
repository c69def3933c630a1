//! The frames that enter: 16 k flows, 64 bytes on the wire or the fewest that fit.

use std::net::{Ipv4Addr, Ipv6Addr};

use forwarding::fib::sample::Random;

/// Flows of a scenario, each one frame of the capture that is replayed without end.
pub(crate) const FLOWS: usize = 16_384;

/// The engine's port MAC, which every frame is for.
pub(crate) const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The MAC of the port that they leave by.
pub(crate) const OUTPUT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];
/// Who sends them.
pub(crate) const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// This node's VTEP and router MAC, and those of the PE at the other end.
pub(crate) const OUR_VTEP: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 1);
pub(crate) const OUR_ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 1, 0x01];
/// The VNI of tenant VRF red.
pub(crate) const VNI: u32 = 100;
/// A bridge domain's.
pub(crate) const L2VNI: u32 = 200;
/// IANA's port of VXLAN, RFC 7348 section 5.
pub(crate) const VXLAN_PORT: u16 = 4789;
/// Remote VTEPs are 100.65.1.0 and the following.
pub(crate) const VTEPS: u8 = 64;

/// The address of remote VTEP `index`.
pub(crate) fn remote_vtep(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 65, 1, index)
}

/// The MAC of host `index` of a bridge domain.
pub(crate) const fn host_mac(index: u32) -> [u8; 6] {
    let [_, a, b, c] = index.to_be_bytes();
    [0x02, 0, 1, a, b, c]
}

/// The MAC of the next hop towards remote VTEP `index`.
pub(crate) fn next_hop_mac(index: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 3, index]
}

pub(crate) const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// IEEE 802's EtherType for experiments.
const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const UDP: u8 = 17;
/// Of packets that enter, and of outer headers.
pub(crate) const TTL: u8 = 64;
/// Shortest frame without its checksum, IEEE 802.3 clause 4A.
const SHORTEST: usize = 60;

pub(crate) fn ethernet(destination: [u8; 6], source: [u8; 6], kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &kind, payload].concat()
}

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram fits");
    let mut datagram =
        [source.to_be_bytes(), destination.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    datagram.extend_from_slice(payload);
    datagram
}

pub(crate) fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a packet fits");
    let [high, low] = length.to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0x40, 0, ttl, UDP, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = packet.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded & 0xffff).expect("masked");
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).expect("a packet fits").to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, high, low, UDP, hop_limit];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend_from_slice(payload);
    packet
}

/// Where the ports of flow `index` come from: every flow has its own pair.
fn ports(index: usize) -> (u16, u16) {
    let low = u16::try_from(index % 16_384).expect("taken modulo");
    (1024 + low, 2000 + low % 7)
}

/// Flow `index` to an IPv4 destination: UDP without payload.
pub(crate) fn flow_v4(index: usize, destination: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let (source, port) = ports(index);
    ipv4(Ipv4Addr::new(198, 18, 0, 1), destination, ttl, &udp(source, port, &[]))
}

/// Likewise to an IPv6 destination.
pub(crate) fn flow_v6(index: usize, destination: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let (source, port) = ports(index);
    let from = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    ipv6(from, destination, hop_limit, &udp(source, port, &[]))
}

/// An IP packet in a frame.
pub(crate) fn framed(destination: [u8; 6], source: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind =
        if packet.first().is_some_and(|first| first >> 4 == 6) { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    ethernet(destination, source, kind, packet)
}

/// A frame to us with an IP packet in it.
pub(crate) fn to_us(packet: &[u8]) -> Vec<u8> {
    padded(framed(OUR_MAC, PEER_MAC, packet))
}

/// A frame to us with flow `index` in the tunnel from a remote VTEP: a frame of a VNI.
pub(crate) fn through_tunnel(vtep: u8, vni: u32, index: usize, frame: &[u8]) -> Vec<u8> {
    to_us(&vxlan(remote_vtep(vtep), OUR_VTEP, vni, ports(index).0, frame))
}

/// The router MAC of the PE at a remote VTEP.
pub(crate) fn remote_router_mac(vtep: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 2, vtep]
}

/// A packet of VXLAN over IPv4.
pub(crate) fn vxlan(from: Ipv4Addr, to: Ipv4Addr, vni: u32, source: u16, inner: &[u8]) -> Vec<u8> {
    let [_, v1, v2, v3] = vni.to_be_bytes();
    let vxlan = [&[0x08, 0, 0, 0, v1, v2, v3, 0][..], inner].concat();
    ipv4(from, to, TTL, &udp(49_152 + source % 16_384, VXLAN_PORT, &vxlan))
}

/// Flow `index` between hosts of a bridge domain: UDP over IPv4.
pub(crate) fn bridged(destination: [u8; 6], index: u32) -> Vec<u8> {
    padded(framed(destination, PEER_MAC, &flow_v4(index as usize, Ipv4Addr::new(198, 18, 0, 2), TTL)))
}

/// Whether `sent` is `frame` in the tunnel to a remote VTEP. Its UDP source port may be any of the dynamic ones.
pub(crate) fn is_tunnelled(sent: &[u8], vtep: u8, vni: u32, frame: &[u8]) -> bool {
    let Some(&[high, low]) = sent.get(34..36) else { return false };
    let source = u16::from_be_bytes([high, low]);
    let outer = vxlan(OUR_VTEP, remote_vtep(vtep), vni, source.wrapping_sub(49_152), frame);
    source >= 49_152 && sent == framed(next_hop_mac(vtep % VTEPS), OUTPUT_MAC, &outer)
}

/// What a host says that has come up: a frame for nobody in particular, by which its MAC is learned.
pub(crate) fn announcement(mac: [u8; 6]) -> Vec<u8> {
    padded(ethernet([0xff; 6], mac, LOCAL_EXPERIMENT, &[]))
}

/// [`FLOWS`] destinations anywhere in IPv4's 1.0.0.0 to 99.255.255.255.
pub(crate) fn any_ipv4(random: &mut Random) -> Vec<Ipv4Addr> {
    (0..FLOWS).map(|_| Ipv4Addr::from(random.below(99 << 24) + (1 << 24))).collect()
}

/// [`FLOWS`] destinations in 2000::/3.
pub(crate) fn any_ipv6(random: &mut Random) -> Vec<Ipv6Addr> {
    (0..FLOWS)
        .map(|_| {
            let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
            Ipv6Addr::from(bits >> 3 | 1 << 125)
        })
        .collect()
}

/// What a host says to the peer: a frame by which its MAC is learned.
pub(crate) fn from_host(mac: [u8; 6]) -> Vec<u8> {
    padded(ethernet(PEER_MAC, mac, LOCAL_EXPERIMENT, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_shortest_that_fit() {
        let mut random = Random::new(1);
        let (v4, v6) = (any_ipv4(&mut random)[0], any_ipv6(&mut random)[0]);
        assert_eq!(to_us(&flow_v4(3, v4, TTL)).len(), 60);
        assert_eq!(to_us(&flow_v6(3, v6, TTL)).len(), 62);
        // 14 + 20 + 8 + 8 outer and VXLAN, 14 + 20 + 8 inner.
        let inner = framed(OUR_ROUTER_MAC, remote_router_mac(1), &flow_v4(3, v4, TTL));
        assert_eq!(through_tunnel(1, VNI, 3, &inner).len(), 92);
    }

    #[test]
    fn header_checksums_verify() {
        let frame = to_us(&flow_v4(0, Ipv4Addr::new(10, 1, 2, 3), TTL));
        let sum: u32 =
            frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn ipv6_destinations_are_global() {
        let mut random = Random::new(2);
        assert!(any_ipv6(&mut random).iter().all(|address| address.segments()[0] >> 13 == 1));
    }
}
