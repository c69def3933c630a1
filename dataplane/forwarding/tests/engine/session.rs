//! Sessions: what is stated in them, in whatever order, and what is left when they end.

use std::net::{IpAddr, Ipv4Addr};

use forwarding::{
    Buffer, Control, Mac, Packet, Path, Reason, Route, Sweep, Swept, Verdict, VrfId, WeightedPath,
};
use ipnet::IpNet;
use proptest::prelude::*;

use crate::frames::{Ip, frame};
use crate::lab::{Lab, ip, mac, set_route};

/// Everything that can be listed.
fn listing(control: &Control) -> Vec<String> {
    let mut lines = Vec::new();
    for (vrf, name) in control.vrfs() {
        lines.extend(control.routes(vrf).unwrap().map(|route| format!("{name}: {route:?}")));
    }
    lines.extend(control.neighbors().map(|neighbor| format!("{neighbor:?}")));
    lines
}

#[test]
fn traffic_goes_on_through_a_new_session_and_the_sweep_takes_the_rest() {
    let mut lab = Lab::new();
    let stated = listing(&lab.control);
    let send = |lab: &mut Lab| {
        let bytes = frame(lab.ports[2].mac, mac(0x77), &Ip::new("10.1.0.9", "10.2.0.1"));
        lab.send(lab.ports[2].id, &bytes)
    };
    let before = send(&mut lab);
    assert_eq!(before.0, Verdict::Transmit(lab.ports[1].id));

    // Extra things of the old session, which the new one does not state.
    let extra: IpNet = "10.77.0.0/16".parse().unwrap();
    set_route(&mut lab.control, lab.tenants[0].vrf, extra, 1);
    lab.control.neighbor_set(lab.ports[2].id, ip("10.1.0.77"), mac(0x78)).unwrap();

    lab.control.session_begin();
    assert_eq!(send(&mut lab), before);
    assert!(lab.control.route4(VrfId::DEFAULT, 0, 0, 1).is_err(), "identifiers are the session's");
    lab.state();
    assert_eq!(send(&mut lab), before);
    assert_eq!(lab.control.session_sweep(), Swept { routes: 1, neighbors: 1, macs: 0 });
    assert_eq!(send(&mut lab), before);
    assert_eq!(listing(&lab.control), stated);
    assert_eq!(lab.control.session_sweep(), Swept::default());

    lab.control.session_begin();
    let swept = lab.control.session_sweep();
    assert_eq!(
        swept,
        Swept { routes: lab.routes.len() as u64, neighbors: lab.neighbors.len() as u64, macs: 0 }
    );
    assert_eq!(send(&mut lab).0, Verdict::Drop(Reason::NoRoute));
    assert!(listing(&lab.control).is_empty());
}

#[test]
fn a_removed_group_serves_its_routes_and_its_identifier_is_free() {
    let mut lab = Lab::new();
    let up0 = lab.ports[0].id;
    let path =
        |gateway| [WeightedPath { weight: 1, path: Path::Adjacent { port: up0, gateway: ip(gateway) } }];
    lab.control.group_set(500, &path("203.0.113.1")).unwrap();
    set_route(&mut lab.control, VrfId::DEFAULT, "10.55.0.0/16".parse().unwrap(), 500);
    lab.control.group_remove(500);
    let bytes = frame(lab.ports[0].mac, mac(0x77), &Ip::new("10.9.0.9", "10.55.0.1"));
    assert_eq!(lab.send(up0, &bytes).0, Verdict::Transmit(up0));
    lab.control.group_set(500, &[WeightedPath { weight: 1, path: Path::Drop }]).unwrap();
    assert_eq!(lab.send(up0, &bytes).0, Verdict::Transmit(up0), "another group of the same name");
    set_route(&mut lab.control, VrfId::DEFAULT, "10.55.0.0/16".parse().unwrap(), 500);
    assert_eq!(lab.send(up0, &bytes).0, Verdict::Drop(Reason::Blackhole));
    lab.control.group_set(500, &path("203.0.113.1")).unwrap();
    assert_eq!(lab.send(up0, &bytes).0, Verdict::Transmit(up0), "restated, its routes follow");
}

