//! TAP ports in bridges of the host: the kernel's, and those of a real Open vSwitch. Takes root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::{PATIENCE, Rig, group, is_root, route, shell, tap};
use dataplane_api::v1::{self, host_bridge, path, port_spec};

fn bridged(port: v1::PortSpec, bridge: Option<v1::HostBridge>) -> v1::PortSpec {
    let Some(port_spec::Kind::Tap(tap)) = port.kind else { panic!("{port:?} is no TAP") };
    v1::PortSpec { kind: Some(port_spec::Kind::Tap(v1::TapPort { bridge, ..tap })), ..port }
}

fn linux(name: &str, managed: bool) -> Option<v1::HostBridge> {
    let kind = host_bridge::Kind::Linux.into();
    Some(v1::HostBridge { kind, name: name.into(), managed, ovsdb: String::new() })
}

fn spec(ports: Vec<v1::PortSpec>) -> v1::TopologySpec {
    v1::TopologySpec { ports, ..Default::default() }
}

fn error_of(state: &v1::TopologyState, name: &str) -> String {
    state.ports.iter().find(|port| port.spec.as_ref().unwrap().name == name).unwrap().error.clone()
}

impl Rig {
    /// Waits until a command's output in a namespace is as wanted.
    async fn until(&self, namespace: &str, command: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.run(namespace, command);
            if wanted(&output) {
                return;
            }
            assert!(Instant::now() < deadline, "{command}: {output}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bridges_of_the_kernel() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    rig.namespace("tenant");
    let tenant = rig.netns_path("tenant");
    let access = |name: &str, host: &str| tap(name, host, &tenant, "", &[], &[]);
    let links = "ip -d -o link";
    let inside = |bridge: &'static str, tap: &'static str| {
        move |links: &str| {
            links.lines().any(|line| {
                line.contains(&format!(" {tap}: ")) && line.contains(&format!("master {bridge} "))
            })
        }
    };

    // An external bridge is waited for, and the port works meanwhile.
    let one = bridged(access("pa", "ta"), linux("br-tenant", false));
    let results = rig.apply(spec(vec![one.clone()])).await.results;
    assert!(results[0].retrying, "{results:?}");
    assert_eq!(results[0].error, format!("bridge br-tenant does not exist in namespace {tenant}"));
    let state = rig.state().await;
    assert_eq!(state.ports[0].health(), v1::Health::Up);
    let id = state.ports[0].id;
    rig.run("tenant", "ip link add br-tenant type bridge");
    rig.state_when(|state| error_of(state, "pa").is_empty()).await;
    rig.until("tenant", links, inside("br-tenant", "ta")).await;
    // What others undo is redone.
    rig.run("tenant", "ip link set ta nomaster");
    rig.until("tenant", links, inside("br-tenant", "ta")).await;
    rig.run("tenant", "ip link del br-tenant");
    rig.state_when(|state| error_of(state, "pa").contains("does not exist")).await;
    rig.run("tenant", "ip link add br-tenant type bridge");
    rig.until("tenant", links, inside("br-tenant", "ta")).await;

    // Managed ones are made, and others' are not taken over.
    let two = bridged(access("pb", "tb"), linux("br-own", true));
    let three = bridged(access("pc", "tc"), linux("br-tenant", true));
    let results = rig.apply(spec(vec![one.clone(), two.clone(), three])).await.results;
    assert_eq!(results[1].error, "");
    assert!(results[2].error.contains("not ours") && results[2].retrying, "{results:?}");
    rig.until("tenant", links, inside("br-own", "tb")).await;
    rig.until("tenant", "ip -o link show br-own", |link| link.contains("UP")).await;
    assert!(!rig.run("tenant", links).contains("openpe-new"));

    // A bridge that changes moves the TAP, and the port stays what it is.
    let moved = bridged(access("pa", "ta"), linux("br-own", true));
    let state = rig.apply_well(spec(vec![moved.clone(), two.clone()])).await;
    assert_eq!(state.ports[0].id, id);
    rig.until("tenant", links, inside("br-own", "ta")).await;
    // None: taken out, and then left to others.
    rig.apply_well(spec(vec![access("pa", "ta"), two.clone()])).await;
    rig.until("tenant", links, |links| !inside("br-own", "ta")(links)).await;
    rig.run("tenant", "ip link set ta master br-tenant");
    rig.apply_well(spec(vec![access("pa", "ta"), two.clone(), access("pd", "td")])).await;
    assert!(inside("br-tenant", "ta")(&rig.run("tenant", links)));

    // Another process puts its TAPs where they belong, and removes bridges that nobody wants.
    rig.kill();
    rig.run("tenant", "ip link del tb");
    rig.launch().await;
    rig.apply_well(spec(vec![moved.clone(), two])).await;
    rig.until("tenant", links, inside("br-own", "tb")).await;
    rig.until("tenant", links, inside("br-own", "ta")).await;
    rig.apply_well(spec(vec![moved])).await;
    assert!(rig.run("tenant", links).contains(" br-own: "), "it has a member still");
    rig.kill();
    rig.launch().await;
    rig.apply_well(spec(vec![access("pa", "ta")])).await;
    rig.until("tenant", links, |links| !links.contains(" br-own: ") && links.contains(" br-tenant: ")).await;
    rig.apply_well(spec(vec![])).await;
}

/// A real Open vSwitch with a datapath in user space, in a folder and a namespace of its own.
struct Ovs {
    folder: PathBuf,
    namespace: String,
    server: Option<Child>,
    switch: Option<Child>,
}

impl Ovs {
    fn start(folder: &Path, namespace: &str) -> Self {
        let database = folder.join("conf.db");
        shell(&format!("ovsdb-tool create {} /usr/share/openvswitch/vswitch.ovsschema", database.display()));
        let mut ovs =
            Self { folder: folder.to_owned(), namespace: namespace.into(), server: None, switch: None };
        ovs.start_server();
        ovs.vsctl("--no-wait init");
        let switch = ovs.program("ovs-vswitchd", &[&format!("unix:{}", ovs.socket()), "--disable-system"]);
        ovs.switch = Some(switch);
        // It has taken over when this returns.
        ovs.vsctl("--timeout=20 get Open_vSwitch . ovs_version");
        ovs
    }

    fn start_server(&mut self) {
        let database = self.folder.join("conf.db");
        let server = self.program(
            "ovsdb-server",
            &[&database.display().to_string(), &format!("--remote=punix:{}", self.socket())],
        );
        self.server = Some(server);
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "ovsdb-server does not serve");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Child {
        let log = std::fs::File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let control = format!("--unixctl={}", self.folder.join(format!("{name}.ctl")).display());
        Command::new("ip")
            .args(["netns", "exec", &self.namespace, name, &control, "--no-chdir"])
            .args(arguments)
            .env("OVS_RUNDIR", &self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn socket(&self) -> String {
        self.folder.join("db.sock").display().to_string()
    }

    fn vsctl(&self, command: &str) -> String {
        shell(&format!("ovs-vsctl --db=unix:{} {command}", self.socket()))
    }

    async fn until(&self, command: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.vsctl(command);
            if wanted(&output) {
                return;
            }
            assert!(Instant::now() < deadline, "{command}: {output}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn bridge(&self, name: &str, managed: bool) -> Option<v1::HostBridge> {
        let kind = host_bridge::Kind::Ovs.into();
        Some(v1::HostBridge { kind, name: name.into(), managed, ovsdb: self.socket() })
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for mut child in [self.switch.take(), self.server.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bridges_of_open_vswitch() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    rig.namespace("tenant");
    let tenant = rig.netns_path("tenant");
    let folder = tempfile::tempdir().unwrap();
    let mut ovs = Ovs::start(folder.path(), &rig.netns("tenant"));
    let access = |name: &str, host: &str, address: &str| tap(name, host, &tenant, "", &[address], &[]);

    // External: waited for, then packets pass through its datapath.
    let one = bridged(access("pa", "ta", "10.1.0.1/24"), ovs.bridge("br-ext", false));
    let results = rig.apply(spec(vec![one.clone()])).await.results;
    assert_eq!(
        (results[0].error.as_str(), results[0].retrying),
        ("bridge br-ext does not exist in Open vSwitch", true)
    );
    ovs.vsctl("add-br br-ext -- set bridge br-ext datapath_type=netdev");
    let state = rig.state_when(|state| error_of(state, "pa").is_empty()).await;
    ovs.until("list-ports br-ext", |ports| ports == "ta\n").await;
    rig.run("tenant", "ip addr add 10.1.0.10/24 dev br-ext");
    rig.run("tenant", "ip link set br-ext up");
    rig.dress_shadow(&state.ports[0]);
    let mut session = rig.session().await;
    let mut batch =
        v1::FibBatch { groups: vec![group(1, path::Kind::Local(v1::LocalPath {}))], ..Default::default() };
    route(&mut batch, 0, "10.0.0.0/8", 1);
    session.batch_well(batch).await;
    assert!(rig.pings("tenant", "10.1.0.1", ""), "{:#?}", rig.counters().await);

    // What others undo is redone.
    ovs.vsctl("--no-wait del-port br-ext ta");
    ovs.until("list-ports br-ext", |ports| ports == "ta\n").await;

    // Managed: made and marked; a bridge of others is not taken over.
    let two = bridged(access("pb", "tb", "10.2.0.1/24"), ovs.bridge("br-own", true));
    let three = bridged(access("pc", "tc", "10.3.0.1/24"), ovs.bridge("br-ext", true));
    let results = rig.apply(spec(vec![two.clone(), three])).await.results;
    assert!(results[1].error.contains("not ours"), "{results:?}");
    ovs.until("list-ports br-own", |ports| ports == "tb\n").await;
    assert!(ovs.vsctl("get bridge br-own external_ids").contains("created-by=openpe"));
    assert!(ovs.vsctl("get port tb external_ids").contains("created-by=openpe"));
    assert_eq!(ovs.vsctl("list-ports br-ext"), "", "the port that nobody wants is gone");

    // From one bridge to the other; what somebody else put there stays his.
    rig.run("tenant", "ip link add mine type veth peer name other");
    ovs.vsctl("--no-wait add-port br-ext mine");
    let moved = bridged(access("pb", "tb", "10.2.0.1/24"), ovs.bridge("br-ext", false));
    rig.apply_well(spec(vec![moved.clone()])).await;
    ovs.until("list-ports br-ext", |ports| ports == "mine\ntb\n").await;
    assert_eq!(ovs.vsctl("list-br"), "br-ext\n", "the managed bridge goes with its last port");

    // The server goes away and returns.
    rig.apply_well(spec(vec![two.clone()])).await;
    ovs.stop_server();
    rig.state_when(|state| error_of(state, "pb").contains("does not answer")).await;
    ovs.start_server();
    rig.state_when(|state| error_of(state, "pb").is_empty()).await;
    ovs.vsctl("--no-wait del-br br-own");
    ovs.until("list-br", |bridges| bridges == "br-ext\nbr-own\n").await;
    ovs.until("list-ports br-own", |ports| ports == "tb\n").await;

    // Another process removes what only the first one's topology wanted.
    rig.kill();
    rig.launch().await;
    rig.apply_well(spec(vec![moved])).await;
    ovs.until("list-br", |bridges| bridges == "br-ext\n").await;
    ovs.until("list-ports br-ext", |ports| ports == "mine\ntb\n").await;
    rig.apply_well(spec(vec![])).await;
    ovs.until("list-ports br-ext", |ports| ports == "mine\n").await;
}
