//! L2VNIs that a scenario brings and takes away again.

use crate::lab::l2::config::Object;
use crate::lab::l2::{Attachment, L2Vni, Station, stations};
use crate::lab::{Lab, netns, node};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// Adds an L2VNI to nodes of ours, each with the host's bridge that we make and its stations in it; does `work`; and removes all of
/// it, whatever came of the work.
pub(super) fn with<T>(
    lab: &mut Lab,
    l2vni: L2Vni,
    nodes: &[u8],
    object: impl Fn(Object) -> Object,
    work: impl FnOnce(&mut Lab) -> Result<T>,
) -> Result<T> {
    let managed = Attachment::Managed(format!("br-hs-{}", l2vni.vni));
    let here = |pe: u8| l2vni.all_stations().into_iter().filter(move |station| station.pe == pe);
    let all: Vec<Station> = nodes.iter().flat_map(|pe| here(*pe)).collect();
    stations::create(&all)?;
    let text = object(Object::new(l2vni).on(&managed)).yaml();
    let started = nodes.iter().try_for_each(|pe| lab.node(*pe).write_l2vni(l2vni, &text));
    for station in &all {
        lab.keeper.keep(*station, managed.clone());
    }
    let result = started
        .and_then(|()| {
            until(LONG, format!("L2VNI {} to be there", l2vni.vni), || {
                all.iter().try_for_each(|station| lab.keeper.attached(*station).map(|_| ()))
            })
        })
        .and_then(|()| work(lab));
    let released = all.iter().try_for_each(|station| lab.keeper.release(*station));
    let removed = nodes.iter().try_for_each(|pe| lab.node(*pe).remove_l2vni(l2vni));
    stations::remove(&all)?;
    let gone = nodes.iter().try_for_each(|pe| {
        gone(lab, *pe, l2vni)?;
        let bridge = format!("br-hs-{}", l2vni.vni);
        until(LONG, format!("{bridge} to be removed"), || absent_in_host(*pe, &bridge))
    });
    let value = result?;
    released.and(removed).and(gone)?;
    Ok(value)
}

fn absent_in_host(pe: u8, device: &str) -> Result<()> {
    match netns::index(&format!("n{pe}"), device)? {
        None => Ok(()),
        Some(_) => Err(Error::unexpected(format!("{device} is in n{pe}'s namespace"))),
    }
}

/// Waits until nothing of an L2VNI is left on a node, but for the host's bridge, which stays as long as somebody is in it.
pub(super) fn gone(lab: &Lab, pe: u8, l2vni: L2Vni) -> Result<()> {
    let vni = l2vni.vni;
    let client = lab.node(pe).client()?;
    until(LONG, format!("L2VNI {vni} to leave n{pe}"), || {
        if client.bridge(vni)?.is_some() {
            return Err(Error::unexpected("the dataplane has it"));
        }
        for device in [format!("br-pe-{vni}"), format!("vni{vni}"), format!("pe-e-{vni}")] {
            if netns::index(&node::router_netns(pe), &device)?.is_some() {
                return Err(Error::unexpected(format!("{device} is in the router's namespace")));
            }
        }
        absent_in_host(pe, &format!("host-e-{vni}"))
    })
}
