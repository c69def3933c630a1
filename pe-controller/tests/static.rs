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

fn status(path: &Path) -> serde_json::Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

const UNDERLAY: &str = "
underlays:
- asn: 64514
  tunnelEndpoint: {cidrs: [100.65.0.0/24]}
  interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: missing}}]
  neighbors: [{asn: 64512, address: 192.168.11.2}]
";

#[test]
fn files_reach_frr_and_then_the_dataplane() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("static");
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let configs = home.path().join("configs");
    fs::create_dir(&configs).unwrap();
    let file = |name: &str, text: &str| fs::write(configs.join(name), text).unwrap();
    file("openpe_underlay.yaml", UNDERLAY);
    file("openpe_red.yaml", "l3vnis: [{name: red, vrf: red, vni: 100}]\n");

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
    let applied = || stand_in.applied.lock().unwrap().clone();
    let vnis = || applied().last().map(|spec| spec.l3vnis.iter().map(|vni| vni.vni).collect::<Vec<_>>());

    let status_file = home.path().join("status.json");
    let mut daemon = Daemon(
        Command::new(env!("CARGO_BIN_EXE_pe-controller"))
            .arg("static")
            .args(["--frr-pathspace", &frr.name])
            .args([Path::new("--config-dir"), home.path(), Path::new("--dataplane"), &socket])
            .args([Path::new("--frr-config"), &frr.config(), Path::new("--status-file"), &status_file])
            .spawn()
            .unwrap(),
    );

    // Without node-config.yaml nothing is known of the node, and nothing is done.
    wait_for("status", || status(&status_file)["failedResources"].to_string().contains("node-config.yaml"));
    assert_eq!(applied(), []);
    fs::write(home.path().join("node-config.yaml"), "nodeIndex: {index: 1}\n").unwrap();
    wait_for("topology", || vnis() == Some(vec![100]));
    wait_for("status of the missing port", || {
        let failed = &status(&status_file)["failedResources"];
        failed[0]["kind"] == "Underlay" && failed[0]["message"].to_string().contains("no such device")
    });

    // Another object, another topology; what is bad is named, and stops nothing.
    file(
        "openpe_blue.yaml",
        "l3vnis:\n- {name: blue, vrf: blue, vni: 200}\n- {name: bad, vrf: red, vni: 300}\n",
    );
    wait_for("second VNI", || vnis() == Some(vec![200, 100]));
    wait_for("conflict", || {
        status(&status_file)["failedResources"].to_string().contains("L3VNI red already")
    });
    file("openpe_blue.yaml", "l3vnis: [{name: blue, vrf: blue, vni: 200}]\n");
    wait_for("both VNIs", || vnis() == Some(vec![200, 100]));

    // A file that cannot be read keeps its objects, and the same content again changes nothing.
    let count = applied().len();
    file("openpe_blue.yaml", "l3vnis: [{name: blue, vrf:\n");
    wait_for("complaint", || status(&status_file)["failedResources"].to_string().contains("not valid YAML"));
    assert_eq!(vnis(), Some(vec![200, 100]));
    file("openpe_blue.yaml", "l3vnis: [{name: blue, vrf: blue, vni: 200}]\n");
    wait_for("no complaint", || !status(&status_file).to_string().contains("not valid YAML"));
    assert_eq!(applied().len(), count);

    // A dataplane that started anew has nothing: it gets everything again.
    stand_in.state.send_modify(|state| state.instance = 2);
    wait_for("topology of the new instance", || applied().len() == count + 1);

    // An FRR that started anew has nothing either.
    frr.kill_daemon("bgpd");
    frr.start_daemon("bgpd");
    wait_for("configuration of the new bgpd", || {
        frr.vtysh("show running-config").contains("router bgp 64514 vrf blue")
    });
    assert_eq!(frr.pending_changes(), "");
    assert_eq!(applied().len(), count + 1);

    // It ends politely, and what is in force stays.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
    assert!(frr.vtysh("show running-config").contains("vni 200"));
}
