//! The mirror of the router namespace: a dump, then events, and a new dump whenever events were lost or time has come.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::error::Error;
use crate::netlink::{self, Dump, EventSocket, Group, Message};
use crate::resolver::Snapshot;

/// What comes from the kernel.
#[derive(Debug)]
pub enum Event {
    /// Everything there is now.
    Snapshot {
        /// The dump.
        snapshot: Snapshot,
        /// It has next-hop objects and routes too.
        with_routes: bool,
    },
    /// Changes since, in order.
    Messages(Vec<Message>),
}

/// Subscribes first, so that nothing falls between the dump and the events, and reports until the receiver is dropped. When
/// `routes` turns true, next-hop objects and routes are mirrored too.
///
/// # Errors
/// When the kernel cannot be asked at all. What fails later is logged and tried again.
pub async fn run(
    events: mpsc::Sender<Event>,
    resync: Duration,
    mut routes: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut with_routes = *routes.borrow_and_update();
    let mut socket = subscribe(with_routes)?;
    // The first dump comes with the first tick, at once.
    let mut timer = tokio::time::interval(resync);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = timer.tick() => {
                let what = if with_routes { Dump::Routes } else { Dump::Neighbors };
                // What the queue holds is applied after the dump again: its last word on any object is the dump's.
                match tokio::task::block_in_place(|| netlink::dump(what)) {
                    Ok(messages) => {
                        let snapshot = Snapshot(messages);
                        if events.send(Event::Snapshot { snapshot, with_routes }).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "trying again in a second");
                        timer.reset_after(Duration::from_secs(1));
                    }
                }
            }
            Ok(()) = routes.changed() => {
                with_routes = *routes.borrow_and_update();
                socket = subscribe(with_routes)?;
                timer.reset_immediately();
            }
            outcome = socket.next() => match outcome {
                Ok(messages) => {
                    // With a link or a next-hop object the kernel removes IPv4 routes, and tells nobody.
                    let silent = |message: &Message| match message {
                        Message::DelNextHop(_) | Message::DelLink(_) => true,
                        Message::NewLink(link) => !link.up,
                        _ => false,
                    };
                    if with_routes && messages.iter().any(silent) {
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
                    socket = subscribe(with_routes)?;
                    timer.reset_immediately();
                }
            }
        }
    }
}

fn subscribe(with_routes: bool) -> Result<EventSocket, Error> {
    let mut groups = vec![Group::Link, Group::Neighbor, Group::Ipv4Address, Group::Ipv6Address];
    if with_routes {
        groups.extend([Group::NextHop, Group::Ipv4Route, Group::Ipv6Route]);
    }
    EventSocket::subscribe(&groups)
}
