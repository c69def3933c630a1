//! A stand-in for pe-dataplane: it forwards nothing, but keeps the promises of the interface about sessions, and shows
//! its FIB as text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use dataplane_api::v1::fib_reply::Reply;
use dataplane_api::v1::fib_request::Request as FibPart;
use dataplane_api::v1::fib_server::{Fib, FibServer};
use dataplane_api::v1::topology_server::{Topology, TopologyServer};
use dataplane_api::v1::{
    ApplyRequest, ApplyResponse, FibAck, FibBatch, FibReply, FibRequest, FibSwept, FibWelcome, LearnedMac,
    LearnedNeighbor, LearnedRequest, LearnedUpdate, TopologyState, WatchRequest, path,
};
use futures::{Stream, StreamExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream, UnixListenerStream, WatchStream};
use tonic::{Request, Response, Status, Streaming};

/// What it holds.
#[derive(Debug, Default)]
pub(crate) struct State {
    instance: u64,
    session: u64,
    groups: BTreeMap<u32, String>,
    /// Prefix to paths and the session that stated it last.
    routes: BTreeMap<String, (String, u32, u64)>,
    neighbors: BTreeMap<String, (String, u64)>,
    /// VNI and MAC to VTEP and the session that stated it last.
    macs: BTreeMap<(u32, Vec<u8>), (String, u64)>,
    floods: BTreeMap<u32, (String, u64)>,
    /// What it has learned: VNI and MAC to port, VNI and address to MAC.
    local_macs: BTreeMap<(u32, Vec<u8>), u32>,
    local_neighbors: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
    learners: Vec<mpsc::UnboundedSender<Result<LearnedUpdate, Status>>>,
    /// MAC messages received, ever.
    pub(crate) mac_messages: usize,
    /// Routes that were withdrawn or swept, ever.
    pub(crate) withdrawn: BTreeSet<String>,
    /// Route messages received, ever.
    pub(crate) route_messages: usize,
    /// Group messages received, ever.
    pub(crate) group_messages: usize,
    pub(crate) sessions: usize,
    pub(crate) synced: bool,
}

impl State {
    /// One line per route, neighbour, remote MAC and flood list.
    pub(crate) fn text(&self) -> String {
        let routes = self.routes.iter().map(|(prefix, (paths, _, _))| format!("{prefix} {paths}\n"));
        let neighbors = self.neighbors.iter().map(|(at, (mac, _))| format!("neighbor {at} {mac}\n"));
        let macs = self.macs.iter().map(|((vni, mac), (to, _))| format!("mac {vni} {} to {to}\n", hex(mac)));
        let floods = self.floods.iter().map(|(vni, (vteps, _))| format!("flood {vni} to {vteps}\n"));
        let local = self
            .local_macs
            .iter()
            .map(|((vni, mac), port)| format!("local {vni} {} port {port}\n", hex(mac)));
        routes.chain(neighbors).chain(macs).chain(floods).chain(local).collect()
    }

    /// Takes in what comes from a port, and reports it.
    fn learn(&mut self, update: LearnedUpdate) {
        for entry in &update.macs {
            let at = (entry.vni, entry.mac.to_vec());
            if entry.gone {
                self.local_macs.remove(&at);
            } else {
                self.macs.remove(&at);
                self.local_macs.insert(at, entry.port);
            }
        }
        for entry in &update.neighbors {
            let at = (entry.vni, entry.address.to_vec());
            if entry.gone {
                self.local_neighbors.remove(&at);
            } else {
                self.local_neighbors.insert(at, entry.mac.to_vec());
            }
        }
        let update = LearnedUpdate { instance: self.instance, ..update };
        self.learners.retain(|learner| learner.send(Ok(update.clone())).is_ok());
    }

    /// Everything that was learned.
    fn learned(&self) -> LearnedUpdate {
        let mac = |(at, &port): (&(u32, Vec<u8>), &u32)| LearnedMac {
            vni: at.0,
            mac: at.1.clone().into(),
            port,
            gone: false,
        };
        let neighbor = |(at, mac): (&(u32, Vec<u8>), &Vec<u8>)| LearnedNeighbor {
            vni: at.0,
            address: at.1.clone().into(),
            mac: mac.clone().into(),
            gone: false,
        };
        LearnedUpdate {
            macs: self.local_macs.iter().map(mac).collect(),
            neighbors: self.local_neighbors.iter().map(neighbor).collect(),
            complete: true,
            instance: self.instance,
        }
    }

