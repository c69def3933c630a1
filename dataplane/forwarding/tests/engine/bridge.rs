//! Bridge domains: who gets what, with which headers.

use forwarding::{Reason, Verdict};

use crate::bridge_lab::{
    BROADCAST, BridgeLab, GATEWAY, ROUTED, UP, arp, garp, inside, tunnelled, vni, who_has,
};
use crate::frames::{Ip, ethernet, frame};
use crate::lab::{ip, mac};

const HOST_A: u8 = 0x51;
const HOST_B: u8 = 0x52;
const HOST_C: u8 = 0x53;
const REMOTE: u8 = 0x61;

fn packet(source: &str, destination: &str) -> Ip {
    Ip::new(source, destination)
}

#[test]
fn between_two_ports_a_frame_is_not_touched() {
    let mut lab = BridgeLab::with_hosts();
    let frame = frame(mac(HOST_B), mac(HOST_A), &packet("10.9.9.9", "127.0.0.1"));
    assert_eq!(lab.send(lab.a, &frame), (Verdict::Transmit(lab.b), vec![(Verdict::Transmit(lab.b), frame)]));
}

#[test]
fn a_frame_to_the_port_it_came_from_ends() {
    let mut lab = BridgeLab::with_hosts();
    lab.send_and_learn(lab.a, &garp(mac(0x54), "192.171.24.14"));
    let frame = frame(mac(HOST_A), mac(0x54), &packet("192.171.24.14", "192.171.24.11"));
    assert_eq!(lab.send(lab.a, &frame).0, Verdict::Drop(Reason::SamePort));
}

#[test]
fn into_a_tunnel_and_out_of_it() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, REMOTE, "192.0.2.2");
    let out = frame(mac(REMOTE), mac(HOST_A), &Ip { tos: 0xb9, ..packet("192.171.24.11", "192.171.24.99") });
    let (verdict, sent) = lab.send(lab.a, &out);
    assert_eq!(verdict, Verdict::Transmit(lab.up));
    assert_eq!(inside(&sent[0].1), (ip("192.0.2.2"), 0xb9, 110, out));

    let back = frame(mac(HOST_A), mac(REMOTE), &packet("192.171.24.99", "192.171.24.11"));
    let (verdict, sent) = lab.send(lab.up, &tunnelled("192.0.2.2", 110, 0, &back));
    assert_eq!((verdict, &sent[0].1), (Verdict::Transmit(lab.a), &back));
}

#[test]
fn ipv6_tunnels_of_a_plain_overlay() {
    let mut lab = BridgeLab::new();
    lab.send_and_learn(lab.d, &garp(mac(HOST_A), "10.0.0.1"));
    lab.remote(130, REMOTE, "2001:db8:ffff::2");
    let out = frame(mac(REMOTE), mac(HOST_A), &packet("2001:db8::1", "2001:db8::2"));
    let (_, sent) = lab.send(lab.d, &out);
    assert_eq!(inside(&sent[0].1), (ip("2001:db8:ffff::2"), 0, 130, out));
    let back = ethernet(mac(HOST_A), mac(REMOTE), 0x88b5, &[1; 50]);
    let (verdict, sent) = lab.send(lab.up, &tunnelled("2001:db8:ffff::2", 130, 0, &back));
    assert_eq!((verdict, &sent[0].1), (Verdict::Transmit(lab.d), &back));
}

/// RFC 6040 section 4.2: a mark of the underlay is carried on, and what cannot carry it is dropped.
#[test]
fn congestion_marks_survive_the_tunnel() {
    let mut lab = BridgeLab::with_hosts();
    for (source, destination) in [("192.171.24.99", "192.171.24.11"), ("2001:db8::1", "2001:db8::2")] {
        let inner = |tos| frame(mac(HOST_A), mac(REMOTE), &Ip { tos, ..packet(source, destination) });
        let mut through = |outer, tos| lab.send(lab.up, &tunnelled("192.0.2.2", 110, outer, &inner(tos)));
        assert_eq!(through(3, 0x2a).1[0].1, inner(0x2b));
        assert_eq!(through(1, 0x2a).1[0].1, inner(0x29));
        assert_eq!(through(0xfc, 0x2a).1[0].1, inner(0x2a));
        assert_eq!(through(3, 0x28).0, Verdict::Drop(Reason::EcnNotCapable));
    }
}

