use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::{Asn, Int, LabelSelector, NetnsPath, PeerType, RouteTarget, Vni, VrfName};

/// A VRF carried between PEs by EVPN type-5 routes over VXLAN (RFC 9136 section 4.4.2).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L3VniSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// The VRF's name on the node.
    pub vrf: VrfName,
    /// Its number on the wire.
    pub vni: Vni,
    /// UDP port of its VXLAN packets.
    #[serde(default = "default_vxlan_port")]
    pub vxlan_port: Int<1, 65535>,
    /// Which of the node's VTEP addresses it uses; absent prefers IPv4.
    #[serde(default)]
    pub underlay_address_family: Option<AddressFamily>,
    /// The session with the host.
    #[serde(default)]
    pub host_session: Option<HostSessionSpec>,
    /// Route targets put on routes; none takes FRR's own. At most 100.
    #[serde(default, rename = "exportRTs")]
    pub export_rts: Vec<RouteTarget>,
    /// Route targets of routes taken in; none takes FRR's own. At most 100.
    #[serde(default, rename = "importRTs")]
    pub import_rts: Vec<RouteTarget>,
}

fn default_vxlan_port() -> Int<1, 65535> {
    Int::constant::<4789>()
}

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AddressFamily {
    /// IPv4.
    #[serde(rename = "IPv4")]
    Ipv4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// BGP between the router and a speaker on the host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSessionSpec {
    /// The router's ASN in the VRF.
    pub asn: Asn,
    /// The host's ASN. This or `host_type`.
    #[serde(default, rename = "hostASN")]
    pub host_asn: Option<Asn>,
    /// Any other ASN, or the router's. This or `host_asn`.
    #[serde(default)]
    pub host_type: Option<PeerType>,
    /// Pools of the link's addresses.
    #[serde(rename = "localCIDR")]
    pub local_cidr: LocalCidr,
    /// Network namespace the host's end is placed in; absent is the host's own. An addition to the API.
    #[serde(default)]
    pub netns: Option<NetnsPath>,
}

/// Pools of the addresses of the link between router and host: at least one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalCidr {
    /// IPv4.
    #[serde(default)]
    pub ipv4: Option<Ipv4Net>,
    /// IPv6.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
}
