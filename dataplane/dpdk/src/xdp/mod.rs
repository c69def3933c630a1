//! Linux interfaces through AF_XDP sockets: packets leave the kernel's receive path at its very beginning.
//!
//! Not DPDK's driver (`net_af_xdp`), but queues like those of a DPDK port. What the driver costs, and this does not: a system
//! call per poll, one of the 32 ports of Debian's DPDK, short sleeps in place of wake-ups, libxdp with its program files and
//! pins in /sys/fs/bpf, and an XDP program that stays on the interface when the process dies.
//!
//! XDP sees a frame, and nothing that the kernel keeps beside it: a VLAN tag, or that a checksum is incomplete ([`checksum`]).
//!
//! On a veth the kernel copies each packet, the XDP program runs in the receiving end, and the sending end segments what it
//! sends, for XDP takes no more than one packet.

mod bpf;
mod checksum;
mod ring;
mod socket;

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;

pub(crate) use self::bpf::drop_behind_packet_sockets;
use self::bpf::{Counter, Mode, SocketMap};
pub(crate) use self::checksum::complete as complete_checksums;
pub use self::checksum::set_vxlan_ports;
pub(crate) use self::socket::{Receiver, Sender};
use crate::port::{Bare, Channels, FRAME_OVERHEAD, Interface, Shared, WaitFd};
use crate::{Error, Link, Mempool, PortStats, RxQueue, TxQueue};

/// Sizes of a frame in the memory that is shared with the kernel, bytes: the kernel wants a power of two up to a page.
const FRAME_SIZES: [u32; 2] = [2048, 4096];

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

/// How an interface is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfXdpConfig {
    /// Largest IP packet, bytes: at most [`AfXdp::MAX_MTU`].
    pub mtu: u32,
    /// The most send queues, 1 or more.
    pub senders: u16,
    /// Whether the kernel may run the program for a driver that has no XDP. That takes longer than packet sockets, and packets
    /// that the kernel has merged are lost.
    pub generic: bool,
}

/// An interface whose packets are ours. It is given back when it and its queues are dropped.
#[derive(Debug)]
pub struct AfXdp {
    // First: nothing comes any more when the sockets close.
    _program: OwnedFd,
    interface: Bare,
    /// Duplicates, by queue.
    sockets: Vec<OwnedFd>,
    queueless: Counter,
    shared: Arc<Shared>,
    max_mtu: u32,
    native: bool,
}

impl AfXdp {
    /// Largest MTU that can be had, bytes.
    pub const MAX_MTU: u32 = socket::room_in(4096) - FRAME_OVERHEAD;

