//! What a worker remembers from burst to burst, against one that has just begun and remembers nothing: whatever changes in
//! between, both do the same with every frame.

use std::time::Duration;

use forwarding::fib::sample::Random;
use forwarding::{
    Attachment, BridgeConfig, BridgePort, Buffer, Control, Mac, Packet, Path, PortConfig, PortId, Reason,
    Verdict, Vni, VniConfig, VrfId, WeightedPath, Worker,
};
use proptest::prelude::*;

use crate::frames::{Ip, Outer, frame, vxlan};
use crate::lab::{Lab, OWN_V4, OWN_V6, ip, mac, set_route};

const VTEPS: [&str; 3] = ["192.0.2.2", "192.0.2.3", "2001:db8:ffff::2"];
const GATEWAYS: [&str; 3] = ["203.0.113.1", "203.0.113.5", "fe80::1"];
/// Groups of the lab's routes come first.
const UNDERLAY: u32 = 1000;
const OVERLAY: u32 = 1001;
const DOMAIN: u32 = 110;

#[derive(Clone, Debug)]
enum Change {
    Neighbor { port: usize, gateway: usize, mac: Option<u8> },
    Port { port: usize, mtu: u16, mac: u8 },
    Replaced { port: usize },
    Underlay(Vec<(usize, usize)>),
    Overlay { tenant: usize, vteps: Vec<(usize, u8)> },
    VtepRoute { vtep: usize, group: Option<u32> },
    Vni { tenant: usize, mac: u8, udp_port: u16 },
    NoVni { tenant: usize },
    Addresses { v4: bool, v6: bool },
    Mac { mac: u8, vtep: Option<usize> },
    Domain { mac: u8, routed: bool },
    Flood(Vec<usize>),
    Reclaim,
}

fn change() -> impl Strategy<Value = Change> {
    let small = || 0x60_u8..0x64;
    let mtu = prop::sample::select(vec![100_u16, 1400, 1500, 9000]);
    let places = prop::collection::vec((0..2_usize, 0..3_usize), 1..4);
    let vteps = prop::collection::vec((0..3_usize, small()), 1..3);
    prop_oneof![
        (0..4_usize, 0..3_usize, prop::option::of(small()))
            .prop_map(|(port, gateway, mac)| Change::Neighbor { port, gateway, mac }),
        (0..4_usize, mtu, small()).prop_map(|(port, mtu, mac)| Change::Port { port, mtu, mac }),
        (0..2_usize).prop_map(|port| Change::Replaced { port }),
        places.prop_map(Change::Underlay),
        (0..2_usize, vteps).prop_map(|(tenant, vteps)| Change::Overlay { tenant, vteps }),
        (0..3_usize, prop::option::of(prop::sample::select(vec![1_u32, 2, UNDERLAY])))
            .prop_map(|(vtep, group)| Change::VtepRoute { vtep, group }),
        (0..2_usize, small(), prop::sample::select(vec![4789_u16, 4790, 4791]))
            .prop_map(|(tenant, mac, udp_port)| Change::Vni { tenant, mac, udp_port }),
        (0..2_usize).prop_map(|tenant| Change::NoVni { tenant }),
        (any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| Change::Addresses { v4, v6 }),
        (0x71..0x74_u8, prop::option::of(0..2_usize)).prop_map(|(mac, vtep)| Change::Mac { mac, vtep }),
        (small(), any::<bool>()).prop_map(|(mac, routed)| Change::Domain { mac, routed }),
        prop::collection::vec(0..2_usize, 0..3).prop_map(Change::Flood),
        Just(Change::Reclaim),
    ]
}

struct Node {
    lab: Lab,
    host: PortId,
}

