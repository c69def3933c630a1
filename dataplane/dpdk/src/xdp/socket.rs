//! One AF_XDP socket: packets of one receive queue of an interface, and a way to send by it.
//!
//! The kernel reads and writes frames in memory of the socket's own (its UMEM) and not in packet buffers: buffers stay ours
//! alone, any mempool will do, and copying costs little beside what the kernel does for a packet.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr, slice,
    sync::{Arc, atomic::Ordering},
};

use nix::errno::Errno;

use super::ring::{End, Indices, Mapping, Ring};
use super::{checksum, patiently};
use crate::port::{Lost, length_of};
use crate::{Burst, Error, Mempool};

/// Frames for receiving, and for sending; each ring has as many entries.
pub(super) const FRAMES: u32 = 1024;
/// Bytes in front of a received packet, `XDP_PACKET_HEADROOM`: the kernel leaves them free.
const KERNEL_HEADROOM: u32 = 256;
/// What may wait to be sent, bytes of the kernel's accounting: all frames, each with the kernel's structures.
const SEND_BUFFER: i32 = 8 << 20;
/// Packets that the kernel sends per system call (`XDP_MAX_TX_SKB_BUDGET`, Linux 6.17); 32 before that.
const SEND_BUDGET: u32 = 128;
/// The option's number, from linux/if_xdp.h; libc does not bind it.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
/// The address family, `libc::AF_XDP`, as wide as in a socket's address.
const AF_XDP: u16 = 44;
/// Times that nothing came after which the kernel is asked to send what it could not before. A worker sleeps after as many.
const POLLS_PER_KICK: u32 = 64;

