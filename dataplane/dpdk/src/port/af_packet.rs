//! The sockets of `net_af_packet`: found, replaced and kept for waiting.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::errno::Errno;

use super::{
    WaitFd,
    kernel::{Interface, Merging},
};
use crate::{Error, Mbuf, Mempool, xdp::drop_behind_packet_sockets};

// From linux/if_packet.h.
const PACKET_IGNORE_OUTGOING: i32 = 23;
const TPACKET_V2: i32 = 1;
const PACKET_FANOUT_HASH: i32 = 0;
const PACKET_FANOUT_FLAG_ROLLOVER: i32 = 0x1000;
/// `TPACKET2_HDRLEN`, bytes.
const HEADER: u32 = 52;
/// Bytes of a ring's frame in front of the packet: header and address, aligned, with room for the link layer's header.
const BEFORE_PACKET: u32 = 66;
/// Frames that fit the driver's default of 2048 bytes.
const DEFAULT_FRAME: u32 = 2048;
const FRAMES: u32 = 512;
const PAGE: u32 = 4096;

/// The shape of a socket's receive ring, and of its send ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ring {
    frame_size: u32,
    block_size: u32,
}

impl Ring {
    /// For frames of up to `length` bytes.
    pub(super) fn for_frames_of(length: u32) -> Self {
        let frame_size = (length + BEFORE_PACKET).next_multiple_of(1024).max(DEFAULT_FRAME);
        // The driver takes frames to be contiguous, the kernel starts a new one with each block: so blocks are full.
        // Four multiples of 1 KiB are a multiple of the page.
        Self { frame_size, block_size: 4 * frame_size }
    }

    fn blocks(self) -> u32 {
        FRAMES / (self.block_size / self.frame_size)
    }

    /// Both rings, bytes.
    fn mapped(self) -> usize {
        2 * self.block_size as usize * self.blocks() as usize
    }

    /// The driver insists that a frame without its header fits a buffer.
    pub(super) fn data_room(self) -> u32 {
        self.frame_size - (HEADER - 20) + u32::from(Mbuf::HEADROOM)
    }

    fn max_mtu(self) -> u16 {
        u16::try_from(self.frame_size - BEFORE_PACKET - super::FRAME_OVERHEAD).unwrap_or(u16::MAX)
    }

    fn request(self) -> libc::tpacket_req {
        libc::tpacket_req {
            tp_block_size: self.block_size,
            tp_block_nr: self.blocks(),
            tp_frame_size: self.frame_size,
            tp_frame_nr: FRAMES,
        }
    }
}

const _: () = assert!((4 * 1024) % PAGE == 0);

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocksz={},framesz={},framecnt={FRAMES}", self.block_size, self.frame_size)
    }
}

/// What an open `net_af_packet` port has besides its driver.
#[derive(Debug)]
pub(crate) struct AfPacket {
    interface: Interface,
    merging: Merging,
    ring: Ring,
    /// Duplicates, by queue.
    sockets: Vec<OwnedFd>,
    /// Packets that found no place in a ring, as read so far.
    missed: AtomicU64,
    /// Keeps the kernel's protocols from looking at what the sockets have received.
    _drop: Option<OwnedFd>,
}

/// An interface about to be probed.
pub(super) struct Prepared {
    interface: Interface,
    sockets: BTreeSet<RawFd>,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl AfPacket {
    /// Before probing: finds the interface in the calling thread's namespace, and notes which sockets there are.
    pub(super) fn prepare(interface: &str) -> Result<Prepared, Error> {
        static PROBING: Mutex<()> = Mutex::new(());
        let guard = PROBING.lock().unwrap_or_else(PoisonError::into_inner);
        let no_interface = |_| Error::NoInterface { interface: interface.to_owned() };
        let found = Interface::find(interface).map_err(no_interface)?;
        // On older kernels (seen on 6.1) the driver's sockets cannot form a group on an interface that is down.
        found.set_up().map_err(|errno| Error::Device {
            operation: "setting up the interface",
            device: interface.to_owned(),
            errno,
        })?;
        Ok(Prepared { interface: found, sockets: packet_sockets(), _one_at_a_time: guard })
    }

    pub(super) fn interface(&self) -> &Interface {
        &self.interface
    }

    pub(super) fn max_mtu(&self) -> u16 {
        self.ring.max_mtu()
    }

    pub(super) fn check_pool(&self, device: &str, pool: &Mempool) -> Result<(), Error> {
        let (needed, data_room) = (self.ring.data_room(), pool.data_room());
        if needed > u32::from(data_room) {
            let (device, mempool) = (device.to_owned(), pool.name().to_owned());
            return Err(Error::DataRoom { device, needed, mempool, data_room });
        }
        Ok(())
    }

    /// Packets that found no place in a ring.
    pub(super) fn missed(&self) -> Result<u64, Errno> {
        for socket in &self.sockets {
            let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
            let (pointer, mut length) = ((&raw mut stats).cast(), length_of::<libc::tpacket_stats>());
            // SAFETY: the structure is ours to write and has that length.
            Errno::result(unsafe {
                let fd = socket.as_raw_fd();
                libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, pointer, &raw mut length)
            })?;
            self.missed.fetch_add(stats.tp_drops.into(), Ordering::Relaxed);
        }
        Ok(self.missed.load(Ordering::Relaxed))
    }

