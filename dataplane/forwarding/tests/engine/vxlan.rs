//! VNIs, VTEPs and ports that come, change and go, and what is said about it.

use forwarding::{
    Attachment, Error, Flow, Outcome, Path, PortConfig, Reason, Verdict, Vni, VniConfig, VrfId, WeightedPath,
};

use crate::frames::{Ip, Outer, frame, vxlan};
use crate::lab::{Lab, OWN_V4, OWN_V6, PEER_V4, PEER_V6, ip, mac, set_route};

fn to_remote(lab: &mut Lab) -> (Verdict, Vec<u8>) {
    let bytes = frame(lab.ports[2].mac, mac(0x77), &Ip::new("10.1.0.9", "10.2.0.1"));
    lab.send(lab.ports[2].id, &bytes)
}

fn from_remote(lab: &mut Lab) -> Verdict {
    let outer = Outer {
        ip: Ip { ports: (50000, 4789), ..Ip::new(PEER_V4, OWN_V4) },
        vni: 100,
        flags: 8,
        inner_destination: lab.tenants[0].router_mac,
        inner_source: mac(0x21),
        inner_padding: 0,
    };
    let bytes = vxlan(lab.ports[0].mac, mac(0x77), &outer, &Ip::new("10.2.0.1", "10.1.0.9"));
    lab.send(lab.ports[0].id, &bytes).0
}

#[test]
fn a_vni_comes_and_goes_under_its_routes() {
    let mut lab = Lab::new();
    let vni = Vni::new(100).unwrap();
    let config = *lab.control.vnis().find(|(id, _)| *id == vni).unwrap().1;
    lab.control.vni_remove(vni).unwrap();
    assert_eq!(to_remote(&mut lab).0, Verdict::HandOver(Reason::UnresolvedVni));
    // The other VNI has another UDP port, so this is no VXLAN to us any more.
    assert_eq!(from_remote(&mut lab), Verdict::HandOver(Reason::Local));
    lab.control.vni_set(vni, VniConfig { router_mac: mac(0x2f), ..config }).unwrap();
    let (verdict, out) = to_remote(&mut lab);
    assert_eq!(verdict, Verdict::Transmit(lab.ports[1].id));
    assert_eq!(out[56..62], mac(0x2f).octets(), "the new router MAC is the inner source");
    assert_eq!(from_remote(&mut lab), Verdict::Drop(Reason::NotRouterMac));
    lab.tenants[0].router_mac = mac(0x2f);
    assert_eq!(from_remote(&mut lab), Verdict::Transmit(lab.ports[2].id));
    assert_eq!(lab.control.vni_remove(Vni::new(7).unwrap()), Err(Error::UnknownVni(Vni::new(7).unwrap())));
}

#[test]
fn packets_are_accepted_while_a_path_names_their_vtep() {
    let mut lab = Lab::new();
    assert_eq!(from_remote(&mut lab), Verdict::Transmit(lab.ports[2].id));
    for route in lab.routes.clone().iter().filter(|route| matches!(route.path, Path::Vxlan { .. })) {
        set_route(&mut lab.control, route.vrf, route.prefix, 0);
    }
    for group in 1..=u32::try_from(lab.routes.len()).unwrap() {
        lab.control.group_remove(group);
    }
    assert_eq!(from_remote(&mut lab), Verdict::Drop(Reason::UnknownVtep));
}

#[test]
fn the_underlay_route_may_come_later_and_go_first() {
    let mut lab = Lab::new();
    let vtep = "192.0.2.2/32".parse().unwrap();
    set_route(&mut lab.control, VrfId::DEFAULT, vtep, 0);
    assert_eq!(to_remote(&mut lab).0, Verdict::HandOver(Reason::UnresolvedVtep));
    // A default route does as well, and a connected subnet, in which the VTEP itself is the neighbour.
    set_route(&mut lab.control, VrfId::DEFAULT, "0.0.0.0/0".parse().unwrap(), 1);
    assert_eq!(to_remote(&mut lab).0, Verdict::Transmit(lab.ports[0].id));
    let connected = Path::Connected { port: lab.ports[1].id };
    lab.control.group_set(1000, &[WeightedPath { weight: 1, path: connected }]).unwrap();
    set_route(&mut lab.control, VrfId::DEFAULT, "192.0.2.0/30".parse().unwrap(), 1000);
    assert_eq!(to_remote(&mut lab).0, Verdict::HandOver(Reason::UnresolvedNeighbor));
    lab.control.neighbor_set(lab.ports[1].id, ip(PEER_V4), mac(0x44)).unwrap();
    let (verdict, out) = to_remote(&mut lab);
    assert_eq!(verdict, Verdict::Transmit(lab.ports[1].id));
    assert_eq!(out[..6], mac(0x44).octets());
}

