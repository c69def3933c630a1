use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::netlink::{BridgePort, Kind, Link, Mac, Vxlan};
use crate::topology::{L2Vni, L3Vni, Port, Topology};

/// A kernel that does what it is told, and refuses what the real one refuses.
#[derive(Clone, Debug, Default)]
struct Model {
    current: Current,
    next: u32,
}

impl Model {
    fn with_loopback() -> Self {
        let mut model = Self::default();
        model.add("lo", Kind::Other(String::new()));
        model
    }

    fn add(&mut self, name: &str, kind: Kind) -> &mut Link {
        self.next += 1;
        let link = Link {
            index: self.next,
            name: name.into(),
            up: false,
            master: 0,
            mac: None,
            mtu: 1500,
            alias: String::new(),
            kind,
            generates_address: true,
            bridge_port: None,
        };
        assert!(self.current.links.insert(name.into(), link).is_none(), "{name} exists already");
        self.current.links.get_mut(name).expect("just added")
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::CreateVrf { name, table } => {
                let taken = self.current.links.values().any(|link| link.kind == Kind::Vrf { table });
                assert!(!taken, "table {table} is another VRF's");
                self.add(&name, Kind::Vrf { table });
            }
            Action::CreateBridge { name, mac } => self.add(&name, Kind::Bridge).mac = Some(mac),
            Action::CreateVxlan { name, vni, local, port, learning } => {
                self.add(&name, Kind::Vxlan(Vxlan { vni, local: Some(local), port, learning }));
            }
            Action::Delete { name, index } => {
                let link = self.current.links.remove(&name).expect("it exists");
                assert_eq!(link.index, index);
                self.current.addresses.remove(&index);
                for link in self.current.links.values_mut().filter(|link| link.master == index) {
                    link.master = 0;
                    link.bridge_port = None;
                }
            }
            Action::Set { name, index, change } => {
                let masters: Vec<(u32, Kind)> =
                    self.current.links.values().map(|link| (link.index, link.kind.clone())).collect();
                let link = self.current.links.get_mut(&name).expect("it exists");
                assert_eq!(link.index, index);
                let before = link.clone();
                match change {
                    Change::Up => link.up = true,
                    Change::Mtu(mtu) => link.mtu = mtu,
                    Change::Mac(mac) => link.mac = Some(mac),
                    Change::NoLinkLocal => link.generates_address = false,
                    Change::Alias(alias) => link.alias = alias.into(),
                    Change::BridgePort(port) => {
                        assert!(link.bridge_port.is_some(), "{name} is no bridge port");
                        link.bridge_port = Some(port);
                    }
                    Change::Master(master) => {
                        link.master = master;
                        let kind = masters.iter().find(|(index, _)| *index == master).map(|(_, kind)| kind);
                        assert!(master == 0 || kind.is_some(), "no such master");
                        let port = BridgePort::default();
                        link.bridge_port = (kind == Some(&Kind::Bridge)).then_some(port);
                        // A change of VRF takes IPv6 addresses away.
                        if let Some(addresses) = self.current.addresses.get_mut(&index) {
                            addresses.retain(|address| address.addr().is_ipv4());
                        }
                    }
                }
                assert_ne!(*link, before, "a setter that changes nothing was sent");
            }
            Action::AddAddress { index, address, .. } => {
                assert!(
                    self.current.addresses.entry(index).or_default().insert(address),
                    "{address} is there"
                );
            }
            Action::RemoveAddress { index, address, .. } => {
                assert!(self.current.addresses.get_mut(&index).is_some_and(|all| all.remove(&address)));
            }
        }
    }

    /// As [`Shadow::reconcile`] does, with the kernel taken out.
    fn reconcile(&mut self, topology: &Topology, former: &BTreeSet<IpAddr>) -> usize {
        for pass in 0..8 {
            let actions = plan(topology, &self.current, former, true);
            if actions.is_empty() {
                return pass;
            }
            actions.into_iter().for_each(|action| self.carry_out(action));
        }
        panic!("it never ends: {:?}", plan(topology, &self.current, former, true));
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("CIDR")
}

fn nets(texts: BTreeSet<&str>) -> Vec<IpNet> {
    texts.into_iter().map(net).collect()
}

const QUIET: BridgePort = BridgePort {
    learning: false,
    neigh_suppress: false,
    flood: false,
    mcast_flood: false,
    bcast_flood: false,
};

