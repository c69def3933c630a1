//! Receiving from TAPs: frames are read straight into packet buffers, and the many that are silent are not asked.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use dpdk::{Burst, Mbuf, Mempool};
use forwarding::{Offload, PortId, Reason, VirtioHeader, Worker};
use nix::errno::Errno;
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

/// Bytes taken from one TAP at once, about: what is read stays in the cache until it is sent, and the pool of large buffers
/// needs no more than some of a round. A large frame is at most 64 KiB.
const BYTES: usize = 256 * 1024;
/// And large frames, which may be small for that, or frames that are lost, which have no bytes.
const LARGE: usize = 16;
/// How long a TAP is left alone that could not be read, in seconds.
const RETRY_SECONDS: u64 = 1;

/// The receiving side of a TAP, which has a [`Header::Virtio`](crate::host::Header).
#[derive(Debug)]
pub struct TapQueue {
    tap: Arc<Tap>,
    pool: Mempool,
    /// For frames that do not fit a buffer of `pool`; without it there are none.
    large: Option<Mempool>,
    /// Taken for a read that found nothing, and kept for the next.
    spare: Option<Mbuf>,
    state: State,
    /// A failed read was told of; once is enough.
    has_warned: bool,
}

/// Whether a TAP is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// It could not be read; not before this time stamp again.
    Resting(u64),
    /// The device has been deleted.
    Gone,
}

/// What a failed read means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Nothing is there (any more).
    Empty,
    /// The kernel took a frame off its queue that it cannot describe by a [`VirtioHeader`], and freed it.
    FrameLost,
    /// The device has been deleted.
    Gone,
    /// Anything else: it may pass.
    Other,
}

impl Failure {
    /// `is_there` looks whether the device still is.
    fn of(error: &io::Error, is_there: impl FnOnce() -> bool) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN | Errno::EINTR) => Self::Empty,
            // tun_put_user of Linux: a kind of segmentation that the header has no number for.
            Some(Errno::EINVAL) => Self::FrameLost,
            Some(Errno::EBADFD) => Self::Gone,
            _ if is_there() => Self::Other,
            _ => Self::Gone,
        }
    }
}

/// Counts what came by a port and goes no further.
struct Refusing<'a> {
    engine: &'a Worker,
    port: PortId,
    any: bool,
}

impl Refusing<'_> {
    fn refuse(&mut self, reason: Reason, bytes: usize) {
        self.any = true;
        self.engine.count_refused(self.port, reason, 1, bytes as u64);
    }

    /// What is left to do for a frame; nothing of one that was refused.
    fn look(&mut self, header: VirtioHeader, frame: &[u8]) -> Option<Option<Offload>> {
        let Ok(offload) = header.read(frame) else {
            self.refuse(Reason::BadOffload, frame.len());
            return None;
        };
        if offload.is_some_and(Offload::is_datagrams) && self.engine.is_vxlan_to_us(self.port, frame) {
            self.refuse(Reason::BadOffload, frame.len());
            return None;
        }
        Some(offload)
    }
}

impl TapQueue {
    /// Reads `tap` into buffers of `pool`, and what is too long for these into buffers of `large`.
    pub fn new(tap: Arc<Tap>, pool: Mempool, large: Option<Mempool>) -> Self {
        Self { tap, pool, large, spare: None, state: State::Reading, has_warned: false }
    }

