//! A real pe-dataplane in namespaces of its own, with hosts around it. The test does what frr-bridge would do.

mod stream;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataplane_api::connect;
use dataplane_api::v1::fib_client::FibClient;
use dataplane_api::v1::inspect_client::InspectClient;
use dataplane_api::v1::topology_client::TopologyClient;
use dataplane_api::v1::{self, fib_reply, fib_request, path, port_spec};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// How long anything may take that should come by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Ordinary memory, so that nothing here depends on hugepages that others may be using.
const EAL: &str = "--no-shconf --no-telemetry --log-level=5 --lcores=0 -m 256 --no-huge --no-pci";

static RIGS: AtomicU32 = AtomicU32::new(0);

/// Namespaces, a process, and clients of it.
pub(crate) struct Rig {
    prefix: String,
    namespaces: Vec<String>,
    folder: tempfile::TempDir,
    process: Option<Child>,
    flags: Vec<String>,
}

/// Whether tests that need root can run; says so when not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: namespaces and devices take root");
    }
    root
}

impl Rig {
    /// With a host's and a router's namespace and the process running.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("dpt{}-{number}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let mut rig = Self { prefix, namespaces: Vec::new(), folder, process: None, flags };
        rig.namespace("host");
        rig.namespace("router");
        rig.run("router", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        // Made by the process; here only so that it is removed.
        rig.namespaces.push(format!("{}-ports", rig.prefix));
        rig.launch().await;
        rig
    }

