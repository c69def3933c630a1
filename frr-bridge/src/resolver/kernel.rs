use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use foldhash::HashMap;

use crate::netlink::{Address, FdbEntry, FloodEntry, Link, LinkNeighbor, Mac, Message};

/// A dump of the router namespace's links, addresses, neighbours and FDB entries.
#[derive(Debug, Default)]
pub struct Snapshot(pub Vec<Message>);

/// What the kernel has said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kernel {
    pub(super) links: HashMap<u32, Link>,
    pub(super) addresses: BTreeSet<Address>,
    pub(super) neighbors: HashMap<(u32, IpAddr), LinkNeighbor>,
    /// The last router MAC of a VTEP on a bridge, for as long as the bridge exists. When a route loses one of two paths to
    /// the same VTEP, zebra (seen with 8.4.4) takes the router MAC away although the route still uses it.
    pub(super) remembered: HashMap<(u32, IpAddr), Mac>,
    /// By bridge and MAC: the port it is behind.
    pub(super) fdb: BTreeMap<(u32, Mac), FdbEntry>,
    /// By VXLAN device and MAC: the VTEP it is behind, for frames that the bridge sends into the device.
    pub(super) macs: BTreeMap<(u32, Mac), RemoteMac>,
    pub(super) floods: BTreeSet<FloodEntry>,
}

/// Where a MAC is that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteMac {
    /// The VTEP.
    pub vtep: IpAddr,
    /// It does not move, whatever is seen here.
    pub sticky: bool,
}

/// What a snapshot changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) any: bool,
    /// By bridge or VXLAN device.
    pub(super) macs: Vec<(u32, Mac)>,
}

impl Kernel {
    /// `is_svi`: bridges whose neighbours are hosts.
    pub(super) fn replace(&mut self, snapshot: Snapshot, is_svi: impl Fn(u32) -> bool) -> Changes {
        let mut new = Self::default();
        for message in snapshot.0 {
            new.apply(message);
        }
        for (&(ifindex, vtep), &mac) in &self.remembered {
            if new.links.contains_key(&ifindex) {
                new.remembered.entry((ifindex, vtep)).or_insert(mac);
            }
        }
        new.remembered.retain(|&(ifindex, _), _| !is_svi(ifindex));
        let fdb = differing(&self.fdb, &new.fdb);
        let macs = fdb.chain(differing(&self.macs, &new.macs)).collect();
        let changes = Changes { any: *self != new, macs };
        *self = new;
        changes
    }

    /// The entries of a VXLAN device.
    pub(super) fn macs_of(&self, vxlan: u32) -> impl Iterator<Item = (Mac, RemoteMac)> + '_ {
        let range = (vxlan, Mac([0; 6]))..=(vxlan, Mac([0xff; 6]));
        self.macs.range(range).map(|(&(_, mac), &remote)| (mac, remote))
    }

    /// The VTEPs that a VXLAN device floods to, in order.
    pub(super) fn floods_of(&self, vxlan: u32) -> Vec<IpAddr> {
        let all = self.floods.range(FloodEntry { ifindex: vxlan, vtep: IpAddr::from([0; 4]) }..);
        all.take_while(|entry| entry.ifindex == vxlan).map(|entry| entry.vtep).collect()
    }

    /// The router MAC of a VTEP as the bridge's neighbours have it. That of an IPv4 VTEP is stated twice, the second time
    /// as `::ffff:a.b.c.d` for IPv6 prefixes, and either can go before the other.
    pub(super) fn router_mac(&self, bridge: u32, vtep: IpAddr) -> Option<Mac> {
        let known = |address| self.neighbors.get(&(bridge, address)).and_then(LinkNeighbor::usable_mac);
        known(vtep).or_else(|| match vtep {
            IpAddr::V4(vtep) => known(vtep.to_ipv6_mapped().into()),
            IpAddr::V6(_) => None,
        })
    }

    /// Whether it changed anything.
    pub(super) fn apply(&mut self, message: Message) -> bool {
        match message {
            Message::NewLink(link) => {
                let old = self.links.get(&link.index);
                let changed = old != Some(&*link);
                self.links.insert(link.index, *link);
                changed
            }
            // The kernel announces the deletion of a link's addresses and neighbours, but not in every order.
            Message::DelLink(index) => {
                self.addresses.retain(|address| address.ifindex != index);
                self.remembered.retain(|(ifindex, _), _| *ifindex != index);
                self.forget_macs(index);
                self.links.remove(&index).is_some()
            }
            Message::NewAddress(address) => self.addresses.insert(address),
            Message::DelAddress(address) => self.addresses.remove(&address),
            Message::NewNeighbor(neighbor) => {
                if let Some(mac) = neighbor.usable_mac().filter(|_| neighbor.is_external()) {
                    self.remembered.insert((neighbor.ifindex, neighbor.address.to_canonical()), mac);
                }
                self.neighbors.insert((neighbor.ifindex, neighbor.address), neighbor) != Some(neighbor)
            }
            Message::DelNeighbor(neighbor) => {
                self.neighbors.remove(&(neighbor.ifindex, neighbor.address)).is_some()
            }
            Message::NewFdb(entry) => self.fdb.insert((entry.bridge, entry.mac), entry) != Some(entry),
            // It may be behind another port already.
            Message::DelFdb(entry) => {
                let at = (entry.bridge, entry.mac);
                let there = self.fdb.get(&at).is_some_and(|known| known.port == entry.port);
                there && self.fdb.remove(&at).is_some()
            }
            Message::NewMac(entry) => {
                let remote = RemoteMac { vtep: entry.vtep, sticky: entry.sticky };
                self.macs.insert((entry.ifindex, entry.mac), remote) != Some(remote)
            }
            Message::DelMac(entry) => {
                let at = (entry.ifindex, entry.mac);
                let there = self.macs.get(&at).is_some_and(|known| known.vtep == entry.vtep);
                there && self.macs.remove(&at).is_some()
            }
            Message::NewFlood(entry) => self.floods.insert(entry),
            Message::DelFlood(entry) => self.floods.remove(&entry),
            _ => false,
        }
    }

    /// Of a bridge or a VXLAN device that is gone.
    fn forget_macs(&mut self, index: u32) {
        let range = (index, Mac([0; 6]))..=(index, Mac([0xff; 6]));
        for at in self.fdb.range(range.clone()).map(|(at, _)| *at).collect::<Vec<_>>() {
            self.fdb.remove(&at);
        }
        for at in self.macs.range(range).map(|(at, _)| *at).collect::<Vec<_>>() {
            self.macs.remove(&at);
        }
        for vtep in self.floods_of(index) {
            self.floods.remove(&FloodEntry { ifindex: index, vtep });
        }
    }
}

/// The keys whose values are not the same in both.
fn differing<'a, V: PartialEq>(
    old: &'a BTreeMap<(u32, Mac), V>,
    new: &'a BTreeMap<(u32, Mac), V>,
) -> impl Iterator<Item = (u32, Mac)> + 'a {
    let gone = old.keys().filter(|at| !new.contains_key(at));
    let changed = new.iter().filter(|(at, value)| old.get(at) != Some(value)).map(|(at, _)| at);
    gone.chain(changed).copied()
}
