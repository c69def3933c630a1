use std::net::IpAddr;

use bytes::Bytes;
use dataplane_api::v1;
use foldhash::HashSet;
use ipnet::IpNet;

use super::groups::Groups;
use super::routes::{At, Routes};
use super::view::{Egress, View};
use super::{Dirty, Key, RemoteMac, Resolver};
use crate::netlink::{Hop, Mac, NextHopContent};
use crate::topology::{PortId, VrfId};

/// Identifier of a next-hop group, of the session.
pub type GroupId = u32;

/// The most paths of a group.
const MAX_PATHS: usize = 64;

/// One path of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Where it goes.
    pub kind: PathKind,
    /// Share of the flows, at least 1.
    pub weight: u32,
}

/// Where a path goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// To a gateway on a port.
    Adjacent {
        /// The port.
        port: PortId,
        /// The gateway.
        gateway: IpAddr,
    },
    /// Into a tunnel.
    Vxlan {
        /// VNI.
        vni: u32,
        /// The remote VTEP.
        vtep: IpAddr,
        /// Its router MAC, once known.
        router_mac: Option<Mac>,
    },
    /// To the destination itself on a port.
    Connected {
        /// The port.
        port: PortId,
    },
    /// To the kernel.
    Local,
    /// Nowhere.
    Drop,
}

/// A group that is new or has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its identifier.
    pub id: GroupId,
    /// Its paths, sorted, 1 to 64.
    pub paths: Vec<Path>,
}

/// What the dataplane must change, to be carried out in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// New and changed groups.
    pub groups: Vec<Group>,
    /// The VTEPs that L2VNIs flood to.
    pub flood_lists: Vec<(u32, Vec<IpAddr>)>,
    /// MACs of L2VNIs that are behind other VTEPs; without one they go.
    pub macs: Vec<(u32, Mac, Option<RemoteMac>)>,
    /// Neighbours; without a MAC they go.
    pub neighbors: Vec<(PortId, IpAddr, Option<Mac>)>,
    /// Routes; without a group they go.
    pub routes: Vec<(VrfId, IpNet, Option<GroupId>)>,
    /// Groups that no route uses any more.
    pub deleted_groups: Vec<GroupId>,
}

impl Delta {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.flood_lists.is_empty()
            && self.macs.is_empty()
            && self.neighbors.is_empty()
            && self.routes.is_empty()
            && self.deleted_groups.is_empty()
    }

    /// As batches of at most `size` routes, MACs and neighbours each, numbered from `sequence` on.
    pub fn into_batches(self, sequence: u64, size: usize) -> impl Iterator<Item = v1::FibBatch> {
        let longest = self.routes.len().max(self.macs.len()).max(self.neighbors.len());
        let count = longest.div_ceil(size).max(1);
        let mut first = Some((self.groups, self.flood_lists));
        let mut deleted = Some(self.deleted_groups);
        let mut routes = self.routes.into_iter();
        let mut macs = self.macs.into_iter();
        let mut neighbors = self.neighbors.into_iter();
        (0..count).map(move |index| {
            let mut batch = v1::FibBatch { sequence: sequence + index as u64, ..Default::default() };
            if let Some((groups, flood_lists)) = first.take() {
                batch.groups = groups.iter().map(Group::to_api).collect();
                let list = |(vni, vteps): (u32, Vec<IpAddr>)| v1::FloodList {
                    vni,
                    vteps: vteps.into_iter().map(octets).collect(),
                };
                batch.flood_lists = flood_lists.into_iter().map(list).collect();
            }
            let entry = |(vni, mac, remote): (u32, Mac, Option<RemoteMac>)| v1::MacEntry {
                vni,
                mac: mac_octets(Some(mac)),
                vtep: remote.map(|remote| octets(remote.vtep)).unwrap_or_default(),
                sticky: remote.is_some_and(|remote| remote.sticky),
            };
            batch.macs = macs.by_ref().take(size).map(entry).collect();
            let neighbor =
                |(port, address, mac)| v1::Neighbor { port, address: octets(address), mac: mac_octets(mac) };
            batch.neighbors = neighbors.by_ref().take(size).map(neighbor).collect();
            for (vrf, prefix, group) in routes.by_ref().take(size) {
                let (length, group) = (u32::from(prefix.prefix_len()), group.unwrap_or_default());
                match prefix {
                    IpNet::V4(prefix) => {
                        let address = prefix.network().to_bits();
                        batch.routes4.push(v1::Route4 { vrf, address, length, group });
                    }
                    IpNet::V6(prefix) => {
                        let segments = prefix.network().octets();
                        let (high, low) = segments.split_at(8);
                        let half =
                            |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
                        batch.routes6.push(v1::Route6 {
                            vrf,
                            high: half(high),
                            low: half(low),
                            length,
                            group,
                        });
                    }
                }
            }
            if index + 1 == count {
                batch.deleted_groups = deleted.take().unwrap_or_default();
            }
            batch
        })
    }
}

