use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::selector_error;
use super::underlay::reserved;
use crate::model::{
    AddressFamily, BridgeLifecycle, BridgeName, FieldError, HostMasterSpec, HostMasterType, Int,
    InterfaceName, Kind, L2PortSpec, L2VniSpec, MemifSecret, NetnsPath, ObjectName, ObjectRef,
    RoutingDomainType, SocketPath, SocketRole, Vni,
};

/// A bridge domain carried by EVPN, all rules kept.
#[derive(Debug, Clone, PartialEq)]
pub struct L2Vni {
    /// Its number on the wire.
    pub vni: Vni,
    /// UDP port of its VXLAN packets.
    pub vxlan_port: u32,
    /// Which of the node's VTEP addresses it uses; none prefers IPv4.
    pub underlay_family: Option<AddressFamily>,
    /// What routes for it.
    pub domain: Option<RoutingDomain>,
    /// The router's IPv4 address in it; only with a domain.
    pub gateway4: Option<Ipv4Net>,
    /// The router's IPv6 address in it; only with a domain.
    pub gateway6: Option<Ipv6Net>,
    /// The host's bridge that its TAP is put into.
    pub host_bridge: Option<HostBridge>,
    /// Where the TAP's host end and the bridge are, when not in the host's own namespace.
    pub netns: Option<NetnsPath>,
    /// Ports of virtual machines and DPDK processes, names unique.
    pub ports: Vec<L2Port>,
    /// How long a local MAC or neighbour that is not seen is kept, seconds.
    pub aging_seconds: Option<u32>,
    /// Most MACs learned on its ports.
    pub mac_limit: Option<u32>,
    /// What each of its ports may do.
    pub port_limits: PortLimits,
    /// Remote MACs are learned from packets too.
    pub learn_from_vteps: bool,
}

/// What a port of an L2VNI may do; none leaves it to the dataplane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortLimits {
    /// Most MACs learned on it.
    pub macs: Option<u32>,
    /// Frames per second that it may flood.
    pub flood_rate: Option<u32>,
}

/// What routes for an L2VNI, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutingDomain {
    /// An L3VNI.
    L3Vni(ObjectName),
    /// An L3VPN.
    L3Vpn(ObjectName),
}

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBridge {
    /// What forwards in it.
    pub kind: HostMasterType,
    /// Somebody else's by this name; none is ours, named after the VNI.
    pub external: Option<BridgeName>,
}

/// A port of a virtual machine or of a DPDK process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L2Port {
    /// Its name.
    pub name: InterfaceName,
    /// How it is reached.
    pub socket: SocketPath,
    /// Who makes the socket.
    pub role: SocketRole,
    /// What it is.
    pub device: L2PortDevice,
}

/// What a port of an L2VNI is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum L2PortDevice {
    /// A virtio device.
    VhostUser,
    /// A shared memory packet interface.
    Memif {
        /// Which of the socket's interfaces.
        id: u32,
        /// What both sides must know.
        secret: Option<MemifSecret>,
    },
}

impl L2Vni {
    /// The object `id` routes for it.
    #[must_use]
    pub fn is_routed_by(&self, id: &ObjectRef) -> bool {
        match &self.domain {
            Some(RoutingDomain::L3Vni(name)) => id.kind == Kind::L3Vni && id.name == name.as_str(),
            Some(RoutingDomain::L3Vpn(name)) => id.kind == Kind::L3Vpn && id.name == name.as_str(),
            None => false,
        }
    }

    /// The router's addresses in it, IPv4 first.
    pub fn gateways(&self) -> impl Iterator<Item = IpNet> {
        self.gateway4.map(IpNet::V4).into_iter().chain(self.gateway6.map(IpNet::V6))
    }
}

impl L2Port {
    /// Says why it cannot be there beside `other`, which `of` describes. The field is relative to the port.
    pub(super) fn conflict(&self, other: &Self, of: &dyn std::fmt::Display) -> Option<FieldError> {
        if self.name == other.name {
            return Some(FieldError::new("name", format!("{} is the name of {of} too", self.name)));
        }
        if self.socket != other.socket {
            return None;
        }
        let path = &self.socket;
        match (&self.device, &other.device) {
            (L2PortDevice::Memif { id, .. }, L2PortDevice::Memif { id: other_id, .. }) if id == other_id => {
                Some(FieldError::new("memif.id", format!("interface {id} of {path} is {of} too")))
            }
            (L2PortDevice::Memif { .. }, L2PortDevice::Memif { .. }) => {
                (self.role != other.role).then(|| {
                    let message =
                        format!("{path} is made by us or by the other side, and {of} says otherwise");
                    FieldError::new("memif.role", message)
                })
            }
            (device, _) => {
                let member = if *device == L2PortDevice::VhostUser { "vhostUser" } else { "memif" };
                let message = format!("{path} is the socket of {of} too");
                Some(FieldError::new(format!("{member}.socketPath"), message))
            }
        }
    }
}

