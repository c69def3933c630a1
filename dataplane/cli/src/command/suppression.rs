use dataplane_api::v1::BridgeEntry;
use serde::Serialize;

use super::Session;
use crate::{error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Entry {
    vni: u32,
    address: String,
    mac: String,
    /// "gateway" and "remote" are answered for, "local" ones answer by themselves.
    kind: String,
}

impl Row for Entry {
    const HEADER: &'static [&'static str] = &["VNI", "ADDRESS", "MAC", "KIND"];

    fn cells(&self) -> Vec<String> {
        vec![self.vni.to_string(), self.address.clone(), self.mac.clone(), self.kind.clone()]
    }
}

fn entries(bridge: BridgeEntry) -> impl Iterator<Item = Entry> {
    bridge.suppression.into_iter().map(move |entry| Entry {
        vni: bridge.vni,
        address: entry.address,
        mac: entry.mac,
        kind: entry.kind,
    })
}

pub(super) async fn run(session: &Session, vni: Option<u32>) -> Result<(), Error> {
    let entries: Vec<Entry> = session.bridges(vni).await?.into_iter().flat_map(entries).collect();
    output::print_rows(session.format, &entries)
}
