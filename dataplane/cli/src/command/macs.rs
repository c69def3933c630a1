use dataplane_api::v1::{ListMacsRequest, MacTableEntry};
use serde::Serialize;
use tokio_stream::StreamExt;

use super::Session;
use crate::{error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Mac {
    vni: u32,
    mac: String,
    kind: String,
    /// Of a local one.
    port: String,
    /// Of a remote one.
    vtep: String,
    sticky: bool,
    idle_seconds: u64,
    addresses: Vec<String>,
}

impl From<MacTableEntry> for Mac {
    fn from(entry: MacTableEntry) -> Self {
        Self {
            vni: entry.vni,
            mac: entry.mac,
            kind: entry.kind,
            port: entry.port,
            vtep: entry.vtep,
            sticky: entry.sticky,
            idle_seconds: entry.idle_seconds,
            addresses: entry.addresses,
        }
    }
}

impl Row for Mac {
    const HEADER: &'static [&'static str] = &["VNI", "MAC", "KIND", "PLACE", "IDLE", "ADDRESSES"];

    fn cells(&self) -> Vec<String> {
        let place = match (self.port.as_str(), self.vtep.as_str()) {
            ("", "") => "-",
            ("", vtep) => vtep,
            (port, _) => port,
        };
        let kind = if self.sticky { format!("{},sticky", self.kind) } else { self.kind.clone() };
        let idle = if self.port.is_empty() { "-".to_owned() } else { format!("{}s", self.idle_seconds) };
        vec![self.vni.to_string(), self.mac.clone(), kind, place.to_owned(), idle, self.addresses.join(",")]
    }
}

pub(super) async fn run(session: &Session, vni: Option<u32>) -> Result<(), Error> {
    let request = ListMacsRequest { vni: session.known_l2vni(vni).await? };
    let stream = session.inspect().list_macs(request).await?.into_inner();
    let macs: Vec<Mac> = stream.map(|entry| entry.map(Mac::from)).collect::<Result<_, _>>().await?;
    output::print_rows(session.format, &macs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_on_a_port_or_behind_a_vtep() {
        let local =
            MacTableEntry { kind: "local".into(), port: "a".into(), idle_seconds: 7, ..Default::default() };
        assert_eq!(Mac::from(local).cells()[2..5], ["local", "a", "7s"]);
        let remote = MacTableEntry {
            kind: "remote".into(),
            vtep: "192.0.2.2".into(),
            sticky: true,
            ..Default::default()
        };
        assert_eq!(Mac::from(remote).cells()[2..5], ["remote,sticky", "192.0.2.2", "-"]);
        let gateway = MacTableEntry { kind: "gateway".into(), ..Default::default() };
        assert_eq!(Mac::from(gateway).cells()[2..5], ["gateway", "-", "-"]);
    }
}
