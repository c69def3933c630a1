//! Next-hop groups: path lists that routes share.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::topology::is_unicast;
use super::tunnels::TunnelSpec;
use super::{Control, Dependency, Retired};
use crate::error::Error;
use crate::reason::Reason;
use crate::tables::paths::{GroupWord, PathKind, PathWord, fill, shares};
use crate::types::{Mac, PortId, Vni, address_bits};

/// As the interface between the processes has it.
const MAX_PATHS: usize = 64;

/// One way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// By a gateway on a port; of either family, whatever the destination's is (RFC 8950).
    Adjacent {
        /// The port.
        port: PortId,
        /// The gateway.
        gateway: IpAddr,
    },
    /// Through a VXLAN tunnel.
    Vxlan {
        /// The L3VNI.
        vni: Vni,
        /// The remote VTEP, resolved in the default VRF.
        vtep: IpAddr,
        /// The remote router MAC, when it is known.
        router_mac: Option<Mac>,
    },
    /// The destination itself is a neighbour on this port.
    Connected {
        /// The port.
        port: PortId,
    },
    /// An address of the router.
    Local,
    /// Blackhole, unreachable, prohibit.
    Drop,
}

/// A path and its share of the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightedPath {
    /// Relative to the group's others; 0 counts as 1.
    pub weight: u32,
    /// The path.
    pub path: Path,
}

/// A group as it was stated, and what became of it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) paths: Vec<Stated>,
    pub(super) resolved: Vec<Resolved>,
    dependencies: Vec<Dependency>,
    buckets: Option<(u32, u32)>,
    /// What the buckets hold; the one path of a group without.
    words: Vec<PathWord>,
    /// The session that stated it.
    pub(super) session: u64,
    /// Whether that session can still name it.
    named: bool,
    /// Routes that lead here.
    routes: u64,
}

/// A path, and whether its port is gone: another port may get the number, and must not inherit the path.
#[derive(Clone, Debug)]
pub(super) struct Stated {
    pub(super) path: WeightedPath,
    dead: bool,
}

/// What a path became.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) word: PathWord,
    pub(super) hold: Hold,
    peer: Option<(Vni, u128)>,
    /// Takes part in the choice among several paths.
    pub(super) usable: bool,
}

impl Resolved {
    /// Whether it leaves by a port of this node, be the neighbour there resolved or not.
    pub(super) const fn leads_to_neighbor(&self) -> bool {
        matches!(self.hold, Hold::Adjacent { .. } | Hold::Connected)
    }
}

/// What a path holds on to.
#[derive(Debug)]
pub(super) enum Hold {
    Nothing,
    Adjacent { port: PortId, address: u128 },
    Connected,
    Tunnel(TunnelSpec),
}

impl Control {
    /// States a group of the session, `id` 1 to 2^32-1: its paths replace those it had, for all routes that use it.
    pub fn group_set(&mut self, id: u32, paths: &[WeightedPath]) -> Result<(), Error> {
        if id == 0 {
            return Err(Error::GroupZero);
        }
        if paths.is_empty() || paths.len() > MAX_PATHS {
            return Err(Error::PathCount { id, paths: paths.len() });
        }
        paths.iter().try_for_each(|path| self.check_path(&path.path))?;
        let stated = || paths.iter().map(|&path| Stated { path, dead: false }).collect();
        if let Some(&slot) = self.names.get(&id) {
            let Some(group) = self.groups.get_mut(&slot) else { return Err(Error::UnknownGroup(id)) };
            let same = group.paths.iter().all(|path| !path.dead)
                && group.paths.iter().map(|stated| stated.path).eq(paths.iter().copied());
            if !same {
                group.paths = stated();
                self.rebuild(slot);
            }
            return Ok(());
        }
        let slot = self.group_slots.take().or_else(|| {
            self.reclaim_slots();
            self.group_slots.take()
        });
        let slot = slot.ok_or(Error::Full("next-hop group"))?;
        if self.tables.groups.get_or_make(slot).is_none() {
            return Err(Error::Full("next-hop group"));
        }
        let group = Group {
            paths: stated(),
            resolved: Vec::new(),
            dependencies: Vec::new(),
            buckets: None,
            words: Vec::new(),
            session: self.session,
            named: true,
            routes: 0,
        };
        self.groups.insert(slot, group);
        self.names.insert(id, slot);
        self.rebuild(slot);
        Ok(())
    }

    /// Forgets a group's identifier. Routes that lead to it go on doing so until they are replaced. An unknown one is no
    /// error: the client may be cleaning up after a refusal.
    pub fn group_remove(&mut self, id: u32) {
        if let Some(slot) = self.names.remove(&id) {
            self.group_unname(slot);
        }
    }

    pub(super) fn group_unname(&mut self, slot: u32) {
        if let Some(group) = self.groups.get_mut(&slot) {
            group.named = false;
            self.group_tidy(slot);
        }
    }

