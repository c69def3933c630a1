use std::net::IpAddr;

use foldhash::HashMap;
use ipnet::IpNet;

use super::Key;
use super::kernel::Kernel;
use crate::netlink::{Kind, Link, TABLE_MAIN};
use crate::topology::{PortId, Topology, VrfId};

/// Where an interface leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Egress {
    /// The shadow of a routed port, or the bridge of an L2VNI.
    Port(PortId),
    /// The bridge of an L3VNI, and its VXLAN device's index.
    Vni { vni: u32, vxlan: u32 },
    /// Some other device of the router namespace.
    Other,
}

/// The devices of an L2VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Domain {
    /// The identifier of its SVI.
    pub(super) svi: PortId,
    /// Its bridge: the SVI itself.
    pub(super) bridge: u32,
    /// Its VXLAN device, once that is a port of the bridge.
    pub(super) vxlan: Option<u32>,
}

/// Topology and kernel, brought together: what tables, interfaces and addresses mean.
#[derive(Debug, Default, PartialEq)]
pub(super) struct View {
    pub(super) tables: HashMap<u32, VrfId>,
    egress: HashMap<u32, Egress>,
    shadows: HashMap<PortId, u32>,
    /// L2VNIs whose bridge is there.
    pub(super) domains: HashMap<u32, Domain>,
    /// The L2VNI of a bridge or VXLAN device.
    vnis: HashMap<u32, u32>,
    /// Bridged ports' shadows: port and L2VNI, by interface index.
    pub(super) bridged: HashMap<u32, (PortId, u32)>,
    /// Of these, by L2VNI and port, those that are up and in their bridge.
    bridge_ports: HashMap<(u32, PortId), u32>,
    /// Local and connected prefixes.
    pub(super) own: HashMap<(u32, IpNet), Key>,
}

impl View {
    pub(super) fn new(topology: &Topology, kernel: &Kernel) -> Self {
        let mut view = Self::default();
        view.tables.insert(TABLE_MAIN, 0);
        for link in kernel.links.values() {
            if let Kind::Vrf { table } = link.kind
                && let Some(&vrf) = topology.vrfs.get(&link.name)
            {
                view.tables.insert(table, vrf);
            }
            let egress = match topology.ports.get(&link.name) {
                Some(port) => match port.l2vni {
                    Some(vni) => {
                        view.bridged.insert(link.index, (port.id, vni));
                        Egress::Other
                    }
                    None => Egress::Port(port.id),
                },
                None => match l2vni(topology, link) {
                    Some((vni, svi)) => {
                        view.vnis.insert(link.index, vni);
                        view.domains.insert(vni, Domain { svi, bridge: link.index, vxlan: None });
                        Egress::Port(svi)
                    }
                    None => Egress::Other,
                },
            };
            if let Egress::Port(port) = egress {
                view.shadows.insert(port, link.index);
            }
            view.egress.insert(link.index, egress);
        }
        for link in kernel.links.values() {
            if let Kind::Vxlan(vxlan) = link.kind
                && topology.vnis.contains_key(&vxlan.vni)
                && kernel.links.get(&link.master).is_some_and(|bridge| bridge.kind == Kind::Bridge)
            {
                view.egress.insert(link.master, Egress::Vni { vni: vxlan.vni, vxlan: link.index });
            }
        }
        view.fill_domains(kernel);
        for address in &kernel.addresses {
            if is_host_only(address.address.addr()) {
                continue;
            }
            let Some(table) = table_of(kernel, address.ifindex) else { continue };
            let port = view.port(address.ifindex);
            let own_prefix = IpNet::from(address.address.addr());
            view.state(table, own_prefix, Key::Local);
            if address.address.prefix_len() < own_prefix.prefix_len() {
                view.state(table, address.address.trunc(), port.map_or(Key::Local, Key::Connected));
            }
        }
        view
    }

    fn fill_domains(&mut self, kernel: &Kernel) {
        for link in kernel.links.values() {
            if let Kind::Vxlan(vxlan) = link.kind
                && let Some(domain) = self.domains.get_mut(&vxlan.vni)
                && domain.bridge == link.master
            {
                // Two of a VNI cannot be; but events may tell of the new one before they tell that the old one is gone.
                domain.vxlan = domain.vxlan.max(Some(link.index));
            }
        }
        for (&vni, domain) in &self.domains {
            self.vnis.extend(domain.vxlan.map(|vxlan| (vxlan, vni)));
        }
        for (&index, &(port, vni)) in &self.bridged {
            if let Some(link) = kernel.links.get(&index)
                && let Some(domain) = self.domains.get(&vni)
                && (link.up, link.master) == (true, domain.bridge)
            {
                self.bridge_ports.insert((vni, port), index);
            }
        }
    }

    /// Local wins over connected, and the lower port over the higher, whatever the order.
    fn state(&mut self, table: u32, prefix: IpNet, key: Key) {
        let rank = |key: &Key| match key {
            Key::Local => (0, 0),
            Key::Connected(port) => (1, *port),
            _ => (2, 0),
        };
        let known = self.own.entry((table, prefix)).or_insert_with(|| key.clone());
        if rank(&key) < rank(known) {
            *known = key;
        }
    }

    pub(super) fn egress(&self, ifindex: u32) -> Option<Egress> {
        self.egress.get(&ifindex).copied()
    }

    pub(super) fn is_vni(&self, ifindex: u32) -> bool {
        matches!(self.egress(ifindex), Some(Egress::Vni { .. }))
    }

    pub(super) fn port(&self, ifindex: u32) -> Option<PortId> {
        match self.egress(ifindex) {
            Some(Egress::Port(port)) => Some(port),
            _ => None,
        }
    }

    pub(super) fn ifindex(&self, port: PortId) -> Option<u32> {
        self.shadows.get(&port).copied()
    }

    /// The L2VNI that a bridge or a VXLAN device is of.
    pub(super) fn l2vni(&self, ifindex: u32) -> Option<u32> {
        self.vnis.get(&ifindex).copied()
    }

    /// The interface index of a port of an L2VNI, once it can take an FDB entry.
    pub(super) fn bridge_port(&self, vni: u32, port: PortId) -> Option<u32> {
        self.bridge_ports.get(&(vni, port)).copied()
    }

    pub(super) fn same_egress(&self, other: &Self) -> bool {
        self.egress == other.egress
    }
}

/// The L2VNI whose bridge a device is, and its SVI's identifier.
fn l2vni(topology: &Topology, link: &Link) -> Option<(u32, PortId)> {
    if link.kind != Kind::Bridge {
        return None;
    }
    let vni = Topology::vni_of_bridge(&link.name)?;
    Some((vni, topology.l2vnis.get(&vni)?.id))
}

/// The table of the VRF that an interface is in, directly or by its bridge; of the VRF device itself, its own.
fn table_of(kernel: &Kernel, ifindex: u32) -> Option<u32> {
    let mut link = kernel.links.get(&ifindex)?;
    // Port, bridge, VRF: more levels do not exist, and a loop shall not hold us.
    for _ in 0..4 {
        if let Kind::Vrf { table } = link.kind {
            return Some(table);
        }
        if link.master == 0 {
            return Some(TABLE_MAIN);
        }
        link = kernel.links.get(&link.master)?;
    }
    None
}

/// Loopback and link-local addresses: no packet for them is forwarded to us by a route.
fn is_host_only(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}
