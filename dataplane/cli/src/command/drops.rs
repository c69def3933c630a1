use std::{collections::BTreeMap, time::Duration};

use dataplane_api::v1::{CountersReply, CountersRequest, ReasonCounter};
use serde::Serialize;

use super::{Session, vrf_name};
use crate::{cli::Format, error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Drops {
    ports: Vec<PortReasons>,
    vrfs: Vec<VrfMisses>,
    classes: Vec<Class>,
}

#[derive(Debug, Serialize)]
struct PortReasons {
    port: String,
    forwarded: u64,
    drops: BTreeMap<String, u64>,
    hand_overs: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct VrfMisses {
    vrf: String,
    packets: u64,
    no_route: u64,
}

#[derive(Debug, Serialize)]
struct Class {
    class: String,
    passed: u64,
    policed: u64,
    failed: u64,
    /// Packets per second allowed.
    rate: u64,
}

fn by_reason(counters: Vec<ReasonCounter>) -> BTreeMap<String, u64> {
    counters.into_iter().map(|counter| (counter.reason, counter.packets)).collect()
}

impl From<CountersReply> for Drops {
    fn from(reply: CountersReply) -> Self {
        Self {
            ports: reply
                .ports
                .into_iter()
                .map(|port| PortReasons {
                    port: port.port,
                    forwarded: port.forwarded,
                    drops: by_reason(port.drops),
                    hand_overs: by_reason(port.hand_overs),
                })
                .collect(),
            vrfs: reply
                .vrfs
                .into_iter()
                .map(|vrf| VrfMisses { vrf: vrf_name(vrf.vrf), packets: vrf.packets, no_route: vrf.no_route })
                .collect(),
            classes: reply
                .classes
                .into_iter()
                .map(|class| Class {
                    class: class.class,
                    passed: class.passed,
                    policed: class.policed,
                    failed: class.failed,
                    rate: class.rate,
                })
                .collect(),
        }
    }
}

/// One reason of one port.
struct Reason {
    port: String,
    what: &'static str,
    reason: String,
    packets: u64,
}

impl Row for Reason {
    const HEADER: &'static [&'static str] = &["PORT", "WHAT", "REASON", "PACKETS"];

    fn cells(&self) -> Vec<String> {
        vec![self.port.clone(), self.what.to_owned(), self.reason.clone(), self.packets.to_string()]
    }
}

impl Row for VrfMisses {
    const HEADER: &'static [&'static str] = &["VRF", "PACKETS", "NO-ROUTE"];

    fn cells(&self) -> Vec<String> {
        vec![self.vrf.clone(), self.packets.to_string(), self.no_route.to_string()]
    }
}

impl Row for Class {
    const HEADER: &'static [&'static str] = &["HAND-OVER CLASS", "PASSED", "POLICED", "FAILED", "RATE/S"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.class.clone(),
            self.passed.to_string(),
            self.policed.to_string(),
            self.failed.to_string(),
            self.rate.to_string(),
        ]
    }
}

impl Drops {
    fn reasons(&self) -> Vec<Reason> {
        let rows = |port: &PortReasons, what, reasons: &BTreeMap<String, u64>| {
            let port = port.port.clone();
            reasons
                .iter()
                .map(move |(reason, packets)| Reason {
                    port: port.clone(),
                    what,
                    reason: reason.clone(),
                    packets: *packets,
                })
                .collect::<Vec<_>>()
        };
        self.ports
            .iter()
            .flat_map(|port| {
                let mut all = rows(port, "drop", &port.drops);
                all.extend(rows(port, "hand-over", &port.hand_overs));
                all
            })
            .collect()
    }

    fn words(&self) -> String {
        [output::table(&self.reasons()), output::table(&self.vrfs), output::table(&self.classes)].join("\n")
    }
}

/// Prints the counters once, or every `watch` seconds: in JSON then one object a line.
pub(super) async fn run(session: &Session, watch: Option<f64>) -> Result<(), Error> {
    let interval = watch.map_or(0, |seconds| Duration::from_secs_f64(seconds).as_millis());
    let request = CountersRequest { interval_ms: u32::try_from(interval).unwrap_or(u32::MAX) };
    let mut replies = session.inspect().counters(request).await?.into_inner();
    while let Some(reply) = replies.message().await? {
        let drops = Drops::from(reply);
        match (session.format, watch) {
            (Format::Table, _) => output::print_text(&drops.words())?,
            (Format::Json, None) => output::print_json(&drops)?,
            (Format::Json, Some(_)) => output::print_text(&(serde_json::to_string(&drops)? + "\n"))?,
        }
        if watch.is_none() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dataplane_api::v1::PortCounters;

    use super::*;

    #[test]
    fn every_reason_has_its_row() {
        let counter = |reason: &str, packets| ReasonCounter { reason: reason.into(), packets };
        let drops = Drops::from(CountersReply {
            ports: vec![PortCounters {
                port: "pe-e-100".into(),
                drops: vec![counter("no-route", 3)],
                hand_overs: vec![counter("ttl-expired", 2), counter("arp", 1)],
                ..PortCounters::default()
            }],
            ..CountersReply::default()
        });
        let text = output::table(&drops.reasons());
        let rows: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                ["pe-e-100", "drop", "no-route", "3"],
                ["pe-e-100", "hand-over", "arp", "1"],
                ["pe-e-100", "hand-over", "ttl-expired", "2"],
            ]
        );
    }
}
