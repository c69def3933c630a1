use dataplane_api::v1::VrfState;
use serde::Serialize;

use super::{Session, vrf_name};
use crate::{error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Vrf {
    name: String,
    id: u32,
    error: String,
    routes_v4: u64,
    routes_v6: u64,
}

impl From<VrfState> for Vrf {
    fn from(state: VrfState) -> Self {
        Self {
            name: vrf_name(state.spec.unwrap_or_default().name),
            id: state.id,
            error: state.error,
            routes_v4: state.routes_v4,
            routes_v6: state.routes_v6,
        }
    }
}

impl Row for Vrf {
    const HEADER: &'static [&'static str] = &["VRF", "ID", "ROUTES-V4", "ROUTES-V6", "ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.id.to_string(),
            self.routes_v4.to_string(),
            self.routes_v6.to_string(),
            self.error.clone(),
        ]
    }
}

pub(super) async fn run(session: &Session) -> Result<(), Error> {
    let vrfs: Vec<Vrf> = session.topology().await?.vrfs.into_iter().map(Vrf::from).collect();
    output::print_rows(session.format, &vrfs)
}
