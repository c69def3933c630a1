use std::net::IpAddr;

use foldhash::{HashMap, HashSet};

use super::Resolver;
use super::view::View;
use crate::learned::Learned;
use crate::netlink::{FdbEntry, LinkNeighbor, Mac, OWN_PROTOCOL, Refusal, Write};
use crate::topology::PortId;

/// VNI and MAC.
type MacAt = (u32, Mac);
/// VNI and address.
type NeighborAt = (u32, IpAddr);

/// What the dataplane has on its ports.
#[derive(Debug, Default)]
struct Hosts {
    macs: HashMap<MacAt, PortId>,
    neighbors: HashMap<NeighborAt, Mac>,
}

impl Hosts {
    fn take(&mut self, learned: &Learned) {
        for &(at, port) in &learned.macs {
            match port {
                Some(port) => self.macs.insert(at, port),
                None => self.macs.remove(&at),
            };
        }
        for &(at, mac) in &learned.neighbors {
            match mac {
                Some(mac) => self.neighbors.insert(at, mac),
                None => self.neighbors.remove(&at),
            };
        }
    }
}

/// How far the kernel is to be compared with what the dataplane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    /// The dataplane has said everything anew.
    Anew,
    /// A dump of the kernel. What it says is remote stays so: the dataplane is being told.
    Heal,
}

/// Local hosts on their way from the dataplane to the kernel: what the dataplane has, and what the kernel was told of it.
///
/// The kernel keeps what it was told until a dataplane has said everything once. An entry is written when the
/// dataplane says something new of it, or when the device that it belongs to appears; never because the kernel has changed
/// it, which is zebra's word.
#[derive(Debug, Default)]
pub(super) struct Local {
    hosts: Hosts,
    /// MACs of `hosts` that zebra has put behind a VTEP after the dataplane's last word: it is being told.
    overruled: HashSet<MacAt>,
    /// Whose ports `hosts` names.
    instance: Option<u64>,
    /// A stream that has not said everything yet.
    incoming: Option<Hosts>,
    /// What the kernel has, as far as it was told or has said: the port's interface index.
    written_macs: HashMap<MacAt, u32>,
    written_neighbors: HashMap<NeighborAt, (u32, Mac)>,
    changed_macs: HashSet<MacAt>,
    changed_neighbors: HashSet<NeighborAt>,
    /// To be written when the devices, or the MACs, are there.
    waiting_macs: HashSet<MacAt>,
    waiting_neighbors: HashSet<NeighborAt>,
    retry: bool,
    compare: Option<Compare>,
}

impl Local {
    fn has_mac(&self, at: MacAt) -> bool {
        self.hosts.macs.contains_key(&at)
    }

    /// The dataplane has it, and its word is the last.
    pub(super) fn holds_mac(&self, at: MacAt) -> bool {
        self.has_mac(at) && !self.overruled.contains(&at)
    }

    /// Devices changed, or time has passed: what waits may be possible now.
    pub(super) fn retry(&mut self) {
        self.retry = true;
    }

    pub(super) fn snapshot(&mut self) {
        if self.instance.is_some() && self.compare.is_none() {
            self.compare = Some(Compare::Heal);
        }
    }

    /// Written anew when it may be.
    fn lost_mac(&mut self, at: MacAt) {
        self.written_macs.remove(&at);
        if self.has_mac(at) {
            self.waiting_macs.insert(at);
        }
    }

    /// The dataplane's word is the last again.
    fn restore(&mut self, at: MacAt) {
        if self.overruled.remove(&at) && self.has_mac(at) {
            // With the MAC zebra has taken its neighbours, of which the dataplane has nothing new to say.
            let of = self.hosts.neighbors.iter().filter(|(of, known)| (of.0, **known) == at);
            self.changed_neighbors.extend(of.map(|(at, _)| *at));
        }
    }

    fn lost_neighbor(&mut self, at: NeighborAt) {
        self.written_neighbors.remove(&at);
        if self.hosts.neighbors.contains_key(&at) {
            self.waiting_neighbors.insert(at);
        }
    }
}

impl Resolver {
    /// A stream of what the dataplane has learned begins.
    pub fn learning(&mut self) {
        self.local.incoming = Some(Hosts::default());
    }

    /// The next message of the stream.
    pub fn learned(&mut self, learned: &Learned) {
        if let Some(incoming) = &mut self.local.incoming {
            incoming.take(learned);
            if learned.complete {
                self.all_learned(learned.instance);
            }
            return;
        }
        self.local.hosts.take(learned);
        for &(at, port) in &learned.macs {
            self.local.changed_macs.insert(at);
            self.said_local(at, port.is_some());
        }
        self.local.changed_neighbors.extend(learned.neighbors.iter().map(|(at, _)| *at));
    }

