//! What a worker is told: changes of ports, and frames to send for others.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use dpdk::{Mbuf, Mempool, PacketSocket, RxQueue, TxQueue};
use forwarding::PortId;

use super::taps::TapQueue;
use crate::error::Error;
use crate::host::Tap;
use crate::wake::Waker;

/// Frames that may wait for one worker.
const FRAMES: usize = 1024;

/// Where a worker's packets of a port come from.
#[derive(Debug)]
pub enum Receiving {
    /// A queue of a DPDK device.
    Queue(RxQueue),
    /// A TAP.
    Tap(TapQueue),
}

/// How a worker sends by a port.
#[derive(Debug)]
pub enum Sending {
    /// By a queue of its own.
    Own(TxQueue),
    /// Through the worker that has one: the device has fewer queues than there are workers.
    Through(FrameSender),
    /// Into a TAP, which has a [`Header::Virtio`](crate::host::Header). Every worker writes by itself: the kernel takes
    /// frames on any thread, each on its own, so handing them to one worker would only cost a queue and a wake-up. A flow
    /// stays in order, for it stays with one worker.
    Tap(Arc<Tap>),
}

/// What large frames take where the port itself does not.
#[derive(Clone, Debug, Default)]
pub struct Cutting {
    /// Buffers for what they are cut into, which take the longest frame of the port's MTU.
    pub pool: Option<Mempool>,
    /// Who has the kernel cut those that leave in a tunnel.
    pub socket: Option<Arc<PacketSocket>>,
}

/// A port's counters that the forwarding engine does not keep.
#[derive(Debug, Default)]
pub struct PortCount {
    /// Frames of the kernel taken to be sent.
    pub from_kernel: AtomicU64,
    /// Frames of the kernel dropped, for want of buffers or because too many waited for the worker.
    pub tx_full: AtomicU64,
}

/// A change of a worker's ports.
#[derive(Debug)]
pub(crate) enum Change {
    Attach {
        port: PortId,
        name: String,
        rx: Vec<Receiving>,
        sending: Sending,
        cutting: Cutting,
    },
    /// Gives the queues back by dropping them, then answers.
    Detach {
        port: PortId,
        done: SyncSender<()>,
    },
}

/// Sends frames through a worker.
#[derive(Clone, Debug)]
pub struct FrameSender {
    frames: SyncSender<(PortId, Mbuf)>,
    waker: Waker,
}

impl FrameSender {
    /// Queues a frame. False, and dropped, when too many wait already. Follow with [`Self::flush`].
    pub(crate) fn send(&self, port: PortId, frame: Mbuf) -> bool {
        self.frames.try_send((port, frame)).is_ok()
    }

    /// Wakes the worker; once per burst.
    pub(crate) fn flush(&self) {
        self.waker.wake();
    }
}

/// The outside's handle of a worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    id: usize,
    changes: Sender<Change>,
    frames: FrameSender,
}

impl WorkerHandle {
    pub(crate) fn change(&self, change: Change) -> Result<(), Error> {
        self.changes.send(change).map_err(|_| Error::Worker { worker: self.id })?;
        self.frames.flush();
        Ok(())
    }

    /// Gives it a port: what to receive from, and a way to send. Large frames are lost there.
    ///
    /// # Errors
    /// When the worker has ended.
    pub fn attach(
        &self,
        port: PortId,
        name: impl Into<String>,
        rx: Vec<Receiving>,
        sending: Sending,
    ) -> Result<(), Error> {
        self.change(Change::Attach { port, name: name.into(), rx, sending, cutting: Cutting::default() })
    }

    /// The same, for a port where large frames may come or go.
    ///
    /// # Errors
    /// When the worker has ended.
    pub fn attach_cutting(
        &self,
        port: PortId,
        name: impl Into<String>,
        rx: Vec<Receiving>,
        sending: Sending,
        cutting: Cutting,
    ) -> Result<(), Error> {
        self.change(Change::Attach { port, name: name.into(), rx, sending, cutting })
    }

    /// A way to send frames through it.
    pub fn frames(&self) -> FrameSender {
        self.frames.clone()
    }
}

/// The worker's side.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) changes: Receiver<Change>,
    pub(crate) frames: Receiver<(PortId, Mbuf)>,
    pub(crate) waker: Waker,
}

pub(crate) fn inbox(id: usize) -> Result<(WorkerHandle, Inbox), Error> {
    let waker = Waker::new()?;
    let (changes, change_receiver) = channel();
    let (frames, frame_receiver) = sync_channel(FRAMES);
    let handle = WorkerHandle { id, changes, frames: FrameSender { frames, waker: waker.clone() } };
    Ok((handle, Inbox { changes: change_receiver, frames: frame_receiver, waker }))
}