    /// A MAC that another VTEP has now is no longer here.
    fn take_mac(&mut self, entry: &dataplane_api::v1::MacEntry) {
        self.mac_messages += 1;
        let at = (entry.vni, entry.mac.to_vec());
        if entry.vtep.is_empty() {
            self.macs.remove(&at);
            return;
        }
        let sticky = if entry.sticky { " sticky" } else { "" };
        let to = format!("{}{sticky}", address(&entry.vtep));
        self.macs.insert(at.clone(), (to, self.session));
        if self.local_macs.contains_key(&at) {
            let of_mac = self.local_neighbors.iter().filter(|((vni, _), mac)| (*vni, *mac) == (at.0, &at.1));
            let neighbors = of_mac.map(|((vni, address), mac)| LearnedNeighbor {
                vni: *vni,
                address: address.clone().into(),
                mac: mac.clone().into(),
                gone: true,
            });
            let mac = LearnedMac { vni: at.0, mac: at.1.clone().into(), port: 0, gone: true };
            let neighbors = neighbors.collect();
            self.learn(LearnedUpdate { macs: vec![mac], neighbors, ..Default::default() });
        }
    }

    fn carry_out(&mut self, batch: FibBatch) {
        for group in batch.groups {
            self.group_messages += 1;
            let paths: Vec<String> = group.paths.iter().map(describe).collect();
            let text = paths.join(" | ");
            for (paths, id, session) in self.routes.values_mut() {
                if *id == group.id && *session == self.session {
                    paths.clone_from(&text);
                }
            }
            self.groups.insert(group.id, text);
        }
        for list in batch.flood_lists {
            let vteps: Vec<String> = list.vteps.iter().map(|vtep| address(vtep).to_string()).collect();
            if vteps.is_empty() {
                self.floods.remove(&list.vni);
            } else {
                self.floods.insert(list.vni, (vteps.join(" "), self.session));
            }
        }
        for entry in &batch.macs {
            self.take_mac(entry);
        }
        for neighbor in batch.neighbors {
            let at = format!("port {} {}", neighbor.port, address(&neighbor.address));
            if neighbor.mac.is_empty() {
                self.neighbors.remove(&at);
            } else {
                self.neighbors.insert(at, (hex(&neighbor.mac), self.session));
            }
        }
        let routes4 = batch.routes4.into_iter().map(|route| {
            let address = IpAddr::from(route.address.to_be_bytes());
            (format!("vrf {} {address}/{}", route.vrf, route.length), route.group)
        });
        let routes6 = batch.routes6.into_iter().map(|route| {
            let address = IpAddr::from((u128::from(route.high) << 64 | u128::from(route.low)).to_be_bytes());
            (format!("vrf {} {address}/{}", route.vrf, route.length), route.group)
        });
        for (prefix, group) in routes4.chain(routes6) {
            self.route_messages += 1;
            if group == 0 {
                self.routes.remove(&prefix);
                self.withdrawn.insert(prefix);
            } else {
                let paths = self.groups.get(&group).cloned().expect("a route names a group of the session");
                self.routes.insert(prefix, (paths, group, self.session));
            }
        }
        for group in batch.deleted_groups {
            assert!(self.groups.remove(&group).is_some(), "unknown group {group} deleted");
        }
    }

    fn sweep(&mut self) -> FibSwept {
        let session = self.session;
        let stale: Vec<String> = self
            .routes
            .iter()
            .filter(|(_, route)| route.2 != session)
            .map(|(prefix, _)| prefix.clone())
            .collect();
        for prefix in &stale {
            self.routes.remove(prefix);
        }
        let before = self.neighbors.len();
        self.neighbors.retain(|_, (_, of)| *of == session);
        let macs = self.macs.len();
        self.macs.retain(|_, (_, of)| *of == session);
        self.floods.retain(|_, (_, of)| *of == session);
        self.synced = true;
        let swept = FibSwept {
            routes: stale.len() as u64,
            neighbors: (before - self.neighbors.len()) as u64,
            macs: (macs - self.macs.len()) as u64,
        };
        self.withdrawn.extend(stale);
        swept
    }
}

fn describe(path: &dataplane_api::v1::Path) -> String {
    let kind = match path.kind.as_ref().expect("a path has a kind") {
        path::Kind::Adjacent(path) => format!("via {} port {}", address(&path.address), path.port),
        path::Kind::Vxlan(path) => {
            let mac = if path.router_mac.is_empty() { "?".into() } else { hex(&path.router_mac) };
            format!("vxlan {} to {} mac {mac}", path.vni, address(&path.vtep))
        }
        path::Kind::Connected(path) => format!("connected port {}", path.port),
        path::Kind::Local(_) => "local".into(),
        path::Kind::Drop(_) => "drop".into(),
    };
    if path.weight > 1 { format!("{kind} weight {}", path.weight) } else { kind }
}

