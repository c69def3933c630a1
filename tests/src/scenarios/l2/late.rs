//! Stations that spoke before FRR knew their L2VNI.

use super::silence::QUIET;
use super::{evpn, extra};
use crate::lab::Lab;
use crate::traffic::inject;
use crate::traffic::packet::{advertisement, arp_request};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// A MAC that is learned while frr-bridge is away, in an L2VNI that FRR has no device of, is advertised once it is back.
pub(in super::super) fn advertised(lab: &mut Lab) -> Result<()> {
    lab.node_mut(1).bridge.kill()?;
    let result = extra::with(
        lab,
        QUIET,
        &[1, 2],
        |object| object,
        |lab| {
            let early = QUIET.station(1, 1);
            let announce = || {
                let frames = vec![
                    arp_request((early.mac(), early.v4()), early.v4()),
                    advertisement(early.mac(), early.mac(), early.v6()),
                ];
                inject(&early.name(), &early.device(), frames)
            };
            let spoken = until(LONG, "n1 to learn the station", || {
                announce()?;
                evpn::dataplane_knows(lab, 1, early, Some(1))
            });
            let unknown = evpn::frr_has_not(&lab.node(2).frr, early);
            lab.node_mut(1).bridge.start()?;
            spoken?;
            unknown?;
            until(LONG, "its routes in n2", || evpn::frr_has(&lab.node(2).frr, early, 1))?;
            until(LONG, "n2 to have it", || evpn::dataplane_knows(lab, 2, early, Some(1)))
        },
    );
    // Whatever kept the work from being done.
    if lab.node(1).bridge.pid().is_none() {
        lab.node_mut(1).bridge.start()?;
    }
    let client = lab.node(1).client()?;
    until(LONG, "frr-bridge to be in sync again", || {
        if client.info()?.fib_synced { Ok(()) } else { Err(Error::unexpected("its session is not synced")) }
    })?;
    result
}
