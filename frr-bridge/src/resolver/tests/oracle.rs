//! The slow resolver: all that was said, kept as plain maps, and the FIB computed from it from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::{
    Address, FdbEntry, FloodEntry, Hop, Hops, Kind, Link, LinkNeighbor, Mac, MacEntry, Message, NextHop,
    NextHopContent, Route, RouteKind, TABLE_MAIN,
};
use crate::resolver::{Path, PathKind, RemoteMac};
use crate::topology::{PortId, Topology, VrfId};

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) topology: Topology,
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<Address>,
    neighbors: BTreeMap<(u32, IpAddr), LinkNeighbor>,
    objects: BTreeMap<u32, NextHopContent>,
    routes: BTreeMap<(u32, IpNet), Route>,
    /// From FPM: router MACs.
    macs: BTreeMap<Mac, IpAddr>,
    /// From the kernel, of VXLAN devices.
    remote: BTreeMap<(u32, Mac), MacEntry>,
    fdb: BTreeMap<(u32, Mac), FdbEntry>,
    floods: BTreeSet<FloodEntry>,
    remembered: BTreeMap<(u32, IpAddr), Mac>,
}

impl World {
    pub(super) fn apply(&mut self, message: Message) {
        match message {
            Message::NewLink(link) => drop(self.links.insert(link.index, *link)),
            Message::DelLink(index) => {
                self.links.remove(&index);
                self.remembered.retain(|(ifindex, _), _| *ifindex != index);
                self.addresses.retain(|address| address.ifindex != index);
                self.remote.retain(|(ifindex, _), _| *ifindex != index);
                self.fdb.retain(|(bridge, _), _| *bridge != index);
                self.floods.retain(|entry| entry.ifindex != index);
            }
            Message::NewAddress(address) => drop(self.addresses.insert(address)),
            Message::DelAddress(address) => drop(self.addresses.remove(&address)),
            Message::NewNeighbor(neighbor) => {
                if let Some(mac) =
                    neighbor.mac.filter(|_| neighbor.state & 0xde != 0 && neighbor.flags == 0x10)
                {
                    self.remembered.insert((neighbor.ifindex, neighbor.address.to_canonical()), mac);
                }
                self.neighbors.insert((neighbor.ifindex, neighbor.address), neighbor);
            }
            Message::DelNeighbor(neighbor) => {
                self.neighbors.remove(&(neighbor.ifindex, neighbor.address));
            }
            // Connected and link-local routes of zebra's never count.
            Message::NewRoute(route) | Message::DelRoute(route)
                if route.protocol == 2 || route.prefix == "fe80::/64".parse().unwrap() => {}
            Message::NewRoute(route) => drop(self.routes.insert((route.table, route.prefix), route)),
            Message::DelRoute(route) => drop(self.routes.remove(&(route.table, route.prefix))),
            Message::NewNextHop(object) => drop(self.objects.insert(object.id, object.content)),
            Message::DelNextHop(id) => drop(self.objects.remove(&id)),
            Message::NewMac(entry) => drop(self.remote.insert((entry.ifindex, entry.mac), entry)),
            Message::DelMac(entry) => {
                let at = (entry.ifindex, entry.mac);
                if self.remote.get(&at).is_some_and(|known| known.vtep == entry.vtep) {
                    self.remote.remove(&at);
                }
            }
            Message::NewFdb(entry) => drop(self.fdb.insert((entry.bridge, entry.mac), entry)),
            Message::DelFdb(entry) => {
                if self.fdb.get(&(entry.bridge, entry.mac)).is_some_and(|known| known.port == entry.port) {
                    self.fdb.remove(&(entry.bridge, entry.mac));
                }
            }
            Message::NewFlood(entry) => drop(self.floods.insert(entry)),
            Message::DelFlood(entry) => drop(self.floods.remove(&entry)),
            Message::Other => {}
        }
    }

    /// zebra's own word: its MACs are router MACs.
    pub(super) fn apply_fpm(&mut self, message: Message) {
        match message {
            Message::NewMac(entry) => drop(self.macs.insert(entry.mac, entry.vtep)),
            Message::DelMac(entry) => {
                if self.macs.get(&entry.mac) == Some(&entry.vtep) {
                    self.macs.remove(&entry.mac);
                }
            }
            other => self.apply(other),
        }
    }

    /// The bridge of an L2VNI, and the VXLAN device in it.
    fn domain(&self, vni: u32) -> Option<(u32, u32)> {
        let bridge = |link: &&Link| link.kind == Kind::Bridge && link.name == format!("br-pe-{vni}");
        let bridge = self.links.values().find(bridge)?;
        let vxlan = |link: &&Link| {
            matches!(link.kind, Kind::Vxlan(vxlan) if vxlan.vni == vni) && link.master == bridge.index
        };
        Some((bridge.index, self.links.values().find(vxlan)?.index))
    }

