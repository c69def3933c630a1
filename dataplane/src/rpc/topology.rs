//! The Topology service.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dataplane_api::v1;
use dataplane_api::v1::topology_server::Topology as TopologyApi;
use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use crate::topology::{SharedControl, Topology, lock};
use forwarding::VrfId;

/// Changes that follow each other closer than this are sent as one.
const DEBOUNCE: Duration = Duration::from_millis(20);

pub(super) struct TopologyService {
    control: SharedControl,
    topology: Topology,
}

impl TopologyService {
    pub(super) fn new(control: SharedControl, topology: Topology) -> Self {
        Self { control, topology }
    }
}

#[tonic::async_trait]
impl TopologyApi for TopologyService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::TopologyState, Status>> + Send>>;

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let spec =
            request.into_inner().spec.ok_or_else(|| Status::invalid_argument("the request has no spec"))?;
        let response = self.topology.apply(spec).await;
        response.map(Response::new).ok_or_else(|| Status::unavailable("pe-dataplane is ending"))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let start = (self.topology.watch(), Arc::clone(&self.control), true);
        let states = stream::unfold(start, |(mut states, control, first)| async move {
            if !first {
                states.changed().await.ok()?;
                tokio::time::sleep(DEBOUNCE).await;
            }
            let mut state = Arc::clone(&states.borrow_and_update());
            count_routes(&control, Arc::make_mut(&mut state));
            Some((Ok(Arc::unwrap_or_clone(state)), (states, control, false)))
        });
        Ok(Response::new(Box::pin(states)))
    }
}

/// Numbers of routes are no change of the topology, so they are looked up when somebody is told.
fn count_routes(control: &SharedControl, state: &mut v1::TopologyState) {
    let control = lock(control);
    for vrf in &mut state.vrfs {
        if vrf.error.is_empty()
            && let Ok((v4, v6)) = control.route_counts(VrfId(vrf.id))
        {
            vrf.routes_v4 = v4 as u64;
            vrf.routes_v6 = v6 as u64;
        }
    }
}
