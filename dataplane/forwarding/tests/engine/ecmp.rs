//! Several paths: how flows spread over them, and stay.

use std::collections::BTreeMap;

use forwarding::{Path, Reason, Verdict, Vni, VrfId, WeightedPath};

use crate::frames::{Ip, frame};
use crate::lab::{Lab, ip, mac, set_route};

const FLOWS: u16 = 4000;

/// How many of the flows leave by each next hop, and what each flow's frame was.
fn spread(lab: &mut Lab, port: usize, destination: &str) -> (BTreeMap<Vec<u8>, usize>, Vec<Vec<u8>>) {
    let (id, own) = (lab.ports[port].id, lab.ports[port].mac);
    let mut counts = BTreeMap::new();
    let mut frames = Vec::new();
    for flow in 0..FLOWS {
        let packet = Ip { ports: (1024 + flow, 443), ..Ip::new("10.1.0.9", destination) };
        let (verdict, out) = lab.send(id, &frame(own, mac(0x77), &packet));
        assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}");
        *counts.entry(out[..6].to_vec()).or_default() += 1;
        frames.push(out);
    }
    (counts, frames)
}

fn near(count: usize, share: f64) -> bool {
    let expected = f64::from(FLOWS) * share;
    (expected * 0.8..expected * 1.2).contains(&(count as f64))
}

/// The underlay's two ports as the paths to the VTEP.
fn two_spines(lab: &mut Lab, weights: [u32; 2]) {
    let adjacent =
        |port: usize, gateway: &str| Path::Adjacent { port: lab.ports[port].id, gateway: ip(gateway) };
    let paths = [adjacent(0, "203.0.113.1"), adjacent(1, "203.0.113.5")];
    let paths: Vec<_> =
        paths.into_iter().zip(weights).map(|(path, weight)| WeightedPath { weight, path }).collect();
    lab.control.group_set(1000, &paths).unwrap();
    set_route(&mut lab.control, VrfId::DEFAULT, "192.0.2.2/32".parse().unwrap(), 1000);
}

#[test]
fn flows_of_one_tunnel_spread_over_both_spines_and_stay() {
    let mut lab = Lab::new();
    two_spines(&mut lab, [1, 1]);
    let (counts, frames) = spread(&mut lab, 2, "10.2.0.1");
    assert_eq!(counts.len(), 2);
    assert!(counts.values().all(|&count| near(count, 0.5)), "{counts:?}");
    assert_eq!(spread(&mut lab, 2, "10.2.0.1").1, frames, "the same flows, the same ways");
    let mut source_ports: Vec<_> = frames.iter().map(|frame| frame[34..36].to_vec()).collect();
    source_ports.sort_unstable();
    source_ports.dedup();
    assert!(source_ports.len() > usize::from(FLOWS) / 2, "{} different source ports", source_ports.len());
}

#[test]
fn weights_are_kept() {
    let mut lab = Lab::new();
    two_spines(&mut lab, [3, 1]);
    let (counts, _) = spread(&mut lab, 2, "10.2.0.1");
    assert!(near(counts[&mac(0x41).octets().to_vec()], 0.75), "{counts:?}");
}

/// When a spine goes, its flows move and the others stay; the routes behind the VTEP are not touched.
#[test]
fn one_write_redirects_all_prefixes() {
    let mut lab = Lab::new();
    two_spines(&mut lab, [1, 1]);
    let before = spread(&mut lab, 2, "10.2.0.1").1;
    let routes = lab.control.routes(lab.tenants[0].vrf).unwrap().count();
    // The underlay group alone is restated.
    two_spines_left_with_one(&mut lab);
    let (counts, after) = spread(&mut lab, 2, "10.2.0.1");
    assert_eq!(counts.len(), 1);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before[..6] == mac(0x41).octets(), "a flow of the other spine moved");
    }
    assert_eq!(lab.control.routes(lab.tenants[0].vrf).unwrap().count(), routes);
}

fn two_spines_left_with_one(lab: &mut Lab) {
    let path = Path::Adjacent { port: lab.ports[1].id, gateway: ip("203.0.113.5") };
    lab.control.group_set(1000, &[WeightedPath { weight: 1, path }]).unwrap();
}

