//! The dataplane's topology as frr-bridge needs it: checked once where it enters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use dataplane_api::v1;
use ipnet::{IpNet, Ipv6Net};

use crate::netlink::Mac;

/// A port's identifier in `Fib` messages.
pub type PortId = u32;
/// A VRF's identifier in `Fib` messages; 0 is the default VRF.
pub type VrfId = u32;

/// UDP port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;
/// Name of the default VRF, which has no device.
const DEFAULT_VRF: &str = "default";

/// The state of one dataplane process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Random, made when the process started. Identifiers mean nothing to another one.
    pub instance: u64,
    /// Ports that are programmed, by name.
    pub ports: BTreeMap<String, Port>,
    /// VRFs without the default one: name and identifier.
    pub vrfs: BTreeMap<String, VrfId>,
    /// L3VNIs by VNI.
    pub vnis: BTreeMap<u32, L3Vni>,
    /// L2VNIs by VNI. None has the number of an L3VNI.
    pub l2vnis: BTreeMap<u32, L2Vni>,
    /// This node's VTEP addresses.
    pub vteps: Vec<IpAddr>,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its identifier.
    pub id: PortId,
    /// Name of its VRF; empty is the default VRF, or none when it is bridged.
    pub vrf: String,
    /// The L2VNI whose bridge domain it is a port of; a routed port has none.
    pub l2vni: Option<u32>,
    /// Bytes; 0 when unknown.
    pub mtu: u32,
    /// The router's addresses on it.
    pub addresses: Vec<IpNet>,
}

/// An L3VNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L3Vni {
    /// Name of its VRF.
    pub vrf: String,
    /// The VTEP address it uses.
    pub vtep: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// The router MAC.
    pub router_mac: Mac,
    /// Largest inner packet, bytes; 0 when unknown.
    pub mtu: u32,
}

/// An L2VNI: a bridge domain, and the router's interface in it (SVI).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Vni {
    /// The SVI's identifier, from the same numbers as those of ports.
    pub id: PortId,
    /// Name of the VRF that routes for it; empty for a plain layer 2 overlay.
    pub vrf: String,
    /// The VTEP address it uses.
    pub vtep: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// The SVI's MAC, the same on all nodes.
    pub mac: Mac,
    /// The SVI's addresses, the same on all nodes; none in a plain overlay.
    pub gateways: Vec<IpNet>,
    /// Largest inner packet, bytes; 0 when unknown.
    pub mtu: u32,
    /// MACs behind VTEPs are learned from packets, too.
    pub learns_from_vteps: bool,
}

impl L2Vni {
    /// All addresses of the SVI's device.
    ///
    /// With an IPv6 gateway these include the link-local address that follows from the MAC (RFC 4291, appendix A): a
    /// router asks for neighbours, on behalf of packets that are not its own, from a link-local address, and Linux asks
    /// nothing without one. It is stated here and not left to the kernel because the kernel would first test it for
    /// duplicates, which it has by design: one on every node.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpNet> {
        let mut addresses = self.gateways.clone();
        if addresses.iter().any(|gateway| gateway.addr().is_ipv6()) {
            let [a, b, c, d, e, f] = self.mac.0;
            let address = Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
            addresses.extend(Ipv6Net::new(address, 64).map(IpNet::from));
        }
        addresses
    }
}

impl Topology {
    /// The name of a VNI's bridge, the same as OpenPERouter's.
    #[must_use]
    pub fn bridge_name(vni: u32) -> String {
        format!("br-pe-{vni}")
    }

    /// The VNI of the bridge of this name.
    #[must_use]
    pub fn vni_of_bridge(name: &str) -> Option<u32> {
        let vni = name.strip_prefix("br-pe-")?.parse().ok()?;
        (Self::bridge_name(vni) == name).then_some(vni)
    }

    /// The name of a VNI's VXLAN device.
    #[must_use]
    pub fn vxlan_name(vni: u32) -> String {
        format!("vni{vni}")
    }