    /// Takes over an interface of the calling thread's network namespace; what it receives comes in buffers of `pool`. There is
    /// a receive queue for each of the interface's own, and a send queue for each of those that has one, but no more than
    /// asked for. The interface is set up; GRO and LRO, which merge packets, and rxvlan, which takes the VLAN tag out of a frame
    /// (AF_XDP does not show it then), are off meanwhile.
    ///
    /// Each queue takes 2 MiB of memory that cannot be swapped, and 2 MiB more to send by; twice as much for an MTU above 1774.
    ///
    /// A veth's other end gives frames with a tag beside them unless that is switched off there (`ethtool -K PEER txvlan off`): such
    /// a frame comes without its tag, and nothing tells.
    ///
    /// # Errors
    ///
    /// [`Error::NoAfXdp`] when AF_XDP cannot carry the packets of the interface: the MTU is too large, its driver does not tell how
    /// many queues it has, or refuses XDP, or does not leave tags in frames. Another one when there is no such interface, the
    /// kernel has no AF_XDP (it takes Linux 5.9), something else has an XDP program there, memory is short, or without
    /// CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
    pub fn open(
        interface: &str,
        config: &AfXdpConfig,
        pool: &Mempool,
    ) -> Result<(Self, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let no_interface = |_| Error::NoInterface { interface: interface.to_owned() };
        let found = Interface::find(interface).map_err(no_interface)?;
        let name = format!("af_xdp_{interface}");
        let fail = |operation| {
            let device = name.clone();
            move |errno| Error::Device { operation, device, errno }
        };
        let unsuited = |why| Error::NoAfXdp { device: name.clone(), why };
        let mtu = config.mtu;
        let frame = FRAME_SIZES
            .into_iter()
            .find(|&size| mtu.saturating_add(FRAME_OVERHEAD) <= socket::room_in(size))
            .ok_or_else(|| unsuited(format!("an MTU of {mtu} bytes is above {}", Self::MAX_MTU)))?;
        let Channels { rx: receivers, tx: senders } = found.channels().map_err(|errno| {
            unsuited(format!("its driver does not tell how many queues it has (ethtool -l): {errno}"))
        })?;
        if receivers == 0 || senders == 0 {
            return Err(unsuited(format!("it has {receivers} receive and {senders} send queues")));
        }
        let senders = senders.min(config.senders.max(1).into());
        found.set_up().map_err(fail("setting up the interface"))?;
        // First of all: some drivers refuse XDP while they merge packets.
        let interface = Bare::new(found).map_err(|errno| {
            unsuited(format!("its driver takes VLAN tags out of frames (ethtool -K ... rxvlan off: {errno})"))
        })?;
        let index = interface.interface().index();
        let map = SocketMap::new(receivers).map_err(fail("making a map of sockets"))?;
        let shared = Arc::new(Shared::without_port(name.clone()));
        let (mut rx, mut tx, mut sockets) = (Vec::new(), Vec::new(), Vec::new());
        for queue in 0..receivers {
            let (fd, receiver, sender) = socket::open(index, queue, frame, queue < senders, pool)
                .map_err(|failed| failed.of(&name))?;
            map.insert(queue, &fd).map_err(fail("filling the map of sockets"))?;
            // There are far fewer queues.
            let number = u16::try_from(queue).unwrap_or(u16::MAX);
            sockets.push(fd.try_clone().map_err(|_| fail("duplicating an AF_XDP socket")(Errno::EMFILE))?);
            rx.push(RxQueue::of_socket(Arc::clone(&shared), number, WaitFd::socket(fd), receiver));
            tx.extend(sender.map(|sender| TxQueue::of_socket(Arc::clone(&shared), number, sender)));
        }
        let attach = |mode| map.attach(index, mode);
        let (program, native) = match patiently(|| attach(Mode::Native)) {
            Ok(program) => (program, true),
            Err(Errno::EOPNOTSUPP) if config.generic => {
                (attach(Mode::Generic).map_err(fail("attaching an XDP program"))?, false)
            }
            Err(errno) => {
                return Err(match why_not_native(errno) {
                    Some(why) => unsuited(format!("{why} ({errno})")),
                    None => fail("attaching an XDP program")(errno),
                });
            }
        };
        let max_mtu = socket::room_in(frame) - FRAME_OVERHEAD;
        let queueless = map.into_counter();
        Ok((Self { _program: program, interface, sockets, queueless, shared, max_mtu, native }, rx, tx))
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
        self.interface.interface().mac().map_err(|errno| self.error("reading the MAC address", errno))
    }

    /// The link as it is now.
    ///
    /// # Errors
    ///
    /// When the interface has gone.
    pub fn link(&self) -> Result<Link, Error> {
        let up =
            self.interface.interface().running().map_err(|errno| self.error("reading the link", errno))?;
        Ok(Link { up, speed: self.interface.interface().speed() })
    }

    /// Receive frames for any MAC address, or only for the interface's own.
    ///
    /// # Errors
    ///
    /// When the interface has gone.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        self.interface
            .interface()
            .set_promiscuous(on)
            .map_err(|errno| self.error("setting promiscuous mode", errno))
    }

    /// What was lost on the way to the queues; the rest is not counted here, and 0.
    ///
    /// # Errors
    ///
    /// Never, in practice.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let fail = |errno| self.error("reading the counters", errno);
        let lost = self.shared.lost();
        let mut stats = PortStats {
            rx_no_queue: self.queueless.read().map_err(fail)?,
            rx_no_buffer: lost.no_buffer.load(Ordering::Relaxed),
            rx_too_big: lost.too_big.load(Ordering::Relaxed),
            rx_errors: lost.invalid.load(Ordering::Relaxed),
            ..PortStats::default()
        };
        for socket in &self.sockets {
            let kernel = socket::statistics(socket).map_err(fail)?;
            // Without a frame to receive into, and without a place in the ring.
            stats.rx_missed += kernel.rx_dropped + kernel.rx_ring_full;
            stats.tx_errors += kernel.tx_invalid_descs;
        }
        Ok(stats)
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

/// What a driver means by refusing a program; nothing where it is not the driver that refuses.
fn why_not_native(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EOPNOTSUPP => "its driver has no XDP",
        Errno::ERANGE => {
            "its MTU, or that of a veth's other end, is too large for XDP in the driver: lower it there too"
        }
        Errno::ENOSPC => "it has fewer receive queues than a veth's other end has send queues: ethtool -L",
        Errno::EINVAL => {
            "its driver refuses XDP as the interface is set up (MTU, queues, rings: see the kernel's log)"
        }
        _ => return None,
    })
}
