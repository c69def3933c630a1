//! One MAC in two places at once: FRR's duplicate address detection (RFC 7432 section 15.1) decides, and its word is kept.

use std::time::Duration;

use serde_json::Value;

use super::{evpn, extra};
use crate::lab::l2::{L2Vni, MTU, Station};
use crate::lab::plan::RED;
use crate::lab::{Lab, netns, node};
use crate::traffic::inject;
use crate::traffic::packet::{Mac, arp_request, text};
use crate::wait::{LONG, holds, until};
use crate::{Error, Result};

const TWINS: L2Vni =
    L2Vni { name: "twins", vni: 170, vrf: Some(RED), subnet: 7, stations: [1, 1, 0], mtu: MTU };
const FILE: &str = "configs/openpe_freeze.yaml";

/// Two moves within a minute are one too many, and the MAC then stays where it is until an operator clears it.
const FREEZE: &str = "rawfrrconfigs:\n- name: freeze\n  rawConfig: |\n    router bgp 64514\n     address-family l2vpn evpn\n      \
                      dup-addr-detection max-moves 2 time 60\n      dup-addr-detection freeze permanent\n     exit-address-family\n    exit\n";

/// Both stations send from the same MAC in turn until FRR freezes it: its routes then change no more, whatever the stations do,
/// every dataplane has it where its kernel has, and the stations' own MACs are reached as before.
pub(in super::super) fn frozen(lab: &mut Lab) -> Result<()> {
    for pe in [1, 2] {
        lab.node(pe).write_config(FILE, FREEZE)?;
    }
    let result = configured(lab, true)
        .and_then(|()| extra::with(lab, TWINS, &[1, 2], |object| object, |lab| twins(lab)));
    for pe in [1, 2] {
        lab.node(pe).remove_config(FILE)?;
    }
    result?;
    configured(lab, false)
}

fn configured(lab: &Lab, wanted: bool) -> Result<()> {
    for pe in [1, 2] {
        until(LONG, format!("n{pe}'s FRR to be told"), || {
            let text = lab.node(pe).frr.vtysh(&["show running-config"])?;
            match text.contains("dup-addr-detection freeze permanent") {
                now if now == wanted => Ok(()),
                _ => Err(Error::unexpected("its configuration is as it was")),
            }
        })?;
    }
    Ok(())
}

fn twins(lab: &Lab) -> Result<()> {
    let stations = [1, 2].map(|pe| TWINS.station(pe, 1));
    let mac: Mac = [0x02, 0, 0, 0xaa, 0, 0x99];
    until(LONG, "the stations to reach each other", || super::reaches(stations[0], stations[1]))?;
    until(LONG, "FRR to freeze the MAC on a node", || {
        for station in stations {
            speak(station, mac)?;
            std::thread::sleep(Duration::from_secs(1));
        }
        if [1, 2].iter().any(|pe| duplicate(lab, *pe, mac).is_ok_and(|found| found)) {
            return Ok(());
        }
        Err(Error::unexpected("`show evpn mac vni 170 duplicate` is empty on both"))
    })?;
    // The last word that was under way when it was frozen.
    let routes = until(LONG, "its routes to rest", || {
        let before = routes(lab, mac)?;
        std::thread::sleep(Duration::from_secs(2));
        let after = routes(lab, mac)?;
        if before == after {
            Ok(after)
        } else {
            Err(Error::unexpected(format!("{before:?}, then {after:?}")))
        }
    })?;
    holds(Duration::from_secs(10), || {
        for station in stations {
            speak(station, mac)?;
            std::thread::sleep(Duration::from_secs(1));
        }
        let now = self::routes(lab, mac)?;
        if now == routes { Ok(()) } else { Err(Error::unexpected(format!("{routes:?} became {now:?}"))) }
    })?;
    for pe in [1, 2] {
        until(LONG, format!("n{pe}'s dataplane to have the MAC where its kernel has it"), || {
            let kernel = kernel_has_local(pe, mac)?;
            let entry = lab.node(pe).client()?.macs(TWINS.vni)?.remove(&text(mac));
            let ours = entry.as_ref().map(|entry| entry.kind == "local");
            if ours == kernel {
                return Ok(());
            }
            Err(Error::unexpected(format!("the kernel: local {kernel:?}; the dataplane: {entry:?}")))
        })?;
    }
    super::reaches(stations[0], stations[1])?;
    super::reaches(stations[1], stations[0])
}

/// A frame from the MAC that both have.
fn speak(station: Station, mac: Mac) -> Result<()> {
    inject(&station.name(), &station.device(), [arp_request((mac, TWINS.v4(99)), TWINS.v4(200))])
}

/// zebra calls it a duplicate.
fn duplicate(lab: &Lab, pe: u8, mac: Mac) -> Result<bool> {
    let shown = lab.node(pe).frr.vtysh(&[&format!("show evpn mac vni {} duplicate", TWINS.vni)])?;
    Ok(shown.contains(&text(mac)))
}

/// Its routes at the kernel PE.
fn routes(lab: &Lab, mac: Mac) -> Result<Vec<(String, evpn::Route)>> {
    let mac = text(mac);
    let all = evpn::routes(&lab.kernel_pe, TWINS)?;
    Ok(all.into_iter().filter(|(prefix, _)| prefix.contains(&mac)).collect())
}

/// Whether the kernel of the node's router has it on the port, none when it has not at all.
fn kernel_has_local(pe: u8, mac: Mac) -> Result<Option<bool>> {
    let text = text(mac);
    let json = netns::run(&node::router_netns(pe), "bridge", &["-j", "fdb", "show"])?;
    let all: Value = serde_json::from_str(&json)
        .map_err(|error| Error::unexpected(format!("bridge -j fdb: {error}: {json}")))?;
    let port = format!("pe-e-{}", TWINS.vni);
    let of = |entry: &&Value| entry["mac"] == text.as_str() && entry["ifname"].as_str().is_some();
    let devices: Vec<&str> = all
        .as_array()
        .into_iter()
        .flatten()
        .filter(of)
        .filter_map(|entry| entry["ifname"].as_str())
        .collect();
    Ok((!devices.is_empty()).then(|| devices.contains(&port.as_str())))
}
