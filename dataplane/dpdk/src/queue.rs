//! Queues of a started port, or of an interface's AF_XDP sockets.

use std::{
    cell::Cell,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, atomic::Ordering},
};

use dpdk_sys as sys;

use crate::{
    Burst, Mbuf,
    port::{Shared, WaitFd},
    xdp,
};

/// What a queue is behind its owner.
#[derive(Debug)]
enum Kind<S> {
    /// One of a DPDK port.
    Port,
    /// An AF_XDP socket.
    Socket(Box<S>),
}

/// The receiving side of one queue. Owned by one thread at a time; dropping it gives it back to its port.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
    may_chain: bool,
    /// Senders may have left checksums to their interface.
    incomplete: bool,
    wait: Option<WaitFd>,
    kind: Kind<xdp::Receiver>,
    shared: Arc<Shared>,
    _one_thread_at_a_time: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(crate) fn new(shared: Arc<Shared>, queue: u16, wait: Option<WaitFd>, may_chain: bool) -> Self {
        let (port, kind) = (shared.id(), Kind::Port);
        let incomplete = false;
        let _one_thread_at_a_time = PhantomData;
        Self { port, queue, may_chain, incomplete, wait, kind, shared, _one_thread_at_a_time }
    }

    pub(crate) fn of_socket(shared: Arc<Shared>, queue: u16, wait: WaitFd, socket: xdp::Receiver) -> Self {
        Self { kind: Kind::Socket(Box::new(socket)), ..Self::new(shared, queue, Some(wait), false) }
    }

    /// Completes the checksums of what it receives.
    pub(crate) fn completing_checksums(mut self) -> Self {
        self.incomplete = true;
        self
    }

    /// Adds what has arrived to `burst`, as far as there is room, and says how many packets that were.
    #[inline]
    pub fn receive<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        if let Kind::Socket(socket) = &mut self.kind {
            return socket.receive(burst, self.shared.lost());
        }
        let before = burst.len();
        let spare = burst.spare();
        // A burst has at most 65535 slots.
        #[expect(clippy::cast_possible_truncation)]
        let room = spare.len() as u16;
        // SAFETY: the port is started until all its queues are dropped; `&mut self` of the one owner means that no
        // other thread polls this queue; `spare` has room for that many pointers.
        let count = unsafe { sys::shim_eth_rx_burst(self.port, self.queue, spare.as_mut_ptr().cast(), room) };
        // SAFETY: the driver has written `count` mbufs and gave them up.
        unsafe { burst.grow(usize::from(count)) };
        if self.may_chain && burst.iter().skip(before).any(Mbuf::is_chained) {
            self.drop_chained(burst);
        }
        if self.incomplete {
            for packet in burst.iter_mut().skip(before) {
                xdp::complete_checksums(packet.data_mut());
            }
        }
        burst.len() - before
    }

    /// Drops packets larger than one buffer, which the driver chained.
    #[cold]
    fn drop_chained<const N: usize>(&mut self, burst: &mut Burst<N>) {
        let before = burst.len();
        burst.retain(|packet| !packet.is_chained());
        self.shared.lost().too_big.fetch_add((before - burst.len()) as u64, Ordering::Relaxed);
    }

    /// Number of the DPDK port, which [`Mbuf::port`](crate::Mbuf::port) repeats; meaningless for AF_XDP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Number of the queue in its port.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Name of the DPDK device.
    pub fn device(&self) -> &str {
        self.shared.device()
    }

    /// A descriptor that polls readable (level-triggered) while packets wait in this queue. `None` when the driver has
    /// none: poll such a queue with short sleeps.
    ///
    /// Call [`arm`](Self::arm) before sleeping on it and [`disarm`](Self::disarm) after each wake-up. Take it out of epoll
    /// before dropping the queue.
    pub fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.wait.as_ref().map(AsFd::as_fd)
    }

    /// Makes [`wait_fd`](Self::wait_fd) report packets that arrive from now on. Packets may have arrived before:
    /// [`receive`](Self::receive) once more after arming, and sleep only when that was empty. Of an AF_XDP socket, what it could
    /// not send before is tried again.
    pub fn arm(&mut self) {
        if let Kind::Socket(socket) = &self.kind {
            socket.about_to_sleep();
        }
        if let Some(wait) = &self.wait {
            wait.arm(self.port, self.queue);
        }
    }

    /// Acknowledges a wake-up by [`wait_fd`](Self::wait_fd), including one by an error of the device (its link went
    /// down), which would wake again and again otherwise.
    pub fn disarm(&mut self) {
        if let Some(wait) = &self.wait {
            wait.disarm(self.port, self.queue);
        }
    }
}

/// The sending side of one queue. Owned by one thread at a time; dropping it gives it back to its port.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    kind: Kind<xdp::Sender>,
    shared: Arc<Shared>,
    _one_thread_at_a_time: PhantomData<Cell<()>>,
}

impl TxQueue {
    pub(crate) fn new(shared: Arc<Shared>, queue: u16) -> Self {
        let (port, kind) = (shared.id(), Kind::Port);
        Self { port, queue, kind, shared, _one_thread_at_a_time: PhantomData }
    }

    pub(crate) fn of_socket(shared: Arc<Shared>, queue: u16, socket: xdp::Sender) -> Self {
        Self { kind: Kind::Socket(Box::new(socket)), ..Self::new(shared, queue) }
    }

    /// Hands the packets of `burst` to the device, in order, and says how many it accepted. Those leave the burst; the
    /// others, for which the device has no room now, stay in it: try again, or drop them and count.
    #[inline]
    pub fn send<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        // A burst has at most 65535 slots.
        #[expect(clippy::cast_possible_truncation)]
        let len = burst.len() as u16;
        if len == 0 {
            return 0;
        }
        if let Kind::Socket(socket) = &mut self.kind {
            return socket.send(burst);
        }
        // SAFETY: the port is started until all its queues are dropped; `&mut self` of the one owner means that no
        // other thread sends on this queue; the burst owns its packets.
        let count = unsafe { sys::shim_eth_tx_burst(self.port, self.queue, burst.as_mut_ptr().cast(), len) };
        let count = usize::from(count);
        // SAFETY: the driver owns the first `count` packets now.
        unsafe { burst.give_up(count) };
        count
    }

    /// Number of the DPDK port; meaningless for AF_XDP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Number of the queue in its port.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Name of the DPDK device.
    pub fn device(&self) -> &str {
        self.shared.device()
    }
}
