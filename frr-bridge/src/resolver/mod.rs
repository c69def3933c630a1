//! The resolver: what zebra, the kernel and the topology say goes in, in any order; what the dataplane's FIB must hold
//! comes out, as differences to what was sent in this session. No I/O, no clock.
//!
//! Rules:
//! - An address of the router makes a local host route and, on a port, a connected prefix. They win over FPM's routes,
//!   which merely restate them (and do not in updates).
//! - A next hop out of a port's shadow is an adjacency; out of an L3VNI's bridge it is a tunnel to the VTEP that the
//!   gateway names (RFC 9136, with `::ffff:a.b.c.d` for an IPv4 VTEP of an IPv6 prefix); out of any other device it is
//!   handed over, because the kernel has the same route and the device. The bridge of an L2VNI is a port: the SVI.
//! - A route whose next hops cannot be resolved (yet) drops: it must not fall through to a shorter prefix.
//! - A next-hop object of zebra's is a group of the session. Groups of equal content are shared, so that new object ids
//!   after a restart of zebra touch nothing; a change of an object touches its group, never the prefixes.
//! - A MAC of an L2VNI is remote when the bridge has it behind the VXLAN device and that has a VTEP for it: what the kernel
//!   would do. MACs, flood lists and neighbours come from the kernel alone, also while routes come from FPM: a dump of it is
//!   complete, FPM's replay has no end; it has the flood lists and neighbours, FPM has not; and only there is one order in
//!   what zebra says of a MAC and what the dataplane does.
//! - Of a MAC that the dataplane has learned here and zebra has behind a VTEP, the later word counts.

mod delta;
mod groups;
mod kernel;
mod local;
mod macs;
mod routes;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use foldhash::{HashMap, HashSet};
use ipnet::IpNet;

pub use delta::{Delta, Group, GroupId, Path, PathKind};
pub use kernel::{RemoteMac, Snapshot};

use crate::netlink::{
    Hop, Hops, Kind, LinkNeighbor, Mac, MacEntry, Message, NextHopContent, Route, RouteKind,
};
use crate::topology::{PortId, Topology};
use groups::Groups;
use kernel::Kernel;
use local::Local;
use routes::Routes;
use view::View;

/// `RTPROT_KERNEL`: what zebra calls its connected and local routes.
const RTPROT_KERNEL: u8 = 2;

/// Grows with each connection of zebra's. Identifiers of next-hop objects belong to one: a restarted zebra counts anew.
type Epoch = u32;

/// Where the packets of a route go, as its source says it. The unit of indirection: one key, one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A next-hop object of zebra's.
    Object(Epoch, u32),
    /// Next hops inside of the route's message.
    Inline(Box<[Hop]>),
    /// A blackhole route.
    Discard,
    /// A prefix connected to a port.
    Connected(PortId),
    /// An address of the router.
    Local,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Resolver {
    topology: Topology,
    kernel: Kernel,
    epoch: Epoch,
    objects: HashMap<(Epoch, u32), NextHopContent>,
    /// Which groups an object is a member of.
    members: HashMap<(Epoch, u32), HashSet<u32>>,
    macs: BTreeMap<(u32, Mac), (IpAddr, Epoch)>,
    routes: Routes,

    view: View,
    groups: Groups,
    sent_neighbors: HashMap<(PortId, IpAddr), Mac>,
    sent_macs: HashMap<(u32, Mac), RemoteMac>,
    sent_floods: HashMap<u32, Vec<IpAddr>>,
    local: Local,
    /// The kernel has been dumped once.
    has_snapshot: bool,
    dirty: Dirty,
    /// Statements of router MACs that zebra has taken back.
    lost_router_macs: BTreeSet<(u32, IpAddr)>,
    in_session: bool,
    /// The highest group id that the dataplane has heard of in this session.
    announced: GroupId,
}