/// What both directions need.
#[derive(Debug)]
struct Socket {
    // Before the memory that it uses, in the order of dropping.
    fd: OwnedFd,
    memory: Mapping,
    /// Bytes per frame, a power of two.
    frame: u32,
    /// What waits to be sent, where it sends.
    unsent: Option<Indices>,
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Receiver {
    received: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    pool: Mempool,
    socket: Arc<Socket>,
    /// Times that nothing had come.
    empty: u32,
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct Sender {
    waiting: Ring<libc::xdp_desc>,
    completed: Ring<u64>,
    /// Frames that the kernel does not use.
    free: Vec<u64>,
    socket: Arc<Socket>,
}

/// Largest Ethernet frame that fits a frame of so many bytes.
pub(super) const fn room_in(frame: u32) -> u32 {
    frame - KERNEL_HEADROOM
}

/// Why a socket does not open.
#[derive(Debug)]
pub(super) struct Failed {
    operation: &'static str,
    errno: Errno,
    /// What it would have of memory that cannot be swapped, bytes.
    memory: usize,
}

impl Failed {
    /// The error of a device.
    pub(super) fn of(self, device: &str) -> Error {
        let Self { operation, errno, memory } = self;
        // What the kernel says over the limit.
        if errno == Errno::ENOBUFS {
            return Error::LockedMemory { device: device.to_owned(), bytes: memory };
        }
        Error::Device { operation, device: device.to_owned(), errno }
    }
}

/// Opens a socket for a receive queue of an interface, with frames of 2048 or 4096 bytes, received into buffers of `pool`. It
/// sends too where it is to.
pub(super) fn open(
    interface: i32,
    queue: u32,
    frame: u32,
    sends: bool,
    pool: &Mempool,
) -> Result<(OwnedFd, Receiver, Option<Sender>), Failed> {
    let frames = if sends { 2 * FRAMES } else { FRAMES };
    let bytes = frames as usize * frame as usize;
    let failed = |operation| move |errno| Failed { operation, errno, memory: bytes };
    // SAFETY: makes a descriptor, which is owned at once.
    let raw = unsafe { libc::socket(AF_XDP.into(), libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    Errno::result(raw).map_err(failed("opening an AF_XDP socket"))?;
    // SAFETY: see above.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let memory = Mapping::anonymous(bytes).map_err(failed("allocating frames"))?;
    let registration = libc::xdp_umem_reg {
        addr: memory.start().expose_provenance() as u64,
        len: memory.length() as u64,
        chunk_size: frame,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
        .map_err(failed("sharing frames with the kernel"))?;
    let rings = Rings::make(&fd, sends).map_err(failed("making the rings of an AF_XDP socket"))?;
    let Rings { received, waiting, mut fill, completed } = rings;
    // The first half is for receiving.
    let address = |number: u32| u64::from(number) * u64::from(frame);
    for number in 0..FRAMES {
        // SAFETY: the ring is new, and has as many entries.
        unsafe { fill.write(number, address(number)) };
    }
    fill.publish(FRAMES);
    patiently(|| bind(&fd, interface, queue)).map_err(failed("binding an AF_XDP socket"))?;
    let duplicate =
        fd.try_clone().map_err(|_| Errno::EMFILE).map_err(failed("duplicating an AF_XDP socket"))?;
    let unsent = waiting.as_ref().map(|waiting| waiting.indices().clone());
    let socket = Arc::new(Socket { fd, memory, frame, unsent });
    let free = (FRAMES..frames).rev().map(address).collect();
    let sender = waiting.map(|waiting| Sender { waiting, completed, free, socket: Arc::clone(&socket) });
    Ok((duplicate, Receiver { received, fill, pool: pool.clone(), socket, empty: 0 }, sender))
}

struct Rings {
    received: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    waiting: Option<Ring<libc::xdp_desc>>,
    completed: Ring<u64>,
}

impl Rings {
    fn make(fd: &OwnedFd, sends: bool) -> Result<Self, Errno> {
        let page = |offset: u64| libc::off_t::try_from(offset).map_err(|_| Errno::EOVERFLOW);
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
            set(fd, libc::SOL_XDP, ring, &FRAMES)?;
        }
        if sends {
            set(fd, libc::SOL_XDP, libc::XDP_TX_RING, &FRAMES)?;
            // Older kernels do not know the one, and the other takes a privilege: fewer packets per call then.
            let _ = set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &SEND_BUDGET);
            let _ = set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER);
        }
        let offsets = offsets_of(fd)?;
        let send = || Ring::map(fd, FRAMES, &offsets.tx, libc::XDP_PGOFF_TX_RING, End::Producer);
        Ok(Self {
            received: Ring::map(fd, FRAMES, &offsets.rx, libc::XDP_PGOFF_RX_RING, End::Consumer)?,
            fill: Ring::map(fd, FRAMES, &offsets.fr, page(libc::XDP_UMEM_PGOFF_FILL_RING)?, End::Producer)?,
            waiting: sends.then(send).transpose()?,
            completed: Ring::map(
                fd,
                FRAMES,
                &offsets.cr,
                page(libc::XDP_UMEM_PGOFF_COMPLETION_RING)?,
                End::Consumer,
            )?,
        })
    }
}

impl Socket {
    /// The packet that a descriptor tells of; none where it does not lie within the memory.
    ///
    /// # Safety
    ///
    /// The kernel has given up the frame with the descriptor, and nobody gives it back while the packet is looked at.
    unsafe fn packet(&self, descriptor: &libc::xdp_desc) -> Option<&[u8]> {
        let (start, length) = (offset(descriptor.addr), descriptor.len as usize);
        if start.saturating_add(length) > self.memory.length() {
            return None;
        }
        // SAFETY: within the memory, as just checked, and not written meanwhile.
        Some(unsafe { slice::from_raw_parts(self.memory.start().add(start), length) })
    }

    /// Copies a packet into a frame.
    ///
    /// # Safety
    ///
    /// The frame is the caller's: neither the kernel's nor another thread's.
    unsafe fn put(&self, address: u64, packet: &[u8]) {
        let (start, frame) = (offset(address), self.frame as usize);
        assert!(packet.len() <= frame && start.saturating_add(frame) <= self.memory.length());
        // SAFETY: within the memory, as just checked; packet buffers lie elsewhere.
        unsafe { ptr::copy_nonoverlapping(packet.as_ptr(), self.memory.start().add(start), packet.len()) };
    }

    /// Lets the kernel send what waits, where it does not by itself. While the link is down it takes one packet or none per call,
    /// and does not always tell: so what was left over is tried again with the next packets, and without any now and then.
    fn kick(&self) {
        let Some(unsent) = &self.unsent else { return };
        Indices::published();
        let mut pending = unsent.pending();
        while pending > 0 && unsent.needs_wakeup() {
            // SAFETY: no buffer is passed.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT) };
            let left = unsent.pending();
            // The kernel ends a call after so many packets. Without progress it is the interface that does not take any.
            if sent == 0 || left >= pending {
                break;
            }
            pending = left;
        }
    }
}

impl Receiver {
    /// Adds what has arrived to `burst`, as far as there is room, and says how many packets that were. Counts what it drops.
    pub(crate) fn receive<const N: usize>(&mut self, burst: &mut Burst<N>, lost: &Lost) -> usize {
        if burst.is_full() {
            return 0;
        }
        let waiting = self.received.available();
        if waiting == 0 {
            self.nothing_came();
            return 0;
        }
        // Between calls all frames are with the kernel.
        debug_assert!(waiting <= FRAMES);
        let before = burst.len();
        let room = u32::try_from(N - before).unwrap_or(u32::MAX);
        let mut count = waiting.min(room);
        while !self.pool.alloc_burst(burst, count as usize) {
            if count <= 1 {
                self.discard(waiting, lost);
                return 0;
            }
            count /= 2;
        }
        let (mut too_big, mut invalid) = (0, 0);
        for (index, packet) in (0..count).zip(burst.iter_mut().skip(before)) {
            // SAFETY: below what is available.
            let descriptor = unsafe { self.received.read(index) };
            // SAFETY: the kernel gave the frame up, and it goes back below, at the end.
            match unsafe { self.socket.packet(&descriptor) } {
                // A peer on this machine may have left its checksum to its interface, and XDP does not tell.
                Some(bytes) if packet.copy_from_slice(bytes) => checksum::complete(packet.data_mut()),
                Some(_) => too_big += 1,
                None => invalid += 1,
            }
            self.return_frame(index, &descriptor);
        }
        self.give_back(count);
        if too_big + invalid > 0 {
            burst.retain(|packet| !packet.is_empty());
            lost.too_big.fetch_add(too_big, Ordering::Relaxed);
            lost.invalid.fetch_add(invalid, Ordering::Relaxed);
        }
        burst.len() - before
    }

    /// Drops what has come, for want of any buffer: it would only be older when there is one, and whoever waits for this queue
    /// would be woken again and again.
    #[cold]
    fn discard(&mut self, count: u32, lost: &Lost) {
        for index in 0..count {
            // SAFETY: below what is available.
            let descriptor = unsafe { self.received.read(index) };
            self.return_frame(index, &descriptor);
        }
        self.give_back(count);
        lost.no_buffer.fetch_add(count.into(), Ordering::Relaxed);
    }

    /// Puts the frame of the packet that is `index` behind the first into the fill ring, at the same place.
    fn return_frame(&mut self, index: u32, descriptor: &libc::xdp_desc) {
        // SAFETY: there are as many entries as frames: for each that came back the kernel has read one, whether or not it has
        // told.
        unsafe { self.fill.write(index, descriptor.addr & !u64::from(self.socket.frame - 1)) };
    }

    fn give_back(&mut self, count: u32) {
        self.received.publish(count);
        self.fill.publish(count);
        Indices::published();
        self.wake_driver();
    }

    fn nothing_came(&mut self) {
        self.wake_driver();
        self.empty = self.empty.wrapping_add(1);
        if self.empty.is_multiple_of(POLLS_PER_KICK) {
            self.socket.kick();
        }
    }

    /// In zero-copy mode the driver may have run out of frames.
    fn wake_driver(&self) {
        if self.fill.indices().needs_wakeup() {
            // The answer is that there is nothing to read this way.
            let flags = libc::MSG_DONTWAIT;
            // SAFETY: no buffer is passed.
            unsafe { libc::recv(self.socket.fd.as_raw_fd(), ptr::null_mut(), 0, flags) };
        }
    }

    /// Its owner is about to sleep: what still waits to be sent by the same socket is tried once more.
    pub(crate) fn about_to_sleep(&self) {
        self.socket.kick();
    }
}

impl Sender {
    /// Hands the packets of `burst` to the kernel, in order, and says how many it accepted.
    pub(crate) fn send<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        self.reclaim();
        if self.free.len() < burst.len() {
            // The kernel sends only when told to, and what it could not send before keeps its place.
            self.socket.kick();
            self.reclaim();
        }
        let mut count = 0;
        let room = self.waiting.available();
        for packet in burst.iter() {
            let data = packet.data();
            if count == room || data.len() > self.socket.frame as usize {
                break;
            }
            let Some(address) = self.free.pop() else { break };
            // SAFETY: the frame is none that the kernel uses.
            unsafe { self.socket.put(address, data) };
            // At most a frame's bytes.
            let len = u32::try_from(data.len()).unwrap_or_default();
            // SAFETY: below what is available.
            unsafe { self.waiting.write(count, libc::xdp_desc { addr: address, len, options: 0 }) };
            count += 1;
        }
        self.waiting.publish(count);
        self.socket.kick();
        let count = count as usize;
        burst.free_first(count);
        count
    }

    /// Takes back the frames of packets that have been sent.
    fn reclaim(&mut self) {
        let count = self.completed.available();
        for index in 0..count {
            // SAFETY: below what is available.
            self.free.push(unsafe { self.completed.read(index) });
        }
        self.completed.publish(count);
    }
}

/// An address in the memory; one beyond any memory for what does not fit.
fn offset(address: u64) -> usize {
    usize::try_from(address).unwrap_or(usize::MAX)
}

fn bind(fd: &OwnedFd, interface: i32, queue: u32) -> Result<(), Errno> {
    let address = libc::sockaddr_xdp {
        sxdp_family: AF_XDP,
        // Without copying where the driver can.
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: interface.cast_unsigned(),
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let length = length_of::<libc::sockaddr_xdp>();
    // SAFETY: the address outlives the call and has that length.
    Errno::result(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), length) }).map(drop)
}

