//! What `Topology.Apply` asks for, checked: names, references, overlaps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use dataplane_api::v1;
use forwarding::{BridgePort, Vni};
use ipnet::IpNet;

use crate::host::MAX_NAME;
use crate::host::bridges::{BridgeKind, DEFAULT_OVSDB, HostBridge};

/// UDP port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;
/// Largest MTU a port may have, bytes: buffers hold a jumbo frame with its outer headers.
pub(super) const MAX_MTU: u32 = 9216;
/// Smallest MTU of an IPv4 link (RFC 791).
const MIN_MTU: u32 = 68;
const MAX_VNI: u32 = (1 << 24) - 1;
/// Most local MACs of an L2VNI that names no limit.
const MAC_LIMIT: u32 = 32768;
/// Ageing of an L2VNI that names none: the kernel's bridges have it, too.
const AGING_SECONDS: u32 = 300;
/// Longest path of a unix socket, bytes (`sun_path` less the final zero).
const MAX_SOCKET: usize = 107;
/// Longest secret of a memif, bytes.
const MAX_SECRET: usize = 24;
/// Name of the VRF that exists always.
pub const DEFAULT_VRF: &str = "default";

/// A device behind a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// Driven by DPDK itself.
    Pci {
        /// Domain:bus:device.function.
        address: String,
        /// Further arguments of the driver.
        devargs: String,
    },
    /// A Linux interface.
    Netdev {
        /// Its name.
        interface: String,
    },
    /// A TAP whose far end the host uses.
    Tap {
        /// Name of the far end.
        interface: String,
        /// Path of the namespace it is placed in; empty is the host's.
        netns: String,
    },
    /// A virtio device of a virtual machine or of a DPDK process.
    VhostUser {
        /// Path of the unix socket.
        socket: String,
        /// The other side makes the socket.
        client: bool,
    },
    /// A shared memory packet interface.
    Memif {
        /// Path of the unix socket.
        socket: String,
        /// Which of the socket's interfaces.
        id: u32,
        /// The other side makes the socket.
        client: bool,
        /// Both sides must have the same; may be empty.
        secret: String,
    },
}

impl Device {
    /// It leads to something of this node (the host, a pod, a virtual machine) and not to the underlay.
    pub fn is_access(&self) -> bool {
        match self {
            Self::Tap { .. } | Self::VhostUser { .. } | Self::Memif { .. } => true,
            Self::Pci { .. } | Self::Netdev { .. } => false,
        }
    }
}

/// A port that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// As it was asked for.
    pub spec: v1::PortSpec,
    /// What is behind it.
    pub device: Device,
    /// Name of its VRF.
    pub vrf: String,
    /// Largest IP packet, bytes; `None` leaves the device's own.
    pub mtu: Option<u32>,
    /// The router's MAC on it; `None` takes the device's.
    pub mac: Option<[u8; 6]>,
    /// The router's addresses on it.
    pub addresses: Vec<IpNet>,
    /// Addresses of the host's end of a TAP.
    pub host_addresses: Vec<IpNet>,
    /// MAC of the host's end of a TAP.
    pub host_mac: Option<[u8; 6]>,
    /// The bridge the host's end of a TAP is put into.
    pub host_bridge: Option<HostBridge>,
    /// Its place in a bridge domain; none of a routed port.
    pub bridge: Option<BridgePort>,
}

impl Port {
    /// Tunnels may leave by it.
    pub fn is_underlay(&self) -> bool {
        self.vrf == DEFAULT_VRF && self.bridge.is_none() && !self.device.is_access()
    }
}

/// A VNI that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct L3Vni {
    /// As it was asked for.
    pub spec: v1::L3VniSpec,
    /// Name of its VRF.
    pub vrf: String,
    /// This node's address as its tunnels' end.
    pub vtep: IpAddr,
    /// Outer UDP destination port.
    pub udp_port: u16,
    /// The router's MAC behind its tunnels.
    pub router_mac: [u8; 6],
}

