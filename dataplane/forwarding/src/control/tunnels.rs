//! Tunnels, the VTEPs they lead to, and the peers whose packets are accepted.

use std::net::IpAddr;
use std::ops::RangeInclusive;

pub(super) use crate::tables::tunnel::TunnelSpec;

use super::{Control, Dependency, Peer, Retired};
use crate::types::{Vni, VrfId, address_bits, address_from_bits};

/// An encapsulation that some path uses.
#[derive(Debug)]
pub(super) struct Tunnel {
    slot: u32,
    paths: u32,
}

/// A remote VTEP, however many VNIs and router MACs it has: the one place where its underlay route is written.
#[derive(Debug)]
pub(super) struct Vtep {
    pub(super) slot: u32,
    tunnels: u32,
    /// The group of the longest match in the default VRF.
    pub(super) group: Option<u32>,
    /// Whether one of that group's paths leads to a neighbour.
    pub(super) usable: bool,
}

impl Control {
    /// The slot of a tunnel and of its VTEP, made when it is new; `None` when there is no room.
    pub(super) fn tunnel_acquire(&mut self, spec: TunnelSpec) -> Option<(u32, u32)> {
        let address = address_bits(spec.vtep);
        if let Some(tunnel) = self.tunnels.get_mut(&spec) {
            tunnel.paths += 1;
            return Some((tunnel.slot, self.vteps.get(&address)?.slot));
        }
        let slot = self.tunnel_slots.take()?;
        let Some(vtep) = self.vtep_acquire(address) else {
            self.tunnel_slots.give(slot);
            return None;
        };
        self.tunnels.insert(spec, Tunnel { slot, paths: 1 });
        self.tables.write_tunnel(slot, &spec, vtep)?;
        Some((slot, vtep))
    }

    pub(super) fn tunnel_release(&mut self, spec: &TunnelSpec) {
        let Some(tunnel) = self.tunnels.get_mut(spec) else { return };
        tunnel.paths -= 1;
        if tunnel.paths == 0 {
            let slot = tunnel.slot;
            self.tunnels.remove(spec);
            self.retire(Retired::Tunnel(slot));
            self.vtep_release(address_bits(spec.vtep));
        }
    }

    fn vtep_acquire(&mut self, address: u128) -> Option<u32> {
        if let Some(vtep) = self.vteps.get_mut(&address) {
            vtep.tunnels += 1;
            return Some(vtep.slot);
        }
        let slot = self.vtep_slots.take()?;
        self.vteps.insert(address, Vtep { slot, tunnels: 1, group: None, usable: false });
        self.tables.set_vtep(slot, None)?;
        self.vtep_resolve(address);
        Some(slot)
    }

    fn vtep_release(&mut self, address: u128) {
        let Some(vtep) = self.vteps.get_mut(&address) else { return };
        vtep.tunnels -= 1;
        if vtep.tunnels == 0 {
            let (slot, group) = (vtep.slot, vtep.group);
            self.vteps.remove(&address);
            if let Some(group) = group {
                self.vtep_users.remove(&(group, address));
            }
            self.retire(Retired::Vtep(slot));
        }
    }

    /// Resolves the VTEPs of a range of addresses anew, after the default VRF's routes to it changed.
    pub(super) fn vteps_resolve(&mut self, first: u128, last: u128) {
        if self.vteps.is_empty() {
            return;
        }
        let addresses: Vec<u128> = self.vteps.range(first..=last).map(|(&address, _)| address).collect();
        addresses.into_iter().for_each(|address| self.vtep_resolve(address));
    }

    /// The same after routes to many ranges changed.
    pub(super) fn vteps_resolve_of(&mut self, ranges: impl ExactSizeIterator<Item = RangeInclusive<u128>>) {
        if ranges.len() > self.vteps.len() {
            self.vteps_resolve(0, u128::MAX);
        } else {
            ranges.for_each(|range| self.vteps_resolve(*range.start(), *range.end()));
        }
    }

    fn vtep_resolve(&mut self, address: u128) {
        let Some((v4, v6)) = self.vrf_tables(VrfId::DEFAULT) else { return };
        let found = match address_from_bits(address) {
            IpAddr::V4(address) => self.fib4.lookup(v4, address.to_bits()).map(|(_, found)| found),
            IpAddr::V6(address) => self.fib6.lookup(v6, address.to_bits()).map(|(_, found)| found),
        };
        let group = found.map(crate::fib::NextHopIndex::index);
        let Some(vtep) = self.vteps.get_mut(&address) else { return };
        let old = std::mem::replace(&mut vtep.group, group);
        if old != group {
            // The one write that redirects every prefix behind this VTEP.
            self.tables.set_vtep(vtep.slot, group);
            if let Some(old) = old {
                self.vtep_users.remove(&(old, address));
            }
            if let Some(group) = group {
                self.vtep_users.insert((group, address));
            }
        }
        self.vtep_judge(address);
    }

    /// Looks whether a VTEP can be reached, and moves the flows of groups with several paths if that changed.
    fn vtep_judge(&mut self, address: u128) {
        let Some(vtep) = self.vteps.get(&address) else { return };
        let usable = vtep
            .group
            .and_then(|group| self.groups.get(&group))
            .is_some_and(|group| group.resolved.iter().any(|path| path.usable && path.leads_to_neighbor()));
        let slot = vtep.slot;
        if usable != vtep.usable
            && let Some(vtep) = self.vteps.get_mut(&address)
        {
            vtep.usable = usable;
            self.rebuild_dependents(Dependency::Vtep(slot));
        }
    }

    /// After the paths of a group changed: judges the VTEPs that are reached by it.
    pub(super) fn vteps_judge_of(&mut self, group: u32) {
        let addresses: Vec<u128> =
            self.vtep_users.range((group, 0)..=(group, u128::MAX)).map(|&(_, address)| address).collect();
        addresses.into_iter().for_each(|address| self.vtep_judge(address));
    }

    /// Whether a VTEP is reached by a group.
    pub(super) fn leads_to_vteps(&self, group: u32) -> bool {
        self.vtep_users.range((group, 0)..=(group, u128::MAX)).next().is_some()
    }

    /// Accepts a VTEP's packets in a VNI while a path names it.
    pub(super) fn peer_acquire(&mut self, vni: Vni, vtep: u128) {
        if let Some(peer) = self.peers.get_mut(&(vni, vtep)) {
            peer.paths += 1;
        } else if let Some(record) = self.peer_table.insert(vni.get(), vtep, 0) {
            self.peers.insert((vni, vtep), Peer { record, paths: 1 });
        }
    }

    pub(super) fn peer_release(&mut self, vni: Vni, vtep: u128) {
        let Some(peer) = self.peers.get_mut(&(vni, vtep)) else { return };
        peer.paths -= 1;
        if peer.paths == 0 {
            let record = peer.record;
            self.peers.remove(&(vni, vtep));
            self.peer_table.remove(record);
            self.retire(Retired::Peer(record));
        }
    }
}
