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
    ApplyRequest, ApplyResponse, FibAck, FibBatch, FibReply, FibRequest, FibSwept, FibWelcome,
    LearnedRequest, LearnedUpdate, TopologyState, WatchRequest, path,
};
use futures::{Stream, StreamExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream, WatchStream};
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
    /// One line per route and neighbour.
    pub(crate) fn text(&self) -> String {
        let routes = self.routes.iter().map(|(prefix, (paths, _, _))| format!("{prefix} {paths}\n"));
        let neighbors = self.neighbors.iter().map(|(at, (mac, _))| format!("neighbor {at} {mac}\n"));
        routes.chain(neighbors).collect()
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
        self.synced = true;
        let swept = FibSwept {
            routes: stale.len() as u64,
            neighbors: (before - self.neighbors.len()) as u64,
            macs: 0,
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
    type LearnedStream = ReceiverStream<Result<LearnedUpdate, Status>>;

    async fn learned(&self, _: Request<LearnedRequest>) -> Result<Response<Self::LearnedStream>, Status> {
        Err(Status::unimplemented("nothing is learned here"))
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