    pub(super) fn wait_fd(&self, queue: u16) -> Option<WaitFd> {
        self.sockets.get(usize::from(queue))?.try_clone().ok().map(WaitFd::socket)
    }
}

impl Drop for AfPacket {
    fn drop(&mut self) {
        self.interface.resume_merging(self.merging);
    }
}

impl Prepared {
    /// After probing: replaces the driver's sockets, one per queue.
    pub(super) fn adopt(self, queues: u16, ring: Ring) -> Result<AfPacket, Errno> {
        // Descriptors are given out lowest first, so the order is that of opening, which is that of the queues.
        let new: Vec<RawFd> = packet_sockets()
            .difference(&self.sockets)
            .copied()
            .filter(|&fd| bound_to(fd) == Some(self.interface.index()))
            .collect();
        if new.len() != usize::from(queues) {
            return Err(Errno::EBADF);
        }
        let sockets =
            new.iter().map(|&fd| replace(fd, self.interface.index(), ring)).collect::<Result<Vec<_>, _>>()?;
        if queues > 1 {
            // Only now is the driver's group gone, whose number is taken for its own kind.
            for socket in &sockets {
                let group = self.interface.index() & 0xffff;
                let kind = PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_ROLLOVER;
                set_option(socket, libc::PACKET_FANOUT, &(group | (kind << 16)))?;
            }
        }
        let merging = self.interface.stop_merging();
        // Routing each packet for nothing costs the kernel about as much as handing it over.
        let drop = drop_behind_packet_sockets(self.interface.index())
            .inspect_err(|errno| tracing::debug!(%errno, "the kernel looks at received packets as well"))
            .ok();
        let missed = AtomicU64::new(0);
        Ok(AfPacket { interface: self.interface, merging, ring, sockets, missed, _drop: drop })
    }
}

/// Puts a socket of our own making in the place of the driver's: the same number, the same mapping, not in a group that
/// reassembles fragments, blind for what the kernel sends. Nothing has used the driver's yet. Returns a duplicate.
fn replace(old: RawFd, interface: i32, ring: Ring) -> Result<OwnedFd, Errno> {
    let address = mapping_of(old, ring.mapped()).map_err(|_| Errno::EBADF)?.ok_or(Errno::EBADF)?;
    // SAFETY: makes a descriptor, which is owned at once. No protocol yet: nothing is received before it is bound.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    Errno::result(raw)?;
    // SAFETY: see above.
    let new = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(&new, libc::PACKET_VERSION, &TPACKET_V2)?;
    set_option(&new, libc::PACKET_LOSS, &1)?;
    set_option(&new, libc::PACKET_QDISC_BYPASS, &1)?;
    set_option(&new, PACKET_IGNORE_OUTGOING, &1)?;
    set_option(&new, libc::PACKET_RX_RING, &ring.request())?;
    set_option(&new, libc::PACKET_TX_RING, &ring.request())?;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_LOCKED;
    // SAFETY: the range is exactly the driver's mapping of its rings, as /proc/self/maps says, which the new rings, of the
    // same shape, take the place of. The port is not started: nobody reads or writes there now.
    let mapped = unsafe {
        libc::mmap(address, ring.mapped(), libc::PROT_READ | libc::PROT_WRITE, flags, new.as_raw_fd(), 0)
    };
    if mapped == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let all = u16::to_be(0x0003); // ETH_P_ALL
    // SAFETY: a structure of numbers and bytes, for which zero is a value.
    let mut link: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    link.sll_family = 17; // AF_PACKET
    link.sll_protocol = all;
    link.sll_ifindex = interface;
    let length = length_of::<libc::sockaddr_ll>();
    // SAFETY: the address outlives the call.
    Errno::result(unsafe { libc::bind(new.as_raw_fd(), (&raw const link).cast(), length) })?;
    // SAFETY: `old` is the driver's, which goes on using the number and finds our socket behind it.
    Errno::result(unsafe { libc::dup3(new.as_raw_fd(), old, libc::O_CLOEXEC) })?;
    Ok(new)
}

