//! Frames made and read by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A MAC address.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of IEEE 802.1Q.
pub const VLAN: u16 = 0x8100;

/// As `ip` and FRR write it.
pub fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A frame.
pub fn ethernet(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), payload].concat()
}

/// An ARP packet for IPv4 over Ethernet; `operation` is 1 for a request and 2 for a reply.
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        packet.extend(mac);
        packet.extend(address.octets());
    }
    packet
}

/// A broadcast that asks who has `target`.
pub fn arp_request(sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    ethernet(BROADCAST, sender.0, ARP, &arp(1, sender, ([0; 6], target)))
}

/// The sender and the target of an ARP packet with its operation, of a whole frame.
pub fn read_arp(frame: &[u8]) -> Option<(u16, (Mac, Ipv4Addr), Ipv4Addr)> {
    if ethertype(frame)? != ARP {
        return None;
    }
    let packet = frame.get(14..42)?;
    let mac = packet[8..14].try_into().ok()?;
    let address = |at: usize| packet[at..at + 4].first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    Some((u16::from_be_bytes([packet[6], packet[7]]), (mac, address(14)?), address(24)?))
}

/// A neighbour solicitation from `sender` for `target`, to the solicited-node group.
pub fn solicitation(sender: (Mac, Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(sender.0);
    ethernet([0x33, 0x33, 0xff, a, b, c], sender.0, IPV6, &icmpv6(sender.1, group, message))
}

/// A neighbour advertisement of `target` at `link`, to all nodes, overriding what they knew.
pub fn advertisement(from: Mac, link: Mac, target: Ipv6Addr) -> Vec<u8> {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(link);
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, IPV6, &icmpv6(target, all, message))
}

/// The type and the target of a neighbour solicitation or advertisement, with the link-layer address of its option, of a whole frame.
pub fn read_neighbor(frame: &[u8]) -> Option<(u8, Ipv6Addr, Option<Mac>)> {
    if ethertype(frame)? != IPV6 || *frame.get(20)? != 58 {
        return None;
    }
    let message = frame.get(54..)?;
    let kind = *message.first()?;
    if kind != 135 && kind != 136 {
        return None;
    }
    let target = Ipv6Addr::from(*message.get(8..24)?.first_chunk::<16>()?);
    let link = message.get(26..32).and_then(|mac| mac.try_into().ok());
    Some((kind, target, link))
}

/// An IPv6 packet with an ICMPv6 message whose checksum is not filled in yet, hop limit 255.
fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut pseudo = [source.octets(), destination.octets()].concat();
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    let sum = checksum(&[&pseudo[..], &message].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(source, destination, 58, 255, &message)
}

/// An IPv6 packet.
pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// An IPv4 packet without options; `tos` is DSCP and ECN.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, tos];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A UDP datagram over IPv4, without a checksum (RFC 768 allows that).
pub fn udp4(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), tos: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap_or(u16::MAX);
    let mut datagram = Vec::new();
    for half in [source.1, destination.1, length, 0] {
        datagram.extend(half.to_be_bytes());
    }
    datagram.extend(data);
    ipv4(source.0, destination.0, 17, tos, &datagram)
}

/// What VXLAN puts in front of a frame.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[8, 0, 0, 0, a, b, c, 0][..], frame].concat()
}

/// Destination, source and EtherType of a frame.
pub fn macs(frame: &[u8]) -> Option<(Mac, Mac)> {
    Some((*frame.first_chunk::<6>()?, *frame.get(6..12)?.first_chunk::<6>()?))
}

/// A frame's EtherType.
pub fn ethertype(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(12..14)?.first_chunk::<2>()?))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arp_request_reads_back() {
        let sender = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(192, 0, 2, 1));
        let target = Ipv4Addr::new(192, 0, 2, 9);
        assert_eq!(read_arp(&arp_request(sender, target)), Some((1, sender, target)));
    }

    #[test]
    fn a_solicitation_reads_back_and_sums_to_nothing() {
        let sender = ([2, 0, 0, 0, 0, 1], "fd00::1".parse().unwrap());
        let target = "fd00::9".parse().unwrap();
        let frame = solicitation(sender, target);
        assert_eq!(read_neighbor(&frame), Some((135, target, Some(sender.0))));
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        pseudo.extend(&frame[54..]);
        assert_eq!(checksum(&pseudo), 0);
    }
}
