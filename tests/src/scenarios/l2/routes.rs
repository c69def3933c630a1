//! EVPN routes of bridge domains on both sides.

use super::{all_reach, evpn, settled};
use crate::Error;
use crate::Result;
use crate::lab::Lab;
use crate::lab::l2::L2VNIS;
use crate::lab::plan::{KERNEL_PE, vtep};
use crate::wait::{LONG, until};

/// Every FRR has type-2 routes (MAC and MAC+IP, both families) of every station and a type-3 route of every PE; the kernel PE's
/// forwarding database has ours from zebra, and each dataplane has the others'.
pub(in super::super) fn both_ways(lab: &mut Lab) -> Result<()> {
    for l2vni in L2VNIS {
        settled(l2vni)?;
        for reader in [1, 2, KERNEL_PE] {
            let frr = evpn::frr(lab, reader);
            until(LONG, format!("routes of L2VNI {} in {}", l2vni.vni, frr.name()), || {
                // The kernel forgets who has not spoken to it for a minute, and then its zebra does.
                all_reach(l2vni)?;
                let routes = evpn::routes(frr, l2vni)?;
                for pe in [1, 2, KERNEL_PE] {
                    let prefix = format!("[3]:[0]:[32]:[{}]", vtep(pe));
                    if !routes.contains_key(&prefix) {
                        return Err(Error::unexpected(format!("{} lacks {prefix}", frr.name())));
                    }
                }
                l2vni
                    .all_stations()
                    .into_iter()
                    .try_for_each(|station| evpn::frr_has(frr, station, station.pe).map(|_| ()))
            })?;
        }
        for station in l2vni.all_stations() {
            until(LONG, format!("{} to be where it is", station.name()), || {
                super::known(lab, station, station.pe)
            })?;
        }
        for pe in [1, 2] {
            let client = lab.node(pe).client()?;
            until(LONG, format!("n{pe}'s flood list of L2VNI {}", l2vni.vni), || {
                let mut vteps = client.bridge(l2vni.vni)?.map(|bridge| bridge.vteps).unwrap_or_default();
                vteps.sort();
                let others = [1, 2, KERNEL_PE].into_iter().filter(|other| *other != pe);
                let wanted: Vec<String> = others.map(|other| vtep(other).to_string()).collect();
                if vteps == wanted { Ok(()) } else { Err(Error::unexpected(format!("it is {vteps:?}"))) }
            })?;
        }
    }
    Ok(())
}
