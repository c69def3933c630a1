//! Neighbours: who is behind which MAC on which port.

use std::net::IpAddr;

use super::topology::is_unicast;
use super::{Control, Dependency, Retired};
use crate::error::Error;
use crate::tables::Station;
use crate::types::{Mac, PortId, address_bits};

/// A neighbour that was stated, or that a path waits for.
#[derive(Debug)]
pub(super) struct Neighbor {
    /// Its record in the workers' table.
    slot: u32,
    /// Paths that lead to it.
    paths: u32,
    pub(super) mac: Option<Mac>,
    /// The session that stated its MAC.
    pub(super) session: u64,
}

impl Control {
    /// States a neighbour. Every path to it follows by one store.
    pub fn neighbor_set(&mut self, port: PortId, address: IpAddr, mac: Mac) -> Result<(), Error> {
        if !self.ports.contains_key(&port) {
            return Err(Error::UnknownPort(port));
        }
        if !is_unicast(address) {
            return Err(Error::NotUnicast(address));
        }
        if !mac.is_unicast() {
            return Err(Error::MacNotUnicast(mac));
        }
        let key = (port, address_bits(address));
        // The kernel knows of another one who has the address: ours is an old one.
        if let Some(vni) = self.ports.get(&port).and_then(|port| port.svi) {
            self.host_contradicted(vni, key.1, mac.bits());
        }
        let session = self.session;
        let station = Station::new(mac, port.0).0;
        if let Some(neighbor) = self.neighbors.get_mut(&key) {
            neighbor.session = session;
            let old = neighbor.mac.replace(mac);
            if old != Some(mac) {
                self.neighbor_table.set(neighbor.slot, station);
                self.neighbor_changed(key);
            }
            if old.is_none() {
                self.rebuild_dependents(Dependency::Neighbor(port, key.1));
            }
            return Ok(());
        }
        let slot = self.neighbor_insert(key, station).ok_or(Error::Full("neighbor"))?;
        self.neighbors.insert(key, Neighbor { slot, paths: 0, mac: Some(mac), session });
        self.neighbor_changed(key);
        Ok(())
    }

    /// Has workers forget ways that lead to a neighbour. There is none without a path: hosts that come and go behind a port
    /// disturb nobody.
    fn neighbor_changed(&self, key: (PortId, u128)) {
        let is_gateway = self.neighbors.get(&key).is_some_and(|neighbor| neighbor.paths > 0);
        // A VTEP may be a neighbour itself: then the path leads to its port.
        if is_gateway || self.vteps.contains_key(&key.1) {
            self.tables.changed();
        }
    }

    /// Forgets a neighbour's MAC; packets to it are handed over. An unknown one is no error.
    pub fn neighbor_remove(&mut self, port: PortId, address: IpAddr) {
        self.neighbor_forget((port, address_bits(address)));
    }

    pub(super) fn neighbor_forget(&mut self, key: (PortId, u128)) {
        let Some(neighbor) = self.neighbors.get_mut(&key) else { return };
        if neighbor.mac.take().is_some() {
            self.neighbor_table.set(neighbor.slot, 0);
            self.neighbor_changed(key);
            self.rebuild_dependents(Dependency::Neighbor(key.0, key.1));
        }
        self.neighbor_tidy(key);
    }

    /// Whether a neighbour's MAC is known.
    pub(super) fn is_resolved(&self, port: PortId, address: u128) -> bool {
        self.neighbors.get(&(port, address)).is_some_and(|neighbor| neighbor.mac.is_some())
    }

    /// Forgets all neighbours of a port.
    pub(super) fn neighbors_remove_of(&mut self, port: PortId) {
        let keys: Vec<_> = self.neighbors.range((port, 0)..=(port, u128::MAX)).map(|(&key, _)| key).collect();
        keys.into_iter().for_each(|key| self.neighbor_forget(key));
    }

    /// The record of a gateway, for a path; resolved or not. `None` when there is no room.
    pub(super) fn adjacency_acquire(&mut self, port: PortId, address: u128) -> Option<u32> {
        let key = (port, address);
        if let Some(neighbor) = self.neighbors.get_mut(&key) {
            neighbor.paths += 1;
            return Some(neighbor.slot);
        }
        let slot = self.neighbor_insert(key, 0)?;
        self.neighbors.insert(key, Neighbor { slot, paths: 1, mac: None, session: 0 });
        Some(slot)
    }

    pub(super) fn adjacency_release(&mut self, port: PortId, address: u128) {
        if let Some(neighbor) = self.neighbors.get_mut(&(port, address)) {
            neighbor.paths -= 1;
            if neighbor.paths == 0 {
                // From here on it may change, or its record be another one's, and nobody is told.
                self.tables.changed();
            }
            self.neighbor_tidy((port, address));
        }
    }

    fn neighbor_insert(&mut self, (port, address): (PortId, u128), value: u64) -> Option<u32> {
        self.neighbor_table.insert(port.0.into(), address, value).or_else(|| {
            self.reclaim_slots();
            self.neighbor_table.insert(port.0.into(), address, value)
        })
    }

    fn neighbor_tidy(&mut self, key: (PortId, u128)) {
        if let Some(neighbor) = self.neighbors.get(&key)
            && neighbor.mac.is_none()
            && neighbor.paths == 0
        {
            let slot = neighbor.slot;
            self.neighbors.remove(&key);
            self.neighbor_table.remove(slot);
            self.retire(Retired::Neighbor(slot));
        }
    }
}
