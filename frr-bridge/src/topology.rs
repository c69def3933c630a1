//! The dataplane's topology as frr-bridge needs it: checked once where it enters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use dataplane_api::v1;
use ipnet::IpNet;

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
    /// This node's VTEP addresses.
    pub vteps: Vec<IpAddr>,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its identifier.
    pub id: PortId,
    /// Name of its VRF; empty is the default VRF.
    pub vrf: String,
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

impl Topology {
    /// The name of an L3VNI's bridge, the same as OpenPERouter's.
    #[must_use]
    pub fn bridge_name(vni: u32) -> String {
        format!("br-pe-{vni}")
    }

    /// The name of an L3VNI's VXLAN device.
    #[must_use]
    pub fn vxlan_name(vni: u32) -> String {
        format!("vni{vni}")
    }

    /// Nothing has been asked of this dataplane (yet).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.vrfs.is_empty() && self.vnis.is_empty() && self.vteps.is_empty()
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
            let mut addresses: Vec<IpNet> =
                port.addresses.iter().filter_map(|address| address.parse().ok()).collect();
            if addresses.len() < port.addresses.len() {
                odd(format!("port {}", spec.name), "has an address that is not CIDR text");
            }
            addresses.sort();
            addresses.dedup();
            topology.ports.insert(spec.name, Port { id: port.id, vrf: spec.vrf, mtu: port.mtu, addresses });
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
            let port = if spec.udp_port == 0 { Some(VXLAN_PORT) } else { u16::try_from(spec.udp_port).ok() };
            let parsed = address(&spec.vtep_address).zip(Mac::from_slice(&spec.router_mac)).zip(port);
            match parsed {
                Some(((vtep, router_mac), port)) if (1..1 << 24).contains(&spec.vni) => {
                    topology.vnis.insert(spec.vni, L3Vni { vrf: spec.vrf, vtep, port, router_mac, mtu });
                }
                _ => odd(format!("VNI {}", spec.vni), "has a VNI, VTEP, UDP port or router MAC that is none"),
            }
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
}
