//! The difference between the topology that is held and the one that is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::{Desired, L2Vni, L3Vni, Port};

/// What is programmed now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// By name.
    pub ports: BTreeMap<String, Port>,
    /// Names, without the default VRF's.
    pub vrfs: BTreeSet<String>,
    /// By number.
    pub vnis: BTreeMap<u32, L3Vni>,
    /// By number.
    pub l2vnis: BTreeMap<u32, L2Vni>,
}

/// One step from the held to the wanted topology.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Takes a VNI away.
    RemoveVni(u32),
    /// Takes a port away, and gives its device back.
    RemovePort(String),
    /// Takes a VRF away, with its routes.
    RemoveVrf(String),
    /// Makes a VRF.
    AddVrf(String),
    /// Opens a port.
    AddPort(Port),
    /// Changes a port that stays open.
    ChangePort(Port),
    /// Makes a VNI.
    AddVni(L3Vni),
    /// Makes an L2VNI, or changes one with all that is in it.
    SetL2Vni(L2Vni),
    /// Takes an L2VNI away.
    RemoveL2Vni(u32),
}

/// The steps, in an order in which each finds what it refers to: users go before what they use, and come after it.
pub fn plan(held: &Held, desired: &Desired) -> Vec<Step> {
    let mut steps = Vec::new();
    let vni_stays = |vni: &u32, held: &L3Vni| desired.vnis.get(vni).is_some_and(|wanted| wanted == held);
    let port_stays =
        |name: &str, held: &Port| desired.ports.get(name).is_some_and(|wanted| !reopen(held, wanted));
    steps.extend(
        held.vnis.iter().filter(|(vni, held)| !vni_stays(vni, held)).map(|(&vni, _)| Step::RemoveVni(vni)),
    );
    steps.extend(
        held.ports
            .iter()
            .filter(|(name, held)| !port_stays(name, held))
            .map(|(name, _)| Step::RemovePort(name.clone())),
    );
    // A port that stays open but leaves a VRF that goes must have left before.
    steps.extend(desired.vrfs.difference(&held.vrfs).cloned().map(Step::AddVrf));
    // One that loses its VRF lets go of it before the VRF goes; a number that was an L3VNI's is free by now.
    for (vni, wanted) in &desired.l2vnis {
        if held.l2vnis.get(vni) != Some(wanted) {
            steps.push(Step::SetL2Vni(wanted.clone()));
        }
    }
    for (name, wanted) in &desired.ports {
        match held.ports.get(name) {
            Some(held) if reopen(held, wanted) => steps.push(Step::AddPort(wanted.clone())),
            Some(held) if held != wanted => steps.push(Step::ChangePort(wanted.clone())),
            Some(_) => {}
            None => steps.push(Step::AddPort(wanted.clone())),
        }
    }
    let gone = held.l2vnis.keys().filter(|vni| !desired.l2vnis.contains_key(vni));
    steps.extend(gone.copied().map(Step::RemoveL2Vni));
    steps.extend(held.vrfs.difference(&desired.vrfs).cloned().map(Step::RemoveVrf));
    for (vni, wanted) in &desired.vnis {
        if held.vnis.get(vni) != Some(wanted) {
            steps.push(Step::AddVni(wanted.clone()));
        }
    }
    steps
}

/// Whether a port must be closed and opened anew: it has another device behind it, or a MAC that shadows and peers have
/// learnt.
fn reopen(held: &Port, wanted: &Port) -> bool {
    held.device != wanted.device || held.mac != wanted.mac || held.host_mac != wanted.host_mac
}

#[cfg(test)]
mod tests {
    use dataplane_api::v1;
    use proptest::prelude::*;

    use super::*;

