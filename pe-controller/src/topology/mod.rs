//! The dataplane's part of a provider edge.

mod bridge;
mod readable;

use std::net::IpAddr;

use bytes::Bytes;
use dataplane_api::v1::{
    L3VniSpec, NetdevPort, PciPort, PortSpec, TapPort, TopologySpec, VrfSpec, port_spec,
};

use crate::model::ObjectRef;
use crate::resolve::{Passthrough, Pe, Session, Vni};
use crate::validate::{Port, PortDevice};

pub use readable::readable;

/// Name of the router's end of the link between a VNI's VRF or bridge domain and the host.
#[must_use]
pub fn router_interface(vni: u32) -> String {
    format!("pe-e-{vni}")
}

/// Name of the host's end of the link between a VNI's VRF or bridge domain and the host.
#[must_use]
pub fn host_interface(vni: u32) -> String {
    format!("host-e-{vni}")
}

/// Name of the router's end of the link between the default VRF and the host.
pub const PASSTHROUGH_ROUTER_INTERFACE: &str = "pt-ns";

/// Name of the host's end of the link between the default VRF and the host.
pub const PASSTHROUGH_HOST_INTERFACE: &str = "pt-host";

/// The topology `pe` needs. The same `pe` always gives the same message.
#[must_use]
pub fn topology(pe: &Pe) -> TopologySpec {
    let underlay = pe.underlay.iter().flat_map(|(underlay, _)| &underlay.ports).map(underlay_port);
    let sessions = pe.vnis.iter().filter_map(|vni| Some(vni_port(vni, vni.session.as_ref()?)));
    let bridged = pe.bridges.iter().flat_map(bridge::ports);
    TopologySpec {
        ports: underlay
            .chain(pe.passthrough.as_ref().map(passthrough_port))
            .chain(sessions)
            .chain(bridged)
            .collect(),
        vrfs: pe.vnis.iter().map(|vni| VrfSpec { name: vni.vrf.to_string() }).collect(),
        l3vnis: pe.vnis.iter().map(l3vni).collect(),
        l2vnis: pe.bridges.iter().map(bridge::l2vni).collect(),
        vtep_addresses: pe
            .vtep4
            .map(IpAddr::V4)
            .into_iter()
            .chain(pe.vtep6.map(IpAddr::V6))
            .map(octets)
            .collect(),
    }
}

/// The object of `pe` behind one of the dataplane's, `kind` and `name` being its words for it; none when it is the
/// underlay's.
#[must_use]
pub fn owner<'a>(pe: &'a Pe, kind: &str, name: &str) -> Option<&'a ObjectRef> {
    let vni = |number: u32| name.parse() == Ok(number);
    let l3vnis = pe.vnis.iter().filter(|l3vni| match kind {
        "port" => router_interface(l3vni.vni) == name,
        "vrf" => l3vni.vrf.as_str() == name,
        "vni" => vni(l3vni.vni),
        _ => false,
    });
    let bridges = pe.bridges.iter().filter(|bridge| match kind {
        "port" => {
            router_interface(bridge.vni) == name || bridge.ports.iter().any(|port| port.name.as_str() == name)
        }
        "l2vni" => vni(bridge.vni),
        _ => false,
    });
    let passthrough =
        pe.passthrough.iter().filter(|_| kind == "port" && name == PASSTHROUGH_ROUTER_INTERFACE);
    l3vnis
        .map(|l3vni| &l3vni.id)
        .chain(bridges.map(|bridge| &bridge.id))
        .chain(passthrough.map(|passthrough| &passthrough.id))
        .next()
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

fn vni_port(vni: &Vni, session: &Session) -> PortSpec {
    let vrf = vni.vrf.to_string();
    session_port(router_interface(vni.vni), host_interface(vni.vni), vrf, session)
}

fn passthrough_port(passthrough: &Passthrough) -> PortSpec {
    session_port(
        PASSTHROUGH_ROUTER_INTERFACE.to_owned(),
        PASSTHROUGH_HOST_INTERFACE.to_owned(),
        String::new(),
        &passthrough.session,
    )
}

/// The link of a session. Its MTU is the dataplane's to choose: it knows the underlay's.
fn session_port(router: String, host: String, vrf: String, session: &Session) -> PortSpec {
    let tap = TapPort {
        interface: host,
        netns: session.netns.as_ref().map(ToString::to_string).unwrap_or_default(),
        addresses: session.links().map(|link| link.host.to_string()).collect(),
        mac: Bytes::new(),
        bridge: None,
    };
    PortSpec {
        name: router,
        kind: Some(port_spec::Kind::Tap(tap)),
        vrf,
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
