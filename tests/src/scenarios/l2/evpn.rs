//! What FRR, the kernel PE and the dataplanes know of a station.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::lab::l2::{L2Vni, Station};
use crate::lab::plan::{KERNEL_PE, vtep};
use crate::lab::{Frr, Lab, netns};
use crate::traffic::packet::text;
use crate::{Error, Result};

/// An EVPN route as an FRR has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// VTEPs of its paths.
    pub(super) next_hops: Vec<String>,
    /// Of the MAC mobility community (RFC 7432 section 7.7); zero without one.
    pub(super) sequence: u64,
}

/// Routes of an L2VNI by prefix: those with its route target, whoever made it.
///
/// Of all route distinguishers, as the tables of a VNI changed: from FRR 9 on the one with addresses prints no MACs in its keys.
pub(super) fn routes(frr: &Frr, l2vni: L2Vni) -> Result<BTreeMap<String, Route>> {
    let json = frr.json("show bgp l2vpn evpn route json")?;
    let target = format!(":{}", l2vni.vni);
    let entries = json
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, of_distinguisher)| of_distinguisher.as_object())
        .flatten()
        .filter(|(prefix, _)| prefix.starts_with('['));
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    for (prefix, entry) in entries {
        // Each path is in a list of its own.
        let paths: Vec<&Value> = entry["paths"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|path| path.as_array().map_or_else(|| vec![path], |inner| inner.iter().collect()))
            .filter(|path| path["valid"] == true && communities(path).any(|word| is_target(word, &target)))
            .collect();
        if paths.is_empty() {
            continue;
        }
        let next_hops = paths
            .iter()
            .flat_map(|path| path["nexthops"].as_array().into_iter().flatten())
            .filter_map(|hop| hop["ip"].as_str().map(str::to_owned));
        let sequence = paths
            .iter()
            .flat_map(|path| communities(path))
            .filter_map(|word| word.strip_prefix("MM:")?.split(',').next()?.parse().ok())
            .max()
            .unwrap_or(0);
        // During a move two PEs have it, each under its own distinguisher.
        let route = routes.entry(prefix.clone()).or_insert(Route { next_hops: Vec::new(), sequence: 0 });
        route.next_hops.extend(next_hops);
        route.next_hops.sort();
        route.next_hops.dedup();
        route.sequence = route.sequence.max(sequence);
    }
    Ok(routes)
}

/// The extended communities of a path, as FRR prints them.
fn communities(path: &Value) -> impl Iterator<Item = &str> {
    path["extendedCommunity"]["string"].as_str().unwrap_or("").split_whitespace()
}

/// Whether a community is a route target whose number is the VNI's (RFC 8365, 5.1.2.1: any AS, as each PE derives its own).
fn is_target(community: &str, number: &str) -> bool {
    community.starts_with("RT:") && community.ends_with(number)
}

/// The prefix of a type-2 route, with an address or without.
pub(super) fn type2(station: Station, address: Option<IpAddr>) -> String {
    let mac = text(station.mac());
    match address {
        None => format!("[2]:[0]:[48]:[{mac}]"),
        Some(address @ IpAddr::V4(_)) => format!("[2]:[0]:[48]:[{mac}]:[32]:[{address}]"),
        Some(address @ IpAddr::V6(_)) => format!("[2]:[0]:[48]:[{mac}]:[128]:[{address}]"),
    }
}

/// An FRR by the PE's number.
pub(super) fn frr(lab: &Lab, pe: u8) -> &Frr {
    if pe == KERNEL_PE { &lab.kernel_pe } else { &lab.node(pe).frr }
}

/// An FRR has the station's MAC and MAC+IP routes, all of them by way of `pe` alone; the highest sequence number. Where there is no
/// router the kernel PE sees no addresses.
pub(super) fn frr_has(frr: &Frr, station: Station, pe: u8) -> Result<u64> {
    let routes = routes(frr, station.l2vni)?;
    let mut sequence = 0;
    let blind = pe == KERNEL_PE && station.l2vni.vrf.is_none();
    let addresses = station.addresses().into_iter().filter(|_| !blind).map(Some);
    for address in std::iter::once(None).chain(addresses) {
        let prefix = type2(station, address);
        let route =
            routes.get(&prefix).ok_or_else(|| Error::unexpected(format!("{} lacks {prefix}", frr.name())))?;
        if route.next_hops != [vtep(pe).to_string()] {
            return Err(Error::unexpected(format!("{}: {prefix} is by way of {route:?}", frr.name())));
        }
        sequence = sequence.max(route.sequence);
    }
    Ok(sequence)
}

/// An FRR has no route of the station any more.
pub(super) fn frr_has_not(frr: &Frr, station: Station) -> Result<()> {
    let mac = text(station.mac());
    match routes(frr, station.l2vni)?.keys().find(|prefix| prefix.contains(&mac)) {
        None => Ok(()),
        Some(prefix) => Err(Error::unexpected(format!("{} still has {prefix}", frr.name()))),
    }
}

/// A node's dataplane has the station's MAC behind `pe`, or not at all.
pub(super) fn dataplane_knows(lab: &Lab, node: u8, station: Station, pe: Option<u8>) -> Result<()> {
    let mac = text(station.mac());
    let entry = lab.node(node).client()?.macs(station.l2vni.vni)?.remove(&mac);
    let right = match (&entry, pe) {
        (None, None) => true,
        (Some(entry), Some(pe)) if pe == node => entry.kind == "local",
        (Some(entry), Some(pe)) => entry.kind == "remote" && entry.vtep == vtep(pe).to_string(),
        _ => false,
    };
    if right { Ok(()) } else { Err(Error::unexpected(format!("n{node} has {mac} as {entry:?}"))) }
}

/// An entry of the kernel PE's forwarding database.
pub(super) fn kernel_fdb(l2vni: L2Vni, mac: &str) -> Result<Vec<Value>> {
    let text = netns::run("kpe", "bridge", &["-j", "fdb", "show", "br", &format!("br{}", l2vni.vni)])?;
    let all: Value = serde_json::from_str(&text)
        .map_err(|error| Error::unexpected(format!("bridge -j fdb: {error}: {text}")))?;
    Ok(all.as_array().into_iter().flatten().filter(|entry| entry["mac"] == mac).cloned().collect())
}

/// The kernel PE's forwarding database has the station behind `pe`, learned from zebra; or not at all.
pub(super) fn kernel_knows(_lab: &Lab, station: Station, pe: Option<u8>) -> Result<()> {
    let entries = kernel_fdb(station.l2vni, &text(station.mac()))?;
    let vtep = pe.map(|pe| vtep(pe).to_string());
    let destinations: Vec<&str> = entries.iter().filter_map(|entry| entry["dst"].as_str()).collect();
    let by_zebra = entries.iter().any(|entry| {
        entry["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "extern_learn"))
    });
    let right = match vtep {
        None => entries.is_empty(),
        Some(_) if pe == Some(KERNEL_PE) => destinations.is_empty() && !entries.is_empty(),
        Some(vtep) => by_zebra && !destinations.is_empty() && destinations.iter().all(|dst| *dst == vtep),
    };
    if right { Ok(()) } else { Err(Error::unexpected(format!("the kernel PE has {entries:?}"))) }
}