/// Routes of both families to some places, with groups of which some do not exist.
fn statements() -> impl Strategy<Value = Vec<(u32, bool, u32, u32, u32)>> {
    let statement = (
        0..4_u32,
        any::<bool>(),
        prop::sample::select(vec![0, 0x0a02_0000, 0xc000_0202, 0x0a02_0100]),
        0..34_u32,
    );
    prop::collection::vec(
        // The lab has 24.
        (statement, prop_oneof![5 => 0..6_u32, 1 => 24..27_u32])
            .prop_map(|((vrf, v6, address, length), group)| (vrf, v6, address, length, group)),
        0..60,
    )
}

proptest! {
    /// Routes stated together are what they are when stated one by one, refusals too, and hold on to the same groups.
    #[test]
    fn routes_stated_together_are_as_those_stated_one_by_one(batches in prop::collection::vec(statements(), 1..6)) {
        let (mut one, mut many) = (Lab::new(), Lab::new());
        for batch in &batches {
            let wide = |address: u32| u128::from(address) << 96;
            let mut refused = Vec::new();
            for &(vrf, v6, address, length, group) in batch {
                let vrf = VrfId(vrf);
                let result = match v6 {
                    true => one.control.route6(vrf, wide(address), length, group),
                    false => one.control.route4(vrf, address, length, group),
                };
                refused.extend(result.err().map(|error| (v6, error.to_string())));
            }
            let of = |v6: bool| batch.iter().filter(move |statement| statement.1 == v6);
            let mut together = Vec::new();
            let routes = of(false).map(|&(vrf, _, address, length, group)| Route { vrf: VrfId(vrf), address, length, group });
            many.control.routes4(routes, |_, error| together.push((false, error.to_string())));
            let routes = of(true)
                .map(|&(vrf, _, address, length, group)| Route { vrf: VrfId(vrf), address: wide(address), length, group });
            many.control.routes6(routes, |_, error| together.push((true, error.to_string())));
            refused.sort();
            together.sort();
            prop_assert_eq!(refused, together);
            prop_assert_eq!(listing(&one.control), listing(&many.control));
            let bytes = frame(one.ports[2].mac, mac(0x77), &Ip::new("10.1.0.9", "10.2.0.1"));
            let red0 = one.ports[2].id;
            prop_assert_eq!(one.send(red0, &bytes), many.send(red0, &bytes));
        }
        for lab in [&mut one, &mut many] {
            lab.control.session_begin();
        }
        prop_assert_eq!(one.control.session_sweep(), many.control.session_sweep());
        prop_assert!(listing(&many.control).is_empty());
    }
}

#[test]
fn a_sweep_in_parts_takes_what_is_stale_and_spares_what_is_stated_meanwhile() {
    let mut lab = Lab::new();
    let vrf = lab.tenants[0].vrf;
    let old = |group| {
        (0..20_000_u32).map(move |i| Route { vrf, address: 0x1400_0000 + (i << 8), length: 24, group })
    };
    let nobody = |_: Route<u32>, error: forwarding::Error| panic!("{error}");
    lab.control.routes4(old(1), nobody);
    lab.control.routes6(
        (0..20_000_u128).map(|i| Route { vrf, address: 0x2001 << 112 | i << 80, length: 48, group: 1 }),
        |_, error| panic!("{error}"),
    );
    lab.control.session_begin();
    lab.state();
    // Half of them before, and later, when the first are gone already, all of the upper half.
    lab.control.routes4(old(1).step_by(2), nobody);
    let kept = lab.control.route_counts(vrf).unwrap();
    let mut sweep = Sweep::default();
    let mut parts = 0;
    let swept = loop {
        if let Some(swept) = lab.control.session_sweep_part(&mut sweep) {
            break swept;
        }
        parts += 1;
        if parts == 4 {
            lab.control.routes4(old(1).skip(19_000), nobody);
        }
    };
    assert!(parts > 4, "{parts} parts");
    assert_eq!(
        kept.0 - lab.control.route_counts(vrf).unwrap().0,
        usize::try_from(swept.routes).unwrap() - 20_000
    );
    let (v4, v6) = lab.control.route_counts(vrf).unwrap();
    assert!((10_500..11_000).contains(&v4), "{v4}");
    assert!(v6 < 100, "{v6}");
}