    /// So many routes more lead to a group.
    pub(super) fn group_enter(&mut self, slot: u32, routes: u64) {
        if let Some(group) = self.groups.get_mut(&slot) {
            group.routes += routes;
        }
    }

    /// So many routes less.
    pub(super) fn group_leave(&mut self, slot: u32, routes: u64) {
        if let Some(group) = self.groups.get_mut(&slot) {
            group.routes = group.routes.saturating_sub(routes);
            self.group_tidy(slot);
        }
    }

    fn group_tidy(&mut self, slot: u32) {
        if self.groups.get(&slot).is_some_and(|group| !group.named && group.routes == 0)
            && let Some(group) = self.groups.remove(&slot)
        {
            // Its word stays as it is: a worker may have found the slot in the FIB just before the last route left.
            for dependency in &group.dependencies {
                self.dependents.remove(&(*dependency, slot));
            }
            group.resolved.into_iter().for_each(|path| self.let_go(path));
            if let Some((base, log2)) = group.buckets {
                self.retire(Retired::Buckets { base, log2 });
            }
            self.retire(Retired::Group(slot));
        }
    }

    fn check_path(&self, path: &Path) -> Result<(), Error> {
        match *path {
            Path::Adjacent { port, gateway } => {
                self.check_path_port(port)?;
                check_unicast(gateway)
            }
            Path::Connected { port } => self.check_path_port(port),
            Path::Vxlan { vni, vtep, router_mac } => {
                check_unicast(vtep)?;
                if let Some(own) = self.vnis.get(&vni).map(|state| state.config.vtep)
                    && own.is_ipv4() != vtep.is_ipv4()
                {
                    return Err(Error::VtepFamily { vni, vtep, own });
                }
                match router_mac {
                    Some(mac) if !mac.is_unicast() => Err(Error::MacNotUnicast(mac)),
                    _ => Ok(()),
                }
            }
            Path::Local | Path::Drop => Ok(()),
        }
    }

    fn check_path_port(&self, port: PortId) -> Result<(), Error> {
        if self.ports.contains_key(&port) { Ok(()) } else { Err(Error::UnknownPort(port)) }
    }

    /// Makes the groups anew whose paths depend on something that changed.
    pub(super) fn rebuild_dependents(&mut self, dependency: Dependency) {
        let slots: Vec<u32> =
            self.dependents.range((dependency, 0)..=(dependency, u32::MAX)).map(|&(_, slot)| slot).collect();
        slots.into_iter().for_each(|slot| self.rebuild(slot));
    }

    /// Resolves a group's paths and publishes them by one store.
    fn rebuild(&mut self, slot: u32) {
        let Some(mut group) = self.groups.remove(&slot) else { return };
        let resolved: Vec<Resolved> = group.paths.iter_mut().map(|stated| self.resolve(stated)).collect();
        self.publish_group(slot, &mut group, &resolved);

        for dependency in std::mem::take(&mut group.dependencies) {
            self.dependents.remove(&(dependency, slot));
        }
        group.dependencies = self.dependencies(&group.paths, &resolved);
        self.dependents.extend(group.dependencies.iter().map(|&dependency| (dependency, slot)));

        let old = std::mem::replace(&mut group.resolved, resolved);
        self.groups.insert(slot, group);
        // After the new ones took hold, so that what both use stays.
        old.into_iter().for_each(|path| self.let_go(path));
        self.vteps_judge_of(slot);
    }

    fn dependencies(&self, paths: &[Stated], resolved: &[Resolved]) -> Vec<Dependency> {
        let mut dependencies = Vec::new();
        for (stated, resolved) in paths.iter().zip(resolved) {
            match stated.path.path {
                Path::Adjacent { port, .. } | Path::Connected { port } if !stated.dead => {
                    dependencies.push(Dependency::Port(port));
                }
                Path::Vxlan { vni, .. } => dependencies.push(Dependency::Vni(vni)),
                _ => {}
            }
            match &resolved.hold {
                Hold::Tunnel(spec) => {
                    let vtep = self.vteps.get(&address_bits(spec.vtep));
                    dependencies.extend(vtep.map(|vtep| Dependency::Vtep(vtep.slot)));
                }
                &Hold::Adjacent { port, address } => dependencies.push(Dependency::Neighbor(port, address)),
                Hold::Connected | Hold::Nothing => {}
            }
        }
        dependencies
    }

