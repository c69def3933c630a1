//! The gRPC services, on a unix socket.

mod batch;
mod bridges;
mod convert;
mod fib;
mod inspect;
mod socket;
mod topology;

use std::sync::Arc;
use std::time::Instant;

use dataplane_api::MAX_MESSAGE_BYTES;
use dataplane_api::v1::fib_server::FibServer;
use dataplane_api::v1::inspect_server::InspectServer;
use dataplane_api::v1::topology_server::TopologyServer;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tracing::info;

pub use self::batch::carry_out;
pub(crate) use self::convert::octets;
use self::fib::FibService;
pub use self::fib::FibSessions;
use self::inspect::InspectService;
pub use self::socket::listen;
use self::topology::TopologyService;
use crate::learning::Learning;
use crate::slowpath::SlowPath;
use crate::topology::{SharedControl, Topology};
use crate::worker::WorkerCount;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// Random, made at the start.
    pub instance: u64,
    /// When it started.
    pub started: Instant,
    /// DPDK's version.
    pub dpdk_version: String,
    /// EAL's arguments.
    pub eal_arguments: Vec<String>,
    /// What they were derived from.
    pub eal_notes: Vec<String>,
    /// Each worker's CPU and counters.
    pub workers: Vec<(u32, Arc<WorkerCount>)>,
}

/// What the services work on.
#[derive(Clone)]
pub struct Services {
    /// The tables.
    pub control: SharedControl,
    /// Ports, VRFs, VNIs.
    pub topology: Topology,
    /// The way to the kernel.
    pub slow_path: SlowPath,
    /// What is learned in bridge domains.
    pub learning: Learning,
    /// The client that programs routes.
    pub sessions: Arc<FibSessions>,
    /// The process.
    pub info: Arc<ProcessInfo>,
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: tokio::net::UnixListener,
    services: Services,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let topology = TopologyService::new(services.control.clone(), services.topology.clone());
    let fib = FibService::new(
        services.control.clone(),
        services.topology.clone(),
        Arc::clone(&services.sessions),
        services.learning.clone(),
        services.info.instance,
    );
    let inspect = InspectService::new(services);
    info!("serving");
    Server::builder()
        .add_service(
            TopologyServer::new(topology)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            FibServer::new(fib)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(InspectServer::new(inspect).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown)
        .await
}
