//! The topology as others see it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use dataplane_api::v1;
use forwarding::PortId;
use ipnet::IpNet;

use super::plan::Held;
use super::spec::{DEFAULT_VRF, Desired, L2Vni, ObjectName};
use crate::rpc::octets;

/// MTU assumed while no underlay port is open, bytes.
const UNDERLAY_MTU: u32 = 1500;
/// Outer IPv4, UDP and VXLAN headers and the inner Ethernet header, bytes (RFC 7348 section 4).
const OVERHEAD_V4: u32 = 50;
/// The same with an outer IPv6 header.
const OVERHEAD_V6: u32 = 70;

/// Largest inner IP packet over an underlay of `underlay` bytes from the VTEP address `vtep`.
pub fn vni_mtu(underlay: Option<u32>, vtep: IpAddr) -> u32 {
    let overhead = if vtep.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    underlay.unwrap_or(UNDERLAY_MTU).saturating_sub(overhead)
}

/// What is known of an open port.
#[derive(Clone, Copy, Debug)]
pub struct PortView<'a> {
    /// Number in forwarding.
    pub id: u16,
    /// The router's MAC.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Addresses that came with the device.
    pub adopted: &'a [IpNet],
    /// DPDK's driver.
    pub driver: &'a str,
    /// Receive queues.
    pub rx_queues: u32,
    /// The link is up.
    pub up: bool,
    /// Mbit/s; 0 when unknown.
    pub speed: u32,
}

/// Everything the state is made of.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// What is wanted, and what of it was refused.
    pub desired: &'a Desired,
    /// What is programmed.
    pub held: &'a Held,
    /// Open ports by name.
    pub open: BTreeMap<&'a str, PortView<'a>>,
    /// What failed, and why.
    pub failures: BTreeMap<&'a ObjectName, &'a str>,
    /// Numbers of VRFs by name.
    pub vrfs: BTreeMap<&'a str, u32>,
    /// The router's interface in each L2VNI that is programmed.
    pub svis: &'a BTreeMap<u32, PortId>,
    /// Smallest MTU of the underlay's ports.
    pub underlay_mtu: Option<u32>,
}

/// The state, without generation, instance and numbers of routes.
pub fn render(view: &View<'_>) -> v1::TopologyState {
    let refused = |kind| view.desired.refused.iter().filter(move |refusal| refusal.object.kind == kind);
    let mut ports: Vec<_> =
        view.desired.ports.iter().map(|(name, port)| port_state(view, name, &port.spec)).collect();
    // An object of the same name may be refused beside one that is fine; it shows by its own error.
    ports.extend(refused("port").map(|refusal| v1::PortState {
        spec: Some(v1::PortSpec { name: refusal.object.name.clone(), ..Default::default() }),
        health: v1::Health::Failed.into(),
        error: refusal.error.clone(),
        ..Default::default()
    }));
    let default = v1::VrfState { spec: Some(v1::VrfSpec { name: DEFAULT_VRF.into() }), ..Default::default() };
    let mut vrfs = vec![default];
    vrfs.extend(view.desired.vrfs.iter().map(|name| v1::VrfState {
        spec: Some(v1::VrfSpec { name: name.clone() }),
        id: view.vrfs.get(name.as_str()).copied().unwrap_or_default(),
        error: failure(view, "vrf", name),
        ..Default::default()
    }));
    vrfs.extend(refused("vrf").map(|refusal| v1::VrfState {
        spec: Some(v1::VrfSpec { name: refusal.object.name.clone() }),
        error: refusal.error.clone(),
        ..Default::default()
    }));
    let underlay_up =
        view.desired.ports.iter().any(|(name, port)| {
            port.is_underlay() && view.open.get(name.as_str()).is_some_and(|open| open.up)
        });
    let mut l3vnis: Vec<_> = view
        .desired
        .vnis
        .values()
        .map(|vni| {
            let error = failure(view, "vni", &vni.spec.vni.to_string());
            let health = health(view.held.vnis.contains_key(&vni.spec.vni), underlay_up);
            let mtu = vni_mtu(view.underlay_mtu, vni.vtep);
            v1::L3VniState { spec: Some(vni.spec.clone()), health: health.into(), error, mtu }
        })
        .collect();
    l3vnis.extend(refused("vni").map(|refusal| v1::L3VniState {
        spec: Some(v1::L3VniSpec {
            vni: refusal.object.name.parse().unwrap_or_default(),
            ..Default::default()
        }),
        health: v1::Health::Failed.into(),
        error: refusal.error.clone(),
        ..Default::default()
    }));
    let mut l2vnis: Vec<_> =
        view.desired.l2vnis.values().map(|vni| l2vni_state(view, vni, underlay_up)).collect();
    l2vnis.extend(refused("l2vni").map(|refusal| v1::L2VniState {
        spec: Some(v1::L2VniSpec {
            vni: refusal.object.name.parse().unwrap_or_default(),
            ..Default::default()
        }),
        health: v1::Health::Failed.into(),
        error: refusal.error.clone(),
        ..Default::default()
    }));
    let vtep_addresses = view.desired.vteps.iter().map(|vtep| octets(*vtep)).collect();
    v1::TopologyState { ports, vrfs, l3vnis, l2vnis, vtep_addresses, ..Default::default() }
}

fn l2vni_state(view: &View<'_>, vni: &L2Vni, underlay_up: bool) -> v1::L2VniState {
    let number = vni.spec.vni;
    let svi = view.svis.get(&number);
    v1::L2VniState {
        spec: Some(vni.spec.clone()),
        health: health(svi.is_some(), underlay_up).into(),
        error: failure(view, "l2vni", &number.to_string()),
        mtu: vni_mtu(view.underlay_mtu, vni.vtep),
        id: svi.map_or(0, |svi| svi.0.into()),
    }
}

const fn health(programmed: bool, underlay_up: bool) -> v1::Health {
    match (programmed, underlay_up) {
        (false, _) => v1::Health::Failed,
        (true, true) => v1::Health::Up,
        (true, false) => v1::Health::Down,
    }
}

fn port_state(view: &View<'_>, name: &str, spec: &v1::PortSpec) -> v1::PortState {
    let error = failure(view, "port", name);
    let Some(open) = view.open.get(name) else {
        let health = v1::Health::Failed.into();
        return v1::PortState { spec: Some(spec.clone()), health, error, ..Default::default() };
    };
    let mut addresses = spec.addresses.clone();
    addresses.extend(open.adopted.iter().map(IpNet::to_string));
    addresses.sort();
    addresses.dedup();
    v1::PortState {
        spec: Some(spec.clone()),
        id: open.id.into(),
        health: if open.up { v1::Health::Up } else { v1::Health::Down }.into(),
        error,
        mac: Bytes::copy_from_slice(&open.mac),
        mtu: open.mtu,
        addresses,
        driver: open.driver.to_owned(),
        rx_queues: open.rx_queues,
        link_speed: open.speed,
    }
}

fn failure(view: &View<'_>, kind: &'static str, name: &str) -> String {
    let object = ObjectName { kind, name: name.to_owned() };
    view.failures.get(&object).map(|error| (*error).to_owned()).unwrap_or_default()
}
