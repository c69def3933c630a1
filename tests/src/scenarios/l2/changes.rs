//! Changes of one L2VNI that no other traffic may notice.

use super::{extra, reaches, settled, stream, v4, v6};
use crate::lab::l2::config::{Object, l2vni};
use crate::lab::l2::{Attachment, BACK, FRONT};
use crate::lab::plan::{Host, KERNEL_PE, RED};
use crate::lab::{Lab, netns};
use crate::traffic::stream::Plan;
use crate::traffic::{Report, Stream, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

use super::super::bgp::{same_sessions, sessions};

/// An L2VNI is deleted and comes back.
pub(in super::super) fn re_added(lab: &mut Lab) -> Result<()> {
    unnoticed(lab, |lab| {
        lab.node(1).remove_l2vni(BACK)?;
        let gone = extra::gone(lab, 1, BACK);
        lab.node(1).write_l2vni(BACK, &l2vni(1, BACK))?;
        gone?;
        settled(BACK)
    })
}

/// An L2VNI's gateway gets other addresses, and its own again.
pub(in super::super) fn gateway(lab: &mut Lab) -> Result<()> {
    let station = BACK.station(1, 1);
    let other = [BACK.v4(254).into(), BACK.v6(0xfe).into()];
    let texts = [format!("{}/24", other[0]), format!("{}/64", other[1])];
    unnoticed(lab, |lab| {
        let changed = Object::new(BACK).on(&BACK.attachment(1)).gateways(&texts).yaml();
        lab.node(1).write_l2vni(BACK, &changed)?;
        let answers = until(LONG, "the new gateways to answer", || {
            ping::every(other.map(|gateway| (station.name(), gateway, Some(station.like(gateway)))).into())
        });
        lab.node(1).write_l2vni(BACK, &l2vni(1, BACK))?;
        answers?;
        let client = lab.node(1).client()?;
        until(LONG, "the old gateways to be back", || {
            let mut addresses =
                client.bridge(BACK.vni)?.map(|bridge| bridge.gateway_addresses).unwrap_or_default();
            addresses.sort();
            let mut wanted = vec![format!("{}/24", BACK.gateway_v4()), format!("{}/64", BACK.gateway_v6())];
            wanted.sort();
            if addresses == wanted { Ok(()) } else { Err(Error::unexpected(format!("{addresses:?}"))) }
        })?;
        until(LONG, "the old gateways to answer", || {
            ping::every(
                BACK.gateways().map(|gateway| (station.name(), gateway, Some(station.like(gateway)))).into(),
            )
        })?;
        settled(BACK)
    })
}

/// An L2VNI moves from our bridge into one of the host's, and back.
pub(in super::super) fn host_master(lab: &mut Lab) -> Result<()> {
    const BRIDGE: &str = "br-other";
    let (station, far) = (BACK.station(1, 1), BACK.station(2, 1));
    netns::ip_batch(
        Some("n1"),
        &format!("link add {BRIDGE} type bridge\nlink set {BRIDGE} addrgenmode none up"),
    )?;
    let result = unnoticed(lab, |lab| {
        let external = Attachment::External(BRIDGE.into());
        lab.node(1).write_l2vni(BACK, &Object::new(BACK).on(&external).yaml())?;
        lab.keeper.keep(station, external);
        let moved = until(LONG, "the station to be reached in the other bridge", || reaches(far, station));
        let managed_gone =
            until(LONG, "our bridge to be removed", || match netns::index("n1", "br-hs-120")? {
                None => Ok(()),
                Some(_) => Err(Error::unexpected("it is there")),
            });
        lab.node(1).write_l2vni(BACK, &l2vni(1, BACK))?;
        lab.keeper.keep(station, BACK.attachment(1));
        moved?;
        managed_gone?;
        until(LONG, "the station to be reached in our bridge", || reaches(far, station))?;
        netns::index("n1", BRIDGE)?
            .map(|_| ())
            .ok_or_else(|| Error::unexpected("the host's own bridge was removed"))?;
        settled(BACK)
    });
    netns::ip_batch(Some("n1"), &format!("link del {BRIDGE}"))?;
    result
}

/// Does something while numbered datagrams cross both nodes in another L2VNI and in L3VNIs: none is lost, no session is reset.
fn unnoticed(lab: &mut Lab, disturb: impl FnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    settled(FRONT)?;
    let before = until(LONG, "all sessions to stand", || sessions(lab))?;
    let [one, two, kernel] = [1, 2, KERNEL_PE].map(|pe| Host { pe, vrf: RED });
    let mut streams: Vec<Stream> = vec![
        stream(FRONT.station(1, 1), FRONT.station(2, 1), v4)?,
        stream(FRONT.station(2, 2), FRONT.station(1, 2), v6)?,
        stream(FRONT.station(KERNEL_PE, 1), FRONT.station(1, 1), v4)?,
        Stream::start(&one.name(), &two.name(), Plan::steady(one.v4().into(), two.v4().into()))?,
        Stream::start(&one.name(), &kernel.name(), Plan::steady(one.v6().into(), kernel.v6().into()))?,
    ];
    // zebra 8.4.4 forgets a VTEP's router MAC when one of that VTEP's host routes goes, and the kernel PE has nobody who
    // remembers it: its way back ends there, whatever our nodes do.
    if !lab.kernel_pe.is_the_machines() {
        let back = Plan::steady(kernel.v6().into(), one.v6().into());
        streams.push(Stream::start(&kernel.name(), &one.name(), back)?);
    }
    let done = disturb(lab);
    let reports: Vec<Report> = streams.into_iter().map(Stream::stop).collect::<Result<_>>()?;
    done?;
    reports.iter().try_for_each(Report::complete)?;
    same_sessions(&before, &sessions(lab)?)
}
