//! From the workers to the slow path: one bounded queue per class, so that a flood of one class cannot crowd out another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use dpdk::Mbuf;
use forwarding::{Class, PortId};

use crate::wake::Waker;

/// Packets that wait per class. At 64 workers' full bursts the policers drop long before this matters.
const QUEUE_LENGTH: usize = 1024;

/// Number of classes.
pub(crate) const CLASSES: usize = Class::ALL.len();

/// A packet as it was received, for the shadow of the port it was received on.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) port: PortId,
    pub(crate) packet: Mbuf,
}

/// What became of the packets of one class.
#[derive(Debug, Default)]
pub(crate) struct ClassCount {
    pub(crate) passed: AtomicU64,
    pub(crate) policed: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// A worker's way to the slow path.
#[derive(Clone, Debug)]
pub struct HandOverSender {
    queues: [SyncSender<HandOver>; CLASSES],
    counts: Arc<[ClassCount; CLASSES]>,
    waker: Waker,
}

impl HandOverSender {
    /// Queues a packet; over a full queue it is dropped and counted as policed. Follow with [`Self::flush`].
    pub(crate) fn send(&self, class: Class, port: PortId, packet: Mbuf) {
        let index = class.index();
        if self.queues[index].try_send(HandOver { port, packet }).is_err() {
            self.counts[index].policed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes the slow path; once per burst.
    pub(crate) fn flush(&self) {
        self.waker.wake();
    }
}

/// The queues of all classes.
pub(crate) fn queues(
    waker: Waker,
    counts: Arc<[ClassCount; CLASSES]>,
) -> (HandOverSender, [Receiver<HandOver>; CLASSES]) {
    let mut receivers = Vec::with_capacity(CLASSES);
    let queues = std::array::from_fn(|_| {
        let (sender, receiver) = sync_channel(QUEUE_LENGTH);
        receivers.push(receiver);
        sender
    });
    let mut receivers = receivers.into_iter();
    // As many as senders were made.
    let receivers = std::array::from_fn(|_| receivers.next().unwrap_or_else(|| sync_channel(0).1));
    (HandOverSender { queues, counts, waker }, receivers)
}