/// An L2VNI that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct L2Vni {
    /// As it was asked for.
    pub spec: v1::L2VniSpec,
    /// Name of the VRF that routes for it.
    pub vrf: Option<String>,
    /// This node's address as its tunnels' end.
    pub vtep: IpAddr,
    /// Outer UDP destination port.
    pub udp_port: u16,
    /// The router's MAC in it.
    pub mac: [u8; 6],
    /// The router's addresses in it.
    pub gateways: Vec<IpNet>,
    /// Most MACs learned on its ports.
    pub mac_limit: u32,
    /// How long what is not seen is kept.
    pub aging: Duration,
}

/// The part of a `TopologySpec` that makes sense.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// By name.
    pub ports: BTreeMap<String, Port>,
    /// Names.
    pub vrfs: BTreeSet<String>,
    /// By number.
    pub vnis: BTreeMap<u32, L3Vni>,
    /// By number.
    pub l2vnis: BTreeMap<u32, L2Vni>,
    /// At most one per family.
    pub vteps: Vec<IpAddr>,
    /// Objects that were refused.
    pub refused: Vec<Refusal>,
}

/// Identifies an object in results.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// "port", "vrf", "vni" (an L3VNI), "l2vni" or "vtep".
    pub kind: &'static str,
    /// Name or number.
    pub name: String,
}

/// An object that makes no sense, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which one.
    pub object: ObjectName,
    /// Its place among the objects of its kind in the request, from 0.
    pub position: usize,
    /// Why.
    pub error: String,
}

impl Desired {
    /// Checks every object of `spec`; those that make no sense are in `refused` only.
    pub fn check(spec: &v1::TopologySpec) -> Self {
        let mut desired = Self::default();
        desired.check_vteps(spec);
        desired.check_vrfs(spec);
        desired.check_vnis(spec);
        desired.check_l2vnis(spec);
        desired.check_ports(spec);
        desired
    }

    /// The refusal of one object of the request.
    pub fn refusal(&self, kind: &str, position: usize) -> Option<&Refusal> {
        self.refused.iter().find(|refusal| refusal.object.kind == kind && refusal.position == position)
    }

    fn refuse(&mut self, kind: &'static str, position: usize, name: String, error: String) {
        self.refused.push(Refusal { object: ObjectName { kind, name }, position, error });
    }

    fn check_vteps(&mut self, spec: &v1::TopologySpec) {
        for (position, bytes) in spec.vtep_addresses.iter().enumerate() {
            let outcome = address(bytes).and_then(|vtep| {
                if vtep.is_unspecified() || vtep.is_multicast() || vtep.is_loopback() {
                    return Err(format!("{vtep} cannot be the end of a tunnel"));
                }
                match self.vteps.iter().find(|held| held.is_ipv4() == vtep.is_ipv4()) {
                    Some(held) => Err(format!("{held} is the VTEP address of this family already")),
                    None => Ok(vtep),
                }
            });
            match outcome {
                Ok(vtep) => self.vteps.push(vtep),
                Err(error) => self.refuse("vtep", position, hex(bytes), error),
            }
        }
    }

    fn check_vrfs(&mut self, spec: &v1::TopologySpec) {
        for (position, vrf) in spec.vrfs.iter().enumerate() {
            let outcome = device_name(&vrf.name).and_then(|()| {
                if vrf.name == DEFAULT_VRF {
                    Err("the default VRF exists always and is not listed".to_owned())
                } else if self.vrfs.contains(&vrf.name) {
                    Err("another VRF has this name".to_owned())
                } else {
                    Ok(())
                }
            });
            match outcome {
                Ok(()) => drop(self.vrfs.insert(vrf.name.clone())),
                Err(error) => self.refuse("vrf", position, vrf.name.clone(), error),
            }
        }
    }

    fn check_ports(&mut self, spec: &v1::TopologySpec) {
        for (position, port) in spec.ports.iter().enumerate() {
            match self.check_port(port) {
                Ok(checked) => drop(self.ports.insert(port.name.clone(), checked)),
                Err(error) => self.refuse("port", position, port.name.clone(), error),
            }
        }
    }

