//! Bad input: what it gets, and that nothing else suffers.

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::lab::plan::{Host, RED, VRFS, downlink, spine_netns};
use crate::lab::{Daemon, Lab, Node, config, netns, node};
use crate::traffic::frames::{self, Random};
use crate::traffic::{Stream, ping, stream};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// Objects with a wrong field, an overlapping VNI and a bad CIDR beside good ones.
pub(super) fn wrong_objects(lab: &mut Lab) -> Result<()> {
    let cases = [
        ("misspelt", "l3vnis:\n- name: misspelt\n  vrf: mauve\n  vnii: 900\n", "vni"),
        ("overlap", "l3vnis:\n- name: overlap\n  vrf: ochre\n  vni: 100\n", "100"),
        (
            "badcidr",
            "l3vnis:\n- name: badcidr\n  vrf: pink\n  vni: 901\n  hostSession:\n    asn: 64514\n    hostASN: 64515\n    \
             localCIDR: {ipv4: 192.169.300.0/24}\n",
            "192.169.300.0/24",
        ),
        ("nonsense", "l3vnis: [\n", "nonsense"),
    ];
    let good = "l3vnis:\n- name: grey\n  vrf: grey\n  vni: 902\n";
    let node = lab.node(1);
    let (one, two) = (Host { pe: 1, vrf: RED }, Host { pe: 2, vrf: RED });
    let stream =
        Stream::start(&one.name(), &two.name(), stream::Plan::steady(one.v4().into(), two.v4().into()))?;
    for (name, text, _) in cases {
        node.write_config(&format!("configs/openpe_{name}.yaml"), text)?;
    }
    node.write_config("configs/openpe_grey.yaml", good)?;
    let reported = until(LONG, "the good object to be applied and the bad ones to be reported", || {
        applied(node, "grey", true)?;
        let status = node.controller_status()?.to_string();
        for (name, _, reason) in cases {
            if !status.contains(&format!("openpe_{name}.yaml")) || !status.contains(reason) {
                return Err(Error::unexpected(format!("nothing about {name} ({reason}) in {status}")));
            }
        }
        Ok(())
    });
    for (name, _, _) in cases {
        node.remove_config(&format!("configs/openpe_{name}.yaml"))?;
    }
    node.remove_config("configs/openpe_grey.yaml")?;
    let report = stream.stop()?;
    reported?;
    until(LONG, "VRF grey to be removed", || applied(node, "grey", false))?;
    until(LONG, "the status to be clean again", || {
        let status = node.controller_status()?.to_string();
        match cases.iter().find(|(name, _, _)| status.contains(&format!("openpe_{name}.yaml"))) {
            None => Ok(()),
            Some((name, _, _)) => Err(Error::unexpected(format!("{name} is still reported: {status}"))),
        }
    })?;
    report.complete()
}

fn applied(node: &Node, vrf: &str, wanted: bool) -> Result<()> {
    let topology = node.client()?.topology()?;
    let present = topology.vrfs.iter().any(|state| state.spec.as_ref().is_some_and(|spec| spec.name == vrf));
    if present == wanted {
        return Ok(());
    }
    Err(Error::unexpected(format!("VRF {vrf} is {}", if wanted { "absent" } else { "still there" })))
}

