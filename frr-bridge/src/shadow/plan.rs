use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::{BridgePort, Kind, Link, Mac, Message, Vxlan};
use crate::topology::{Port, Topology};

/// `ifalias` of the devices we made.
const MARK: &str = "openpe";
/// A VRF's table is this plus its identifier, if that is free.
const FIRST_TABLE: u32 = 1000;
/// A port of a bridge domain: the dataplane learns and floods. Frames of the kernel's own, an ARP request of the SVI, leave
/// by it all the same.
const QUIET: BridgePort = BridgePort {
    learning: false,
    neigh_suppress: false,
    flood: false,
    mcast_flood: false,
    bcast_flood: false,
};

/// The router namespace as it is.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// Links by name.
    pub links: BTreeMap<String, Link>,
    /// Addresses by interface index.
    pub addresses: BTreeMap<u32, BTreeSet<IpNet>>,
}

impl Current {
    /// From a dump.
    #[must_use]
    pub fn new(dump: Vec<Message>) -> Self {
        let mut current = Self::default();
        for message in dump {
            match message {
                Message::NewLink(link) => {
                    current.links.insert(link.name.clone(), *link);
                }
                Message::NewAddress(address) => {
                    current.addresses.entry(address.ifindex).or_default().insert(address.address);
                }
                _ => {}
            }
        }
        current
    }
}

/// One step towards what the topology asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a VRF device.
    CreateVrf {
        /// Its name.
        name: String,
        /// Its routing table.
        table: u32,
    },
    /// Make a VNI's bridge.
    CreateBridge {
        /// Its name.
        name: String,
        /// The router MAC, or the SVI's.
        mac: Mac,
    },
    /// Make a VNI's VXLAN device.
    CreateVxlan {
        /// Its name.
        name: String,
        /// VNI.
        vni: u32,
        /// VTEP address.
        local: IpAddr,
        /// UDP destination port.
        port: u16,
        /// It learns remote MACs from packets.
        learning: bool,
    },
    /// Remove a device of ours.
    Delete {
        /// Its name.
        name: String,
        /// Its index.
        index: u32,
    },
    /// Change a device.
    Set {
        /// Its name.
        name: String,
        /// Its index.
        index: u32,
        /// What to change.
        change: Change,
    },
    /// Add an address.
    AddAddress {
        /// The device's name.
        name: String,
        /// Its index.
        index: u32,
        /// The address.
        address: IpNet,
    },
    /// Remove an address.
    RemoveAddress {
        /// The device's name.
        name: String,
        /// Its index.
        index: u32,
        /// The address.
        address: IpNet,
    },
}

/// A change of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Into this bridge or VRF; 0 takes it out.
    Master(u32),
    /// Administratively up.
    Up,
    /// Bytes.
    Mtu(u32),
    /// The MAC.
    Mac(Mac),
    /// No IPv6 link-local address of the kernel's making.
    NoLinkLocal,
    /// Our mark.
    Alias(&'static str),
    /// As a bridge port.
    BridgePort(BridgePort),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateVrf { name, table } => write!(f, "create VRF {name} with table {table}"),
            Self::CreateBridge { name, mac } => write!(f, "create bridge {name} with MAC {mac}"),
            Self::CreateVxlan { name, vni, local, port, .. } => {
                write!(f, "create VXLAN device {name} with VNI {vni}, local {local}, UDP port {port}")
            }
            Self::Delete { name, .. } => write!(f, "remove {name}"),
            Self::Set { name, change, .. } => write!(f, "set {name}: {change:?}"),
            Self::AddAddress { name, address, .. } => write!(f, "add {address} to {name}"),
            Self::RemoveAddress { name, address, .. } => write!(f, "remove {address} from {name}"),
        }
    }
}

/// The steps that can be taken now from `current` towards `topology`, in order; those that need a device made by an
/// earlier one follow when it is there. `former_vteps` are addresses of `lo` that were VTEP addresses before. Devices are
/// removed only when `may_remove`.
#[must_use]
pub fn plan(
    topology: &Topology,
    current: &Current,
    former_vteps: &BTreeSet<IpAddr>,
    may_remove: bool,
) -> Vec<Action> {
    let mut plan = Plan { current, actions: Vec::new() };
    plan.loopback(topology, former_vteps);
    plan.vrfs(topology);
    for vni in Vni::all(topology) {
        plan.vni(&vni);
    }
    for (name, port) in &topology.ports {
        plan.port(name, port, topology);
    }
    if may_remove {
        plan.removals(topology);
    }
    plan.actions
}

/// What the bridge and the VXLAN device of a VNI shall be.
struct Vni<'a> {
    vni: u32,
    /// Empty is none.
    vrf: &'a str,
    vtep: IpAddr,
    port: u16,
    mac: Mac,
    mtu: u32,
    /// Of the bridge.
    addresses: Vec<IpNet>,
    vxlan: BridgePort,
}

