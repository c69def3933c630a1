//! vhost-user and memif ports with a testpmd at the other end, which answers ARP and pings. Takes root.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use dataplane_api::v1::{self, path, port_spec};
use tokio::sync::Mutex;

use crate::rig::{PATIENCE, Rig, group, is_root, route};

/// The other end; gone with this value.
struct Testpmd(Child);

impl Testpmd {
    /// With a virtual device, in ordinary memory.
    fn start(folder: &Path, device: &str) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("testpmd")).unwrap();
        // Its standard input stays open: it ends with it.
        let child = Command::new("nice")
            .args([
                "-n",
                "19",
                "dpdk-testpmd",
                "--lcores",
                "(0-1)@(0-1)",
                "--no-huge",
                "-m",
                "128",
                "--no-pci",
            ])
            .args(["--no-shconf", "--no-telemetry", "--vdev", device])
            .args(["--", "--auto-start", "--forward-mode=icmpecho", "--total-num-mbufs=4096"])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // nice has become testpmd.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn vhost_user(name: &str, socket: &Path, client: bool) -> v1::PortSpec {
    let socket = socket.display().to_string();
    let kind = Some(port_spec::Kind::VhostUser(v1::VhostUserPort { socket, client }));
    v1::PortSpec { name: name.into(), kind, addresses: vec!["10.1.0.1/24".into()], ..Default::default() }
}

fn memif(name: &str, socket: &Path, client: bool) -> v1::PortSpec {
    let socket = socket.display().to_string();
    let kind = v1::MemifPort { socket, id: 3, client, secret: "hush".into() };
    let kind = Some(port_spec::Kind::Memif(kind));
    v1::PortSpec { name: name.into(), kind, addresses: vec!["10.1.0.1/24".into()], ..Default::default() }
}

fn health(state: &v1::TopologyState) -> v1::Health {
    state.ports[0].health()
}

/// A port whose other end comes, goes and returns.
async fn comes_and_goes(port: v1::PortSpec, driver: &str, folder: &Path, device: &str) {
    // A testpmd polls without rest: one at a time is enough for a small machine.
    static ALONE: Mutex<()> = Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let mut rig = Rig::start(&[]).await;
    let spec = v1::TopologySpec { ports: vec![port.clone()], ..Default::default() };
    // A testpmd that serves does not clean up after one that was killed.
    let clean = || {
        if device.contains("server") {
            let _ = std::fs::remove_file(folder.join("socket"));
        }
    };
    rig.apply(spec.clone()).await;
    let first = Testpmd::start(folder, device);
    let state = rig.state_when(|state| health(state) == v1::Health::Up).await;
    assert_eq!(state.ports[0].driver, driver);
    rig.dress_shadow(&state.ports[0]);
    drop(first);
    clean();
    rig.state_when(|state| health(state) != v1::Health::Up).await;
    let mut session = rig.session().await;
    let mut batch =
        v1::FibBatch { groups: vec![group(1, path::Kind::Local(v1::LocalPath {}))], ..Default::default() };
    route(&mut batch, 0, "10.1.0.1/32", 1);
    session.batch_well(batch).await;
    for round in 0..3 {
        let testpmd = Testpmd::start(folder, device);
        rig.state_when(|state| health(state) == v1::Health::Up).await;
        rig.carrier(&port.name, true).await;
        let deadline = Instant::now() + PATIENCE;
        // It may be connected before it forwards.
        while !rig.pings("router", "10.1.0.10", "-c 1 -W 1") {
            let said = std::fs::read_to_string(folder.join("testpmd")).unwrap();
            assert!(Instant::now() < deadline, "round {round}: {:#?}\n{said}", rig.counters().await);
        }
        while !rig.pings("router", "10.1.0.10", "-s 1400") {
            assert!(Instant::now() < deadline, "round {round}: {:#?}", rig.counters().await);
        }
        // It goes in the middle of what it is sent.
        let mut flood = Command::new("ip")
            .args(["netns", "exec", &rig.netns("router"), "ping", "-q", "-f", "-s", "1400", "10.1.0.10"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sent = rig.port(&port.name).await.tx_packets;
        rig.port_when(&port.name, |port| port.tx_packets > sent + 200).await;
        drop(testpmd);
        clean();
        rig.state_when(|state| health(state) != v1::Health::Up).await;
        flood.kill().unwrap();
        flood.wait().unwrap();
    }
    // Another process finds what the first one left, sockets included.
    rig.kill();
    rig.launch().await;
    let _testpmd = Testpmd::start(folder, device);
    rig.apply(spec).await;
    rig.state_when(|state| health(state) == v1::Health::Up).await;
    rig.apply_well(v1::TopologySpec::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vhost_user_as_server() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let device = format!("net_virtio_user0,path={},queues=1,mac=02:00:00:00:00:aa", socket.display());
    comes_and_goes(vhost_user("vm", &socket, false), "net_vhost", folder.path(), &device).await;
    assert!(!socket.exists(), "it goes with the port");
}

#[tokio::test(flavor = "multi_thread")]
async fn vhost_user_as_client() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let device =
        format!("net_virtio_user0,path={},queues=1,server=1,mac=02:00:00:00:00:aa", socket.display());
    comes_and_goes(vhost_user("vm", &socket, true), "net_vhost", folder.path(), &device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memif_as_server() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let device =
        format!("net_memif0,role=client,id=3,socket={},socket-abstract=no,secret=hush", socket.display());
    comes_and_goes(memif("pod", &socket, false), "net_memif", folder.path(), &device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memif_as_client() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let device =
        format!("net_memif0,role=server,id=3,socket={},socket-abstract=no,secret=hush", socket.display());
    comes_and_goes(memif("pod", &socket, true), "net_memif", folder.path(), &device).await;
}

/// What is missing or in the way is said, and the port opens when it is right.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_looked_at_first() {
    if !is_root() {
        return;
    }
    let rig = Rig::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let stale = folder.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "precious").unwrap();
    let ports = vec![
        vhost_user("a", &inner.join("s"), false),
        v1::PortSpec { addresses: Vec::new(), ..memif("b", &inner.join("m"), false) },
        v1::PortSpec { addresses: Vec::new(), ..vhost_user("c", &stale, false) },
        v1::PortSpec { addresses: Vec::new(), ..vhost_user("d", &taken, false) },
    ];
    let results = rig.apply(v1::TopologySpec { ports, ..Default::default() }).await.results;
    let says = |index: usize, part: &str| {
        let result: &v1::ObjectResult = &results[index];
        assert!(
            result.error.contains(part) && result.retrying != part.is_empty(),
            "{result:?}\n{}",
            rig.log()
        );
    };
    says(0, "there is no folder");
    says(1, "there is no folder");
    says(2, "");
    assert_eq!(results[2].error, "");
    says(3, "not a socket");
    assert_eq!(std::fs::read(&taken).unwrap(), b"precious");
    std::fs::create_dir(&inner).unwrap();
    rig.state_when(|state| state.ports[..2].iter().all(|port| port.error.is_empty())).await;
    assert!(inner.join("s").exists() && inner.join("m").exists());
    rig.apply_well(v1::TopologySpec::default()).await;
    assert!(!stale.exists());
}
