//! The daemon as it runs: real files, a real FRR, and a stand-in for the dataplane that records what it is asked.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use dataplane_api::v1::topology_server::{Topology, TopologyServer};
use dataplane_api::v1::{
    ApplyRequest, ApplyResponse, ObjectResult, TopologySpec, TopologyState, WatchRequest,
};
use futures::stream::BoxStream;
use support::{TestFrr, available, wait_for};
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::{Request, Response, Status};

/// Records every topology. It cannot make ports named `missing`.
#[derive(Clone)]
struct StandIn {
    applied: Arc<Mutex<Vec<TopologySpec>>>,
    state: Arc<watch::Sender<TopologyState>>,
    frr_config: PathBuf,
}

#[tonic::async_trait]
impl Topology for StandIn {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let spec = request.into_inner().spec.unwrap_or_default();
        // FRR first: what a VNI needs is in its file by now.
        let config = fs::read_to_string(&self.frr_config).unwrap_or_default();
        for vni in &spec.l3vnis {
            assert!(config.contains(&format!(" vni {}\n", vni.vni)), "{config}");
        }
        let results = spec
            .ports
            .iter()
            .map(|port| ObjectResult {
                kind: "port".to_owned(),
                name: port.name.clone(),
                error: if port.name == "missing" { "no such device".to_owned() } else { String::new() },
                retrying: true,
            })
            .collect();
        self.applied.lock().unwrap().push(spec);
        let generation = self.state.borrow().generation + 1;
        Ok(Response::new(ApplyResponse { generation, results }))
    }

    type WatchStream = BoxStream<'static, Result<TopologyState, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let states = WatchStream::new(self.state.subscribe());
        Ok(Response::new(Box::pin(futures::StreamExt::map(states, Ok))))
    }
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const UNDERLAY: &str = "
underlays:
- asn: 64514
  tunnelEndpoint: {cidrs: [100.65.0.0/24]}
  interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: missing}}]
  neighbors: [{asn: 64512, address: 192.168.11.2}]
";

/// A node: its files, its FRR, the stand-in, and the daemon between them.
struct Node {
    // Ends before its files do.
    daemon: Daemon,
    home: tempfile::TempDir,
    stand_in: StandIn,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    /// Starts the daemon over `files`.
    fn start(frr: &TestFrr, files: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(home.path().join("configs")).unwrap();
        for (name, text) in files {
            fs::write(home.path().join("configs").join(name), text).unwrap();
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let socket = home.path().join("dataplane.sock");
        let stand_in = StandIn {
            applied: Arc::default(),
            state: Arc::new(watch::Sender::new(TopologyState { instance: 1, ..TopologyState::default() })),
            frr_config: frr.config(),
        };
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(&socket).unwrap() });
        let service = TopologyServer::new(stand_in.clone());
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        let daemon = Command::new(env!("CARGO_BIN_EXE_pe-controller"))
            .arg("static")
            .args(["--frr-pathspace", &frr.name])
            .args([Path::new("--config-dir"), home.path(), Path::new("--dataplane"), &socket])
            .args([Path::new("--frr-config"), &frr.config()])
            .args([Path::new("--status-file"), &home.path().join("status.json")])
            .spawn()
            .unwrap();
        Self { daemon: Daemon(daemon), home, stand_in, _runtime: runtime }
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.home.path().join("configs").join(name), text).unwrap();
    }

    fn identify(&self) {
        fs::write(self.home.path().join("node-config.yaml"), "nodeIndex: {index: 1}\n").unwrap();
    }

    fn status(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.home.path().join("status.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Waits until the object of that name has failed with these words.
    fn wait_for_failure(&self, object: &str, message: &str) {
        wait_for(message, || {
            let status = self.status();
            let failed = status["failedResources"].as_array().cloned().unwrap_or_default();
            failed
                .iter()
                .any(|failure| failure["name"] == object && failure["message"].to_string().contains(message))
        });
    }

    fn applied(&self) -> Vec<TopologySpec> {
        self.stand_in.applied.lock().unwrap().clone()
    }

    /// VNIs of the L3VNIs that were applied last.
    fn vnis(&self) -> Option<Vec<u32>> {
        self.applied().last().map(|spec| spec.l3vnis.iter().map(|vni| vni.vni).collect())
    }

    /// VNIs of the L2VNIs that were applied last.
    fn bridges(&self) -> Option<Vec<u32>> {
        self.applied().last().map(|spec| spec.l2vnis.iter().map(|vni| vni.vni).collect())
    }
}

#[test]
fn files_reach_frr_and_then_the_dataplane() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("static");
    let red = "l3vnis: [{name: red, vrf: red, vni: 100}]\n";
    let mut node = Node::start(&frr, &[("openpe_underlay.yaml", UNDERLAY), ("openpe_red.yaml", red)]);

    // Without node-config.yaml nothing is known of the node, and nothing is done.
    wait_for("status", || node.status()["failedResources"].to_string().contains("node-config.yaml"));
    assert_eq!(node.applied(), []);
    node.identify();
    wait_for("topology", || node.vnis() == Some(vec![100]));
    wait_for("status of the missing port", || {
        let failed = &node.status()["failedResources"];
        failed[0]["kind"] == "Underlay" && failed[0]["message"].to_string().contains("no such device")
    });

    // Another object, another topology; what is bad is named, and stops nothing.
    node.file(
        "openpe_blue.yaml",
        "l3vnis:\n- {name: blue, vrf: blue, vni: 200}\n- {name: bad, vrf: red, vni: 300}\n",
    );
    wait_for("second VNI", || node.vnis() == Some(vec![200, 100]));
    wait_for("conflict", || node.status()["failedResources"].to_string().contains("L3VNI red already"));
    node.file("openpe_blue.yaml", "l3vnis: [{name: blue, vrf: blue, vni: 200}]\n");
    wait_for("both VNIs", || node.vnis() == Some(vec![200, 100]));

    // A file that cannot be read keeps its objects, and the same content again changes nothing.
    let count = node.applied().len();
    node.file("openpe_blue.yaml", "l3vnis: [{name: blue, vrf:\n");
    wait_for("complaint", || node.status()["failedResources"].to_string().contains("not valid YAML"));
    assert_eq!(node.vnis(), Some(vec![200, 100]));
    node.file("openpe_blue.yaml", "l3vnis: [{name: blue, vrf: blue, vni: 200}]\n");
    wait_for("no complaint", || !node.status().to_string().contains("not valid YAML"));
    assert_eq!(node.applied().len(), count);

    // A dataplane that started anew has nothing: it gets everything again.
    node.stand_in.state.send_modify(|state| state.instance = 2);
    wait_for("topology of the new instance", || node.applied().len() == count + 1);

    // An FRR that started anew has nothing either.
    frr.kill_daemon("bgpd");
    frr.start_daemon("bgpd");
    wait_for("configuration of the new bgpd", || {
        frr.vtysh("show running-config").contains("router bgp 64514 vrf blue")
    });
    assert_eq!(frr.pending_changes(), "");
    assert_eq!(node.applied().len(), count + 1);

    // It ends politely, and what is in force stays.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(node.daemon.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(node.daemon.0.wait().unwrap().success());
    assert!(frr.vtysh("show running-config").contains("vni 200"));
}