fn topology() -> impl Strategy<Value = Topology> {
    let vrfs = prop::collection::btree_map(prop::sample::select(vec!["red", "blue", "green"]), 1..5u32, 0..4);
    let vni = (prop::sample::select(vec!["red", "blue", "missing"]), 1..3u8, 1..4u8, 0..2u32);
    let vnis = prop::collection::btree_map(100..104u32, vni, 0..4);
    let addresses = prop::collection::btree_set(
        prop::sample::select(vec!["10.1.0.1/24", "fd00::1/64", "10.2.0.1/24"]),
        0..3,
    );
    let bridge = prop::option::of(110..114u32);
    let port = (prop::sample::select(vec!["", "red", "blue", "missing"]), 0..3u32, addresses.clone(), bridge);
    let ports = prop::collection::btree_map(prop::sample::select(vec!["p0", "p1", "p2"]), port, 0..4);
    let l2vni = (prop::sample::select(vec!["", "red", "missing"]), 1..3u8, 1..4u8, 0..2u32, addresses);
    let l2vnis = prop::collection::btree_map(110..113u32, l2vni, 0..4);
    let vteps = prop::collection::btree_set(1..4u8, 0..3);
    (vrfs, vnis, l2vnis, ports, vteps).prop_map(|(vrfs, vnis, l2vnis, ports, vteps)| Topology {
        instance: 1,
        vrfs: vrfs.into_iter().map(|(name, id)| (name.to_owned(), id)).collect(),
        vnis: vnis
            .into_iter()
            .map(|(vni, (vrf, vtep, mac, mtu))| {
                let vtep = IpAddr::from([10, 0, 0, vtep]);
                let router_mac = Mac([2, 0, 0, 0, 0, mac]);
                (vni, L3Vni { vrf: vrf.into(), vtep, port: 4789, router_mac, mtu: mtu * 1450 })
            })
            .collect(),
        l2vnis: l2vnis
            .into_iter()
            .map(|(vni, (vrf, vtep, mac, mtu, gateways))| {
                let vtep = IpAddr::from([10, 0, 0, vtep]);
                let gateways = if vrf.is_empty() { Vec::new() } else { nets(gateways) };
                let (vrf, mac, mtu) = (vrf.into(), Mac([2, 0, 0, 0, 1, mac]), mtu * 1450);
                // Some of both kinds.
                let learns_from_vteps = vni % 2 == 1;
                (vni, L2Vni { id: vni, vrf, vtep, port: 4789, mac, gateways, mtu, learns_from_vteps })
            })
            .collect(),
        ports: ports
            .into_iter()
            .zip(1..)
            .map(|((name, (vrf, mtu, addresses, l2vni)), id)| {
                let addresses = if l2vni.is_some() { Vec::new() } else { nets(addresses) };
                let vrf = if l2vni.is_some() { String::new() } else { vrf.into() };
                (name.to_owned(), Port { id, vrf, l2vni, mtu: mtu * 1400, addresses })
            })
            .collect(),
        vteps: vteps.into_iter().map(|last| IpAddr::from([10, 0, 0, last])).collect(),
    })
}