    fn check_port(&self, spec: &v1::PortSpec) -> Result<Port, String> {
        device_name(&spec.name)?;
        if self.ports.contains_key(&spec.name) {
            return Err("another port has this name".to_owned());
        }
        if self.vrfs.contains(&spec.name) {
            return Err("a VRF has this name, and both are devices of the router's namespace".to_owned());
        }
        let vrf = self.check_vrf(&spec.vrf)?;
        if spec.mtu != 0 && !(MIN_MTU..=MAX_MTU).contains(&spec.mtu) {
            return Err(format!("MTU {} is not within {MIN_MTU} to {MAX_MTU}", spec.mtu));
        }
        let (mut host_addresses, mut host_mac, mut host_bridge) = (Vec::new(), None, None);
        let device = match &spec.kind {
            Some(v1::port_spec::Kind::Pci(pci)) => pci_device(pci)?,
            Some(v1::port_spec::Kind::Netdev(netdev)) => {
                device_name(&netdev.interface).map_err(|error| format!("interface: {error}"))?;
                Device::Netdev { interface: netdev.interface.clone() }
            }
            Some(v1::port_spec::Kind::Tap(tap)) => {
                device_name(&tap.interface).map_err(|error| format!("interface: {error}"))?;
                if !tap.netns.is_empty() && !tap.netns.starts_with('/') {
                    return Err(format!("network namespace `{}` is not an absolute path", tap.netns));
                }
                host_addresses = networks(&tap.addresses)?;
                host_mac = optional_mac(&tap.mac)?;
                host_bridge = tap.bridge.as_ref().map(|bridge| check_bridge(bridge, tap)).transpose()?;
                Device::Tap { interface: tap.interface.clone(), netns: tap.netns.clone() }
            }
            Some(v1::port_spec::Kind::VhostUser(vhost)) => {
                socket_path(&vhost.socket)?;
                Device::VhostUser { socket: vhost.socket.clone(), client: vhost.client }
            }
            Some(v1::port_spec::Kind::Memif(memif)) => memif_device(memif)?,
            None => return Err("it says no kind of device: pci, netdev, tap, vhost_user or memif".to_owned()),
        };
        if let Some(other) = self.ports.values().find(|other| same_device(&other.device, &device)) {
            return Err(format!("port {} has this device already", other.spec.name));
        }
        if let Some(other) = self.ports.values().find(|other| contend(&other.device, &device)) {
            return Err(format!("port {} uses this socket already, in another way", other.spec.name));
        }
        let bridge = spec.bridge.as_ref().map(|bridge| self.check_bridge_port(spec, bridge)).transpose()?;
        let addresses = networks(&spec.addresses)?;
        for other in self.ports.values().filter(|other| other.vrf == vrf) {
            if let Some(both) =
                addresses.iter().find(|own| other.addresses.iter().any(|a| a.addr() == own.addr()))
            {
                return Err(format!(
                    "port {} of the same VRF has address {} already",
                    other.spec.name,
                    both.addr()
                ));
            }
        }
        Ok(Port {
            spec: spec.clone(),
            device,
            vrf,
            mtu: (spec.mtu != 0).then_some(spec.mtu),
            mac: optional_mac(&spec.mac)?,
            addresses,
            host_addresses,
            host_mac,
            host_bridge,
            bridge,
        })
    }

    fn check_vnis(&mut self, spec: &v1::TopologySpec) {
        for (position, vni) in spec.l3vnis.iter().enumerate() {
            match self.check_vni(vni) {
                Ok(checked) => drop(self.vnis.insert(vni.vni, checked)),
                Err(error) => self.refuse("vni", position, vni.vni.to_string(), error),
            }
        }
    }

