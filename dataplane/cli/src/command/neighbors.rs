use dataplane_api::v1::{ListNeighborsRequest, NeighborEntry};
use serde::Serialize;
use tokio_stream::StreamExt;

use super::{Session, known};
use crate::{error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Neighbor {
    port: String,
    address: String,
    mac: String,
}

impl From<NeighborEntry> for Neighbor {
    fn from(entry: NeighborEntry) -> Self {
        Self { port: entry.port, address: entry.address, mac: entry.mac }
    }
}

impl Row for Neighbor {
    const HEADER: &'static [&'static str] = &["PORT", "ADDRESS", "MAC"];

    fn cells(&self) -> Vec<String> {
        vec![self.port.clone(), self.address.clone(), self.mac.clone()]
    }
}

pub(super) async fn run(session: &Session, port: Option<String>) -> Result<(), Error> {
    if let Some(name) = &port {
        let topology = session.topology().await?;
        let names =
            topology.ports.iter().filter_map(|port| port.spec.as_ref()).map(|spec| spec.name.as_str());
        known("port", name, names)?;
    }
    let request = ListNeighborsRequest { port: port.unwrap_or_default() };
    let stream = session.inspect().list_neighbors(request).await?.into_inner();
    let neighbors: Vec<Neighbor> =
        stream.map(|entry| entry.map(Neighbor::from)).collect::<Result<_, _>>().await?;
    output::print_rows(session.format, &neighbors)
}