    pub(super) fn macs(&self) -> BTreeMap<(u32, Mac), RemoteMac> {
        let mut macs = BTreeMap::new();
        for &vni in self.topology.l2vnis.keys() {
            let Some((bridge, vxlan)) = self.domain(vni) else { continue };
            for (&(_, mac), entry) in self.remote.iter().filter(|((ifindex, _), _)| *ifindex == vxlan) {
                if self.fdb.get(&(bridge, mac)).is_some_and(|entry| entry.port == vxlan) {
                    macs.insert((vni, mac), RemoteMac { vtep: entry.vtep, sticky: entry.sticky });
                }
            }
        }
        macs
    }

    pub(super) fn floods(&self) -> BTreeMap<u32, Vec<IpAddr>> {
        let mut lists = BTreeMap::new();
        for &vni in self.topology.l2vnis.keys() {
            let Some((_, vxlan)) = self.domain(vni) else { continue };
            let vteps: Vec<_> =
                self.floods.iter().filter(|entry| entry.ifindex == vxlan).map(|entry| entry.vtep).collect();
            if !vteps.is_empty() {
                lists.insert(vni, vteps);
            }
        }
        lists
    }

    /// The port that a device is, if it is a routed one or an SVI.
    fn port(&self, link: &Link) -> Option<PortId> {
        if let Some(port) = self.topology.ports.get(&link.name) {
            return port.l2vni.is_none().then_some(port.id);
        }
        let of = |(vni, of): (&u32, &crate::topology::L2Vni)| {
            (link.name == format!("br-pe-{vni}") && link.kind == Kind::Bridge).then_some(of.id)
        };
        self.topology.l2vnis.iter().find_map(of)
    }

    /// A dump; what is remembered of devices that are not in it is forgotten.
    pub(super) fn resync(&mut self) -> Vec<Message> {
        self.remembered.retain(|(ifindex, _), _| self.links.contains_key(ifindex));
        let links = self.links.values().cloned().map(|link| Message::NewLink(Box::new(link)));
        let addresses = self.addresses.iter().copied().map(Message::NewAddress);
        let neighbors = self.neighbors.values().copied().map(Message::NewNeighbor);
        let remote = self.remote.values().copied().map(Message::NewMac);
        let fdb = self.fdb.values().copied().map(Message::NewFdb);
        let floods = self.floods.iter().copied().map(Message::NewFlood);
        links.chain(addresses).chain(neighbors).chain(remote).chain(fdb).chain(floods).collect()
    }

    /// zebra's state after a restart: objects renumbered, some routes lost.
    pub(super) fn restart(&mut self, shift: u32, lost: &BTreeSet<usize>) {
        let renumber = |id: u32| (id - 1 + shift) % 300 + 1;
        self.objects = std::mem::take(&mut self.objects)
            .into_iter()
            .map(|(id, content)| {
                let content = match content {
                    NextHopContent::Group(members) => NextHopContent::Group(
                        members.iter().map(|&(id, weight)| (renumber(id), weight)).collect(),
                    ),
                    other => other,
                };
                (renumber(id), content)
            })
            .collect();
        let mut number = 0;
        self.routes.retain(|_, route| {
            if let Hops::Object(id) = &mut route.hops {
                *id = renumber(*id);
            }
            number += 1;
            !lost.contains(&(number - 1))
        });
    }

    pub(super) fn replay(&self) -> Vec<Message> {
        let macs = self
            .macs
            .iter()
            .map(|(&mac, &vtep)| Message::NewMac(MacEntry { ifindex: 4, mac, vtep, sticky: false }));
        let objects = self
            .objects
            .iter()
            .map(|(&id, content)| Message::NewNextHop(NextHop { id, content: content.clone() }));
        let routes = self.routes.values().cloned().map(Message::NewRoute);
        macs.chain(objects).chain(routes).collect()
    }

    pub(super) fn neighbors(&self) -> BTreeMap<(PortId, IpAddr), Mac> {
        let port = |ifindex| self.port(self.links.get(&ifindex)?);
        let usable = |known: &LinkNeighbor| {
            Some(((port(known.ifindex)?, known.address), known.mac.filter(|_| known.state & 0xde != 0)?))
        };
        self.neighbors.values().filter_map(usable).collect()
    }