impl Group {
    fn to_api(&self) -> v1::NextHopGroup {
        use v1::path::Kind;
        let paths = self
            .paths
            .iter()
            .map(|path| {
                let kind = match path.kind {
                    PathKind::Adjacent { port, gateway } => {
                        Kind::Adjacent(v1::AdjacentPath { port, address: octets(gateway) })
                    }
                    PathKind::Vxlan { vni, vtep, router_mac } => Kind::Vxlan(v1::VxlanPath {
                        vni,
                        vtep: octets(vtep),
                        router_mac: mac_octets(router_mac),
                    }),
                    PathKind::Connected { port } => Kind::Connected(v1::ConnectedPath { port }),
                    PathKind::Local => Kind::Local(v1::LocalPath {}),
                    PathKind::Drop => Kind::Drop(v1::DropPath {}),
                };
                v1::Path { weight: path.weight, kind: Some(kind) }
            })
            .collect();
        v1::NextHopGroup { id: self.id, paths }
    }
}

fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

/// Empty when there is none.
fn mac_octets(mac: Option<Mac>) -> Bytes {
    mac.map(|mac| Bytes::copy_from_slice(&mac.0)).unwrap_or_default()
}

impl Resolver {
    /// What has to change in the dataplane since the last flush. Empty outside of a session.
    pub fn flush(&mut self) -> Delta {
        let mut dirty = std::mem::take(&mut self.dirty);
        if dirty.view {
            self.refresh_view(&mut dirty);
        }
        let mut delta = Delta::default();
        let mut routes = std::mem::take(&mut self.routes);
        if !self.in_session {
            routes.take_dirty().into_iter().for_each(|at| routes.settle(at, |_| ()));
            self.routes = routes;
            self.groups.collect();
            return delta;
        }
        self.flush_floods(&dirty, &mut delta);
        self.flush_macs(&dirty, &mut delta);
        self.flush_neighbors(&dirty, &mut delta);

        // Objects of unchanged ids: the groups change, the routes stay.
        let affected: Option<Vec<_>> = (!dirty.all_groups).then(|| {
            let keys = dirty.objects.iter().map(|&(epoch, id)| Key::Object(epoch, id));
            keys.filter_map(|key| self.groups.id(&key)).collect()
        });
        let mut groups = std::mem::take(&mut self.groups);
        let moved = groups.refresh(affected.as_deref(), |key| self.resolve(key), &mut delta.groups);
        if dirty.everything {
            self.flush_everything(&mut groups, &mut routes, &mut delta);
        } else {
            if !moved.is_empty() {
                let of_moved: Vec<_> =
                    routes.iter().filter(|(_, (key, _))| moved.contains(key)).map(|(at, _)| *at).collect();
                let own = self.view.own.iter();
                let own = own.filter(|(_, key)| groups.id(key).is_some_and(|id| moved.contains(&id)));
                of_moved.into_iter().chain(own.map(|(at, _)| *at)).for_each(|at| routes.mark(at));
            }
            for at in routes.take_dirty() {
                self.flush_route(at, &mut groups, &mut routes, &mut delta);
            }
        }
        (self.groups, self.routes) = (groups, routes);
        delta.deleted_groups = self.groups.collect();
        // A group that came and went within one flush was never used; the dataplane need not hear of it.
        let deleted: HashSet<GroupId> = delta.deleted_groups.iter().copied().collect();
        let new_and_gone: HashSet<GroupId> = delta
            .groups
            .iter()
            .filter(|group| deleted.contains(&group.id) && group.id > self.announced)
            .map(|group| group.id)
            .collect();
        self.announced = delta.groups.iter().map(|group| group.id).fold(self.announced, GroupId::max);
        delta.groups.retain(|group| !deleted.contains(&group.id));
        delta.deleted_groups.retain(|id| !new_and_gone.contains(id));
        delta
    }