#[test]
fn paths_over_a_removed_port_stay_dead() {
    let mut lab = Lab::new();
    let up1 = lab.ports[1].id;
    lab.control.port_remove(up1).unwrap();
    assert_eq!(to_remote(&mut lab).0, Verdict::HandOver(Reason::UnresolvedVtep));
    // Once to begin an epoch, once when the worker has passed it.
    lab.control.reclaim();
    lab.worker.quiescent();
    lab.control.reclaim();
    let config = PortConfig {
        name: "other".to_owned(),
        attachment: Attachment::Routed(VrfId::DEFAULT),
        mac: mac(0x61),
        mtu: 1500,
    };
    // Not soon, but in the end the number is used again.
    let mut others = 0;
    while lab.control.port_add(config.clone()) != Ok(up1) {
        let (other, _) = lab.control.ports().last().unwrap();
        lab.control.port_remove(other).unwrap();
        lab.control.reclaim();
        lab.worker.quiescent();
        others += 1;
        assert!(others < 1000, "it is lost");
    }
    assert!(others > 100, "after {others} others");
    lab.control.neighbor_set(up1, ip("203.0.113.5"), mac(0x42)).unwrap();
    assert_eq!(to_remote(&mut lab).0, Verdict::HandOver(Reason::UnresolvedVtep));
    let bytes = frame(lab.ports[0].mac, mac(0x77), &Ip::new("10.9.0.9", "10.101.0.1"));
    assert_eq!(lab.send(lab.ports[0].id, &bytes).0, Verdict::Drop(Reason::NoPort));
    assert_eq!(lab.control.port_counters(up1).unwrap(), forwarding::PortCounters::default());
}

#[test]
fn a_vrf_is_a_wall() {
    let mut lab = Lab::new();
    let red = lab.ports[2].id;
    // Known in the default VRF only.
    let bytes = frame(lab.ports[2].mac, mac(0x77), &Ip::new("10.1.0.9", "10.100.0.1"));
    assert_eq!(lab.send(red, &bytes).0, Verdict::Drop(Reason::NoRoute));
    let counters = lab.control.vrf_counters(lab.tenants[0].vrf).unwrap();
    assert_eq!((counters.packets, counters.no_route), (1, 1));
    assert_eq!(lab.control.vrf_counters(lab.tenants[1].vrf).unwrap().packets, 0);
    assert_eq!(lab.control.port_counters(red).unwrap().reason(Reason::NoRoute), 1);

    let vrf = lab.tenants[0].vrf;
    assert!(matches!(lab.control.vrf_remove(vrf), Err(Error::VrfInUse { .. })));
    lab.control.port_remove(red).unwrap();
    lab.control.vni_remove(Vni::new(100).unwrap()).unwrap();
    lab.control.vrf_remove(vrf).unwrap();
    assert_eq!(lab.control.route_counts(vrf), Err(Error::UnknownVrf(vrf)));
}

#[test]
fn an_explanation_is_what_the_worker_does() {
    let mut lab = Lab::new();
    let red = lab.tenants[0].vrf;
    let flow = |destination| Flow {
        destination: ip(destination),
        source: Some(ip("10.1.0.9")),
        protocol: 17,
        source_port: 1234,
        destination_port: 80,
    };
    let explanation = lab.control.explain(red, &flow("10.2.0.1")).unwrap();
    assert_eq!(explanation.prefix, Some("10.2.0.0/16".parse().unwrap()));
    assert_eq!(
        explanation.steps,
        [
            "VRF red: 10.2.0.0/16 -> 1 path",
            "vxlan: VNI 100 to VTEP 192.0.2.2, router MAC 02:00:00:00:00:21",
            "underlay: VTEP 192.0.2.2 -> 1 path",
            "adjacent: 203.0.113.5 by up1",
            "transmit by up1 with 64 bytes of headers",
        ]
    );
    let Outcome::Transmit { port, headers } = explanation.outcome else { panic!() };
    let packet = Ip { payload: 0, ..Ip::new("10.1.0.9", "10.2.0.1") };
    let (verdict, out) = lab.send(lab.ports[2].id, &frame(lab.ports[2].mac, mac(0x77), &packet));
    assert_eq!(verdict, Verdict::Transmit(port));
    assert_eq!(out[..64], headers);

    let missing = lab.control.explain(red, &flow("8.8.8.8")).unwrap();
    assert_eq!((missing.outcome, missing.prefix), (Outcome::Drop(Reason::NoRoute), None));
    let local = lab.control.explain(red, &flow("10.1.0.1")).unwrap();
    assert_eq!(local.outcome, Outcome::HandOver(Reason::Local));
    let v6 = Flow { source: None, ..flow("2001:db8:2::1") };
    let v6 = lab.control.explain(lab.tenants[1].vrf, &v6).unwrap();
    assert!(matches!(v6.outcome, Outcome::Transmit { headers, .. } if headers.len() == 84));
    assert_eq!(lab.control.explain(VrfId(99), &flow("8.8.8.8")), Err(Error::UnknownVrf(VrfId(99))));
}