fn address(bytes: &[u8]) -> IpAddr {
    match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).expect("four")),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("sixteen bytes")),
    }
}

fn hex(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The stand-in, serving on a socket until dropped.
pub(crate) struct StandIn {
    pub(crate) state: Arc<Mutex<State>>,
    topology: watch::Sender<TopologyState>,
    path: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
}

impl StandIn {
    pub(crate) fn start(path: &Path, instance: u64) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let state = Arc::new(Mutex::new(State { instance, ..State::default() }));
        let (topology, _) = watch::channel(TopologyState { instance, ..TopologyState::default() });
        let service = Service { state: Arc::clone(&state), topology: topology.clone() };
        let guard = runtime.enter();
        let listener = UnixListener::bind(path).expect("socket");
        drop(guard);
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(TopologyServer::new(service.clone()))
                .add_service(FibServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        Self { state, topology, path: path.to_owned(), runtime: Some(runtime) }
    }

    pub(crate) fn set_topology(&self, mut topology: TopologyState) {
        self.topology.send_modify(|now| {
            topology.generation = now.generation + 1;
            topology.instance = now.instance;
            *now = topology;
        });
    }

    /// A MAC, and the addresses of the host that it is of, are seen on a port.
    pub(crate) fn learn(&self, vni: u32, mac: [u8; 6], port: u32, addresses: &[&str]) {
        let update = Self::update(vni, mac, port, addresses, false);
        self.state.lock().expect("lock").learn(update);
    }

    /// They are no longer seen.
    pub(crate) fn forget(&self, vni: u32, mac: [u8; 6], addresses: &[&str]) {
        let update = Self::update(vni, mac, 0, addresses, true);
        self.state.lock().expect("lock").learn(update);
    }

    fn update(vni: u32, mac: [u8; 6], port: u32, addresses: &[&str], gone: bool) -> LearnedUpdate {
        let neighbor = |text: &&str| {
            let address = match text.parse().expect("an address") {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            LearnedNeighbor { vni, address: address.into(), mac: mac.to_vec().into(), gone }
        };
        LearnedUpdate {
            macs: vec![LearnedMac { vni, mac: mac.to_vec().into(), port, gone }],
            neighbors: addresses.iter().map(neighbor).collect(),
            ..Default::default()
        }
    }

    /// Many MACs at once, each with an IPv4 address.
    pub(crate) fn learn_many(&self, update: LearnedUpdate) {
        self.state.lock().expect("lock").learn(update);
    }

    pub(crate) fn text(&self) -> String {
        self.state.lock().expect("lock").text()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    topology: watch::Sender<TopologyState>,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Topology for Service {
    type WatchStream = BoxStream<TopologyState>;

    async fn apply(&self, _: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        Err(Status::unimplemented("the test sets the topology itself"))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(WatchStream::new(self.topology.subscribe()).map(Ok))))
    }
}

#[tonic::async_trait]
impl Fib for Service {
    type ProgramStream = ReceiverStream<Result<FibReply, Status>>;
    type LearnedStream = UnboundedReceiverStream<Result<LearnedUpdate, Status>>;

    async fn learned(&self, _: Request<LearnedRequest>) -> Result<Response<Self::LearnedStream>, Status> {
        let (learner, updates) = mpsc::unbounded_channel();
        let mut state = self.state.lock().expect("lock");
        let _ = learner.send(Ok(state.learned()));
        state.learners.push(learner);
        Ok(Response::new(UnboundedReceiverStream::new(updates)))
    }

    async fn program(
        &self,
        request: Request<Streaming<FibRequest>>,
    ) -> Result<Response<Self::ProgramStream>, Status> {
        let mut requests = request.into_inner();
        let (replies, stream) = mpsc::channel(64);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let reply = {
                    let mut state = state.lock().expect("lock");
                    match request.request.expect("a request says something") {
                        FibPart::Hello(_) => {
                            state.session += 1;
                            state.sessions += 1;
                            state.synced = false;
                            state.groups.clear();
                            Reply::Welcome(FibWelcome { instance: state.instance })
                        }
                        FibPart::Batch(batch) => {
                            let sequence = batch.sequence;
                            state.carry_out(batch);
                            Reply::Ack(FibAck { sequence, errors: Vec::new() })
                        }
                        FibPart::Synced(_) => Reply::Swept(state.sweep()),
                    }
                };
                if replies.send(Ok(FibReply { reply: Some(reply) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
