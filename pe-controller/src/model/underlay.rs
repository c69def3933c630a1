use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use super::{Asn, Int, InterfaceName, LabelSelector, Password, PciAddress};

/// The node's connection to the fabric: interfaces, BGP neighbours, VTEP and router-id pools.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnderlaySpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// The router's ASN.
    pub asn: Asn,
    /// Pool of router-ids.
    #[serde(default = "default_router_id_cidr", rename = "routerIDCIDR")]
    pub router_id_cidr: Ipv4Net,
    /// BGP neighbours, 1 to 128.
    pub neighbors: Vec<NeighborSpec>,
    /// Interfaces to the fabric, at least one.
    pub interfaces: Vec<UnderlayInterface>,
    /// Pools of VTEP addresses.
    #[serde(default)]
    pub tunnel_endpoint: Option<TunnelEndpointSpec>,
    /// BGP graceful restart (RFC 4724); absent is off.
    #[serde(default)]
    pub graceful_restart: Option<GracefulRestartSpec>,
    /// IS-IS.
    #[serde(default)]
    pub isis: Option<IsisSpec>,
    /// SRv6.
    #[serde(default)]
    pub srv6: Option<Srv6Spec>,
    /// This node reflects routes (RFC 4456).
    #[serde(default)]
    pub route_reflector: Option<RouteReflectorSpec>,
}

fn default_router_id_cidr() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 24)
}

/// Pools of VTEP addresses.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TunnelEndpointSpec {
    /// One or two, at most one per family.
    pub cidrs: Vec<IpNet>,
}

/// BGP graceful restart.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GracefulRestartSpec {
    /// How long peers keep this router's routes while it restarts, seconds.
    #[serde(default = "default_restart_time")]
    pub restart_time_seconds: Int<1, 4095>,
    /// How long a restarting peer's routes are kept here, seconds.
    #[serde(default = "default_stale_path_time")]
    pub stale_path_time_seconds: Int<1, 4095>,
}

impl GracefulRestartSpec {
    /// FRR's and the API's default restart time, seconds.
    pub const RESTART_TIME: u32 = 120;
    /// FRR's and the API's default stale path time, seconds.
    pub const STALE_PATH_TIME: u32 = 360;
}

fn default_restart_time() -> Int<1, 4095> {
    Int::constant::<{ GracefulRestartSpec::RESTART_TIME }>()
}

fn default_stale_path_time() -> Int<1, 4095> {
    Int::constant::<{ GracefulRestartSpec::STALE_PATH_TIME }>()
}

/// IS-IS. This release says that it does not carry it, so the content is not looked into.
pub type IsisSpec = serde_json::Map<String, serde_json::Value>;

/// SRv6. This release says that it does not carry it, so the content is not looked into.
pub type Srv6Spec = serde_json::Map<String, serde_json::Value>;

/// Route reflection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteReflectorSpec {
    /// The cluster-id all reflectors of the same clients share (RFC 4456 section 7).
    #[serde(default = "default_cluster_id", rename = "clusterID")]
    pub cluster_id: Ipv4Addr,
}

fn default_cluster_id() -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1)
}

/// One interface to the fabric. `type` says which member is set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnderlayInterface {
    /// How it is obtained.
    pub r#type: InterfaceType,
    /// A device of the host.
    #[serde(default)]
    pub network_device: Option<NetworkDevice>,
    /// A device made by a CNI plugin.
    #[serde(default)]
    pub cni_device: Option<CniDevice>,
    /// A PCI function that DPDK drives itself. An addition to the API.
    #[serde(default)]
    pub pci_device: Option<PciDevice>,
}

/// How an underlay interface is obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum InterfaceType {
    /// It exists on the host.
    NetworkDevice,
    /// A CNI plugin makes it.
    #[serde(rename = "CNIDevice")]
    CniDevice,
    /// DPDK drives it.
    #[serde(rename = "PCIDevice")]
    PciDevice,
}

/// A network device of the host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkDevice {
    /// Its name there, and in the router.
    pub interface_name: InterfaceName,
}

/// A PCI function.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// The name it gets in the router.
    pub interface_name: InterfaceName,
}

/// A device made by a CNI plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CniDevice {
    /// How the plugin is configured; `RawConfig` is the only way there is.
    pub r#type: String,
    /// The plugin's configuration.
    #[serde(default)]
    pub raw_config: Option<serde_json::Value>,
    /// The name the device gets.
    #[serde(default)]
    pub interface_name: Option<InterfaceName>,
    /// Arguments of its capabilities.
    #[serde(default)]
    pub runtime_config: Option<serde_json::Value>,
}

