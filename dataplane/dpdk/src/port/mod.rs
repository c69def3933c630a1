//! Ports: from a device to its queues and back.
//!
//! # Which calls need the network namespace of the device
//!
//! Drivers open sockets in the namespace of the thread that happens to call them. What was read in their sources
//! (22.11 to 26.07), and what this crate does about it:
//!
//! | step | `net_af_packet` | `net_virtio_user` on vhost-net | others |
//! |---|---|---|---|
//! | [`Device::probe`] | **needs it**: finds the interface by name, opens one socket per queue | - | - |
//! | [`Port::configure`], [`Port::start`] | - | **needs it**: opens the TAP | - |
//! | receiving, sending, [`Port::close`] | - | - | - |
//! | MTU, promiscuous mode, link | - (the driver would need it; this crate asks through a socket that it keeps from probing) | - | - |
//!
//! So probe, configure and start from one [`on_thread_in_netns`](crate::on_thread_in_netns); the rest works from anywhere.
//!
//! # What is known about drivers
//!
//! * `net_af_packet`: see [`af_packet`](Device::af_packet). Frames of the kernel's own sending are not received.
//!   The ring hands over frames of senders on the same machine (veth peers) whose checksum nobody has filled in yet, and the
//!   driver does not tell: queues complete them. Segments larger than the MTU are cut off (`ethtool -K PEER tso off` there).
//! * `net_vhost`, `net_memif`: the other side comes and goes, and the link with it; nothing is received or sent meanwhile.
//! * Debian builds DPDK for at most 32 ports per process (`RTE_MAX_ETHPORTS`).

mod af_packet;
mod device;
mod kernel;
mod pci;
mod wait;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use dpdk_sys as sys;
use nix::errno::Errno;

use self::{af_packet::AfPacket, device::Backend};
pub(crate) use self::{
    af_packet::length_of,
    kernel::{Bare, Channels, Interface},
    wait::WaitFd,
};
pub use self::{
    device::{Device, Memif, has_vhost_net},
    pci::{PciAddress, PciAddressError},
};
use crate::{Error, Mempool, RxQueue, TxQueue, error::errno_of, mempool::c_str};

/// Ethernet header and one tag, bytes: what a frame has besides its MTU.
pub(crate) const FRAME_OVERHEAD: u32 = 18;
/// `RTE_ETH_RX_OFFLOAD_RSS_HASH`.
const RX_OFFLOAD_RSS_HASH: u64 = 1 << 19;

/// How a port is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues, 1 or more. Flows are spread over them by the device's hash where it has one.
    pub rx_queues: u16,
    /// Send queues, 1 or more.
    pub tx_queues: u16,
    /// Receive descriptors per queue, rounded to what the device can do.
    pub rx_descriptors: u16,
    /// Send descriptors per queue, rounded to what the device can do.
    pub tx_descriptors: u16,
    /// Largest IP packet, bytes; `None` leaves it.
    pub mtu: Option<u16>,
    /// Ask for interrupts, so that [`RxQueue::wait_fd`] has something to wait for. Devices that have none go without.
    pub rx_interrupts: bool,
}

impl Default for PortConfig {
    /// One queue each way of 1024 descriptors, with interrupts.
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            rx_interrupts: true,
        }
    }
}

/// What a device can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The driver's name, e.g. `net_af_packet`.
    pub driver: String,
    /// Most receive queues.
    pub rx_queues: u16,
    /// Most send queues.
    pub tx_queues: u16,
    /// Smallest MTU, bytes.
    pub min_mtu: u16,
    /// Largest MTU, bytes.
    pub max_mtu: u16,
    /// `RTE_ETH_RX_OFFLOAD_*` bits.
    pub rx_offloads: u64,
    /// `RTE_ETH_TX_OFFLOAD_*` bits.
    pub tx_offloads: u64,
    /// `RTE_ETH_RSS_*` bits: what it can hash to spread flows over queues.
    pub rss_flows: u64,
    /// Index of the Linux interface behind it, in its namespace.
    pub interface_index: Option<u32>,
    /// The NUMA node it is nearest to.
    pub numa_node: Option<u16>,
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Frames can pass.
    pub up: bool,
    /// Mbit/s; `None` when unknown.
    pub speed: Option<u32>,
}