impl<'a> Vni<'a> {
    /// Of both kinds, but for those that are in a VRF which is not (yet) there.
    fn all(topology: &'a Topology) -> impl Iterator<Item = Self> {
        let l3 = topology.vnis.iter().map(|(&vni, of)| Self {
            vni,
            vrf: &of.vrf,
            vtep: of.vtep,
            port: of.port,
            mac: of.router_mac,
            mtu: of.mtu,
            addresses: Vec::new(),
            vxlan: BridgePort { learning: false, neigh_suppress: true, ..BridgePort::default() },
        });
        let l2 = topology.l2vnis.iter().map(|(&vni, of)| Self {
            vni,
            vrf: &of.vrf,
            vtep: of.vtep,
            port: of.port,
            mac: of.mac,
            mtu: of.mtu,
            addresses: of.addresses(),
            // Where VTEPs speak no EVPN, the kernel finds the way back to the hosts that speak to it by their packets.
            vxlan: BridgePort { neigh_suppress: true, learning: of.learns_from_vteps, ..QUIET },
        });
        let l3 = l3.filter(|vni| topology.vrfs.contains_key(vni.vrf));
        l3.chain(l2.filter(|vni| vni.vrf.is_empty() || topology.vrfs.contains_key(vni.vrf)))
    }
}

struct Plan<'a> {
    current: &'a Current,
    actions: Vec<Action>,
}