    fn check_bridge_port(
        &self,
        port: &v1::PortSpec,
        spec: &v1::BridgePortSpec,
    ) -> Result<BridgePort, String> {
        if !port.vrf.is_empty() || !port.addresses.is_empty() {
            return Err("a port of a bridge domain has no VRF and no addresses; its L2VNI has".to_owned());
        }
        if !self.l2vnis.contains_key(&spec.l2vni) {
            return Err(format!("there is no L2VNI {}", spec.l2vni));
        }
        let defaults = BridgePort::new(Vni::new(spec.l2vni).map_err(|error| error.to_string())?);
        let or = |value, default| if value == 0 { default } else { value };
        Ok(BridgePort {
            mac_limit: or(spec.mac_limit, defaults.mac_limit),
            flood_rate: or(spec.flood_rate, defaults.flood_rate),
            ..defaults
        })
    }

    fn check_l2vnis(&mut self, spec: &v1::TopologySpec) {
        for (position, vni) in spec.l2vnis.iter().enumerate() {
            match self.check_l2vni(vni) {
                Ok(checked) => drop(self.l2vnis.insert(vni.vni, checked)),
                Err(error) => self.refuse("l2vni", position, vni.vni.to_string(), error),
            }
        }
    }

    fn check_l2vni(&self, spec: &v1::L2VniSpec) -> Result<L2Vni, String> {
        if !(1..=MAX_VNI).contains(&spec.vni) {
            return Err(format!("VNI {} is not within 1 to {MAX_VNI}", spec.vni));
        }
        if self.l2vnis.contains_key(&spec.vni) {
            return Err("it is listed twice".to_owned());
        }
        if self.vnis.contains_key(&spec.vni) {
            return Err(format!("VNI {} is an L3VNI already", spec.vni));
        }
        let vrf = match spec.vrf.as_str() {
            "" => None,
            DEFAULT_VRF => return Err("the default VRF routes for no L2VNI".to_owned()),
            name => Some(self.check_vrf(name)?),
        };
        let (vtep, udp_port) = self.check_tunnel(&spec.vtep_address, spec.udp_port)?;
        let gateways = networks(&spec.gateway_addresses)?;
        if vrf.is_none() && !gateways.is_empty() {
            return Err("it has gateway addresses but no VRF that routes for it".to_owned());
        }
        for other in self.l2vnis.values().filter(|other| vrf.is_some() && other.vrf == vrf) {
            let overlaps = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
            let both = gateways.iter().find(|own| other.gateways.iter().any(|held| overlaps(own, held)));
            if let Some(both) = both {
                return Err(format!("{both} overlaps with L2VNI {} in the same VRF", other.spec.vni));
            }
        }
        let or = |value: u32, default| if value == 0 { default } else { value };
        Ok(L2Vni {
            spec: spec.clone(),
            vrf,
            vtep,
            udp_port,
            mac: optional_mac(&spec.mac)?.ok_or("it has no MAC")?,
            gateways,
            mac_limit: or(spec.mac_limit, MAC_LIMIT),
            aging: Duration::from_secs(or(spec.aging_seconds, AGING_SECONDS).into()),
        })
    }

    /// A VNI's own end of its tunnels, and their UDP port.
    fn check_tunnel(&self, vtep: &[u8], udp_port: u32) -> Result<(IpAddr, u16), String> {
        let vtep = address(vtep).map_err(|error| format!("VTEP: {error}"))?;
        if !self.vteps.contains(&vtep) {
            return Err(format!("{vtep} is not among this node's VTEP addresses"));
        }
        let udp_port = match udp_port {
            0 => VXLAN_PORT,
            port => u16::try_from(port).map_err(|_| format!("UDP port {port} is not within 1 to 65535"))?,
        };
        Ok((vtep, udp_port))
    }