/// A device's own counters since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the device dropped because the queue was full.
    pub rx_missed: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped because the mempool was empty.
    pub rx_no_buffer: u64,
    /// Packets dropped because they were larger than a buffer.
    pub rx_too_big: u64,
    /// Packets dropped because they came by a receive queue that was not there when the device was opened. AF_XDP only.
    pub rx_no_queue: u64,
}

/// Packets that were dropped between a device and the owners of its queues.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) too_big: AtomicU64,
    pub(crate) no_buffer: AtomicU64,
    /// What the device told of them contradicts itself.
    pub(crate) invalid: AtomicU64,
}

/// What a port and its queues share: that they are of one device, and how many there are.
pub(crate) struct Shared {
    id: u16,
    device: String,
    lost: Lost,
}

impl Shared {
    /// Of a device that is no DPDK port.
    pub(crate) fn without_port(device: String) -> Self {
        Self { id: u16::MAX, device, lost: Lost::default() }
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    pub(crate) fn lost(&self) -> &Lost {
        &self.lost
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (port {})", self.device, self.id)
    }
}

/// Ports that somebody owns: DPDK would hand out a device that it has already as often as asked.
static OWNED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// False when somebody owns it.
fn claim(id: u16) -> bool {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
}

/// State of a [`Port`]: the driver has it.
#[derive(Debug)]
pub struct Probed(());

/// State of a [`Port`]: its queues are set up.
#[derive(Debug)]
pub struct Configured {
    rx_queues: u16,
    tx_queues: u16,
    rx_interrupts: bool,
}

/// State of a [`Port`]: its queues receive and send.
#[derive(Debug)]
pub struct Started(());

/// A DPDK device, in one of three states. Dropping it gives the device back; queues that are still in use then keep a
/// started one open for good, which is logged.
#[derive(Debug)]
pub struct Port<S> {
    device: Opened,
    state: S,
}

/// A started port and its queues.
pub type Running = (Port<Started>, Vec<RxQueue>, Vec<TxQueue>);

/// The device itself; closes when dropped.
#[derive(Debug)]
struct Opened {
    shared: Arc<Shared>,
    device: *mut sys::rte_device,
    driver: String,
    backend: Backend,
    /// Of net_pcap: `infinite_rx`.
    replays: bool,
    started: AtomicBool,
    closed: bool,
}

// SAFETY: `device` is only passed back to DPDK, from whichever thread closes the port; control calls take `&mut`.
unsafe impl Send for Opened {}

impl Device {
    /// Gives the device to its driver. The table in [`crate::port`] says in which network namespace.
    ///
    /// # Errors
    ///
    /// When its interface does not exist, or the driver (or the lack of one) refuses it.
    pub fn probe(&self, _eal: crate::Eal) -> Result<Port<Probed>, Error> {
        let opened = device::open(self)?;
        Ok(Port { device: opened, state: Probed(()) })
    }
}

impl<S> Port<S> {
    /// Number of the DPDK port.
    pub fn id(&self) -> u16 {
        self.device.shared.id
    }

    /// Name of the DPDK device.
    pub fn name(&self) -> &str {
        &self.device.shared.device
    }

    /// The driver's name, e.g. `net_af_packet`.
    pub fn driver(&self) -> &str {
        &self.device.driver
    }

    /// What the device can do.
    ///
    /// # Errors
    ///
    /// When the device has gone.
    pub fn capabilities(&self) -> Result<Capabilities, Error> {
        self.device.capabilities()
    }