    fn refresh_view(&mut self, dirty: &mut Dirty) {
        let view = View::new(&self.topology, &self.kernel);
        if view == self.view {
            return;
        }
        if view.tables != self.view.tables {
            dirty.everything = true;
        }
        if !view.same_egress(&self.view) {
            dirty.all_groups = true;
            dirty.all_neighbors = true;
        }
        if view.domains != self.view.domains {
            self.forget_domains();
            self.lose_domains(&view);
            dirty.all_macs = true;
        }
        let changed = |at: &&At| view.own.get(*at) != self.view.own.get(*at);
        let own = view.own.keys().chain(self.view.own.keys());
        own.filter(changed).for_each(|at| self.routes.mark(*at));
        self.view = view;
    }

    fn flush_neighbors(&mut self, dirty: &Dirty, delta: &mut Delta) {
        let wanted = |resolver: &Self, key: &(u32, IpAddr)| {
            let neighbor = resolver.kernel.neighbors.get(key)?;
            Some(((resolver.view.port(key.0)?, key.1), neighbor.usable_mac()?))
        };
        if dirty.all_neighbors {
            let all: foldhash::HashMap<(PortId, IpAddr), Mac> =
                self.kernel.neighbors.keys().filter_map(|key| wanted(self, key)).collect();
            let gone = self.sent_neighbors.keys().filter(|key| !all.contains_key(key));
            delta.neighbors.extend(gone.map(|&(port, address)| (port, address, None)));
            let new = all.iter().filter(|(key, mac)| self.sent_neighbors.get(key) != Some(mac));
            delta.neighbors.extend(new.map(|(&(port, address), &mac)| (port, address, Some(mac))));
            self.sent_neighbors = all;
            return;
        }
        for key in &dirty.neighbors {
            let Some(port) = self.view.port(key.0) else { continue };
            let at = (port, key.1);
            match wanted(self, key) {
                Some((_, mac)) if self.sent_neighbors.insert(at, mac) != Some(mac) => {
                    delta.neighbors.push((port, key.1, Some(mac)));
                }
                None if self.sent_neighbors.remove(&at).is_some() => {
                    delta.neighbors.push((port, key.1, None));
                }
                _ => {}
            }
        }
    }

    fn flush_everything(&self, groups: &mut Groups, routes: &mut Routes, delta: &mut Delta) {
        routes.take_dirty();
        let mut all = routes.everything();
        // What a table was to another VRF goes first: the VRF may be another table's now.
        for &at in &all {
            let vrf = self.view.tables.get(&at.0);
            routes.settle(at, |route| {
                if let Some((old, group)) = route.sent.take_if(|(old, _)| vrf != Some(old)) {
                    groups.route_removed(group);
                    delta.routes.push((old, at.1, None));
                }
            });
        }
        all.extend(self.view.own.keys());
        all.into_iter().for_each(|at| self.flush_route(at, groups, routes, delta));
    }

