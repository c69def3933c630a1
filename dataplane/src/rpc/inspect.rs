//! The Inspect service: what an operator may look at.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dataplane_api::v1;
use dataplane_api::v1::inspect_server::Inspect as InspectApi;
use forwarding::{Flow, Kind, Outcome, Path, PathEntry, PortId, Reason, RouteEntry, VrfId};
use futures::{Stream, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::address;
use super::{Services, bridges, trace};
use crate::topology::{DEFAULT_VRF, Names, lock};

/// Entries that wait for a client that reads slowly.
const ENTRIES: usize = 1024;
/// Shortest interval of counters, so that nobody keeps the tables busy by asking.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct InspectService {
    services: Services,
}

impl InspectService {
    pub(super) fn new(services: Services) -> Self {
        Self { services }
    }

    fn names(&self) -> Arc<Names> {
        self.services.topology.names()
    }
}

#[tonic::async_trait]
impl InspectApi for InspectService {
    type ListBridgesStream = ReceiverStream<Result<v1::BridgeEntry, Status>>;
    type ListMacsStream = ReceiverStream<Result<v1::MacTableEntry, Status>>;
    type TraceStream = ReceiverStream<Result<v1::TraceEntry, Status>>;

    async fn list_bridges(
        &self,
        request: Request<v1::ListBridgesRequest>,
    ) -> Result<Response<Self::ListBridgesStream>, Status> {
        let names = self.names();
        let entries = bridges::entries(&self.services.control, &names, request.into_inner().vni)?;
        Ok(stream_of(entries))
    }

    async fn list_macs(
        &self,
        request: Request<v1::ListMacsRequest>,
    ) -> Result<Response<Self::ListMacsStream>, Status> {
        let names = self.names();
        let entries = bridges::macs(&self.services.control, &names, request.into_inner().vni)?;
        Ok(stream_of(entries))
    }

    async fn resolve_mac(
        &self,
        request: Request<v1::ResolveMacRequest>,
    ) -> Result<Response<v1::ResolveMacReply>, Status> {
        let request = request.into_inner();
        bridges::resolve(&self.services.control, &self.names(), &request).map(Response::new)
    }

    async fn trace(&self, request: Request<v1::TraceRequest>) -> Result<Response<Self::TraceStream>, Status> {
        let entries = trace::start(&self.services, &request.into_inner())?;
        Ok(Response::new(ReceiverStream::new(entries)))
    }

