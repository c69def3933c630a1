//! Routes, and the sessions in which they are stated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Control;
use crate::error::Error;
use crate::fib::{FibControl, Key, NextHopIndex, Prefix, TableId};
use crate::types::{VrfId, v4_bits};

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
pub(super) type Changes<K> = Vec<(Prefix<K>, NextHopIndex)>;

/// What became of many routes.
struct Taken<K> {
    /// Groups with the number of routes that lead there now and did not before, in runs.
    entered: Vec<(u32, u64)>,
    /// The other way round.
    left: Vec<(u32, u64)>,
    refused: Vec<(Prefix<K>, Error)>,
    /// Otherwise readers still use the groups that were.
    is_published: bool,
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
    let mut taken = Taken { entered: Vec::new(), left: Vec::new(), refused: Vec::new(), is_published: true };
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
    taken.is_published = published.is_ok();
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

    /// States an IPv4 route: `address` in host order, `length` 0 to 32, `group` of this session; group 0 deletes it.
    /// Deleting what is not there is no error.
    pub fn route4(&mut self, vrf: VrfId, address: u32, length: u32, group: u32) -> Result<(), Error> {
        let (table, _) = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        let prefix = prefix(address, length, || Ipv4Addr::from_bits(address).into())?;
        let next_hop = self.next_hop(group)?;
        one(self.routes4_change(vrf, table, vec![(prefix, next_hop)]))
    }

    /// The same of IPv6, `length` 0 to 128.
    pub fn route6(&mut self, vrf: VrfId, address: u128, length: u32, group: u32) -> Result<(), Error> {
        let (_, table) = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        let prefix = prefix(address, length, || Ipv6Addr::from_bits(address).into())?;
        let next_hop = self.next_hop(group)?;
        one(self.routes6_change(vrf, table, vec![(prefix, next_hop)]))
    }

    /// States many IPv4 routes, as [`route4`](Self::route4) does one; of one prefix the last counts. `refused` hears of those that
    /// are not taken: group 0 in place of its own, when there was no room for the route. Faster than one by one, the more so the closer they lie together.
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
                named = (route.group, self.next_hop(route.group));
            }
            let checked = match (self.vrfs.contains_key(&route.vrf), &named.1) {
                (false, _) => Err(Error::UnknownVrf(route.vrf)),
                (true, next_hop) => {
                    prefix(route.address, route.length, || show(route.address)).and_then(|prefix| {
                        let next_hop = next_hop.as_ref().map_err(|_| Error::UnknownGroup(route.group))?;
                        Ok((prefix, *next_hop))
                    })
                }
            };
            match checked {
                Ok(checked) => run.1.push(checked),
                Err(error) => refused(route, error),
            }
        }
    }

    pub(super) fn routes4_change(
        &mut self,
        vrf: VrfId,
        table: TableId,
        mut routes: Changes<u32>,
    ) -> Vec<(Prefix<u32>, Error)> {
        let taken = change(&mut self.fib4, table, &mut routes);
        self.routes_follow(taken, |control| {
            if vrf == VrfId::DEFAULT {
                let bits =
                    |(prefix, _): &(Prefix<u32>, _)| v4_bits(prefix.address())..=v4_bits(prefix.last());
                control.vteps_resolve_of(routes.iter().map(bits));
            }
        })
    }

    pub(super) fn routes6_change(
        &mut self,
        vrf: VrfId,
        table: TableId,
        mut routes: Changes<u128>,
    ) -> Vec<(Prefix<u128>, Error)> {
        let taken = change(&mut self.fib6, table, &mut routes);
        self.routes_follow(taken, |control| {
            if vrf == VrfId::DEFAULT {
                control.vteps_resolve_of(routes.iter().map(|(prefix, _)| prefix.address()..=prefix.last()));
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
        if taken.is_published {
            taken.left.into_iter().for_each(|(slot, routes)| self.group_leave(slot, routes));
        } else {
            self.unpublished.extend(taken.left);
        }
        taken.refused
    }

    /// Groups that routes have left may go once readers have heard of it.
    pub(super) fn routes_published(&mut self) {
        if !self.unpublished.is_empty() && self.fib4.is_published() && self.fib6.is_published() {
            let left = std::mem::take(&mut self.unpublished);
            left.into_iter().for_each(|(slot, routes)| self.group_leave(slot, routes));
        }
    }

    /// What routes of a group lead to; a miss of group 0.
    fn next_hop(&self, group: u32) -> Result<NextHopIndex, Error> {
        if group == 0 {
            return Ok(NextHopIndex::MISS);
        }
        let slot = self.names.get(&group).copied().ok_or(Error::UnknownGroup(group))?;
        Ok(NextHopIndex::new(slot).unwrap_or(NextHopIndex::MISS))
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

/// What became of the only one.
fn one<K>(refused: Vec<(Prefix<K>, Error)>) -> Result<(), Error> {
    refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}