impl Plan<'_> {
    fn loopback(&mut self, topology: &Topology, former_vteps: &BTreeSet<IpAddr>) {
        let Some(link) = self.current.links.get("lo") else { return };
        self.set_if(!link.up, link, Change::Up);
        let present = self.current.addresses.get(&link.index);
        let has = |address: &IpNet| present.is_some_and(|all| all.contains(address));
        let (name, index) = (&link.name, link.index);
        for address in topology.vteps.iter().copied().map(IpNet::from).filter(|address| !has(address)) {
            self.actions.push(Action::AddAddress { name: name.clone(), index, address });
        }
        let gone = former_vteps.iter().filter(|address| !topology.vteps.contains(address));
        for address in gone.copied().map(IpNet::from).filter(has) {
            self.actions.push(Action::RemoveAddress { name: name.clone(), index, address });
        }
    }

    fn vrfs(&mut self, topology: &Topology) {
        let mut used: BTreeSet<u32> = self
            .current
            .links
            .values()
            .filter_map(|link| match link.kind {
                Kind::Vrf { table } => Some(table),
                _ => None,
            })
            .collect();
        for (name, &id) in &topology.vrfs {
            if let Some(link) = self.current.links.get(name) {
                // Its table stays what it is, whatever number the VRF has in this dataplane: zebra would have to
                // forget the whole VRF.
                if matches!(link.kind, Kind::Vrf { .. }) {
                    self.mark(link);
                    self.set_if(!link.up, link, Change::Up);
                }
                continue;
            }
            let wanted = FIRST_TABLE.saturating_add(id);
            let table =
                (wanted..).chain(FIRST_TABLE + 1..).find(|table| !used.contains(table)).unwrap_or(wanted);
            used.insert(table);
            self.actions.push(Action::CreateVrf { name: name.clone(), table });
        }
    }

    fn vni(&mut self, wanted: &Vni<'_>) {
        let (bridge_name, vxlan_name) = (Topology::bridge_name(wanted.vni), Topology::vxlan_name(wanted.vni));
        let bridge = self.current.links.get(&bridge_name).filter(|link| link.kind == Kind::Bridge);
        match (bridge, self.vrf(wanted.vrf)) {
            (None, _) => self.actions.push(Action::CreateBridge { name: bridge_name, mac: wanted.mac }),
            (Some(bridge), Some(vrf)) => {
                self.mark(bridge);
                self.set_if(bridge.generates_address, bridge, Change::NoLinkLocal);
                self.set_if(bridge.mac != Some(wanted.mac), bridge, Change::Mac(wanted.mac));
                self.set_if(bridge.master != vrf, bridge, Change::Master(vrf));
                // Without a port the kernel bounds nothing yet; with one it takes no more than the port's.
                self.mtu(bridge, wanted.mtu);
                // A change of VRF takes IPv6 addresses away.
                if bridge.master == vrf {
                    self.addresses(bridge, &wanted.addresses, true);
                }
                self.set_if(!bridge.up, bridge, Change::Up);
            }
            (Some(_), None) => {}
        }
        let same = |link: &Link| match link.kind {
            Kind::Vxlan(Vxlan { vni: id, local, port, learning }) => {
                id == wanted.vni
                    && local == Some(wanted.vtep)
                    && port == wanted.port
                    && learning == wanted.vxlan.learning
            }
            _ => false,
        };
        match self.current.links.get(&vxlan_name) {
            None => self.actions.push(Action::CreateVxlan {
                name: vxlan_name,
                vni: wanted.vni,
                local: wanted.vtep,
                port: wanted.port,
                learning: wanted.vxlan.learning,
            }),
            // Its identity cannot be changed; it is made anew when it is gone.
            Some(link) if !same(link) => {
                self.actions.push(Action::Delete { name: vxlan_name, index: link.index });
            }
            Some(link) => {
                let Some(bridge) = bridge else { return };
                self.mark(link);
                self.set_if(link.generates_address, link, Change::NoLinkLocal);
                self.mtu(link, wanted.mtu);
                self.bridge_port(link, bridge.index, wanted.vxlan);
            }
        }
    }

    /// The TAP itself is the dataplane's: as long as it is not there, there is nothing to do.
    fn port(&mut self, name: &str, port: &Port, topology: &Topology) {
        let Some(link) = self.current.links.get(name) else { return };
        if let Some(vni) = port.l2vni {
            let bridge = self.current.links.get(&Topology::bridge_name(vni));
            let bridge =
                bridge.filter(|link| link.kind == Kind::Bridge && topology.l2vnis.contains_key(&vni));
            let Some(bridge) = bridge else { return };
            // An address of the kernel's would be announced to the hosts behind the port.
            self.set_if(link.generates_address, link, Change::NoLinkLocal);
            self.mtu(link, port.mtu);
            self.addresses(link, &[], true);
            self.bridge_port(link, bridge.index, QUIET);
            return;
        }
        let Some(master) = self.vrf(&port.vrf) else { return };
        // The VRF first: a change of it takes IPv6 addresses away.
        if link.master != master {
            self.set_if(true, link, Change::Master(master));
            return;
        }
        self.mtu(link, port.mtu);
        self.addresses(link, &port.addresses, false);
        self.set_if(!link.up, link, Change::Up);
    }

    /// A VRF device's index, 0 for the default VRF, nothing when it is not there.
    fn vrf(&self, name: &str) -> Option<u32> {
        if name.is_empty() {
            return Some(0);
        }
        let vrf = self.current.links.get(name)?;
        matches!(vrf.kind, Kind::Vrf { .. }).then_some(vrf.index)
    }

    /// Into a bridge, then its settings, and only then up: before, it would learn.
    fn bridge_port(&mut self, link: &Link, bridge: u32, wanted: BridgePort) {
        self.set_if(link.master != bridge, link, Change::Master(bridge));
        let differs = link.master == bridge && link.bridge_port != Some(wanted);
        self.set_if(differs, link, Change::BridgePort(wanted));
        let settled = link.master == bridge && link.bridge_port == Some(wanted);
        self.set_if(!link.up && settled, link, Change::Up);
    }

    /// `all`: also link-local addresses, which on other devices are the kernel's own.
    fn addresses(&mut self, link: &Link, wanted: &[IpNet], all: bool) {
        let none = BTreeSet::new();
        let present = self.current.addresses.get(&link.index).unwrap_or(&none);
        for &address in present.iter().filter(|address| !wanted.contains(address)) {
            if all || !is_link_local(address.addr()) {
                self.actions.push(Action::RemoveAddress {
                    name: link.name.clone(),
                    index: link.index,
                    address,
                });
            }
        }
        for &address in wanted.iter().filter(|address| !present.contains(address)) {
            self.actions.push(Action::AddAddress { name: link.name.clone(), index: link.index, address });
        }
    }

    fn removals(&mut self, topology: &Topology) {
        let wanted = |name: &str| {
            topology.vrfs.contains_key(name)
                || topology.ports.contains_key(name)
                || topology
                    .vnis
                    .keys()
                    .chain(topology.l2vnis.keys())
                    .any(|&vni| Topology::bridge_name(vni) == name || Topology::vxlan_name(vni) == name)
        };
        let mut gone: Vec<_> =
            self.current.links.values().filter(|link| is_ours(link) && !wanted(&link.name)).collect();
        // The other way round than they are made.
        gone.sort_by_key(|link| match link.kind {
            Kind::Vxlan(_) => 0,
            Kind::Bridge => 1,
            _ => 2,
        });
        self.actions.extend(
            gone.into_iter().map(|link| Action::Delete { name: link.name.clone(), index: link.index }),
        );
    }

    fn mtu(&mut self, link: &Link, mtu: u32) {
        self.set_if(mtu != 0 && link.mtu != mtu, link, Change::Mtu(mtu));
    }

    fn mark(&mut self, link: &Link) {
        self.set_if(link.alias != MARK, link, Change::Alias(MARK));
    }

    fn set_if(&mut self, needed: bool, link: &Link, change: Change) {
        if needed {
            self.actions.push(Action::Set { name: link.name.clone(), index: link.index, change });
        }
    }
}

/// Made by us: marked so, or of a name and kind that only we make.
fn is_ours(link: &Link) -> bool {
    let numbered =
        |prefix: &str| link.name.strip_prefix(prefix).is_some_and(|number| number.parse::<u32>().is_ok());
    match link.kind {
        Kind::Vrf { .. } => link.alias == MARK,
        Kind::Bridge => link.alias == MARK || numbered("br-pe-"),
        Kind::Vxlan(_) => link.alias == MARK || numbered("vni"),
        Kind::Other(_) => false,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
