use std::net::IpAddr;

use ipnet::IpNet;

use super::formula::gateway_mac;
use super::pe::Vni;
use crate::model::{
    FieldError, HostMasterType, NetnsPath, Object, ObjectRef, OvsSocketPath, Reason, VrfName,
};
use crate::validate::{L2Port, L2Vni, PortLimits, RoutingDomain};

/// A bridge domain carried by EVPN, with this node's addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgeDomain {
    /// The object.
    pub id: ObjectRef,
    /// Its number on the wire.
    pub vni: u32,
    /// UDP port of its VXLAN packets.
    pub vxlan_port: u32,
    /// This node's end of the tunnels.
    pub vtep: IpAddr,
    /// The VRF that routes for it.
    pub vrf: Option<VrfName>,
    /// The router's MAC in it, the same on all nodes.
    pub mac: [u8; 6],
    /// The router's addresses in it, the same on all nodes, IPv4 first; none without a VRF.
    pub gateways: Vec<IpNet>,
    /// The host's bridge that its TAP is put into; none leaves the TAP to others.
    pub host_bridge: Option<AttachedBridge>,
    /// Where the TAP's host end and the bridge are, when not in the host's own namespace.
    pub netns: Option<NetnsPath>,
    /// Ports of virtual machines and DPDK processes.
    pub ports: Vec<L2Port>,
    /// How long a local MAC or neighbour that is not seen is kept, seconds; none leaves it to the dataplane.
    pub aging_seconds: Option<u32>,
    /// Most MACs learned on its ports; none leaves it to the dataplane.
    pub mac_limit: Option<u32>,
    /// What each of its ports may do.
    pub port_limits: PortLimits,
    /// Remote MACs are learned from packets too.
    pub learn_from_vteps: bool,
}

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachedBridge {
    /// The Linux kernel's.
    Linux(BridgeOwner),
    /// Open vSwitch's, and where its database is reached.
    Ovs(BridgeOwner, OvsSocketPath),
}

/// Whose a bridge of the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeOwner {
    /// Ours, by this name.
    Managed(String),
    /// Somebody else's, by this name.
    External(String),
}

/// Gives an L2VNI with the end of its tunnels, `vtep`, this node's addresses. `l3vnis` are those in force here.
///
/// # Errors
/// When its routing domain is not in force.
pub(super) fn resolve(
    object: &Object<L2Vni>,
    vtep: IpAddr,
    l3vnis: &[Vni],
    ovsdb: &OvsSocketPath,
) -> Result<BridgeDomain, (Reason, FieldError)> {
    let spec = &object.spec;
    let vrf = match &spec.domain {
        None => None,
        Some(RoutingDomain::L3Vni(name) | RoutingDomain::L3Vpn(name)) => {
            let l3vni = l3vnis.iter().find(|l3vni| spec.is_routed_by(&l3vni.id)).ok_or_else(|| {
                let message = format!("{name}, which is to route for it, failed");
                (Reason::DependencyFailed, FieldError::new("routingDomain", message))
            })?;
            Some(l3vni.vrf.clone())
        }
    };
    let vni = spec.vni.value();
    Ok(BridgeDomain {
        id: object.id.clone(),
        vni,
        vxlan_port: spec.vxlan_port,
        vtep,
        vrf,
        mac: gateway_mac(vni),
        gateways: spec.gateways().collect(),
        host_bridge: spec.host_bridge.as_ref().map(|bridge| {
            let owner = match &bridge.external {
                Some(name) => BridgeOwner::External(name.to_string()),
                None => BridgeOwner::Managed(format!("br-hs-{vni}")),
            };
            match bridge.kind {
                HostMasterType::LinuxBridge => AttachedBridge::Linux(owner),
                HostMasterType::OvsBridge => AttachedBridge::Ovs(owner, ovsdb.clone()),
            }
        }),
        netns: spec.netns.clone(),
        ports: spec.ports.clone(),
        aging_seconds: spec.aging_seconds,
        mac_limit: spec.mac_limit,
        port_limits: spec.port_limits,
        learn_from_vteps: spec.learn_from_vteps,
    })
}
