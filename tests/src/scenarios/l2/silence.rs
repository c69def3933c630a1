//! Stations that only listen, and stations that are gone.

use std::time::Duration;

use super::{evpn, extra};
use crate::lab::l2::{L2Vni, MTU, Station};
use crate::lab::plan::RED;
use crate::lab::{Lab, netns};
use crate::traffic::Stream;
use crate::traffic::stream::Plan;
use crate::wait::{LONG, holds, until};
use crate::{Error, Result};

/// Its entries age fast.
pub(super) const QUIET: L2Vni =
    L2Vni { name: "quiet", vni: 150, vrf: Some(RED), subnet: 5, stations: [1, 1, 0], mtu: MTU };

/// Seconds, the least that there is.
const AGEING: u64 = 10;

/// A station that says nothing by itself keeps its type-2 routes beyond its ageing time, and what is sent to it then is not flooded;
/// one that is gone loses them.
pub(in super::super) fn listener(lab: &mut Lab) -> Result<()> {
    let ageing = format!("agingSeconds: {AGEING}");
    extra::with(
        lab,
        QUIET,
        &[1, 2],
        |object| object.with(&ageing),
        |lab| {
            let (listener, speaker) = (QUIET.station(1, 1), QUIET.station(2, 1));
            until(LONG, "the listener to be reached", || super::reaches(speaker, listener))?;
            stays(lab, listener, speaker)?;
            netns::ip_batch(Some(&listener.name()), "link set eth0 down")?;
            until(LONG, "the listener's routes to be withdrawn", || {
                evpn::frr_has_not(&lab.node(2).frr, listener)
            })?;
            for node in [1, 2] {
                until(LONG, format!("n{node} to forget it"), || {
                    evpn::dataplane_knows(lab, node, listener, None)
                })?;
            }
            Ok(())
        },
    )
}

fn stays(lab: &Lab, listener: Station, speaker: Station) -> Result<()> {
    let frr = &lab.node(2).frr;
    until(LONG, "its routes", || evpn::frr_has(frr, listener, 1))?;
    until(LONG, "n2 to have it", || evpn::dataplane_knows(lab, 2, listener, Some(1)))?;
    holds(Duration::from_secs(5 * AGEING / 2), || {
        // A process each time, which is dear where the lab runs.
        std::thread::sleep(Duration::from_secs(2));
        evpn::frr_has(frr, listener, 1)?;
        evpn::dataplane_knows(lab, 1, listener, Some(1))?;
        evpn::dataplane_knows(lab, 2, listener, Some(1))
    })?;
    let client = lab.node(2).client()?;
    let before = client.counters()?.bridge(QUIET.vni);
    let plan = Plan { count: Some(200), ..Plan::steady(speaker.v4().into(), listener.v4().into()) };
    Stream::start(&speaker.name(), &listener.name(), plan)?.finish()?.complete()?;
    let after = client.counters()?.bridge(QUIET.vni);
    let (packets, flooded) = (after.packets - before.packets, after.flooded - before.flooded);
    // The speaker's own stack may ask for the listener by broadcast, which is flooded or answered.
    if packets < 200 || flooded > 20 {
        return Err(Error::unexpected(format!("of {packets} frames {flooded} were flooded")));
    }
    Ok(())
}