    /// Adds what has arrived to `burst`, as far as there is room. Frames larger than a buffer are refused. While a pool is
    /// empty, frames wait in the TAP's own queue, which the kernel bounds. `spare` is a large buffer kept for the next read,
    /// of any TAP.
    ///
    /// A frame is read into a usual buffer, and the rest that does not fit into a large one, behind as much room as the
    /// first part takes, which is then copied there: usual frames are not copied, and of large ones little.
    ///
    /// # Errors
    /// When the TAP cannot be read, for which there is a [`Failure`].
    fn receive<const N: usize>(
        &mut self,
        burst: &mut Burst<N>,
        spare: &mut Option<Mbuf>,
        refusing: &mut Refusing<'_>,
    ) -> io::Result<()> {
        let (mut bytes, mut unusual) = (0, 0);
        while !burst.is_full() && bytes < BYTES && unusual < LARGE {
            let Some(mut packet) = self.spare.take().or_else(|| self.pool.alloc()) else { return Ok(()) };
            let mut large = spare.take();
            if let Some(pool) = &self.large
                && large.is_none()
            {
                large = pool.alloc();
                if large.is_none() {
                    self.spare = Some(packet);
                    return Ok(());
                }
            }
            let mut header = VirtioHeader::default();
            let (first, all) = (packet.tailroom(), large.as_ref().map_or(0, Mbuf::tailroom));
            let room = first.max(all);
            let space = packet.append(first).unwrap_or_default();
            let rest = large.as_mut().and_then(|large| large.append(all)).unwrap_or_default();
            let result = self.tap.read_large(&mut header, [space, rest.get_mut(first..).unwrap_or_default()]);
            // The kernel cuts off what does not fit; one byte is left free to tell.
            let length = *result.as_ref().unwrap_or(&0);
            let read = (1..room).contains(&length);
            let mut taken = None;
            if read && length <= first {
                packet.truncate(length);
                taken = Some(packet);
            } else {
                if read && let Some(mut large) = large.take() {
                    large.truncate(length);
                    if let Some(front) = large.data_mut().get_mut(..first) {
                        front.copy_from_slice(packet.data());
                    }
                    unusual += 1;
                    taken = Some(large);
                }
                packet.truncate(0);
                self.spare = Some(packet);
            }
            if let Some(mut large) = large {
                large.truncate(0);
                *spare = Some(large);
            }
            if let Some(mut packet) = taken {
                bytes += length;
                if let Some(offload) = refusing.look(header, packet.data()) {
                    if offload.is_some() {
                        super::large::leave(&mut packet, offload);
                    }
                    // There is room: the loop asked.
                    let _ = burst.push(packet);
                }
            }
            match result {
                Ok(length) if length < room => {}
                Ok(length) => {
                    unusual += 1;
                    refusing.refuse(Reason::Giant, length);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => match Failure::of(&error, || self.tap.is_up().is_ok()) {
                    Failure::Empty => return Ok(()),
                    Failure::FrameLost => {
                        unusual += 1;
                        refusing.refuse(Reason::BadOffload, 0);
                    }
                    Failure::Gone | Failure::Other => return Err(error),
                },
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
    /// For the next read of any of them.
    spare: Option<Mbuf>,
    rest: u64,
    /// Not before, while there is other work.
    next: u64,
    /// How long one is left alone that could not be read, in time stamps.
    retry: u64,
    /// When the first of those is to be read again, if there are any.
    resting: Option<u64>,
}

impl Taps {
    /// # Errors
    /// Without descriptors left.
    pub(super) fn new() -> Result<Self, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| Error::system("make an epoll descriptor")(errno.into()))?;
        let rest = dpdk::tsc::hertz() / 1_000_000 * REST_MICROSECONDS;
        let retry = dpdk::tsc::hertz() * RETRY_SECONDS;
        Ok(Self {
            queues: Vec::new(),
            count: 0,
            epoll,
            ready: Vec::new(),
            spare: None,
            rest,
            next: 0,
            retry,
            resting: None,
        })
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
        if self.resting.is_some_and(|until| until <= dpdk::tsc::cycles()) {
            self.retry();
        }
        if self.count <= ASK_ABOVE {
            let there = |slot: &Option<(PortId, TapQueue)>| {
                slot.as_ref().is_some_and(|(_, queue)| queue.state == State::Reading)
            };
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

    /// Reads those again that have been left alone long enough.
    #[cold]
    fn retry(&mut self) {
        let now = dpdk::tsc::cycles();
        self.resting = None;
        for (place, slot) in self.queues.iter_mut().enumerate() {
            let Some((_, queue)) = slot else { continue };
            match queue.state {
                State::Resting(until) if until <= now => {
                    queue.state = State::Reading;
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, place as u64);
                    if let Err(errno) = self.epoll.add(&*queue.tap, event) {
                        warn!(tap = queue.tap.name(), %errno, "cannot wait for the TAP; it receives nothing");
                    }
                }
                State::Resting(until) => {
                    self.resting = Some(self.resting.map_or(until, |first| first.min(until)));
                }
                State::Reading | State::Gone => {}
            }
        }
    }

    /// Receives from the TAP of that number of this round's. Its port, and whether there was anything, if only what `engine`
    /// was told to have been refused.
    pub(super) fn receive<const N: usize>(
        &mut self,
        number: usize,
        burst: &mut Burst<N>,
        engine: &Worker,
    ) -> Option<(PortId, bool)> {
        let place = *self.ready.get(number)?;
        let (port, queue) = self.queues.get_mut(place)?.as_mut()?;
        let mut refusing = Refusing { engine, port: *port, any: false };
        if let Err(error) = queue.receive(burst, &mut self.spare, &mut refusing) {
            // It would be ready for ever.
            let _ = self.epoll.delete(&*queue.tap);
            let failure = Failure::of(&error, || queue.tap.is_up().is_ok());
            let name = queue.tap.name();
            if failure == Failure::Gone {
                // Its port is closed as soon as the topology hears of it.
                debug!(tap = name, %error, "TAP has gone");
                queue.state = State::Gone;
            } else {
                if !queue.has_warned {
                    warn!(tap = name, %error, "cannot read the TAP; every {RETRY_SECONDS} s it is tried again");
                    queue.has_warned = true;
                }
                let until = dpdk::tsc::cycles().saturating_add(self.retry);
                queue.state = State::Resting(until);
                self.resting = Some(self.resting.map_or(until, |first| first.min(until)));
            }
        }
        let any = !burst.is_empty() || refusing.any;
        if any {
            // There may be more at once.
            self.next = 0;
        }
        Some((*port, any))
    }
}

impl AsFd for Taps {
    /// Readable while any of them is.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_frame_ends_no_port() {
        let of = |errno: Errno, is_there| Failure::of(&io::Error::from(errno), || is_there);
        for is_there in [true, false] {
            assert_eq!(of(Errno::EINVAL, is_there), Failure::FrameLost);
            assert_eq!(of(Errno::EAGAIN, is_there), Failure::Empty);
            assert_eq!(of(Errno::EINTR, is_there), Failure::Empty);
            assert_eq!(of(Errno::EBADFD, is_there), Failure::Gone);
        }
        for errno in [Errno::EFAULT, Errno::EIO, Errno::ENOMEM] {
            assert_eq!(of(errno, true), Failure::Other);
            assert_eq!(of(errno, false), Failure::Gone);
        }
    }
}
