//! What FRR does by itself on this machine, with nothing of ours beside it: the measure of what is ours.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::macs::{arrived, config, fdb_line, first_route, overlay, with_peer};
use super::rig::{self, OUR_ASN, PEER, ROUTER, THEIR_ASN, THEM, UPLINK, US};
use super::routes::PATIENCE;
use super::speaker::Speaker;
use crate::lab::{Frr, netns};
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// Where zebra's `dplane_fpm_nl` connects to.
const FPM: &str = "127.0.0.1:2620";
/// `RTM_NEWROUTE` of the kernel's `rtnetlink.h`.
const NEW_ROUTE: u16 = 24;
/// Between two looks at a counter.
const LOOK: Duration = Duration::from_millis(1);

/// Seconds that the same FRR takes for `count` routes, with the configuration that pe-controller rendered, when its FPM
/// listener throws everything away: until the last has come to the listener.
///
/// # Errors
/// When anything does not come up, or the routes do not arrive.
pub(super) fn routes(count: u32, config: &str, logs: &Path) -> Result<f64> {
    rig::with_router(|| {
        let seen = Arc::new(AtomicU64::new(0));
        let listener = netns::within(ROUTER, || {
            TcpListener::bind(FPM).map_err(Error::system(format!("cannot listen at {FPM}")))
        })?;
        std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || discard(&listener, &seen)
        });
        let mut frr = Frr::new(ROUTER, ROUTER, None, logs)
            .with("zebra", &["-M", "dplane_fpm_nl"])
            .with("bgpd", &[])
            .with("bfdd", &[])
            .with("staticd", &[]);
        frr.start()?;
        let measured = frr.load(config).and_then(|()| {
            let mut speaker = until(LONG, "the BGP session with FRR alone", || {
                netns::within(PEER, || Speaker::establish(SocketAddr::from((US, 179)), THEIR_ASN, THEM))
            })?;
            // What is there already, the session's own subnet, has passed.
            std::thread::sleep(Duration::from_secs(1));
            let before = seen.load(Ordering::Acquire);
            let start = speaker.announce(count)?;
            let wanted = before + u64::from(count);
            while seen.load(Ordering::Acquire) < wanted {
                if start.elapsed() > PATIENCE {
                    let few = seen.load(Ordering::Acquire) - before;
                    return Err(Error::unexpected(format!("zebra has passed {few} of {count} routes on")));
                }
                std::thread::sleep(LOOK);
            }
            Ok(start.elapsed().as_secs_f64())
        });
        for name in ["bgpd", "bfdd", "staticd", "zebra"] {
            let _ = frr.kill(name);
        }
        measured
    })
}

/// Reads zebra's frames away and counts the routes among them: no more is looked at than the headers.
fn discard(listener: &TcpListener, seen: &AtomicU64) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    let mut buffer = vec![0; 1 << 19];
    let mut held = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer[held..]) {
        held += count;
        let (mut at, mut routes) = (0, 0);
        while let Some(&[_, _, high, low]) = buffer[at..held].first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([high, low])).max(4);
            if at + length > held {
                break;
            }
            routes += routes_of(&buffer[at + 4..at + length]);
            at += length;
        }
        seen.fetch_add(routes, Ordering::Release);
        buffer.copy_within(at..held, 0);
        held -= at;
    }
}

/// New routes among the netlink messages of a frame.
fn routes_of(mut messages: &[u8]) -> u64 {
    let mut routes = 0;
    while let Some(&[a, b, c, d, kind, kind_high]) = messages.first_chunk::<6>() {
        routes += u64::from(u16::from_ne_bytes([kind, kind_high]) == NEW_ROUTE);
        let length = u32::from_ne_bytes([a, b, c, d]).next_multiple_of(4).max(16);
        messages = usize::try_from(length).ok().and_then(|length| messages.get(length..)).unwrap_or_default();
    }
    routes
}

/// Seconds from the first of `count` MACs being written to a bridge's FDB in the kernel until the peer's FRR has a type-2 route
/// of the last: what zebra and bgpd do with nobody of ours about.
///
/// # Errors
/// When anything does not come up, or MACs are missing in the end.
pub(super) fn macs(count: u32, logs: &Path) -> Result<f64> {
    rig::with_router(|| {
        overlay(ROUTER, &US.to_string())?;
        // The port that the hosts are behind; its other end is only for the carrier.
        netns::ip_batch(
            Some(ROUTER),
            "link add port0 type veth peer name port0x\nlink set port0 master br200 up\nlink set port0x up\n",
        )?;
        let text = config((OUR_ASN, US), (THEIR_ASN, THEM));
        with_peer(logs, |peer| {
            let mut frr = Frr::new(ROUTER, ROUTER, None, logs).with("zebra", &[]).with("bgpd", &[]);
            frr.start()?;
            let measured = frr.load(&text).and_then(|()| {
                let before = first_route(peer)?;
                let start = Instant::now();
                std::thread::scope(|scope| {
                    let writer = scope.spawn(|| {
                        let lines: String = (0..count).map(|host| fdb_line(host, "port0")).collect();
                        let mut command = std::process::Command::new("bridge");
                        command.args(["-force", "-batch", "-"]);
                        netns::within(ROUTER, || netns::feed(command, &lines).map(drop))
                    });
                    let seen = arrived(peer, before + u64::from(count), start);
                    let wrote =
                        writer.join().map_err(|_| Error::unexpected("the writer's thread has ended"))?;
                    wrote.and(seen)
                })
            });
            for name in ["bgpd", "zebra"] {
                let _ = frr.kill(name);
            }
            measured.map(|time| time.as_secs_f64())
        })
    })
}

/// The router's end of the uplink in its own namespace.
pub(super) fn uplink() -> String {
    format!("link add {UPLINK} mtu 9000 netns {ROUTER} type veth peer name eth0 mtu 9000 netns {PEER}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_routes_are_counted_in_any_message_of_a_frame() {
        let message = |kind: u16, length: u32| {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(length.next_multiple_of(4) as usize, 0);
            bytes
        };
        let frame = [message(25, 30), message(24, 61), message(104, 16), message(24, 28)].concat();
        assert_eq!(routes_of(&frame), 2);
        assert_eq!(routes_of(&frame[..20]), 0);
        assert_eq!(routes_of(&[]), 0);
    }
}
