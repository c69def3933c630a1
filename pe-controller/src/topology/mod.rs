//! The dataplane's part of a provider edge.

use std::net::IpAddr;

use bytes::Bytes;
use dataplane_api::v1::{
    L3VniSpec, NetdevPort, PciPort, PortSpec, TapPort, TopologySpec, VrfSpec, port_spec,
};

use serde_json::{Value, json};

use crate::resolve::{Pe, Session, Vni};
use crate::validate::{Port, PortDevice};

/// Name of the router's end of the link between `vni`'s VRF and the host.
#[must_use]
pub fn router_interface(vni: u32) -> String {
    format!("pe-e-{vni}")
}

/// Name of the host's end of the link between `vni`'s VRF and the host.
#[must_use]
pub fn host_interface(vni: u32) -> String {
    format!("host-e-{vni}")
}

/// The topology `pe` needs. The same `pe` always gives the same message.
#[must_use]
pub fn topology(pe: &Pe) -> TopologySpec {
    let underlay = pe.underlay.iter().flat_map(|(underlay, _)| &underlay.ports).map(underlay_port);
    let sessions = pe.vnis.iter().filter_map(|vni| Some(session_port(vni, vni.session.as_ref()?)));
    TopologySpec {
        ports: underlay.chain(sessions).collect(),
        vrfs: pe.vnis.iter().map(|vni| VrfSpec { name: vni.vrf.to_string() }).collect(),
        l3vnis: pe.vnis.iter().map(l3vni).collect(),
        l2vnis: Vec::new(),
        vtep_addresses: pe
            .vtep4
            .map(IpAddr::V4)
            .into_iter()
            .chain(pe.vtep6.map(IpAddr::V6))
            .map(octets)
            .collect(),
    }
}

/// A topology as people read it: addresses as text, empty fields left out.
#[must_use]
pub fn readable(spec: &TopologySpec) -> Value {
    let ports = spec.ports.iter().map(readable_port);
    let vnis = spec.l3vnis.iter().map(|vni| {
        json!({
            "vni": vni.vni,
            "vrf": vni.vrf,
            "vtepAddress": address(&vni.vtep_address),
            "udpPort": vni.udp_port,
            "routerMac": vni.router_mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
        })
    });
    json!({
        "ports": ports.collect::<Vec<_>>(),
        "vrfs": spec.vrfs.iter().map(|vrf| vrf.name.as_str()).collect::<Vec<_>>(),
        "l3vnis": vnis.collect::<Vec<_>>(),
        "vtepAddresses": spec.vtep_addresses.iter().map(|octets| address(octets)).collect::<Vec<_>>(),
    })
}

fn readable_port(port: &PortSpec) -> Value {
    let mut value = json!({"name": port.name});
    if !port.vrf.is_empty() {
        value["vrf"] = json!(port.vrf);
    }
    if !port.addresses.is_empty() {
        value["addresses"] = json!(port.addresses);
    }
    match &port.kind {
        Some(port_spec::Kind::Netdev(device)) => value["netdev"] = json!({"interface": device.interface}),
        Some(port_spec::Kind::Pci(device)) => value["pci"] = json!({"address": device.address}),
        Some(port_spec::Kind::Tap(device)) => {
            value["tap"] = json!({"interface": device.interface, "addresses": device.addresses});
            if !device.netns.is_empty() {
                value["tap"]["netns"] = json!(device.netns);
            }
        }
        Some(port_spec::Kind::VhostUser(_) | port_spec::Kind::Memif(_)) | None => {}
    }
    value
}

/// 4 or 16 octets as an address.
fn address(octets: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(IpAddr::from);
    v4.or(v6).map_or_else(|_| String::new(), |address| address.to_string())
}

fn underlay_port(port: &Port) -> PortSpec {
    let kind = match &port.device {
        PortDevice::Netdev => port_spec::Kind::Netdev(NetdevPort { interface: port.name.to_string() }),
        PortDevice::Pci(address) => {
            port_spec::Kind::Pci(PciPort { address: address.to_string(), devargs: String::new() })
        }
    };
    PortSpec { name: port.name.to_string(), kind: Some(kind), ..PortSpec::default() }
}

fn session_port(vni: &Vni, session: &Session) -> PortSpec {
    let tap = TapPort {
        interface: host_interface(vni.vni),
        netns: session.netns.as_ref().map(ToString::to_string).unwrap_or_default(),
        addresses: session.links().map(|link| link.host.to_string()).collect(),
        mac: Bytes::new(),
        bridge: None,
    };
    PortSpec {
        name: router_interface(vni.vni),
        kind: Some(port_spec::Kind::Tap(tap)),
        vrf: vni.vrf.to_string(),
        addresses: session.links().map(|link| link.router.to_string()).collect(),
        ..PortSpec::default()
    }
}

fn l3vni(vni: &Vni) -> L3VniSpec {
    L3VniSpec {
        vni: vni.vni,
        vrf: vni.vrf.to_string(),
        vtep_address: octets(vni.vtep),
        udp_port: vni.vxlan_port,
        router_mac: Bytes::copy_from_slice(&vni.router_mac),
    }
}

fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}
