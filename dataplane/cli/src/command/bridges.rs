use std::collections::HashMap;

use dataplane_api::v1::{BridgeCounters, BridgeEntry, CountersRequest};
use serde::Serialize;

use super::Session;
use crate::{error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Bridge {
    vni: u32,
    /// Empty of a plain overlay.
    vrf: String,
    mac: String,
    gateways: Vec<String>,
    ports: Vec<String>,
    vteps: Vec<String>,
    local_macs: u32,
    remote_macs: u32,
    mac_limit: u32,
    counters: Counters,
}

#[derive(Debug, Default, Serialize)]
struct Counters {
    packets: u64,
    flooded: u64,
    suppressed: u64,
    learned: u64,
    moved: u64,
    limited: u64,
    refused: u64,
}

impl From<BridgeCounters> for Counters {
    fn from(counters: BridgeCounters) -> Self {
        Self {
            packets: counters.packets,
            flooded: counters.flooded,
            suppressed: counters.suppressed,
            learned: counters.learned,
            moved: counters.moved,
            limited: counters.limited,
            refused: counters.refused,
        }
    }
}

impl Bridge {
    fn new(entry: BridgeEntry, counters: Counters) -> Self {
        Self {
            vni: entry.vni,
            vrf: entry.vrf,
            mac: entry.mac,
            gateways: entry.gateway_addresses,
            ports: entry.ports,
            vteps: entry.vteps,
            local_macs: entry.local_macs,
            remote_macs: entry.remote_macs,
            mac_limit: entry.mac_limit,
            counters,
        }
    }
}

impl Row for Bridge {
    const HEADER: &'static [&'static str] = &[
        "VNI",
        "VRF",
        "MAC",
        "GATEWAYS",
        "PORTS",
        "VTEPS",
        "LOCAL",
        "REMOTE",
        "LIMIT",
        "PACKETS",
        "FLOODED",
        "SUPPRESSED",
        "LEARNED",
        "MOVED",
        "LIMITED",
        "REFUSED",
    ];

    fn cells(&self) -> Vec<String> {
        let words = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let mut cells = vec![
            self.vni.to_string(),
            words(self.vrf.clone()),
            self.mac.clone(),
            words(self.gateways.join(",")),
            words(self.ports.join(",")),
            words(self.vteps.join(",")),
        ];
        let Counters { packets, flooded, suppressed, learned, moved, limited, refused } = self.counters;
        let sizes = [self.local_macs, self.remote_macs, self.mac_limit].map(u64::from);
        let counters = [packets, flooded, suppressed, learned, moved, limited, refused];
        cells.extend(sizes.iter().chain(&counters).map(u64::to_string));
        cells
    }
}

pub(super) async fn run(session: &Session, vni: Option<u32>) -> Result<(), Error> {
    let entries = session.bridges(vni).await?;
    let mut replies = session.inspect().counters(CountersRequest { interval_ms: 0 }).await?.into_inner();
    let counters = replies.message().await?.unwrap_or_default().bridges;
    let mut counters: HashMap<u32, Counters> =
        counters.into_iter().map(|counters| (counters.vni, counters.into())).collect();
    let bridges: Vec<Bridge> = entries
        .into_iter()
        .map(|entry| {
            let counted = counters.remove(&entry.vni).unwrap_or_default();
            Bridge::new(entry, counted)
        })
        .collect();
    output::print_rows(session.format, &bridges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_its_cell() {
        let entry = BridgeEntry {
            vni: 110,
            mac: "00:f3:00:00:00:6e".into(),
            ports: vec!["a".into(), "b".into()],
            local_macs: 2,
            remote_macs: 3,
            mac_limit: 1000,
            ..BridgeEntry::default()
        };
        let counters = BridgeCounters { packets: 9, refused: 1, ..BridgeCounters::default() };
        let cells = Bridge::new(entry, counters.into()).cells();
        assert_eq!(cells.len(), Bridge::HEADER.len());
        assert_eq!(cells[..6], ["110", "-", "00:f3:00:00:00:6e", "-", "a,b", "-"]);
        assert_eq!(cells[6..], ["2", "3", "1000", "9", "0", "0", "0", "0", "0", "1"]);
    }
}