    fn all_learned(&mut self, instance: u64) {
        let new = self.local.incoming.take().unwrap_or_default();
        let old = std::mem::replace(&mut self.local.hosts, new);
        let same_process = self.local.instance.replace(instance) == Some(instance);
        let gone: Vec<_> = old.macs.keys().filter(|at| !self.local.has_mac(**at)).copied().collect();
        let known = |at: &MacAt| same_process && old.macs.contains_key(at);
        let new: Vec<_> = self.local.hosts.macs.keys().filter(|at| !known(at)).copied().collect();
        gone.into_iter().for_each(|at| self.said_local(at, false));
        new.into_iter().for_each(|at| self.said_local(at, true));
        self.local.compare = Some(Compare::Anew);
    }

    /// The dataplane's word about a MAC: what zebra said of it before no longer counts, or counts again.
    fn said_local(&mut self, at: MacAt, local: bool) {
        let (vni, mac) = at;
        self.local.restore(at);
        if local {
            self.sent_macs.remove(&at);
            if self.is_sticky(at) {
                self.local.overruled.insert(at);
            }
        }
        self.dirty.macs.extend(self.view.domains.get(&vni).map(|domain| (domain.bridge, mac)));
    }

    /// The kernel's word about a MAC, of a bridge or VXLAN device: when it says remote, what the dataplane said before no
    /// longer counts.
    pub(super) fn said_remote(&mut self, ifindex: u32, mac: Mac) {
        let Some(vni) = self.view.l2vni(ifindex) else { return };
        if self.local.has_mac((vni, mac)) && self.remote_mac(vni, mac).is_some() {
            self.local.overruled.insert((vni, mac));
            self.sent_macs.remove(&(vni, mac));
        }
    }

    /// zebra takes no local MAC in place of a sticky one, and does not put it back (seen with 8.4.4 and 10.7.1). The
    /// dataplane, which learned it before it knew, is told again.
    fn is_sticky(&self, (vni, mac): MacAt) -> bool {
        self.remote_mac(vni, mac).is_some_and(|remote| remote.sticky)
    }

    /// The devices of L2VNIs changed to those of `view`: what was written to a bridge that is gone went with it.
    pub(super) fn lose_domains(&mut self, view: &View) {
        let bridge = |view: &View, vni| view.domains.get(&vni).map(|domain| domain.bridge);
        let gone = |vni: u32| bridge(&self.view, vni) != bridge(view, vni);
        let macs: Vec<_> = self.local.written_macs.keys().filter(|at| gone(at.0)).copied().collect();
        let neighbors: Vec<_> =
            self.local.written_neighbors.keys().filter(|at| gone(at.0)).copied().collect();
        macs.into_iter().for_each(|at| self.local.lost_mac(at));
        neighbors.into_iter().for_each(|at| self.local.lost_neighbor(at));
    }

    /// What the kernel must be told since the last call. The view must be fresh: it follows [`Resolver::flush`].
    pub fn writes(&mut self) -> Vec<Write> {
        if self.local.instance != Some(self.topology.instance) || !self.has_snapshot {
            return Vec::new();
        }
        if let Some(compare) = self.local.compare.take() {
            self.compare_local(compare);
        }
        if std::mem::take(&mut self.local.retry) {
            let local = &mut self.local;
            local.changed_macs.extend(local.waiting_macs.drain());
            local.changed_neighbors.extend(local.waiting_neighbors.drain());
        }
        let (mut unset, mut set) = (Vec::new(), Vec::new());
        for at in std::mem::take(&mut self.local.changed_macs) {
            self.write_mac(at, &mut unset, &mut set);
        }
        if !set.is_empty() {
            let local = &mut self.local;
            local.changed_neighbors.extend(local.waiting_neighbors.drain());
        }
        // A neighbour goes before its MAC and comes after it.
        let (mut writes, mut neighbors) = (Vec::new(), Vec::new());
        for at in std::mem::take(&mut self.local.changed_neighbors) {
            self.write_neighbor(at, &mut writes, &mut neighbors);
        }
        writes.extend(unset.into_iter().chain(set).chain(neighbors));
        writes.extend(self.router_macs_kept());
        writes
    }