    /// The MAC address in force.
    ///
    /// # Errors
    ///
    /// When the device has gone.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        if let Backend::AfPacket(socket) = &self.device.backend {
            return socket
                .interface()
                .mac()
                .map_err(|errno| self.device.error("reading the MAC address", errno));
        }
        let mut address = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port exists; the address is ours to write.
        let ret = unsafe { sys::rte_eth_macaddr_get(self.id(), &raw mut address) };
        self.device.check("reading the MAC address", ret)?;
        Ok(address.addr_bytes)
    }

    /// Sets the MAC address.
    ///
    /// # Errors
    ///
    /// When the device cannot, or not now.
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), Error> {
        let mut address = sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the port exists; the address is read only.
        let ret = unsafe { sys::rte_eth_dev_default_mac_addr_set(self.id(), &raw mut address) };
        self.device.check("setting the MAC address", ret)
    }

    /// Largest IP packet the device carries, bytes.
    ///
    /// # Errors
    ///
    /// When the device has gone.
    pub fn mtu(&self) -> Result<u16, Error> {
        if let Backend::AfPacket(socket) = &self.device.backend {
            return socket.interface().mtu().map_err(|errno| self.device.error("reading the MTU", errno));
        }
        let mut mtu = 0;
        // SAFETY: the port exists; the number is ours to write.
        let ret = unsafe { sys::rte_eth_dev_get_mtu(self.id(), &raw mut mtu) };
        self.device.check("reading the MTU", ret)?;
        Ok(mtu)
    }

    /// Sets the MTU, bytes. Physical NICs may refuse while started; `PortConfig::mtu` always works.
    ///
    /// # Errors
    ///
    /// When the device cannot, or not now.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        self.device.set_mtu(mtu)
    }

    /// Receive frames for any MAC address, or only for the device's own.
    ///
    /// # Errors
    ///
    /// When the device cannot.
    pub fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        const WHAT: &str = "setting promiscuous mode";
        if let Backend::AfPacket(socket) = &self.device.backend {
            return socket.interface().set_promiscuous(on).map_err(|errno| self.device.error(WHAT, errno));
        }
        // SAFETY: the port exists.
        let ret = unsafe {
            if on {
                sys::rte_eth_promiscuous_enable(self.id())
            } else {
                sys::rte_eth_promiscuous_disable(self.id())
            }
        };
        self.device.check(WHAT, ret)
    }

    /// The link as it is now. Real for `net_af_packet` too, whose driver says "up" always.
    ///
    /// # Errors
    ///
    /// When the device has gone.
    pub fn link(&self) -> Result<Link, Error> {
        const WHAT: &str = "reading the link";
        if let Backend::AfPacket(socket) = &self.device.backend {
            let interface = socket.interface();
            let up = interface.running().map_err(|errno| self.device.error(WHAT, errno))?;
            return Ok(Link { up, speed: interface.speed() });
        }
        let mut link = sys::shim_eth_link { speed: 0, up: 0 };
        // SAFETY: the port exists; the structure is ours to write.
        let ret = unsafe { sys::shim_eth_link(self.id(), &raw mut link) };
        self.device.check(WHAT, ret)?;
        Ok(Link {
            up: link.up != 0,
            speed: Some(link.speed).filter(|&speed| speed != 0 && speed != u32::MAX),
        })
    }

    /// The device's counters.
    ///
    /// # Errors
    ///
    /// When the device has none.
    pub fn stats(&self) -> Result<PortStats, Error> {
        // SAFETY: a structure of numbers, for which zero is a value.
        let mut stats: sys::rte_eth_stats = unsafe { std::mem::zeroed() };
        // SAFETY: the port exists; the structure is ours to write.
        let ret = unsafe { sys::rte_eth_stats_get(self.id(), &raw mut stats) };
        self.device.check("reading the counters", ret)?;
        if let Backend::AfPacket(socket) = &self.device.backend {
            // The driver tells of them since DPDK 23.11. Reading takes them away, so none is counted twice.
            stats.imissed +=
                socket.missed().map_err(|errno| self.device.error("reading the counters", errno))?;
        }
        let lost = self.device.shared.lost();
        Ok(PortStats {
            rx_packets: stats.ipackets,
            tx_packets: stats.opackets,
            rx_bytes: stats.ibytes,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_buffer: stats.rx_nombuf,
            rx_too_big: lost.too_big.load(Ordering::Relaxed),
            rx_no_queue: 0,
        })
    }
}