#[test]
fn neighbors_and_macs_are_swept_in_parts_too_whatever_happens_in_between() {
    let mut lab = crate::bridge_lab::BridgeLab::new();
    let (control, up, vni) = (&mut lab.control, lab.up, crate::bridge_lab::vni(110));
    let address = |i: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a40_0000 + i));
    let host = |i: u32| {
        let [_, _, high, low] = i.to_be_bytes();
        Mac::new([2, 7, 0, 0, high, low])
    };
    let before = (control.neighbors().count(), control.macs(vni).count());
    let state = |control: &mut Control, all: std::iter::StepBy<std::ops::Range<u32>>| {
        for i in all {
            control.neighbor_set(up, address(i), host(i)).unwrap();
            control.mac_set(vni, host(i), ip("192.0.2.2"), false).unwrap();
        }
    };
    state(control, (0..5000).step_by(1));
    let gone = control.vrf_add("gone").unwrap();
    control.session_begin();
    state(control, (0..5000).step_by(5));
    let mut sweep = Sweep::default();
    let (mut parts, mut gone) = (0, Some(gone));
    let swept = loop {
        parts += 1;
        if let Some(swept) = control.session_sweep_part(&mut sweep) {
            break swept;
        }
        if let Some(gone) = gone.take() {
            control.vrf_remove(gone).unwrap();
        }
    };
    assert!(parts > 10, "{parts} parts");
    assert!((4000..=4000 + before.0 as u64).contains(&swept.neighbors), "{swept:?}");
    assert!((4000..=4000 + before.1 as u64).contains(&swept.macs), "{swept:?}");
    let wanted = (0..5000).step_by(5).count();
    assert!((wanted..=wanted + before.0).contains(&control.neighbors().count()));
    assert!((wanted..=wanted + before.1).contains(&control.macs(vni).count()));
}

/// One statement of a client.
#[derive(Clone, Debug)]
enum Op {
    Group(u32, usize),
    Ungroup(u32),
    Route(usize, u32),
    Neighbor(usize, bool),
    Vni(bool),
    Quiescent,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        (50..56_u32, 0..8_usize).prop_map(|(id, kind)| Op::Group(id, kind)),
        (50..56_u32).prop_map(Op::Ungroup),
        (0..6_usize, 50..56_u32).prop_map(|(route, id)| Op::Route(route, id)),
        (0..4_usize, any::<bool>()).prop_map(|(neighbor, there)| Op::Neighbor(neighbor, there)),
        any::<bool>().prop_map(Op::Vni),
        Just(Op::Quiescent),
    ]
}

fn apply(lab: &mut Lab, op: &Op) {
    let (up0, up1, red0) = (lab.ports[0].id, lab.ports[1].id, lab.ports[2].id);
    let vni = forwarding::Vni::new(100).unwrap();
    let red = lab.tenants[0].vrf;
    let adjacent = |port, gateway: &str| Path::Adjacent { port, gateway: ip(gateway) };
    let vxlan = |vtep: &str, last| Path::Vxlan { vni, vtep: ip(vtep), router_mac: Some(mac(last)) };
    let kinds = [
        vec![adjacent(up0, "203.0.113.1")],
        vec![adjacent(up0, "203.0.113.1"), adjacent(up1, "203.0.113.5")],
        vec![vxlan("192.0.2.2", 0x21)],
        vec![vxlan("192.0.2.2", 0x21), vxlan("192.0.2.3", 0x25)],
        vec![vxlan("192.0.2.3", 0x25), Path::Drop],
        vec![Path::Connected { port: red0 }],
        vec![Path::Local],
        vec![adjacent(up1, "203.0.113.5"), vxlan("192.0.2.3", 0x26), Path::Connected { port: up0 }],
    ];
    let routes = [
        (VrfId::DEFAULT, "192.0.2.2/32"),
        (VrfId::DEFAULT, "192.0.2.3/32"),
        (VrfId::DEFAULT, "192.0.2.0/24"),
        (red, "10.2.0.0/16"),
        (red, "10.2.1.0/24"),
        (red, "0.0.0.0/0"),
    ];
    let neighbors = [
        (up0, "203.0.113.1", 0x41),
        (up1, "203.0.113.5", 0x42),
        (red0, "10.2.0.1", 0x43),
        (up0, "192.0.2.3", 0x44),
    ];
    let control = &mut lab.control;
    match *op {
        Op::Group(id, kind) => {
            let paths: Vec<_> = kinds[kind].iter().map(|&path| WeightedPath { weight: 1, path }).collect();
            control.group_set(id, &paths).unwrap();
        }
        Op::Ungroup(id) => control.group_remove(id),
        Op::Route(route, id) => {
            let (vrf, prefix) = routes[route];
            let prefix: IpNet = prefix.parse().unwrap();
            let IpAddr::V4(address) = prefix.network() else { panic!() };
            // Refused when there is no such group; then the route stays as it was.
            let _ = control.route4(vrf, address.to_bits(), prefix.prefix_len().into(), id);
        }
        Op::Neighbor(neighbor, there) => {
            let (port, address, last) = neighbors[neighbor];
            if there {
                control.neighbor_set(port, ip(address), mac(last)).unwrap();
            } else {
                control.neighbor_remove(port, ip(address));
            }
        }
        Op::Vni(there) => {
            if there {
                let config = forwarding::VniConfig {
                    vrf: red,
                    vtep: lab.tenants[0].own,
                    udp_port: 4789,
                    router_mac: lab.tenants[0].router_mac,
                };
                control.vni_set(vni, config).unwrap();
            } else {
                let _ = control.vni_remove(vni);
            }
        }
        Op::Quiescent => {
            lab.worker.quiescent();
            control.reclaim();
        }
    }
}

