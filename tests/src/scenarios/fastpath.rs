//! Which way packets take: through the workers, over both spines, and at what price when there are none.

use std::time::Duration;

use crate::lab::plan::{Host, RED, SPINES, downlink, spine_netns, uplink};
use crate::lab::{Counters, Lab, netns, node};
use crate::traffic::stream::Plan;
use crate::traffic::{Report, Stream, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

const PACKETS: u64 = 10_000;

/// What crosses beside the packets that are counted (BGP, BFD, neighbour upkeep) stays well under this.
const BACKGROUND: u64 = 500;

/// 10 000 packets cross: forwarded counters grow by as many, hand-overs and shadow devices do not.
pub(super) fn counters(lab: &mut Lab) -> Result<()> {
    let (one, two) = (Host { pe: 1, vrf: RED }, Host { pe: 2, vrf: RED });
    let clients = [lab.node(1).client()?, lab.node(2).client()?];
    let before = [clients[0].counters()?, clients[1].counters()?];
    let shadows = [shadow_packets(1)?, shadow_packets(2)?];
    let report = Stream::start(
        &one.name(),
        &two.name(),
        Plan {
            pause: Duration::from_micros(400),
            count: Some(PACKETS),
            ..Plan::steady(one.v4().into(), two.v4().into())
        },
    )?
    .finish()?;
    report.complete()?;
    for (index, client) in clients.iter().enumerate() {
        let after = client.counters()?;
        let forwarded = after.forwarded() - before[index].forwarded();
        let handed_over = total(&after) - total(&before[index]);
        let shadow = shadow_packets(if index == 0 { 1 } else { 2 })? - shadows[index];
        let seen = format!(
            "n{}: {forwarded} forwarded, {handed_over} handed over, {shadow} on shadow devices",
            index + 1
        );
        if !(PACKETS..PACKETS + BACKGROUND).contains(&forwarded)
            || handed_over > BACKGROUND
            || shadow > 2 * BACKGROUND
        {
            return Err(Error::unexpected(seen));
        }
    }
    Ok(())
}

fn total(counters: &Counters) -> u64 {
    counters.hand_overs().values().sum()
}

/// Packets that both nodes handed over for want of a neighbour, a VTEP or a router MAC.
pub(super) fn unresolved(lab: &Lab) -> Result<u64> {
    let mut packets = 0;
    for pe in [1, 2] {
        let counters = lab.node(pe).client()?.counters()?;
        packets += counters
            .0
            .classes
            .iter()
            .filter(|class| class.class == "resolve")
            .map(|class| class.passed + class.policed)
            .sum::<u64>();
    }
    Ok(packets)
}

/// The kernel has not silently forwarded in the dataplane's place since `before` was counted; the first packets to a new neighbour it may.
pub(super) fn stayed_fast(before: u64, lab: &Lab) -> Result<()> {
    let more = unresolved(lab)? - before;
    if more < 100 {
        return Ok(());
    }
    Err(Error::unexpected(format!(
        "the kernel had to forward {more} packets that the dataplane could not resolve"
    )))
}

/// Packets received and sent by all devices of the router's namespace, but its loopback.
fn shadow_packets(pe: u8) -> Result<u64> {
    let text = netns::run(&node::router_netns(pe), "ip", &["-s", "-j", "link"])?;
    let links: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::unexpected(format!("ip -j link: {error}")))?;
    let count = |link: &serde_json::Value, way: &str| link["stats64"][way]["packets"].as_u64().unwrap_or(0);
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter(|link| link["ifname"] != "lo")
        .map(|link| count(link, "rx") + count(link, "tx"))
        .sum())
}

/// A stream of many flows from n1 to n2 in VRF red.
fn many_flows(count: Option<u64>) -> Result<Stream> {
    let (one, two) = (Host { pe: 1, vrf: RED }, Host { pe: 2, vrf: RED });
    Stream::start(
        &one.name(),
        &two.name(),
        Plan { flows: 64, count, ..Plan::steady(one.v4().into(), two.v4().into()) },
    )
}

/// Many flows spread over both spines, whose ASes differ.
pub(super) fn both_spines(lab: &mut Lab) -> Result<()> {
    let client = lab.node(1).client()?;
    let before = client.counters()?;
    many_flows(Some(1000))?.finish()?.complete()?;
    let after = client.counters()?;
    for spine in SPINES {
        let port = uplink(spine);
        let sent = after.sent(&port) - before.sent(&port);
        if sent < 150 {
            return Err(Error::unexpected(format!("of 1000 packets in 64 flows only {sent} left by {port}")));
        }
    }
    Ok(())
}