proptest! {
    #[test]
    fn from_any_state_to_any_other_in_a_few_passes_and_then_nothing(steps in prop::collection::vec(topology(), 1..5)) {
        let mut model = Model::with_loopback();
        // The dataplane's TAPs, and a device that is none of ours.
        for name in ["p0", "p1"] {
            model.add(name, Kind::Other("tun".into()));
        }
        model.add("foreign", Kind::Vrf { table: 1001 });
        let foreign = model.current.links["foreign"].clone();
        let mut former = BTreeSet::new();
        for topology in steps {
            model.reconcile(&topology, &former);
            former.extend(topology.vteps.iter().copied());
            prop_assert_eq!(&model.current.links["foreign"], &foreign);
            prop_assert_eq!(model.reconcile(&topology, &former), 0, "the same topology again changes nothing");

            let links = &model.current.links;
            for name in topology.vrfs.keys() {
                let is_vrf = matches!(links[name].kind, Kind::Vrf { .. });
                prop_assert!(is_vrf && links[name].up);
            }
            for (vni, settings) in topology.vnis.iter().filter(|(_, vni)| topology.vrfs.contains_key(&vni.vrf)) {
                let (bridge, vxlan) = (&links[&Topology::bridge_name(*vni)], &links[&Topology::vxlan_name(*vni)]);
                prop_assert_eq!(bridge.master, links[&settings.vrf].index);
                prop_assert_eq!(bridge.mac, Some(settings.router_mac));
                prop_assert_eq!(vxlan.master, bridge.index);
                prop_assert!(bridge.up && vxlan.up && !bridge.generates_address);
                let kept = BridgePort { learning: false, neigh_suppress: true, ..BridgePort::default() };
                prop_assert_eq!(vxlan.bridge_port, Some(kept), "an L3VNI's port is as it always was");
            }
            let is_there = |vni: &L2Vni| vni.vrf.is_empty() || topology.vrfs.contains_key(&vni.vrf);
            for (vni, settings) in topology.l2vnis.iter().filter(|(_, settings)| is_there(settings)) {
                let (bridge, vxlan) = (&links[&Topology::bridge_name(*vni)], &links[&Topology::vxlan_name(*vni)]);
                prop_assert_eq!(bridge.master, links.get(&settings.vrf).map_or(0, |vrf| vrf.index));
                prop_assert_eq!((bridge.mac, vxlan.master), (Some(settings.mac), bridge.index));
                prop_assert!(bridge.up && vxlan.up && !bridge.generates_address);
                let learning = settings.learns_from_vteps;
                prop_assert_eq!(vxlan.bridge_port, Some(BridgePort { neigh_suppress: true, learning, ..QUIET }));
                let learns = matches!(vxlan.kind, Kind::Vxlan(Vxlan { learning, .. }) if learning);
                prop_assert_eq!(learns, learning);
                let addresses = model.current.addresses.get(&bridge.index).cloned().unwrap_or_default();
                prop_assert_eq!(addresses, settings.addresses().into_iter().collect::<BTreeSet<_>>());
                prop_assert!(settings.mtu == 0 || bridge.mtu == settings.mtu);
            }
            for name in ["p0", "p1"] {
                let Some(port) = topology.ports.get(name) else { continue };
                if let Some(vni) = port.l2vni {
                    let Some(settings) = topology.l2vnis.get(&vni) else { continue };
                    if is_there(settings) {
                        let bridge = links[&Topology::bridge_name(vni)].index;
                        prop_assert_eq!((links[name].master, links[name].bridge_port), (bridge, Some(QUIET)));
                        prop_assert!(links[name].up && !links[name].generates_address);
                    }
                } else if port.vrf.is_empty() || topology.vrfs.contains_key(&port.vrf) {
                    let addresses = model.current.addresses.get(&links[name].index).cloned().unwrap_or_default();
                    prop_assert_eq!(addresses, port.addresses.iter().copied().collect::<BTreeSet<_>>());
                    prop_assert!(links[name].up);
                }
            }
            let ours = links.len() - 4;
            let vnis = topology.vnis.keys().chain(topology.l2vnis.keys()).filter(|vni| links.contains_key(&Topology::bridge_name(**vni))).count();
            prop_assert_eq!(ours, topology.vrfs.len() + 2 * vnis);
        }
    }
}

#[test]
fn without_leave_to_remove_nothing_is_removed() {
    let mut model = Model::with_loopback();
    let mut topology = Topology::default();
    topology.vrfs.insert("red".into(), 1);
    topology.vteps.push([10, 0, 0, 1].into());
    model.reconcile(&topology, &BTreeSet::new());
    let before = model.current.links.len();
    let actions = plan(&Topology::default(), &model.current, &BTreeSet::new(), false);
    assert_eq!(actions, []);
    assert_eq!(model.current.links.len(), before);
}

#[test]
fn a_vrf_keeps_its_table_whatever_its_number() {
    let mut model = Model::with_loopback();
    let mut topology = Topology::default();
    topology.vrfs.insert("red".into(), 1);
    model.reconcile(&topology, &BTreeSet::new());
    topology.vrfs.insert("red".into(), 2);
    topology.vrfs.insert("blue".into(), 1);
    model.reconcile(&topology, &BTreeSet::new());
    assert_eq!(model.current.links["red"].kind, Kind::Vrf { table: 1001 });
    assert_eq!(model.current.links["blue"].kind, Kind::Vrf { table: 1002 }, "1001 is taken");
}
