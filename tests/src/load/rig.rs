//! One node of ours and what is beside it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::lab::{Daemon, Dataplane, Frr, netns};
use crate::wait::{LONG, until};
use crate::{Error, Result};

pub(super) const HOST: &str = "peload-host";
const ROUTER: &str = "peload-pe";
const PORTS: &str = "peload-dp";
/// Where the other end of the BGP session is.
pub(super) const PEER: &str = "peload-peer";
const UPLINK: &str = "peload0";
pub(super) const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const THEM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(super) const OUR_ASN: u16 = 64514;
pub(super) const THEIR_ASN: u16 = 64612;

const UNDERLAY: &str = "underlays:
- asn: 64514
  routerIDCIDR: 10.0.0.0/24
  tunnelEndpoint: {cidrs: [100.65.0.0/24]}
  interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: peload0}}]
  neighbors: [{asn: 64612, address: 192.0.2.2, holdTimeSeconds: 3600, keepaliveTimeSeconds: 1200}]
";

/// The node, while it runs.
pub(super) struct Node<'a> {
    pub(super) client: Dataplane,
    pub(super) dataplane: &'a Daemon,
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
    for name in [HOST, ROUTER, PORTS, PEER] {
        if netns::path(name).exists() {
            // The namespace takes its devices with it. What is left shows when it is made again.
            let _ = netns::ip_batch(None, &format!("netns del {name}"));
        }
    }
}

fn run<T>(
    objects: &str,
    binaries: &Path,
    logs: &Path,
    work: impl FnOnce(&Node<'_>) -> Result<T>,
) -> Result<T> {
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
    let measured = until(LONG, "the dataplane to answer", || Dataplane::connect(&socket))
        .and_then(|client| work(&Node { client, dataplane: &dataplane }));
    // In the opposite order; whatever went wrong above, none of them stays.
    for mut daemon in [controller, bridge, dataplane] {
        let _ = daemon.kill();
    }
    for name in ["bgpd", "bfdd", "staticd", "zebra"] {
        let _ = frr.kill(name);
    }
    measured
}
