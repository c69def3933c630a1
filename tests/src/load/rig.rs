//! One node of ours and what is beside it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dataplane_api::v1::PortState;

use super::reference;
use crate::lab::{Daemon, Dataplane, Frr, netns};
use crate::wait::{LONG, until};
use crate::{Error, Result};

pub(super) const HOST: &str = "peload-host";
pub(super) const ROUTER: &str = "peload-pe";
const PORTS: &str = "peload-dp";
/// Where the other end of the BGP session is.
pub(super) const PEER: &str = "peload-peer";
pub(super) const UPLINK: &str = "peload0";
/// Its other end, in the peer's namespace.
pub(super) const UPLINK_PEER: &str = "eth0";
/// A second interface: a tenant's, of a dataplane that is alone; else of the underlay.
pub(super) const TENANT: &str = "peload1";
/// Its MAC.
pub(super) const TENANT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
/// Its other end, in the peer's namespace.
pub(super) const TENANT_PEER: &str = "eth1";
pub(super) const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const THEM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(super) const OUR_ASN: u16 = 64514;
pub(super) const THEIR_ASN: u16 = 64612;

/// Another host on the underlay, for traffic that passes through the dataplane meanwhile, and the node's address there.
pub(super) const SINK: &str = "peload-sink";
pub(super) const SINK_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 2);
const US_AT_SINK: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 1);

const UNDERLAY: &str = "underlays:
- asn: 64514
  routerIDCIDR: 10.0.0.0/24
  tunnelEndpoint: {cidrs: [100.65.0.0/24]}
  interfaces:
  - {type: NetworkDevice, networkDevice: {interfaceName: peload0}}
  - {type: NetworkDevice, networkDevice: {interfaceName: peload1}}
  neighbors: [{asn: 64612, address: 192.0.2.2, holdTimeSeconds: 3600, keepaliveTimeSeconds: 1200}]
";

/// Where pe-controller leaves what it has rendered for FRR.
pub(super) fn frr_config(logs: &Path) -> PathBuf {
    logs.join("frr.conf")
}

/// The node, while it runs.
pub(super) struct Node<'a> {
    pub(super) client: Dataplane,
    pub(super) dataplane: &'a Daemon,
    pub(super) bridge: &'a Daemon,
}

/// Makes a node of the daemons in `binaries`, whose logs go to `logs`, with `objects` beside its underlay, and lets `work`
/// measure. Nothing of it stays.
///
/// # Errors
/// When anything does not come up, or `work`'s.
pub(super) fn with_node<T>(
    objects: &str,
    binaries: &Path,
    logs: &Path,
    work: impl FnOnce(&Node<'_>) -> Result<T>,
) -> Result<T> {
    clean();
    let result = run(objects, binaries, logs, work);
    clean();
    result
}

/// Removes what an earlier run may have left.
fn clean() {
    for name in [HOST, ROUTER, PORTS, PEER, SINK] {
        if netns::path(name).exists() {
            // The namespace takes its devices with it. What is left shows when it is made again.
            let _ = netns::ip_batch(None, &format!("netns del {name}"));
        }
    }
}

/// Lets `work` measure with a router's namespace that has the uplink itself, its peer's at the other end, and nothing of ours.
///
/// # Errors
/// When the namespaces cannot be made, or `work`'s.
pub(super) fn with_router<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    clean();
    let result = netns::create(&[ROUTER, PEER].map(str::to_owned))
        .and_then(|()| {
            netns::ip_batch(None, &reference::uplink())?;
            netns::ip_batch(Some(ROUTER), &format!("addr add {US}/24 dev {UPLINK}\nlink set {UPLINK} up"))?;
            netns::ip_batch(Some(PEER), &format!("addr add {THEM}/24 dev eth0\nlink set eth0 up"))
        })
        .and_then(|()| work());
    clean();
    result
}

/// A pe-dataplane without anybody beside it.
pub(super) struct Alone {
    dataplane: Daemon,
    socket: PathBuf,
}

