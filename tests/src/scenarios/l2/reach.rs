//! Stations of one bridge domain, of two, and hosts far away.

use std::net::IpAddr;

use super::{all_reach, settled};
use crate::lab::l2::plan::pairs;
use crate::lab::l2::{BACK, FRONT, ISLAND, L2VNIS, L2Vni, Station};
use crate::lab::plan::{Host, KERNEL_PE, RED, VRFS};
use crate::lab::{Lab, netns, node};
use crate::traffic::stream::Plan;
use crate::traffic::{Stream, exchange, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// Ping, TCP and UDP between stations of an L2VNI on all three PEs, both ways and in both families.
pub(in super::super) fn one_domain(_lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let far: Vec<(Station, Station)> = pairs(FRONT)
        .into_iter()
        .filter(|(from, to)| from.pe != to.pe && from.number == 1 && to.number == 1)
        .collect();
    for (from, to) in &far {
        for address in to.addresses() {
            let peer = exchange(&from.name(), &to.name(), address, 1 << 17)?;
            if peer != from.like(address) {
                return Err(Error::unexpected(format!("{} was seen as {peer}", from.name())));
            }
        }
    }
    let streams: Vec<Stream> = far
        .iter()
        .map(|(from, to)| {
            // Of the two that a station receives, one is of each family: both want the same port.
            let family = if from.pe % KERNEL_PE + 1 == to.pe { super::v4 } else { super::v6 };
            Stream::start(
                &from.name(),
                &to.name(),
                Plan { count: Some(200), size: 1000, ..Plan::steady(family(*from), family(*to)) },
            )
        })
        .collect::<Result<_>>()?;
    streams.into_iter().try_for_each(|stream| stream.finish()?.complete())
}

/// Between two L2VNIs of a VRF: the router of the station's own node routes, wherever the other one is.
pub(in super::super) fn two_domains(_lab: &mut Lab) -> Result<()> {
    let tries = |from: L2Vni, to: L2Vni| {
        from.all_stations().into_iter().flat_map(move |one| {
            to.all_stations().into_iter().flat_map(move |other| {
                other.addresses().map(|address| (one.name(), address, Some(one.like(address))))
            })
        })
    };
    until(LONG, "stations of L2VNIs 110 and 120 to reach each other", || {
        ping::every(tries(FRONT, BACK).chain(tries(BACK, FRONT)).collect())
    })?;
    for (from, to) in [
        (FRONT.station(1, 1), BACK.station(1, 1)),
        (FRONT.station(1, 1), BACK.station(2, 1)),
        (BACK.station(2, 1), FRONT.station(KERNEL_PE, 1)),
        (FRONT.station(KERNEL_PE, 1), BACK.station(1, 1)),
    ] {
        for address in to.addresses() {
            exchange(&from.name(), &to.name(), address, 1 << 16)?;
        }
    }
    Ok(())
}

/// From a station to a host behind another PE's L3VNI, and from there to the station.
pub(in super::super) fn far_prefix(_lab: &mut Lab) -> Result<()> {
    let mut tries: Vec<ping::Try> = Vec::new();
    for station in [FRONT.station(1, 1), FRONT.station(2, 1), BACK.station(1, 1), BACK.station(2, 1)] {
        for host in [1, 2, KERNEL_PE].map(|pe| Host { pe, vrf: RED }) {
            for address in host.addresses() {
                tries.push((station.name(), address, Some(station.like(address))));
                let own = host.addresses().into_iter().find(|own| own.is_ipv4() == address.is_ipv4());
                tries.push((host.name(), station.like(address), own));
            }
        }
    }
    until(LONG, "stations and hosts of VRF red to reach each other", || ping::every(tries.clone()))?;
    let (station, host) = (FRONT.station(1, 1), Host { pe: KERNEL_PE, vrf: RED });
    for (from, to, address) in [
        (station.name(), host.name(), IpAddr::from(host.v4())),
        (station.name(), host.name(), host.v6().into()),
        (host.name(), station.name(), station.v4().into()),
        (host.name(), station.name(), station.v6().into()),
    ] {
        exchange(&from, &to, address, 1 << 16)?;
    }
    Ok(())
}

/// Every gateway answers, with the one MAC it has on all PEs; that of the domain without a router does not.
pub(in super::super) fn gateways(_lab: &mut Lab) -> Result<()> {
    for l2vni in L2VNIS {
        for station in l2vni.all_stations() {
            for gateway in l2vni.gateways() {
                let answered = || ping(&station.name(), gateway, Some(station.like(gateway)));
                if l2vni.vrf.is_none() {
                    if answered().is_ok() {
                        return Err(Error::unexpected(format!("{gateway} answers in L2VNI {}", l2vni.vni)));
                    }
                    continue;
                }
                until(LONG, format!("{gateway} to answer {}", station.name()), answered)?;
                let family = if gateway.is_ipv4() { "-4" } else { "-6" };
                let text =
                    netns::run(&station.name(), "ip", &[family, "neigh", "show", &gateway.to_string()])?;
                let mac = crate::traffic::packet::text(l2vni.gateway_mac());
                if !text.contains(&mac) {
                    return Err(Error::unexpected(format!("{} has {gateway} as {text}", station.name())));
                }
            }
        }
    }
    Ok(())
}

/// A bridge domain without a router works, and there is no VRF and no address for it.
pub(in super::super) fn disconnected(lab: &mut Lab) -> Result<()> {
    settled(ISLAND)?;
    for (from, to) in pairs(ISLAND) {
        exchange(&from.name(), &to.name(), to.v4().into(), 1 << 16)?;
    }
    all_reach(ISLAND)?;
    for pe in [1, 2] {
        let topology = lab.node(pe).client()?.topology()?;
        let mut names: Vec<String> =
            topology.vrfs.iter().filter_map(|vrf| Some(vrf.spec.as_ref()?.name.clone())).collect();
        names.sort();
        let mut wanted: Vec<&str> = VRFS.iter().map(|vrf| vrf.name).chain(["default"]).collect();
        wanted.sort_unstable();
        if names != wanted {
            return Err(Error::unexpected(format!("n{pe} has VRFs {names:?}")));
        }
        let island = topology
            .l2vnis
            .iter()
            .filter_map(|state| state.spec.as_ref())
            .find(|spec| spec.vni == ISLAND.vni)
            .ok_or_else(|| Error::unexpected(format!("n{pe} has no L2VNI {}", ISLAND.vni)))?;
        if !island.vrf.is_empty() || !island.gateway_addresses.is_empty() {
            return Err(Error::unexpected(format!("n{pe} has {island:?}")));
        }
        let text = netns::run(&node::router_netns(pe), "ip", &["-br", "addr", "show", "dev", "br-pe-130"])?;
        if text.contains('/') {
            return Err(Error::unexpected(format!("n{pe}: {text}")));
        }
    }
    Ok(())
}
