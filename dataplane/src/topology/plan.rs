//! The difference between the topology that is held and the one that is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::{Desired, L3Vni, Port};

/// What is programmed now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// By name.
    pub ports: BTreeMap<String, Port>,
    /// Names, without the default VRF's.
    pub vrfs: BTreeSet<String>,
    /// By number.
    pub vnis: BTreeMap<u32, L3Vni>,
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
    for (name, wanted) in &desired.ports {
        match held.ports.get(name) {
            Some(held) if reopen(held, wanted) => steps.push(Step::AddPort(wanted.clone())),
            Some(held) if held != wanted => steps.push(Step::ChangePort(wanted.clone())),
            Some(_) => {}
            None => steps.push(Step::AddPort(wanted.clone())),
        }
    }
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
                Step::RemovePort(name) => assert!(held.ports.remove(&name).is_some()),
                Step::RemoveVrf(name) => {
                    assert!(held.ports.values().all(|port| port.vrf != name), "{name} is used");
                    assert!(held.vnis.values().all(|vni| vni.vrf != name), "{name} is used");
                    assert!(held.vrfs.remove(&name));
                }
                Step::AddVrf(name) => assert!(held.vrfs.insert(name)),
                Step::AddPort(port) => {
                    assert!(port.vrf == "default" || held.vrfs.contains(&port.vrf));
                    assert!(held.ports.insert(port.spec.name.clone(), port).is_none());
                }
                Step::ChangePort(port) => {
                    assert!(port.vrf == "default" || held.vrfs.contains(&port.vrf));
                    assert!(held.ports.insert(port.spec.name.clone(), port).is_some());
                }
                Step::AddVni(vni) => {
                    assert!(held.vrfs.contains(&vni.vrf));
                    assert!(held.vnis.values().all(|other| other.vrf != vni.vrf), "two VNIs in {}", vni.vrf);
                    assert!(held.vnis.insert(vni.spec.vni, vni).is_none());
                }
            }
        }
    }

    fn spec() -> impl Strategy<Value = v1::TopologySpec> {
        let vrf = prop::sample::select(vec!["", "red", "blue", "green"]);
        let device = prop::sample::select(vec!["eth0", "eth1", "eth2"]);
        let name = prop::sample::select(vec!["p0", "p1", "p2"]);
        let port = (name, vrf.clone(), device, prop::sample::select(vec![0u32, 1500, 9000]), any::<bool>());
        let port = port.prop_map(|(name, vrf, device, mtu, tap)| v1::PortSpec {
            name: name.into(),
            vrf: vrf.into(),
            mtu,
            kind: Some(if tap {
                let interface = device.into();
                v1::port_spec::Kind::Tap(v1::TapPort { interface, ..Default::default() })
            } else {
                v1::port_spec::Kind::Netdev(v1::NetdevPort { interface: device.into() })
            }),
            ..Default::default()
        });
        let vni = (1u32..4, vrf, 0u32..2).prop_map(|(vni, vrf, udp)| v1::L3VniSpec {
            vni,
            vrf: vrf.into(),
            vtep_address: vec![100, 64, 0, 1].into(),
            udp_port: udp * 4790,
            router_mac: vec![2, 0, 0, 0, 0, 1].into(),
        });
        let vrfs = prop::collection::vec(prop::sample::select(vec!["red", "blue", "green"]), 0..4);
        (prop::collection::vec(port, 0..4), vrfs, prop::collection::vec(vni, 0..4)).prop_map(
            |(ports, vrfs, l3vnis)| v1::TopologySpec {
                ports,
                vrfs: vrfs.into_iter().map(|name| v1::VrfSpec { name: name.into() }).collect(),
                l3vnis,
                vtep_addresses: vec![vec![100, 64, 0, 1].into()],
                ..Default::default()
            },
        )
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
                prop_assert_eq!(plan(&held, &desired), vec![]);
            }
        }
    }
}