/// What changed since the last flush.
#[derive(Debug, Default)]
struct Dirty {
    view: bool,
    everything: bool,
    all_groups: bool,
    all_neighbors: bool,
    all_macs: bool,
    objects: HashSet<(Epoch, u32)>,
    neighbors: HashSet<(u32, IpAddr)>,
    /// By bridge or VXLAN device: what the kernel has said something of.
    macs: HashSet<(u32, Mac)>,
    /// VXLAN devices.
    floods: HashSet<u32>,
}

impl Resolver {
    /// The topology's whole state.
    pub fn topology(&mut self, topology: Topology) {
        if self.topology != topology {
            self.topology = topology;
            self.dirty.view = true;
            self.local.retry();
        }
    }

    /// A complete dump of links, addresses, neighbours and FDB entries takes the place of what was known.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        let changes = self.kernel.replace(snapshot, |ifindex| self.view.l2vni(ifindex).is_some());
        if changes.any {
            self.dirty.view = true;
            self.dirty.all_groups = true;
            self.dirty.all_neighbors = true;
            self.dirty.all_macs = true;
        }
        // All of the first one is new to us, and nobody's last word.
        if std::mem::replace(&mut self.has_snapshot, true) {
            changes.macs.into_iter().for_each(|(ifindex, mac)| self.said_remote(ifindex, mac));
        }
        self.local.snapshot();
    }

    /// An event of the kernel.
    pub fn kernel(&mut self, message: Message) {
        let is_new = matches!(message, Message::NewNeighbor(_) | Message::NewFdb(_) | Message::NewMac(_));
        match message {
            Message::NewNeighbor(neighbor) | Message::DelNeighbor(neighbor) => {
                if self.kernel.apply(message) {
                    let at = (neighbor.ifindex, neighbor.address);
                    if !is_new && self.view.is_vni(neighbor.ifindex) {
                        self.lost_router_macs.insert(at);
                    }
                    self.dirty.neighbors.insert(at);
                    self.dirty.all_groups |= self.view.is_vni(neighbor.ifindex);
                    if self.view.l2vni(neighbor.ifindex).is_some() {
                        let host = (neighbor.ifindex, neighbor.address.to_canonical());
                        self.kernel.remembered.remove(&host);
                    }
                    self.local_neighbor_event(is_new, neighbor);
                }
            }
            // The same said again is a word, too: the dataplane may have learned otherwise meanwhile.
            Message::NewFdb(entry) | Message::DelFdb(entry) => {
                if self.kernel.apply(message) || is_new {
                    self.dirty.macs.insert((entry.bridge, entry.mac));
                    self.local_fdb_event(is_new, entry);
                    self.said_remote(entry.bridge, entry.mac);
                }
            }
            Message::NewMac(entry) | Message::DelMac(entry) => {
                if self.kernel.apply(message) || is_new {
                    self.dirty.macs.insert((entry.ifindex, entry.mac));
                    self.said_remote(entry.ifindex, entry.mac);
                }
            }
            Message::NewFlood(entry) | Message::DelFlood(entry) => {
                if self.kernel.apply(message) {
                    self.dirty.floods.insert(entry.ifindex);
                }
            }
            _ => {
                if self.kernel.apply(message) {
                    self.dirty.view = true;
                    self.local.retry();
                }
            }
        }
    }

    /// zebra connected: what it says from now on is a replay, in which identifiers have new meanings. All that the one
    /// before said stays until [`Resolver::sweep`].
    pub fn fpm_connected(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// A message of zebra's.
    pub fn fpm(&mut self, message: Message) {
        match message {
            Message::NewRoute(route) => self.new_route(route),
            Message::DelRoute(route) if is_forwarded(&route) => {
                self.drop_route((route.table, route.prefix));
            }
            Message::NewNextHop(object) => {
                let id = (self.epoch, object.id);
                if self.objects.get(&id) != Some(&object.content) {
                    self.forget_object(id);
                    if let NextHopContent::Group(entries) = &object.content {
                        for &(member, _) in entries {
                            self.members.entry((self.epoch, member)).or_default().insert(object.id);
                        }
                    }
                    self.objects.insert(id, object.content);
                }
            }
            Message::DelNextHop(id) => self.forget_object((self.epoch, id)),
            // Of router MACs only: those of hosts are taken from the kernel.
            Message::NewMac(MacEntry { ifindex, .. }) | Message::DelMac(MacEntry { ifindex, .. })
                if self.view.l2vni(ifindex).is_some() => {}
            Message::NewMac(MacEntry { ifindex, mac, vtep, .. }) => {
                self.macs.insert((ifindex, mac), (vtep, self.epoch));
                self.dirty.all_groups = true;
            }
            // It may have moved to another VTEP already.
            Message::DelMac(MacEntry { ifindex, mac, vtep, .. })
                if self.macs.get(&(ifindex, mac)).is_some_and(|(known, _)| *known == vtep) =>
            {
                self.macs.remove(&(ifindex, mac));
                self.dirty.all_groups = true;
            }
            _ => {}
        }
    }

    /// How many of `routes`, which the kernel has, zebra has not stated since it connected, and one of them.
    #[must_use]
    pub fn uncovered<'a>(&self, routes: &'a [(u32, IpNet)]) -> Option<(usize, &'a (u32, IpNet))> {
        let missing = |key: &&(u32, IpNet)| self.routes.get(key).is_none_or(|(_, epoch)| epoch != self.epoch);
        let example = routes.iter().find(missing)?;
        Some((routes.iter().filter(missing).count(), example))
    }

    /// Routes that zebra stated before it connected last, and not since.
    #[must_use]
    pub fn stale_count(&self) -> usize {
        self.routes.iter().filter(|(_, (_, epoch))| *epoch != self.epoch).count()
    }

    /// Forgets what zebra has not stated since it connected. Returns how many routes that were.
    pub fn sweep(&mut self) -> usize {
        let epoch = self.epoch;
        let stale: Vec<_> =
            self.routes.iter().filter(|(_, (_, of))| *of != epoch).map(|(at, _)| *at).collect();
        for &key in &stale {
            self.drop_route(key);
        }
        let objects: Vec<_> = self.objects.keys().filter(|(of, _)| *of != epoch).copied().collect();
        for id in objects {
            self.forget_object(id);
        }
        self.members.retain(|(of, _), _| *of == epoch);
        let before = self.macs.len();
        self.macs.retain(|_, (_, of)| *of == epoch);
        self.dirty.all_groups |= self.macs.len() != before;
        stale.len()
    }

    /// A session with the dataplane begins, or ends: nothing has been sent in it.
    pub fn session(&mut self, open: bool) {
        self.in_session = open;
        self.groups.forget_session();
        self.routes.forget_session();
        self.sent_neighbors = HashMap::default();
        self.sent_macs = HashMap::default();
        self.sent_floods = HashMap::default();
        self.announced = 0;
        self.dirty.view = true;
        self.dirty.everything = open;
        self.dirty.all_neighbors = open;
        self.dirty.all_macs = open;
    }

    /// Routes of zebra's.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.routes.stated()
    }

    /// Whether the kernel shows router MACs that a control plane made. Neighbours of a bridge that a control plane made are
    /// either router MACs, the address being the VTEP's, or hosts, which are at another address than the VTEP that their MAC is
    /// behind.
    #[must_use]
    pub fn has_router_macs(&self) -> bool {
        let vxlans: HashMap<u32, u32> = self
            .kernel
            .links
            .values()
            .filter(|link| matches!(link.kind, Kind::Vxlan(_)))
            .map(|link| (link.master, link.index))
            .collect();
        let is_bridge = |index| self.kernel.links.get(&index).is_some_and(|link| link.kind == Kind::Bridge);
        let is_host = |neighbor: &LinkNeighbor| {
            let remote = vxlans.get(&neighbor.ifindex).zip(neighbor.mac);
            let remote = remote.and_then(|(&vxlan, mac)| self.kernel.macs.get(&(vxlan, mac)));
            remote.is_some_and(|remote| remote.vtep != neighbor.address.to_canonical())
        };
        self.kernel
            .neighbors
            .values()
            .any(|neighbor| neighbor.is_external() && is_bridge(neighbor.ifindex) && !is_host(neighbor))
    }

    /// Routes that wait for a flush.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.routes.pending()
    }

    /// The tables of the VRFs that exist.
    #[must_use]
    pub fn tables(&self) -> Vec<u32> {
        self.view.tables.keys().copied().collect()
    }

    /// The shadow devices of routed ports and the bridges of L2VNIs: those whose neighbours are in the FIB.
    #[must_use]
    pub fn is_port(&self, ifindex: u32) -> bool {
        self.view.port(ifindex).is_some()
    }

    /// The kernel's neighbours on ports, and the gateways of adjacencies that have none yet. In bridge domains the dataplane
    /// itself probes its neighbours.
    pub fn upkeep(&self) -> impl Iterator<Item = (u32, IpAddr, bool)> + '_ {
        let known = self
            .kernel
            .neighbors
            .values()
            .filter(|neighbor| self.is_port(neighbor.ifindex) && self.view.l2vni(neighbor.ifindex).is_none())
            .map(|neighbor| (neighbor.ifindex, neighbor.address, neighbor.is_stale()));
        let unresolved = self
            .groups
            .gateways()
            .filter_map(|(port, gateway)| Some((self.view.ifindex(port)?, gateway)))
            .filter(|key| self.kernel.neighbors.get(key).is_none_or(|known| known.usable_mac().is_none()))
            .map(|(ifindex, gateway)| (ifindex, gateway, true));
        known.chain(unresolved)
    }

    fn new_route(&mut self, route: Route) {
        if !is_forwarded(&route) {
            return;
        }
        let at = (route.table, route.prefix);
        let key = match (route.kind, route.hops) {
            (RouteKind::Discard, _) => Key::Discard,
            (_, Hops::Object(id)) => Key::Object(self.epoch, id),
            (_, Hops::Inline(hops)) => Key::Inline(hops),
        };
        let key = self.groups.take(key);
        if let Some(old) = self.routes.state(at, key, self.epoch) {
            self.groups.release(old);
        }
    }

    fn drop_route(&mut self, at: (u32, IpNet)) {
        if let Some(old) = self.routes.forget(at) {
            self.groups.release(old);
        }
    }

    /// Removes an object, and marks what depends on it.
    fn forget_object(&mut self, id: (Epoch, u32)) {
        if let Some(NextHopContent::Group(entries)) = self.objects.remove(&id) {
            for (member, _) in entries {
                if let Some(groups) = self.members.get_mut(&(id.0, member)) {
                    groups.remove(&id.1);
                    if groups.is_empty() {
                        self.members.remove(&(id.0, member));
                    }
                }
            }
        }
        self.dirty.objects.insert(id);
        if let Some(groups) = self.members.get(&id) {
            self.dirty.objects.extend(groups.iter().map(|&group| (id.0, group)));
        }
    }
}

/// Link-local and multicast destinations are the kernel's, and so is what it delivers to itself. zebra's connected and local
/// routes are left out too: the addresses themselves say more, and say it always.
fn is_forwarded(route: &Route) -> bool {
    let own = route.kind == RouteKind::Own || route.protocol == RTPROT_KERNEL;
    !own && match route.prefix {
        IpNet::V4(prefix) => !prefix.addr().is_multicast() && !prefix.addr().is_loopback(),
        IpNet::V6(prefix) => {
            let address = prefix.addr();
            !address.is_multicast() && (!address.is_unicast_link_local() || prefix.prefix_len() < 10)
        }
    }
}