    fn check_vni(&self, spec: &v1::L3VniSpec) -> Result<L3Vni, String> {
        if !(1..=MAX_VNI).contains(&spec.vni) {
            return Err(format!("VNI {} is not within 1 to {MAX_VNI}", spec.vni));
        }
        if self.vnis.contains_key(&spec.vni) {
            return Err("it is listed twice".to_owned());
        }
        if spec.vrf.is_empty() || spec.vrf == DEFAULT_VRF {
            return Err("an L3VNI needs a VRF of its own, not the default one".to_owned());
        }
        let vrf = self.check_vrf(&spec.vrf)?;
        if let Some(other) = self.vnis.values().find(|other| other.vrf == vrf) {
            return Err(format!("VRF {vrf} has VNI {} already", other.spec.vni));
        }
        let (vtep, udp_port) = self.check_tunnel(&spec.vtep_address, spec.udp_port)?;
        let router_mac = optional_mac(&spec.router_mac)?.ok_or("it has no router MAC")?;
        Ok(L3Vni { spec: spec.clone(), vrf, vtep, udp_port, router_mac })
    }

    fn check_vrf(&self, name: &str) -> Result<String, String> {
        match name {
            "" | DEFAULT_VRF => Ok(DEFAULT_VRF.to_owned()),
            name if self.vrfs.contains(name) => Ok(name.to_owned()),
            name => Err(format!("there is no VRF {name}")),
        }
    }
}

/// Whether two devices are one. Arguments do not tell devices apart.
fn same_device(left: &Device, right: &Device) -> bool {
    match (left, right) {
        (Device::Pci { address: left, .. }, Device::Pci { address: right, .. })
        | (Device::VhostUser { socket: left, .. }, Device::VhostUser { socket: right, .. }) => left == right,
        (Device::Memif { socket: left, id: one, .. }, Device::Memif { socket: right, id: other, .. }) => {
            left == right && one == other
        }
        _ => left == right,
    }
}

/// Whether two devices that are not one need the same socket for themselves. Memifs share one as long as all of them are on
/// the same side of it.
fn contend(left: &Device, right: &Device) -> bool {
    match (left, right) {
        (Device::VhostUser { socket: left, .. }, Device::Memif { socket: right, .. })
        | (Device::Memif { socket: left, .. }, Device::VhostUser { socket: right, .. }) => left == right,
        (
            Device::Memif { socket: left, client: one, .. },
            Device::Memif { socket: right, client: other, .. },
        ) => left == right && one != other,
        _ => false,
    }
}

fn memif_device(memif: &v1::MemifPort) -> Result<Device, String> {
    socket_path(&memif.socket)?;
    if memif.secret.len() > MAX_SECRET {
        return Err(format!("its secret has {} bytes, {MAX_SECRET} are possible", memif.secret.len()));
    }
    if !memif.secret.chars().all(is_plain) {
        return Err("its secret contains a character that drivers cannot be told".to_owned());
    }
    Ok(Device::Memif {
        socket: memif.socket.clone(),
        id: memif.id,
        client: memif.client,
        secret: memif.secret.clone(),
    })
}

/// What can be said in a driver's arguments.
fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, ',' | '=' | '[' | ']' | '(' | ')' | '"' | '\'')
}

fn socket_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(format!("`{}` is not the absolute path of a socket", path.escape_default()));
    }
    if path.len() > MAX_SOCKET {
        return Err(format!("the path of its socket has {} bytes, {MAX_SOCKET} are possible", path.len()));
    }
    if !path.chars().all(is_plain) {
        return Err(format!("`{}` contains a character that drivers cannot be told", path.escape_default()));
    }
    Ok(())
}

fn check_bridge(bridge: &v1::HostBridge, tap: &v1::TapPort) -> Result<HostBridge, String> {
    device_name(&bridge.name).map_err(|error| format!("bridge: {error}"))?;
    if bridge.name == tap.interface {
        return Err(format!("its bridge has the name of its interface, {}", bridge.name));
    }
    let kind = match bridge.kind() {
        v1::host_bridge::Kind::Linux => BridgeKind::Linux,
        v1::host_bridge::Kind::Ovs => {
            let socket = if bridge.ovsdb.is_empty() { DEFAULT_OVSDB } else { &bridge.ovsdb };
            socket_path(socket).map_err(|error| format!("bridge: {error}"))?;
            BridgeKind::Ovs { socket: socket.to_owned() }
        }
        v1::host_bridge::Kind::Unspecified => {
            return Err(format!("bridge {} has no kind: Linux or OVS", bridge.name));
        }
    };
    Ok(HostBridge { kind, name: bridge.name.clone(), managed: bridge.managed })
}

