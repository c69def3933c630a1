use std::collections::BTreeSet;
use std::net::IpAddr;

use foldhash::HashMap;

use crate::netlink::{Address, Link, LinkNeighbor, Mac, Message};

/// A dump of the router namespace's links, addresses and neighbours.
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
}

impl Kernel {
    /// Whether anything changed.
    pub(super) fn replace(&mut self, snapshot: Snapshot) -> bool {
        let mut new = Self::default();
        for message in snapshot.0 {
            new.apply(message);
        }
        for (&(ifindex, vtep), &mac) in &self.remembered {
            if new.links.contains_key(&ifindex) {
                new.remembered.entry((ifindex, vtep)).or_insert(mac);
            }
        }
        let changed = *self != new;
        *self = new;
        changed
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
            _ => false,
        }
    }
}
