//! Routes from a BGP speaker to the workers' FIB.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::rig::{self, Node, PEER, THEIR_ASN, THEM, US};
use super::speaker::Speaker;
use crate::lab::{Daemon, netns};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// A million routes take zebra some twenty seconds on two cores; this is for machines that have a bad day.
const PATIENCE: Duration = Duration::from_secs(600);

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
}

/// Announces `routes` prefixes to a node made of the daemons in `binaries`, whose logs go to `logs`.
///
/// # Errors
/// When anything does not come up, or the routes do not arrive.
pub fn routes(routes: u32, binaries: &Path, logs: &Path) -> Result<Report> {
    rig::with_node("{}\n", binaries, logs, |node| load(routes, node))
}

fn load(routes: u32, node: &Node<'_>) -> Result<Report> {
    let Node { client, dataplane } = node;
    let mut speaker = until(LONG, "the BGP session with our bgpd", || {
        netns::within(PEER, || Speaker::establish(SocketAddr::from((US, 179)), THEIR_ASN, THEM))
    })?;
    until(LONG, "frr-bridge to have synced", || match client.info()? {
        info if info.fib_synced => Ok(()),
        info => Err(Error::unexpected(format!("FIB client {:?} has not synced", info.fib_client))),
    })?;
    let count = || -> Result<u64> {
        Ok(client.topology()?.vrfs.iter().find(|vrf| vrf.id == 0).map_or(0, |vrf| vrf.routes_v4))
    };
    let (before, memory_before) = (count()?, resident(dataplane)?);
    let start = speaker.announce(routes)?;
    let wanted = before + u64::from(routes);
    until(PATIENCE, format!("{routes} routes in the dataplane"), || match count()? {
        enough if enough >= wanted => Ok(()),
        few => Err(Error::unexpected(format!("{few} of {wanted} are there"))),
    })?;
    let seconds = Instant::now().duration_since(start).as_secs_f64();
    let grown = resident(dataplane)?.saturating_sub(memory_before);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let bytes = grown as f64;
    Ok(Report {
        routes,
        seconds,
        routes_per_second: f64::from(routes) / seconds,
        dataplane_bytes_per_route: bytes / f64::from(routes),
    })
}

/// Resident memory of a daemon, bytes: `VmRSS` of proc(5).
fn resident(daemon: &Daemon) -> Result<u64> {
    let pid = daemon.pid().ok_or_else(|| Error::unexpected("the dataplane is not running"))?;
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    let text = fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| Error::unexpected(format!("{} has no VmRSS", path.display())))
}