    /// Starts the process, once more after [`Self::kill`].
    pub(crate) async fn launch(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        // Not `ip netns exec`: that makes a mount namespace too, and the ports' namespace would die with it.
        let process = Command::new("nsenter")
            .args([&format!("--net={}", self.netns_path("host")), env!("CARGO_BIN_EXE_pe-dataplane")])
            .args(["--socket".as_ref(), self.socket().as_os_str()])
            .args(["--router-netns", &self.netns_path("router"), "--ports-netns", &self.netns_path("ports")])
            .args(["--eal-args", EAL])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let deadline = Instant::now() + PATIENCE;
        while connect(self.socket()).await.is_err() {
            assert!(Instant::now() < deadline, "pe-dataplane does not serve:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the process without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Where it serves.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("dataplane.sock")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the process said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The full name of one of the rig's namespaces.
    pub(crate) fn netns(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Where it is bound.
    pub(crate) fn netns_path(&self, name: &str) -> String {
        format!("/run/netns/{}", self.netns(name))
    }

    /// Makes a namespace.
    pub(crate) fn namespace(&mut self, name: &str) {
        let full = self.netns(name);
        shell(&format!("ip netns add {full}"));
        self.namespaces.push(full);
        self.run(name, "ip link set lo up");
    }

    /// Makes a namespace with `addresses` on its eth0, whose other end is `interface` in the host's namespace.
    pub(crate) fn wire(&mut self, name: &str, interface: &str, addresses: &[&str]) {
        self.namespace(name);
        self.add_wire(name, interface, addresses);
    }

    /// The same in a namespace that exists.
    pub(crate) fn add_wire(&self, name: &str, interface: &str, addresses: &[&str]) {
        let (inside, host) = (self.netns(name), self.netns("host"));
        shell(&format!("ip link add {interface} netns {host} type veth peer name eth0 netns {inside}"));
        // Packet sockets cut off what is larger than the MTU; checksums may stay with the interface.
        self.run(name, "ethtool -K eth0 tso off");
        self.run(name, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0");
        for address in addresses {
            self.run(name, &format!("ip addr add {address} dev eth0"));
        }
        self.run(name, "ip link set eth0 up");
    }

    /// Runs a command in a namespace; its output.
    pub(crate) fn run(&self, namespace: &str, command: &str) -> String {
        shell(&format!("ip netns exec {} {command}", self.netns(namespace)))
    }

    /// Runs commands of `ip` in a namespace.
    pub(crate) fn batch(&self, namespace: &str, commands: &str) {
        let file = self.folder.path().join("batch");
        std::fs::write(&file, commands).unwrap();
        shell(&format!("ip -n {} -batch {}", self.netns(namespace), file.display()));
    }

    /// Whether five pings, or as many as the options say, are answered.
    pub(crate) fn pings(&self, namespace: &str, target: &str, options: &str) -> bool {
        let command =
            format!("ip netns exec {} ping -q -c 5 -i 0.05 -W 2 {options} {target}", self.netns(namespace));
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains(" 0% packet loss")
    }

    /// A connection to the process.
    pub(crate) async fn channel(&self) -> Channel {
        connect(self.socket()).await.unwrap()
    }

    /// Applies a topology.
    pub(crate) async fn apply(&self, spec: v1::TopologySpec) -> v1::ApplyResponse {
        let mut client = TopologyClient::new(self.channel().await);
        client.apply(v1::ApplyRequest { spec: Some(spec) }).await.unwrap().into_inner()
    }

    /// Applies one without errors; the state.
    pub(crate) async fn apply_well(&self, spec: v1::TopologySpec) -> v1::TopologyState {
        let response = self.apply(spec).await;
        let failed: Vec<_> = response.results.iter().filter(|result| !result.error.is_empty()).collect();
        assert!(failed.is_empty(), "{failed:?}\n{}", self.log());
        self.state().await
    }

    /// The state as it is.
    pub(crate) async fn state(&self) -> v1::TopologyState {
        self.watch().await.message().await.unwrap().unwrap()
    }

    /// The state and its changes.
    pub(crate) async fn watch(&self) -> Streaming<v1::TopologyState> {
        TopologyClient::new(self.channel().await).watch(v1::WatchRequest {}).await.unwrap().into_inner()
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn state_when(&self, wanted: impl Fn(&v1::TopologyState) -> bool) -> v1::TopologyState {
        let mut states = self.watch().await;
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(state) = states.message().await.unwrap() {
                if wanted(&state) {
                    return Some(state);
                }
                last = Some(state);
            }
            None
        });
        match found.await {
            Ok(Some(state)) => state,
            _ => panic!("the state stays {last:#?}\n{}", self.log()),
        }
    }

    /// One snapshot of the counters.
    pub(crate) async fn counters(&self) -> v1::CountersReply {
        let mut client = InspectClient::new(self.channel().await);
        let mut replies = client.counters(v1::CountersRequest { interval_ms: 0 }).await.unwrap().into_inner();
        replies.message().await.unwrap().unwrap()
    }

    /// One port's counters.
    pub(crate) async fn port(&self, name: &str) -> v1::PortCounters {
        self.counters().await.ports.into_iter().find(|port| port.port == name).unwrap()
    }

    /// The counters of a port once they are `wanted`: a reply may arrive before the worker has counted it.
    pub(crate) async fn port_when(
        &self,
        name: &str,
        wanted: impl Fn(&v1::PortCounters) -> bool,
    ) -> v1::PortCounters {
        let start = Instant::now();
        loop {
            let port = self.port(name).await;
            if wanted(&port) {
                return port;
            }
            assert!(start.elapsed() < PATIENCE, "the counters stay {port:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A FIB session.
    pub(crate) async fn session(&self) -> Session {
        let (requests, receiver) = mpsc::channel(16);
        let hello = fib_request::Request::Hello(v1::FibHello { client: "test".into() });
        requests.send(v1::FibRequest { request: Some(hello) }).await.unwrap();
        let mut client = FibClient::new(self.channel().await);
        let mut replies = client.program(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let welcome = replies.message().await.unwrap().unwrap();
        assert!(matches!(welcome.reply, Some(fib_reply::Reply::Welcome(_))));
        Session { requests, replies, sequence: 0 }
    }

    /// Gives a shadow what frr-bridge would: addresses, and up.
    pub(crate) fn dress_shadow(&self, port: &v1::PortState) {
        let name = &port.spec.as_ref().unwrap().name;
        self.run("router", &format!("sysctl -qw net.ipv6.conf.{name}.accept_dad=0"));
        for address in &port.addresses {
            self.run("router", &format!("ip addr add {address} dev {name}"));
        }
        self.run("router", &format!("ip link set {name} up"));
    }

    /// Waits until duplicate address detection has let the namespace's addresses be used.
    pub(crate) async fn addresses_usable(&self, namespace: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.run(namespace, "ip -6 addr show tentative").is_empty() {
            assert!(Instant::now() < deadline, "addresses in {namespace} stay tentative");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a shadow shows a carrier, or none; the kernel takes up to a second to say so.
    pub(crate) async fn carrier(&self, shadow: &str, on: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.run("router", &format!("ip link show {shadow}")).contains("NO-CARRIER") == on {
            assert!(Instant::now() < deadline, "{shadow}: carrier is not {on}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The MAC of a device.
    pub(crate) fn mac(&self, namespace: &str, device: &str) -> Vec<u8> {
        let text = self.run(namespace, &format!("cat /sys/class/net/{device}/address"));
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.kill();
        for namespace in &self.namespaces {
            // The one of the ports is not there when the process never came up.
            let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }
}

/// A FIB session.
pub(crate) struct Session {
    requests: mpsc::Sender<v1::FibRequest>,
    pub(crate) replies: Streaming<v1::FibReply>,
    sequence: u64,
}

impl Session {
    /// Programs a batch; the errors.
    pub(crate) async fn batch(&mut self, batch: v1::FibBatch) -> Vec<v1::FibError> {
        self.sequence += 1;
        let batch = v1::FibBatch { sequence: self.sequence, ..batch };
        self.send(fib_request::Request::Batch(batch)).await;
        match self.replies.message().await.unwrap().unwrap().reply {
            Some(fib_reply::Reply::Ack(ack)) => {
                assert_eq!(ack.sequence, self.sequence);
                ack.errors
            }
            other => panic!("{other:?}"),
        }
    }

    /// Programs a batch without errors.
    pub(crate) async fn batch_well(&mut self, batch: v1::FibBatch) {
        assert_eq!(self.batch(batch).await, vec![]);
    }

    /// Says that all is said.
    pub(crate) async fn synced(&mut self) -> v1::FibSwept {
        self.send(fib_request::Request::Synced(v1::FibSynced {})).await;
        match self.replies.message().await.unwrap().unwrap().reply {
            Some(fib_reply::Reply::Swept(swept)) => swept,
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self, request: fib_request::Request) {
        self.requests.send(v1::FibRequest { request: Some(request) }).await.unwrap();
    }
}

/// A netdev port.
pub(crate) fn netdev(name: &str, interface: &str, vrf: &str) -> v1::PortSpec {
    let kind = Some(port_spec::Kind::Netdev(v1::NetdevPort { interface: interface.into() }));
    v1::PortSpec { name: name.into(), kind, vrf: vrf.into(), ..Default::default() }
}

/// A TAP port.
pub(crate) fn tap(
    name: &str,
    interface: &str,
    netns: &str,
    vrf: &str,
    router: &[&str],
    host: &[&str],
) -> v1::PortSpec {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let kind = Some(port_spec::Kind::Tap(v1::TapPort {
        interface: interface.into(),
        netns: netns.into(),
        addresses: owned(host),
        mac: Bytes::new(),
        ..Default::default()
    }));
    v1::PortSpec { name: name.into(), kind, vrf: vrf.into(), addresses: owned(router), ..Default::default() }
}

/// A group with one path.
pub(crate) fn group(id: u32, kind: path::Kind) -> v1::NextHopGroup {
    v1::NextHopGroup { id, paths: vec![v1::Path { weight: 1, kind: Some(kind) }] }
}

/// A connected path.
pub(crate) fn connected(port: u32) -> path::Kind {
    path::Kind::Connected(v1::ConnectedPath { port })
}

/// An address as it travels.
pub(crate) fn bytes(address: &str) -> Bytes {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

/// A route, of either family, added to a batch.
pub(crate) fn route(batch: &mut v1::FibBatch, vrf: u32, prefix: &str, group: u32) {
    match prefix.parse().unwrap() {
        ipnet::IpNet::V4(net) => batch.routes4.push(v1::Route4 {
            vrf,
            address: net.network().to_bits(),
            length: net.prefix_len().into(),
            group,
        }),
        ipnet::IpNet::V6(net) => {
            let bits = net.network().to_bits();
            batch.routes6.push(v1::Route6 {
                vrf,
                high: u64::try_from(bits >> 64).unwrap(),
                low: u64::try_from(bits & u128::from(u64::MAX)).unwrap(),
                length: net.prefix_len().into(),
                group,
            });
        }
    }
}

/// A neighbour.
pub(crate) fn neighbor(port: u32, address: &str, mac: &[u8]) -> v1::Neighbor {
    v1::Neighbor { port, address: bytes(address), mac: Bytes::copy_from_slice(mac) }
}

/// Runs a command that must succeed; its output.
pub(crate) fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