    fn flush_route(&self, at: At, groups: &mut Groups, routes: &mut Routes, delta: &mut Delta) {
        let vrf = self.view.tables.get(&at.0).copied();
        let own = self.view.own.get(&at);
        routes.settle(at, |route| {
            let key = match own {
                Some(own) => Some(groups.intern(own.clone())),
                None => route.stated.map(|(key, _)| key),
            };
            let new = vrf.zip(key).and_then(|(vrf, key)| {
                let group = groups.group_of(key, |key| self.resolve(key), &mut delta.groups)?;
                Some((vrf, group))
            });
            let old = std::mem::replace(&mut route.sent, new);
            if old == new {
                return;
            }
            if let Some((vrf, _)) = new.or(old) {
                delta.routes.push((vrf, at.1, new.map(|(_, group)| group)));
            }
            if let Some((_, group)) = new {
                groups.route_added(group);
            }
            if let Some((_, group)) = old {
                groups.route_removed(group);
            }
        });
    }

    /// The paths of a key, never empty.
    fn resolve(&self, key: &Key) -> Vec<Path> {
        let mut paths = Vec::new();
        let mut add = |hop: &Hop, weight: u16| {
            if let Some(kind) = self.path(hop) {
                paths.push(Path { kind, weight: u32::from(weight) });
            }
        };
        match key {
            Key::Inline(hops) => hops.iter().for_each(|hop| add(hop, hop.weight)),
            Key::Object(epoch, id) => match self.objects.get(&(*epoch, *id)) {
                Some(NextHopContent::Hop(hop)) => add(hop, 1),
                Some(NextHopContent::Group(entries)) => {
                    for &(member, weight) in entries {
                        if let Some(NextHopContent::Hop(hop)) = self.objects.get(&(*epoch, member)) {
                            add(hop, weight);
                        }
                    }
                }
                Some(NextHopContent::Discard) | None => {}
            },
            Key::Connected(port) => paths.push(Path { kind: PathKind::Connected { port: *port }, weight: 1 }),
            Key::Local => paths.push(Path { kind: PathKind::Local, weight: 1 }),
            Key::Discard => {}
        }
        paths.sort_unstable();
        paths.dedup_by(|later, first| {
            let same = later.kind == first.kind;
            if same {
                first.weight += later.weight;
            }
            same
        });
        paths.truncate(MAX_PATHS);
        if let [only] = paths.as_mut_slice() {
            only.weight = 1;
        }
        if paths.is_empty() {
            paths.push(Path { kind: PathKind::Drop, weight: 1 });
        }
        paths
    }

    fn path(&self, hop: &Hop) -> Option<PathKind> {
        Some(match self.view.egress(hop.oif)? {
            Egress::Port(port) => match hop.gateway {
                Some(gateway) => PathKind::Adjacent { port, gateway: gateway.to_canonical() },
                None => PathKind::Connected { port },
            },
            Egress::Vni { vni, vxlan } => match hop.gateway {
                Some(gateway) => {
                    let vtep = gateway.to_canonical();
                    PathKind::Vxlan { vni, vtep, router_mac: self.router_mac(hop.oif, vxlan, vtep) }
                }
                None => PathKind::Local,
            },
            Egress::Other => PathKind::Local,
        })
    }

    /// zebra states a router MAC twice: as a neighbour of the bridge (kernel) and as a MAC behind the VTEP (FPM).
    fn router_mac(&self, bridge: u32, vxlan: u32, vtep: IpAddr) -> Option<Mac> {
        let stated = self.kernel.router_mac(bridge, vtep).or_else(|| {
            let macs = self.macs.range((vxlan, Mac([0; 6]))..=(vxlan, Mac([0xff; 6])));
            macs.filter(|(_, (of, _))| *of == vtep).map(|((_, mac), _)| *mac).next()
        });
        stated.or_else(|| self.kernel.remembered.get(&(bridge, vtep)).copied())
    }
}