impl Port<Probed> {
    /// Sets up queues, whose packets come from `pool`. The table in [`crate::port`] says in which network namespace.
    ///
    /// # Errors
    ///
    /// When the device cannot do what `config` asks; it is closed then.
    pub fn configure(self, config: &PortConfig, pool: &Mempool) -> Result<Port<Configured>, Error> {
        let device = self.device;
        if let Backend::AfPacket(socket) = &device.backend {
            socket.check_pool(&device.shared.device, pool)?;
        }
        let rx_interrupts = device.configure(config)?;
        let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
        let id = device.shared.id;
        // SAFETY: the port is configured; the numbers are ours to write.
        let ret = unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx_descriptors, &raw mut tx_descriptors)
        };
        device.check("adjusting descriptors", ret)?;
        // SAFETY: the port exists.
        let node = unsafe { sys::rte_eth_dev_socket_id(id) }.cast_unsigned();
        for queue in 0..config.rx_queues {
            // SAFETY: the port is configured with that many queues, which nobody polls yet; a null configuration asks
            // for the driver's default; pools live as long as the process.
            let ret = unsafe {
                sys::rte_eth_rx_queue_setup(id, queue, rx_descriptors, node, std::ptr::null(), pool.as_ptr())
            };
            device.check("setting up a receive queue", ret)?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: as above.
            let ret =
                unsafe { sys::rte_eth_tx_queue_setup(id, queue, tx_descriptors, node, std::ptr::null()) };
            device.check("setting up a send queue", ret)?;
        }
        if let Some(mtu) = config.mtu {
            device.set_mtu(mtu)?;
        }
        let state = Configured { rx_queues: config.rx_queues, tx_queues: config.tx_queues, rx_interrupts };
        Ok(Port { device, state })
    }
}

impl Port<Configured> {
    /// Starts it, and hands out its queues, each once.
    ///
    /// # Errors
    ///
    /// When the device does not start; it is closed then.
    pub fn start(self) -> Result<Running, Error> {
        let Self { device, state } = self;
        let id = device.shared.id;
        // SAFETY: the port is configured and all its queues are set up.
        let ret = unsafe { sys::rte_eth_dev_start(id) };
        device.check("starting", ret)?;
        device.started.store(true, Ordering::Release);
        // These chain unasked: net_pcap not what it replays, the others what the other side makes larger than a buffer.
        let may_chain = match device.driver.as_str() {
            "net_pcap" => !device.replays,
            driver => matches!(driver, "net_vhost" | "net_memif" | "net_virtio_user"),
        };
        let rx = (0..state.rx_queues)
            .map(|queue| {
                let wait = match &device.backend {
                    _ if !state.rx_interrupts => None,
                    Backend::AfPacket(socket) => socket.wait_fd(queue),
                    Backend::Plain => wait::interrupt(id, queue),
                };
                let queue = RxQueue::new(Arc::clone(&device.shared), queue, wait, may_chain);
                match &device.backend {
                    Backend::AfPacket(_) => queue.completing_checksums(),
                    Backend::Plain => queue,
                }
            })
            .collect();
        let tx = (0..state.tx_queues).map(|queue| TxQueue::new(Arc::clone(&device.shared), queue)).collect();
        Ok((Port { device, state: Started(()) }, rx, tx))
    }
}

impl Port<Started> {
    /// Queues that somebody still owns.
    pub fn queues_in_use(&self) -> usize {
        Arc::strong_count(&self.device.shared) - 1
    }

    /// Stops the device and gives it back to its bus: a netdev or PCI device can be probed again then.
    ///
    /// # Errors
    ///
    /// Gives the port back when its queues are still in use.
    #[expect(clippy::result_large_err, reason = "closing is rare, and the port comes back by value")]
    pub fn close(self) -> Result<(), (Self, Error)> {
        let count = self.queues_in_use();
        if count != 0 {
            let error = Error::QueuesInUse { device: self.name().to_owned(), count };
            return Err((self, error));
        }
        drop(self);
        Ok(())
    }
}

impl Opened {
    fn new(id: u16, name: String, backend: Backend) -> Result<Self, Error> {
        let shared = Arc::new(Shared { id, device: name, lost: Lost::default() });
        let mut opened = Self {
            shared,
            device: std::ptr::null_mut(),
            driver: String::new(),
            backend,
            replays: false,
            started: AtomicBool::new(false),
            closed: false,
        };
        let info = opened.info()?;
        opened.device = info.device;
        opened.driver = c_str(info.driver);
        Ok(opened)
    }

    fn error(&self, operation: &'static str, errno: Errno) -> Error {
        Error::Device { operation, device: self.shared.device.clone(), errno }
    }

    fn check(&self, operation: &'static str, ret: i32) -> Result<(), Error> {
        if ret < 0 { Err(self.error(operation, errno_of(ret))) } else { Ok(()) }
    }

