//! Errors that must come back to the sender.

use std::time::Duration;

use crate::lab::plan::{Host, KERNEL_PE, RED, downlink, session_pe, spine_netns};
use crate::lab::{Lab, netns};
use crate::traffic::stream::Plan;
use crate::traffic::{Stream, ping};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// The underlay's MTU is 1500: 50 bytes less inside IPv4 VXLAN.
const INNER_MTU: usize = 1450;

/// traceroute's first hop is the PE, in both families, over the host session's address.
pub(super) fn traceroute(_lab: &mut Lab) -> Result<()> {
    let (from, to) = (Host { pe: 1, vrf: RED }.name(), Host { pe: 2, vrf: RED });
    let [pe4, pe6] = session_pe(RED);
    for (target, source, pe) in [
        (to.v4().to_string(), Host { pe: 1, vrf: RED }.v4().to_string(), pe4.to_string()),
        (to.v6().to_string(), Host { pe: 1, vrf: RED }.v6().to_string(), pe6.to_string()),
    ] {
        until(LONG, format!("traceroute to {target} to show {pe}"), || {
            let text = netns::run(
                &from,
                "traceroute",
                &["-n", "-q", "1", "-w", "2", "-m", "5", "-s", &source, &target],
            )?;
            let hop = |number: &str| {
                text.lines()
                    .find(|line| line.split_whitespace().next() == Some(number))
                    .unwrap_or_default()
                    .to_owned()
            };
            let last = text.lines().last().unwrap_or_default();
            if hop("1").contains(&pe) && last.split_whitespace().nth(1) == Some(target.as_str()) {
                return Ok(());
            }
            Err(Error::unexpected(text))
        })?;
    }
    Ok(())
}

/// A packet that does not fit the tunnel brings back the MTU that does; the largest that fits passes.
pub(super) fn too_big(lab: &mut Lab) -> Result<()> {
    let topology = lab.node(1).client()?.topology()?;
    let vni = topology.l3vnis.iter().find(|vni| vni.spec.as_ref().is_some_and(|spec| spec.vni == RED.vni));
    match vni {
        Some(vni) if usize::try_from(vni.mtu).ok() == Some(INNER_MTU) => {}
        other => return Err(Error::unexpected(format!("VNI 100's MTU should be {INNER_MTU}: {other:?}"))),
    }
    let (from, to) = (Host { pe: 1, vrf: RED }, Host { pe: 2, vrf: RED });
    for (target, source, header) in
        [(to.v4().to_string(), from.v4().to_string(), 28), (to.v6().to_string(), from.v6().to_string(), 48)]
    {
        // The host's own interface takes more than the tunnel, so that it is the PE that has to say so.
        let raise = format!("link set {} mtu 1600", host_end(from));
        netns::ip_batch(Some(&from.name()), &raise)?;
        let result = sized(&from.name(), &source, &target, header);
        netns::ip_batch(Some(&from.name()), &format!("link set {} mtu {INNER_MTU}", host_end(from)))?;
        netns::run(&from.name(), "ip", &["route", "flush", "cache"])?;
        netns::run(&from.name(), "ip", &["-6", "route", "flush", "cache"])?;
        result?;
    }
    Ok(())
}

fn host_end(host: Host) -> String {
    format!("host-e-{}", host.vrf.vni)
}

fn sized(netns: &str, source: &str, target: &str, header: usize) -> Result<()> {
    let fits = (INNER_MTU - header).to_string();
    let ping = |size: &str| {
        let args = ["-n", "-M", "do", "-c", "1", "-W", "3", "-s", size, "-I", source, target];
        netns::output(netns, "ping", &args).map(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            (output.status.success(), text)
        })
    };
    until(LONG, format!("the largest packet to reach {target}"), || match ping(&fits)? {
        (true, _) => Ok(()),
        (false, text) => Err(Error::unexpected(text)),
    })?;
    // The first brings the answer, a second one is then refused by the sender itself with the same MTU.
    let too_big = (INNER_MTU - header + 100).to_string();
    let said = format!("mtu = {INNER_MTU}");
    until(LONG, format!("an error with MTU {INNER_MTU} from the way to {target}"), || {
        let (success, text) = ping(&too_big)?;
        let text = text.replace("mtu=", "mtu = ");
        if !success && text.contains(&said) { Ok(()) } else { Err(Error::unexpected(text)) }
    })
}

/// Large packets of all sizes cross while the spines watch: no fragment of UDP to 4789 among them, and DF on all of it.
pub(super) fn no_outer_fragments(_lab: &mut Lab) -> Result<()> {
    let (one, two) = (Host { pe: 1, vrf: RED }, Host { pe: KERNEL_PE, vrf: RED });
    let watchers: Vec<_> = [1, 2]
        .map(|spine| {
            std::thread::spawn(move || {
                let filter = "ip and (ip[6:2] & 0x3fff != 0 or (udp dst port 4789 and ip[6] & 0x40 == 0))";
                let args = ["8", "tcpdump", "-nn", "-c", "1", "-i", &downlink(1), "-Q", "in", filter];
                netns::output(&spine_netns(spine), "timeout", &args)
            })
        })
        .into();
    std::thread::sleep(Duration::from_secs(1));
    for size in [64, 1200, INNER_MTU - 28, INNER_MTU + 400] {
        // The last size arrives in two fragments, made of the inner packet.
        let plan = Plan { size, count: Some(100), ..Plan::steady(one.v4().into(), two.v4().into()) };
        Stream::start(&one.name(), &two.name(), plan)?.finish()?.complete()?;
    }
    ping(&one.name(), two.v4().into(), Some(one.v4().into()))?;
    for watcher in watchers {
        let output = watcher.join().map_err(|_| Error::unexpected("a watcher panicked"))??;
        let seen = String::from_utf8_lossy(&output.stdout);
        if !seen.trim().is_empty() {
            return Err(Error::unexpected(format!(
                "an outer packet is a fragment or may become one: {seen}"
            )));
        }
    }
    Ok(())
}