#[test]
fn unknown_and_group_frames_go_everywhere_once() {
    let mut lab = BridgeLab::with_hosts();
    let groups = [BROADCAST, forwarding::Mac::new([1, 0, 0x5e, 0, 0, 5]), mac(0x77)];
    for destination in groups {
        let out = frame(destination, mac(HOST_A), &packet("192.171.24.11", "192.171.24.255"));
        let (verdict, sent) = lab.send(lab.a, &out);
        assert_eq!(verdict, Verdict::Replicate);
        let mut vteps = Vec::new();
        for (verdict, bytes) in &sent {
            match verdict {
                Verdict::Transmit(port) if *port == lab.b => assert_eq!(bytes, &out),
                Verdict::Transmit(port) if *port == lab.up => {
                    let (vtep, _, number, frame) = inside(bytes);
                    assert_eq!((number, &frame), (110, &out));
                    vteps.push(vtep);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((sent.len(), vteps), (3, vec![ip("192.0.2.2"), ip("192.0.2.3")]));

        // Split horizon: what came through a tunnel goes into none.
        let (_, sent) = lab.send(lab.up, &tunnelled("192.0.2.3", 110, 0, &out));
        let mut ports: Vec<_> = sent.iter().map(|(verdict, _)| *verdict).collect();
        ports.sort_by_key(|verdict| format!("{verdict:?}"));
        assert_eq!(ports, [Verdict::Transmit(lab.a), Verdict::Transmit(lab.b)]);
        assert!(sent.iter().all(|(_, bytes)| bytes == &out));
    }
}

#[test]
fn from_one_vtep_to_another_is_not_our_business() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, REMOTE, "192.0.2.2");
    let inner = frame(mac(REMOTE), mac(0x62), &packet("192.171.24.98", "192.171.24.99"));
    let sent = lab.send(lab.up, &tunnelled("192.0.2.3", 110, 0, &inner));
    assert_eq!(sent.0, Verdict::Drop(Reason::SplitHorizon));
    // And of strangers nothing is taken.
    let sent = lab.send(lab.up, &tunnelled("192.0.2.9", 110, 0, &inner));
    assert_eq!(sent.0, Verdict::Drop(Reason::UnknownVtep));
    let sent = lab.send(lab.up, &tunnelled("192.0.2.3", 120, 0, &inner));
    assert_eq!(sent.0, Verdict::Drop(Reason::UnknownVtep));
}

/// The last byte that fits, and the first that does not.
#[test]
fn exact_mtu() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, REMOTE, "192.0.2.2");
    let sized = |destination, length: usize| {
        frame(
            destination,
            mac(HOST_A),
            &Ip { payload: length - 28, ..packet("192.171.24.11", "192.171.24.99") },
        )
    };
    let (verdict, sent) = lab.send(lab.a, &sized(mac(REMOTE), 1450));
    assert_eq!((verdict, sent[0].1.len()), (Verdict::Transmit(lab.up), 1514));
    let too_big = Verdict::Drop(Reason::BridgeTooBig);
    assert_eq!(lab.send(lab.a, &sized(mac(REMOTE), 1451)).0, too_big);
    assert_eq!(lab.send(lab.a, &sized(mac(HOST_B), 1450)).0, Verdict::Transmit(lab.b));
    assert_eq!(lab.send(lab.a, &sized(mac(HOST_B), 1451)).0, too_big);
    // Flooded copies that do not fit are left out and counted.
    assert_eq!(lab.send(lab.a, &sized(BROADCAST, 1451)), (Verdict::Replicate, vec![]));
    assert_eq!(lab.control.port_counters(lab.a).unwrap().reason(Reason::BridgeTooBig), 5);
}