impl Alone {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&mut self) -> Result<()> {
        self.dataplane.start()
    }

    /// Connects to it, as soon as it listens.
    ///
    /// # Errors
    /// When it does not for long.
    pub(super) fn client(&self) -> Result<Dataplane> {
        let start = Instant::now();
        loop {
            match Dataplane::connect(&self.socket) {
                Ok(client) => return Ok(client),
                Err(error) if start.elapsed() > LONG => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Resident memory, bytes.
    ///
    /// # Errors
    /// When it is not running.
    pub(super) fn resident(&self) -> Result<u64> {
        resident(&self.dataplane)
    }

    /// The state of a port.
    ///
    /// # Errors
    /// When there is no such port or the dataplane does not answer.
    pub(super) fn port(&self, client: &Dataplane, name: &str) -> Result<PortState> {
        let named = |port: &PortState| port.spec.as_ref().is_some_and(|spec| spec.name == name);
        let port = client.topology()?.ports.into_iter().find(named);
        port.ok_or_else(|| Error::unexpected(format!("there is no port {name}")))
    }

    /// How long EAL's own start took, as it has logged.
    ///
    /// # Errors
    /// When it has not.
    pub(super) fn eal_start(&self) -> Result<Duration> {
        let log = self.dataplane.log();
        let text = log
            .lines()
            .rev()
            .find_map(|line| line.split_once("EAL started microseconds=")?.1.split_whitespace().next());
        let microseconds = text.and_then(|text| text.parse().ok());
        microseconds
            .map(Duration::from_micros)
            .ok_or_else(|| Error::unexpected("the dataplane does not say how long EAL took to start"))
    }
}

/// Lets `work` measure a pe-dataplane of those in `binaries` that has two ends of veths and no neighbours; it is not started yet.
/// Nothing of it stays.
///
/// # Errors
/// When anything does not come up, or `work`'s.
pub(super) fn with_dataplane<T>(
    binaries: &Path,
    logs: &Path,
    work: impl FnOnce(&mut Alone) -> Result<T>,
) -> Result<T> {
    clean();
    let result = links().and_then(|()| {
        let socket = logs.join("dataplane.sock");
        let mut alone = Alone { dataplane: dataplane(binaries, logs, &socket), socket };
        let result = work(&mut alone);
        // Not running if it could not be started.
        let _ = alone.dataplane.kill();
        result
    });
    clean();
    result
}

fn links() -> Result<()> {
    netns::create(&[HOST, ROUTER, PEER].map(str::to_owned))?;
    let veth = |name: &str, mac: &str, peer: &str| {
        format!(
            "link add {name} {mac} mtu 9000 netns {HOST} type veth peer name {peer} mtu 9000 netns {PEER}\n"
        )
    };
    let mac = format!("address {}", crate::traffic::packet::text(TENANT_MAC));
    netns::ip_batch(None, &(veth(UPLINK, "", UPLINK_PEER) + &veth(TENANT, &mac, TENANT_PEER)))?;
    for (netns, names) in [(HOST, [UPLINK, TENANT]), (PEER, [UPLINK_PEER, TENANT_PEER])] {
        netns::ip_batch(Some(netns), &names.map(|name| format!("link set {name} up")).join("\n"))?;
    }
    Ok(())
}

fn dataplane(binaries: &Path, logs: &Path, socket: &Path) -> Daemon {
    let text = |path: &Path| path.display().to_string();
    let (router, ports) = (text(&netns::path(ROUTER)), text(&netns::path(PORTS)));
    let socket = text(socket);
    let args = ["--socket", &socket, "--router-netns", &router, "--ports-netns", &ports];
    let (name, args) = ("pe-dataplane", args.map(str::to_owned).to_vec());
    Daemon::new(name.to_owned(), HOST, binaries.join(name), args, logs)
}

/// Resident memory of a daemon, bytes: `VmRSS` of proc(5).
///
/// # Errors
/// When it is not running.
pub(super) fn resident(daemon: &Daemon) -> Result<u64> {
    let pid = daemon.pid().ok_or_else(|| Error::unexpected(format!("{} is not running", daemon.name())))?;
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    let text = fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| Error::unexpected(format!("{} has no VmRSS", path.display())))
}

/// CPU time of a daemon so far, seconds: `utime` and `stime` of proc(5).
///
/// # Errors
/// When it is not running.
pub(super) fn cpu_seconds(daemon: &Daemon) -> Result<f64> {
    /// `USER_HZ` of every architecture that Linux has today.
    const TICKS: f64 = 100.0;
    let pid = daemon.pid().ok_or_else(|| Error::unexpected(format!("{} is not running", daemon.name())))?;
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    let text = fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
    // After the name, which may have spaces, comes the third field.
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest.split(' ').skip(11).take(2));
    let ticks = fields.into_iter().flatten().map(|field| field.parse::<f64>().unwrap_or(0.0)).sum::<f64>();
    Ok(ticks / TICKS)
}

