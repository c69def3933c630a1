//! The dataplane's part of a provider edge.

use std::net::IpAddr;

use bytes::Bytes;
use dataplane_api::v1::{
    L3VniSpec, NetdevPort, PciPort, PortSpec, TapPort, TopologySpec, VrfSpec, port_spec,
};

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
        vtep_addresses: pe
            .vtep4
            .map(IpAddr::V4)
            .into_iter()
            .chain(pe.vtep6.map(IpAddr::V6))
            .map(octets)
            .collect(),
    }
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