    fn resolve(&mut self, stated: &mut Stated) -> Resolved {
        let decline = |reason, usable| Resolved {
            word: PathWord::new(PathKind::Decline(reason)),
            hold: Hold::Nothing,
            peer: None,
            usable,
        };
        let plain = |kind, hold| Resolved { word: PathWord::new(kind), hold, peer: None, usable: true };
        match stated.path.path {
            Path::Adjacent { port, .. } | Path::Connected { port }
                if stated.dead || !self.ports.contains_key(&port) =>
            {
                stated.dead = true;
                decline(Reason::NoPort, false)
            }
            Path::Adjacent { port, gateway } => {
                let address = address_bits(gateway);
                match self.adjacency_acquire(port, address) {
                    Some(record) => Resolved {
                        usable: self.is_resolved(port, address),
                        ..plain(PathKind::Adjacent(record), Hold::Adjacent { port, address })
                    },
                    None => decline(Reason::NoNextHop, false),
                }
            }
            Path::Connected { port } => plain(PathKind::Connected(port), Hold::Connected),
            Path::Local => plain(PathKind::Local, Hold::Nothing),
            Path::Drop => decline(Reason::Blackhole, true),
            Path::Vxlan { vni, vtep, router_mac } => {
                let peer = address_bits(vtep);
                self.peer_acquire(vni, peer);
                let resolved = match self.tunnel_of(vni, vtep, router_mac) {
                    Err(reason) => decline(reason, false),
                    Ok(spec) => match self.tunnel_acquire(spec) {
                        None => decline(Reason::NoNextHop, false),
                        Some((record, _)) => Resolved {
                            word: PathWord::new(PathKind::Tunnel(record)),
                            hold: Hold::Tunnel(spec),
                            peer: None,
                            usable: self.vteps.get(&peer).is_some_and(|vtep| vtep.usable),
                        },
                    },
                };
                Resolved { peer: Some((vni, peer)), ..resolved }
            }
        }
    }

    fn tunnel_of(&self, vni: Vni, vtep: IpAddr, router_mac: Option<Mac>) -> Result<TunnelSpec, Reason> {
        let config = self.vnis.get(&vni).ok_or(Reason::UnresolvedVni)?.config;
        if config.vtep.is_ipv4() != vtep.is_ipv4() {
            return Err(Reason::UnresolvedVtep);
        }
        Ok(TunnelSpec {
            vni,
            own: config.vtep,
            vtep,
            udp_port: config.udp_port,
            router_mac: config.router_mac,
            remote_router_mac: router_mac.ok_or(Reason::UnresolvedRouterMac)?,
        })
    }

    fn let_go(&mut self, path: Resolved) {
        match path.hold {
            Hold::Adjacent { port, address } => self.adjacency_release(port, address),
            Hold::Tunnel(spec) => self.tunnel_release(&spec),
            Hold::Connected | Hold::Nothing => {}
        }
        if let Some((vni, vtep)) = path.peer {
            self.peer_release(vni, vtep);
        }
    }

    /// Writes the group's word, and before it the buckets it needs. Paths that lead nowhere get no flows while another
    /// leads somewhere.
    fn publish_group(&mut self, slot: u32, group: &mut Group, resolved: &[Resolved]) {
        let some_usable = resolved.iter().any(|path| path.usable);
        let chosen: Vec<(PathWord, u32)> = resolved
            .iter()
            .zip(&group.paths)
            .filter(|(path, _)| path.usable || !some_usable)
            .map(|(path, stated)| (path.word, stated.path.weight))
            .collect();
        let Some(&(first, _)) = chosen.first() else { return };

        let mut buckets = None;
        let mut words = vec![first];
        if chosen.len() > 1 {
            let weights: Vec<u32> = chosen.iter().map(|&(_, weight)| weight).collect();
            let (shares, log2) = shares(&weights);
            let paths: Vec<_> = chosen.iter().map(|&(word, _)| word).zip(shares).collect();
            let filled = fill(&group.words, &paths, 1 << log2);
            if group.buckets.is_some() && filled == group.words {
                return;
            }
            if let Some(base) = self.write_buckets(&filled, log2) {
                buckets = Some((base, log2));
                words = filled;
            }
        }
        let word = match buckets {
            Some((base, log2)) => GroupWord::buckets(base, log2),
            None => GroupWord::single(first),
        };
        if let Some(cell) = self.tables.groups.get(slot) {
            // Release: the buckets and what they lead to were written before.
            cell.store(word.0, Ordering::Release);
            // Others are looked at for every packet.
            if self.leads_to_vteps(slot) {
                self.tables.changed();
            }
        }
        group.words = words;
        if let Some((base, log2)) = std::mem::replace(&mut group.buckets, buckets) {
            self.retire(Retired::Buckets { base, log2 });
        }
    }

    fn write_buckets(&mut self, words: &[PathWord], log2: u32) -> Option<u32> {
        let base = self.buckets.take(log2)?;
        for (index, word) in (base..).zip(words) {
            self.tables.buckets.get_or_make(index)?.store(word.0, Ordering::Relaxed);
        }
        Some(base)
    }
}

fn check_unicast(address: IpAddr) -> Result<(), Error> {
    if is_unicast(address) { Ok(()) } else { Err(Error::NotUnicast(address)) }
}
