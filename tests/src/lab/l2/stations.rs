//! Stations as network namespaces, and the kernel PE's side of a bridge domain.

use std::fmt::Write as _;

use super::super::netns;
use super::super::plan::{KERNEL_PE, pe_netns};
use super::{Attachment, L2Vni, Station};
use crate::Result;
use crate::traffic::packet::text;

/// Makes the namespaces of `stations` with their links, addresses and routes. What connects them to their PE comes with
/// [`super::attach`] or [`kernel`].
///
/// # Errors
/// When `ip` says so.
pub fn create(stations: &[Station]) -> Result<()> {
    netns::add(&stations.iter().map(|station| station.name()).collect::<Vec<_>>())?;
    let mut links: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for station in stations {
        if station.device() == "eth0" {
            let batch = links.entry(pe_netns(station.pe)).or_default();
            let _ = write!(
                batch,
                "link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} address {mac} netns {netns}\nlink set {port} up\n",
                port = station.port(),
                mtu = station.l2vni.mtu,
                mac = text(station.mac()),
                netns = station.name(),
            );
        }
    }
    for (netns, batch) in links {
        netns::ip_batch(Some(&netns), &batch)?;
    }
    for station in stations.iter().filter(|station| station.device() == "eth0") {
        netns::ip_batch(Some(&station.name()), &set_up(*station))?;
    }
    Ok(())
}

/// Removes the namespaces of `stations`, and their links with them.
///
/// # Errors
/// When `ip` says so.
pub fn remove(stations: &[Station]) -> Result<()> {
    let mut batch = String::new();
    for station in stations {
        let _ = writeln!(batch, "netns del {}", station.name());
    }
    netns::ip_batch(None, &batch)
}

/// Lines that give a station's interface its addresses and routes.
pub fn set_up(station: Station) -> String {
    let device = station.device();
    let mut batch = format!(
        "link set lo up\naddr add {}/24 dev {device}\naddr add {}/64 dev {device} nodad\nlink set {device} up\n",
        station.v4(),
        station.v6()
    );
    if station.l2vni.vrf.is_some() {
        for gateway in station.l2vni.gateways() {
            let _ = writeln!(batch, "route add default via {gateway}");
        }
    }
    batch
}

/// Lines that make the kernel PE's devices of a bridge domain: as OpenPERouter does it, and with its stations as ports.
pub fn kernel(l2vni: L2Vni, local: std::net::IpAddr, stations: &[Station]) -> String {
    let vni = l2vni.vni;
    let mtu = l2vni.mtu;
    let checksum = if local.is_ipv4() { "" } else { "udp6zerocsumrx udp6zerocsumtx" };
    let mut batch = format!(
        "link add br{vni} type bridge\nlink set br{vni} addrgenmode none address {mac}\n",
        mac = text(l2vni.gateway_mac())
    );
    if let Some(vrf) = l2vni.vrf {
        let _ = writeln!(batch, "link set br{vni} master {}", vrf.name);
    }
    let _ = write!(
        batch,
        "link set br{vni} up\n\
         link add vx{vni} type vxlan id {vni} local {local} dstport 4789 nolearning {checksum}\n\
         link set vx{vni} mtu {mtu} master br{vni} addrgenmode none\n\
         link set vx{vni} type bridge_slave neigh_suppress on learning off\nlink set vx{vni} up\n",
    );
    for station in stations {
        let _ = writeln!(batch, "link set {} master br{vni}", station.port());
    }
    let _ = writeln!(batch, "link set br{vni} mtu {mtu}");
    if l2vni.vrf.is_some() {
        let _ = write!(
            batch,
            "addr add {}/24 dev br{vni}\naddr add {}/64 dev br{vni} nodad\n",
            l2vni.gateway_v4(),
            l2vni.gateway_v6()
        );
    }
    batch
}

/// The stations behind the kernel PE and its devices for `l2vnis`.
///
/// # Errors
/// When `ip` says so.
pub fn behind_kernel(l2vnis: &[L2Vni], local: std::net::IpAddr) -> Result<()> {
    let mut batch = String::new();
    for l2vni in l2vnis {
        let mut stations = l2vni.all_stations();
        stations.retain(|station| station.pe == KERNEL_PE);
        create(&stations)?;
        batch += &kernel(*l2vni, local, &stations);
    }
    netns::ip_batch(Some(&pe_netns(KERNEL_PE)), &batch)
}

/// The stations behind a node of ours, and the bridges that are there before us.
///
/// # Errors
/// When `ip` says so.
pub fn behind_node(pe: u8, l2vnis: &[L2Vni]) -> Result<()> {
    let mut batch = String::new();
    let mut stations = Vec::new();
    for l2vni in l2vnis {
        if let Attachment::External(bridge) = l2vni.attachment(pe) {
            let _ = writeln!(batch, "link add {bridge} type bridge\nlink set {bridge} addrgenmode none up");
        }
        stations.extend(l2vni.all_stations().into_iter().filter(|station| station.pe == pe));
    }
    if !batch.is_empty() {
        netns::ip_batch(Some(&pe_netns(pe)), &batch)?;
    }
    create(&stations)
}
