//! The PE that the engine is: a real pe-dataplane, told over gRPC what pe-controller and frr-bridge would tell it.

use std::{
    fs::File,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use dataplane_api::connect;
use dataplane_api::v1::fib_client::FibClient;
use dataplane_api::v1::topology_client::TopologyClient;
use dataplane_api::v1::{self, fib_reply, fib_request, path, port_spec};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::frames::{ACCESS_MAC, FABRIC_MAC, HOST, HOST_MAC, REMOTE_HOST_MAC, REMOTE_ROUTER_MAC, Service};
use super::lab::{self, ACCESS, FABRIC, MTU, UNDER, UNDER_MTU};
use crate::traffic::{L2VNI, OUR_ROUTER_MAC, OUR_VTEP, VNI, remote_vtep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the host is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// By the veth `access`.
    Veth,
    /// By a TAP in its namespace, `eth1`: what a host session is.
    Tap,
}

/// A running pe-dataplane. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    process: Child,
    _folder: tempfile::TempDir,
    /// Its FIB stays while the session does, at the latest.
    _session: Session,
    /// The name of the driver behind the port `under`.
    pub(crate) driver: String,
    /// The MAC of that port.
    pub(crate) under_mac: [u8; 6],
    _runtime: Runtime,
}

impl Node {
    /// Starts it in the namespaces of a lab and programs it. `backend` is what carries Linux interfaces, in pe-dataplane's words.
    ///
    /// # Errors
    /// When it does not start, or an object is refused.
    pub(crate) fn start(service: Service, access: Access, backend: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("dataplane.sock");
        let log = folder.path().join("log");
        let mut process = launch(&socket, &log, backend)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let programmed = runtime.block_on(async {
            let channel = reach(&socket, &mut process).await?;
            program(channel, service, access).await
        });
        match programmed {
            Ok((session, under)) => Ok(Self {
                process,
                _folder: folder,
                _session: session,
                driver: under.driver.clone(),
                under_mac: under.mac.as_ref().try_into().context("a MAC has six bytes")?,
                _runtime: runtime,
            }),
            Err(error) => {
                end(&mut process);
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                Err(error.context(format!("pe-dataplane says:\n{log}")))
            }
        }
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn end(process: &mut Child) {
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
}

/// pe-dataplane as it was built together with this program.
fn program_path() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name("pe-dataplane");
    ensure!(path.exists(), "{} is not built; `make bench` builds it", path.display());
    Ok(path)
}

fn launch(socket: &Path, log: &Path, backend: &str) -> anyhow::Result<Child> {
    let log = File::create(log)?;
    // Ends with this program, however that ends.
    let process = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(program_path()?)
        .arg("--socket")
        .arg(socket)
        .arg("--host-netns")
        .arg(lab::path("pe"))
        .arg("--router-netns")
        .arg(lab::path("router"))
        .arg("--ports-netns")
        .arg(lab::path("ports"))
        .args(["--workers", "1", "--netdev-backend", backend])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot run setpriv")?;
    Ok(process)
}

async fn reach(socket: &Path, process: &mut Child) -> anyhow::Result<Channel> {
    let start = Instant::now();
    loop {
        match connect(socket).await {
            Ok(channel) => return Ok(channel),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(error).context("pe-dataplane does not serve");
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
        if let Some(status) = process.try_wait()? {
            bail!("pe-dataplane ended: {status}");
        }
    }
}

/// The topology, then the FIB. Returns the session and the state of the port `under`.
async fn program(
    channel: Channel,
    service: Service,
    access: Access,
) -> anyhow::Result<(Session, v1::PortState)> {
    let mut topology = TopologyClient::new(channel.clone());
    let request = v1::ApplyRequest { spec: Some(topology_of(service, access)) };
    for result in topology.apply(request).await?.into_inner().results {
        ensure!(result.error.is_empty(), "{} {}: {}", result.kind, result.name, result.error);
    }
    let mut states = topology.watch(v1::WatchRequest {}).await?.into_inner();
    let state = states.message().await?.context("no state")?;
    let port = |name: &str| {
        let named = |port: &&v1::PortState| port.spec.as_ref().is_some_and(|spec| spec.name == name);
        state.ports.iter().find(named).with_context(|| format!("there is no port {name}"))
    };
    let vrf = |name: &str| {
        let named = |vrf: &&v1::VrfState| vrf.spec.as_ref().is_some_and(|spec| spec.name == name);
        state.vrfs.iter().find(named).map(|vrf| vrf.id).with_context(|| format!("there is no VRF {name}"))
    };
    let under = port("under")?.clone();
    let mut batch = v1::FibBatch {
        groups: vec![group(
            1,
            path::Kind::Adjacent(v1::AdjacentPath { port: under.id, address: address(FABRIC) }),
        )],
        neighbors: vec![v1::Neighbor {
            port: under.id,
            address: address(FABRIC),
            mac: FABRIC_MAC.to_vec().into(),
        }],
        routes4: vec![route(0, remote_vtep(0), 24, 1)],
        ..v1::FibBatch::default()
    };
    match service {
        Service::L3 => {
            let (red, access_port) = (vrf("red")?, port("access")?.id);
            let vxlan = v1::VxlanPath {
                vni: VNI,
                vtep: octets(remote_vtep(0)),
                router_mac: REMOTE_ROUTER_MAC.to_vec().into(),
            };
            batch.groups.push(group(2, path::Kind::Vxlan(vxlan)));
            batch.groups.push(group(3, path::Kind::Connected(v1::ConnectedPath { port: access_port })));
            batch.routes4.push(route(red, Ipv4Addr::new(10, 2, 0, 0), 16, 2));
            batch.routes4.push(route(red, Ipv4Addr::new(198, 18, 0, 0), 24, 3));
            batch.neighbors.push(v1::Neighbor {
                port: access_port,
                address: octets(HOST),
                mac: HOST_MAC.to_vec().into(),
            });
        }
        Service::L2 => batch.macs.push(v1::MacEntry {
            vni: L2VNI,
            mac: REMOTE_HOST_MAC.to_vec().into(),
            vtep: octets(remote_vtep(0)),
            sticky: false,
        }),
    }
    let mut session = Session::open(channel).await?;
    session.program(batch).await?;
    Ok((session, under))
}

fn topology_of(service: Service, access: Access) -> v1::TopologySpec {
    let netdev = |name: &str| v1::PortSpec {
        name: name.to_owned(),
        kind: Some(port_spec::Kind::Netdev(v1::NetdevPort { interface: name.to_owned() })),
        ..v1::PortSpec::default()
    };
    let under = v1::PortSpec { mtu: UNDER_MTU, addresses: vec![format!("{UNDER}/24")], ..netdev("under") };
    let mut host = match access {
        Access::Veth => netdev("access"),
        Access::Tap => v1::PortSpec {
            name: "access".into(),
            kind: Some(port_spec::Kind::Tap(v1::TapPort {
                interface: "eth1".into(),
                netns: lab::path("host").to_string_lossy().into_owned(),
                addresses: vec![format!("{HOST}/24")],
                mac: HOST_MAC.to_vec().into(),
                ..v1::TapPort::default()
            })),
            mtu: MTU,
            mac: ACCESS_MAC.to_vec().into(),
            ..v1::PortSpec::default()
        },
    };
    let mut spec = v1::TopologySpec {
        vrfs: vec![v1::VrfSpec { name: "red".into() }],
        vtep_addresses: vec![octets(OUR_VTEP)],
        ..v1::TopologySpec::default()
    };
    match service {
        Service::L3 => {
            host.vrf = "red".into();
            host.addresses = vec![format!("{ACCESS}/24")];
            spec.l3vnis = vec![v1::L3VniSpec {
                vni: VNI,
                vrf: "red".into(),
                vtep_address: octets(OUR_VTEP),
                udp_port: 0,
                router_mac: OUR_ROUTER_MAC.to_vec().into(),
            }];
        }
        Service::L2 => {
            host.bridge = Some(v1::BridgePortSpec { l2vni: L2VNI, ..v1::BridgePortSpec::default() });
            spec.l2vnis = vec![v1::L2VniSpec {
                vni: L2VNI,
                vtep_address: octets(OUR_VTEP),
                mac: OUR_ROUTER_MAC.to_vec().into(),
                ..v1::L2VniSpec::default()
            }];
        }
    }
    spec.ports = vec![under, host];
    spec
}

/// A FIB session.
#[derive(Debug)]
struct Session {
    requests: mpsc::Sender<v1::FibRequest>,
    replies: Streaming<v1::FibReply>,
}

impl Session {
    async fn open(channel: Channel) -> anyhow::Result<Self> {
        let (requests, receiver) = mpsc::channel(4);
        let hello = fib_request::Request::Hello(v1::FibHello { client: "pe-bench".into() });
        requests.send(v1::FibRequest { request: Some(hello) }).await?;
        let mut replies = FibClient::new(channel).program(ReceiverStream::new(receiver)).await?.into_inner();
        let welcome = replies.message().await?.and_then(|reply| reply.reply);
        ensure!(matches!(welcome, Some(fib_reply::Reply::Welcome(_))), "the FIB does not say welcome");
        Ok(Self { requests, replies })
    }

    async fn program(&mut self, batch: v1::FibBatch) -> anyhow::Result<()> {
        let request = Some(fib_request::Request::Batch(v1::FibBatch { sequence: 1, ..batch }));
        self.requests.send(v1::FibRequest { request }).await?;
        match self.replies.message().await?.and_then(|reply| reply.reply) {
            Some(fib_reply::Reply::Ack(ack)) if ack.errors.is_empty() => Ok(()),
            other => bail!("the FIB was not programmed: {other:?}"),
        }
    }
}

fn group(id: u32, kind: path::Kind) -> v1::NextHopGroup {
    v1::NextHopGroup { id, paths: vec![v1::Path { weight: 1, kind: Some(kind) }] }
}

fn route(vrf: u32, address: Ipv4Addr, length: u32, group: u32) -> v1::Route4 {
    v1::Route4 { vrf, address: address.to_bits(), length, group }
}

fn octets(address: Ipv4Addr) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&address.octets())
}

fn address(text: &str) -> bytes::Bytes {
    // Only constants of the lab come here.
    text.parse().map(octets).unwrap_or_default()
}
