//! Routes, and the sessions in which they are stated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Control;
use crate::error::Error;
use crate::fib::{FibError, Key, NextHopIndex, Prefix, TableId};
use crate::types::{VrfId, v4_bits};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Routes that the session did not state.
    pub routes: u64,
    /// Neighbours that the session did not state.
    pub neighbors: u64,
    /// MACs behind VTEPs that the session did not state.
    pub macs: u64,
}

impl Control {
    /// Begins a session: identifiers of groups mean nothing yet, while what earlier sessions stated goes on forwarding.
    pub fn session_begin(&mut self) {
        self.session += 1;
        for (_, slot) in std::mem::take(&mut self.names) {
            self.group_unname(slot);
        }
    }

    /// Removes the routes, neighbours, remote MACs and flood lists that this session has not stated.
    pub fn session_sweep(&mut self) -> Swept {
        let mut swept = Swept::default();
        let stale_groups: std::collections::HashSet<u32, foldhash::fast::FixedState> = self
            .groups
            .iter()
            .filter(|(_, group)| group.session != self.session)
            .map(|(&slot, _)| slot)
            .collect();
        if !stale_groups.is_empty() {
            let vrfs: Vec<_> = self.vrfs.iter().map(|(&id, vrf)| (id, vrf.tables)).collect();
            for (vrf, (v4, v6)) in vrfs {
                let is_stale = |found: NextHopIndex| stale_groups.contains(&found.index());
                let stale4: Vec<_> = self
                    .fib4
                    .iter(v4)
                    .filter(|&(_, found)| is_stale(found))
                    .map(|(prefix, _)| prefix)
                    .collect();
                let stale6: Vec<_> = self
                    .fib6
                    .iter(v6)
                    .filter(|&(_, found)| is_stale(found))
                    .map(|(prefix, _)| prefix)
                    .collect();
                for prefix in stale4 {
                    swept.routes += u64::from(self.route4_change(vrf, v4, prefix, None).is_ok());
                }
                for prefix in stale6 {
                    swept.routes += u64::from(self.route6_change(vrf, v6, prefix, None).is_ok());
                }
            }
        }
        let stale: Vec<_> = self
            .neighbors
            .iter()
            .filter(|(_, neighbor)| neighbor.mac.is_some() && neighbor.session != self.session)
            .map(|(&key, _)| key)
            .collect();
        swept.neighbors = stale.len() as u64;
        stale.into_iter().for_each(|key| self.neighbor_forget(key));
        swept.macs = self.macs_sweep();
        swept
    }

    /// States an IPv4 route: `address` in host order, `length` 0 to 32, `group` of this session; group 0 deletes it.
    /// Deleting what is not there is no error.
    pub fn route4(&mut self, vrf: VrfId, address: u32, length: u32, group: u32) -> Result<(), Error> {
        let (table, _) = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        let prefix = prefix(address, length, || Ipv4Addr::from_bits(address).into())?;
        let slot = self.group_slot(group)?;
        self.route4_change(vrf, table, prefix, slot)
    }

    /// The same of IPv6, `length` 0 to 128.
    pub fn route6(&mut self, vrf: VrfId, address: u128, length: u32, group: u32) -> Result<(), Error> {
        let (_, table) = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        let prefix = prefix(address, length, || Ipv6Addr::from_bits(address).into())?;
        let slot = self.group_slot(group)?;
        self.route6_change(vrf, table, prefix, slot)
    }

    fn group_slot(&self, group: u32) -> Result<Option<u32>, Error> {
        if group == 0 {
            return Ok(None);
        }
        self.names.get(&group).copied().map(Some).ok_or(Error::UnknownGroup(group))
    }

    fn route4_change(
        &mut self,
        vrf: VrfId,
        table: TableId,
        prefix: Prefix<u32>,
        slot: Option<u32>,
    ) -> Result<(), Error> {
        let old = match slot.and_then(NextHopIndex::new) {
            Some(index) => self.fib4.insert(table, prefix, index),
            None => self.fib4.remove(table, prefix),
        };
        let old = taken(old)?;
        self.route_follow(old, slot, |control| {
            if vrf == VrfId::DEFAULT {
                let last = prefix.address() | u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                control.vteps_resolve(v4_bits(prefix.address()), v4_bits(last));
            }
        });
        Ok(())
    }

    fn route6_change(
        &mut self,
        vrf: VrfId,
        table: TableId,
        prefix: Prefix<u128>,
        slot: Option<u32>,
    ) -> Result<(), Error> {
        let old = match slot.and_then(NextHopIndex::new) {
            Some(index) => self.fib6.insert(table, prefix, index),
            None => self.fib6.remove(table, prefix),
        };
        let old = taken(old)?;
        self.route_follow(old, slot, |control| {
            if vrf == VrfId::DEFAULT {
                let last = prefix.address() | u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                control.vteps_resolve(prefix.address(), last);
            }
        });
        Ok(())
    }

    /// After a route changed from one group to another: VTEPs follow it before the old group may go.
    fn route_follow(&mut self, old: Option<NextHopIndex>, new: Option<u32>, resolve: impl FnOnce(&mut Self)) {
        let old = old.map(NextHopIndex::index);
        if old == new {
            return;
        }
        if let Some(new) = new {
            self.group_enter(new);
        }
        resolve(self);
        if let Some(old) = old {
            self.group_leave(old);
        }
    }

    /// A VRF's tables go: their routes no longer lead to groups.
    pub(super) fn routes_forget(&mut self, (v4, v6): (TableId, TableId)) {
        let slots: Vec<u32> = self
            .fib4
            .iter(v4)
            .map(|(_, found)| found.index())
            .chain(self.fib6.iter(v6).map(|(_, found)| found.index()))
            .collect();
        // Unknown tables cannot be: they are the VRF's own.
        let _ = self.fib4.table_remove(v4);
        let _ = self.fib6.table_remove(v6);
        slots.into_iter().for_each(|slot| self.group_leave(slot));
    }
}

fn prefix<K: Key>(address: K, length: u32, show: impl Fn() -> IpAddr) -> Result<Prefix<K>, Error> {
    #[expect(clippy::cast_possible_truncation, reason = "32 or 128")]
    let max = K::BITS as u8;
    let short = u8::try_from(length).ok().filter(|&length| length <= max);
    let short = short.ok_or(Error::PrefixLength { length, max })?;
    Prefix::new(address, short).ok_or_else(|| Error::PrefixBits { address: show(), length })
}

/// What a route led to before. A route that the FIB took but cannot publish yet, for want of memory, counts as taken: the
/// group it had is kept for good, since readers still use it.
fn taken(result: Result<Option<NextHopIndex>, FibError>) -> Result<Option<NextHopIndex>, Error> {
    match result {
        Ok(old) => Ok(old),
        Err(FibError::Full { what }) if what != "routes" => Ok(None),
        Err(_) => Err(Error::Full("route")),
    }
}
