//! One port that sends more than is good, and its neighbours that must not notice.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::silence::QUIET;
use super::{Wire, extra, known, settled};
use crate::lab::Lab;
use crate::lab::l2::{FRONT, Station};
use crate::traffic::frames::Random;
use crate::traffic::packet::{BROADCAST, IPV4, Mac, ethernet, text, udp4};
use crate::traffic::{Report, inject};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// IEEE 802's first EtherType for local experiments.
const EXPERIMENT: u16 = 0x88b5;
const MACS: usize = 100_000;
const LIMIT: usize = 200;
const FLOOD: usize = 60_000;
/// Broadcasts per second: less than what gets as far as the dataplane on any machine.
const RATE: u32 = 100;

/// 100 000 source MACs from one port fill its L2VNI's limit; another L2VNI on the same node goes on learning and loses nothing.
pub(in super::super) fn macs(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let limit = format!("macLimit: {LIMIT}");
    extra::with(
        lab,
        QUIET,
        &[1, 2],
        |object| object.with(&limit),
        |lab| {
            let (source, target) = (QUIET.station(1, 1), QUIET.station(2, 1));
            until(LONG, "the stations to reach each other", || super::reaches(source, target))?;
            let client = lab.node(1).client()?;
            let before = client.counters()?;
            let mut random = Random::new(0x3ac5);
            // To an address without a route, so that the storm ends where it enters and costs nobody else's CPU.
            let nowhere = udp4((source.v4(), 9), (Ipv4Addr::new(203, 0, 113, 9), 9), 0, b"storm");
            let strangers = (0..MACS).map(|_| {
                let mut mac: Mac = [2, 0xff, 0, 0, 0, 0];
                mac[2..].copy_from_slice(&random.bytes(4));
                ethernet(QUIET.gateway_mac(), mac, IPV4, &nowhere)
            });
            beside(|| paced(source, strangers))?;
            let limited = || -> Result<u64> {
                let now = client.counters()?.bridge(QUIET.vni);
                Ok(now.limited - before.bridge(QUIET.vni).limited)
            };
            until(LONG, "MACs to be refused for the limit", || match limited()? {
                count if count > 10_000 => Ok(()),
                count => Err(Error::unexpected(format!("{count} were"))),
            })?;
            let local = client.macs(QUIET.vni)?.values().filter(|entry| entry.kind == "local").count();
            if !(LIMIT / 2..=LIMIT).contains(&local) {
                return Err(Error::unexpected(format!("{local} MACs were learned, the limit is {LIMIT}")));
            }
            let neighbour = FRONT.station(1, 1);
            until(LONG, "the neighbours' MACs to be where they were", || known(lab, neighbour, 1))?;
            let fresh: Mac = [2, 0, 110, 0xff, 0, 1];
            let frame = ethernet(FRONT.station(2, 1).mac(), fresh, EXPERIMENT, &[0; 46]);
            until(LONG, "a new MAC of the neighbours' to be learned", || {
                inject(&neighbour.name(), &neighbour.device(), [frame.clone()])?;
                match client.macs(FRONT.vni)?.get(&text(fresh)) {
                    Some(entry) if entry.kind == "local" => Ok(()),
                    entry => Err(Error::unexpected(format!("it is {entry:?}"))),
                }
            })
        },
    )
}

/// A flood of broadcasts from one port is cut to that port's rate, by a named reason, and delays nobody else's unicast.
pub(in super::super) fn broadcasts(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    extra::with(
        lab,
        QUIET,
        &[1, 2],
        |object| object.with(&format!("floodRate: {RATE}")),
        |lab| {
            let (source, target) = (QUIET.station(1, 1), QUIET.station(2, 1));
            until(LONG, "the stations to reach each other", || super::reaches(source, target))?;
            let client = lab.node(1).client()?;
            let before = client.counters()?;
            let wire = Wire::watch(1, QUIET.vni, |inner| inner.starts_with(&BROADCAST))?;
            let frame = ethernet(BROADCAST, source.mac(), EXPERIMENT, &[0; 46]);
            beside(|| paced(source, (0..FLOOD).map(|_| frame.clone())))?;
            let sent = wire.stop()?.len();
            let after = client.counters()?;
            let dropped: Vec<(String, u64)> = after
                .drops()
                .into_iter()
                .map(|(reason, count)| {
                    let old = before.drops().get(&reason).copied().unwrap_or(0);
                    (reason, count - old)
                })
                .filter(|(_, count)| *count > 0)
                .collect();
            eprintln!("of {FLOOD} broadcasts {sent} left for the fabric; dropped: {dropped:?}");
            // How many get as far as the dataplane depends on the machine; that none is sent on beyond the rate does not.
            if sent == 0 || sent >= FLOOD {
                return Err(Error::unexpected(format!("{sent} of {FLOOD} broadcasts left: {dropped:?}")));
            }
            if !dropped.iter().any(|(reason, count)| reason.contains("flood") && *count > 0) {
                return Err(Error::unexpected(format!("no drop is named for the flood: {dropped:?}")));
            }
            Ok(())
        },
    )
}

/// Does `work` while numbered datagrams cross the same node in another L2VNI, both ways: none is lost.
fn beside(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (one, two) = (FRONT.station(1, 2), FRONT.station(2, 2));
    let out = super::stream(one, two, super::v4)?;
    let back = super::stream(two, one, super::v6)?;
    std::thread::sleep(Duration::from_millis(500));
    let done = work();
    std::thread::sleep(Duration::from_secs(1));
    let reports: Vec<Report> = [out.stop()?, back.stop()?].into();
    done?;
    reports.iter().try_for_each(Report::complete)
}

/// Some thousands per second: user-mode Linux has one CPU and one queue for what all links of the lab receive, in which the
/// BFD of every session would wait behind the storm for longer than a second.
fn paced(source: Station, frames: impl Iterator<Item = Vec<u8>> + Send) -> Result<()> {
    let paced = frames.enumerate().map(|(number, frame)| {
        if number % 32 == 31 {
            std::thread::sleep(Duration::from_millis(8));
        }
        frame
    });
    inject(&source.name(), &source.device(), paced)
}