#[test]
fn routed_between_two_domains_and_to_the_rest_of_the_vrf() {
    let mut lab = BridgeLab::with_hosts();
    let (svi110, svi120) = (lab.svi110, lab.svi120);
    lab.control.neighbor_set(svi120, ip("192.171.25.11"), mac(HOST_C)).unwrap();
    let out = packet("192.171.24.11", "192.171.25.11");
    let (verdict, sent) = lab.send(lab.a, &frame(GATEWAY, mac(HOST_A), &out));
    assert_eq!(verdict, Verdict::Transmit(lab.c));
    let gateway120 = forwarding::Mac::new([0, 0xf3, 0, 0, 0, 0x79]);
    assert_eq!(sent[0].1, frame(mac(HOST_C), gateway120, &Ip { ttl: 63, ..out }));

    // Into a tunnel of the other domain: the frame within is the router's.
    lab.control.neighbor_set(svi110, ip("192.171.24.99"), mac(REMOTE)).unwrap();
    lab.remote(110, REMOTE, "192.0.2.3");
    let out = packet("192.171.25.11", "192.171.24.99");
    let (_, sent) = lab.send(lab.c, &frame(gateway120, mac(HOST_C), &out));
    let expected = frame(mac(REMOTE), GATEWAY, &Ip { ttl: 63, ..out });
    assert_eq!(inside(&sent[0].1), (ip("192.0.2.3"), 0, 110, expected));

    // From a routed port, and from a tunnel of the domain itself.
    lab.control.neighbor_set(svi110, ip("192.171.24.11"), mac(HOST_A)).unwrap();
    let out = packet("10.1.1.1", "192.171.24.11");
    let (_, sent) = lab.send(lab.routed, &frame(ROUTED, mac(0x70), &out));
    assert_eq!(sent[0], (Verdict::Transmit(lab.a), frame(mac(HOST_A), GATEWAY, &Ip { ttl: 63, ..out })));
    let out = packet("192.171.24.99", "192.171.25.11");
    let (_, sent) = lab.send(lab.up, &tunnelled("192.0.2.3", 110, 0, &frame(GATEWAY, mac(REMOTE), &out)));
    assert_eq!(sent[0], (Verdict::Transmit(lab.c), frame(mac(HOST_C), gateway120, &Ip { ttl: 63, ..out })));
}

#[test]
fn what_the_router_cannot_finish_goes_to_the_kernel() {
    let mut lab = BridgeLab::with_hosts();
    let to = |destination| frame(GATEWAY, mac(HOST_A), &packet("192.171.24.11", destination));
    assert_eq!(lab.send(lab.a, &to("192.171.24.1")).0, Verdict::HandOver(Reason::Local));
    let unresolved = Verdict::HandOver(Reason::UnresolvedNeighbor);
    assert_eq!(lab.send(lab.a, &to("192.171.25.12")).0, unresolved);
    assert_eq!(lab.send(lab.a, &to("203.0.113.77")).0, Verdict::Drop(Reason::NoRoute));
    // A neighbour whose MAC is nowhere.
    lab.control.neighbor_set(lab.svi120, ip("192.171.25.13"), mac(0x7a)).unwrap();
    assert_eq!(lab.send(lab.a, &to("192.171.25.13")).0, Verdict::HandOver(Reason::UnresolvedMac));
    // In a plain overlay there is no router.
    let plain = forwarding::Mac::new([0, 0xf3, 0, 0, 0, 0x83]);
    let out = frame(plain, mac(HOST_A), &packet("192.171.24.11", "192.171.25.11"));
    assert_eq!(lab.send(lab.d, &out).0, Verdict::Drop(Reason::NotOurMac));
    let expiring = frame(GATEWAY, mac(HOST_A), &Ip { ttl: 1, ..packet("192.171.24.11", "192.171.25.12") });
    assert_eq!(lab.send(lab.a, &expiring).0, Verdict::HandOver(Reason::TtlExpired));
    let big = Ip { payload: 1423, ..packet("192.171.25.11", "192.171.24.12") };
    lab.control.neighbor_set(lab.svi110, ip("192.171.24.12"), mac(HOST_B)).unwrap();
    let out = frame(forwarding::Mac::new([0, 0xf3, 0, 0, 0, 0x79]), mac(HOST_C), &big);
    assert_eq!(lab.send(lab.c, &out).0, Verdict::HandOver(Reason::TooBig));
}

