//! Processes that die and come back while traffic runs.

use std::time::Duration;

use crate::lab::plan::{Host, KERNEL_PE, RED, vtep};
use crate::lab::{Lab, Node};
use crate::traffic::Stream;
use crate::traffic::stream::Plan;
use crate::wait::{LONG, holds, until};
use crate::{Error, Result};

use super::bgp::{same_sessions, sessions};
use super::fastpath::{stayed_fast, unresolved};

/// frr-bridge is killed and started again: nothing is lost, and the FIB is the same afterwards.
pub(super) fn bridge(lab: &mut Lab) -> Result<()> {
    undisturbed(lab, |node| {
        node.bridge.kill()?;
        std::thread::sleep(Duration::from_secs(2));
        node.bridge.start()?;
        let client = node.client()?;
        until(LONG, "frr-bridge to be in sync again", || {
            let info = client.info()?;
            if info.fib_synced { Ok(()) } else { Err(Error::unexpected("its session is not synced")) }
        })
    })
}

/// Likewise pe-controller, first killed, then stopped politely.
pub(super) fn controller(lab: &mut Lab) -> Result<()> {
    undisturbed(lab, |node| {
        node.controller.kill()?;
        std::thread::sleep(Duration::from_secs(1));
        node.controller.start()?;
        std::thread::sleep(Duration::from_secs(5));
        node.controller.stop()?;
        node.controller.start()?;
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    })
}

/// Does something to node 1 while streams cross it both ways. No packet is lost, no session reset; the FIB is what it was.
fn undisturbed(lab: &mut Lab, disturb: impl FnOnce(&mut Node) -> Result<()>) -> Result<()> {
    let (one, two) = (Host { pe: 1, vrf: RED }, Host { pe: 2, vrf: RED });
    let standing = until(LONG, "all sessions to stand", || sessions(lab))?;
    let before = (fib(lab.node(1))?, standing);
    let slow = unresolved(lab)?;
    let out = Stream::start(&one.name(), &two.name(), Plan::steady(one.v4().into(), two.v4().into()))?;
    let back = Stream::start(&two.name(), &one.name(), Plan::steady(two.v6().into(), one.v6().into()))?;
    std::thread::sleep(Duration::from_secs(1));
    let done = disturb(lab.node_mut(1));
    std::thread::sleep(Duration::from_secs(2));
    let (out, back) = (out.stop()?, back.stop()?);
    done?;
    out.complete()?;
    back.complete()?;
    stayed_fast(slow, lab)?;
    same_sessions(&before.1, &sessions(lab)?)?;
    let same = |node: &Node| {
        let now = fib(node)?;
        if now == before.0 { Ok(()) } else { Err(Error::unexpected(difference(&before.0, &now))) }
    };
    until(LONG, "the FIB to be what it was", || same(lab.node(1)))?;
    holds(Duration::from_secs(3), || same(lab.node(1)))
}

/// Every route of every VRF as a line, but for host routes of the kernel PE's: its kernel forgets stations that say
/// nothing for a while.
fn fib(node: &Node) -> Result<Vec<String>> {
    let client = node.client()?;
    let mut lines = Vec::new();
    for (prefix, route) in ["default", "red", "blue"]
        .into_iter()
        .map(|vrf| client.routes(vrf))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
    {
        let is_host = prefix.ends_with("/32") || prefix.ends_with("/128");
        if is_host && route.paths.iter().all(|path| path.vtep == vtep(KERNEL_PE).to_string()) {
            continue;
        }
        let mut paths: Vec<String> = route
            .paths
            .iter()
            .map(|path| {
                format!(
                    "{} {} {} {} {} {}",
                    path.kind, path.port, path.gateway, path.vni, path.vtep, path.router_mac
                )
            })
            .collect();
        paths.sort();
        lines.push(format!("{} {prefix} {}", route.vrf, paths.join(" | ")));
    }
    lines.sort();
    Ok(lines)
}

fn difference(before: &[String], after: &[String]) -> String {
    let lost = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let gained = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    lost.chain(gained).collect::<Vec<_>>().join("\n")
}