/// The flows that chose a VTEP must still use all of the underlay.
#[test]
fn overlay_and_underlay_choose_independently() {
    let mut lab = Lab::new();
    two_spines(&mut lab, [1, 1]);
    set_route(&mut lab.control, VrfId::DEFAULT, "192.0.2.7/32".parse().unwrap(), 1000);
    let vni = Vni::new(100).unwrap();
    let path = |vtep, last| WeightedPath {
        weight: 1,
        path: Path::Vxlan { vni, vtep: ip(vtep), router_mac: Some(mac(last)) },
    };
    lab.control.group_set(1001, &[path("192.0.2.2", 0x21), path("192.0.2.7", 0x27)]).unwrap();
    set_route(&mut lab.control, lab.tenants[0].vrf, "10.2.0.0/16".parse().unwrap(), 1001);
    let frames = spread(&mut lab, 2, "10.2.0.1").1;
    let mut counts: BTreeMap<(Vec<u8>, Vec<u8>), usize> = BTreeMap::new();
    for frame in frames {
        *counts.entry((frame[..6].to_vec(), frame[30..34].to_vec())).or_default() += 1;
    }
    assert_eq!(counts.len(), 4);
    assert!(counts.values().all(|&count| near(count, 0.25)), "{counts:?}");
}

/// A VTEP without an underlay route gets no flows while another has one, and its share when it comes back.
#[test]
fn flows_avoid_an_unreachable_vtep() {
    let mut lab = Lab::new();
    let vni = Vni::new(100).unwrap();
    let path = |vtep, last| WeightedPath {
        weight: 1,
        path: Path::Vxlan { vni, vtep: ip(vtep), router_mac: Some(mac(last)) },
    };
    let red = lab.tenants[0].vrf;
    lab.control.group_set(1001, &[path("192.0.2.2", 0x21), path("192.0.2.7", 0x27)]).unwrap();
    set_route(&mut lab.control, red, "10.2.0.0/16".parse().unwrap(), 1001);
    let vteps = |lab: &mut Lab| {
        let mut vteps: Vec<_> =
            spread(lab, 2, "10.2.0.1").1.iter().map(|frame| frame[30..34].to_vec()).collect();
        vteps.sort_unstable();
        vteps.dedup();
        vteps
    };
    assert_eq!(vteps(&mut lab), [[192, 0, 2, 2]]);
    lab.control
        .group_set(
            1002,
            &[WeightedPath {
                weight: 1,
                path: Path::Adjacent { port: lab.ports[0].id, gateway: ip("203.0.113.1") },
            }],
        )
        .unwrap();
    set_route(&mut lab.control, VrfId::DEFAULT, "192.0.2.0/24".parse().unwrap(), 1002);
    assert_eq!(vteps(&mut lab), [[192, 0, 2, 2], [192, 0, 2, 7]]);
    let problems = |lab: &Lab| {
        let routes = lab.control.routes(red).unwrap();
        let route = routes.into_iter().find(|route| route.prefix.to_string() == "10.2.0.0/16").unwrap();
        route.paths.iter().map(|path| path.problem).collect::<Vec<_>>()
    };
    assert_eq!(problems(&lab), [None, None]);
    set_route(&mut lab.control, VrfId::DEFAULT, "192.0.2.0/24".parse().unwrap(), 0);
    assert_eq!(problems(&lab), [None, Some(Reason::UnresolvedVtep)]);
    assert_eq!(vteps(&mut lab), [[192, 0, 2, 2]]);
}

/// A gateway whose MAC is not known (yet, or any more) gets no flows while another's is: they would all be handed over.
#[test]
fn flows_avoid_an_unresolved_gateway() {
    let mut lab = Lab::new();
    two_spines(&mut lab, [1, 1]);
    let (first, second) = (lab.ports[0].id, lab.ports[1].id);
    assert_eq!(spread(&mut lab, 2, "10.2.0.1").0.len(), 2);
    lab.control.neighbor_remove(first, ip("203.0.113.1"));
    assert_eq!(spread(&mut lab, 2, "10.2.0.1").0.keys().collect::<Vec<_>>(), [mac(0x42).octets().as_slice()]);
    lab.control.neighbor_set(first, ip("203.0.113.1"), mac(0x41)).unwrap();
    assert_eq!(spread(&mut lab, 2, "10.2.0.1").0.len(), 2);

    // With none left the kernel gets them, and finds the gateways.
    lab.control.neighbor_remove(first, ip("203.0.113.1"));
    lab.control.neighbor_remove(second, ip("203.0.113.5"));
    let frame = frame(lab.ports[2].mac, mac(0x77), &Ip::new("10.1.0.9", "10.2.0.1"));
    let red = lab.ports[2].id;
    assert_eq!(lab.send(red, &frame).0, Verdict::HandOver(Reason::UnresolvedNeighbor));
}
