use netlink_packet_core::{NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, route as other};
use proptest::prelude::*;
use rtnetlink::{LinkBridge, LinkVrf, LinkVxlan, RouteMessageBuilder, RouteNextHopBuilder};

use super::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What netlink-packet-route, an independent implementation, makes of a message.
fn encoded(message: RouteNetlinkMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_CREATE;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn decoded(message: RouteNetlinkMessage) -> Message {
    let bytes = encoded(message);
    let mut all = messages(&bytes);
    let (kind, body) = all.next().expect("one message").expect("whole");
    assert!(all.next().is_none());
    parse(kind, body).expect("well-formed")
}

fn address(v4: bool, bits: u128) -> IpAddr {
    if v4 { Ipv4Addr::from_bits((bits >> 96) as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
}

proptest! {
    #[test]
    fn reads_routes_as_an_independent_encoder_writes_them(
        v4: bool, bits: u128, length in 0..=32u8, table in 1..5000u32, protocol: u8,
        hops in prop::collection::vec((any::<u128>(), 1..100u32, 1..=255u8), 1..5),
    ) {
        let prefix = ipnet::IpNet::new(address(v4, bits), length).expect("length").trunc();
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.addr(), prefix.prefix_len()).expect("prefix")
            .table_id(table)
            .protocol(protocol.into());
        let expected: Vec<Hop> = hops
            .iter()
            .map(|&(bits, oif, weight)| Hop { gateway: Some(address(v4, bits)), oif, weight: u16::from(weight) })
            .collect();
        if let [hop] = expected.as_slice() {
            builder = builder.gateway(hop.gateway.expect("set")).expect("family").output_interface(hop.oif);
        } else {
            builder = builder.multipath(expected.iter().map(|hop| {
                let next = if v4 { RouteNextHopBuilder::new_ipv4() } else { RouteNextHopBuilder::new_ipv6() };
                let mut next = next.via(hop.gateway.expect("set")).expect("family").interface(hop.oif).build();
                next.hops = u8::try_from(hop.weight - 1).expect("small");
                next
            }).collect());
        }
        let hops = if let [hop] = expected.as_slice() { vec![Hop { weight: 1, ..*hop }] } else { expected };
        let message = builder.build();
        let expected = Route { table, prefix, protocol, kind: RouteKind::Unicast, hops: Hops::Inline(hops.into()) };
        prop_assert_eq!(decoded(RouteNetlinkMessage::NewRoute(message.clone())), Message::NewRoute(expected.clone()));
        prop_assert_eq!(decoded(RouteNetlinkMessage::DelRoute(message)), Message::DelRoute(expected));
    }

    #[test]
    fn reads_neighbours_and_addresses(v4: bool, bits: u128, ifindex: u32, mac in prop::array::uniform6(1..=255u8), length in 0..=32u8) {
        let ip = address(v4, bits);
        prop_assume!(!ip.is_multicast() && ip.to_canonical() == ip);
        let family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut neighbor = NeighbourMessage::default();
        neighbor.header.family = family;
        neighbor.header.ifindex = ifindex;
        neighbor.header.state = NeighbourState::Stale;
        neighbor.attributes = vec![
            NeighbourAttribute::Destination(match ip {
                IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
                IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        let expected = LinkNeighbor { ifindex, address: ip, mac: Some(Mac(mac)), state: 4, flags: 0, protocol: 0 };
        prop_assert_eq!(decoded(RouteNetlinkMessage::NewNeighbour(neighbor)), Message::NewNeighbor(expected));
        prop_assert!(expected.is_stale() && expected.usable_mac() == Some(Mac(mac)));

        let mut message = AddressMessage::default();
        message.header.family = family;
        message.header.index = ifindex;
        message.header.prefix_len = length;
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(address(v4, !bits))];
        let expected = Address { ifindex, address: ipnet::IpNet::new(ip, length).expect("length") };
        prop_assert_eq!(decoded(RouteNetlinkMessage::NewAddress(message)), Message::NewAddress(expected));
    }

    #[test]
    fn garbage_never_panics(kind in 0..120u16, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(kind, &body);
        for message in messages(&body) {
            let _ = message.map(|(kind, body)| parse(kind, body));
        }
    }

    #[test]
    fn a_damaged_message_never_panics(at: prop::sample::Index, value: u8, cut: prop::sample::Index, kind in prop::sample::select(vec![16u16, 20, 24, 28, 29, 104])) {
        let mut bytes = encoded(RouteNetlinkMessage::NewLink(LinkVxlan::new("vni100", 100).port(4789).build()));
        let mut more = encoded(RouteNetlinkMessage::NewRoute(
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix([10, 0, 0, 0].into(), 8).output_interface(3).build(),
        ));
        let mut flood = NeighbourMessage::default();
        flood.header.family = AddressFamily::Bridge;
        let destination = NeighbourAddress::Inet6(Ipv6Addr::LOCALHOST);
        flood.attributes =
            vec![NeighbourAttribute::LinkLayerAddress(vec![0; 6]), NeighbourAttribute::Destination(destination)];
        let mut flood = encoded(RouteNetlinkMessage::NewNeighbour(flood));
        for bytes in [&mut bytes, &mut more, &mut flood] {
            let index = at.index(bytes.len());
            bytes[index] = value;
            bytes.truncate(cut.index(bytes.len()) + 1);
            for message in messages(bytes) {
                let _ = message.map(|(original, body)| (parse(original, body), parse(kind, body)));
            }
        }
    }
}

#[test]
fn reads_the_devices_that_matter() {
    let link = |message| match decoded(RouteNetlinkMessage::NewLink(message)) {
        Message::NewLink(link) => *link,
        other => panic!("{other:?}"),
    };
    assert_eq!(link(LinkVrf::new("red", 1001).build()).kind, Kind::Vrf { table: 1001 });
    let bridge = link(LinkBridge::new("br-pe-100").address(vec![2, 0, 0, 0, 0, 1]).mtu(1450).up().build());
    assert_eq!((bridge.kind, bridge.mac, bridge.mtu), (Kind::Bridge, Some(Mac([2, 0, 0, 0, 0, 1])), 1450));
    assert!(bridge.up);
    let local = Ipv6Addr::LOCALHOST;
    let device = LinkVxlan::new("vni100", 100).port(4790).learning(false).local6(local).controller(7).build();
    let vxlan = link(device);
    let expected = Vxlan { vni: 100, local: Some(local.into()), port: 4790, learning: false };
    assert_eq!((vxlan.kind, vxlan.master), (Kind::Vxlan(expected), 7));
}

#[test]
fn leaves_out_what_is_not_forwarded() {
    let mut cloned =
        RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix([10, 0, 0, 1].into(), 32).build();
    cloned.header.flags = other::RouteFlags::Cloned;
    assert_eq!(decoded(RouteNetlinkMessage::NewRoute(cloned)), Message::Other);
    let from = RouteMessageBuilder::<Ipv4Addr>::new().source_prefix([10, 0, 0, 1].into(), 32).build();
    assert_eq!(decoded(RouteNetlinkMessage::NewRoute(from)), Message::Other);
    // A bridge's notice that a port left it comes as the deletion of a link.
    let mut notice = LinkBridge::new("tap").build();
    notice.header.interface_family = AddressFamily::Bridge;
    let message = NetlinkMessage::from(RouteNetlinkMessage::DelLink(notice));
    assert!(matches!(message.payload, NetlinkPayload::InnerMessage(_)));
    let NetlinkPayload::InnerMessage(notice) = message.payload else { return };
    assert_eq!(decoded(notice), Message::Other);
}

#[test]
fn names_what_is_wrong() {
    use crate::error::ParseError;
    assert!(matches!(parse(24, &[2, 24]), Err(ParseError::Truncated { need: 12, have: 2, .. })));
    let too_long = [2, 33, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0];
    assert!(matches!(parse(24, &too_long), Err(ParseError::PrefixLength { length: 33, .. })));
    let endless = [2, 24, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0];
    assert!(matches!(parse(24, &endless), Err(ParseError::Length { length: 0, have: 4, .. })));
    assert!(matches!(parse(104, &[0; 8]), Err(ParseError::Missing { what: "NHA_ID" })));
}

proptest! {
    #[test]
    fn reads_fdb_entries_as_an_independent_encoder_writes_them(v4: bool, bits: u128, ifindex: u32, bridge: u32, mac in prop::array::uniform6(any::<u8>()), state in prop::sample::select(vec![0x02u16, 0x40, 0x80]), flags in prop::sample::select(vec![0u8, 0x12, 0x52])) {
        let vtep = address(v4, bits);
        prop_assume!(!vtep.is_multicast() && vtep.to_canonical() == vtep);
        let entry = |attributes: Vec<NeighbourAttribute>| {
            let mut entry = NeighbourMessage::default();
            entry.header.family = AddressFamily::Bridge;
            entry.header.ifindex = ifindex;
            entry.header.state = state.into();
            entry.header.flags = NeighbourFlags::from_bits_retain(flags);
            entry.attributes = attributes;
            entry
        };
        let both = |entry: NeighbourMessage| {
            let new = decoded(RouteNetlinkMessage::NewNeighbour(entry.clone()));
            (new, decoded(RouteNetlinkMessage::DelNeighbour(entry)))
        };
        let lladdr = |mac: [u8; 6]| NeighbourAttribute::LinkLayerAddress(mac.to_vec());
        let destination = NeighbourAttribute::Destination(match vtep {
            IpAddr::V4(vtep) => NeighbourAddress::Inet(vtep),
            IpAddr::V6(vtep) => NeighbourAddress::Inet6(vtep),
        });

        let flood = FloodEntry { ifindex, vtep };
        let read = both(entry(vec![lladdr([0; 6]), destination.clone()]));
        prop_assert_eq!(read, (Message::NewFlood(flood), Message::DelFlood(flood)));

        prop_assume!(mac != [0; 6]);
        let remote = MacEntry { ifindex, mac: Mac(mac), vtep, sticky: flags == 0x52 };
        let read = both(entry(vec![lladdr(mac), destination]));
        // The kernel's own, of neither a control plane nor an operator.
        let heard = flags == 0 && state == 0x02;
        let new = if heard { Message::Other } else { Message::NewMac(remote) };
        prop_assert_eq!(read, (new, Message::DelMac(remote)));

        let of_bridge = vec![lladdr(mac), NeighbourAttribute::Controller(bridge)];
        let known = FdbEntry { bridge, port: ifindex, mac: Mac(mac), dynamic: state == 0x02 };
        prop_assert_eq!(both(entry(of_bridge.clone())), (Message::NewFdb(known), Message::DelFdb(known)));
        // The same once more for a VLAN says nothing new.
        let of_vlan = of_bridge.into_iter().chain([NeighbourAttribute::Vlan(1)]).collect();
        prop_assert_eq!(both(entry(of_vlan)), (Message::Other, Message::Other));
    }
}
