use std::collections::BTreeSet;
use std::net::IpAddr;

use foldhash::HashMap;

use crate::netlink::{Address, Link, LinkNeighbor, Message};

/// A dump of the router namespace's links, addresses and neighbours.
#[derive(Debug, Default)]
pub struct Snapshot(pub Vec<Message>);

/// What the kernel has said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kernel {
    pub(super) links: HashMap<u32, Link>,
    pub(super) addresses: BTreeSet<Address>,
    pub(super) neighbors: HashMap<(u32, IpAddr), LinkNeighbor>,
}

impl Kernel {
    /// Whether anything changed.
    pub(super) fn replace(&mut self, snapshot: Snapshot) -> bool {
        let mut new = Self::default();
        for message in snapshot.0 {
            new.apply(message);
        }
        let changed = *self != new;
        *self = new;
        changed
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
                self.links.remove(&index).is_some()
            }
            Message::NewAddress(address) => self.addresses.insert(address),
            Message::DelAddress(address) => self.addresses.remove(&address),
            Message::NewNeighbor(neighbor) => {
                self.neighbors.insert((neighbor.ifindex, neighbor.address), neighbor) != Some(neighbor)
            }
            Message::DelNeighbor(neighbor) => {
                self.neighbors.remove(&(neighbor.ifindex, neighbor.address)).is_some()
            }
            _ => false,
        }
    }
}