/// All kinds of object, those that an FRR of this release cannot carry among them.
#[test]
fn every_kind_reaches_the_dataplane() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("kinds");
    let underlay = UNDERLAY.replace("100.65.0.0/24", "100.65.0.0/24, 'fd00:64::/120'");
    let layer2 = "l2vnis:\n- {name: layer2, vni: 110, routingDomain: {type: L3VNI, l3vni: {name: red}}, \
                  gatewayIPs: [192.171.24.1/24]}\n";
    let red = "l3vnis: [{name: red, vrf: red, vni: 100}]\n";
    let node = Node::start(
        &frr,
        &[("openpe_underlay.yaml", &underlay), ("openpe_red.yaml", red), ("openpe_l2.yaml", layer2)],
    );
    node.identify();
    wait_for("bridge domain", || node.bridges() == Some(vec![110]));
    let running = || frr.vtysh("show running-config");
    assert!(running().contains("network 192.171.24.0/24"));

    // Another one takes its VNI at no price, and one on an IPv6 VTEP is possible where FRR says it is.
    node.file(
        "openpe_more.yaml",
        "l2vnis:\n- {name: alpha, vni: 110}\n- {name: six, vni: 120, underlayAddressFamily: IPv6}\n\
         bgppassthrough: {hostSession: {asn: 64514, hostASN: 64515, localCIDR: {ipv4: 192.169.20.0/24}}}\n",
    );
    let has_passthrough =
        || node.applied().last().is_some_and(|spec| spec.ports.iter().any(|port| port.name == "pt-ns"));
    wait_for("passthrough", has_passthrough);
    node.wait_for_failure("alpha", "110 is used by L2VNI layer2 already");
    let version = frr.version();
    let carries_ipv6 = version.starts_with("10.7");
    if carries_ipv6 {
        assert_eq!(node.bridges(), Some(vec![110, 120]));
    } else {
        node.wait_for_failure("six", &format!("runs FRR {version}"));
        assert_eq!(node.bridges(), Some(vec![110]));
    }
    assert!(running().contains("neighbor 192.169.20.3 remote-as 64515"));

    // What is removed leaves nothing behind.
    fs::remove_file(node.home.path().join("configs/openpe_more.yaml")).unwrap();
    fs::remove_file(node.home.path().join("configs/openpe_l2.yaml")).unwrap();
    wait_for("removal", || node.bridges() == Some(vec![]) && !has_passthrough());
    let running = running();
    assert!(!running.contains("192.171.24") && !running.contains("192.169.20"), "{running}");
    assert_eq!(node.vnis(), Some(vec![100]));
}

/// Whether FRR carries IPv6 VTEPs is known once it runs. Before nothing is decided, and nothing taken away.
#[test]
fn an_ipv6_vtep_waits_for_frr() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("wait");
    let daemons = ["staticd", "bfdd", "bgpd", "zebra"];
    for daemon in daemons {
        frr.kill_daemon(daemon);
    }
    let underlay = UNDERLAY.replace("100.65.0.0/24", "100.65.0.0/24, 'fd00:64::/120'");
    let vnis = "l3vnis:\n- {name: red, vrf: red, vni: 100}\n\
                - {name: six, vrf: six, vni: 600, underlayAddressFamily: IPv6}\n";
    let node = Node::start(&frr, &[("openpe_underlay.yaml", &underlay), ("openpe_vnis.yaml", vnis)]);
    node.identify();
    node.wait_for_failure("six", "not known before FRR runs");
    assert!(node.status()["frr"]["error"].to_string().contains("FRR's version"), "{}", node.status());
    assert_eq!(node.applied(), []);

    for daemon in daemons.into_iter().rev() {
        frr.start_daemon(daemon);
    }
    wait_for("topology", || !node.applied().is_empty());
    let version = frr.version();
    if version.starts_with("10.7") {
        assert_eq!(node.vnis(), Some(vec![100, 600]));
    } else {
        node.wait_for_failure("six", &format!("needs FRR 10.7 or later, and this node runs FRR {version}"));
        assert_eq!(node.vnis(), Some(vec![100]));
    }
}