/// Checks an L2VNI by itself.
///
/// # Errors
/// Every rule that is broken.
pub(super) fn check(spec: &L2VniSpec) -> Result<L2Vni, Vec<FieldError>> {
    let mut errors = selector_error(&spec.node_selector);
    let domain = routing_domain(spec, &mut errors);
    let (gateway4, gateway6) = gateways(&spec.gateway_ips, &mut errors);
    if !spec.gateway_ips.is_empty() && spec.routing_domain.is_none() {
        errors.push(FieldError::new("gatewayIPs", "needs routingDomain: without one nothing routes for it"));
    }
    let host_bridge = spec.host_master.as_ref().and_then(|master| host_bridge(master, &mut errors));
    let ports = ports(&spec.ports, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(L2Vni {
        vni: spec.vni,
        vxlan_port: spec.vxlan_port.value(),
        underlay_family: spec.underlay_address_family,
        domain,
        gateway4,
        gateway6,
        host_bridge,
        netns: spec.netns.clone(),
        ports,
        aging_seconds: spec.aging_seconds.map(Int::value),
        mac_limit: spec.mac_limit.map(Int::value),
        port_limits: PortLimits {
            macs: spec.port_mac_limit.map(Int::value),
            flood_rate: spec.flood_rate.map(Int::value),
        },
        learn_from_vteps: spec.learn_from_vteps,
    })
}

fn routing_domain(spec: &L2VniSpec, errors: &mut Vec<FieldError>) -> Option<RoutingDomain> {
    let domain = spec.routing_domain.as_ref()?;
    match (domain.r#type, &domain.l3vni, &domain.l3vpn) {
        (RoutingDomainType::L3Vni, Some(l3vni), None) => Some(RoutingDomain::L3Vni(l3vni.name.clone())),
        (RoutingDomainType::L3Vpn, None, Some(l3vpn)) => Some(RoutingDomain::L3Vpn(l3vpn.name.clone())),
        _ => {
            let message = "type L3VNI needs l3vni, type L3VPN needs l3vpn, and only that one";
            errors.push(FieldError::new("routingDomain", message));
            None
        }
    }
}

fn gateways(gateways: &[IpNet], errors: &mut Vec<FieldError>) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
    let (mut gateway4, mut gateway6) = (None, None);
    for (index, gateway) in gateways.iter().enumerate() {
        let mut error = |message: String| {
            errors.push(FieldError::new(format!("gatewayIPs[{index}]"), message));
        };
        let taken = match gateway {
            IpNet::V4(gateway) => gateway4.replace(*gateway).is_some(),
            IpNet::V6(gateway) => gateway6.replace(*gateway).is_some(),
        };
        if taken {
            error(format!("{gateway}: at most one address per family"));
        }
        if let Some(what) = no_host_address(*gateway) {
            error(format!("{gateway} is {what}, which no router can have as its own in a subnet"));
        }
    }
    (gateway4, gateway6)
}

/// What an address is that an interface cannot have, or not for others to route by.
fn no_host_address(gateway: IpNet) -> Option<&'static str> {
    let address = gateway.addr();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Some("an unspecified, loopback or multicast address");
    }
    match gateway {
        IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.network() => {
            Some("the subnet's network address")
        }
        IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.broadcast() => {
            Some("the subnet's broadcast address")
        }
        IpNet::V6(net) if net.addr().is_unicast_link_local() => Some("a link-local address"),
        _ => None,
    }
}

fn host_bridge(master: &HostMasterSpec, errors: &mut Vec<FieldError>) -> Option<HostBridge> {
    let (member, bridge) = match (master.r#type, &master.linux_bridge, &master.ovs_bridge) {
        (HostMasterType::LinuxBridge, Some(bridge), None) => ("linuxBridge", bridge),
        (HostMasterType::OvsBridge, None, Some(bridge)) => ("ovsBridge", bridge),
        _ => {
            let message =
                "type LinuxBridge needs linuxBridge, type OVSBridge needs ovsBridge, and only that one";
            errors.push(FieldError::new("hostMaster", message));
            return None;
        }
    };
    let field = format!("hostMaster.{member}.name");
    let external = match (bridge.lifecycle, &bridge.name) {
        (BridgeLifecycle::Managed, None) => None,
        (BridgeLifecycle::External, Some(name)) => {
            if let Some(message) = reserved(name.as_str()) {
                errors.push(FieldError::new(field, message));
            }
            Some(name.clone())
        }
        _ => {
            errors.push(FieldError::new(field, "is set if and only if lifecycle is External"));
            return None;
        }
    };
    Some(HostBridge { kind: master.r#type, external })
}

fn ports(specs: &[L2PortSpec], errors: &mut Vec<FieldError>) -> Vec<L2Port> {
    let mut ports: Vec<L2Port> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let field = format!("ports[{index}]");
        if let Some(message) = reserved(spec.name.as_str()) {
            errors.push(FieldError::new(format!("{field}.name"), message));
        }
        let (socket, role, device) = match (&spec.vhost_user, &spec.memif) {
            (Some(vhost), None) => (&vhost.socket_path, vhost.mode, L2PortDevice::VhostUser),
            (None, Some(memif)) => {
                let device = L2PortDevice::Memif { id: memif.id.value(), secret: memif.secret.clone() };
                (&memif.socket_path, memif.role, device)
            }
            _ => {
                errors.push(FieldError::new(field, "set exactly one of vhostUser and memif"));
                continue;
            }
        };
        let port = L2Port { name: spec.name.clone(), socket: socket.clone(), role, device };
        if let Some(error) = ports.iter().find_map(|earlier| port.conflict(earlier, &"an earlier port")) {
            errors.push(FieldError::new(format!("{field}.{}", error.field), error.message));
        }
        ports.push(port);
    }
    ports
}
