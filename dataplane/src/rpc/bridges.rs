//! Bridge domains, as an operator looks at them.

use dataplane_api::v1;
use forwarding::{Control, MacKind, Outcome, Vni};
use tonic::Status;

use super::convert::optional_mac;
use super::inspect::port_name;
use crate::topology::{Names, SharedControl, lock};

/// The L2VNI that is asked for, or all.
fn vnis(control: &Control, wanted: u32) -> Result<Vec<Vni>, Status> {
    let all = control.bridges().map(|(vni, _, _)| vni);
    let found: Vec<Vni> = all.filter(|vni| wanted == 0 || vni.get() == wanted).collect();
    if found.is_empty() && wanted != 0 {
        return Err(Status::not_found(format!("there is no L2VNI {wanted}")));
    }
    Ok(found)
}

pub(super) fn entries(
    control: &SharedControl,
    names: &Names,
    wanted: u32,
) -> Result<Vec<v1::BridgeEntry>, Status> {
    let control = lock(control);
    let vnis = vnis(&control, wanted)?;
    Ok(vnis.into_iter().filter_map(|vni| entry(&control, names, vni)).collect())
}

fn entry(control: &Control, names: &Names, vni: Vni) -> Option<v1::BridgeEntry> {
    let (_, config, svi) = control.bridges().find(|(of, ..)| *of == vni)?;
    let (mut local, mut remote) = (0, 0);
    let mut local_macs = std::collections::BTreeSet::new();
    for entry in control.macs(vni) {
        match entry.kind {
            MacKind::Local(_) => {
                local += 1;
                local_macs.insert(entry.mac);
            }
            MacKind::Remote { .. } | MacKind::Heard(_) => remote += 1,
        }
    }
    let row =
        |address: String, mac: String, kind: &str| v1::SuppressionEntry { address, mac, kind: kind.into() };
    let gateways = config
        .gateways
        .iter()
        .map(|gateway| row(gateway.addr().to_string(), config.mac.to_string(), "gateway"));
    let neighbors = control.neighbors().filter(|neighbor| neighbor.port == svi).filter_map(|neighbor| {
        let mac = neighbor.mac?;
        let kind = if local_macs.contains(&mac) { "local" } else { "remote" };
        Some(row(neighbor.address.to_string(), mac.to_string(), kind))
    });
    Some(v1::BridgeEntry {
        vni: vni.get(),
        vrf: config.vrf.and_then(|vrf| names.vrfs.get(&vrf).cloned()).unwrap_or_default(),
        mac: config.mac.to_string(),
        gateway_addresses: config.gateways.iter().map(ToString::to_string).collect(),
        ports: control.bridge_ports(vni).map(|(_, port)| port.name.clone()).collect(),
        vteps: control.flood_list(vni).map(|vtep| vtep.to_string()).collect(),
        local_macs: local,
        remote_macs: remote,
        mac_limit: config.mac_limit,
        suppression: gateways.chain(neighbors).collect(),
    })
}

pub(super) fn macs(
    control: &SharedControl,
    names: &Names,
    wanted: u32,
) -> Result<Vec<v1::MacTableEntry>, Status> {
    let control = lock(control);
    let mut entries = Vec::new();
    for vni in vnis(&control, wanted)? {
        let bridge = control.bridges().find(|(of, ..)| *of == vni);
        entries.extend(bridge.map(|(_, config, _)| v1::MacTableEntry {
            vni: vni.get(),
            mac: config.mac.to_string(),
            kind: "gateway".into(),
            addresses: config.gateways.iter().map(|gateway| gateway.addr().to_string()).collect(),
            ..Default::default()
        }));
        for entry in control.macs(vni) {
            let mut row = v1::MacTableEntry {
                vni: vni.get(),
                mac: entry.mac.to_string(),
                idle_seconds: entry.idle.as_secs(),
                ..Default::default()
            };
            match entry.kind {
                MacKind::Local(port) => {
                    row.kind = "local".into();
                    row.port = port_name(names, port);
                    row.addresses =
                        control.host_addresses(vni, entry.mac).map(|address| address.to_string()).collect();
                }
                MacKind::Remote { vtep, sticky } => {
                    row.kind = "remote".into();
                    row.vtep = vtep.to_string();
                    row.sticky = sticky;
                }
                MacKind::Heard(vtep) => {
                    row.kind = "learned".into();
                    row.vtep = vtep.to_string();
                }
            }
            entries.push(row);
        }
    }
    Ok(entries)
}

pub(super) fn resolve(
    control: &SharedControl,
    names: &Names,
    request: &v1::ResolveMacRequest,
) -> Result<v1::ResolveMacReply, Status> {
    let vni = Vni::new(request.vni).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mac = optional_mac(&request.mac).map_err(Status::invalid_argument)?;
    let mac = mac.ok_or_else(|| Status::invalid_argument("no MAC is asked for"))?;
    let (steps, outcome) =
        lock(control).explain_mac(vni, mac).map_err(|error| Status::not_found(error.to_string()))?;
    let mut reply = v1::ResolveMacReply { steps, ..Default::default() };
    match outcome {
        Outcome::Transmit { port, headers } => {
            reply.outcome = "transmit".into();
            reply.port = port_name(names, port);
            reply.headers = headers.into();
        }
        Outcome::HandOver(reason) => {
            reply.outcome = "hand-over".into();
            reply.reason = reason.name().into();
        }
        Outcome::Drop(reason) => {
            reply.outcome = "drop".into();
            reply.reason = reason.name().into();
        }
        Outcome::Flood => reply.outcome = "flood".into(),
    }
    Ok(reply)
}

pub(super) fn counters(control: &SharedControl) -> Vec<v1::BridgeCounters> {
    let control = lock(control);
    let of = |vni: Vni| {
        let counters = control.bridge_counters(vni).ok()?;
        Some(v1::BridgeCounters {
            vni: vni.get(),
            packets: counters.packets,
            flooded: counters.flooded,
            suppressed: counters.suppressed,
            learned: counters.learned,
            moved: counters.moved,
            limited: counters.limited,
            refused: counters.refused,
        })
    };
    control.bridges().filter_map(|(vni, ..)| of(vni)).collect()
}
