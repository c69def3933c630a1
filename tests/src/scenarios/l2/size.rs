//! The largest frame, and one byte more.

use std::net::UdpSocket;
use std::time::Duration;

use super::{Wire, settled};
use crate::lab::l2::MTU;
use crate::lab::l2::{FRONT, Station};
use crate::lab::plan::{KERNEL_PE, pe_netns};
use crate::lab::{Lab, netns};
use crate::traffic::inject;
use crate::traffic::packet::{IPV4, ethernet, udp4};
use crate::{Error, Result};

const PORT: u16 = 7300;
const FRAMES: usize = 20;

/// Frames of up to the MTU are delivered whole, longer ones are not; and never is there a fragment outside.
pub(in super::super) fn exact(_lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let from = FRONT.station(1, 1);
    // The station's own link takes more than the tunnel, so that it is the PE that has to refuse.
    set_mtu(from, 1600)?;
    let result =
        [FRONT.station(2, 1), FRONT.station(KERNEL_PE, 1)].into_iter().try_for_each(|to| sizes(from, to));
    set_mtu(from, MTU)?;
    result
}

fn set_mtu(station: Station, mtu: usize) -> Result<()> {
    netns::ip_batch(Some(&station.name()), &format!("link set {} mtu {mtu}", station.device()))?;
    netns::ip_batch(Some(&pe_netns(station.pe)), &format!("link set {} mtu {mtu}", station.port()))
}

fn sizes(from: Station, to: Station) -> Result<()> {
    let wire = Wire::watch(from.pe, FRONT.vni, |_| true)?;
    let receiver = netns::within(&to.name(), || {
        UdpSocket::bind((to.v4(), PORT)).map_err(Error::system("cannot listen"))
    })?;
    receiver.set_read_timeout(Some(Duration::from_secs(2))).map_err(Error::system("cannot set a timeout"))?;
    let mut lengths = vec![100; FRAMES];
    // One byte more passes a Linux bridge, which leaves room for a VLAN tag.
    for length in [MTU - 1, MTU, MTU + 1, MTU + 4] {
        lengths.extend(vec![length; FRAMES]);
    }
    lengths.extend(vec![101; FRAMES]);
    let frames: Vec<Vec<u8>> = lengths
        .into_iter()
        .map(|length| {
            let packet = udp4((from.v4(), PORT), (to.v4(), PORT), 0, &vec![0x5a; length - 28]);
            ethernet(to.mac(), from.mac(), IPV4, &packet)
        })
        .collect();
    inject(&from.name(), &from.device(), frames)?;
    let mut received = std::collections::BTreeMap::<usize, usize>::new();
    let mut buffer = [0; 2048];
    while let Ok((length, _)) = receiver.recv_from(&mut buffer) {
        *received.entry(length + 28).or_default() += 1;
    }
    let seen = wire.stop()?;
    let wanted = [100, 101, MTU - 1, MTU].map(|length| (length, FRAMES));
    if received != wanted.into() {
        return Err(Error::unexpected(format!("{} received {received:?} frames by length", to.name())));
    }
    if let Some(outer) = seen.iter().find(|outer| outer.fragile || outer.inner.len() > MTU + 14) {
        return Err(Error::unexpected(format!(
            "an outer packet for {} is a fragment, may become one or is too long: {} bytes inside",
            outer.destination,
            outer.inner.len()
        )));
    }
    if seen.is_empty() {
        return Err(Error::unexpected("the spines saw nothing"));
    }
    Ok(())
}