fn domain(red: Option<VrfId>, last: u8) -> BridgeConfig {
    BridgeConfig {
        vrf: red,
        vtep: ip(OWN_V4),
        udp_port: 0,
        mac: mac(last),
        gateways: vec!["10.9.0.1/24".parse().unwrap()],
        mtu: 1450,
        mac_limit: 64,
        aging: Duration::from_secs(300),
        learn_from_vteps: false,
    }
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

impl Node {
    fn new() -> Self {
        let mut lab = Lab::new();
        let red = lab.tenants[0].vrf;
        lab.control.bridge_set(vni(DOMAIN), domain(Some(red), 0x60)).unwrap();
        let attachment = Attachment::Bridged(BridgePort::new(vni(DOMAIN)));
        let config = PortConfig { name: "host".to_owned(), attachment, mac: mac(0x3f), mtu: 9000 };
        let host = lab.control.port_add(config).unwrap();
        let mut node = Self { lab, host };
        for change in [
            Change::Underlay(vec![(0, 0), (1, 1)]),
            Change::Overlay { tenant: 0, vteps: vec![(0, 0x61), (1, 0x62)] },
            Change::VtepRoute { vtep: 0, group: Some(UNDERLAY) },
            Change::VtepRoute { vtep: 1, group: Some(UNDERLAY) },
            Change::Mac { mac: 0x71, vtep: Some(0) },
            Change::Mac { mac: 0x72, vtep: Some(1) },
        ] {
            node.change(&change);
        }
        node
    }

    /// Changes may be refused; the tables are then as they were.
    fn change(&mut self, change: &Change) {
        let Lab { control, ports, tenants, .. } = &mut self.lab;
        let weighted = |path| WeightedPath { weight: 1, path };
        match change {
            Change::Neighbor { port, gateway, mac: Some(last) } => {
                let _ = control.neighbor_set(ports[*port].id, ip(GATEWAYS[*gateway]), mac(*last));
            }
            Change::Neighbor { port, gateway, mac: None } => {
                control.neighbor_remove(ports[*port].id, ip(GATEWAYS[*gateway]));
            }
            Change::Port { port, mtu, mac: last } => {
                let port = &ports[*port];
                let config =
                    PortConfig { mtu: *mtu, mac: mac(*last), ..control.port(port.id).unwrap().clone() };
                let _ = control.port_set(port.id, config);
            }
            Change::Replaced { port } => {
                let port = &mut ports[*port];
                let config = control.port(port.id).unwrap().clone();
                control.port_remove(port.id).unwrap();
                control.reclaim();
                port.id = control.port_add(config).unwrap();
            }
            Change::Underlay(places) => {
                let paths: Vec<_> = places
                    .iter()
                    .map(|&(port, gateway)| Path::Adjacent {
                        port: ports[port].id,
                        gateway: ip(GATEWAYS[gateway]),
                    })
                    .map(weighted)
                    .collect();
                let _ = control.group_set(UNDERLAY, &paths);
                set_route(control, VrfId::DEFAULT, "10.200.0.0/16".parse().unwrap(), UNDERLAY);
            }
            Change::Overlay { tenant, vteps } => {
                let tenant = &tenants[*tenant];
                let paths: Vec<_> = vteps
                    .iter()
                    .map(|&(vtep, last)| Path::Vxlan {
                        vni: vni(tenant.vni),
                        vtep: ip(VTEPS[vtep]),
                        router_mac: Some(mac(last)),
                    })
                    .map(weighted)
                    .collect();
                if control.group_set(OVERLAY, &paths).is_ok() {
                    set_route(control, tenant.vrf, "10.201.0.0/16".parse().unwrap(), OVERLAY);
                }
            }
            Change::VtepRoute { vtep, group } => {
                let address = ip(VTEPS[*vtep]);
                let bits = if address.is_ipv4() { 32 } else { 128 };
                // Group 0 deletes.
                let route = format!("{address}/{bits}").parse().unwrap();
                set_route(control, VrfId::DEFAULT, route, group.unwrap_or(0));
            }
            Change::Vni { tenant, mac: last, udp_port } => {
                let tenant = &tenants[*tenant];
                let config = VniConfig {
                    vrf: tenant.vrf,
                    vtep: tenant.own,
                    udp_port: *udp_port,
                    router_mac: mac(*last),
                };
                let _ = control.vni_set(vni(tenant.vni), config);
            }
            Change::NoVni { tenant } => {
                let _ = control.vni_remove(vni(tenants[*tenant].vni));
            }
            Change::Addresses { v4, v6 } => {
                let addresses = [v4.then(|| ip(OWN_V4)), v6.then(|| ip(OWN_V6))];
                let _ = control.vtep_addresses_set(&addresses.into_iter().flatten().collect::<Vec<_>>());
            }
            Change::Mac { mac: last, vtep: Some(vtep) } => {
                let _ = control.mac_set(vni(DOMAIN), mac(*last), ip(VTEPS[*vtep]), false);
            }
            Change::Mac { mac: last, vtep: None } => control.mac_remove(vni(DOMAIN), mac(*last)),
            Change::Domain { mac: last, routed } => {
                let red = routed.then_some(tenants[0].vrf);
                let _ = control.bridge_set(vni(DOMAIN), domain(red, *last));
            }
            Change::Flood(vteps) => {
                let list: Vec<_> = vteps.iter().map(|&vtep| ip(VTEPS[vtep])).collect();
                let _ = control.flood_set(vni(DOMAIN), &list);
            }
            Change::Reclaim => control.reclaim(),
        }
    }

    /// By port, what comes in by it: of every kind, and of enough flows to take several paths.
    fn traffic(&self) -> Vec<(PortId, Vec<Vec<u8>>)> {
        let Lab { control, ports, tenants, .. } = &self.lab;
        let mac_of = |port: PortId| control.port(port).unwrap().mac;
        let flow = |source: &str, destination: &str, port: u16, payload| Ip {
            ports: (40_000 + port, 80),
            payload,
            ..Ip::new(source, destination)
        };
        let sizes = [0, 0, 0, 0, 60, 1300, 1400, 1500];
        let flows = |source: &str, destination: &str| {
            (0..).zip(sizes).map(|(port, size)| flow(source, destination, port, size)).collect::<Vec<_>>()
        };
        let mut traffic = Vec::new();
        for port in ports {
            let to = |destination: &str| flows("10.1.0.9", destination);
            let mut packets = Vec::new();
            for destination in
                ["10.100.0.1", "10.101.0.1", "10.102.0.1", "10.200.0.1", "10.201.0.1", "10.2.0.1", "10.1.0.9"]
            {
                packets.extend(to(destination));
            }
            packets.extend(flows("2001:db8:1::9", "2001:db8:2::1"));
            packets.extend(flows("2001:db8:1::9", "2001:db8:100::1"));
            let mut frames: Vec<_> = packets.iter().map(|ip| frame(mac_of(port.id), mac(0x77), ip)).collect();
            if port.vrf == VrfId::DEFAULT {
                for (tenant, udp_port, vtep, last) in (0..2)
                    .flat_map(|tenant| [4789, 4790].map(|udp_port| (tenant, udp_port)))
                    .flat_map(|(tenant, udp_port)| VTEPS.map(|vtep| (tenant, udp_port, vtep)))
                    .flat_map(|(tenant, udp_port, vtep)| {
                        [0x20, 0x30, 0x61].map(|last| (tenant, udp_port, vtep, last))
                    })
                {
                    let tenant = &tenants[tenant];
                    let own = if ip(vtep).is_ipv4() { OWN_V4 } else { OWN_V6 };
                    let outer = |number, inner_destination: Mac| Outer {
                        ip: Ip { ports: (50_000, udp_port), payload: 0, ..Ip::new(vtep, own) },
                        vni: number,
                        flags: 8,
                        inner_destination,
                        inner_source: mac(0x66),
                        inner_padding: 0,
                    };
                    let inner = flow("10.1.0.77", "10.1.0.9", 1, 4);
                    let to_us = mac_of(port.id);
                    frames.push(vxlan(to_us, mac(0x77), &outer(tenant.vni, mac(last)), &inner));
                    let inner = flow("10.1.0.77", "10.201.0.9", 1, 4);
                    frames.push(vxlan(to_us, mac(0x77), &outer(DOMAIN, mac(last)), &inner));
                    frames.push(vxlan(to_us, mac(0x77), &outer(DOMAIN, mac(0x74)), &inner));
                }
            }
            traffic.push((port.id, frames));
        }
        let mut frames = Vec::new();
        for last in [0x60, 0x61, 0x71, 0x72, 0x73, 0x74] {
            frames.extend(flows("10.9.0.9", "10.201.0.1").iter().map(|ip| frame(mac(last), mac(0x74), ip)));
        }
        traffic.push((self.host, frames));
        traffic
    }
}

fn outcome(worker: &mut Worker, traffic: &[(PortId, Vec<Vec<u8>>)]) -> Vec<(Verdict, Vec<u8>)> {
    let mut outcome = Vec::new();
    for (port, frames) in traffic {
        let mut packets: Vec<_> = frames.iter().map(|frame| Buffer::new(frame)).collect();
        let mut verdicts = vec![Verdict::Drop(Reason::TxFull); packets.len()];
        worker.process(*port, &mut packets, &mut verdicts);
        worker.quiescent();
        outcome.extend(verdicts.into_iter().zip(packets.iter().map(|packet| packet.data().to_vec())));
    }
    outcome
}

fn learn_the_host(control: &mut Control, worker: &mut Worker, host: PortId) {
    let mut packets = [Buffer::new(&crate::bridge_lab::garp(mac(0x74), "10.9.0.9"))];
    worker.process(host, &mut packets, &mut [Verdict::Replicate]);
    worker.quiescent();
    control.upkeep(Duration::ZERO);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_as_good_as_none(changes in prop::collection::vec(change(), 1..25)) {
        let mut node = Node::new();
        let mut worker = node.lab.control.worker();
        // Not at work, so not to be waited for.
        node.lab.worker.offline();
        learn_the_host(&mut node.lab.control, &mut worker, node.host);
        for change in changes {
            node.change(&change);
            let traffic = node.traffic();
            let remembered = outcome(&mut worker, &traffic);
            let mut fresh = node.lab.control.worker();
            prop_assert_eq!(remembered, outcome(&mut fresh, &traffic), "after {:?}", change);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever else is in its burst, in whatever order: routed by known ways and by others, into tunnels and out of them,
    /// bridged, routed into domains and out of them.
    #[test]
    fn a_packet_of_a_burst_gets_what_it_gets_alone(
        changes in prop::collection::vec(change(), 0..10),
        order in any::<u64>(),
    ) {
        let mut node = Node::new();
        let mut worker = node.lab.control.worker();
        node.lab.worker.offline();
        learn_the_host(&mut node.lab.control, &mut worker, node.host);
        changes.iter().for_each(|change| node.change(change));
        for (port, mut frames) in node.traffic() {
            let mut random = Random::new(order);
            for at in (1..frames.len()).rev() {
                frames.swap(at, random.below(u32::try_from(at + 1).unwrap()) as usize);
            }
            let alone: Vec<_> =
                frames.iter().flat_map(|frame| outcome(&mut worker, &[(port, vec![frame.clone()])])).collect();
            prop_assert_eq!(outcome(&mut worker, &[(port, frames)]), alone);
        }
    }
}

/// The traffic above is worth something only if it gets through.
#[test]
fn most_kinds_of_traffic_are_forwarded_at_first() {
    let mut node = Node::new();
    let mut worker = node.lab.control.worker();
    learn_the_host(&mut node.lab.control, &mut worker, node.host);
    let forwarded = outcome(&mut worker, &node.traffic())
        .iter()
        .filter(|(verdict, _)| matches!(verdict, Verdict::Transmit(_)))
        .count();
    assert!(forwarded >= 140, "{forwarded}");
}
