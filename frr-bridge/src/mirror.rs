//! The mirror of the router namespace: a dump, then events, and a new dump whenever events were lost or time has come.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::error::Error;
use crate::netlink::{self, EventSocket, Group, Message};
use crate::resolver::Snapshot;

/// What comes from the kernel.
#[derive(Debug)]
pub enum Event {
    /// Everything there is now.
    Snapshot(Snapshot),
    /// Changes since, in order.
    Messages(Vec<Message>),
}

/// Subscribes first, so that nothing falls between the dump and the events, and reports until the receiver is dropped.
///
/// # Errors
/// When the kernel cannot be asked at all. What fails later is logged and tried again.
pub async fn run(events: mpsc::Sender<Event>, resync: Duration) -> Result<(), Error> {
    let groups = [Group::Link, Group::Neighbor, Group::Ipv4Address, Group::Ipv6Address];
    let mut socket = EventSocket::subscribe(&groups)?;
    // The first dump comes with the first tick, at once.
    let mut timer = tokio::time::interval(resync);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = timer.tick() => {
                // What the queue holds is applied after the dump again: its last word on any object is the dump's.
                match tokio::task::block_in_place(netlink::dump) {
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
