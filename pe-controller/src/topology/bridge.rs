use bytes::Bytes;
use dataplane_api::v1::{
    BridgePortSpec, HostBridge, L2VniSpec, MemifPort, PortSpec, TapPort, VhostUserPort, host_bridge,
    port_spec,
};

use super::{host_interface, octets, router_interface};
use crate::model::SocketRole;
use crate::resolve::{AttachedBridge, BridgeDomain, BridgeOwner};
use crate::validate::{L2Port, L2PortDevice};

/// The bridge domain itself.
pub(super) fn l2vni(bridge: &BridgeDomain) -> L2VniSpec {
    L2VniSpec {
        vni: bridge.vni,
        vtep_address: octets(bridge.vtep),
        udp_port: bridge.vxlan_port,
        vrf: bridge.vrf.as_ref().map(ToString::to_string).unwrap_or_default(),
        mac: Bytes::copy_from_slice(&bridge.mac),
        gateway_addresses: bridge.gateways.iter().map(ToString::to_string).collect(),
        mac_limit: bridge.mac_limit.unwrap_or_default(),
        aging_seconds: bridge.aging_seconds.unwrap_or_default(),
        learn_from_vteps: bridge.learn_from_vteps,
    }
}

/// Its ports: the TAP for the host, which is always there, then those of virtual machines and DPDK processes.
pub(super) fn ports(bridge: &BridgeDomain) -> impl Iterator<Item = PortSpec> {
    let others = bridge.ports.iter().map(|port| bridged_port(port.name.to_string(), socket(port), bridge));
    std::iter::once(bridged_port(router_interface(bridge.vni), tap(bridge), bridge)).chain(others)
}

fn bridged_port(name: String, kind: port_spec::Kind, domain: &BridgeDomain) -> PortSpec {
    let bridge = BridgePortSpec {
        l2vni: domain.vni,
        mac_limit: domain.port_limits.macs.unwrap_or_default(),
        flood_rate: domain.port_limits.flood_rate.unwrap_or_default(),
    };
    PortSpec { name, kind: Some(kind), bridge: Some(bridge), ..PortSpec::default() }
}

fn tap(bridge: &BridgeDomain) -> port_spec::Kind {
    port_spec::Kind::Tap(TapPort {
        interface: host_interface(bridge.vni),
        netns: bridge.netns.as_ref().map(ToString::to_string).unwrap_or_default(),
        addresses: Vec::new(),
        mac: Bytes::new(),
        bridge: bridge.host_bridge.as_ref().map(attached_to),
    })
}

fn attached_to(bridge: &AttachedBridge) -> HostBridge {
    let (kind, owner, ovsdb) = match bridge {
        AttachedBridge::Linux(owner) => (host_bridge::Kind::Linux, owner, String::new()),
        AttachedBridge::Ovs(owner, ovsdb) => (host_bridge::Kind::Ovs, owner, ovsdb.to_string()),
    };
    let (name, managed) = match owner {
        BridgeOwner::Managed(name) => (name, true),
        BridgeOwner::External(name) => (name, false),
    };
    HostBridge { kind: kind.into(), name: name.clone(), managed, ovsdb }
}

fn socket(port: &L2Port) -> port_spec::Kind {
    let socket = port.socket.to_string();
    let client = port.role == SocketRole::Client;
    match &port.device {
        L2PortDevice::VhostUser => port_spec::Kind::VhostUser(VhostUserPort { socket, client }),
        L2PortDevice::Memif { id, secret } => port_spec::Kind::Memif(MemifPort {
            socket,
            id: *id,
            client,
            secret: secret.as_ref().map(|secret| secret.reveal().to_owned()).unwrap_or_default(),
        }),
    }
}
