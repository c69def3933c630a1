//! Sleeping without packets.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::Error;
use crate::wake::Waker;

/// Longest sleep when every queue can wake the worker. Only a safety net.
const LONG: Duration = Duration::from_secs(1);
/// First and longest sleep while some queue cannot. The longest is what a first packet may wait; 500 wake-ups a second
/// cost well below 1 % of a CPU.
const SHORT: (Duration, Duration) = (Duration::from_micros(1000), Duration::from_millis(2));

/// Sleeps on descriptors.
#[derive(Debug)]
pub(super) struct Sleeper {
    epoll: Epoll,
    inbox: Waker,
    blind: bool,
    backoff: Duration,
}

impl Sleeper {
    /// Wakes by `inbox`.
    pub(super) fn new(inbox: &Waker) -> Result<Self, Error> {
        Ok(Self { epoll: fresh(inbox)?, inbox: inbox.clone(), blind: false, backoff: SHORT.0 })
    }

    /// Wakes by `queue` too, level-triggered. Without a descriptor, or when it cannot be watched, sleeps are short.
    pub(super) fn watch(&mut self, queue: Option<BorrowedFd<'_>>) -> nix::Result<()> {
        let outcome = match queue {
            Some(queue) => self.epoll.add(queue, EpollEvent::new(EpollFlags::EPOLLIN, 0)),
            None => {
                self.blind = true;
                return Ok(());
            }
        };
        self.blind |= outcome.is_err();
        outcome
    }

    /// Forgets all queues.
    pub(super) fn clear(&mut self) {
        match fresh(&self.inbox) {
            Ok(epoll) => self.epoll = epoll,
            // The old one may hold stale queues; those that are closed leave it by themselves.
            Err(error) => tracing::warn!(%error, "cannot renew the set of queues to wait for"),
        }
        self.blind = false;
    }

    /// Sleeps until something is readable or the time has come to look.
    pub(super) fn sleep(&mut self) {
        let limit = if self.blind { self.backoff } else { LONG };
        let timeout = EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::ZERO);
        let mut events = [EpollEvent::empty(); 8];
        // An interrupted or failed wait is a short one; the caller looks at its queues in any case.
        let woken = self.epoll.wait(&mut events, timeout).unwrap_or(1);
        self.backoff = if woken > 0 { SHORT.0 } else { (self.backoff * 2).min(SHORT.1) };
    }
}

fn fresh(inbox: &Waker) -> Result<Epoll, Error> {
    let make = || {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(inbox, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(epoll)
    };
    make().map_err(|errno: nix::errno::Errno| Error::system("make an epoll descriptor")(errno.into()))
}