/// An interface that is not there: reported, shown by pectl, and used as soon as it appears.
pub(super) fn missing_interface(lab: &mut Lab) -> Result<()> {
    const NIC: &str = "toswitch9";
    let node = lab.node(1);
    let client = node.client()?;
    let underlay = config::underlay(1);
    let with_nic = underlay.replacen(
        "  neighbors:\n",
        &format!("  - type: NetworkDevice\n    networkDevice: {{interfaceName: {NIC}}}\n  neighbors:\n"),
        1,
    );
    let (one, two) = (Host { pe: 1, vrf: RED }, Host { pe: 2, vrf: RED });
    let running =
        Stream::start(&one.name(), &two.name(), stream::Plan::steady(one.v4().into(), two.v4().into()))?;
    node.write_config("configs/openpe_underlay.yaml", &with_nic)?;
    let failed = until(LONG, format!("{NIC} to be shown as failed"), || {
        let text = node.pectl(&["--output", "json", "ports"])?;
        let ports = client.topology()?.ports;
        let port = ports.iter().find(|port| port.spec.as_ref().is_some_and(|spec| spec.name == NIC));
        match port {
            Some(port) if !port.error.is_empty() && text.contains(&port.error) => Ok(()),
            other => Err(Error::unexpected(format!("{other:?}; pectl: {text}"))),
        }
    });
    let healed = failed.and_then(|()| {
        // Up from its birth: the dataplane takes it away at once.
        netns::ip_batch(
            Some("n1"),
            &format!("link add {NIC} up type veth peer name {NIC}-peer\nlink set {NIC}-peer up\n"),
        )?;
        until(LONG, format!("{NIC} to be used"), || {
            let ports = client.topology()?.ports;
            let port = ports.iter().find(|port| port.spec.as_ref().is_some_and(|spec| spec.name == NIC));
            match port {
                Some(port) if port.error.is_empty() && !port.driver.is_empty() => Ok(()),
                other => Err(Error::unexpected(format!("{other:?}"))),
            }
        })
    });
    node.write_config("configs/openpe_underlay.yaml", &underlay)?;
    let given_back = until(LONG, format!("{NIC} to be given back"), || {
        netns::run("n1", "ip", &["link", "show", NIC]).map(|_| ())
    });
    let report = running.stop()?;
    healed?;
    given_back?;
    netns::ip_batch(Some("n1"), &format!("link del {NIC}"))?;
    report.complete()
}

/// A controller and a bridge that find neither dataplane nor FRR: they say so, wait, and nothing panics; pectl has an exit code for it.
pub(super) fn missing_peers(lab: &mut Lab) -> Result<()> {
    const NOWHERE: &str = "/run/openpe/nowhere.sock";
    let binaries = lab.node(1).binaries().to_path_buf();
    let dir = std::path::Path::new("/run/openpe/lonely");
    std::fs::create_dir_all(dir.join("configs")).map_err(Error::file("cannot make", dir))?;
    for (name, text) in
        [("node-config.yaml", config::node(1)), ("configs/openpe_underlay.yaml", config::underlay(1))]
    {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(Error::file("cannot write", &path))?;
    }
    let config_dir = dir.display().to_string();
    let status = format!("{config_dir}/status.json");
    let frr_config = format!("{config_dir}/frr.conf");
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut controller = Daemon::new(
        "lonely-controller".into(),
        "n1",
        binaries.join("pe-controller"),
        words(&[
            "static",
            "--config-dir",
            &config_dir,
            "--dataplane",
            NOWHERE,
            "--frr-pathspace",
            "nobody",
            "--frr-config",
            &frr_config,
            "--status-file",
            &status,
        ]),
        &lab.logs,
    );
    let mut bridge = Daemon::new(
        "lonely-bridge".into(),
        "n1",
        binaries.join("frr-bridge"),
        words(&["--dataplane", NOWHERE, "--router-netns", "/run/netns/lonely"]),
        &lab.logs,
    );
    // It prepares the namespace it works in, which must be nobody else's.
    netns::create(&["lonely".to_owned()])?;
    controller.start()?;
    bridge.start()?;
    let told = until(LONG, "both to say what they lack", || {
        if let Some(end) = controller.ended().or_else(|| bridge.ended()) {
            return Err(Error::unexpected(end));
        }
        let text = std::fs::read_to_string(&status).map_err(Error::file("cannot read", &status))?;
        let state: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Error::unexpected(format!("{status}: {error}")))?;
        let lacking = |part: &str| {
            state[part]["done"] == false
                && state[part]["error"].as_str().is_some_and(|error| !error.is_empty())
        };
        if lacking("frr") && lacking("dataplane") && bridge.log().contains(NOWHERE) {
            return Ok(());
        }
        Err(Error::unexpected(format!("status {state}; the bridge says: {}", bridge.log())))
    });
    let stopped = [controller.stop(), bridge.stop()];
    netns::ip_batch(None, "netns del lonely")?;
    told?;
    stopped.into_iter().collect::<Result<()>>()?;
    let pectl = binaries.join("pectl").display().to_string();
    let output = netns::output("n1", &pectl, &["--socket", NOWHERE, "ports"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) && said.contains(NOWHERE) {
        return Ok(());
    }
    Err(Error::unexpected(format!("pectl without a dataplane ends with {} and says: {said}", output.status)))
}

