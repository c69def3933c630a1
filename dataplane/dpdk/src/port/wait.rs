//! Descriptors that tell when packets have arrived.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dpdk_sys as sys;
use nix::sys::socket::{getsockopt, sockopt};

/// A descriptor to wait for packets on, and what it needs around waiting.
#[derive(Debug)]
pub(crate) struct WaitFd {
    fd: OwnedFd,
    kind: WaitKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitKind {
    /// A socket: readable while there is something to read, but an error (the link went down) is reported until it
    /// has been asked for.
    Socket,
    /// An eventfd that the device's interrupt fills; enabled for one wake-up at a time.
    Interrupt,
}

impl AsFd for WaitFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl WaitFd {
    /// Of a packet socket or an AF_XDP socket.
    pub(crate) fn socket(fd: OwnedFd) -> Self {
        Self { fd, kind: WaitKind::Socket }
    }

    pub(crate) fn arm(&self, port: u16, queue: u16) {
        if self.kind == WaitKind::Interrupt {
            // SAFETY: the port is started while its queues exist. A failure means no wake-up; callers wait with a limit.
            unsafe { sys::rte_eth_dev_rx_intr_enable(port, queue) };
        }
    }

    pub(crate) fn disarm(&self, port: u16, queue: u16) {
        match self.kind {
            WaitKind::Socket => {
                // Asking is what clears it.
                let _ = getsockopt(&self.fd, sockopt::SocketError);
            }
            WaitKind::Interrupt => {
                // SAFETY: as in `arm`.
                unsafe { sys::rte_eth_dev_rx_intr_disable(port, queue) };
                // An eventfd counts; drivers make it non-blocking.
                let mut count = [0; 8];
                let _ = nix::unistd::read(&self.fd, &mut count);
            }
        }
    }
}

/// What the driver offers for a queue of a started port.
pub(super) fn interrupt(port: u16, queue: u16) -> Option<WaitFd> {
    // SAFETY: the port is started.
    let raw = unsafe { sys::rte_eth_dev_rx_intr_ctl_q_get_fd(port, queue) };
    if raw < 0 {
        return None;
    }
    // SAFETY: the driver keeps it open while the port is started, which it is; it is borrowed for a duplicate only.
    let fd = unsafe { BorrowedFd::borrow_raw(raw) }.try_clone_to_owned().ok()?;
    // Reading must never block a worker.
    let raw = fd.as_raw_fd();
    // SAFETY: plain flag operations on a descriptor we own.
    let nonblocking = unsafe {
        let flags = libc::fcntl(raw, libc::F_GETFL);
        flags >= 0 && libc::fcntl(raw, libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
    };
    nonblocking.then_some(WaitFd { fd, kind: WaitKind::Interrupt })
}
