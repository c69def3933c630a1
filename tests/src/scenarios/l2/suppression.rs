//! ARP and ND requests: answered where the answer is known, flooded once to each VTEP where it is not.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Wire, settled};
use crate::lab::Lab;
use crate::lab::l2::{FRONT, Station};
use crate::lab::plan::{KERNEL_PE, vtep};
use crate::traffic::packet::{Mac, arp_request, read_arp, read_neighbor, solicitation, text};
use crate::traffic::{Sniffer, Way, inject, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

const REQUESTS: usize = 5;

/// The target of an ARP request or a neighbour solicitation.
fn question(frame: &[u8]) -> Option<IpAddr> {
    match (read_arp(frame), read_neighbor(frame)) {
        (Some((1, _, target)), _) => Some(target.into()),
        (_, Some((135, target, _))) => Some(target.into()),
        _ => None,
    }
}

/// What an ARP reply or a neighbour advertisement says.
fn answer(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    match (read_arp(frame), read_neighbor(frame)) {
        (Some((2, (mac, address), _)), _) => Some((address.into(), mac)),
        (_, Some((136, target, Some(mac)))) => Some((target.into(), mac)),
        _ => None,
    }
}

fn ask(station: Station, target: IpAddr) -> Vec<u8> {
    match target {
        IpAddr::V4(target) => arp_request((station.mac(), station.v4()), target),
        IpAddr::V6(target) => solicitation((station.mac(), station.v6()), target),
    }
}

/// Requests for a remote station are answered on the spot, with its own MAC; neither the fabric nor the station itself hears of them.
pub(in super::super) fn known(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let from = FRONT.station(1, 1);
    for to in [FRONT.station(2, 1), FRONT.station(KERNEL_PE, 1)] {
        for target in to.addresses() {
            let client = lab.node(1).client()?;
            until(LONG, format!("n1 to answer for {target}"), || {
                // The kernel PE's kernel forgets who has not spoken to it for a while, and withdraws the address.
                let gateways = FRONT.gateways();
                ping::every(gateways.map(|gateway| (to.name(), gateway, Some(to.like(gateway)))).into())?;
                let bridge = client.bridge(FRONT.vni)?.unwrap_or_default();
                let entry = bridge.suppression.iter().find(|entry| entry.address == target.to_string());
                match entry {
                    Some(entry) if entry.kind == "remote" && entry.mac == text(to.mac()) => Ok(()),
                    entry => Err(Error::unexpected(format!("it has {entry:?}"))),
                }
            })?;
            let before = client.counters()?.bridge(FRONT.vni).suppressed;
            // Its own router asks for a host, too, when it has been silent.
            let is_ours = move |frame: &[u8]| {
                question(frame) == Some(target) && frame.get(6..12) == Some(&from.mac()[..])
            };
            let asked = move |frame: &[u8]| is_ours(frame).then_some(());
            let wire = Wire::watch(1, FRONT.vni, is_ours)?;
            let far = Sniffer::start(&to.name(), &to.device(), Way::In, asked)?;
            let near = Sniffer::start(&from.name(), &from.device(), Way::In, move |frame| {
                answer(frame).filter(|(address, _)| *address == target)
            })?;
            inject(&from.name(), &from.device(), vec![ask(from, target); REQUESTS])?;
            let answered = until(Duration::from_secs(20), format!("answers for {target}"), || {
                if near.count() >= REQUESTS {
                    Ok(())
                } else {
                    Err(Error::unexpected(near.count().to_string()))
                }
            });
            std::thread::sleep(Duration::from_millis(500));
            let (wire, far, near) = (wire.stop()?, far.stop()?, near.stop()?);
            answered?;
            if near.len() != REQUESTS || near.iter().any(|(_, mac)| *mac != to.mac()) {
                return Err(Error::unexpected(format!("{target} is at {near:?}")));
            }
            if !wire.is_empty() || !far.is_empty() {
                return Err(Error::unexpected(format!(
                    "{} of {REQUESTS} requests for {target} were on the wire, {} arrived",
                    wire.len(),
                    far.len()
                )));
            }
            let suppressed = client.counters()?.bridge(FRONT.vni).suppressed - before;
            if suppressed < REQUESTS as u64 {
                return Err(Error::unexpected(format!("{suppressed} were counted as suppressed")));
            }
        }
    }
    Ok(())
}

/// A request for nobody is flooded once to each VTEP of the L2VNI and to no other.
pub(in super::super) fn unknown(_lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let from = FRONT.station(1, 1);
    let nobody: [IpAddr; 2] = [
        Ipv4Addr::new(192, 171, 24, 200).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x245, 1, 0, 0, 0, 0x200).into(),
    ];
    for target in nobody {
        let wire = Wire::watch(1, FRONT.vni, move |inner| question(inner) == Some(target))?;
        let neighbour = FRONT.station(2, 2);
        let far = Sniffer::start(&neighbour.name(), &neighbour.device(), Way::In, move |frame| {
            (question(frame) == Some(target)).then_some(())
        })?;
        inject(&from.name(), &from.device(), vec![ask(from, target); REQUESTS])?;
        let flooded = until(Duration::from_secs(20), format!("requests for {target} to be flooded"), || {
            if wire.count() >= 2 * REQUESTS && far.count() >= REQUESTS {
                return Ok(());
            }
            Err(Error::unexpected(format!("{} on the wire, {} arrived", wire.count(), far.count())))
        });
        std::thread::sleep(Duration::from_millis(500));
        let (wire, far) = (wire.stop()?, far.stop()?);
        flooded?;
        let mut by_vtep = BTreeMap::<IpAddr, usize>::new();
        for outer in &wire {
            *by_vtep.entry(outer.destination).or_default() += 1;
        }
        let wanted = [2, KERNEL_PE].map(|pe| (IpAddr::from(vtep(pe)), REQUESTS));
        if by_vtep != wanted.into() || far.len() != REQUESTS {
            return Err(Error::unexpected(format!("{by_vtep:?} on the wire, {} arrived", far.len())));
        }
    }
    Ok(())
}