/// A BGP neighbour in the fabric.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeighborSpec {
    /// Its ASN. This or `type`.
    #[serde(default)]
    pub asn: Option<Asn>,
    /// Any other ASN, or ours. This or `asn`.
    #[serde(default)]
    pub r#type: Option<PeerType>,
    /// Its address. This, `interface` or `listen_range`.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// The interface it is reached by, unnumbered over IPv6 link-local addresses.
    #[serde(default)]
    pub interface: Option<InterfaceName>,
    /// Accept any neighbour from this range.
    #[serde(default)]
    pub listen_range: Option<IpNet>,
    /// TCP port; 0 and absent are 179.
    #[serde(default)]
    pub port: Option<Int<0, 16384>>,
    /// TCP MD5 key.
    #[serde(default)]
    pub password: Option<Password>,
    /// Name of a Kubernetes secret that holds the key.
    #[serde(default)]
    pub password_secret: Option<String>,
    /// Hold time, seconds: 0, or 3 and more. Together with the keepalive time.
    #[serde(default)]
    pub hold_time_seconds: Option<Int<0, 65535>>,
    /// Keepalive time, seconds, at most the hold time.
    #[serde(default)]
    pub keepalive_time_seconds: Option<Int<0, 65535>>,
    /// Pause between attempts to connect, seconds.
    #[serde(default)]
    pub connect_time_seconds: Option<Int<1, 65535>>,
    /// Features of the session.
    #[serde(default)]
    pub properties: Vec<NeighborProperty>,
    /// BFD for the session; `{}` takes the defaults.
    #[serde(default)]
    pub bfd: Option<BfdSpec>,
    /// Address families; none takes those that the other objects need.
    #[serde(default)]
    pub address_families: Vec<NeighborAf>,
}

/// A neighbour's ASN relative to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum PeerType {
    /// Any other.
    External,
    /// Ours.
    Internal,
}

/// A feature of a session.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeighborProperty {
    /// Which.
    pub r#type: NeighborPropertyType,
    /// Parameters of `ebgpMultiHop`.
    #[serde(default)]
    pub ebgp_multi_hop: Option<EbgpMultiHop>,
}

/// Features of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NeighborPropertyType {
    /// The neighbour is more than one hop away.
    EbgpMultiHop,
}

/// Parameters of a multihop session.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EbgpMultiHop {
    /// Hops; absent is 255.
    #[serde(default)]
    pub ttl: Option<Int<1, 255>>,
}

/// BFD (RFC 5880).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BfdSpec {
    /// Shortest interval we can receive at, ms; absent is 300.
    #[serde(default)]
    pub receive_interval: Option<Int<10, 60000>>,
    /// Interval we want to send at, ms; absent is 300.
    #[serde(default)]
    pub transmit_interval: Option<Int<10, 60000>>,
    /// Missed packets that bring the session down; absent is 3.
    #[serde(default)]
    pub detect_multiplier: Option<Int<2, 255>>,
    /// Who begins; absent is active.
    #[serde(default)]
    pub session_mode: Option<SessionMode>,
    /// Least TTL of a received packet, for multihop sessions; absent is 254.
    #[serde(default, rename = "minimumTTL")]
    pub minimum_ttl: Option<Int<1, 254>>,
}

/// Who begins a BFD session (RFC 5880 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SessionMode {
    /// We do.
    Active,
    /// The neighbour does.
    Passive,
}

/// An address family of a session.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeighborAf {
    /// Which.
    pub r#type: AfType,
    /// Features in this family.
    #[serde(default)]
    pub properties: Vec<AfProperty>,
}

/// BGP address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfType {
    /// IPv4 unicast.
    Ipv4Unicast,
    /// IPv6 unicast.
    Ipv6Unicast,
    /// L2VPN EVPN (RFC 7432).
    Evpn,
    /// VPN-IPv4 (RFC 4364).
    Ipv4Vpn,
    /// VPN-IPv6 (RFC 4659).
    Ipv6Vpn,
}

/// A feature in an address family.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AfProperty {
    /// Which.
    pub r#type: AfPropertyType,
}

/// Features in an address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AfPropertyType {
    /// The neighbour is a client of this route reflector.
    RouteReflectorClient,
}
