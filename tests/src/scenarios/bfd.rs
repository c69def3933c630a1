//! BFD through the dataplane: it stands while nothing is broken, and says so when something is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab::plan::{KERNEL_PE, SPINES, downlink, link_pe, link_spine, spine_netns};
use crate::lab::{Frr, Lab, config, netns};
use crate::wait::{LONG, until};
use crate::{Error, Result};

use super::bgp::{same_sessions, sessions};

/// The notification Cease, BFD Down (RFC 9384), as FRR prints code and subcode.
const CEASE_BFD_DOWN: &str = "060A";

/// The sessions are those of the first scenario (those of now when it did not run), BFD is up where it is configured, and over the
/// next seconds every control packet (RFC 5880, 6.8.7) of every PE reaches its spine.
pub(super) fn stood(lab: &mut Lab) -> Result<()> {
    if lab.sessions.is_empty() {
        lab.sessions = until(LONG, "all sessions to stand", || sessions(lab))?;
    }
    let watched = SPINES.into_iter().filter(|spine| config::bfd(*spine)).collect::<Vec<_>>();
    // Receivers are looked at first before and last after: whatever was sent in between has to be among what they got.
    let mut before = Vec::new();
    for &spine in &watched {
        let received = counters(&lab.spines[usize::from(spine - 1)], "control-packet-input")?;
        before.push((received, sent(lab, spine)?));
    }
    std::thread::sleep(Duration::from_secs(5));
    same_sessions(&lab.sessions, &sessions(lab)?)?;
    for (spine, (received_before, sent_before)) in watched.into_iter().zip(before) {
        let sent_after = sent(lab, spine)?;
        until(LONG, format!("spine {spine} to have every BFD packet"), || {
            let received = counters(&lab.spines[usize::from(spine - 1)], "control-packet-input")?;
            for (peer, after) in &sent_after {
                let sent = after - sent_before.get(peer).copied().unwrap_or(0);
                let got = received.get(peer).copied().unwrap_or(0)
                    - received_before.get(peer).copied().unwrap_or(0);
                if sent == 0 || got < sent {
                    return Err(Error::unexpected(format!("{peer} sent {sent}, {got} arrived")));
                }
            }
            Ok(())
        })?;
    }
    for frr in [&lab.node(1).frr, &lab.node(2).frr, &lab.kernel_pe] {
        up(frr)?;
    }
    Ok(())
}

/// What the spine sends to n1 is lost, with every link up: BFD ends the session, before BGP's hold time could, and it comes back.
pub(super) fn silent_path(lab: &mut Lab) -> Result<()> {
    let spine = 2;
    let (ours, theirs) = (link_pe(1, spine), link_spine(1, spine));
    let frr = &lab.spines[usize::from(spine - 1)];
    let neighbour = |change: &str| netns::ip_batch(Some(&spine_netns(spine)), change);
    // A MAC that nobody has: our port drops what is sent to it.
    neighbour(&format!("neigh replace {ours} dev {} lladdr 02:00:00:00:de:ad nud permanent\n", downlink(1)))?;
    let ended = until(LONG, "the spine to end the session", || {
        let state = session(frr, &ours.to_string())?;
        if state["bgpState"] == "Established" {
            return Err(Error::unexpected("it is established"));
        }
        Ok(state)
    });
    let ours_ended = until(LONG, "n1 to end the session", || {
        let state = session(&lab.node(1).frr, &theirs.to_string())?;
        if state["bgpState"] == "Established" {
            return Err(Error::unexpected("it is established"));
        }
        Ok(state)
    });
    neighbour(&format!("neigh del {ours} dev {}\n", downlink(1)))?;
    let reasons = [ended?, ours_ended?].map(|state| reason(&state));
    until(2 * LONG, "the session and BFD to be up again", || {
        sessions(lab)?;
        up(&lab.node(1).frr)
    })?;
    if reasons.iter().any(|reason| reason.contains("BFD") || reason.contains(CEASE_BFD_DOWN)) {
        return Ok(());
    }
    Err(Error::unexpected(format!("the session ended for {reasons:?}, not for BFD")))
}

/// Why a session ended, as FRR says it: the reset's name, or a notification's with code and subcode.
fn reason(state: &serde_json::Value) -> String {
    let text = |name: &str| state[name].as_str().unwrap_or("");
    format!("{} {} {}", text("lastResetDueTo"), text("lastErrorCodeSubcode"), text("lastNotificationReason"))
}

fn session(frr: &Frr, peer: &str) -> Result<serde_json::Value> {
    Ok(frr.json(&format!("show bgp neighbors {peer} json"))?[peer].take())
}

/// Every BFD session of `frr` is up, and there is one.
fn up(frr: &Frr) -> Result<()> {
    let peers = frr.json("show bfd peers json")?;
    let peers = peers.as_array().map(Vec::as_slice).unwrap_or_default();
    if peers.is_empty() || peers.iter().any(|peer| peer["status"] != "up") {
        return Err(Error::unexpected(format!("BFD of {}: {peers:?}", frr.name())));
    }
    Ok(())
}

/// Control packets that each PE has sent to `spine`, by the PE's address.
fn sent(lab: &Lab, spine: u8) -> Result<BTreeMap<String, i64>> {
    [(1, &lab.node(1).frr), (2, &lab.node(2).frr), (KERNEL_PE, &lab.kernel_pe)]
        .into_iter()
        .map(|(pe, frr)| {
            let all = counters(frr, "control-packet-output")?;
            let sent = all.get(&link_spine(pe, spine).to_string()).copied().unwrap_or(0);
            Ok((link_pe(pe, spine).to_string(), sent))
        })
        .collect()
}

/// One counter of every BFD session, by peer.
fn counters(frr: &Frr, name: &str) -> Result<BTreeMap<String, i64>> {
    let json = frr.json("show bfd peers counters json")?;
    let peers = json.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all = BTreeMap::new();
    for peer in peers {
        let (Some(address), Some(count)) = (peer["peer"].as_str(), peer[name].as_i64()) else {
            return Err(Error::unexpected(format!("BFD counters of {}: {peer}", frr.name())));
        };
        all.insert(address.to_owned(), count);
    }
    Ok(all)
}