    type ListRoutesStream = ReceiverStream<Result<v1::RouteEntry, Status>>;
    type ListNeighborsStream = ReceiverStream<Result<v1::NeighborEntry, Status>>;
    type CountersStream = Pin<Box<dyn Stream<Item = Result<v1::CountersReply, Status>> + Send>>;

    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::InfoReply>, Status> {
        let info = &self.services.info;
        let (fib_client, fib_synced) = self.services.sessions.client();
        let names = self.names();
        let workers = info.workers.iter().enumerate().map(|(id, (cpu, count))| v1::WorkerInfo {
            id: u32::try_from(id).unwrap_or(u32::MAX),
            cpu: *cpu,
            ports: names.polled.get(&id).cloned().unwrap_or_default(),
            bursts: count.bursts.load(Ordering::Relaxed),
            packets: count.packets.load(Ordering::Relaxed),
            sleeps: count.sleeps.load(Ordering::Relaxed),
        });
        Ok(Response::new(v1::InfoReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dpdk_version: info.dpdk_version.clone(),
            instance: info.instance,
            uptime_seconds: info.started.elapsed().as_secs(),
            eal_arguments: info.eal_arguments.clone(),
            eal_notes: info.eal_notes.clone(),
            workers: workers.collect(),
            fib_client,
            fib_synced,
        }))
    }

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<Self::ListRoutesStream>, Status> {
        let names = self.names();
        let vrf = request.into_inner().vrf;
        let vrfs: Vec<(VrfId, String)> = match vrf.as_str() {
            "" => names.vrfs.iter().map(|(&id, name)| (id, name.clone())).collect(),
            name => vec![(names.vrf(name).ok_or_else(|| no_vrf(name))?, name.to_owned())],
        };
        let control = Arc::clone(&self.services.control);
        let (sender, receiver) = mpsc::channel(ENTRIES);
        tokio::task::spawn_blocking(move || {
            for (id, vrf) in vrfs {
                // Copied out, so that a slow reader does not keep the tables.
                let entries: Vec<RouteEntry> = match lock(&control).routes(id) {
                    Ok(routes) => routes.collect(),
                    // Removed since it was asked for.
                    Err(_) => continue,
                };
                for entry in entries {
                    let paths = entry.paths.iter().map(|path| path_entry(path, &names)).collect();
                    let entry = v1::RouteEntry { vrf: vrf.clone(), prefix: entry.prefix.to_string(), paths };
                    if sender.blocking_send(Ok(entry)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn resolve(
        &self,
        request: Request<v1::ResolveRequest>,
    ) -> Result<Response<v1::ResolveReply>, Status> {
        let request = request.into_inner();
        let names = self.names();
        let vrf = names.vrf(&request.vrf).ok_or_else(|| no_vrf(&request.vrf))?;
        let invalid = |error: forwarding::InvalidValue| Status::invalid_argument(error.to_string());
        let destination = address(&request.address).map_err(invalid)?;
        let source = match request.source.is_empty() {
            true => None,
            false => Some(address(&request.source).map_err(invalid)?),
        };
        let small = |what, value: u32| {
            u16::try_from(value)
                .map_err(|_| Status::invalid_argument(format!("{what} {value} is above 65535")))
        };
        let protocol = u8::try_from(request.protocol)
            .map_err(|_| Status::invalid_argument(format!("protocol {} is above 255", request.protocol)))?;
        let flow = Flow {
            source,
            destination,
            protocol,
            source_port: small("source port", request.source_port)?,
            destination_port: small("destination port", request.destination_port)?,
        };
        let explanation = lock(&self.services.control)
            .explain(vrf, &flow)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let mut reply = v1::ResolveReply {
            steps: explanation.steps,
            prefix: explanation.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
            ..Default::default()
        };
        match explanation.outcome {
            Outcome::Transmit { port, headers } => {
                reply.outcome = "transmit".to_owned();
                reply.port = port_name(&names, port);
                reply.headers = headers.into();
            }
            Outcome::HandOver(reason) => {
                reply.outcome = "hand-over".to_owned();
                reply.reason = reason.name().to_owned();
            }
            Outcome::Drop(reason) => {
                reply.outcome = "drop".to_owned();
                reply.reason = reason.name().to_owned();
            }
            Outcome::Flood => reply.outcome = "flood".to_owned(),
        }
        Ok(Response::new(reply))
    }

    async fn list_neighbors(
        &self,
        request: Request<v1::ListNeighborsRequest>,
    ) -> Result<Response<Self::ListNeighborsStream>, Status> {
        let names = self.names();
        let wanted = request.into_inner().port;
        let only = match wanted.as_str() {
            "" => None,
            name => {
                Some(names.port(name).ok_or_else(|| Status::not_found(format!("there is no port {name}")))?)
            }
        };
        let entries: Vec<_> = lock(&self.services.control)
            .neighbors()
            .filter(|entry| only.is_none_or(|only| only == entry.port))
            .map(|entry| v1::NeighborEntry {
                port: port_name(&names, entry.port),
                address: entry.address.to_string(),
                mac: entry.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            })
            .collect();
        Ok(stream_of(entries))
    }

    async fn counters(
        &self,
        request: Request<v1::CountersRequest>,
    ) -> Result<Response<Self::CountersStream>, Status> {
        let interval = Duration::from_millis(request.into_inner().interval_ms.into());
        let services = self.services.clone();
        let start = (services, true);
        let replies = stream::unfold(start, move |(services, first)| async move {
            if !first {
                if interval.is_zero() {
                    return None;
                }
                tokio::time::sleep(interval.max(MIN_INTERVAL)).await;
            }
            Some((Ok(snapshot(&services)), (services, false)))
        });
        Ok(Response::new(Box::pin(replies)))
    }
}

fn snapshot(services: &Services) -> v1::CountersReply {
    let names = services.topology.names();
    let control = lock(&services.control);
    let mut ports = Vec::with_capacity(names.ports.len());
    for (&id, (name, own)) in &names.ports {
        // Removed since its name was looked up.
        let Ok(counters) = control.port_counters(id) else { continue };
        let of_kind = |kind| {
            counters
                .reasons()
                .filter(move |(reason, _)| reason.kind() == kind)
                .map(|(reason, packets)| v1::ReasonCounter { reason: reason.name().to_owned(), packets })
                .collect::<Vec<_>>()
        };
        let mut drops = of_kind(Kind::Drop);
        let tx_full = (Reason::TxFull.name(), own.tx_full.load(Ordering::Relaxed));
        let lost = names.losses.get(&id).into_iter().flat_map(|losses| losses.reasons());
        for (reason, packets) in lost.chain([tx_full]).filter(|&(_, packets)| packets > 0) {
            match drops.iter_mut().find(|drop| drop.reason == reason) {
                Some(drop) => drop.packets += packets,
                None => drops.push(v1::ReasonCounter { reason: reason.to_owned(), packets }),
            }
        }
        ports.push(v1::PortCounters {
            port: name.clone(),
            rx_packets: counters.rx_packets,
            rx_bytes: counters.rx_bytes,
            tx_packets: counters.tx_packets,
            tx_bytes: counters.tx_bytes,
            forwarded: counters.forwarded,
            hand_overs: of_kind(Kind::HandOver),
            drops,
            from_kernel: own.from_kernel.load(Ordering::Relaxed),
        });
    }
    let vrfs = names.vrfs.iter().filter_map(|(&id, name)| {
        let counters = control.vrf_counters(id).ok()?;
        Some(v1::VrfCounters { vrf: name.clone(), packets: counters.packets, no_route: counters.no_route })
    });
    let vrfs = vrfs.collect();
    drop(control);
    let classes = services.slow_path.snapshot().into_iter().map(|class| v1::ClassCounters {
        class: class.class.name().to_owned(),
        passed: class.passed,
        policed: class.policed,
        failed: class.failed,
        rate: class.rate.into(),
    });
    v1::CountersReply {
        ports,
        vrfs,
        classes: classes.collect(),
        bridges: bridges::counters(&services.control),
    }
}

fn path_entry(entry: &PathEntry, names: &Names) -> v1::PathEntry {
    let mut shown = v1::PathEntry {
        weight: entry.path.weight.max(1),
        usable: entry.problem.is_none(),
        problem: entry.problem.map(|reason| reason.name().to_owned()).unwrap_or_default(),
        ..Default::default()
    };
    shown.kind = match entry.path.path {
        Path::Adjacent { port, gateway } => {
            shown.port = port_name(names, port);
            shown.gateway = gateway.to_string();
            "adjacent"
        }
        Path::Vxlan { vni, vtep, router_mac } => {
            shown.vni = vni.get();
            shown.vtep = vtep.to_string();
            shown.router_mac = router_mac.map(|mac| mac.to_string()).unwrap_or_default();
            "vxlan"
        }
        Path::Connected { port } => {
            shown.port = port_name(names, port);
            "connected"
        }
        Path::Local => "local",
        Path::Drop => "drop",
    }
    .to_owned();
    shown
}

/// Entries that were copied out, one by one.
fn stream_of<T: Send + 'static>(entries: Vec<T>) -> Response<ReceiverStream<Result<T, Status>>> {
    let (sender, receiver) = mpsc::channel(ENTRIES);
    tokio::spawn(async move {
        for entry in entries {
            if sender.send(Ok(entry)).await.is_err() {
                return;
            }
        }
    });
    Response::new(ReceiverStream::new(receiver))
}

pub(super) fn port_name(names: &Names, port: PortId) -> String {
    names.interface(port).unwrap_or_else(|| port.to_string())
}

fn no_vrf(name: &str) -> Status {
    let name = if name.is_empty() { DEFAULT_VRF } else { name };
    Status::not_found(format!("there is no VRF {name}"))
}
