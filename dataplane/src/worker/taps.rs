//! Receiving from TAPs: frames are read straight into packet buffers, and the many that are silent are not asked.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use dpdk::{Burst, Mbuf, Mempool};
use forwarding::PortId;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tracing::{debug, warn};

use crate::error::Error;
use crate::host::Tap;

/// So many TAPs are read without asking first whether there is anything: asking costs as much as one vain read.
const ASK_ABOVE: usize = 1;
/// TAPs that are served in one round; the kernel names the others in the next.
const READY: usize = 64;
/// How long TAPs may wait that had nothing while the worker is busy with others, in microseconds.
const REST_MICROSECONDS: u64 = 10;

/// The receiving side of a TAP.
///
/// Should a TAP have a header in front of its frames ([`Header`](crate::host::Header)), it is read into the headroom: the
/// buffer is grown by its length at the front for the read, and trimmed by it after.
#[derive(Debug)]
pub struct TapQueue {
    tap: Arc<Tap>,
    pool: Mempool,
    /// Taken for a read that found nothing, and kept for the next.
    spare: Option<Mbuf>,
    /// The device has been deleted.
    gone: bool,
}

impl TapQueue {
    /// Reads `tap` into buffers of `pool`.
    pub fn new(tap: Arc<Tap>, pool: Mempool) -> Self {
        Self { tap, pool, spare: None, gone: false }
    }

    /// Adds what has arrived to `burst`, as far as there is room. Frames larger than a buffer are dropped, and so are all
    /// while the pool is empty: they wait in the TAP's own queue, which the kernel bounds.
    ///
    /// # Errors
    /// When the TAP has been deleted.
    fn receive<const N: usize>(&mut self, burst: &mut Burst<N>) -> io::Result<()> {
        while !burst.is_full() {
            let Some(mut packet) = self.spare.take().or_else(|| self.pool.alloc()) else { return Ok(()) };
            let room = packet.tailroom();
            let Some(space) = packet.append(room) else { return Ok(()) };
            match self.tap.read(space) {
                // The kernel cuts off what does not fit; one byte is left free to tell.
                Ok(length) if length < room => {
                    packet.truncate(length);
                    // There is room: the loop asked.
                    let _ = burst.push(packet);
                }
                Ok(_) => {
                    packet.truncate(0);
                    self.spare = Some(packet);
                }
                Err(error) => {
                    packet.truncate(0);
                    self.spare = Some(packet);
                    return match error.kind() {
                        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
                        _ => Err(error),
                    };
                }
            }
        }
        Ok(())
    }
}

/// All TAPs that a worker reads.
#[derive(Debug)]
pub(super) struct Taps {
    queues: Vec<Option<(PortId, TapQueue)>>,
    count: usize,
    epoll: Epoll,
    /// Places in `queues` of those to read in this round.
    ready: Vec<usize>,
    rest: u64,
    /// Not before, while there is other work.
    next: u64,
}

impl Taps {
    /// # Errors
    /// Without descriptors left.
    pub(super) fn new() -> Result<Self, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| Error::system("make an epoll descriptor")(errno.into()))?;
        let rest = dpdk::tsc::hertz() / 1_000_000 * REST_MICROSECONDS;
        Ok(Self { queues: Vec::new(), count: 0, epoll, ready: Vec::new(), rest, next: 0 })
    }

    /// Reads `queue` from now on.
    pub(super) fn add(&mut self, port: PortId, queue: TapQueue) {
        let free = self.queues.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.queues.push(None);
            self.queues.len() - 1
        });
        let event = EpollEvent::new(EpollFlags::EPOLLIN, place as u64);
        if let Err(errno) = self.epoll.add(&*queue.tap, event) {
            warn!(tap = queue.tap.name(), %errno, "cannot wait for the TAP; it receives nothing");
        }
        if let Some(slot) = self.queues.get_mut(place) {
            *slot = Some((port, queue));
            self.count += 1;
        }
    }

    /// Gives a port's TAP up.
    pub(super) fn remove(&mut self, port: PortId) {
        for slot in &mut self.queues {
            if let Some((_, queue)) = slot.take_if(|(held, _)| *held == port) {
                // Fails only for one that could not be added, or that was deleted.
                let _ = self.epoll.delete(&*queue.tap);
                self.count -= 1;
            }
        }
        while self.queues.last().is_some_and(Option::is_none) {
            self.queues.pop();
        }
    }

    /// Looks which TAPs have something; the number to call [`Self::receive`] with, from 0. With `busy`, when there is other
    /// work, silent TAPs are left alone for some microseconds.
    pub(super) fn poll(&mut self, busy: bool) -> usize {
        self.ready.clear();
        if self.count == 0 {
            return 0;
        }
        if busy && self.next != 0 && dpdk::tsc::cycles() < self.next {
            return 0;
        }
        if self.count <= ASK_ABOVE {
            let there =
                |slot: &Option<(PortId, TapQueue)>| slot.as_ref().is_some_and(|(_, queue)| !queue.gone);
            let places = self.queues.iter().enumerate().filter(|(_, slot)| there(slot));
            self.ready.extend(places.map(|(place, _)| place));
        } else {
            let mut events = [EpollEvent::empty(); READY];
            // Interrupted: the next round asks again.
            let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            self.ready
                .extend(events.iter().take(count).filter_map(|event| usize::try_from(event.data()).ok()));
        }
        self.next = dpdk::tsc::cycles().wrapping_add(self.rest);
        self.ready.len()
    }

    /// Receives from the TAP of that number of this round's. Its port, when there was anything.
    pub(super) fn receive<const N: usize>(&mut self, number: usize, burst: &mut Burst<N>) -> Option<PortId> {
        let place = *self.ready.get(number)?;
        let (port, queue) = self.queues.get_mut(place)?.as_mut()?;
        if let Err(error) = queue.receive(burst) {
            // It would be ready for ever. Its port is closed as soon as the topology hears of it.
            debug!(tap = queue.tap.name(), %error, "TAP has gone");
            queue.gone = true;
            let _ = self.epoll.delete(&*queue.tap);
        }
        if burst.is_empty() {
            return None;
        }
        // There may be more at once.
        self.next = 0;
        Some(*port)
    }
}

impl AsFd for Taps {
    /// Readable while any of them is.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
