//! Routes, and the sessions in which they are stated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Control;
use crate::error::Error;
use crate::fib::{FibControl, FibError, Key, NextHopIndex, Prefix, Routes, TableId};
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

/// A sweep in progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep {
    /// Where it is: the VRF, ...
    vrf: VrfId,
    /// ... the family, ...
    v6: bool,
    /// ... and the last route of it that was looked at.
    after4: Option<Prefix<u32>>,
    after6: Option<Prefix<u128>>,
    swept: Swept,
}

/// Routes that one part of a sweep looks at: a millisecond or two when all of them go.
const SWEPT_AT_ONCE: usize = 8192;

/// A route as it is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<K> {
    /// The VRF.
    pub vrf: VrfId,
    /// In host order, bits beyond the length zero.
    pub address: K,
    /// 0 to 32, or to 128.
    pub length: u32,
    /// A group of this session; 0 deletes the route.
    pub group: u32,
}

/// Routes to be set, or removed by a miss.
type Changes<K> = Vec<(Prefix<K>, NextHopIndex)>;

/// What became of many routes.
struct Taken<K> {
    /// Groups with the number of routes that lead there now and did not before, in runs.
    entered: Vec<(u32, u64)>,
    /// The other way round.
    left: Vec<(u32, u64)>,
    refused: Vec<(Prefix<K>, Error)>,
}

/// Counts a route of a group, the last one's run growing.
fn count(runs: &mut Vec<(u32, u64)>, next_hop: NextHopIndex) {
    match runs.last_mut() {
        Some((slot, routes)) if *slot == next_hop.index() => *routes += 1,
        _ => runs.push((next_hop.index(), 1)),
    }
}