    fn info(&self) -> Result<sys::shim_eth_info, Error> {
        // SAFETY: a structure of numbers and pointers, for which zero is a value.
        let mut info: sys::shim_eth_info = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is ours to write; the call checks the port's number.
        let ret = unsafe { sys::shim_eth_info(self.shared.id, &raw mut info) };
        self.check("asking for the properties", ret)?;
        Ok(info)
    }

    fn capabilities(&self) -> Result<Capabilities, Error> {
        let info = self.info()?;
        let mut max_mtu = info.max_mtu;
        if let Backend::AfPacket(socket) = &self.backend {
            max_mtu = socket.max_mtu();
        } else if info.max_mtu == u16::MAX {
            // Releases check the frame, with Ethernet header and FCS, where the driver sets no MTU limit of its own.
            max_mtu = u16::try_from(info.max_rx_packet.saturating_sub(FRAME_OVERHEAD)).unwrap_or(u16::MAX);
        }
        // SAFETY: the port exists.
        let node = unsafe { sys::rte_eth_dev_socket_id(self.shared.id) };
        Ok(Capabilities {
            driver: self.driver.clone(),
            rx_queues: info.max_rx_queues,
            tx_queues: info.max_tx_queues,
            min_mtu: info.min_mtu,
            max_mtu,
            rx_offloads: info.rx_offloads,
            tx_offloads: info.tx_offloads,
            rss_flows: info.rss_flows,
            interface_index: Some(info.if_index).filter(|&index| index != 0),
            numa_node: u16::try_from(node).ok(),
        })
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let capabilities = self.capabilities()?;
        let (min, max) = (capabilities.min_mtu, capabilities.max_mtu);
        if !(min..=max).contains(&mtu) {
            return Err(Error::Mtu { device: self.shared.device.clone(), mtu, min, max });
        }
        if let Backend::AfPacket(socket) = &self.backend {
            return socket.interface().set_mtu(mtu).map_err(|errno| self.error("setting the MTU", errno));
        }
        // SAFETY: the port exists.
        let ret = unsafe { sys::rte_eth_dev_set_mtu(self.shared.id, mtu) };
        self.check("setting the MTU", ret)
    }

    /// Whether interrupts were granted. A device that cannot have them is asked again without.
    fn configure(&self, config: &PortConfig) -> Result<bool, Error> {
        // net_vhost and net_memif have others with every connection, which nobody would notice. Asking the rest of these
        // logs an error.
        let never = matches!(
            self.driver.as_str(),
            "net_null" | "net_ring" | "net_pcap" | "net_vhost" | "net_memif" | "net_virtio_user"
        );
        let wanted = [config.rx_interrupts && !never && !matches!(self.backend, Backend::AfPacket(_)), false];
        let mut ret = 0;
        for interrupts in wanted {
            // SAFETY: the port is stopped: nothing but `start` starts it, and that consumes it.
            ret = unsafe {
                sys::shim_eth_configure(
                    self.shared.id,
                    config.rx_queues,
                    config.tx_queues,
                    0,
                    interrupts.into(),
                    (config.rx_queues > 1).into(),
                    RX_OFFLOAD_RSS_HASH,
                    0,
                )
            };
            if ret == 0 {
                return Ok(interrupts || matches!(self.backend, Backend::AfPacket(_)) && config.rx_interrupts);
            }
        }
        Err(self.error("configuring", errno_of(ret)))
    }

    fn close(&mut self) {
        let queues = Arc::strong_count(&self.shared) - 1;
        let started = *self.started.get_mut();
        if started && queues != 0 {
            // Closing would free what their owners use.
            tracing::error!(
                device = self.shared.device,
                queues,
                "port dropped while its queues are in use: left open"
            );
            return;
        }
        let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: nobody polls the port, and no queue of it exists any more.
        let (stopped, closed, removed) = unsafe {
            let stopped = if started { sys::rte_eth_dev_stop(self.shared.id) } else { 0 };
            let closed = sys::rte_eth_dev_close(self.shared.id);
            (stopped, closed, if self.device.is_null() { 0 } else { sys::rte_dev_remove(self.device) })
        };
        owned.remove(&self.shared.id);
        drop(owned);
        if stopped < 0 || closed < 0 || removed < 0 {
            tracing::warn!(
                device = self.shared.device,
                stopped,
                closed,
                removed,
                "the driver did not close cleanly"
            );
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.close();
        }
    }
}
