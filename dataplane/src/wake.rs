//! Waking a thread that may be asleep in epoll, at no cost while it is not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::Error;

/// Wakes one thread. Cheap to clone.
///
/// The sleeper says [`prepare`](Self::prepare), looks once more for work, and only then sleeps on the descriptor; who has
/// work for it hands it over and then says [`wake`](Self::wake). Each puts a sequentially consistent fence between its
/// write and its read, so at least one of the two sees the other's write: the sleeper finds the work, or the other one
/// finds it asleep.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    event: EventFd,
    asleep: AtomicBool,
}

impl Waker {
    /// For a thread that is awake.
    ///
    /// # Errors
    /// Without descriptors left.
    pub(crate) fn new() -> Result<Self, Error> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Error::system("make an event descriptor")(errno.into()))?;
        Ok(Self(Arc::new(Inner { event, asleep: AtomicBool::new(false) })))
    }

    /// Wakes the thread if it sleeps. Call after the work is where the thread looks for it.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) {
            // Fails only when the counter is full, and then the thread wakes as well.
            let _ = self.0.event.write(1);
        }
    }

    /// The thread is about to sleep. Look for work once more after this.
    pub(crate) fn prepare(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The thread is awake again, or did not go to sleep after all.
    pub(crate) fn awake(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
        match self.0.event.read() {
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => {}
            Err(errno) => tracing::debug!(error = %io::Error::from(errno), "event descriptor"),
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
