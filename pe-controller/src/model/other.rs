//! Kinds that are read and checked, and which this release then says it does not carry.

use ipnet::IpNet;
use serde::Deserialize;

use super::{AddressFamily, HostSessionSpec, Int, InterfaceName, LabelSelector, RouteTarget, Vni, VrfName};

/// A bridge domain carried by EVPN.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L2VniSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// Its number on the wire.
    pub vni: Vni,
    /// UDP port of its VXLAN packets.
    #[serde(default)]
    pub vxlan_port: Option<Int<1, 65535>>,
    /// Which of the node's VTEP addresses it uses.
    #[serde(default)]
    pub underlay_address_family: Option<AddressFamily>,
    /// The VRF that routes for it.
    #[serde(default)]
    pub routing_domain: Option<RoutingDomainSpec>,
    /// The VRF's addresses in it.
    #[serde(default, rename = "gatewayIPs")]
    pub gateway_ips: Vec<IpNet>,
    /// The host's bridge it is attached to.
    #[serde(default)]
    pub host_master: Option<HostMasterSpec>,
}

/// The VRF that routes for an L2VNI.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingDomainSpec {
    /// `L3VNI` or `L3VPN`.
    pub r#type: String,
    /// The L3VNI.
    #[serde(default)]
    pub l3vni: Option<NamedReference>,
    /// The L3VPN.
    #[serde(default)]
    pub l3vpn: Option<NamedReference>,
}

/// Another object, by name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedReference {
    /// Its name.
    pub name: String,
}

/// The host's bridge an L2VNI is attached to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostMasterSpec {
    /// `LinuxBridge` or `OVSBridge`.
    pub r#type: String,
    /// A Linux bridge.
    #[serde(default)]
    pub linux_bridge: Option<BridgeSpec>,
    /// An Open vSwitch bridge.
    #[serde(default)]
    pub ovs_bridge: Option<BridgeSpec>,
}

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BridgeSpec {
    /// `Managed` or `External`.
    pub lifecycle: String,
    /// Its name, when external.
    #[serde(default)]
    pub name: Option<InterfaceName>,
}

/// A VRF carried by SRv6.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L3VpnSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// The VRF's name on the node.
    pub vrf: VrfName,
    /// Route targets of routes taken in.
    #[serde(rename = "importRTs")]
    pub import_rts: Vec<RouteTarget>,
    /// Route targets put on routes.
    #[serde(default, rename = "exportRTs")]
    pub export_rts: Vec<RouteTarget>,
    /// The assigned number of its route distinguisher.
    pub rd_assigned_number: Int<1, 65535>,
    /// The session with the host.
    #[serde(default)]
    pub host_session: Option<HostSessionSpec>,
}

/// A host session in the default VRF.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L3PassthroughSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// The session with the host.
    pub host_session: HostSessionSpec,
}