fn pci_device(pci: &v1::PciPort) -> Result<Device, String> {
    let address: dpdk::PciAddress = pci.address.parse().map_err(|error| format!("{error}"))?;
    if pci.devargs.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("device arguments `{}` contain spaces", pci.devargs.escape_default()));
    }
    Ok(Device::Pci { address: address.to_string(), devargs: pci.devargs.clone() })
}

/// What the kernel takes for a device's name (`dev_valid_name`), less what has a meaning of its own in file names.
fn device_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!(
            "`{}` has {} bytes, a device's name 1 to {MAX_NAME}",
            name.escape_default(),
            name.len()
        ));
    }
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | ':' | ',' | '=' | '%');
    if name == "." || name == ".." || name == "lo" || name.contains(odd) {
        return Err(format!("`{}` cannot be a device's name", name.escape_default()));
    }
    Ok(())
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::with_capacity(texts.len());
    for text in texts {
        let network: IpNet = text.parse().map_err(|_| {
            format!("`{}` is not an address with a prefix length, e.g. 192.0.2.1/24", text.escape_default())
        })?;
        if network.addr().is_multicast() || network.addr().is_unspecified() {
            return Err(format!("{} cannot be an interface's address", network.addr()));
        }
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(networks)
}

fn optional_mac(bytes: &[u8]) -> Result<Option<[u8; 6]>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mac: [u8; 6] = bytes.try_into().map_err(|_| format!("a MAC has 6 bytes, not {}", bytes.len()))?;
    if mac == [0; 6] || mac[0] & 1 != 0 {
        return Err(format!("{} is not a unicast MAC", hex(bytes)));
    }
    Ok(Some(mac))
}

