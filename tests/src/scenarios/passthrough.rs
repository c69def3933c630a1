//! A host's session in the default VRF: its prefixes go into the fabric as they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bgp::{same_sessions, sessions};
use crate::lab::plan::{downlink, passthrough_host, passthrough_own, passthrough_prefix, spine_netns};
use crate::lab::{Frr, Lab, config, netns};
use crate::traffic::packet::{IPV4, IPV6, ethertype};
use crate::traffic::{Outer, Sniffer, Way, exchange, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// What is behind the first spine, in the fabric's own routing.
const FABRIC: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1)),
];

/// Hosts of both nodes and an address behind a spine reach each other un-encapsulated, in both families, with the addresses they
/// really have; then the passthrough goes and leaves nothing.
pub(super) fn both_ways(lab: &mut Lab) -> Result<()> {
    let before = until(LONG, "all sessions to stand", || sessions(lab))?;
    let names = [1, 2].map(name);
    netns::create(&names)?;
    behind_spine("add")?;
    fabric(lab, "")?;
    let mut speakers = Vec::new();
    let result = start(lab, &mut speakers).and_then(|()| reach()).and_then(|()| bare());
    for pe in [1, 2] {
        // Of an earlier failure there may be none.
        let _ = lab.node(pe).remove_config(FILE);
    }
    let stopped =
        speakers.iter_mut().try_for_each(|frr| ["bgpd", "zebra"].iter().try_for_each(|name| frr.kill(name)));
    fabric(lab, "no ")?;
    behind_spine("del")?;
    let gone = until(LONG, "the passthrough's port to be gone", || {
        for pe in [1, 2] {
            let ports = lab.node(pe).client()?.topology()?.ports;
            if let Some(port) =
                ports.iter().find(|port| port.spec.as_ref().is_some_and(|spec| spec.name.starts_with("pt")))
            {
                return Err(Error::unexpected(format!("n{pe} has {port:?}")));
            }
        }
        Ok(())
    });
    for name in names {
        netns::ip_batch(None, &format!("netns del {name}"))?;
    }
    result?;
    stopped.and(gone)?;
    same_sessions(&before, &sessions(lab)?)
}

const FILE: &str = "configs/openpe_passthrough.yaml";

fn name(pe: u8) -> String {
    format!("n{pe}-pt")
}

fn behind_spine(verb: &str) -> Result<()> {
    let [v4, v6] = FABRIC;
    netns::ip_batch(
        Some(&spine_netns(1)),
        &format!("addr {verb} {v4}/32 dev lo\naddr {verb} {v6}/128 dev lo\n"),
    )
}

fn fabric(lab: &Lab, no: &str) -> Result<()> {
    let [v4, v6] = FABRIC;
    let (v4, v6) = (format!("{no}network {v4}/32"), format!("{no}network {v6}/128"));
    lab.spines[0]
        .vtysh(&[
            "configure terminal",
            "router bgp 64612",
            "address-family ipv4 unicast",
            &v4,
            "exit-address-family",
            "address-family ipv6 unicast",
            &v6,
        ])
        .map(|_| ())
}

fn start(lab: &Lab, speakers: &mut Vec<Frr>) -> Result<()> {
    for pe in [1, 2] {
        let host = name(pe);
        lab.node(pe).write_config(FILE, &config::passthrough(&host))?;
        let [v4, v6] = passthrough_own(pe);
        netns::ip_batch(Some(&host), &format!("addr add {v4}/24 dev lo\naddr add {v6}/64 dev lo\n"))?;
        let mut frr = Frr::new(&host, &host, None, &lab.logs).with("zebra", &[]).with("bgpd", &[]);
        frr.start()?;
        speakers.push(frr);
        if let Some(frr) = speakers.last() {
            frr.load(&config::passthrough_host(pe))?;
        }
    }
    for pe in [1, 2] {
        let client = lab.node(pe).client()?;
        let other = 3 - pe;
        until(2 * LONG, format!("n{pe} to have the other host's prefixes"), || {
            let routes = client.routes("default")?;
            match passthrough_prefix(other).into_iter().find(|prefix| !routes.contains_key(prefix)) {
                None => Ok(()),
                Some(prefix) => Err(Error::unexpected(format!("it lacks {prefix}"))),
            }
        })?;
    }
    Ok(())
}

fn reach() -> Result<()> {
    let spine = spine_netns(1);
    let mut tries: Vec<ping::Try> = Vec::new();
    for family in [0, 1] {
        for pe in [1, 2] {
            let own = passthrough_own(pe)[family];
            tries.push((name(pe), FABRIC[family], Some(own)));
            tries.push((spine.clone(), own, Some(FABRIC[family])));
            tries.push((name(pe), passthrough_own(3 - pe)[family], Some(own)));
        }
    }
    until(LONG, "hosts and fabric to reach each other", || ping::every(tries.clone()))?;
    for (family, target) in FABRIC.into_iter().enumerate() {
        // Over the session's own link the host's address is the one on it.
        let seen = exchange(&name(1), &spine, target, 1 << 16)?;
        if seen != passthrough_host(1)[family] {
            return Err(Error::unexpected(format!("the fabric sees {seen}")));
        }
        let own = passthrough_own(1)[family];
        exchange(&name(2), &name(1), own, 1 << 16)?;
    }
    Ok(())
}

/// What the first spine receives from n1 of such packets is IP over Ethernet, nothing else.
fn bare() -> Result<()> {
    let [IpAddr::V4(v4), IpAddr::V6(v6)] = passthrough_own(1) else {
        return Err(Error::unexpected("one of each family"));
    };
    let plain = Sniffer::start(&spine_netns(1), &downlink(1), Way::In, move |frame| {
        let source = match ethertype(frame)? {
            IPV4 => frame.get(26..30)? == v4.octets(),
            IPV6 => frame.get(22..38)? == v6.octets(),
            _ => false,
        };
        source.then_some(())
    })?;
    let wrapped = Sniffer::start(&spine_netns(1), &downlink(1), Way::In, move |frame| {
        let inner = Outer::read(frame)?.inner;
        (inner.windows(4).any(|bytes| bytes == v4.octets())
            || inner.windows(16).any(|bytes| bytes == v6.octets()))
        .then_some(())
    })?;
    let pinged = FABRIC
        .into_iter()
        .zip(passthrough_own(1))
        .try_for_each(|(target, own)| ping(&name(1), target, Some(own)).map(|_| ()));
    let (plain, wrapped) = (plain.stop()?.len(), wrapped.stop()?.len());
    pinged?;
    if plain < 2 || wrapped > 0 {
        return Err(Error::unexpected(format!("{plain} packets plain, {wrapped} in VXLAN")));
    }
    Ok(())
}
