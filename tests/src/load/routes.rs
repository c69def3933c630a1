//! Routes from a BGP speaker to the workers' FIB.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::reference;
use super::rig::{self, Node, PEER, THEIR_ASN, THEM, US};
use super::speaker::Speaker;
use crate::lab::netns;
use crate::traffic::stream::{Plan, Stream};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// Between two looks at the number of routes.
const LOOK: Duration = Duration::from_millis(20);
/// Between two datagrams through the dataplane.
const PROBE_PAUSE: Duration = Duration::from_millis(1);
/// A million routes take zebra some twenty seconds on two cores; this is for machines that have a bad day.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Routes announced.
    pub routes: u32,
    /// Seconds from the first UPDATE to the last route in the dataplane.
    pub seconds: f64,
    /// Their ratio.
    pub routes_per_second: f64,
    /// Growth of the dataplane's resident memory meanwhile, bytes per route.
    pub dataplane_bytes_per_route: f64,
    /// CPU seconds of our processes meanwhile.
    pub cpu_seconds: Cpu,
    /// Datagrams that were sent through the dataplane meanwhile, in all rounds.
    pub probes: u64,
    /// Of these, the ones that got lost.
    pub probes_lost: u64,
    /// Seconds that FRR takes with an FPM listener that throws everything away.
    pub frr_alone_seconds: f64,
    /// How many times as long it takes with us.
    pub ratio: f64,
}

/// CPU seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cpu {
    /// pe-dataplane.
    pub dataplane: f64,
    /// frr-bridge.
    pub bridge: f64,
}

/// Announces `routes` prefixes to a node made of the daemons in `binaries`, whose logs go to `logs`, and then to FRR alone. The
/// better of `rounds` counts of either.
///
/// # Errors
/// When anything does not come up, or the routes do not arrive.
pub fn routes(routes: u32, rounds: u32, binaries: &Path, logs: &Path) -> Result<Report> {
    let mut best: Option<Report> = None;
    let mut alone = f64::INFINITY;
    let (mut probes, mut lost) = (0, 0);
    for _ in 0..rounds {
        let report = rig::with_node("{}\n", binaries, logs, |node| load(routes, node))?;
        (probes, lost) = (probes + report.probes, lost + report.probes_lost);
        if best.as_ref().is_none_or(|best| report.seconds < best.seconds) {
            best = Some(report);
        }
        let path = rig::frr_config(logs);
        let config = fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
        alone = alone.min(reference::routes(routes, &config, logs)?);
    }
    let best = best.ok_or_else(|| Error::unexpected("no round was asked for"))?;
    let ratio = best.seconds / alone;
    Ok(Report { frr_alone_seconds: alone, ratio, probes, probes_lost: lost, ..best })
}

fn load(routes: u32, node: &Node<'_>) -> Result<Report> {
    let Node { client, dataplane, bridge } = node;
    let mut speaker = until(LONG, "the BGP session with our bgpd", || {
        netns::within(PEER, || Speaker::establish(SocketAddr::from((US, 179)), THEIR_ASN, THEM))
    })?;
    until(LONG, "frr-bridge to have synced", || match client.info()? {
        info if info.fib_synced => Ok(()),
        info => Err(Error::unexpected(format!("FIB client {:?} has not synced", info.fib_client))),
    })?;
    let plan = Plan { pause: PROBE_PAUSE, ..Plan::steady(THEM.into(), rig::SINK_ADDRESS.into()) };
    // The neighbours find each other before anything counts.
    until(LONG, "traffic to pass through the dataplane", || {
        Stream::start(PEER, rig::SINK, Plan { count: Some(10), ..plan })?.finish()?.complete()
    })?;
    let probes = Stream::start(PEER, rig::SINK, plan)?;
    let count = || -> Result<u64> {
        Ok(client.topology()?.vrfs.iter().find(|vrf| vrf.id == 0).map_or(0, |vrf| vrf.routes_v4))
    };
    let (before, memory_before) = (count()?, rig::resident(dataplane)?);
    let cpu = || -> Result<[f64; 2]> { Ok([rig::cpu_seconds(dataplane)?, rig::cpu_seconds(bridge)?]) };
    let cpu_before = cpu()?;
    let start = speaker.announce(routes)?;
    let wanted = before + u64::from(routes);
    loop {
        match count()? {
            enough if enough >= wanted => break,
            few if start.elapsed() > PATIENCE => {
                return Err(Error::unexpected(format!("{few} of {wanted} are there")));
            }
            _ => std::thread::sleep(LOOK),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu_after = cpu()?;
    let probes = probes.stop()?;
    let grown = rig::resident(dataplane)?.saturating_sub(memory_before);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let bytes = grown as f64;
    Ok(Report {
        routes,
        seconds,
        routes_per_second: f64::from(routes) / seconds,
        dataplane_bytes_per_route: bytes / f64::from(routes),
        cpu_seconds: Cpu { dataplane: cpu_after[0] - cpu_before[0], bridge: cpu_after[1] - cpu_before[1] },
        probes: probes.sent,
        probes_lost: probes.lost(),
        frr_alone_seconds: 0.0,
        ratio: 0.0,
    })
}