    /// Carries out steps on names only, and objects when one is missing that a step refers to.
    fn carry_out(held: &mut Held, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::RemoveVni(vni) => assert!(held.vnis.remove(&vni).is_some()),
                Step::SetL2Vni(vni) => {
                    assert!(vni.vrf.as_ref().is_none_or(|vrf| held.vrfs.contains(vrf)));
                    assert!(!held.vnis.contains_key(&vni.spec.vni), "VNI {} is an L3VNI", vni.spec.vni);
                    held.l2vnis.insert(vni.spec.vni, vni);
                }
                Step::RemoveL2Vni(vni) => {
                    let is_in = |port: &Port| port.bridge.is_some_and(|bridge| bridge.vni.get() == vni);
                    assert!(!held.ports.values().any(is_in), "L2VNI {vni} has ports");
                    assert!(held.l2vnis.remove(&vni).is_some());
                }
                Step::RemovePort(name) => assert!(held.ports.remove(&name).is_some()),
                Step::RemoveVrf(name) => {
                    assert!(held.ports.values().all(|port| port.vrf != name), "{name} is used");
                    assert!(held.vnis.values().all(|vni| vni.vrf != name), "{name} is used");
                    let routes = |vni: &L2Vni| vni.vrf.as_ref() == Some(&name);
                    assert!(!held.l2vnis.values().any(routes), "{name} is used");
                    assert!(held.vrfs.remove(&name));
                }
                Step::AddVrf(name) => assert!(held.vrfs.insert(name)),
                Step::AddPort(port) => {
                    assert!(port.vrf == "default" || held.vrfs.contains(&port.vrf));
                    assert!(port.bridge.is_none_or(|bridge| held.l2vnis.contains_key(&bridge.vni.get())));
                    assert!(held.ports.insert(port.spec.name.clone(), port).is_none());
                }
                Step::ChangePort(port) => {
                    assert!(port.vrf == "default" || held.vrfs.contains(&port.vrf));
                    assert!(port.bridge.is_none_or(|bridge| held.l2vnis.contains_key(&bridge.vni.get())));
                    assert!(held.ports.insert(port.spec.name.clone(), port).is_some());
                }
                Step::AddVni(vni) => {
                    assert!(held.vrfs.contains(&vni.vrf));
                    assert!(held.vnis.values().all(|other| other.vrf != vni.vrf), "two VNIs in {}", vni.vrf);
                    assert!(!held.l2vnis.contains_key(&vni.spec.vni), "VNI {} is an L2VNI", vni.spec.vni);
                    assert!(held.vnis.insert(vni.spec.vni, vni).is_none());
                }
            }
        }
    }

    fn spec() -> impl Strategy<Value = v1::TopologySpec> {
        let vrf = prop::sample::select(vec!["", "red", "blue", "green"]);
        let device = prop::sample::select(vec!["eth0", "eth1", "eth2"]);
        let name = prop::sample::select(vec!["p0", "p1", "p2"]);
        let port =
            (name, vrf.clone(), device, prop::sample::select(vec![0u32, 1500, 9000]), any::<bool>(), 0u32..6);
        let port = port.prop_map(|(name, vrf, device, mtu, tap, l2vni)| v1::PortSpec {
            name: name.into(),
            vrf: vrf.into(),
            mtu,
            kind: Some(if tap {
                let interface = device.into();
                v1::port_spec::Kind::Tap(v1::TapPort { interface, ..Default::default() })
            } else {
                v1::port_spec::Kind::Netdev(v1::NetdevPort { interface: device.into() })
            }),
            // 0 is a routed port; of a VRF it is one anyway.
            bridge: (l2vni > 0 && vrf.is_empty()).then(|| v1::BridgePortSpec { l2vni, ..Default::default() }),
            ..Default::default()
        });
        let vni = (1u32..4, vrf, 0u32..2).prop_map(|(vni, vrf, udp)| v1::L3VniSpec {
            vni,
            vrf: vrf.into(),
            vtep_address: vec![100, 64, 0, 1].into(),
            udp_port: udp * 4790,
            router_mac: vec![2, 0, 0, 0, 0, 1].into(),
        });
        let l2vni = (1u32..6, prop::sample::select(vec!["", "red", "blue"]), 0u32..2).prop_map(
            |(vni, vrf, aging)| v1::L2VniSpec {
                vni,
                vrf: vrf.into(),
                vtep_address: vec![100, 64, 0, 1].into(),
                mac: vec![2, 0, 0, 0, 0, 1].into(),
                aging_seconds: aging * 100,
                ..Default::default()
            },
        );
        let vrfs = prop::collection::vec(prop::sample::select(vec!["red", "blue", "green"]), 0..4);
        let vnis = (prop::collection::vec(vni, 0..4), prop::collection::vec(l2vni, 0..4));
        (prop::collection::vec(port, 0..4), vrfs, vnis).prop_map(|(ports, vrfs, (l3vnis, l2vnis))| {
            v1::TopologySpec {
                ports,
                vrfs: vrfs.into_iter().map(|name| v1::VrfSpec { name: name.into() }).collect(),
                l3vnis,
                l2vnis,
                vtep_addresses: vec![vec![100, 64, 0, 1].into()],
            }
        })
    }

    proptest! {
        /// Whatever is held and wanted, each step finds what it needs, the end is what is wanted, and doing it twice
        /// does nothing.
        #[test]
        fn converges(specs in prop::collection::vec(spec(), 1..5)) {
            let mut held = Held::default();
            for spec in specs {
                let desired = Desired::check(&spec);
                let steps = plan(&held, &desired);
                carry_out(&mut held, steps);
                prop_assert_eq!(&held.ports, &desired.ports);
                prop_assert_eq!(&held.vrfs, &desired.vrfs);
                prop_assert_eq!(&held.vnis, &desired.vnis);
                prop_assert_eq!(&held.l2vnis, &desired.l2vnis);
                prop_assert_eq!(plan(&held, &desired), vec![]);
            }
        }
    }
}
