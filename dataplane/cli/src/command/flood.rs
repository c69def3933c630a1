use dataplane_api::v1::BridgeEntry;
use serde::Serialize;

use super::Session;
use crate::{error::Error, output, output::Row};

/// One place that frames for all go to.
#[derive(Debug, Serialize)]
struct Target {
    vni: u32,
    kind: &'static str,
    target: String,
}

impl Row for Target {
    const HEADER: &'static [&'static str] = &["VNI", "KIND", "TARGET"];

    fn cells(&self) -> Vec<String> {
        vec![self.vni.to_string(), self.kind.to_owned(), self.target.clone()]
    }
}

fn targets(entry: BridgeEntry) -> impl Iterator<Item = Target> {
    let of = move |kind| move |target| Target { vni: entry.vni, kind, target };
    entry.ports.into_iter().map(of("port")).chain(entry.vteps.into_iter().map(of("vtep")))
}

pub(super) async fn run(session: &Session, vni: Option<u32>) -> Result<(), Error> {
    let targets: Vec<Target> = session.bridges(vni).await?.into_iter().flat_map(targets).collect();
    output::print_rows(session.format, &targets)
}
