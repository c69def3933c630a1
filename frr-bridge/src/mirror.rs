//! The mirror of the router namespace: a dump, then events, and a new dump whenever events were lost or time has come.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::error::Error;
use crate::netlink::{self, EventSocket, Group, Kind, Message};
use crate::resolver::Snapshot;

/// What comes from the kernel.
#[derive(Debug)]
pub enum Event {
    /// Everything there is now.
    Snapshot(Snapshot),
    /// Changes since, in order.
    Messages(Vec<Message>),
}

/// What tells that zebra, when it connects, has router MACs to replay.
///
/// In FRR 8.4 that replay (`fpm_enqueue_l3vni_table`) hands a wrong pointer on, and zebra dies of it. A frr-bridge that
/// starts beside such a zebra must not let it connect, and reads the routes from the kernel instead.
#[must_use]
pub fn has_router_macs(dump: &[Message]) -> bool {
    let is_bridge = |index| {
        dump.iter().any(|message| {
            matches!(message, Message::NewLink(link) if link.index == index && link.kind == Kind::Bridge)
        })
    };
    dump.iter().any(|message| {
        matches!(message, Message::NewNeighbor(neighbor) if neighbor.is_external() && is_bridge(neighbor.ifindex))
    })
}

/// Subscribes first, so that nothing falls between the dump and the events, and reports until the receiver is dropped.
///
/// # Errors
/// When the kernel cannot be asked at all. What fails later is logged and tried again.
pub async fn run(events: mpsc::Sender<Event>, resync: Duration, routes: bool) -> Result<(), Error> {
    let mut groups = vec![Group::Link, Group::Neighbor, Group::Ipv4Address, Group::Ipv6Address];
    if routes {
        groups.extend([Group::NextHop, Group::Ipv4Route, Group::Ipv6Route]);
    }
    let mut socket = EventSocket::subscribe(&groups)?;
    // The first dump comes with the first tick, at once.
    let mut timer = tokio::time::interval(resync);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = timer.tick() => {
                // What the queue holds is applied after the dump again: its last word on any object is the dump's.
                match tokio::task::block_in_place(|| netlink::dump(routes)) {
                    Ok(messages) => {
                        if events.send(Event::Snapshot(Snapshot(messages))).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "trying again in a second");
                        timer.reset_after(Duration::from_secs(1));
                    }
                }
            }
            outcome = socket.next() => match outcome {
                Ok(messages) => {
                    // With a link or a next-hop object the kernel removes IPv4 routes, and tells nobody.
                    let silent = |message: &Message| match message {
                        Message::DelNextHop(_) | Message::DelLink(_) => true,
                        Message::NewLink(link) => !link.up,
                        _ => false,
                    };
                    if routes && messages.iter().any(silent) {
                        timer.reset_after(Duration::from_secs(1));
                    }
                    if events.send(Event::Messages(messages)).await.is_err() {
                        return Ok(());
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::warn!("the kernel dropped events; reading everything anew");
                    timer.reset_immediately();
                }
                Err(error) => {
                    tracing::error!(%error, "the event socket broke; opening another");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    socket = EventSocket::subscribe(&groups)?;
                    timer.reset_immediately();
                }
            }
        }
    }
}
