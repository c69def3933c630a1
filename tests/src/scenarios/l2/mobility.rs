//! A station that moves from one node to the other and back.

use std::time::{Duration, Instant};

use super::{evpn, known, settled};
use crate::lab::l2::{FRONT, Station, stations};
use crate::lab::plan::{KERNEL_PE, pe_netns};
use crate::lab::{Lab, netns};
use crate::traffic::packet::{advertisement, arp_request};
use crate::traffic::{Sniffer, Way, inject, stream};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// With its MAC and addresses, and traffic both ways: it is reachable again at once, the sequence number of its routes grows, and
/// nobody keeps an old entry.
pub(in super::super) fn there_and_back(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let mover = FRONT.station(1, 9);
    stations::create(&[mover])?;
    lab.keeper.keep_at(mover, 1, FRONT.attachment(1));
    let result = moves(lab, mover);
    let released = lab.keeper.release(mover);
    stations::remove(&[mover])?;
    result.and(released)
}

fn moves(lab: &Lab, mover: Station) -> Result<()> {
    let peer = FRONT.station(KERNEL_PE, 1);
    announce(mover)?;
    until(LONG, "the station to be reached", || super::reaches(peer, mover))?;
    let mut sequence = until(LONG, "its routes", || evpn::frr_has(&lab.kernel_pe, mover, 1))?;
    until(LONG, "it to be where it is", || known(lab, mover, 1))?;
    let inward = super::stream(peer, mover, super::v4)?;
    let outward = super::stream(mover, peer, super::v6)?;
    let moved = [(1, 2), (2, 1)].into_iter().try_for_each(|(from, to)| {
        let time = relocate(lab, mover, from, to)?;
        eprintln!("n{from} to n{to}: reached {} ms after it was attached", time.as_millis());
        let grown = until(LONG, "its routes to come from there alone, by a higher sequence number", || {
            match evpn::frr_has(&lab.kernel_pe, mover, to)? {
                now if now > sequence => Ok(now),
                now => Err(Error::unexpected(format!("the sequence number is {now}, it was {sequence}"))),
            }
        })?;
        sequence = grown;
        until(LONG, "every table to have it there", || known(lab, mover, to))?;
        super::reaches(peer, mover)?;
        super::reaches(FRONT.station(from, 1), mover)?;
        super::reaches(mover, FRONT.station(to, 2))
    });
    let (inward, outward) = (inward.stop()?, outward.stop()?);
    moved?;
    for report in [inward, outward] {
        if report.received == 0 {
            return Err(Error::unexpected(format!("nothing arrived: {report:?}")));
        }
    }
    Ok(())
}

/// Moves the far end of its link; how long it took from being attached to the first datagram that arrived.
fn relocate(lab: &Lab, mover: Station, from: u8, to: u8) -> Result<Duration> {
    let arrivals = Sniffer::start(&mover.name(), &mover.device(), Way::In, |frame| {
        let port = frame.get(36..38)?;
        (port == stream::PORT.to_be_bytes() && frame.get(23) == Some(&17)).then(Instant::now)
    })?;
    lab.keeper.release(mover)?;
    let port = mover.port();
    netns::ip_batch(Some(&pe_netns(from)), &format!("link set {port} netns {}", pe_netns(to)))?;
    netns::ip_batch(Some(&pe_netns(to)), &format!("link set {port} up"))?;
    let (left, before) = (Instant::now(), arrivals.count());
    lab.keeper.keep_at(mover, to, FRONT.attachment(to));
    let attached = until(LONG, "it to be attached", || lab.keeper.attached(mover))?;
    announce(mover)?;
    let seen =
        until(Duration::from_secs(20), "datagrams to arrive there", || match arrivals.count() - before {
            count if count > 20 => Ok(()),
            count => Err(Error::unexpected(format!("{count} have"))),
        });
    let arrivals = arrivals.stop()?;
    seen?;
    let first = arrivals.into_iter().find(|time| *time > left);
    first
        .map(|time| time.saturating_duration_since(attached))
        .ok_or_else(|| Error::unexpected("all datagrams arrived before it left"))
}

/// What every hypervisor does after a migration.
fn announce(station: Station) -> Result<()> {
    let frames = [
        arp_request((station.mac(), station.v4()), station.v4()),
        advertisement(station.mac(), station.mac(), station.v6()),
    ];
    inject(&station.name(), &station.device(), frames)
}