/// One spine's link goes while traffic runs: it goes on over the other, prefixes stay as they were; then it comes back.
pub(super) fn spine_link(lab: &mut Lab) -> Result<()> {
    let client = lab.node(1).client()?;
    let prefixes = || client.routes("red").map(|routes| routes.into_keys().collect::<Vec<_>>());
    let before = prefixes()?;
    let slow = unresolved(lab)?;
    let stream = many_flows(None)?;
    until(LONG, "the stream to be under way", || {
        if stream.sent() > 100 { Ok(()) } else { Err(Error::unexpected("it is not")) }
    })?;
    let link =
        |state: &str| netns::ip_batch(Some(&spine_netns(1)), &format!("link set {} {state}", downlink(1)));
    link("down")?;
    let gone = until(LONG, "n1 to use spine 2 alone", || {
        let counters = client.counters()?;
        std::thread::sleep(Duration::from_millis(500));
        let later = client.counters()?;
        let [first, second] = SPINES.map(uplink).map(|port| later.sent(&port) - counters.sent(&port));
        if first == 0 && second > 10 {
            return Ok(());
        }
        Err(Error::unexpected(format!(
            "{first} packets left by toswitch1, {second} by toswitch2 within 0.5 s"
        )))
    });
    let during = prefixes();
    link("up")?;
    let restored = until(2 * LONG, "n1 to use both spines again", || {
        let counters = client.counters()?;
        std::thread::sleep(Duration::from_millis(500));
        let later = client.counters()?;
        match SPINES.map(uplink).map(|port| later.sent(&port) - counters.sent(&port)) {
            [first, second] if first > 10 && second > 10 => Ok(()),
            counts => Err(Error::unexpected(format!("{counts:?} packets left by them within 0.5 s"))),
        }
    });
    let report: Report = stream.stop()?;
    gone?;
    restored?;
    if during? != before {
        return Err(Error::unexpected("VRF red lost or gained prefixes"));
    }
    stayed_fast(slow, lab)?;
    // What was on the wire, and what the far end sent this way until it knew, is lost; traffic as such went on.
    if report.longest_gap > 1000 {
        return Err(Error::unexpected(format!(
            "{} datagrams in a row were lost: {report:?}",
            report.longest_gap
        )));
    }
    Ok(())
}

/// Nobody sends anything: the dataplane's process uses less than 5 % of a CPU.
pub(super) fn idle(lab: &mut Lab) -> Result<()> {
    const SPAN: Duration = Duration::from_secs(10);
    let ticks = |pid: u32| -> Result<u64> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
        // The name in parentheses may hold anything; fields 14 and 15 (user and system time) follow it.
        let fields: Vec<&str> =
            text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        Ok([11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum())
    };
    for pe in [1, 2] {
        let pid =
            lab.node(pe).dataplane.pid().ok_or_else(|| Error::unexpected("the dataplane is not running"))?;
        // Other tests' traffic has to have ebbed away; a busy moment is looked past, a busy process is not.
        until(LONG, format!("n{pe}'s dataplane to be idle"), || {
            let before = ticks(pid)?;
            std::thread::sleep(SPAN);
            // 100 ticks are a second.
            let percent = (ticks(pid)? - before) as f64 / SPAN.as_secs_f64();
            if percent < 5.0 {
                Ok(())
            } else {
                Err(Error::unexpected(format!("it uses {percent:.1} % of a CPU")))
            }
        })?;
    }
    Ok(())
}

/// pectl prints what the lab knows to be true, as JSON; and explains a route down to the outgoing frame.
pub(super) fn pectl(lab: &mut Lab) -> Result<()> {
    ping("n1-red", Host { pe: 2, vrf: RED }.v4().into(), None)?;
    let node = lab.node(1);
    for command in ["ports", "vrfs", "vnis", "routes", "neighbors", "drops", "info"] {
        let text = node.pectl(&["--output", "json", command])?;
        serde_json::from_str::<serde_json::Value>(&text)
            .map_err(|error| Error::unexpected(format!("`pectl {command}` is not JSON: {error}: {text}")))?;
        node.pectl(&[command])?;
    }
    let vnis = node.pectl(&["--output", "json", "vnis"])?;
    let text = node.pectl(&["route", "get", "10.2.0.1", "--vrf", "red"])?;
    for wanted in ["10.2.0.0/24", "100.65.0.2", "100", "toswitch"] {
        if !text.contains(wanted) {
            return Err(Error::unexpected(format!("`pectl route get` does not say {wanted}: {text}")));
        }
    }
    if !vnis.contains("100") || !vnis.contains("200") {
        return Err(Error::unexpected(format!("`pectl vnis` lacks one of 100 and 200: {vnis}")));
    }
    node.pectl(&["completion", "bash"]).map(|_| ())
}
