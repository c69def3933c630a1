use std::net::IpAddr;

use dataplane_api::v1::{HostBridge, L2VniSpec, L3VniSpec, PortSpec, TopologySpec, host_bridge, port_spec};
use serde_json::{Value, json};

/// A topology as people read it: addresses as text, empty fields left out, secrets hidden.
#[must_use]
pub fn readable(spec: &TopologySpec) -> Value {
    let mut value = json!({
        "ports": spec.ports.iter().map(port).collect::<Vec<_>>(),
        "vrfs": spec.vrfs.iter().map(|vrf| vrf.name.as_str()).collect::<Vec<_>>(),
        "l3vnis": spec.l3vnis.iter().map(l3vni).collect::<Vec<_>>(),
        "vtepAddresses": spec.vtep_addresses.iter().map(|octets| address(octets)).collect::<Vec<_>>(),
    });
    if !spec.l2vnis.is_empty() {
        value["l2vnis"] = spec.l2vnis.iter().map(l2vni).collect();
    }
    value
}

fn l3vni(vni: &L3VniSpec) -> Value {
    json!({
        "vni": vni.vni,
        "vrf": vni.vrf,
        "vtepAddress": address(&vni.vtep_address),
        "udpPort": vni.udp_port,
        "routerMac": mac(&vni.router_mac),
    })
}

fn l2vni(vni: &L2VniSpec) -> Value {
    let mut value = json!({
        "vni": vni.vni,
        "vtepAddress": address(&vni.vtep_address),
        "udpPort": vni.udp_port,
        "mac": mac(&vni.mac),
    });
    if !vni.vrf.is_empty() {
        value["vrf"] = json!(vni.vrf);
    }
    if !vni.gateway_addresses.is_empty() {
        value["gatewayAddresses"] = json!(vni.gateway_addresses);
    }
    for (key, number) in [("macLimit", vni.mac_limit), ("agingSeconds", vni.aging_seconds)] {
        if number != 0 {
            value[key] = json!(number);
        }
    }
    if vni.learn_from_vteps {
        value["learnFromVteps"] = json!(true);
    }
    value
}

fn port(port: &PortSpec) -> Value {
    let mut value = json!({"name": port.name});
    if !port.vrf.is_empty() {
        value["vrf"] = json!(port.vrf);
    }
    if !port.addresses.is_empty() {
        value["addresses"] = json!(port.addresses);
    }
    if let Some(bridge) = &port.bridge {
        value["bridge"] = json!({"l2vni": bridge.l2vni});
        for (key, number) in [("macLimit", bridge.mac_limit), ("floodRate", bridge.flood_rate)] {
            if number != 0 {
                value["bridge"][key] = json!(number);
            }
        }
    }
    match &port.kind {
        Some(port_spec::Kind::Netdev(device)) => value["netdev"] = json!({"interface": device.interface}),
        Some(port_spec::Kind::Pci(device)) => value["pci"] = json!({"address": device.address}),
        Some(port_spec::Kind::Tap(device)) => {
            let mut tap = json!({"interface": device.interface});
            if !device.addresses.is_empty() {
                tap["addresses"] = json!(device.addresses);
            }
            if !device.netns.is_empty() {
                tap["netns"] = json!(device.netns);
            }
            if let Some(bridge) = &device.bridge {
                tap["bridge"] = host_bridge(bridge);
            }
            value["tap"] = tap;
        }
        Some(port_spec::Kind::VhostUser(device)) => {
            value["vhostUser"] = json!({"socket": device.socket, "client": device.client});
        }
        Some(port_spec::Kind::Memif(device)) => {
            let mut memif = json!({"socket": device.socket, "id": device.id, "client": device.client});
            if !device.secret.is_empty() {
                memif["secret"] = json!("<hidden>");
            }
            value["memif"] = memif;
        }
        None => {}
    }
    value
}

fn host_bridge(bridge: &HostBridge) -> Value {
    let kind = match bridge.kind() {
        host_bridge::Kind::Linux => "linux",
        host_bridge::Kind::Ovs => "ovs",
        host_bridge::Kind::Unspecified => "unspecified",
    };
    let mut value = json!({"kind": kind, "name": bridge.name, "managed": bridge.managed});
    if !bridge.ovsdb.is_empty() {
        value["ovsdb"] = json!(bridge.ovsdb);
    }
    value
}

fn mac(octets: &[u8]) -> String {
    octets.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// 4 or 16 octets as an address.
fn address(octets: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(IpAddr::from);
    v4.or(v6).map_or_else(|_| String::new(), |address| address.to_string())
}
