//! Linux interfaces through AF_XDP sockets: packets leave the kernel's receive path at its very beginning.
//!
//! Not DPDK's driver (`net_af_xdp`), but queues like those of a DPDK port. What the driver costs, and this does not: a system
//! call per poll, one of the 32 ports of Debian's DPDK, short sleeps in place of wake-ups, libxdp with its program files and
//! pins in /sys/fs/bpf, and an XDP program that stays on the interface when the process dies.
//!
//! On a veth the kernel copies each packet, the XDP program runs in the receiving end, and the sending end segments what it
//! sends, for XDP takes no more than one packet. Checksums may still be incomplete: see [`checksum`].

mod bpf;
mod checksum;
mod ring;
mod socket;

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;

pub(crate) use self::bpf::drop_behind_packet_sockets;
use self::bpf::{Mode, SocketMap};
pub(crate) use self::checksum::complete as complete_checksums;
pub(crate) use self::socket::{Receiver, Sender};
use crate::port::{Interface, Merging, Shared, WaitFd};
use crate::{Error, Link, Mempool, RxQueue, TxQueue};

/// Sizes of a frame in the memory that is shared with the kernel, bytes: the kernel wants a power of two up to a page.
const FRAME_SIZES: [u32; 2] = [2048, 4096];
/// Ethernet header and one tag, bytes.
const FRAME_OVERHEAD: u32 = 18;

/// The kernel lets go of a socket and a program some time after they were closed, by us or with a process that died.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tries again while something is busy.
fn patiently<T>(mut work: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let start = Instant::now();
    loop {
        match work() {
            Err(Errno::EBUSY) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
}

/// An interface whose packets are ours. It is given back when dropped.
#[derive(Debug)]
pub struct AfXdp {
    // First: nothing comes any more when the sockets close.
    _program: OwnedFd,
    interface: Interface,
    merging: Merging,
    shared: Arc<Shared>,
    max_mtu: u32,
    native: bool,
}

impl AfXdp {
    /// Largest MTU that can be had, bytes.
    pub const MAX_MTU: u32 = socket::room_in(4096) - FRAME_OVERHEAD;

    /// Takes over an interface of the calling thread's network namespace, for packets of up to `mtu` bytes that are received
    /// into buffers of `pool`. There is a receive queue for each of the interface's own, and a send queue for each of those
    /// but no more than `senders`.
    ///
    /// The XDP program runs in the driver where that can, else in the kernel's receive path. GRO and LRO of the interface,
    /// which would merge packets, are off meanwhile, and it is set up.
    ///
    /// # Errors
    ///
    /// When there is no such interface, the MTU is too large, kernel or driver have no AF_XDP (it takes Linux 5.9), something else has
    /// an XDP program there, or without CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
    pub fn open(
        interface: &str,
        mtu: u32,
        senders: u16,
        pool: &Mempool,
    ) -> Result<(Self, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let no_interface = |_| Error::NoInterface { interface: interface.to_owned() };
        let found = Interface::find(interface).map_err(no_interface)?;
        let name = format!("af_xdp_{interface}");
        let fail = |operation| {
            let device = name.clone();
            move |errno| Error::Device { operation, device, errno }
        };
        let frame = FRAME_SIZES
            .into_iter()
            .find(|&size| mtu + FRAME_OVERHEAD <= socket::room_in(size))
            .ok_or(Errno::EMSGSIZE)
            .map_err(fail("finding room for the MTU"))?;
        found.set_up().map_err(fail("setting up the interface"))?;
        let queues = found.rx_queues();
        let map = SocketMap::new(queues).map_err(fail("making a map of sockets"))?;
        let shared = Arc::new(Shared::without_port(name.clone()));
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for queue in 0..queues {
            let (fd, receiver, sender) =
                socket::open(found.index(), queue, frame, pool).map_err(fail("opening an AF_XDP socket"))?;
            map.insert(queue, &fd).map_err(fail("filling the map of sockets"))?;
            // There are far fewer queues.
            let number = u16::try_from(queue).unwrap_or(u16::MAX);
            rx.push(RxQueue::of_socket(Arc::clone(&shared), number, WaitFd::socket(fd), receiver));
            if number < senders.max(1) {
                tx.push(TxQueue::of_socket(Arc::clone(&shared), number, sender));
            }
        }
        let attach = |mode| map.attach(found.index(), mode);
        let (program, native) = match patiently(|| attach(Mode::Native)) {
            Ok(program) => (program, true),
            // Another's program.
            Err(Errno::EBUSY) => return Err(fail("attaching an XDP program")(Errno::EBUSY)),
            Err(_) => (attach(Mode::Generic).map_err(fail("attaching an XDP program"))?, false),
        };
        let merging = found.stop_merging();
        let max_mtu = socket::room_in(frame) - FRAME_OVERHEAD;
        Ok((Self { _program: program, interface: found, merging, shared, max_mtu, native }, rx, tx))
    }

    /// Its name in logs.
    pub fn name(&self) -> &str {
        self.shared.device()
    }

    /// The program runs in the interface's driver.
    pub fn is_native(&self) -> bool {
        self.native
    }

    /// Largest IP packet its frames have room for, bytes.
    pub fn max_mtu(&self) -> u32 {
        self.max_mtu
    }

    /// The MAC address in force.
    ///
    /// # Errors
    ///
    /// When the interface has gone.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        self.interface.mac().map_err(|errno| self.error("reading the MAC address", errno))
    }

    /// The link as it is now.
    ///
    /// # Errors
    ///
    /// When the interface has gone.
    pub fn link(&self) -> Result<Link, Error> {
        let up = self.interface.running().map_err(|errno| self.error("reading the link", errno))?;
        Ok(Link { up, speed: self.interface.speed() })
    }

    /// Receive frames for any MAC address, or only for the interface's own.
    ///
    /// # Errors
    ///
    /// When the interface has gone.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        self.interface.set_promiscuous(on).map_err(|errno| self.error("setting promiscuous mode", errno))
    }

    /// Gives the interface back.
    ///
    /// # Errors
    ///
    /// Gives it to the caller when its queues are still in use.
    pub fn close(self) -> Result<(), (Self, Error)> {
        let count = Arc::strong_count(&self.shared) - 1;
        if count != 0 {
            let error = Error::QueuesInUse { device: self.name().to_owned(), count };
            return Err((self, error));
        }
        Ok(())
    }

    fn error(&self, operation: &'static str, errno: Errno) -> Error {
        Error::Device { operation, device: self.name().to_owned(), errno }
    }
}

impl Drop for AfXdp {
    fn drop(&mut self) {
        self.interface.resume_merging(self.merging);
    }
}