    /// Router MACs that zebra took away and that we remember: the kernel, which forwards what the dataplane hands over, needs
    /// them like the dataplane, and remembers them for a frr-bridge that is started anew. They go with the device.
    fn router_macs_kept(&mut self) -> Vec<Write> {
        let lost = std::mem::take(&mut self.lost_router_macs);
        let kept = lost.into_iter().filter(|at| !self.kernel.neighbors.contains_key(at));
        kept.filter_map(|(ifindex, address)| {
            let mac = *self.kernel.remembered.get(&(ifindex, address.to_canonical()))?;
            Some(Write::KeepRouterMac { ifindex, address, mac })
        })
        .collect()
    }

    fn write_mac(&mut self, at: MacAt, unset: &mut Vec<Write>, set: &mut Vec<Write>) {
        let mac = at.1;
        self.local.waiting_macs.remove(&at);
        let Some(&port) = self.local.hosts.macs.get(&at) else {
            if let Some(port) = self.local.written_macs.remove(&at) {
                unset.push(Write::RemoveMac { port, mac });
            }
            return;
        };
        if !self.local.holds_mac(at) {
            return;
        }
        match self.view.bridge_port(at.0, port) {
            Some(port) => {
                if self.local.written_macs.insert(at, port) != Some(port) {
                    set.push(Write::SetMac { port, mac });
                }
            }
            None => drop(self.local.waiting_macs.insert(at)),
        }
    }

    fn write_neighbor(&mut self, at: NeighborAt, unset: &mut Vec<Write>, set: &mut Vec<Write>) {
        let (vni, address) = at;
        self.local.waiting_neighbors.remove(&at);
        let Some(&mac) = self.local.hosts.neighbors.get(&at) else {
            if let Some((ifindex, _)) = self.local.written_neighbors.remove(&at) {
                let known = self.kernel.neighbors.get(&(ifindex, address));
                // It went remote: it is zebra's.
                if !known.is_some_and(LinkNeighbor::is_external) {
                    unset.push(Write::RemoveNeighbor { ifindex, address });
                }
            }
            return;
        };
        match self.view.domains.get(&vni).map(|domain| domain.bridge) {
            Some(ifindex) if self.local.written_macs.contains_key(&(vni, mac)) => {
                if self.local.written_neighbors.insert(at, (ifindex, mac)) != Some((ifindex, mac)) {
                    set.push(Write::SetNeighbor { ifindex, address, mac });
                }
            }
            _ => drop(self.local.waiting_neighbors.insert(at)),
        }
    }

    /// What the kernel has takes the place of what it was told, and everything is looked at. Dynamic entries behind the
    /// shadows of bridged ports are ours, because these learn nothing; neighbours of ours carry our mark.
    fn compare_local(&mut self, compare: Compare) {
        let macs = self.kernel.fdb.values().filter_map(|entry| {
            let ours = entry.dynamic && self.view.bridged.contains_key(&entry.port);
            ours.then_some(((self.view.l2vni(entry.bridge)?, entry.mac), entry.port))
        });
        let macs: HashMap<MacAt, u32> = macs.collect();
        let neighbors = self.kernel.neighbors.values().filter_map(|neighbor| {
            let ours = neighbor.protocol == OWN_PROTOCOL && !neighbor.is_external();
            let vni = ours.then(|| self.view.l2vni(neighbor.ifindex))??;
            Some(((vni, neighbor.address), (neighbor.ifindex, neighbor.usable_mac()?)))
        });
        let neighbors: HashMap<NeighborAt, (u32, Mac)> = neighbors.collect();
        let heal = compare == Compare::Heal;
        let zebras_mac = |&&(vni, mac): &&MacAt| {
            let domain = self.view.domains.get(&vni);
            let entry = domain.and_then(|domain| self.kernel.fdb.get(&(domain.bridge, mac)));
            heal && entry.is_some_and(|entry| domain.is_some_and(|of| of.vxlan == Some(entry.port)))
        };
        let zebras_neighbor = |&&(vni, address): &&NeighborAt| {
            let domain = self.view.domains.get(&vni);
            let known = domain.and_then(|domain| self.kernel.neighbors.get(&(domain.bridge, address)));
            heal && known.is_some_and(LinkNeighbor::is_external)
        };
        let changed_macs: Vec<MacAt> =
            self.local.hosts.macs.keys().filter(|at| !zebras_mac(at)).chain(macs.keys()).copied().collect();
        let wanted = self.local.hosts.neighbors.keys().filter(|at| !zebras_neighbor(at));
        let changed_neighbors: Vec<NeighborAt> = wanted.chain(neighbors.keys()).copied().collect();
        self.local.changed_macs.extend(changed_macs);
        self.local.changed_neighbors.extend(changed_neighbors);
        (self.local.written_macs, self.local.written_neighbors) = (macs, neighbors);
    }