/// Random frames of every length on an underlay port and on a tenant's.
pub(super) fn garbage_frames(lab: &mut Lab) -> Result<()> {
    let client = lab.node(1).client()?;
    let before = client.counters()?;
    let instance = client.topology()?.instance;
    let ports = client.topology()?.ports;
    let mut random = Random::new(0x5eed);
    for (netns, device, port, mtu) in [
        (spine_netns(1), downlink(1), "toswitch1", 1500),
        ("n1-red".to_owned(), "host-e-100".to_owned(), "pe-e-100", 1450),
    ] {
        let mac: [u8; 6] = ports
            .iter()
            .find(|state| state.spec.as_ref().is_some_and(|spec| spec.name == port))
            .and_then(|state| state.mac[..].try_into().ok())
            .ok_or_else(|| Error::unexpected(format!("n1 has no port {port} with a MAC")))?;
        netns::within(&netns, || frames::send(&device, frames::garbage(&mut random, mac, mtu)))?;
    }
    until(LONG, "the garbage to be counted", || {
        let counters = client.counters()?;
        let count = |counters: &crate::lab::Counters| counters.drops().values().sum::<u64>();
        let drops = count(&counters) - count(&before);
        if drops > 2000 { Ok(()) } else { Err(Error::unexpected(format!("{drops} drops so far"))) }
    })?;
    if client.topology()?.instance != instance {
        return Err(Error::unexpected("the dataplane has started anew"));
    }
    for vrf in VRFS {
        until(LONG, format!("hosts of VRF {} to reach each other", vrf.name), || ping::all_reach(vrf))?;
    }
    Ok(())
}

/// Random bytes to the FPM listener and the dataplane's socket, in many connections.
pub(super) fn garbage_connections(lab: &mut Lab) -> Result<()> {
    let mut random = Random::new(0xbad);
    for round in 0..8 {
        let bytes = random.bytes(1 << (4 + round));
        spoil_fpm(&bytes)?;
        // A frame that promises more than it holds, and one that is shorter than its own header.
        for frame in [&[1, 1, 0xff, 0xff, 0, 0][..], &[1, 1, 0, 1], &[9, 9, 0, 4]] {
            spoil_fpm(frame)?;
        }
        let stream = UnixStream::connect(lab.node(1).socket()).map_err(Error::system("no gRPC listener"))?;
        spoil(stream, &bytes)?;
    }
    lab.alive()?;
    let client = lab.node(1).client()?;
    until(LONG, "frr-bridge's session to be in sync", || {
        if client.info()?.fib_synced { Ok(()) } else { Err(Error::unexpected("it is not")) }
    })?;
    for vrf in VRFS {
        until(LONG, format!("hosts of VRF {} to reach each other", vrf.name), || ping::all_reach(vrf))?;
    }
    Ok(())
}

/// Where frr-bridge reads the routes from the kernel (beside an FRR 8.4 with router MACs), nobody listens, and nothing can be spoilt.
fn spoil_fpm(bytes: &[u8]) -> Result<()> {
    netns::within(&node::router_netns(1), || match TcpStream::connect((Ipv4Addr::LOCALHOST, 2620)) {
        Ok(stream) => spoil(stream, bytes),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(Error::system("cannot reach the FPM listener")(error)),
    })
}

/// Writes `bytes`, gives the other side a moment to answer or hang up, and goes away.
fn spoil<S: std::io::Read + std::io::Write + Timeout>(mut stream: S, bytes: &[u8]) -> Result<()> {
    stream.patience(Duration::from_millis(200)).map_err(Error::system("cannot set a timeout"))?;
    // The other side may well hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 64]);
    Ok(())
}

/// What both kinds of stream have under the same name, but in no trait.
trait Timeout {
    fn patience(&self, time: Duration) -> std::io::Result<()>;
}

impl Timeout for TcpStream {
    fn patience(&self, time: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

impl Timeout for UnixStream {
    fn patience(&self, time: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}
