use std::collections::HashMap;

use dataplane_api::v1::{CountersRequest, PortCounters, PortState, port_spec::Kind};
use serde::Serialize;

use super::{Session, health, vrf_name};
use crate::{error::Error, output, output::Row, text};

/// Shown for what a port has not, as it is routed or bridged.
const NONE: &str = "-";

#[derive(Debug, Serialize)]
struct Port {
    name: String,
    id: u32,
    kind: &'static str,
    device: String,
    /// Empty of a bridged one.
    vrf: String,
    /// 0 of a routed one.
    l2vni: u32,
    health: &'static str,
    error: String,
    driver: String,
    mac: String,
    mtu: u32,
    addresses: Vec<String>,
    rx_queues: u32,
    /// Mbit/s; 0 when unknown.
    link_speed: u32,
    counters: Counters,
}

#[derive(Debug, Default, Serialize)]
struct Counters {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    forwarded: u64,
    handed_over: u64,
    dropped: u64,
    from_kernel: u64,
}

impl From<&PortCounters> for Counters {
    fn from(counters: &PortCounters) -> Self {
        Self {
            rx_packets: counters.rx_packets,
            rx_bytes: counters.rx_bytes,
            tx_packets: counters.tx_packets,
            tx_bytes: counters.tx_bytes,
            forwarded: counters.forwarded,
            handed_over: counters.hand_overs.iter().map(|reason| reason.packets).sum(),
            dropped: counters.drops.iter().map(|reason| reason.packets).sum(),
            from_kernel: counters.from_kernel,
        }
    }
}

impl Port {
    fn new(state: PortState, counters: Counters) -> Self {
        let spec = state.spec.unwrap_or_default();
        let (kind, device) = match spec.kind {
            Some(Kind::Pci(pci)) => ("pci", pci.address),
            Some(Kind::Netdev(netdev)) => ("netdev", netdev.interface),
            Some(Kind::Tap(tap)) => ("tap", tap.interface),
            Some(Kind::VhostUser(port)) => ("vhost-user", port.socket),
            Some(Kind::Memif(port)) => ("memif", port.socket),
            None => ("unknown", String::new()),
        };
        Self {
            name: spec.name,
            id: state.id,
            kind,
            device,
            vrf: if spec.bridge.is_some() { String::new() } else { vrf_name(spec.vrf) },
            l2vni: spec.bridge.map_or(0, |bridge| bridge.l2vni),
            health: health(state.health),
            error: state.error,
            driver: state.driver,
            mac: text::mac(&state.mac),
            mtu: state.mtu,
            addresses: state.addresses,
            rx_queues: state.rx_queues,
            link_speed: state.link_speed,
            counters,
        }
    }
}

impl Row for Port {
    const HEADER: &'static [&'static str] = &[
        "PORT",
        "HEALTH",
        "VRF",
        "L2VNI",
        "KIND",
        "DEVICE",
        "MAC",
        "MTU",
        "ADDRESSES",
        "RX",
        "TX",
        "FORWARDED",
        "HANDED-OVER",
        "DROPPED",
    ];

    fn cells(&self) -> Vec<String> {
        let health = if self.error.is_empty() {
            self.health.to_owned()
        } else {
            format!("{}: {}", self.health, self.error)
        };
        vec![
            self.name.clone(),
            health,
            if self.vrf.is_empty() { NONE.to_owned() } else { self.vrf.clone() },
            if self.l2vni == 0 { NONE.to_owned() } else { self.l2vni.to_string() },
            self.kind.to_owned(),
            self.device.clone(),
            self.mac.clone(),
            self.mtu.to_string(),
            self.addresses.join(","),
            self.counters.rx_packets.to_string(),
            self.counters.tx_packets.to_string(),
            self.counters.forwarded.to_string(),
            self.counters.handed_over.to_string(),
            self.counters.dropped.to_string(),
        ]
    }
}

pub(super) async fn run(session: &Session) -> Result<(), Error> {
    let mut counters = session.inspect().counters(CountersRequest { interval_ms: 0 }).await?.into_inner();
    let mut by_port: HashMap<String, Counters> = counters
        .message()
        .await?
        .unwrap_or_default()
        .ports
        .iter()
        .map(|port| (port.port.clone(), Counters::from(port)))
        .collect();
    let ports: Vec<Port> = session
        .topology()
        .await?
        .ports
        .into_iter()
        .map(|state| {
            let name = state.spec.as_ref().map_or("", |spec| spec.name.as_str());
            let counted = by_port.remove(name).unwrap_or_default();
            Port::new(state, counted)
        })
        .collect();
    output::print_rows(session.format, &ports)
}

#[cfg(test)]
mod tests {
    use dataplane_api::v1::{BridgePortSpec, PortSpec};

    use super::*;

    #[test]
    fn a_port_is_routed_or_bridged() {
        let cells = |bridge| {
            let spec = PortSpec { name: "pe-e-110".into(), bridge, ..PortSpec::default() };
            let state = PortState { spec: Some(spec), ..PortState::default() };
            Port::new(state, Counters::default()).cells()
        };
        assert_eq!(cells(None)[2..4], ["default", NONE]);
        assert_eq!(
            cells(Some(BridgePortSpec { l2vni: 110, ..BridgePortSpec::default() }))[2..4],
            [NONE, "110"]
        );
    }
}