    /// Nothing has been asked of this dataplane (yet).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
            && self.vrfs.is_empty()
            && self.vnis.is_empty()
            && self.l2vnis.is_empty()
            && self.vteps.is_empty()
    }

    /// Takes what can be used of a state. What is failed, or makes no sense, is left out and named in the second value.
    #[must_use]
    pub fn from_state(state: v1::TopologyState) -> (Self, Vec<Oddity>) {
        let mut oddities = Vec::new();
        let mut odd = |object: String, reason: &'static str| oddities.push(Oddity { object, reason });
        let mut topology = Self { instance: state.instance, ..Self::default() };
        for port in state.ports {
            let failed = port.health() == v1::Health::Failed;
            let Some(spec) = port.spec else {
                odd(format!("port {}", port.id), "has no spec");
                continue;
            };
            if failed {
                continue;
            }
            if !is_device_name(&spec.name) {
                odd(format!("port {:?}", spec.name), "is not a device name");
                continue;
            }
            let (mut addresses, all) = addresses(&port.addresses);
            if !all {
                odd(format!("port {}", spec.name), "has an address that is not CIDR text");
            }
            let l2vni = spec.bridge.map(|bridge| bridge.l2vni);
            if l2vni.is_some() && !(addresses.is_empty() && spec.vrf.is_empty()) {
                odd(
                    format!("port {}", spec.name),
                    "is bridged and has a VRF or addresses, which do not count",
                );
                addresses = Vec::new();
            }
            let vrf = if l2vni.is_some() { String::new() } else { spec.vrf };
            topology.ports.insert(spec.name, Port { id: port.id, vrf, l2vni, mtu: port.mtu, addresses });
        }
        for vrf in state.vrfs {
            let name = vrf.spec.unwrap_or_default().name;
            if vrf.id == 0 || name == DEFAULT_VRF || !vrf.error.is_empty() {
                continue;
            }
            if is_device_name(&name) {
                topology.vrfs.insert(name, vrf.id);
            } else {
                odd(format!("VRF {name:?}"), "is not a device name");
            }
        }
        for vni in state.l3vnis {
            let failed = vni.health() == v1::Health::Failed;
            let mtu = vni.mtu;
            let spec = vni.spec.unwrap_or_default();
            if failed {
                continue;
            }
            let parsed = Tunnel::new(spec.vni, &spec.vtep_address, spec.udp_port, &spec.router_mac);
            match parsed {
                Some(Tunnel { vtep, port, mac: router_mac }) => {
                    topology.vnis.insert(spec.vni, L3Vni { vrf: spec.vrf, vtep, port, router_mac, mtu });
                }
                None => {
                    odd(format!("VNI {}", spec.vni), "has a VNI, VTEP, UDP port or router MAC that is none");
                }
            }
        }
        for vni in state.l2vnis {
            let failed = vni.health() == v1::Health::Failed;
            let (id, mtu) = (vni.id, vni.mtu);
            let spec = vni.spec.unwrap_or_default();
            if failed {
                continue;
            }
            let name = format!("L2VNI {}", spec.vni);
            let Some(Tunnel { vtep, port, mac }) =
                Tunnel::new(spec.vni, &spec.vtep_address, spec.udp_port, &spec.mac)
            else {
                odd(name, "has a VNI, VTEP, UDP port or MAC that is none");
                continue;
            };
            if topology.vnis.contains_key(&spec.vni) {
                odd(name, "is an L3VNI, too");
                continue;
            }
            let (mut gateways, all) = addresses(&spec.gateway_addresses);
            if !all {
                odd(name.clone(), "has a gateway address that is not CIDR text");
            }
            if spec.vrf.is_empty() && !gateways.is_empty() {
                odd(name, "has gateway addresses and no VRF, so that they do not count");
                gateways = Vec::new();
            }
            let learns_from_vteps = spec.learn_from_vteps;
            let l2vni = L2Vni { id, vrf: spec.vrf, vtep, port, mac, gateways, mtu, learns_from_vteps };
            topology.l2vnis.insert(spec.vni, l2vni);
        }
        for bytes in state.vtep_addresses {
            match address(&bytes) {
                Some(vtep) => topology.vteps.push(vtep),
                None => odd(format!("VTEP address {bytes:?}"), "has neither 4 nor 16 bytes"),
            }
        }
        (topology, oddities)
    }
}

/// An object that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oddity {
    object: String,
    reason: &'static str,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object, self.reason)
    }
}

/// 1 to 15 characters that Linux takes as an interface name, and that cannot lead out of a sysctl's directory.
fn is_device_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
}

/// What VNIs of both kinds have in common.
struct Tunnel {
    vtep: IpAddr,
    port: u16,
    mac: Mac,
}

impl Tunnel {
    fn new(vni: u32, vtep: &[u8], udp_port: u32, mac: &[u8]) -> Option<Self> {
        let port = if udp_port == 0 { VXLAN_PORT } else { u16::try_from(udp_port).ok()? };
        let tunnel = Self { vtep: address(vtep)?, port, mac: Mac::from_slice(mac)? };
        (1..1 << 24).contains(&vni).then_some(tunnel)
    }
}

