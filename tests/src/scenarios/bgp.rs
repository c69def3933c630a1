//! Routes that come and go, and sessions that must not.

use std::net::IpAddr;

use crate::lab::plan::{GREEN, Host, RED, VRFS};
use crate::lab::{Frr, Lab, Sessions, config, start_host};
use crate::traffic::stream::Plan;
use crate::traffic::{Stream, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

use super::fastpath::{stayed_fast, unresolved};

/// A host announces and withdraws prefixes; the kernel PE and both dataplanes follow.
pub(super) fn type5(lab: &mut Lab) -> Result<()> {
    let host = Host { pe: 1, vrf: RED };
    let announce = [
        "configure terminal",
        "router bgp 64515",
        "address-family ipv4 unicast",
        "network 10.77.0.0/24",
        "exit-address-family",
        "address-family ipv6 unicast",
        "network fd00:77::/64",
    ];
    let withdraw = announce.map(|line| match line.strip_prefix("network") {
        Some(prefix) => format!("no network{prefix}"),
        None => line.to_owned(),
    });
    lab.host(host)?.vtysh(&announce)?;
    for prefix in ["10.77.0.0/24", "fd00:77::/64"] {
        until(LONG, format!("{prefix} to be everywhere"), || present_everywhere(lab, prefix, true))?;
    }
    // Where it was announced it leads to the host, elsewhere into the tunnel; and it is in one VRF only.
    let local = &lab.node(1).client()?.routes("red")?["10.77.0.0/24"];
    let remote = &lab.node(2).client()?.routes("red")?["10.77.0.0/24"];
    if local.paths.first().is_none_or(|path| path.kind != "adjacent" || !path.usable) {
        return Err(Error::unexpected(format!("n1 forwards it by {:?}", local.paths)));
    }
    if remote
        .paths
        .first()
        .is_none_or(|path| path.kind != "vxlan" || path.vtep != "100.65.0.1" || !path.usable)
    {
        return Err(Error::unexpected(format!("n2 forwards it by {:?}", remote.paths)));
    }
    for pe in [1, 2] {
        if lab.node(pe).client()?.routes("blue")?.contains_key("10.77.0.0/24") {
            return Err(Error::unexpected(format!("n{pe} has it in VRF blue too")));
        }
    }
    lab.host(host)?.vtysh(&withdraw.each_ref().map(String::as_str))?;
    for prefix in ["10.77.0.0/24", "fd00:77::/64"] {
        until(LONG, format!("{prefix} to be gone everywhere"), || present_everywhere(lab, prefix, false))?;
    }
    Ok(())
}

fn present_everywhere(lab: &Lab, prefix: &str, wanted: bool) -> Result<()> {
    for pe in [1, 2] {
        if lab.node(pe).client()?.routes("red")?.contains_key(prefix) != wanted {
            return Err(Error::unexpected(format!(
                "n{pe}'s dataplane {}",
                if wanted { "lacks it" } else { "has it" }
            )));
        }
    }
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let routes = crate::lab::netns::run("kpe", "ip", &[family, "route", "show", "table", "1100"])?;
    if routes.lines().any(|line| line.starts_with(prefix)) != wanted {
        return Err(Error::unexpected(format!(
            "the kernel PE {}",
            if wanted { "lacks it" } else { "has it" }
        )));
    }
    Ok(())
}

/// A tenant is added to a running node: no session of any FRR resets, and a stream of another tenant loses nothing.
pub(super) fn add_vni(lab: &mut Lab) -> Result<()> {
    let (one, two) = (Host { pe: 1, vrf: RED }, Host { pe: 2, vrf: RED });
    let before = until(LONG, "all sessions to stand", || sessions(lab))?;
    let slow = unresolved(lab)?;
    let stream = Stream::start(&one.name(), &two.name(), Plan::steady(one.v4().into(), two.v4().into()))?;
    let back = Stream::start(&two.name(), &one.name(), Plan::steady(two.v6().into(), one.v6().into()))?;
    let added = add_green(lab);
    let (stream, back) = (stream.stop()?, back.stop()?);
    added?;
    stream.complete()?;
    back.complete()?;
    same_sessions(&before, &sessions(lab)?)?;

    // And away again, with the same care.
    let stream = Stream::start(&one.name(), &two.name(), Plan::steady(one.v4().into(), two.v4().into()))?;
    let removed = remove_green(lab);
    let stream = stream.stop()?;
    removed?;
    stream.complete()?;
    stayed_fast(slow, lab)?;
    same_sessions(&before, &sessions(lab)?)
}

fn add_green(lab: &mut Lab) -> Result<()> {
    let hosts = [1, 2].map(|pe| Host { pe, vrf: GREEN });
    for host in hosts {
        lab.node(host.pe).write_config("configs/openpe_green.yaml", &config::l3vni(host.pe, GREEN))?;
    }
    for host in hosts {
        let frr = start_host(host, &lab.logs)?;
        lab.hosts.push((host, frr));
    }
    let [one, two] = hosts;
    for (target, source) in [(IpAddr::from(two.v4()), one.v4().into()), (two.v6().into(), one.v6().into())] {
        until(2 * LONG, format!("{} to reach {target}", one.name()), || {
            ping(&one.name(), target, Some(source))
        })?;
    }
    Ok(())
}

fn remove_green(lab: &mut Lab) -> Result<()> {
    for pe in [1, 2] {
        lab.node(pe).remove_config("configs/openpe_green.yaml")?;
    }
    for pe in [1, 2] {
        let dataplane = lab.node(pe).client()?;
        until(LONG, format!("VRF green to leave n{pe}"), || {
            let topology = dataplane.topology()?;
            let names: Vec<String> =
                topology.vrfs.into_iter().filter_map(|vrf| vrf.spec.map(|spec| spec.name)).collect();
            if names.iter().any(|name| name == GREEN.name) {
                return Err(Error::unexpected(format!("it has {names:?}")));
            }
            Ok(())
        })?;
        let links = || crate::lab::netns::run(&format!("n{pe}-pe"), "ip", &["-br", "link"]);
        until(LONG, format!("green's shadow devices to leave n{pe}"), || {
            let text = links()?;
            if ["green", "vni300", "br-pe-300", "pe-e-300"].iter().any(|name| text.contains(name)) {
                return Err(Error::unexpected(text));
            }
            Ok(())
        })?;
    }
    for pe in [1, 2] {
        if let Some(index) = lab.hosts.iter().position(|(host, _)| *host == (Host { pe, vrf: GREEN })) {
            let (_, mut frr) = lab.hosts.remove(index);
            for daemon in ["bgpd", "zebra"] {
                frr.kill(daemon)?;
            }
        }
    }
    Ok(())
}

/// Every session of both nodes and the kernel PE.
///
/// # Errors
/// Naming one that is not established.
pub(super) fn sessions(lab: &Lab) -> Result<Sessions> {
    let mut all = Sessions::new();
    let tenants = |name: &str| VRFS.iter().any(|vrf| vrf.name == name);
    for (frr, vrfs) in [(&lab.node(1).frr, true), (&lab.node(2).frr, true), (&lab.kernel_pe, false)] {
        collect(frr, "show bgp neighbors json", "", &mut all)?;
        if vrfs {
            for vrf in VRFS.iter().filter(|vrf| tenants(vrf.name)) {
                collect(frr, &format!("show bgp vrf {} neighbors json", vrf.name), vrf.name, &mut all)?;
            }
        }
    }
    Ok(all)
}

fn collect(frr: &Frr, command: &str, vrf: &str, into: &mut Sessions) -> Result<()> {
    let json = frr.json(command)?;
    let Some(peers) = json.as_object() else { return Err(Error::unexpected(format!("{command}: {json}"))) };
    for (peer, state) in
        peers.iter().filter(|(_, state)| state.is_object() && state.get("bgpState").is_some())
    {
        let name = format!("{} {vrf} {peer}", frr.name());
        if state["bgpState"] != "Established" {
            return Err(Error::unexpected(format!("{name} is {}", state["bgpState"])));
        }
        // Unlike the uptime it does not move. FRR derives it from the uptime, so it may differ by one.
        into.insert(name, state["bgpTimerUpEstablishedEpoch"].as_i64().unwrap_or(0));
    }
    Ok(())
}

/// All sessions of `before` still stand.
pub(super) fn same_sessions(before: &Sessions, after: &Sessions) -> Result<()> {
    let reset: Vec<&String> = before
        .iter()
        .filter(|(name, established)| after.get(*name).is_none_or(|now| (now - *established).abs() > 1))
        .map(|(name, _)| name)
        .collect();
    if before.is_empty() {
        return Err(Error::unexpected("there was no session to begin with"));
    }
    if reset.is_empty() { Ok(()) } else { Err(Error::unexpected(format!("sessions were reset: {reset:?}"))) }
}