fn run<T>(
    objects: &str,
    binaries: &Path,
    logs: &Path,
    work: impl FnOnce(&Node<'_>) -> Result<T>,
) -> Result<T> {
    netns::create(&[HOST, ROUTER, PEER, SINK].map(str::to_owned))?;
    for (name, peer, (us, them)) in [(UPLINK, PEER, (US, THEM)), (TENANT, SINK, (US_AT_SINK, SINK_ADDRESS))] {
        netns::ip_batch(
            None,
            &format!("link add {name} mtu 9000 netns {HOST} type veth peer name eth0 mtu 9000 netns {peer}"),
        )?;
        netns::ip_batch(Some(HOST), &format!("addr add {us}/24 dev {name}\nlink set {name} up"))?;
        netns::ip_batch(Some(peer), &format!("addr add {them}/24 dev eth0\nlink set eth0 up"))?;
        // The dataplane completes checksums of TCP and UDP only, and segments that the peer leaves to its interface are cut off.
        netns::run(peer, "ethtool", &["-K", "eth0", "tx", "off"])?;
    }
    netns::ip_batch(Some(PEER), &format!("route add {SINK_ADDRESS}/32 via {US}"))?;
    netns::ip_batch(Some(SINK), &format!("route add default via {US_AT_SINK}"))?;

    let folder = logs.join("config");
    let configs = folder.join("configs");
    fs::create_dir_all(&configs).map_err(Error::file("cannot make", &configs))?;
    for (path, text) in [
        (folder.join("node-config.yaml"), "nodeIndex: {index: 1}\n"),
        (configs.join("openpe_underlay.yaml"), UNDERLAY),
        (configs.join("openpe_others.yaml"), objects),
    ] {
        fs::write(&path, text).map_err(Error::file("cannot write", &path))?;
    }
    let text = |path: &Path| path.display().to_string();
    let socket = logs.join("dataplane.sock");
    let daemon = |program: &str, args: &[&str]| {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Daemon::new(program.to_owned(), HOST, binaries.join(program), args, logs)
    };
    let router = text(&netns::path(ROUTER));
    let mut dataplane = dataplane(binaries, logs, &socket);
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
            &text(&frr_config(logs)),
            "--status-file",
            &text(&logs.join("controller-status.json")),
        ],
    );
    dataplane.start()?;
    frr.start()?;
    bridge.start()?;
    controller.start()?;
    let measured = until(LONG, "the dataplane to answer", || Dataplane::connect(&socket))
        .and_then(|client| work(&Node { client, dataplane: &dataplane, bridge: &bridge }));
    // In the opposite order; whatever went wrong above, none of them stays.
    for mut daemon in [controller, bridge, dataplane] {
        let _ = daemon.kill();
    }
    for name in ["bgpd", "bfdd", "staticd", "zebra"] {
        let _ = frr.kill(name);
    }
    measured
}
