use std::path::PathBuf;
use std::time::Duration;

use dataplane_api::MAX_MESSAGE_BYTES;
use dataplane_api::v1::topology_client::TopologyClient;
use dataplane_api::v1::{ApplyRequest, ApplyResponse, Health, TopologySpec, TopologyState, WatchRequest};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::error::Error;
use crate::model::{Failure, Kind, ObjectRef, Reason};
use crate::plan::Plan;
use crate::topology::owner;

/// Pause between attempts to reach the dataplane.
const RECONNECT: Duration = Duration::from_secs(1);

/// How long the dataplane may take to carry out a topology: thousands of devices.
const APPLY_LIMIT: Duration = Duration::from_secs(120);

/// What is known of the dataplane.
#[derive(Debug, Clone, Default)]
pub(super) struct Dataplane {
    /// Its last state; none while it is away.
    pub(super) state: Option<TopologyState>,
    /// Why it is away.
    pub(super) error: String,
}

async fn client(socket: &PathBuf) -> Result<TopologyClient<Channel>, Error> {
    let channel = dataplane_api::connect(socket).await?;
    Ok(TopologyClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

/// Follows the dataplane's state until nobody listens any more.
pub(super) async fn follow(socket: PathBuf, sender: watch::Sender<Dataplane>) {
    while !sender.is_closed() {
        let error = match follow_once(&socket, &sender).await {
            Ok(()) => "the dataplane went away".to_owned(),
            Err(error) => error.to_string(),
        };
        sender.send_replace(Dataplane { state: None, error });
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn follow_once(socket: &PathBuf, sender: &watch::Sender<Dataplane>) -> Result<(), Error> {
    let mut states = client(socket).await?.watch(WatchRequest {}).await.map_err(Box::new)?.into_inner();
    while let Some(state) = states.message().await.map_err(Box::new)? {
        sender.send_replace(Dataplane { state: Some(state), error: String::new() });
    }
    Ok(())
}

/// Has the dataplane carry out `spec`.
pub(super) async fn apply(socket: &PathBuf, spec: TopologySpec) -> Result<ApplyResponse, Error> {
    let mut request = tonic::Request::new(ApplyRequest { spec: Some(spec) });
    request.set_timeout(APPLY_LIMIT);
    Ok(client(socket).await?.apply(request).await.map_err(Box::new)?.into_inner())
}

/// Objects that the dataplane could not set up, by its answer.
pub(super) fn failures_of_answer(plan: &Plan, answer: &ApplyResponse) -> Vec<Failure> {
    answer
        .results
        .iter()
        .filter(|result| !result.error.is_empty())
        .map(|result| {
            let again = if result.retrying { "; the dataplane tries again" } else { "" };
            failure(plan, &result.kind, &result.name, &format!("{}{again}", result.error))
        })
        .collect()
}

/// Objects that the dataplane has not set up, by its state.
pub(super) fn failures_of_state(plan: &Plan, state: &TopologyState) -> Vec<Failure> {
    let mut failures = Vec::new();
    for port in &state.ports {
        if port.health() == Health::Failed {
            let name = port.spec.as_ref().map_or("", |spec| &spec.name);
            failures.push(failure(plan, "port", name, &port.error));
        }
    }
    for vrf in state.vrfs.iter().filter(|vrf| !vrf.error.is_empty()) {
        let name = vrf.spec.as_ref().map_or("", |spec| &spec.name);
        failures.push(failure(plan, "vrf", name, &vrf.error));
    }
    for vni in &state.l3vnis {
        if vni.health() == Health::Failed {
            let name = vni.spec.as_ref().map_or_else(String::new, |spec| spec.vni.to_string());
            failures.push(failure(plan, "vni", &name, &vni.error));
        }
    }
    for vni in &state.l2vnis {
        if vni.health() == Health::Failed {
            let name = vni.spec.as_ref().map_or_else(String::new, |spec| spec.vni.to_string());
            failures.push(failure(plan, "l2vni", &name, &vni.error));
        }
    }
    failures
}

/// A failure of the object behind one of the dataplane's, which else is the underlay.
fn failure(plan: &Plan, kind: &str, name: &str, error: &str) -> Failure {
    let owner = plan.pe.as_ref().and_then(|pe| owner(pe, kind, name));
    let underlay = || plan.origins.keys().find(|id| id.kind == Kind::Underlay);
    let message = format!("the dataplane's {kind} {name}: {error}");
    match owner.or_else(underlay) {
        Some(id) => plan.failure(id, Reason::OverlayAttachmentFailed, &message),
        None => {
            let id = ObjectRef { kind: Kind::File, name: String::new() };
            plan.failure(&id, Reason::OverlayAttachmentFailed, &message)
        }
    }
}