/// The size of a structure that the kernel knows, which is small.
pub(crate) const fn length_of<T>() -> libc::socklen_t {
    #[expect(clippy::cast_possible_truncation)]
    let length = size_of::<T>() as libc::socklen_t;
    length
}

fn set_option<T>(socket: &OwnedFd, option: i32, value: &T) -> Result<(), Errno> {
    // SAFETY: the value outlives the call; the callers pass the type that belongs to the option.
    let ret = unsafe {
        let length = length_of::<T>();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, ptr::from_ref(value).cast(), length)
    };
    Errno::result(ret).map(drop)
}

/// This process's packet sockets.
fn packet_sockets() -> BTreeSet<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| domain(fd) == Some(libc::AF_PACKET))
        .collect()
}

fn domain(fd: RawFd) -> Option<i32> {
    let mut domain = 0_i32;
    let mut length = length_of::<i32>();
    // SAFETY: asks about a number that may be closed or no socket, which is an error then; the answer fits.
    let ret = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut domain).cast(), &raw mut length)
    };
    (ret == 0).then_some(domain)
}

/// Index of the interface a packet socket is bound to.
fn bound_to(fd: RawFd) -> Option<i32> {
    // SAFETY: a structure of numbers and bytes, for which zero is a value.
    let mut link: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = length_of::<libc::sockaddr_ll>();
    // SAFETY: as in `domain`.
    let ret = unsafe { libc::getsockname(fd, (&raw mut link).cast(), &raw mut length) };
    (ret == 0).then_some(link.sll_ifindex)
}

/// Where the socket's rings are mapped.
fn mapping_of(fd: RawFd, length: usize) -> io::Result<Option<*mut libc::c_void>> {
    // SAFETY: the driver keeps it open; it is borrowed for this call only.
    let inode = nix::sys::stat::fstat(unsafe { BorrowedFd::borrow_raw(fd) })?.st_ino;
    let maps = fs::read_to_string("/proc/self/maps")?;
    Ok(find_mapping(&maps, inode, length).map(ptr::with_exposed_provenance_mut))
}

/// The address in the line of /proc/self/maps for this socket and length.
fn find_mapping(maps: &str, inode: u64, length: usize) -> Option<usize> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        // Permissions, offset and device come before the inode.
        if fields.nth(3)?.parse() != Ok(inode) || !fields.next()?.starts_with("socket:") {
            return None;
        }
        let start = usize::from_str_radix(start, 16).ok()?;
        (usize::from_str_radix(end, 16).ok()?.checked_sub(start)? == length).then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rings_suit_kernel_and_driver(length in 0_u32..=65_553) {
            let ring = Ring::for_frames_of(length);
            prop_assert_eq!(ring.block_size % PAGE, 0);
            prop_assert_eq!(ring.block_size % ring.frame_size, 0);
            prop_assert_eq!(ring.blocks() * (ring.block_size / ring.frame_size), FRAMES);
            prop_assert!(ring.frame_size - BEFORE_PACKET >= length);
        }
    }

    #[test]
    fn the_usual_frames_fit_the_usual_buffers() {
        let ring = Ring::for_frames_of(1518);
        assert_eq!(ring.frame_size, 2048);
        assert!(ring.data_room() <= 2048 + 128);
        assert_eq!(ring.max_mtu(), 1964);
    }

    #[test]
    fn finds_the_socket_of_the_right_length() {
        let maps = "7f0000000000-7f0000001000 rw-s 00000000 00:08 77   socket:[77]\n\
                    7f0000400000-7f0000402000 rw-s 00000000 00:08 78   socket:[78]\n\
                    7f0000500000-7f0000502000 r--p 00000000 fe:01 78   /usr/lib/x.so\n";
        assert_eq!(find_mapping(maps, 78, 0x2000), Some(0x7f00_0040_0000));
        assert_eq!(find_mapping(maps, 77, 0x2000), None);
        assert_eq!(find_mapping(maps, 79, 0x2000), None);
        assert_eq!(find_mapping("garbage", 79, 0x2000), None);
    }
}
