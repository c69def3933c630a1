//! One node of ours and a BGP speaker beside it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::speaker::Speaker;
use crate::lab::{Daemon, Dataplane, Frr, netns};
use crate::wait::{LONG, until};
use crate::{Error, Result};

const HOST: &str = "peload-host";
const ROUTER: &str = "peload-pe";
const PORTS: &str = "peload-dp";
const PEER: &str = "peload-peer";
const UPLINK: &str = "peload0";
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THEM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const THEIR_ASN: u16 = 64612;
/// A million routes take zebra some twenty seconds on two cores; this is for machines that have a bad day.
const PATIENCE: Duration = Duration::from_secs(600);

const UNDERLAY: &str = "underlays:
- asn: 64514
  routerIDCIDR: 10.0.0.0/24
  tunnelEndpoint: {cidrs: [100.65.0.0/24]}
  interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: peload0}}]
  neighbors: [{asn: 64612, address: 192.0.2.2, holdTimeSeconds: 3600, keepaliveTimeSeconds: 1200}]
";

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
pub fn measure(routes: u32, binaries: &Path, logs: &Path) -> Result<Report> {
    clean();
    let result = run(routes, binaries, logs);
    clean();
    result
}

/// Removes what an earlier run may have left.
fn clean() {
    for name in [HOST, ROUTER, PORTS, PEER] {
        if netns::path(name).exists() {
            // The namespace takes its devices with it. What is left shows when it is made again.
            let _ = netns::ip_batch(None, &format!("netns del {name}"));
        }
    }
}

fn run(routes: u32, binaries: &Path, logs: &Path) -> Result<Report> {
    netns::create(&[HOST, ROUTER, PEER].map(str::to_owned))?;
    netns::ip_batch(
        None,
        &format!("link add {UPLINK} mtu 9000 netns {HOST} type veth peer name eth0 mtu 9000 netns {PEER}"),
    )?;
    netns::ip_batch(Some(HOST), &format!("addr add {US}/24 dev {UPLINK}\nlink set {UPLINK} up"))?;
    netns::ip_batch(Some(PEER), &format!("addr add {THEM}/24 dev eth0\nlink set eth0 up"))?;
    // af_packet would see their checksums before they are computed.
    netns::run(PEER, "ethtool", &["-K", "eth0", "tx", "off"])?;

    let folder = logs.join("config");
    let configs = folder.join("configs");
    fs::create_dir_all(&configs).map_err(Error::file("cannot make", &configs))?;
    for (path, text) in [
        (folder.join("node-config.yaml"), "nodeIndex: {index: 1}\n"),
        (configs.join("openpe_underlay.yaml"), UNDERLAY),
    ] {
        fs::write(&path, text).map_err(Error::file("cannot write", &path))?;
    }
    let text = |path: &Path| path.display().to_string();
    let socket = logs.join("dataplane.sock");
    let daemon = |program: &str, args: &[&str]| {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Daemon::new(program.to_owned(), HOST, binaries.join(program), args, logs)
    };
    let (router, ports) = (text(&netns::path(ROUTER)), text(&netns::path(PORTS)));
    let mut dataplane = daemon(
        "pe-dataplane",
        &["--socket", &text(&socket), "--router-netns", &router, "--ports-netns", &ports],
    );
    let mut frr = Frr::new(ROUTER, ROUTER, None, logs)
        .with("zebra", &["-M", "dplane_fpm_nl"])
        .with("bgpd", &[])
        .with("bfdd", &[])
        .with("staticd", &[]);
    let mut bridge = daemon("frr-bridge", &["--dataplane", &text(&socket), "--router-netns", &router]);
    let mut controller = daemon(
        "pe-controller",
        &[
            "static",
            "--config-dir",
            &text(&folder),
            "--dataplane",
            &text(&socket),
            "--frr-pathspace",
            ROUTER,
            "--frr-config",
            &text(&logs.join("frr.conf")),
            "--status-file",
            &text(&logs.join("controller-status.json")),
        ],
    );
    dataplane.start()?;
    frr.start()?;
    bridge.start()?;
    controller.start()?;
    let measured = load(routes, &socket, &dataplane);
    // In the opposite order; whatever went wrong above, none of them stays.
    for mut daemon in [controller, bridge, dataplane] {
        let _ = daemon.kill();
    }
    for name in ["bgpd", "bfdd", "staticd", "zebra"] {
        let _ = frr.kill(name);
    }
    measured
}

fn load(routes: u32, socket: &Path, dataplane: &Daemon) -> Result<Report> {
    let client = until(LONG, "the dataplane to answer", || Dataplane::connect(socket))?;
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
