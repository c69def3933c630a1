//! Frames that no honest station sends.

use std::net::IpAddr;

use super::{known, settled};
use crate::lab::l2::{FRONT, ISLAND, Station};
use crate::lab::{Counters, Lab};
use crate::traffic::frames::{self, Random};
use crate::traffic::inject;
use crate::traffic::packet::{ARP, BROADCAST, IPV4, Mac, VLAN, advertisement, arp, ethernet, text, udp4};
use crate::wait::{LONG, until};
use crate::{Error, Result};

const COPIES: usize = 20;

/// Source MACs that are nobody's (a group's, zero, the router's own), VLAN tags, and ARP and ND that lie: counted by a name, and
/// nothing of it is learned.
pub(in super::super) fn liars(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    settled(ISLAND)?;
    // A bridge of the host would keep the worst from us; behind the bare interface there is none.
    let bare = ISLAND.station(1, 1);
    let victim = ISLAND.station(2, 1);
    let stranger: Mac = [2, 0, 0, 0xee, 0, 1];
    let data = udp4((bare.v4(), 1), (victim.v4(), 9), 0, b"lie");
    let claim = |mac: Mac, from: Mac, address| {
        ethernet(BROADCAST, from, ARP, &arp(2, (mac, address), (mac, address)))
    };
    let tagged = [&[0, 7][..], &IPV4.to_be_bytes(), &data].concat();
    let cases: Vec<(&str, Station, Vec<u8>)> = vec![
        ("a group's source MAC", bare, ethernet(victim.mac(), [1, 0, 0x5e, 0, 0, 1], IPV4, &data)),
        ("source MAC zero", bare, ethernet(victim.mac(), [0; 6], IPV4, &data)),
        ("the router's source MAC", bare, ethernet(victim.mac(), ISLAND.gateway_mac(), IPV4, &data)),
        ("a VLAN tag", bare, ethernet(victim.mac(), bare.mac(), VLAN, &tagged)),
        ("ARP with another sender's MAC", bare, claim(stranger, bare.mac(), bare.v4())),
        ("ND with another sender's MAC", bare, advertisement(bare.mac(), stranger, bare.v6())),
        ("ARP with the gateway's address", FRONT.station(1, 2), {
            let liar = FRONT.station(1, 2);
            claim(liar.mac(), liar.mac(), FRONT.gateway_v4())
        }),
        ("ND with the gateway's address", FRONT.station(1, 2), {
            let liar = FRONT.station(1, 2);
            advertisement(liar.mac(), liar.mac(), FRONT.gateway_v6())
        }),
    ];
    let client = lab.node(1).client()?;
    for (what, from, frame) in cases {
        let vni = from.l2vni.vni;
        let count =
            |counters: &Counters| counters.bridge(vni).refused + counters.drops().values().sum::<u64>();
        let before = count(&client.counters()?);
        inject(&from.name(), &from.device(), vec![frame; COPIES])?;
        until(LONG, format!("{what} to be counted"), || match count(&client.counters()?) - before {
            counted if counted >= COPIES as u64 => Ok(()),
            counted => Err(Error::unexpected(format!("{counted} of {COPIES}"))),
        })?;
        let macs = client.macs(vni)?;
        for wrong in [[1, 0, 0x5e, 0, 0, 1], [0; 6], stranger].map(text) {
            if let Some(entry) = macs.get(&wrong) {
                return Err(Error::unexpected(format!("after {what} it has learned {entry:?}")));
            }
        }
        if let Some(entry) = macs.get(&text(from.l2vni.gateway_mac()))
            && entry.kind != "gateway"
        {
            return Err(Error::unexpected(format!("after {what} the router is {entry:?}")));
        }
        let bridge = client.bridge(vni)?.unwrap_or_default();
        let lies = [
            (IpAddr::from(bare.v4()), stranger),
            (bare.v6().into(), stranger),
            (FRONT.gateway_v4().into(), FRONT.station(1, 2).mac()),
            (FRONT.gateway_v6().into(), FRONT.station(1, 2).mac()),
        ];
        for (address, mac) in lies {
            if bridge
                .suppression
                .iter()
                .any(|entry| entry.address == address.to_string() && entry.mac == text(mac))
            {
                return Err(Error::unexpected(format!("after {what} {address} is at {}", text(mac))));
            }
        }
    }
    for station in [bare, FRONT.station(1, 2)] {
        until(LONG, format!("{} to be where it was", station.name()), || known(lab, station, 1))?;
    }
    settled(ISLAND)?;
    settled(FRONT)
}

/// Random frames of every length on a bridged port: nothing crashes, and the stations reach each other.
pub(in super::super) fn garbage(lab: &mut Lab) -> Result<()> {
    settled(ISLAND)?;
    let client = lab.node(1).client()?;
    let instance = client.topology()?.instance;
    let before = client.counters()?;
    let bare = ISLAND.station(1, 1);
    let mut random = Random::new(0x12a);
    let frames: Vec<Vec<u8>> = frames::garbage(&mut random, ISLAND.gateway_mac(), 1450).step_by(5).collect();
    inject(&bare.name(), &bare.device(), frames)?;
    until(LONG, "the garbage to be counted", || {
        let after = client.counters()?;
        let drops = after.drops().values().sum::<u64>() - before.drops().values().sum::<u64>();
        let packets = after.bridge(ISLAND.vni).packets - before.bridge(ISLAND.vni).packets;
        if drops + packets > 300 { Ok(()) } else { Err(Error::unexpected(format!("{drops} and {packets}"))) }
    })?;
    if client.topology()?.instance != instance {
        return Err(Error::unexpected("the dataplane has started anew"));
    }
    settled(ISLAND)?;
    settled(FRONT)
}
