//! Bridge domains: who reaches whom in them, what FRR and the kernel PE know of them, and what must not disturb them.

pub(super) mod changes;
pub(super) mod input;
pub(super) mod ipv6_vtep;
pub(super) mod late;
pub(super) mod mobility;
pub(super) mod outer;
pub(super) mod pectl;
pub(super) mod reach;
pub(super) mod routes;
pub(super) mod silence;
pub(super) mod size;
pub(super) mod static_vtep;
pub(super) mod storm;
pub(super) mod suppression;

pub(super) mod duplicate;
mod evpn;
mod extra;

use std::net::IpAddr;

use crate::Result;
use crate::lab::Lab;
use crate::lab::l2::plan::pairs;
use crate::lab::l2::{L2Vni, Station};
use crate::lab::plan::{SPINES, downlink, spine_netns};
use crate::traffic::stream::Plan;
use crate::traffic::{Outer, Sniffer, Stream, Way, ping};
use crate::wait::{LONG, until};

/// All stations of an L2VNI reach each other, both ways and in both families, and their router. (The kernel PE knows a station's
/// addresses only once its own router has been spoken to.)
fn all_reach(l2vni: L2Vni) -> Result<()> {
    let one_another =
        pairs(l2vni).into_iter().flat_map(|(from, to)| to.addresses().map(|address| (from, address)));
    let routers = l2vni
        .all_stations()
        .into_iter()
        .filter(|_| l2vni.vrf.is_some())
        .flat_map(|station| l2vni.gateways().map(|gateway| (station, gateway)));
    ping::every(
        one_another
            .chain(routers)
            .map(|(from, address)| (from.name(), address, Some(from.like(address))))
            .collect(),
    )
}

/// Waits until they do.
fn settled(l2vni: L2Vni) -> Result<()> {
    until(LONG, format!("stations of L2VNI {} to reach each other", l2vni.vni), || all_reach(l2vni))
}

/// `from` reaches both addresses of `to`.
fn reaches(from: Station, to: Station) -> Result<()> {
    ping::every(to.addresses().map(|address| (from.name(), address, Some(from.like(address)))).into())
}

/// A steady stream between two stations.
fn stream(from: Station, to: Station, family: fn(Station) -> IpAddr) -> Result<Stream> {
    Stream::start(&from.name(), &to.name(), Plan::steady(family(from), family(to)))
}

fn v4(station: Station) -> IpAddr {
    station.v4().into()
}

fn v6(station: Station) -> IpAddr {
    station.v6().into()
}

/// VXLAN packets of an L2VNI that a PE sends, as both spines receive them; of their frames those that `inner` wants.
#[derive(Debug)]
struct Wire(Vec<Sniffer<Outer>>);

impl Wire {
    fn watch(pe: u8, vni: u32, inner: impl Fn(&[u8]) -> bool + Clone + Send + 'static) -> Result<Self> {
        SPINES
            .iter()
            .map(|&spine| {
                let inner = inner.clone();
                Sniffer::start(&spine_netns(spine), &downlink(pe), Way::In, move |frame| {
                    Outer::read(frame).filter(|outer| outer.vni == vni && inner(&outer.inner))
                })
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    fn count(&self) -> usize {
        self.0.iter().map(Sniffer::count).sum()
    }

    fn stop(self) -> Result<Vec<Outer>> {
        Ok(self.0.into_iter().map(Sniffer::stop).collect::<Result<Vec<_>>>()?.concat())
    }
}

/// Both nodes' MAC table entry of a station is what it must be: local where it is, behind that VTEP elsewhere.
fn known(lab: &Lab, station: Station, pe: u8) -> Result<()> {
    for node in [1, 2] {
        evpn::dataplane_knows(lab, node, station, Some(pe))?;
    }
    evpn::kernel_knows(lab, station, Some(pe))
}
