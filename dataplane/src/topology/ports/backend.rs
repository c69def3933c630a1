//! What is behind an open port: a DPDK device, an interface's AF_XDP sockets, or a TAP of our own.

use std::io;
use std::sync::Arc;

use dpdk::{AfXdp, Mempool, PortStats, RxQueue, Started, TxQueue};

use crate::error::Error;
use crate::host::Tap;
use crate::worker::{FrameSender, Receiving, Sending, TapQueue};

/// What is behind an open port.
#[derive(Debug)]
pub(super) enum Backend {
    /// A DPDK device.
    Dpdk(dpdk::Port<Started>),
    /// A Linux interface.
    Xdp(AfXdp),
    /// A TAP whose far end is the host's.
    Tap(Arc<Tap>),
}

/// What workers receive from and send by, before they have it.
#[derive(Debug)]
pub(super) enum Queues {
    /// Queues of a DPDK device or of AF_XDP sockets.
    Dpdk(Vec<RxQueue>, Vec<TxQueue>),
    /// One reader, and as many writers as there are workers; with buffers for usual frames and for large ones.
    Tap(Arc<Tap>, Mempool, Option<Mempool>),
}

/// One worker's part.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) rx: Vec<Receiving>,
    pub(super) sending: Sending,
}

impl Backend {
    /// The driver's name.
    pub(super) fn driver(&self) -> &str {
        match self {
            Self::Dpdk(port) => port.driver(),
            Self::Xdp(interface) if interface.is_native() => "af_xdp",
            Self::Xdp(_) => "af_xdp (generic)",
            Self::Tap(_) => "tap",
        }
    }

    /// The link as it is now.
    ///
    /// # Errors
    /// When the device has gone.
    pub(super) fn link(&self) -> Result<dpdk::Link, Error> {
        match self {
            Self::Dpdk(port) => Ok(port.link()?),
            Self::Xdp(interface) => Ok(interface.link()?),
            Self::Tap(tap) => {
                let fail =
                    |source: io::Error| Error::Tap { doing: "look at", name: tap.name().to_owned(), source };
                Ok(dpdk::Link { up: tap.is_up().map_err(fail)?, speed: None })
            }
        }
    }

    /// What the device counts; nothing of a TAP, where the kernel's own counters of it tell.
    ///
    /// # Errors
    /// When the device has gone.
    pub(super) fn stats(&self) -> Result<Option<PortStats>, Error> {
        match self {
            Self::Dpdk(port) => Ok(Some(port.stats()?)),
            Self::Xdp(interface) => Ok(Some(interface.stats()?)),
            Self::Tap(_) => Ok(None),
        }
    }

    /// The DPDK device, where it is one.
    pub(super) fn dpdk(&mut self) -> Option<&mut dpdk::Port<Started>> {
        match self {
            Self::Dpdk(port) => Some(port),
            Self::Xdp(_) | Self::Tap(_) => None,
        }
    }

    /// Receives frames for any MAC address, where that can be switched.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) fn set_promiscuous(&mut self) -> Result<(), Error> {
        match self {
            Self::Dpdk(port) => Ok(port.set_promiscuous(true)?),
            Self::Xdp(interface) => Ok(interface.set_promiscuous(true)?),
            Self::Tap(_) => Ok(()),
        }
    }

    /// Closes it, after the workers gave their queues back.
    ///
    /// # Errors
    /// When they did not.
    pub(super) fn close(self) -> Result<(), Error> {
        match self {
            Self::Dpdk(port) => port.close().map_err(|(_, error)| error.into()),
            Self::Xdp(interface) => interface.close().map_err(|(_, error)| error.into()),
            Self::Tap(_) => Ok(()),
        }
    }
}

impl Queues {
    /// Receive queues.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Dpdk(rx, _) => rx.len(),
            Self::Tap(..) => 1,
        }
    }

    /// Deals them out to the workers, beginning with number `first`; who has no send queue sends through `owner`, that first
    /// one. Returns the shares and the numbers of those that poll.
    pub(super) fn deal(self, workers: usize, first: usize, owner: &FrameSender) -> (Vec<Share>, Vec<usize>) {
        let order = |index: usize| (first + index) % workers.max(1);
        let mut shares: Vec<Share> = (0..workers)
            .map(|_| Share { rx: Vec::new(), sending: Sending::Through(owner.clone()) })
            .collect();
        let mut polled_by = Vec::new();
        let mut receive = |shares: &mut Vec<Share>, index: usize, receiving| {
            if let Some(share) = shares.get_mut(order(index)) {
                share.rx.push(receiving);
                polled_by.push(order(index));
            }
        };
        match self {
            Self::Dpdk(rx, tx) => {
                for (index, queue) in rx.into_iter().enumerate() {
                    receive(&mut shares, index, Receiving::Queue(queue));
                }
                for (index, queue) in tx.into_iter().enumerate() {
                    if let Some(share) = shares.get_mut(order(index)) {
                        share.sending = Sending::Own(queue);
                    }
                }
            }
            Self::Tap(tap, pool, large) => {
                for share in &mut shares {
                    share.sending = Sending::Tap(Arc::clone(&tap));
                }
                receive(&mut shares, 0, Receiving::Tap(TapQueue::new(tap, pool, large)));
            }
        }
        (shares, polled_by)
    }
}