fn set<T>(fd: &OwnedFd, level: i32, option: i32, value: &T) -> Result<(), Errno> {
    let length = length_of::<T>();
    // SAFETY: the value outlives the call; the callers pass the type that belongs to the option.
    let ret = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, ptr::from_ref(value).cast(), length) };
    Errno::result(ret).map(drop)
}

fn offsets_of(fd: &OwnedFd) -> Result<libc::xdp_mmap_offsets, Errno> {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    let mut length = length_of::<libc::xdp_mmap_offsets>();
    let (pointer, fd) = (ptr::from_mut(&mut offsets).cast(), fd.as_raw_fd());
    // SAFETY: the structure is ours to write and has that length.
    Errno::result(unsafe {
        libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, pointer, &raw mut length)
    })?;
    // Before Linux 5.4 it is shorter, without flags.
    if length as usize == size_of::<libc::xdp_mmap_offsets>() { Ok(offsets) } else { Err(Errno::EOPNOTSUPP) }
}

/// The kernel's counters of a socket.
pub(super) fn statistics(fd: &OwnedFd) -> Result<libc::xdp_statistics, Errno> {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut statistics: libc::xdp_statistics = unsafe { std::mem::zeroed() };
    let mut length = length_of::<libc::xdp_statistics>();
    let (pointer, fd) = (ptr::from_mut(&mut statistics).cast(), fd.as_raw_fd());
    // SAFETY: the structure is ours to write and has that length; older kernels fill less of it.
    Errno::result(unsafe {
        libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_STATISTICS, pointer, &raw mut length)
    })?;
    Ok(statistics)
}