    pub(super) fn routes(&self) -> BTreeMap<(VrfId, IpNet), Vec<Path>> {
        let mut fib = BTreeMap::new();
        for ((table, prefix), route) in &self.routes {
            if let Some(vrf) = self.vrf(*table) {
                fib.insert((vrf, *prefix), self.paths(route));
            }
        }
        // Connected first, so that local ones win; higher ports first, so that lower ones win.
        let mut own: Vec<(u32, VrfId, IpNet, PathKind)> = Vec::new();
        for address in &self.addresses {
            let (ip, length) = (address.address.addr(), address.address.prefix_len());
            let Some(vrf) = self.table_of(address.ifindex).and_then(|table| self.vrf(table)) else {
                continue;
            };
            if ip.is_loopback() || ip.to_string().starts_with("fe80") {
                continue;
            }
            let link = &self.links[&address.ifindex];
            if length < if ip.is_ipv4() { 32 } else { 128 } {
                let connected = address.address.trunc();
                match self.port(link) {
                    Some(port) => own.push((port, vrf, connected, PathKind::Connected { port })),
                    None => own.push((0, vrf, connected, PathKind::Local)),
                }
            }
            own.push((0, vrf, IpNet::from(ip), PathKind::Local));
        }
        own.sort_by_key(|(port, _, _, kind)| (*kind == PathKind::Local, std::cmp::Reverse(*port)));
        for (_, vrf, prefix, kind) in own {
            fib.insert((vrf, prefix), vec![Path { kind, weight: 1 }]);
        }
        fib
    }

    fn vrf(&self, table: u32) -> Option<VrfId> {
        if table == TABLE_MAIN {
            return Some(0);
        }
        let device = self.links.values().find(|link| link.kind == Kind::Vrf { table })?;
        self.topology.vrfs.get(&device.name).copied()
    }

    fn table_of(&self, ifindex: u32) -> Option<u32> {
        let link = self.links.get(&ifindex)?;
        match link.kind {
            Kind::Vrf { table } => Some(table),
            _ if link.master == 0 => Some(TABLE_MAIN),
            _ => self.table_of(link.master),
        }
    }

    fn paths(&self, route: &Route) -> Vec<Path> {
        let hops: Vec<Hop> = match (&route.kind, &route.hops) {
            (RouteKind::Unicast, Hops::Inline(hops)) => hops.to_vec(),
            (RouteKind::Unicast, Hops::Object(id)) => match self.objects.get(id) {
                Some(NextHopContent::Hop(hop)) => vec![Hop { weight: 1, ..*hop }],
                Some(NextHopContent::Group(members)) => members
                    .iter()
                    .filter_map(|&(member, weight)| match self.objects.get(&member) {
                        Some(NextHopContent::Hop(hop)) => Some(Hop { weight, ..*hop }),
                        _ => None,
                    })
                    .collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let mut weights: BTreeMap<PathKind, u32> = BTreeMap::new();
        for hop in hops {
            if let Some(kind) = self.path(&hop) {
                *weights.entry(kind).or_default() += u32::from(hop.weight);
            }
        }
        if weights.is_empty() {
            weights.insert(PathKind::Drop, 1);
        }
        let alone = weights.len() == 1;
        weights
            .into_iter()
            .map(|(kind, weight)| Path { kind, weight: if alone { 1 } else { weight } })
            .collect()
    }

    fn path(&self, hop: &Hop) -> Option<PathKind> {
        let device = self.links.get(&hop.oif)?;
        let gateway = hop.gateway.map(|gateway| gateway.to_canonical());
        let port_of = |link: &Link| match link.kind {
            Kind::Vxlan(vxlan) if link.master == hop.oif && device.kind == Kind::Bridge => {
                Some((link.index, vxlan.vni))
            }
            _ => None,
        };
        let vni =
            self.links.values().find_map(port_of).filter(|(_, vni)| self.topology.vnis.contains_key(vni));
        if let Some(port) = self.port(device) {
            return Some(match gateway {
                Some(gateway) => PathKind::Adjacent { port, gateway },
                None => PathKind::Connected { port },
            });
        }
        let (Some((vxlan, vni)), Some(vtep)) = (vni, gateway) else { return Some(PathKind::Local) };
        let stated = |address: &str| {
            let known = self.neighbors.get(&(hop.oif, address.parse().ok()?))?;
            known.mac.filter(|_| known.state & 0xde != 0)
        };
        let behind = || self.macs.iter().find(|(_, of)| **of == vtep && vxlan == 4).map(|(mac, _)| *mac);
        let router_mac = stated(&vtep.to_string())
            .or_else(|| stated(&format!("::ffff:{vtep}")))
            .or_else(behind)
            .or_else(|| self.remembered.get(&(hop.oif, vtep)).copied());
        Some(PathKind::Vxlan { vni, vtep, router_mac })
    }
}