/// What becomes of many flows.
fn probe(lab: &mut Lab) -> Vec<(Verdict, Vec<u8>)> {
    let mut results = Vec::new();
    for flow in 0..64_u16 {
        for destination in ["10.2.0.1", "10.2.1.1", "10.7.0.1"] {
            let packet = Ip { ports: (1000 + flow * 7, 80), ..Ip::new("10.1.0.9", destination) };
            let bytes = frame(lab.ports[2].mac, mac(0x77), &packet);
            let mut packets = [Buffer::new(&bytes)];
            let mut verdicts = [Verdict::Drop(Reason::TxFull)];
            lab.worker.process(lab.ports[2].id, &mut packets, &mut verdicts);
            results.push((verdicts[0], packets[0].data().to_vec()));
        }
    }
    results
}

/// The final statements of a history, each in a sensible order: what a client that starts now would state.
fn final_state(ops: &[Op]) -> Vec<Op> {
    let mut groups = std::collections::BTreeMap::new();
    let mut neighbors = std::collections::BTreeMap::new();
    let mut vni = true;
    for op in ops {
        match *op {
            Op::Group(id, kind) => drop(groups.insert(id, kind)),
            Op::Neighbor(neighbor, there) => drop(neighbors.insert(neighbor, there)),
            Op::Vni(there) => vni = there,
            _ => {}
        }
    }
    let groups = groups.into_iter().map(|(id, kind)| Op::Group(id, kind));
    let neighbors = neighbors.into_iter().map(|(neighbor, there)| Op::Neighbor(neighbor, there));
    std::iter::once(Op::Vni(vni)).chain(neighbors).chain(groups).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happened before, stating the same end leads to the same tables and the same packets, in the same process
    /// as in a new one.
    #[test]
    fn every_history_converges(history in prop::collection::vec(ops(), 0..60), routes in prop::collection::vec(50..56_u32, 6)) {
        // Only sticky flows may tell a history: which bucket a path has. So compare groups of one usable path by packets,
        // all others by what is listed.
        let mut end = final_state(&history);
        for id in 50..56 {
            if !end.iter().any(|op| matches!(op, Op::Group(group, _) if *group == id)) {
                end.push(Op::Group(id, 0));
            }
        }
        end.extend(routes.iter().enumerate().map(|(route, &id)| Op::Route(route, id)));

        let mut old = Lab::new();
        history.iter().for_each(|op| apply(&mut old, op));
        end.iter().for_each(|op| apply(&mut old, op));
        let mut new = Lab::new();
        end.iter().for_each(|op| apply(&mut new, op));
        prop_assert_eq!(listing(&old.control), listing(&new.control));

        let kinds = |probe: Vec<(Verdict, Vec<u8>)>| {
            let mut kinds: Vec<_> = probe.into_iter().map(|(verdict, _)| format!("{verdict:?}")).collect();
            kinds.sort();
            kinds.dedup();
            kinds
        };
        prop_assert_eq!(kinds(probe(&mut old)), kinds(probe(&mut new)));

        // A session without anything leaves nothing.
        old.control.session_begin();
        old.control.session_sweep();
        prop_assert!(listing(&old.control).is_empty());
    }
}