/// An address as it travels: 4 or 16 bytes.
pub fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(v6))
    } else {
        Err(format!("an address has 4 or 16 bytes, not {}", bytes.len()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, interface: &str) -> v1::PortSpec {
        let kind = Some(v1::port_spec::Kind::Netdev(v1::NetdevPort { interface: interface.into() }));
        v1::PortSpec { name: name.into(), kind, ..Default::default() }
    }

    fn error_of(change: impl FnOnce(&mut v1::PortSpec)) -> String {
        let mut spec = port("p", "eth0");
        change(&mut spec);
        let desired = Desired::check(&v1::TopologySpec { ports: vec![spec], ..Default::default() });
        assert!(desired.ports.is_empty());
        desired.refused.into_iter().next().map(|refusal| refusal.error).unwrap_or_default()
    }

    #[test]
    fn bad_ports_are_refused_with_their_reason() {
        let pci = || v1::port_spec::Kind::Pci(v1::PciPort { address: "3b:zz".into(), ..Default::default() });
        let tap = || {
            v1::port_spec::Kind::Tap(v1::TapPort {
                interface: "t".into(),
                netns: "relative".into(),
                ..Default::default()
            })
        };
        let vhost = |socket: &str| {
            v1::port_spec::Kind::VhostUser(v1::VhostUserPort { socket: socket.into(), client: false })
        };
        let memif = |secret: &str| {
            let socket = "/run/m".into();
            v1::port_spec::Kind::Memif(v1::MemifPort { socket, secret: secret.into(), ..Default::default() })
        };
        let bridged = |name: &str| {
            let bridge = Some(v1::HostBridge { name: name.into(), ..Default::default() });
            v1::port_spec::Kind::Tap(v1::TapPort { interface: "t".into(), bridge, ..Default::default() })
        };
        let cases = [
            (error_of(|port| port.name = "a/b".into()), "cannot be a device's name"),
            (error_of(|port| port.name = "sixteen-bytes-xx".into()), "16 bytes"),
            (error_of(|port| port.vrf = "red".into()), "there is no VRF red"),
            (error_of(|port| port.mtu = 67), "MTU 67"),
            (error_of(|port| port.mtu = 70_000), "MTU 70000"),
            (error_of(|port| port.mac = vec![1, 0, 0, 0, 0, 0].into()), "not a unicast MAC"),
            (error_of(|port| port.mac = vec![2, 0].into()), "6 bytes, not 2"),
            (error_of(|port| port.addresses = vec!["10.0.0.1".into()]), "prefix length"),
            (error_of(|port| port.addresses = vec!["224.0.0.1/24".into()]), "224.0.0.1"),
            (error_of(|port| port.kind = None), "no kind of device"),
            (error_of(|port| port.kind = Some(pci())), "3b:zz"),
            (error_of(|port| port.kind = Some(tap())), "absolute path"),
            (error_of(|port| port.kind = Some(vhost("vm.sock"))), "absolute path of a socket"),
            (error_of(|port| port.kind = Some(vhost("/run/a,client=1"))), "cannot be told"),
            (error_of(|port| port.kind = Some(vhost(&format!("/{}", "x".repeat(107))))), "108 bytes"),
            (error_of(|port| port.kind = Some(memif("0123456789012345678901234"))), "25 bytes"),
            (error_of(|port| port.kind = Some(memif("a=b"))), "its secret contains"),
            (error_of(|port| port.kind = Some(bridged("t"))), "the name of its interface"),
            (error_of(|port| port.kind = Some(bridged("br/0"))), "bridge: `br/0`"),
            (error_of(|port| port.kind = Some(bridged("br0"))), "no kind: Linux or OVS"),
        ];
        for (error, part) in cases {
            assert!(error.contains(part), "`{error}` does not say `{part}`");
        }
    }

    #[test]
    fn addresses_may_repeat_in_other_vrfs_only() {
        let with = |name: &str, interface: &str, vrf: &str| v1::PortSpec {
            vrf: vrf.into(),
            addresses: vec!["10.0.0.1/24".into()],
            ..port(name, interface)
        };
        let desired = Desired::check(&v1::TopologySpec {
            vrfs: vec![v1::VrfSpec { name: "red".into() }],
            ports: vec![with("a", "a", "red"), with("b", "b", ""), with("c", "c", "red")],
            ..Default::default()
        });
        assert_eq!(desired.ports.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(desired.refusal("port", 2).map(|refusal| refusal.object.name.as_str()), Some("c"));
    }

    #[test]
    fn sockets_are_shared_by_memifs_of_one_side_only() {
        let memif = |name: &str, id, client| v1::PortSpec {
            kind: Some(v1::port_spec::Kind::Memif(v1::MemifPort {
                socket: "/run/m".into(),
                id,
                client,
                secret: String::new(),
            })),
            ..port(name, "")
        };
        let vhost = |name: &str, socket: &str, client| v1::PortSpec {
            kind: Some(v1::port_spec::Kind::VhostUser(v1::VhostUserPort { socket: socket.into(), client })),
            ..port(name, "")
        };
        let ports = vec![
            memif("a", 0, false),
            memif("b", 1, false),
            memif("c", 1, false),
            memif("d", 2, true),
            vhost("e", "/run/m", false),
            vhost("f", "/run/v", false),
            vhost("g", "/run/v", true),
        ];
        let desired = Desired::check(&v1::TopologySpec { ports, ..Default::default() });
        assert_eq!(desired.ports.keys().collect::<Vec<_>>(), ["a", "b", "f"]);
        let reason = |position| desired.refusal("port", position).map(|refusal| refusal.error.as_str());
        assert_eq!(reason(2), Some("port b has this device already"));
        assert_eq!(reason(3), Some("port a uses this socket already, in another way"));
    }
}