/// The texts that are CIDR, sorted, and whether all are.
fn addresses(texts: &[String]) -> (Vec<IpNet>, bool) {
    let mut addresses: Vec<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    let all = addresses.len() == texts.len();
    addresses.sort();
    addresses.dedup();
    (addresses, all)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
        .filter(|address| !address.is_unspecified() && !address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_is_failed_or_makes_no_sense_and_keeps_the_rest() {
        let port = |name: &str, id, health| v1::PortState {
            spec: Some(v1::PortSpec { name: name.into(), ..Default::default() }),
            id,
            health,
            addresses: vec!["10.0.0.1/24".into(), "nonsense".into()],
            ..Default::default()
        };
        let vni = |vni, vtep: &[u8]| v1::L3VniState {
            spec: Some(v1::L3VniSpec {
                vni,
                vrf: "red".into(),
                vtep_address: vtep.to_vec().into(),
                router_mac: vec![2, 0, 0, 0, 0, 1].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let (topology, oddities) = Topology::from_state(v1::TopologyState {
            ports: vec![
                port("up", 1, v1::Health::Up as i32),
                port("down", 2, v1::Health::Down as i32),
                port("failed", 3, v1::Health::Failed as i32),
                port("../../etc", 4, v1::Health::Up as i32),
            ],
            vrfs: vec![v1::VrfState {
                spec: Some(v1::VrfSpec { name: "default".into() }),
                ..Default::default()
            }],
            l3vnis: vec![vni(100, &[10, 0, 0, 1]), vni(101, &[10, 0]), vni(1 << 24, &[10, 0, 0, 1])],
            vtep_addresses: vec![vec![10, 0, 0, 1].into(), vec![].into()],
            ..Default::default()
        });
        assert_eq!(topology.ports.keys().collect::<Vec<_>>(), ["down", "up"]);
        assert_eq!(topology.ports["up"].addresses, ["10.0.0.1/24".parse::<IpNet>().expect("CIDR")]);
        assert!(topology.vrfs.is_empty());
        assert_eq!(topology.vnis.keys().copied().collect::<Vec<_>>(), [100]);
        assert_eq!(topology.vnis[&100].port, 4789);
        assert_eq!(topology.vteps.len(), 1);
        assert_eq!(oddities.len(), 6, "{oddities:?}");
    }
    #[test]
    fn an_l2vni_is_checked_and_its_svi_has_a_link_local_address_only_beside_an_ipv6_gateway() {
        let vni = |vni, vrf: &str, gateways: &[&str]| v1::L2VniState {
            spec: Some(v1::L2VniSpec {
                vni,
                vrf: vrf.into(),
                vtep_address: vec![10, 0, 0, 1].into(),
                mac: vec![0, 0xf3, 0, 0, 0, 0x6f].into(),
                gateway_addresses: gateways.iter().map(ToString::to_string).collect(),
                ..Default::default()
            }),
            id: 7,
            ..Default::default()
        };
        let l3vni = v1::L3VniSpec {
            vni: 100,
            vtep_address: vec![10, 0, 0, 1].into(),
            router_mac: vec![2, 0, 0, 0, 0, 1].into(),
            ..Default::default()
        };
        let bridged = v1::PortSpec {
            name: "p0".into(),
            vrf: "red".into(),
            bridge: Some(v1::BridgePortSpec { l2vni: 110, ..Default::default() }),
            ..Default::default()
        };
        let (topology, oddities) = Topology::from_state(v1::TopologyState {
            l3vnis: vec![v1::L3VniState { spec: Some(l3vni), ..Default::default() }],
            l2vnis: vec![
                vni(100, "", &[]),
                vni(110, "red", &["10.1.0.1/24", "fd00::1/64", "nonsense"]),
                vni(120, "red", &["10.2.0.1/24"]),
                vni(130, "", &["10.3.0.1/24"]),
                vni(0, "", &[]),
            ],
            ports: vec![v1::PortState { spec: Some(bridged), ..Default::default() }],
            ..Default::default()
        });
        let addresses =
            |vni| topology.l2vnis[&vni].addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(topology.l2vnis.keys().copied().collect::<Vec<_>>(), [110, 120, 130]);
        assert_eq!(addresses(110), ["10.1.0.1/24", "fd00::1/64", "fe80::2f3:ff:fe00:6f/64"]);
        assert_eq!(addresses(120), ["10.2.0.1/24"]);
        assert_eq!(addresses(130), [""; 0], "a plain overlay has no router");
        assert_eq!((topology.ports["p0"].l2vni, topology.ports["p0"].vrf.as_str()), (Some(110), ""));
        assert_eq!(oddities.len(), 5, "{oddities:?}");
    }
}
