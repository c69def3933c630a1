//! Who reaches whom, and who must not.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::bgp;
use crate::lab::Lab;
use crate::lab::plan::{BLUE, Host, KERNEL_PE, RED, VRFS, pairs};
use crate::traffic::{ping, who};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// All pairs of a VRF, both families, ours to ours and ours to the kernel PE; and it is the right host that answers.
/// From here on the sessions have to stand.
pub(super) fn hosts_of_a_vrf(lab: &mut Lab) -> Result<()> {
    for vrf in VRFS {
        until(LONG, format!("hosts of VRF {} to reach each other", vrf.name), || ping::all_reach(vrf))?;
        for (from, to) in pairs(vrf) {
            for address in to.addresses() {
                let source = from.addresses().into_iter().find(|own| own.is_ipv4() == address.is_ipv4());
                let name = who::ask(&from.name(), address, source)?;
                if name != to.name() {
                    return Err(Error::unexpected(format!(
                        "{} asked {address} and {name} answered",
                        from.name()
                    )));
                }
            }
        }
    }
    lab.sessions = until(LONG, "all sessions to stand", || bgp::sessions(lab))?;
    Ok(())
}

/// An address that only the other tenant has is not reached, from anywhere.
pub(super) fn walls(lab: &mut Lab) -> Result<()> {
    // First that those addresses do answer at home, or their silence would prove nothing.
    for (vrf, other) in [(RED, BLUE), (BLUE, RED)] {
        let [n1, n2] = [1, 2].map(|pe| Host { pe, vrf });
        for target in [IpAddr::from(n2.own_v4()), n2.own_v6().into()] {
            let source = n1.addresses().into_iter().find(|own| own.is_ipv4() == target.is_ipv4());
            until(LONG, format!("{} to reach {target}", n1.name()), || ping(&n1.name(), target, source))?;
            for pe in [1, KERNEL_PE] {
                let stranger = Host { pe, vrf: other };
                let source = stranger.addresses().into_iter().find(|own| own.is_ipv4() == target.is_ipv4());
                if ping(&stranger.name(), target, source).is_ok() {
                    return Err(Error::unexpected(format!(
                        "{} reaches {target} of VRF {}",
                        stranger.name(),
                        vrf.name
                    )));
                }
            }
        }
    }
    for pe in [1, 2] {
        let dataplane = lab.node(pe).client()?;
        let mut strays = Vec::new();
        for (vrf, other) in [(RED, BLUE), (BLUE, RED)] {
            let routes = dataplane.routes(vrf.name)?;
            for host in [1, 2].map(|pe| Host { pe, vrf: other }) {
                let foreign = [format!("{}/32", host.own_v4()), format!("{}/128", host.own_v6())];
                strays.extend(foreign.into_iter().filter(|prefix| routes.contains_key(prefix)));
            }
        }
        if !strays.is_empty() {
            return Err(Error::unexpected(format!("n{pe} has routes of the other tenant: {strays:?}")));
        }
    }
    Ok(())
}

/// Nothing has a route to 203.0.113.9 and 2001:db8:dead::9: dropped where they enter, and counted there.
pub(super) fn no_route(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.node(1).client()?;
    let before = dataplane.counters()?;
    let host = Host { pe: 1, vrf: RED };
    // The host itself has no route to it either, until it is given one.
    let [v4, v6] = crate::lab::plan::session_pe(RED);
    let gateways =
        format!("route replace 203.0.113.0/24 via {v4}\n-6 route replace 2001:db8:dead::/48 via {v6}\n");
    crate::lab::netns::ip_batch(Some(&host.name()), &gateways)?;
    let targets: [IpAddr; 2] = [
        Ipv4Addr::new(203, 0, 113, 9).into(),
        std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 9).into(),
    ];
    let mut result = Ok(());
    for target in targets {
        for _ in 0..2 {
            if ping(&host.name(), target, None).is_ok() {
                result = Err(Error::unexpected(format!("{target} answered")));
            }
        }
    }
    crate::lab::netns::ip_batch(
        Some(&host.name()),
        "route del 203.0.113.0/24\n-6 route del 2001:db8:dead::/48\n",
    )?;
    result?;
    until(Duration::from_secs(10), "the misses to be counted", || {
        let after = dataplane.counters()?;
        let (vrf, drops) = (
            after.no_route("red") - before.no_route("red"),
            after.drops().get("no-route").copied().unwrap_or(0)
                - before.drops().get("no-route").copied().unwrap_or(0),
        );
        if vrf >= 4 && drops >= 4 && after.no_route("blue") == before.no_route("blue") {
            return Ok(());
        }
        Err(Error::unexpected(format!("{vrf} misses in VRF red, {drops} drops for want of a route")))
    })
}