#[test]
fn requests_for_known_hosts_and_the_gateway_are_answered_here() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, REMOTE, "192.0.2.2");
    lab.control.neighbor_set(lab.svi110, ip("192.171.24.99"), mac(REMOTE)).unwrap();
    lab.control.neighbor_set(lab.svi110, ip("192.171.24.12"), mac(HOST_B)).unwrap();
    let me = (mac(HOST_A), "192.171.24.11");
    for (target, answer) in [("192.171.24.99", mac(REMOTE)), ("192.171.24.1", GATEWAY)] {
        let (verdict, sent) = lab.send(lab.a, &who_has(me.0, me.1, target));
        assert_eq!(verdict, Verdict::Transmit(lab.a));
        assert_eq!(sent[0].1, arp(me.0, answer, 2, (answer, target), me));
    }
    // A host here, and one that nobody knows: once to each place, and to the kernel.
    for target in ["192.171.24.12", "192.171.24.77"] {
        let (verdict, sent) = lab.send(lab.a, &who_has(me.0, me.1, target));
        assert_eq!((verdict, sent.len()), (Verdict::Replicate, 4));
        assert!(sent.iter().any(|(verdict, _)| *verdict == Verdict::HandOver(Reason::Arp)));
    }
    // Who asks one host whether it is still there, asks that host.
    let direct = arp(mac(REMOTE), me.0, 1, me, (forwarding::Mac::default(), "192.171.24.99"));
    assert_eq!(lab.send(lab.a, &direct).0, Verdict::Transmit(lab.up));
    // Requests from elsewhere are for the hosts here.
    let from = who_has(mac(REMOTE), "192.171.24.99", "192.171.24.11");
    assert_eq!(lab.send(lab.up, &tunnelled("192.0.2.2", 110, 0, &from)).0, Verdict::Replicate);
    assert_eq!(lab.control.bridge_counters(vni(110)).unwrap().suppressed, 2);
}

#[test]
fn what_no_host_may_send_ends_here() {
    let mut lab = BridgeLab::with_hosts();
    let group = forwarding::Mac::new([1, 0, 0x5e, 0, 0, 1]);
    let any = packet("192.171.24.11", "192.171.24.12");
    let cases = [
        (frame(mac(HOST_B), group, &any), Reason::BadSourceMac),
        (frame(mac(HOST_B), forwarding::Mac::default(), &any), Reason::BadSourceMac),
        (frame(mac(HOST_B), GATEWAY, &any), Reason::OwnSourceMac),
        (ethernet(mac(HOST_B), mac(HOST_A), 0x8100, &[0; 60]), Reason::BridgeVlan),
        (ethernet(mac(HOST_B), mac(HOST_A), 0x88a8, &[0; 60]), Reason::BridgeVlan),
        (
            ethernet(forwarding::Mac::new([1, 0x80, 0xc2, 0, 0, 0]), mac(HOST_A), 0x26, &[0x42; 60]),
            Reason::ReservedGroup,
        ),
        (garp(mac(HOST_A), "192.171.24.1"), Reason::GatewaySpoof),
        (vec![0; 13], Reason::Runt),
    ];
    for (frame, reason) in cases {
        assert_eq!(lab.send_and_learn(lab.a, &frame).0, Verdict::Drop(reason));
        assert_eq!(lab.control.port_counters(lab.a).unwrap().reason(reason), 1.max(lab_count(&lab, reason)));
    }
    assert!(lab.learned().is_empty());

    // Another node's router has the same MAC: its requests reach the hosts here.
    let from =
        arp(BROADCAST, GATEWAY, 1, (GATEWAY, "192.171.24.1"), (forwarding::Mac::default(), "192.171.24.11"));
    let (verdict, sent) = lab.send(lab.up, &tunnelled("192.0.2.2", 110, 0, &from));
    assert_eq!(verdict, Verdict::Replicate);
    assert!(sent.contains(&(Verdict::Transmit(lab.a), from)));
}

fn lab_count(lab: &BridgeLab, reason: Reason) -> u64 {
    lab.control.port_counters(lab.a).unwrap().reason(reason)
}

#[test]
fn a_port_floods_no_more_than_its_rate() {
    let mut lab = BridgeLab::with_hosts();
    let storm = frame(BROADCAST, mac(HOST_A), &packet("192.171.24.11", "192.171.24.255"));
    let flooded = (0..5000).filter(|_| lab.send(lab.a, &storm).0 == Verdict::Replicate).count();
    assert!((900..1100).contains(&flooded), "{flooded}");
    // Its own unicast, and others' floods, go on.
    let unicast = frame(mac(HOST_B), mac(HOST_A), &packet("192.171.24.11", "192.171.24.12"));
    assert_eq!(lab.send(lab.a, &unicast).0, Verdict::Transmit(lab.b));
    let other = frame(BROADCAST, mac(HOST_B), &packet("192.171.24.12", "192.171.24.255"));
    assert_eq!(lab.send(lab.b, &other).0, Verdict::Replicate);
    lab.worker.tick(std::time::Duration::from_secs(1));
    assert_eq!(lab.send(lab.a, &storm).0, Verdict::Replicate);
}