/// Changes routes of one table.
fn change<K: Key>(
    fib: &mut FibControl<K>,
    table: TableId,
    routes: &mut [(Prefix<K>, NextHopIndex)],
) -> Taken<K> {
    let mut taken = Taken { entered: Vec::new(), left: Vec::new(), refused: Vec::new() };
    if routes.is_empty() {
        return taken;
    }
    let published = fib.change(table, routes, |(prefix, new), result| match result {
        Ok(old) => {
            let new = (!new.is_miss()).then_some(new);
            if old != new {
                new.into_iter().for_each(|new| count(&mut taken.entered, new));
                old.into_iter().for_each(|old| count(&mut taken.left, old));
            }
        }
        Err(_) => taken.refused.push((prefix, Error::Full("route"))),
    });
    if published.is_err() {
        // Readers still use the groups that were: see `taken`.
        taken.left.clear();
    }
    taken
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
        let mut sweep = Sweep::default();
        loop {
            if let Some(swept) = self.session_sweep_part(&mut sweep) {
                return swept;
            }
        }
    }

    /// A part of [`session_sweep`](Self::session_sweep) that looks at some thousand routes, so that others may have the tables
    /// in between. Says what was removed when that was the last part.
    pub fn session_sweep_part(&mut self, sweep: &mut Sweep) -> Option<Swept> {
        if self.groups.values().any(|group| group.session != self.session) {
            // VRFs that are new since have no such routes, or are swept all the same.
            let vrf = self.vrfs.range(sweep.vrf..).next().map(|(&vrf, state)| (vrf, state.tables));
            if let Some((vrf, (v4, v6))) = vrf {
                if vrf != sweep.vrf {
                    *sweep = Sweep { vrf, swept: sweep.swept, ..Sweep::default() };
                }
                let is_complete = if sweep.v6 {
                    let (stale, last) = self.stale_routes(self.fib6.iter_after(v6, sweep.after6));
                    sweep.swept.routes += stale.len() as u64;
                    sweep.after6 = last;
                    let _ = self.routes6_change(vrf, v6, stale);
                    last.is_none()
                } else {
                    let (stale, last) = self.stale_routes(self.fib4.iter_after(v4, sweep.after4));
                    sweep.swept.routes += stale.len() as u64;
                    sweep.after4 = last;
                    let _ = self.routes4_change(vrf, v4, stale);
                    last.is_none()
                };
                if is_complete && sweep.v6 {
                    let next = VrfId(vrf.0.saturating_add(1));
                    *sweep = Sweep { vrf: next, swept: sweep.swept, ..Sweep::default() };
                } else if is_complete {
                    sweep.v6 = true;
                }
                return None;
            }
        }
        let mut swept = sweep.swept;
        let stale: Vec<_> = self
            .neighbors
            .iter()
            .filter(|(_, neighbor)| neighbor.mac.is_some() && neighbor.session != self.session)
            .map(|(&key, _)| key)
            .collect();
        swept.neighbors = stale.len() as u64;
        stale.into_iter().for_each(|key| self.neighbor_forget(key));
        swept.macs = self.macs_sweep();
        Some(swept)
    }

    /// Of the next routes those that lead to groups of earlier sessions, to be removed; and the last that was looked at, unless
    /// there are no more.
    fn stale_routes<K: Key>(&self, routes: Routes<'_, K>) -> (Changes<K>, Option<Prefix<K>>) {
        let mut stale = Vec::new();
        let mut last = (0, None);
        let mut judged = None;
        for (prefix, found) in routes.take(SWEPT_AT_ONCE) {
            let (of, is_stale) = match judged {
                Some((of, is_stale)) if of == found => (of, is_stale),
                _ => {
                    let group = self.groups.get(&found.index());
                    (found, group.is_some_and(|group| group.session != self.session))
                }
            };
            judged = Some((of, is_stale));
            if is_stale {
                stale.push((prefix, NextHopIndex::MISS));
            }
            last = (last.0 + 1, Some(prefix));
        }
        (stale, last.1.filter(|_| last.0 == SWEPT_AT_ONCE))
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

    /// States many IPv4 routes, as [`route4`](Self::route4) does one; of one prefix the last counts. `refused` hears of those that
    /// are not taken. Faster than one by one, the more so the closer they lie together.
    pub fn routes4(
        &mut self,
        routes: impl IntoIterator<Item = Route<u32>>,
        refused: impl FnMut(Route<u32>, Error),
    ) {
        let resolve = |control: &mut Self, vrf, routes| match control.vrf_tables(vrf) {
            Some((table, _)) => control.routes4_change(vrf, table, routes),
            None => Vec::new(),
        };
        self.routes_state(routes, |address| Ipv4Addr::from_bits(address).into(), resolve, refused);
    }

    /// The same of IPv6.
    pub fn routes6(
        &mut self,
        routes: impl IntoIterator<Item = Route<u128>>,
        refused: impl FnMut(Route<u128>, Error),
    ) {
        let resolve = |control: &mut Self, vrf, routes| match control.vrf_tables(vrf) {
            Some((_, table)) => control.routes6_change(vrf, table, routes),
            None => Vec::new(),
        };
        self.routes_state(routes, |address| Ipv6Addr::from_bits(address).into(), resolve, refused);
    }

    /// Checks routes and has those of each VRF taken by `change`, which says what the FIB refused.
    fn routes_state<K: Key>(
        &mut self,
        routes: impl IntoIterator<Item = Route<K>>,
        show: impl Fn(K) -> IpAddr,
        change: impl Fn(&mut Self, VrfId, Changes<K>) -> Vec<(Prefix<K>, Error)>,
        mut refused: impl FnMut(Route<K>, Error),
    ) {
        let mut run = (VrfId::DEFAULT, Vec::new());
        let mut named = (0, Ok(NextHopIndex::MISS));
        let mut routes = routes.into_iter();
        loop {
            let next = routes.next();
            if next.as_ref().is_none_or(|route| route.vrf != run.0) {
                let (vrf, changes) = std::mem::take(&mut run);
                for (prefix, error) in change(self, vrf, changes) {
                    let (address, length) = (prefix.address(), prefix.length().into());
                    refused(Route { vrf, address, length, group: 0 }, error);
                }
            }
            let Some(route) = next else { return };
            run.0 = route.vrf;
            if route.group != named.0 {
                let slot = self.group_slot(route.group);
                named = (
                    route.group,
                    slot.map(|slot| slot.and_then(NextHopIndex::new).unwrap_or(NextHopIndex::MISS)),
                );
            }
            let checked = match (self.vrfs.contains_key(&route.vrf), &named.1) {
                (false, _) => Err(Error::UnknownVrf(route.vrf)),
                (_, Err(_)) => Err(Error::UnknownGroup(route.group)),
                (true, &Ok(next_hop)) => prefix(route.address, route.length, || show(route.address))
                    .map(|prefix| (prefix, next_hop)),
            };
            match checked {
                Ok(checked) => run.1.push(checked),
                Err(error) => refused(route, error),
            }
        }
    }

    fn routes4_change(
        &mut self,
        vrf: VrfId,
        table: TableId,
        mut routes: Changes<u32>,
    ) -> Vec<(Prefix<u32>, Error)> {
        let taken = change(&mut self.fib4, table, &mut routes);
        self.routes_follow(taken, |control| {
            if vrf == VrfId::DEFAULT {
                control.vteps_resolve_of(routes.iter().map(|(prefix, _)| {
                    let last = prefix.address() | u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                    v4_bits(prefix.address())..=v4_bits(last)
                }));
            }
        })
    }

    fn routes6_change(
        &mut self,
        vrf: VrfId,
        table: TableId,
        mut routes: Changes<u128>,
    ) -> Vec<(Prefix<u128>, Error)> {
        let taken = change(&mut self.fib6, table, &mut routes);
        self.routes_follow(taken, |control| {
            if vrf == VrfId::DEFAULT {
                control.vteps_resolve_of(routes.iter().map(|(prefix, _)| {
                    let last = prefix.address() | u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                    prefix.address()..=last
                }));
            }
        })
    }

    /// After many routes changed: VTEPs follow them before old groups may go. Hands on what was refused.
    fn routes_follow<K>(
        &mut self,
        taken: Taken<K>,
        resolve: impl FnOnce(&mut Self),
    ) -> Vec<(Prefix<K>, Error)> {
        taken.entered.into_iter().for_each(|(slot, routes)| self.group_enter(slot, routes));
        resolve(self);
        taken.left.into_iter().for_each(|(slot, routes)| self.group_leave(slot, routes));
        taken.refused
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
            self.group_enter(new, 1);
        }
        resolve(self);
        if let Some(old) = old {
            self.group_leave(old, 1);
        }
    }

    /// A VRF's tables go: their routes no longer lead to groups.
    pub(super) fn routes_forget(&mut self, (v4, v6): (TableId, TableId)) {
        let mut left = Vec::new();
        self.fib4.iter(v4).for_each(|(_, found)| count(&mut left, found));
        self.fib6.iter(v6).for_each(|(_, found)| count(&mut left, found));
        // Unknown tables cannot be: they are the VRF's own.
        let _ = self.fib4.table_remove(v4);
        let _ = self.fib6.table_remove(v6);
        left.into_iter().for_each(|(slot, routes)| self.group_leave(slot, routes));
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
