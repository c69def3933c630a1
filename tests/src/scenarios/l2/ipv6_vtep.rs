//! VXLAN over an IPv6 underlay, beside that over IPv4.

use std::net::IpAddr;

use super::{Wire, all_reach, extra, settled};
use crate::lab::l2::config::Object;
use crate::lab::l2::{FRONT, L2Vni, MTU_OVER_V6, stations};
use crate::lab::plan::{Host, KERNEL_PE, Vrf, pe_netns, vtep_v6};
use crate::lab::{Lab, config, kernel_pe, netns};
use crate::traffic::stream::Plan;
use crate::traffic::{Stream, exchange, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

const VIOLET: Vrf = Vrf { name: "violet", vni: 400, session: 13, own: 104 };
const SIX: L2Vni =
    L2Vni { name: "six", vni: 140, vrf: Some(VIOLET), subnet: 4, stations: [1, 1, 1], mtu: MTU_OVER_V6 };
const FILE: &str = "configs/openpe_violet.yaml";
const FAMILY: &str = "underlayAddressFamily: IPv6";

fn l3vni() -> String {
    format!("l3vnis:\n- name: violet\n  vrf: violet\n  vni: {}\n  {FAMILY}\n", VIOLET.vni)
}

/// An L2VNI and an L3VNI between IPv6 VTEPs, ours and the kernel PE's: stations and a far host reach each other; outside is IPv6
/// without a UDP checksum (RFC 6935), and VNIs over IPv4 are as they were.
pub(in super::super) fn carried(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    kernel_side(lab)?;
    for pe in [1, 2] {
        lab.node(pe).write_config(FILE, &l3vni())?;
    }
    let result = extra::with(lab, SIX, &[1, 2], |object| object.with(FAMILY), carries);
    for pe in [1, 2] {
        lab.node(pe).remove_config(FILE)?;
    }
    kernel_side_gone(lab)?;
    result?;
    settled(FRONT)
}

fn kernel_side(lab: &Lab) -> Result<()> {
    let local = vtep_v6(KERNEL_PE).into();
    netns::create(&[Host { pe: KERNEL_PE, vrf: VIOLET }.name()])?;
    lab.kernel_pe.load(&config::kernel_vrf(KERNEL_PE, VIOLET))?;
    kernel_pe::tenants(KERNEL_PE, &[VIOLET], local)?;
    stations::behind_kernel(&[SIX], local)
}

fn kernel_side_gone(lab: &Lab) -> Result<()> {
    let kernel = pe_netns(KERNEL_PE);
    lab.kernel_pe.vtysh(&["configure terminal", "vrf violet", "no vni 400"])?;
    // bgpd refuses until it has heard from zebra that the VNI is gone.
    until(LONG, "bgpd to let VRF violet go", || {
        lab.kernel_pe.vtysh(&["configure terminal", "no router bgp 64520 vrf violet"])
    })?;
    let mut batch = String::new();
    for device in ["vx140", "br140", "vx400", "br400", "to-violet", "violet"] {
        batch += &format!("link del {device}\n");
    }
    netns::ip_batch(Some(&kernel), &batch)?;
    stations::remove(&[SIX.station(KERNEL_PE, 1)])?;
    netns::ip_batch(None, &format!("netns del {}", Host { pe: KERNEL_PE, vrf: VIOLET }.name()))
}

fn carries(lab: &mut Lab) -> Result<()> {
    settled(SIX)?;
    let (one, two) = (SIX.station(1, 1), SIX.station(2, 1));
    let far = Host { pe: KERNEL_PE, vrf: VIOLET };
    let tries: Vec<ping::Try> = [one, two]
        .into_iter()
        .flat_map(|station| {
            far.addresses().into_iter().flat_map(move |address| {
                let own = Some(station.like(address));
                [(station.name(), address, own), (far.name(), station.like(address), Some(address))]
            })
        })
        .collect();
    until(LONG, "stations and the far host to reach each other", || ping::every(tries.clone()))?;
    for vni in [SIX.vni, VIOLET.vni] {
        let wire = Wire::watch(1, vni, |_| true)?;
        let (to, target): (String, IpAddr) =
            if vni == SIX.vni { (two.name(), two.v4().into()) } else { (far.name(), far.v4().into()) };
        let exchanged = exchange(&one.name(), &to, target, 1 << 16).and_then(|_| {
            let plan = Plan { count: Some(100), ..Plan::steady(one.like(target), target) };
            Stream::start(&one.name(), &to, plan)?.finish()?.complete()
        });
        let seen = wire.stop()?;
        exchanged?;
        let source = IpAddr::from(vtep_v6(1));
        if let Some(outer) =
            seen.iter().find(|outer| outer.source != source || outer.checksum != 0 || outer.fragile)
        {
            return Err(Error::unexpected(format!(
                "VNI {vni} from {} to {} with UDP checksum {:#06x}",
                outer.source, outer.destination, outer.checksum
            )));
        }
        if seen.len() < 100 {
            return Err(Error::unexpected(format!("the spines saw {} packets of VNI {vni}", seen.len())));
        }
    }
    let topology = lab.node(1).client()?.topology()?;
    let mtu =
        topology.l2vnis.iter().find(|state| state.spec.as_ref().is_some_and(|spec| spec.vni == SIX.vni));
    match mtu {
        Some(state) if usize::try_from(state.mtu).ok() == Some(MTU_OVER_V6) => {}
        state => return Err(Error::unexpected(format!("its MTU should be {MTU_OVER_V6}: {state:?}"))),
    }
    all_reach(FRONT)
}

/// Where FRR knows no IPv6 VTEP, such objects are refused with the reason, and the others stand.
pub(in super::super) fn refused(lab: &mut Lab) -> Result<()> {
    let node = lab.node(1);
    node.write_config(FILE, &l3vni())?;
    node.write_l2vni(SIX, &Object::new(SIX).with(FAMILY).yaml())?;
    let told = until(LONG, "both to be refused", || {
        let status = node.controller_status()?.to_string();
        for wanted in ["openpe_violet.yaml", "openpe_six.yaml", "an IPv6 VTEP needs FRR 10.7"] {
            if !status.contains(wanted) {
                return Err(Error::unexpected(format!("{wanted} is not in {status}")));
            }
        }
        Ok(())
    });
    let topology = node.client()?.topology()?;
    node.remove_config(FILE)?;
    node.remove_l2vni(SIX)?;
    told?;
    if topology.l2vnis.iter().any(|state| state.spec.as_ref().is_some_and(|spec| spec.vni == SIX.vni)) {
        return Err(Error::unexpected("it was applied all the same"));
    }
    settled(FRONT)
}