#[test]
fn a_changed_flood_list_is_in_force_at_once() {
    let mut lab = BridgeLab::with_hosts();
    let out = frame(BROADCAST, mac(HOST_A), &packet("192.171.24.11", "192.171.24.255"));
    lab.control.flood_set(vni(110), &[ip("192.0.2.7")]).unwrap();
    let (_, sent) = lab.send(lab.a, &out);
    let vteps: Vec<_> = sent.iter().filter(|(verdict, _)| *verdict == Verdict::Transmit(lab.up)).collect();
    assert_eq!(vteps.len(), 1);
    assert_eq!(inside(&vteps[0].1).0, ip("192.0.2.7"));
    let inner = frame(mac(HOST_A), mac(REMOTE), &packet("192.171.24.99", "192.171.24.11"));
    assert_eq!(
        lab.send(lab.up, &tunnelled("192.0.2.2", 110, 0, &inner)).0,
        Verdict::Drop(Reason::UnknownVtep)
    );
    lab.control.flood_set(vni(110), &[]).unwrap();
    assert_eq!(lab.send(lab.a, &out).1.len(), 1);
    assert!(lab.control.flood_set(vni(110), &[ip("2001:db8::9")]).is_err());
}

/// 64 flows of one port take many outer source ports, so that the fabric can spread them.
#[test]
fn flows_have_their_own_source_ports() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, REMOTE, "192.0.2.2");
    let mut ports = std::collections::BTreeSet::new();
    for flow in 0..64 {
        let out = Ip { ports: (1024 + flow, 80), ..packet("192.171.24.11", "192.171.24.99") };
        let (_, sent) = lab.send(lab.a, &frame(mac(REMOTE), mac(HOST_A), &out));
        ports.insert([sent[0].1[34], sent[0].1[35]]);
    }
    assert!(ports.len() > 50, "{}", ports.len());
}

#[test]
fn a_domain_comes_changes_and_goes_alone() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, REMOTE, "192.0.2.2");
    lab.remote(120, REMOTE, "192.0.2.2");
    let red = Some(lab.red);
    let busy = lab.control.bridge_remove(vni(110));
    assert!(busy.unwrap_err().to_string().contains("still has port a"));
    // Another gateway: hosts and remotes stay.
    let config = crate::bridge_lab::config(red, crate::bridge_lab::OWN, 0x6f, &["192.171.24.254/24"]);
    assert_eq!(lab.control.bridge_set(vni(110), config).unwrap(), lab.svi110);
    let me = (mac(HOST_A), "192.171.24.11");
    assert_eq!(lab.send(lab.a, &who_has(me.0, me.1, "192.171.24.254")).0, Verdict::Transmit(lab.a));
    assert_eq!(lab.send(lab.a, &who_has(me.0, me.1, "192.171.24.1")).0, Verdict::Replicate);
    assert_eq!(lab.control.macs(vni(110)).count(), 3);
    assert!(lab.learned().is_empty());

    let (a, b) = (lab.a, lab.b);
    lab.control.port_remove(a).unwrap();
    lab.control.port_remove(b).unwrap();
    lab.control.bridge_remove(vni(110)).unwrap();
    assert_eq!(lab.control.macs(vni(110)).count(), 0);
    assert_eq!(lab.control.macs(vni(120)).count(), 2);
    let inner = frame(mac(HOST_A), mac(REMOTE), &packet("192.171.24.99", "192.171.24.11"));
    assert_eq!(
        lab.send(lab.up, &tunnelled("192.0.2.2", 110, 0, &inner)).0,
        Verdict::Drop(Reason::UnknownVni)
    );
    let out = frame(mac(REMOTE), mac(HOST_C), &packet("192.171.25.11", "192.171.25.99"));
    assert_eq!(lab.send(lab.c, &out).0, Verdict::Transmit(lab.up));
    assert_eq!(lab.control.ports().filter(|(_, port)| port.mac == UP).count(), 1);
}