#[test]
fn wrong_objects_are_refused() {
    let mut lab = Lab::new();
    let config = *lab.control.vnis().next().unwrap().1;
    let vni = Vni::new(300).unwrap();
    let control = &mut lab.control;
    assert_eq!(
        control.vni_set(vni, VniConfig { vtep: ip("192.0.2.9"), ..config }),
        Err(Error::NotOurVtep { vni, address: ip("192.0.2.9") })
    );
    assert_eq!(
        control.vni_set(vni, VniConfig { vrf: VrfId::DEFAULT, ..config }),
        Err(Error::VniInDefaultVrf(vni))
    );
    assert!(control.vtep_addresses_set(&[ip("192.0.2.1"), ip("192.0.2.2")]).is_err());
    for (vni, udp_port) in [(1000, 5000), (1001, 5001)] {
        control.vni_set(Vni::new(vni).unwrap(), VniConfig { udp_port, ..config }).unwrap();
    }
    assert_eq!(
        control.vni_set(vni, VniConfig { udp_port: 5002, ..config }),
        Err(Error::TooManyUdpPorts(5002))
    );
    assert_eq!(control.group_set(0, &[]), Err(Error::GroupZero));
    assert_eq!(control.group_set(5000, &[]), Err(Error::PathCount { id: 5000, paths: 0 }));
    let local = WeightedPath { weight: 1, path: Path::Local };
    assert_eq!(control.group_set(5000, &[local; 65]), Err(Error::PathCount { id: 5000, paths: 65 }));
    assert_eq!(control.route4(VrfId::DEFAULT, 0, 0, 5000), Err(Error::UnknownGroup(5000)));
    assert_eq!(control.route4(VrfId::DEFAULT, 0, 33, 1), Err(Error::PrefixLength { length: 33, max: 32 }));
    assert!(matches!(control.route4(VrfId::DEFAULT, 1, 24, 1), Err(Error::PrefixBits { .. })));
    let other_family = Path::Vxlan { vni: Vni::new(100).unwrap(), vtep: ip("2001:db8::1"), router_mac: None };
    let other_family = WeightedPath { weight: 1, path: other_family };
    assert!(matches!(control.group_set(5000, &[other_family]), Err(Error::VtepFamily { .. })));
}

/// A VNI answers at the VTEP address it was given, not at the node's other one.
#[test]
fn a_vni_has_one_address() {
    let mut lab = Lab::new();
    let config = *lab.control.vnis().next().unwrap().1;
    let v4_only = Vni::new(300).unwrap();
    lab.control.vni_set(v4_only, VniConfig { udp_port: 4790, ..config }).unwrap();
    let mut send = |source, destination| {
        let outer = Outer {
            ip: Ip { ports: (50000, 4790), ..Ip::new(source, destination) },
            vni: v4_only.get(),
            flags: 8,
            inner_destination: config.router_mac,
            inner_source: mac(0x21),
            inner_padding: 0,
        };
        let bytes = vxlan(lab.ports[0].mac, mac(0x77), &outer, &Ip::new("10.2.0.1", "10.1.0.9"));
        lab.send(lab.ports[0].id, &bytes).0
    };
    assert_eq!(send(PEER_V4, OWN_V4), Verdict::Drop(Reason::UnknownVtep), "no path names a VTEP in it");
    assert_eq!(send(PEER_V6, OWN_V6), Verdict::Drop(Reason::UnknownVni));
}
