use ipnet::IpNet;
use serde::Deserialize;

use super::{
    AddressFamily, BridgeName, Int, InterfaceName, LabelSelector, MemifSecret, NetnsPath, ObjectName,
    SocketPath, Vni,
};

/// A bridge domain carried between PEs by EVPN type-2 and type-3 routes over VXLAN (RFC 8365).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L2VniSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// Its number on the wire.
    pub vni: Vni,
    /// UDP port of its VXLAN packets.
    #[serde(default = "default_vxlan_port")]
    pub vxlan_port: Int<1, 65535>,
    /// Which of the node's VTEP addresses it uses; absent prefers IPv4.
    #[serde(default)]
    pub underlay_address_family: Option<AddressFamily>,
    /// What routes for it; absent is a layer 2 overlay by itself.
    #[serde(default)]
    pub routing_domain: Option<RoutingDomainSpec>,
    /// The router's addresses in it, the same on all nodes: at most one per family, and only with `routing_domain`.
    #[serde(default, rename = "gatewayIPs")]
    pub gateway_ips: Vec<IpNet>,
    /// The host's bridge that its TAP is put into; absent leaves the TAP to others.
    #[serde(default)]
    pub host_master: Option<HostMasterSpec>,
    /// Network namespace the TAP's host end and the bridge are in; absent is the host's own. An addition to the API.
    #[serde(default)]
    pub netns: Option<NetnsPath>,
    /// Ports of virtual machines and of DPDK processes. An addition to the API.
    #[serde(default)]
    pub ports: Vec<L2PortSpec>,
    /// How long a local MAC or neighbour that is not seen is kept, seconds; absent leaves it to the dataplane. An addition
    /// to the API.
    #[serde(default)]
    pub aging_seconds: Option<Int<10, 1_000_000>>,
    /// Most MACs that are learned on its ports together; absent leaves it to the dataplane. An addition to the API.
    #[serde(default)]
    pub mac_limit: Option<Int<1, 1_000_000>>,
    /// Most MACs that are learned on one of its ports; absent leaves it to the dataplane. An addition to the API.
    #[serde(default)]
    pub port_mac_limit: Option<Int<1, 1_000_000>>,
    /// Broadcast, multicast and unknown unicast frames that one of its ports may send in, per second; absent leaves it to
    /// the dataplane. An addition to the API.
    #[serde(default)]
    pub flood_rate: Option<Int<1, 100_000_000>>,
    /// Remote MACs are learned from packets too, for VTEPs that do not speak EVPN. An addition to the API.
    #[serde(default)]
    pub learn_from_vteps: bool,
}

fn default_vxlan_port() -> Int<1, 65535> {
    Int::constant::<4789>()
}

/// What routes for an L2VNI. `type` says which member is set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingDomainSpec {
    /// The kind of object.
    pub r#type: RoutingDomainType,
    /// An L3VNI.
    #[serde(default)]
    pub l3vni: Option<NamedReference>,
    /// An L3VPN.
    #[serde(default)]
    pub l3vpn: Option<NamedReference>,
}

/// Kinds of object that route for an L2VNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RoutingDomainType {
    /// An L3VNI.
    #[serde(rename = "L3VNI")]
    L3Vni,
    /// An L3VPN.
    #[serde(rename = "L3VPN")]
    L3Vpn,
}

/// Another object, by name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedReference {
    /// Its name.
    pub name: ObjectName,
}

/// The host's bridge that an L2VNI is attached to. `type` says which member is set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostMasterSpec {
    /// What forwards in it.
    pub r#type: HostMasterType,
    /// A Linux bridge.
    #[serde(default)]
    pub linux_bridge: Option<BridgeSpec>,
    /// An Open vSwitch bridge.
    #[serde(default)]
    pub ovs_bridge: Option<BridgeSpec>,
}

/// Kinds of the host's bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum HostMasterType {
    /// The Linux kernel's.
    LinuxBridge,
    /// Open vSwitch's.
    #[serde(rename = "OVSBridge")]
    OvsBridge,
}

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BridgeSpec {
    /// Whose it is.
    pub lifecycle: BridgeLifecycle,
    /// Its name, if and only if it is external.
    #[serde(default)]
    pub name: Option<BridgeName>,
}

/// Whose a bridge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum BridgeLifecycle {
    /// Ours: it comes and goes with the L2VNI.
    Managed,
    /// Somebody else's: it is waited for.
    External,
}

/// A port of a virtual machine or of a DPDK process: one of `vhostUser` and `memif`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L2PortSpec {
    /// Its name in the dataplane and in the router.
    pub name: InterfaceName,
    /// A virtio device.
    #[serde(default)]
    pub vhost_user: Option<VhostUserSpec>,
    /// A shared memory packet interface.
    #[serde(default)]
    pub memif: Option<MemifSpec>,
}

/// A virtio device of a virtual machine or of a DPDK process (vhost-user).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VhostUserSpec {
    /// Its unix socket.
    pub socket_path: SocketPath,
    /// Who makes the socket: we do as `Server`.
    pub mode: SocketRole,
}

/// A shared memory packet interface of a DPDK or VPP process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemifSpec {
    /// Its unix socket. Several interfaces may share one.
    pub socket_path: SocketPath,
    /// Which of the socket's interfaces.
    pub id: Int<0, { u32::MAX }>,
    /// Who makes the socket: we do as `Server`.
    pub role: SocketRole,
    /// What both sides must know; absent is nothing.
    #[serde(default)]
    pub secret: Option<MemifSecret>,
}

/// Our part at a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SocketRole {
    /// We make it, and the other side connects.
    Server,
    /// The other side makes it, and we connect, again and again.
    Client,
}
