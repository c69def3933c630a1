//! The end of a session's replay: what it has not stated goes, a part at a time.

use super::Control;
use super::routes::Changes;
use crate::fib::{Key, NextHopIndex, Prefix, Routes};
use crate::types::{PortId, Vni, VrfId};

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
    at: At,
    swept: Swept,
}

/// What was looked at last.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Start,
    Routes4(VrfId, Option<Prefix<u32>>),
    Routes6(VrfId, Option<Prefix<u128>>),
    Neighbors(Option<(PortId, u128)>),
    Macs(Option<(Vni, u64)>),
    Floods(Option<Vni>),
}

/// Routes that one part of a sweep looks at: a millisecond or two when all of them go.
const ROUTES_AT_ONCE: usize = 8192;
/// Neighbours, MACs and flood lists likewise, each of which costs more.
const OTHERS_AT_ONCE: usize = 1024;

impl Control {
    /// Removes the routes, neighbours, remote MACs and flood lists that this session has not stated.
    pub fn session_sweep(&mut self) -> Swept {
        let mut sweep = Sweep::default();
        loop {
            if let Some(swept) = self.session_sweep_part(&mut sweep) {
                return swept;
            }
        }
    }

    /// A part of [`session_sweep`](Self::session_sweep) that looks at some thousand things, so that others may have the tables
    /// in between. Says what was removed when that was the last part.
    pub fn session_sweep_part(&mut self, sweep: &mut Sweep) -> Option<Swept> {
        sweep.at = match sweep.at {
            At::Start if self.groups.values().any(|group| group.session != self.session) => {
                self.routes_of(VrfId::DEFAULT)
            }
            // Routes lead to groups of this session alone.
            At::Start => At::Neighbors(None),
            At::Routes4(vrf, after) => match self.vrf_tables(vrf) {
                None => self.routes_of(vrf),
                Some((table, _)) => {
                    let (stale, last) = self.stale_routes(self.fib4.iter_after(table, after));
                    sweep.swept.routes += stale.len() as u64;
                    let _ = self.routes4_change(vrf, table, stale);
                    if last.is_some() { At::Routes4(vrf, last) } else { At::Routes6(vrf, None) }
                }
            },
            At::Routes6(vrf, after) => match self.vrf_tables(vrf) {
                None => self.routes_of(vrf),
                Some((_, table)) => {
                    let (stale, last) = self.stale_routes(self.fib6.iter_after(table, after));
                    sweep.swept.routes += stale.len() as u64;
                    let _ = self.routes6_change(vrf, table, stale);
                    match (last, vrf.0.checked_add(1)) {
                        (Some(_), _) => At::Routes6(vrf, last),
                        (None, Some(next)) => self.routes_of(VrfId(next)),
                        (None, None) => At::Neighbors(None),
                    }
                }
            },
            At::Neighbors(after) => {
                let session = self.session;
                let (looked_at, stale) = part(&self.neighbors, after, |neighbor| {
                    neighbor.mac.is_some() && neighbor.session != session
                });
                sweep.swept.neighbors += stale.len() as u64;
                stale.into_iter().for_each(|key| self.neighbor_forget(key));
                looked_at.map_or(At::Macs(None), |last| At::Neighbors(Some(last)))
            }
            At::Macs(after) => {
                let session = self.session;
                let (looked_at, stale) = part(&self.macs, after, |mac| mac.is_of_other_session(session));
                sweep.swept.macs += stale.len() as u64;
                stale.into_iter().for_each(|(vni, mac)| self.mac_forget(vni, mac));
                looked_at.map_or(At::Floods(None), |last| At::Macs(Some(last)))
            }
            At::Floods(after) => {
                let session = self.session;
                let (looked_at, stale) = part(&self.bridges, after, |bridge| {
                    bridge.flood_session != session && !bridge.flood.is_empty()
                });
                stale.into_iter().for_each(|vni| self.flood_replace(vni, &[]));
                let Some(last) = looked_at else { return Some(sweep.swept) };
                At::Floods(Some(last))
            }
        };
        None
    }

    /// Where the routes of the next VRF begin, from `vrf` on.
    fn routes_of(&self, vrf: VrfId) -> At {
        self.vrfs.range(vrf..).next().map_or(At::Neighbors(None), |(&vrf, _)| At::Routes4(vrf, None))
    }

    /// Of the next routes those that lead to groups of earlier sessions, to be removed; and the last that was looked at, unless
    /// there are no more.
    fn stale_routes<K: Key>(&self, routes: Routes<'_, K>) -> (Changes<K>, Option<Prefix<K>>) {
        let mut stale = Vec::new();
        let mut last = (0, None);
        let mut judged = None;
        for (prefix, found) in routes.take(ROUTES_AT_ONCE) {
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
        (stale, last.1.filter(|_| last.0 == ROUTES_AT_ONCE))
    }
}

/// Of the entries after one those that are stale; and the last that was looked at, unless there are no more.
fn part<K: Copy + Ord, V>(
    map: &std::collections::BTreeMap<K, V>,
    after: Option<K>,
    is_stale: impl Fn(&V) -> bool,
) -> (Option<K>, Vec<K>) {
    use std::ops::Bound::{Excluded, Unbounded};
    let from = after.map_or(Unbounded, Excluded);
    let (mut looked_at, mut last, mut stale) = (0, None, Vec::new());
    for (&key, value) in map.range((from, Unbounded)).take(OTHERS_AT_ONCE) {
        (looked_at, last) = (looked_at + 1, Some(key));
        if is_stale(value) {
            stale.push(key);
        }
    }
    (last.filter(|_| looked_at == OTHERS_AT_ONCE), stale)
}
