//! MACs from hosts to the BGP table of another PE.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::reference;
use super::rig::{self, HOST, Node, OUR_ASN, PEER, THEIR_ASN, THEM, US};
use crate::lab::{Frr, netns};
use crate::traffic::{frames, packet};
use crate::wait::{LONG, until};
use crate::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at the peer's table; each costs its bgpd a millisecond.
const LOOK: Duration = Duration::from_millis(20);
/// Hosts that were not learned, because the dataplane takes only so many per second of one port, speak again after this.
const AGAIN: Duration = Duration::from_millis(100);

const OVERLAY: &str = "l2vnis: [{name: load, vni: 200, macLimit: 1000000}]\n";
/// The host's end of the domain's TAP.
const DEVICE: &str = "host-e-200";

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// New MACs.
    pub macs: u32,
    /// Seconds from the first frame until the peer had a type-2 route for the last of them.
    pub seconds: f64,
    /// Their ratio.
    pub macs_per_second: f64,
    /// The same of FRR alone, when the MACs are written to the FDB of a bridge in the kernel.
    pub frr_alone_per_second: f64,
}

/// Lets `macs` hosts appear on a port of a node made of the daemons in `binaries`, whose logs go to `logs`; the peer is another
/// FRR.
///
/// # Errors
/// When anything does not come up, or MACs are missing in the end.
pub fn macs(macs: u32, binaries: &Path, logs: &Path) -> Result<Report> {
    let measured =
        rig::with_node(OVERLAY, binaries, logs, |node| with_peer(logs, |peer| load(macs, node, peer)))?;
    let alone = reference::macs(macs, logs)?;
    let (seconds, macs_each) = (measured.as_secs_f64(), f64::from(macs));
    Ok(Report {
        macs,
        seconds,
        macs_per_second: macs_each / seconds,
        frr_alone_per_second: macs_each / alone,
    })
}

/// Lets `work` measure with the other FRR, which has the same L2VNI.
pub(super) fn with_peer<T>(logs: &Path, work: impl FnOnce(&Frr) -> Result<T>) -> Result<T> {
    overlay(PEER, &THEM.to_string())?;
    let mut peer = Frr::new(PEER, PEER, None, logs).with("zebra", &[]).with("bgpd", &[]);
    peer.start()?;
    let measured = peer.load(&config((THEIR_ASN, THEM), (OUR_ASN, US))).and_then(|()| work(&peer));
    for name in ["bgpd", "zebra"] {
        let _ = peer.kill(name);
    }
    measured
}

/// The devices of L2VNI 200 in a namespace.
pub(super) fn overlay(netns: &str, local: &str) -> Result<()> {
    netns::ip_batch(
        Some(netns),
        &format!(
            "link add br200 type bridge\nlink set br200 addrgenmode none up\n\
             link add vx200 type vxlan id 200 local {local} dstport 4789 nolearning\n\
             link set vx200 master br200 addrgenmode none\n\
             link set vx200 type bridge_slave neigh_suppress on learning off\nlink set vx200 up\n"
        ),
    )
}

/// A line for `bridge -batch` that puts a host behind a port.
pub(super) fn fdb_line(host: u32, port: &str) -> String {
    format!("fdb replace {} dev {port} master dynamic\n", packet::text(mac(host)))
}

/// FRR with one neighbour, each an ASN and an address.
pub(super) fn config((our_asn, us): (u16, Ipv4Addr), (their_asn, them): (u16, Ipv4Addr)) -> String {
    format!(
        "router bgp {our_asn}\n bgp router-id {us}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n neighbor {them} remote-as {their_asn}\n neighbor {them} timers connect 1\n \
         address-family ipv4 unicast\n  neighbor {them} activate\n exit-address-family\n \
         address-family l2vpn evpn\n  neighbor {them} activate\n  advertise-all-vni\n exit-address-family\nexit\n"
    )
}

/// How many routes the peer has of us, once our flood list's is there: the first of the domain.
pub(super) fn first_route(peer: &Frr) -> Result<u64> {
    until(LONG, "the peer to have our type-3 route", || match received(peer)? {
        0 => Err(Error::unexpected("it has none")),
        count => Ok(count),
    })
}

fn load(macs: u32, node: &Node<'_>, peer: &Frr) -> Result<Duration> {
    until(LONG, "frr-bridge to have synced", || match node.client.info()? {
        info if info.fib_synced => Ok(()),
        info => Err(Error::unexpected(format!("FIB client {:?} has not synced", info.fib_client))),
    })?;
    let before = first_route(peer)?;
    let wanted = before + u64::from(macs);
    let done = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let hosts = scope.spawn(|| speak(macs, &done));
        let seen = arrived(peer, wanted, start);
        done.store(true, Ordering::Relaxed);
        let spoken = hosts.join().map_err(|_| Error::unexpected("the hosts' thread has ended"))?;
        spoken.and(seen)
    })
}

/// Hosts say something until `done`, each to the first of them.
fn speak(macs: u32, done: &AtomicBool) -> Result<()> {
    netns::within(HOST, || {
        while !done.load(Ordering::Relaxed) {
            frames::send(DEVICE, (0..macs).map(frame))?;
            std::thread::sleep(AGAIN);
        }
        Ok(())
    })
}

/// When the peer had so many routes, from `start` on.
pub(super) fn arrived(peer: &Frr, wanted: u64, start: Instant) -> Result<Duration> {
    loop {
        let count = received(peer)?;
        if count >= wanted {
            return Ok(start.elapsed());
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::unexpected(format!("the peer has {count} of {wanted} routes")));
        }
        std::thread::sleep(LOOK);
    }
}

/// EVPN routes that the peer has of us.
fn received(peer: &Frr) -> Result<u64> {
    let summary = peer.json("show bgp l2vpn evpn summary json")?;
    Ok(summary["peers"][US.to_string()]["pfxRcd"].as_u64().unwrap_or(0))
}

fn mac(host: u32) -> [u8; 6] {
    let [_, a, b, c] = host.to_be_bytes();
    [0x02, 0, 1, a, b, c]
}

/// Of IEEE 802's EtherType for experiments.
fn frame(host: u32) -> Vec<u8> {
    let mut frame = [&mac(0)[..], &mac(host), &[0x88, 0xb5]].concat();
    frame.resize(60, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_a_unicast_mac_of_its_own() {
        let macs: std::collections::BTreeSet<_> = (0..100_000).map(mac).collect();
        assert_eq!(macs.len(), 100_000);
        assert!(macs.iter().all(|mac| mac[0] & 1 == 0));
    }
}
