//! What there is, for operators.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::groups::{Group, Hold, Resolved, Stated};
use super::{Control, Path, WeightedPath};
use crate::counters::{PortCounters, VrfCounters};
use crate::error::Error;
use crate::reason::Reason;
use crate::tables::paths::PathKind;
use crate::types::{Mac, PortId, VrfId, address_bits, address_from_bits};

/// A route and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// The destination.
    pub prefix: IpNet,
    /// In the order they were stated.
    pub paths: Vec<PathEntry>,
}

/// A path and whether packets can leave by it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathEntry {
    /// As it was stated.
    pub path: WeightedPath,
    /// Why not; `None` of a usable one.
    pub problem: Option<Reason>,
}

/// A neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborEntry {
    /// The port it is on.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// `None` while some path waits for it.
    pub mac: Option<Mac>,
}

impl Control {
    /// A VRF's routes by address, IPv4 first.
    pub fn routes(&self, vrf: VrfId) -> Result<impl Iterator<Item = RouteEntry> + '_, Error> {
        let (v4, v6) = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        let v4 = self.fib4.iter(v4).map(|(prefix, found)| (net4(prefix), found));
        let v6 = self.fib6.iter(v6).map(|(prefix, found)| (net6(prefix), found));
        Ok(v4.chain(v6).map(|(prefix, found)| RouteEntry { prefix, paths: self.group_paths(found.index()) }))
    }

    /// All neighbours, by port and address.
    pub fn neighbors(&self) -> impl Iterator<Item = NeighborEntry> + '_ {
        self.neighbors.iter().map(|(&(port, address), neighbor)| NeighborEntry {
            port,
            address: address_from_bits(address),
            mac: neighbor.mac,
        })
    }

    /// A port's counters since it was added, all workers together.
    pub fn port_counters(&self, port: PortId) -> Result<PortCounters, Error> {
        let baseline = self.port_baselines.get(&port).ok_or(Error::UnknownPort(port))?;
        let mut sum = PortCounters::default();
        self.workers.iter().filter_map(|worker| worker.port(port)).for_each(|cells| sum.add(cells));
        Ok(sum.since(baseline))
    }

    /// A VRF's counters since it was added, all workers together.
    pub fn vrf_counters(&self, vrf: VrfId) -> Result<VrfCounters, Error> {
        let baseline = self.vrf_baselines.get(&vrf).ok_or(Error::UnknownVrf(vrf))?;
        let mut sum = VrfCounters::default();
        self.workers.iter().filter_map(|worker| worker.vrf(vrf)).for_each(|cells| sum.add(cells));
        Ok(sum.since(*baseline))
    }

    pub(super) fn group_paths(&self, slot: u32) -> Vec<PathEntry> {
        let Some(group) = self.groups.get(&slot) else { return Vec::new() };
        let entry = |(stated, resolved): (&Stated, &Resolved)| PathEntry {
            path: stated.path,
            problem: self.problem(stated, resolved),
        };
        group.paths.iter().zip(&group.resolved).map(entry).collect()
    }

    fn problem(&self, stated: &Stated, resolved: &Resolved) -> Option<Reason> {
        match (resolved.word.kind(), &resolved.hold) {
            (PathKind::Decline(Reason::Blackhole), _) => None,
            (PathKind::Decline(reason), _) => Some(reason),
            (_, &Hold::Adjacent { port, address }) => self.neighbor_problem(port, address),
            (_, Hold::Tunnel(spec)) => {
                let vtep = self.vteps.get(&address_bits(spec.vtep)).and_then(|vtep| vtep.group);
                let leads = |group: &Group| group.resolved.iter().any(Resolved::leads_to_neighbor);
                match vtep.filter(|group| self.groups.get(group).is_some_and(leads)) {
                    None => Some(Reason::UnresolvedVtep),
                    Some(group) => self.underlay_problem(group, address_bits(spec.vtep)),
                }
            }
            _ => {
                debug_assert!(matches!(stated.path.path, Path::Connected { .. } | Path::Local));
                None
            }
        }
    }

    /// Whether no path of a VTEP's group leads to a neighbour whose MAC is known.
    fn underlay_problem(&self, group: u32, vtep: u128) -> Option<Reason> {
        let group = self.groups.get(&group)?;
        let mut paths = group.paths.iter().zip(&group.resolved);
        let works = |(stated, resolved): (&Stated, &Resolved)| match (&resolved.hold, stated.path.path) {
            (&Hold::Adjacent { port, address }, _) => self.neighbor_problem(port, address).is_none(),
            (Hold::Connected, Path::Connected { port }) => self.neighbor_problem(port, vtep).is_none(),
            _ => false,
        };
        if paths.any(works) { None } else { Some(Reason::UnresolvedNeighbor) }
    }

    fn neighbor_problem(&self, port: PortId, address: u128) -> Option<Reason> {
        if self.is_resolved(port, address) { None } else { Some(Reason::UnresolvedNeighbor) }
    }
}

/// A prefix is checked when it is made, and so is the length of a net.
pub(super) fn net4(prefix: crate::fib::Prefix<u32>) -> IpNet {
    let address = std::net::Ipv4Addr::from_bits(prefix.address());
    Ipv4Net::new(address, prefix.length()).unwrap_or_else(|_| address.into()).into()
}

pub(super) fn net6(prefix: crate::fib::Prefix<u128>) -> IpNet {
    let address = std::net::Ipv6Addr::from_bits(prefix.address());
    Ipv6Net::new(address, prefix.length()).unwrap_or_else(|_| address.into()).into()
}
