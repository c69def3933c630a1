//! What the outer headers say of the inner packet, and the inner of the outer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Wire, settled};
use crate::lab::Lab;
use crate::lab::l2::FRONT;
use crate::lab::plan::{KERNEL_PE, SPINES, downlink, spine_netns, uplink, vtep};
use crate::traffic::packet::{IPV4, ethernet, udp4, vxlan};
use crate::traffic::stream::Plan;
use crate::traffic::{Sniffer, Stream, Way, inject};
use crate::wait::until;
use crate::{Error, Result};

const FLOWS: u16 = 64;
const PORT: u16 = 7400;

/// 64 flows between two stations have many outer UDP source ports, and both spines carry some.
pub(in super::super) fn entropy(_lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let (from, to) = (FRONT.station(1, 1), FRONT.station(2, 1));
    let wire = Wire::watch(1, FRONT.vni, |inner| inner.get(23) == Some(&17))?;
    let plan = Plan { flows: FLOWS, count: Some(640), ..Plan::steady(from.v4().into(), to.v4().into()) };
    let report = Stream::start(&from.name(), &to.name(), plan)?.finish()?;
    let counts: Vec<usize> = wire.0.iter().map(Sniffer::count).collect();
    let seen = wire.stop()?;
    report.complete()?;
    let ports: BTreeSet<u16> = seen.iter().map(|outer| outer.source_port).collect();
    if ports.len() < usize::from(FLOWS) / 2 || counts.iter().any(|count| *count < 64) {
        return Err(Error::unexpected(format!(
            "{} outer source ports; the spines {SPINES:?} carried {counts:?} packets",
            ports.len()
        )));
    }
    Ok(())
}

/// DSCP and ECN are copied into the outer header, whatever they are.
pub(in super::super) fn copied(_lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let (from, to) = (FRONT.station(1, 1), FRONT.station(2, 1));
    for tos in [0x00, 0xb8, 0xba, 0x01, 0x03, 0x2a] {
        let wire = Wire::watch(1, FRONT.vni, |inner| inner.get(36..38) == Some(&PORT.to_be_bytes()))?;
        let packet = udp4((from.v4(), PORT), (to.v4(), PORT), tos, b"marked");
        inject(&from.name(), &from.device(), [ethernet(to.mac(), from.mac(), IPV4, &packet)])?;
        let passed = until(Duration::from_secs(20), "the packet to pass a spine", || {
            if wire.count() > 0 { Ok(()) } else { Err(Error::unexpected("it has not")) }
        });
        let seen = wire.stop()?;
        passed?;
        if let Some(outer) = seen.iter().find(|outer| outer.tos != tos || outer.inner.get(15) != Some(&tos)) {
            return Err(Error::unexpected(format!("{tos:#04x} inside, {:#04x} outside", outer.tos)));
        }
    }
    Ok(())
}

/// What congestion has marked outside comes out inside, as RFC 6040 section 4.2 has it; what must not be marked is dropped.
pub(in super::super) fn congestion(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let (from, to) = (FRONT.station(KERNEL_PE, 1), FRONT.station(1, 1));
    let topology = lab.node(1).client()?.topology()?;
    let port = uplink(1);
    let nic: [u8; 6] = topology
        .ports
        .iter()
        .find(|state| state.spec.as_ref().is_some_and(|spec| spec.name == port))
        .and_then(|state| state.mac[..].try_into().ok())
        .ok_or_else(|| Error::unexpected(format!("n1 has no port {port} with a MAC")))?;
    // DSCP 46 stays whatever the outer one is. Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3.
    let cases: [(u8, u8, Option<u8>); 8] = [
        (0, 0, Some(0)),
        (2, 0, Some(0)),
        (3, 0, None),
        (0, 2, Some(2)),
        (1, 2, Some(1)),
        (3, 2, Some(3)),
        (3, 1, Some(3)),
        (0, 3, Some(3)),
    ];
    let arrivals = Sniffer::start(&to.name(), &to.device(), Way::In, |frame| {
        (frame.get(36..38) == Some(&PORT.to_be_bytes())).then(|| (frame.get(42).copied(), frame[15]))
    })?;
    let frames: Vec<Vec<u8>> = (0..)
        .zip(cases)
        .map(|(number, (outer, inner, _))| {
            let packet = udp4((from.v4(), PORT), (to.v4(), PORT), 46 << 2 | inner, &[number]);
            let frame = ethernet(to.mac(), from.mac(), IPV4, &packet);
            let outer =
                udp4((vtep(KERNEL_PE), 50_000), (vtep(1), 4789), 8 << 2 | outer, &vxlan(FRONT.vni, &frame));
            ethernet(nic, [2, 0, 0, 0, 0, 0xfe], IPV4, &outer)
        })
        .collect();
    inject(&spine_netns(1), &downlink(1), frames)?;
    let wanted: BTreeMap<u8, u8> =
        (0..).zip(cases).filter_map(|(number, (_, _, out))| Some((number, 46 << 2 | out?))).collect();
    let arrived = until(Duration::from_secs(20), "the packets to arrive", || {
        if arrivals.count() >= wanted.len() {
            Ok(())
        } else {
            Err(Error::unexpected(arrivals.count().to_string()))
        }
    });
    let seen: BTreeMap<u8, u8> =
        arrivals.stop()?.into_iter().filter_map(|(number, tos)| Some((number?, tos))).collect();
    arrived?;
    if seen != wanted {
        return Err(Error::unexpected(format!("TOS by case is {seen:?}, not {wanted:?}")));
    }
    Ok(())
}