    /// The kernel refused some writes: they wait for another chance.
    pub fn refused(&mut self, refusals: &[Refusal]) {
        for Refusal { write, .. } in refusals {
            match *write {
                Write::SetMac { port, mac } => {
                    let Some(&(_, vni)) = self.view.bridged.get(&port) else { continue };
                    let at = (vni, mac);
                    if self.local.written_macs.get(&at).is_none_or(|known| *known == port) {
                        self.local.lost_mac(at);
                    }
                    self.recall_mac(at);
                }
                Write::SetNeighbor { ifindex, address, mac } => {
                    let Some(vni) = self.view.l2vni(ifindex) else { continue };
                    let (at, was) = ((vni, address), (ifindex, mac));
                    let known = self.kernel.neighbors.get(&(ifindex, address));
                    let is_zebras = known.is_some_and(LinkNeighbor::is_external);
                    if self.local.written_neighbors.get(&at).is_none_or(|known| *known == was) && !is_zebras {
                        self.local.lost_neighbor(at);
                    }
                }
                // Somebody knows better.
                Write::KeepRouterMac { .. } | Write::RemoveMac { .. } | Write::RemoveNeighbor { .. } => {}
            }
        }
    }

    /// A move that was refused leaves a MAC where it was, from where it may have to be removed.
    fn recall_mac(&mut self, at: MacAt) {
        let domain = self.view.domains.get(&at.0);
        let entry = domain.and_then(|domain| self.kernel.fdb.get(&(domain.bridge, at.1)));
        if let Some(entry) =
            entry.filter(|entry| entry.dynamic && self.view.bridged.contains_key(&entry.port))
        {
            self.local.written_macs.entry(at).or_insert(entry.port);
            if !self.local.has_mac(at) {
                self.local.changed_macs.insert(at);
            }
        }
    }

    /// Time has passed. Whether something waits.
    pub fn retry_local(&mut self) -> bool {
        let waits = !self.local.waiting_macs.is_empty() || !self.local.waiting_neighbors.is_empty();
        self.local.retry |= waits;
        waits
    }

    /// A bridge says that a MAC is, or is no longer, behind a port.
    pub(super) fn local_fdb_event(&mut self, new: bool, entry: FdbEntry) {
        let Some(vni) = self.view.l2vni(entry.bridge) else { return };
        let at = (vni, entry.mac);
        let wanted = self.local.has_mac(at);
        if !new {
            if self.local.written_macs.get(&at) == Some(&entry.port) {
                self.local.lost_mac(at);
            }
        } else if entry.dynamic && self.view.bridged.contains_key(&entry.port) {
            self.local.restore(at);
            // Also of one that is not wanted, or not there: it was overtaken by the dataplane's next word.
            let known = self.local.written_macs.insert(at, entry.port) == Some(entry.port);
            if !(known && wanted) {
                self.local.changed_macs.insert(at);
            }
        } else {
            self.local.written_macs.remove(&at);
            self.local.waiting_macs.remove(&at);
            self.local.changed_macs.remove(&at);
        }
    }

    /// The kernel says something of a neighbour.
    pub(super) fn local_neighbor_event(&mut self, new: bool, neighbor: LinkNeighbor) {
        let Some(vni) = self.view.l2vni(neighbor.ifindex) else { return };
        let at = (vni, neighbor.address);
        if new && neighbor.is_external() {
            self.local.written_neighbors.remove(&at);
            self.local.waiting_neighbors.remove(&at);
            // zebra moves the MAC first. Where that is here all the same, this word is an old one.
            let mac = self.local.hosts.neighbors.get(&at).copied().filter(|mac| neighbor.mac == Some(*mac));
            if mac.is_some_and(|mac| self.local.holds_mac((vni, mac))) {
                self.local.waiting_neighbors.insert(at);
            }
        } else if new && neighbor.protocol == OWN_PROTOCOL {
            if let Some(mac) = neighbor.usable_mac() {
                let now = (neighbor.ifindex, mac);
                let known = self.local.written_neighbors.insert(at, now) == Some(now);
                if !(known && self.local.hosts.neighbors.contains_key(&at)) {
                    self.local.changed_neighbors.insert(at);
                }
            }
        } else if !new && self.local.written_neighbors.contains_key(&at) {
            self.local.lost_neighbor(at);
        }
    }
}
