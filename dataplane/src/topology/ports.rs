//! Opening and closing ports: device, queues, shadow.

mod backend;
mod losses;
mod sockets;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use dpdk::{
    AfXdp, AfXdpConfig, Device as DpdkDevice, Eal, Mbuf, Memif, Mempool, MempoolConfig, PacketSocket,
    PortConfig, RxQueue, TxQueue,
};
use forwarding::PortId;
use ipnet::IpNet;
use tokio::runtime::Handle;
use tracing::{info, warn};

use self::backend::{Backend, Queues};
pub use self::losses::Losses;
use super::mac::{End, mac_of};
use super::spec::{Device, MAX_MTU, Port};
use crate::config::NetdevBackend;
use crate::error::Error;
use crate::host::{Adopter, Header, Link, LinkSettings, Links, Netns, Tap, cuts_in_front_of_devices};
use crate::slowpath::{Shadow, SlowPath};
use crate::worker::{Change, Cutting, LEAST_TRAIN, PortCount, WorkerHandle};

/// Marks shadow TAPs, and host ends of TAPs, as ours in their alias.
const SHADOW_MARK: &str = "openpe-shadow";
const TAP_MARK: &str = "openpe-tap";
/// MTU of a port that nothing else decides, bytes.
pub(super) const TAP_MTU: u32 = 1500;
/// Largest MTU of frames that fit into the buffers of usual size, bytes. What DPDK's packet-socket driver takes.
const USUAL_MTU: u32 = 1964;
/// Ethernet header and one tag, bytes.
const FRAME_OVERHEAD: u32 = 18;
/// Bytes of a buffer for large frames: what 16 bits count, in whole cache lines.
const LARGE_ROOM: u16 = u16::MAX - 63;
/// The longest frame that a host may leave to us to segment, bytes. It fits such a buffer, with room in front.
const TAP_GSO_MAX_SIZE: u32 = 65_280;
/// Large buffers for each worker, which holds them for no longer than one round, and a few beside.
const LARGE_BUFFERS: u32 = 64;
/// How long the two sides of a memif may take to agree.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// How long a worker may take to give up its queues.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open port.
#[derive(Debug)]
pub struct OpenPort {
    /// Its number in forwarding.
    pub id: PortId,
    /// The router's MAC on it.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// The router's addresses that came with the device.
    pub adopted: Vec<IpNet>,
    /// What carries its packets: DPDK's driver, `af_xdp`, `af_xdp (generic)` or `tap`.
    pub driver: String,
    /// Receive queues.
    pub rx_queues: u32,
    /// Numbers of the workers that poll it.
    pub polled_by: Vec<usize>,
    /// Its link.
    pub link: dpdk::Link,
    /// Counters that forwarding does not keep.
    pub count: Arc<PortCount>,
    /// What was lost before forwarding saw it.
    pub losses: Arc<Losses>,
    /// Largest MTU its buffers take.
    pub capacity: u32,
    backend: Backend,
    shadow: Arc<Tap>,
    device: Device,
    opened: Instant,
}

/// A device that is ready, with queues that nobody polls yet.
#[derive(Debug)]
pub struct ReadyPort {
    /// The router's MAC on it.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u32,
    adopted: Vec<IpNet>,
    backend: Backend,
    queues: Queues,
    link: dpdk::Link,
    cutting: Cutting,
    pool: Mempool,
    shadow: Arc<Tap>,
    device: Device,
    capacity: u32,
}

/// An interface's AF_XDP sockets.
struct OpenXdp {
    device: AfXdp,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    pool: Mempool,
}

/// Opens and closes ports.
#[derive(Debug)]
pub struct Ports {
    eal: Eal,
    runtime: Handle,
    adopter: Adopter,
    host_netns: Netns,
    router_netns: Netns,
    ports_netns: Netns,
    host: Links,
    router: Links,
    ports: Links,
    usual: Mempool,
    jumbo: Option<Mempool>,
    large: Option<Mempool>,
    buffers: u32,
    carriers: Carriers,
    /// The kernel is asked to cut what leaves in tunnels by adopted interfaces.
    kernel_cuts: bool,
    workers: Vec<WorkerHandle>,
    slow_path: SlowPath,
}

/// What carries the packets of ports that are Linux devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carriers {
    /// Of TAP ports: vhost-net, by DPDK's virtio-user.
    pub virtio_user: bool,
    /// Of netdev ports.
    pub netdev: NetdevBackend,
}

/// The namespaces of a node.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// The node's own.
    pub host: Netns,
    /// FRR's.
    pub router: Netns,
    /// The engine's own.
    pub ports: Netns,
}

impl Ports {
    /// With workers and a slow path that run already.
    ///
    /// # Errors
    /// When a namespace cannot be entered or there is no memory for buffers.
    pub fn new(
        eal: Eal,
        runtime: &Handle,
        namespaces: &Namespaces,
        buffers: u32,
        carriers: Carriers,
        workers: Vec<WorkerHandle>,
        slow_path: SlowPath,
    ) -> Result<Self, Error> {
        let host = Links::open(&namespaces.host, runtime)?;
        let ports = Links::open(&namespaces.ports, runtime)?;
        let adopter =
            Adopter::new((host.clone(), namespaces.host.clone()), (ports.clone(), namespaces.ports.clone()));
        let config = MempoolConfig { buffers: buffers.next_power_of_two() - 1, ..MempoolConfig::default() };
        let kernel_cuts = cuts_in_front_of_devices();
        if !kernel_cuts {
            info!("large frames that leave in tunnels are cut in the engine: Linux does it from 6.7 on");
        }
        Ok(Self {
            eal,
            runtime: runtime.clone(),
            adopter,
            host_netns: namespaces.host.clone(),
            router_netns: namespaces.router.clone(),
            ports_netns: namespaces.ports.clone(),
            host,
            router: Links::open(&namespaces.router, runtime)?,
            ports,
            usual: Mempool::create(eal, "packets", &config)?,
            jumbo: None,
            large: None,
            buffers: config.buffers,
            carriers,
            kernel_cuts,
            workers,
            slow_path,
        })
    }

    /// Prepares the device of `wanted`, with `tap_mtu` for one without an MTU of its own that names none.
    ///
    /// # Errors
    /// When the device does not exist, or kernel or driver refuse it. What was made until then is undone, but an
    /// interface stays adopted: it will be tried again, or released when nobody wants it any more.
    pub fn open(&mut self, wanted: &Port, tap_mtu: u32) -> Result<ReadyPort, Error> {
        let name = &wanted.spec.name;
        let mtu = wanted.mtu.unwrap_or(tap_mtu);
        match &wanted.device {
            Device::Netdev { interface } => {
                let adopted = self.adopter.adopt(interface, wanted.mtu, wanted.mac)?;
                let mtu = adopted.link.mtu.min(MAX_MTU);
                let own = <[u8; 6]>::try_from(&adopted.link.mac[..]).ok();
                let mut ready = self.start_netdev(wanted, &adopted.link, mtu, own)?;
                ready.adopted = adopted.addresses;
                ready.cutting.socket = self.socket(interface)?;
                // Multicast of protocols the interface never joined (IS-IS, ND): the kernel there has no addresses.
                if let Err(error) = ready.backend.set_promiscuous() {
                    warn!(port = name, %error, "multicast may be missed");
                }
                Ok(ready)
            }
            Device::Tap { interface, netns } => {
                let netns = self.namespace(netns)?;
                let links = Links::open(&netns, &self.runtime)?;
                let host_mac = wanted.host_mac.unwrap_or_else(|| mac_of(name, End::Host));
                // Persistent, so that it outlives this process with its addresses and routes.
                let header = if self.carriers.virtio_user { Header::None } else { Header::Virtio };
                let tap = open_tap(&netns, &links, interface, host_mac, header)?;
                let mac = Some(self.router_mac(wanted));
                let mut ready = if self.carriers.virtio_user {
                    drop(tap);
                    self.start(wanted, DpdkDevice::virtio_user(interface, host_mac), mtu, mac, &netns)?
                } else {
                    self.start_tap(wanted, tap, mtu)?
                };
                let virtio_user = self.carriers.virtio_user;
                configure_tap(&links, interface, host_mac, ready.mtu, &wanted.host_addresses, virtio_user)?;
                ready.link = ready.backend.link()?;
                Ok(ready)
            }
            Device::Pci { address, devargs } => {
                // Checked when it was accepted.
                let Ok(parsed) = address.parse() else {
                    return Err(Error::NoInterface { interface: address.clone() });
                };
                let device = DpdkDevice::pci(parsed).arguments(devargs);
                let mtu = wanted.mtu.unwrap_or(TAP_MTU);
                let netns = self.ports_netns.clone();
                let mut ready = self.start(wanted, device, mtu, wanted.mac, &netns)?;
                if let Some(port) = ready.backend.dpdk() {
                    if let Some(mac) = wanted.mac {
                        port.set_mac(mac)?;
                    }
                    port.set_promiscuous(true)?;
                }
                Ok(ready)
            }
            Device::VhostUser { socket, client } => {
                sockets::prepare(Path::new(socket), *client)?;
                let device = DpdkDevice::vhost_user(name, Path::new(socket), *client);
                let netns = self.ports_netns.clone();
                self.start(wanted, device, mtu, Some(self.router_mac(wanted)), &netns)
            }
            Device::Memif { socket, id, client, secret } => {
                sockets::prepare(Path::new(socket), *client)?;
                if *client {
                    // The driver does not start without.
                    sockets::expect_server(Path::new(socket))?;
                }
                let room = self.pool(room_for(mtu))?.data_room() - Mbuf::HEADROOM;
                let memif = Memif {
                    socket: Path::new(socket),
                    interface: *id,
                    client: *client,
                    secret,
                    buffer: room,
                };
                let device = DpdkDevice::memif(name, &memif);
                let netns = self.ports_netns.clone();
                self.start(wanted, device, mtu, Some(self.router_mac(wanted)), &netns)
            }
        }
    }

    /// The router's MAC on a port whose device has none of its own.
    fn router_mac(&self, wanted: &Port) -> [u8; 6] {
        wanted.mac.unwrap_or_else(|| mac_of(&wanted.spec.name, End::Router))
    }

    /// Opens an adopted interface by AF_XDP or by a packet socket.
    fn start_netdev(
        &mut self,
        wanted: &Port,
        link: &Link,
        mtu: u32,
        mac: Option<[u8; 6]>,
    ) -> Result<ReadyPort, Error> {
        let interface = &link.name;
        let netdev = self.carriers.netdev;
        if netdev == NetdevBackend::AfXdp {
            let opened = self.open_xdp(interface, mtu, true)?;
            return self.start_xdp(wanted, opened, mtu, mac);
        }
        if netdev == NetdevBackend::Auto {
            // Who sends to a device that the kernel makes is the kernel, with tags and unfinished work beside the frames.
            match &link.kind {
                Some(kind) => {
                    info!(interface, kind, "not a device of hardware: packet sockets carry its packets");
                }
                None => match self.open_xdp(interface, mtu, false) {
                    Ok(opened) => return self.start_xdp(wanted, opened, mtu, mac),
                    Err(Error::Dpdk(error @ dpdk::Error::NoAfXdp { .. })) => {
                        info!(interface, %error, "packet sockets carry its packets");
                    }
                    Err(error) => {
                        warn!(interface, %error, "AF_XDP failed; packet sockets carry its packets");
                    }
                },
            }
        }
        let device = DpdkDevice::af_packet(interface).max_mtu(small(mtu.max(USUAL_MTU)));
        let netns = self.ports_netns.clone();
        self.start(wanted, device, mtu, mac, &netns)
    }

    fn open_xdp(&mut self, interface: &str, mtu: u32, generic: bool) -> Result<OpenXdp, Error> {
        let pool = self.pool(room_for(mtu))?;
        let config = AfXdpConfig { mtu, senders: small_count(self.workers.len()), generic };
        let (device, rx, tx) = self.ports_netns.run(|| AfXdp::open(interface, &config, &pool))??;
        Ok(OpenXdp { device, rx, tx, pool })
    }

    fn start_xdp(
        &self,
        wanted: &Port,
        opened: OpenXdp,
        mtu: u32,
        mac: Option<[u8; 6]>,
    ) -> Result<ReadyPort, Error> {
        let OpenXdp { device, rx, tx, pool } = opened;
        let mac = match mac {
            Some(mac) => mac,
            None => device.mac()?,
        };
        let room = u32::from(pool.data_room()) - FRAME_OVERHEAD - u32::from(Mbuf::HEADROOM);
        let capacity = room.min(device.max_mtu());
        self.ready(wanted, Backend::Xdp(device), Queues::Dpdk(rx, tx), pool, (mac, mtu, capacity))
    }

    fn start(
        &mut self,
        wanted: &Port,
        device: DpdkDevice,
        mtu: u32,
        mac: Option<[u8; 6]>,
        netns: &Netns,
    ) -> Result<ReadyPort, Error> {
        let pool = self.pool(room_for(mtu).max(device.data_room()))?;
        let room = u32::from(pool.data_room()) - FRAME_OVERHEAD - u32::from(Mbuf::HEADROOM);
        // Nothing but the buffers limits what the other side of these may send, and they know no MTU.
        let access = wanted.device.is_access();
        let queues = self.workers.len();
        let device = device.queues(small_count(queues));
        let eal = self.eal;
        let ((port, rx, tx), most) = netns.run(|| -> Result<_, Error> {
            let port = device.probe(eal)?;
            let can = port.capabilities()?;
            let config = PortConfig {
                rx_queues: small_count(queues).min(can.rx_queues).max(1),
                tx_queues: small_count(queues).min(can.tx_queues).max(1),
                mtu: (!access).then_some(small(mtu)),
                ..PortConfig::default()
            };
            let most = if access { u32::MAX } else { u32::from(can.max_mtu) };
            Ok((port.configure(&config, &pool)?.start()?, most))
        })??;
        let mac = match mac {
            Some(mac) => mac,
            None => port.mac()?,
        };
        self.ready(wanted, Backend::Dpdk(port), Queues::Dpdk(rx, tx), pool, (mac, mtu, room.min(most)))
    }

    fn start_tap(&mut self, wanted: &Port, tap: Tap, mtu: u32) -> Result<ReadyPort, Error> {
        // A byte more than frames have tells those that do not fit.
        let beside = 1;
        let pool = self.pool(room_for(mtu) + beside)?;
        let room = u32::from(pool.data_room()) - FRAME_OVERHEAD - u32::from(Mbuf::HEADROOM) - beside;
        let large = self.large(&tap);
        let tap = Arc::new(tap);
        let queues = Queues::Tap(Arc::clone(&tap), pool.clone(), large);
        self.ready(wanted, Backend::Tap(tap), queues, pool, (self.router_mac(wanted), mtu, room))
    }

    /// A socket by which the kernel cuts large frames for an adopted interface, one that cuts them in front of the device:
    /// who reads a veth's other end as we do would not understand whole ones.
    fn socket(&self, interface: &str) -> Result<Option<Arc<PacketSocket>>, Error> {
        if !self.kernel_cuts {
            return Ok(None);
        }
        let opened = self.ports_netns.run(|| PacketSocket::open(interface))?.map_err(Error::from);
        // Only once there is a socket by which such frames come.
        let limited = |socket| self.adopter.limit_large(interface, LEAST_TRAIN).map(|()| socket);
        match opened.and_then(limited) {
            Ok(socket) => Ok(Some(Arc::new(socket))),
            Err(error) => {
                warn!(interface, %error, "large frames are cut one by one");
                Ok(None)
            }
        }
    }

    /// Buffers for what the kernel leaves to us to segment, if it is to: without memory, or on a kernel that cannot, it
    /// segments itself.
    fn large(&mut self, tap: &Tap) -> Option<Mempool> {
        if self.large.is_none() {
            let config = MempoolConfig {
                buffers: LARGE_BUFFERS * (u32::from(small_count(self.workers.len())) + 1) - 1,
                data_room: LARGE_ROOM,
                cache: LARGE_BUFFERS / 4,
                ..MempoolConfig::default()
            };
            match Mempool::create(self.eal, "large", &config) {
                Ok(pool) => self.large = Some(pool),
                Err(error) => {
                    warn!(%error, "no buffers for large frames: the kernel segments for TAPs");
                    return None;
                }
            }
        }
        match tap.take_large() {
            Ok(()) => self.large.clone(),
            Err(error) => {
                warn!(%error, "the kernel segments for this TAP");
                None
            }
        }
    }

    /// Makes the shadow, with MAC, MTU and the largest MTU.
    fn ready(
        &self,
        wanted: &Port,
        backend: Backend,
        queues: Queues,
        pool: Mempool,
        (mac, mtu, capacity): ([u8; 6], u32, u32),
    ) -> Result<ReadyPort, Error> {
        let link = backend.link()?;
        let name = &wanted.spec.name;
        let shadow = Tap::open(&self.router_netns, name, mac, Header::None)?;
        if let Some(link) = self.router.find(name)? {
            self.router
                .configure(&link, &LinkSettings { alias: Some(SHADOW_MARK), ..LinkSettings::default() })?;
        }
        Ok(ReadyPort {
            mac,
            mtu,
            adopted: Vec::new(),
            backend,
            queues,
            link,
            cutting: Cutting { pool: Some(pool.clone()), socket: None },
            pool,
            shadow: Arc::new(shadow),
            device: wanted.device.clone(),
            capacity,
        })
    }

    fn pool(&mut self, room: u32) -> Result<Mempool, Error> {
        if room <= u32::from(self.usual.data_room()) {
            return Ok(self.usual.clone());
        }
        if let Some(jumbo) = &self.jumbo {
            return Ok(jumbo.clone());
        }
        // The packet-socket driver wants whole ring slots; 16 KiB is the slot of any MTU up to MAX_MTU.
        let config = MempoolConfig {
            buffers: self.buffers.div_ceil(4).next_power_of_two() - 1,
            data_room: 16384 + Mbuf::HEADROOM,
            ..MempoolConfig::default()
        };
        let jumbo = Mempool::create(self.eal, "jumbo", &config)?;
        info!(buffers = config.buffers, data_room = config.data_room, "buffers for jumbo frames");
        self.jumbo = Some(jumbo.clone());
        Ok(jumbo)
    }

    /// Gives a ready port's queues to the workers and its shadow to the slow path: packets flow.
    ///
    /// # Errors
    /// When a thread has ended.
    pub fn attach(&mut self, name: &str, id: PortId, ready: ReadyPort) -> Result<OpenPort, Error> {
        let count = Arc::new(PortCount::default());
        let rx_queues = u32::try_from(ready.queues.count()).unwrap_or(u32::MAX);
        // The worker with the first send queue sends what the kernel sends, and for workers without a queue.
        let first = usize::from(id.0) % self.workers.len().max(1);
        let owner =
            self.workers.get(first).map(WorkerHandle::frames).ok_or(Error::Worker { worker: first })?;
        let (shares, polled_by) = ready.queues.deal(self.workers.len(), first, &owner);
        for (worker, share) in self.workers.iter().zip(shares) {
            worker.attach_cutting(id, name, share.rx, share.sending, ready.cutting.clone())?;
        }
        self.slow_path.attach(Shadow {
            port: id,
            tap: Arc::clone(&ready.shadow),
            worker: owner,
            pool: ready.pool,
            count: Arc::clone(&count),
        })?;
        let port = OpenPort {
            id,
            mac: ready.mac,
            mtu: ready.mtu,
            adopted: ready.adopted,
            driver: ready.backend.driver().to_owned(),
            rx_queues,
            polled_by,
            link: ready.link,
            count,
            losses: Arc::default(),
            capacity: ready.capacity,
            backend: ready.backend,
            shadow: ready.shadow,
            device: ready.device,
            opened: Instant::now(),
        };
        port.show_carrier(name);
        Ok(port)
    }

    /// Takes a port out of workers and slow path and closes its device. With `release` the shadow goes and an
    /// adopted interface returns to the host.
    ///
    /// # Errors
    /// When a thread has ended, the device does not close, or the interface does not return.
    pub fn close(&mut self, name: &str, open: OpenPort, release: bool) -> Result<(), Error> {
        let (done, answers) = sync_channel(self.workers.len());
        for worker in &self.workers {
            worker.change(Change::Detach { port: open.id, done: done.clone() })?;
        }
        for worker in 0..self.workers.len() {
            answers.recv_timeout(PATIENCE).map_err(|_| Error::Worker { worker })?;
        }
        self.slow_path.detach(open.id)?;
        open.backend.close()?;
        if !release {
            return Ok(());
        }
        if let Ok(shadow) = Arc::try_unwrap(open.shadow) {
            shadow.remove()?;
        }
        match &open.device {
            Device::Netdev { interface } => self.adopter.release(interface),
            Device::Tap { interface, netns } => {
                let links = Links::open(&self.namespace(netns)?, &self.runtime)?;
                match links.find(interface)? {
                    Some(link) => links.delete(&link),
                    None => Ok(()),
                }
            }
            Device::Pci { .. } | Device::VhostUser { .. } | Device::Memif { .. } => Ok(()),
        }
        .inspect(|()| info!(port = name, "port removed"))
    }

    /// Gives back the device of a port that could not be opened and is not wanted any more.
    pub fn abandon(&self, wanted: &Port) {
        if let Device::Netdev { interface } = &wanted.device
            && let Err(error) = self.adopter.release(interface)
        {
            warn!(interface, %error, "interface stays in the engine's namespace");
        }
    }

    /// Changes what can change while a port is open: MTU and the host's addresses.
    ///
    /// # Errors
    /// When kernel or driver refuse.
    pub fn change(&self, open: &mut OpenPort, wanted: &Port, tap_mtu: u32) -> Result<(), Error> {
        match &wanted.device {
            Device::Netdev { interface } => {
                let adopted = self.adopter.adopt(interface, wanted.mtu, wanted.mac)?;
                open.mtu = adopted.link.mtu.min(open.capacity);
            }
            Device::Tap { interface, netns } => {
                let links = Links::open(&self.namespace(netns)?, &self.runtime)?;
                let mtu = wanted.mtu.unwrap_or(tap_mtu).min(open.capacity);
                let host_mac = wanted.host_mac.unwrap_or_else(|| mac_of(&wanted.spec.name, End::Host));
                let virtio_user = self.carriers.virtio_user;
                configure_tap(&links, interface, host_mac, mtu, &wanted.host_addresses, virtio_user)?;
                open.mtu = mtu;
            }
            Device::Pci { .. } => {
                let mtu = wanted.mtu.unwrap_or(open.mtu);
                if mtu != open.mtu
                    && let Some(port) = open.backend.dpdk()
                {
                    port.set_mtu(small(mtu))?;
                    open.mtu = mtu;
                }
            }
            Device::VhostUser { .. } | Device::Memif { .. } => {
                open.mtu = wanted.mtu.unwrap_or(tap_mtu).min(open.capacity);
            }
        }
        Ok(())
    }

    /// Removes what an earlier process left: adopted interfaces and shadows that `wanted` does not name.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn remove_strangers<'a>(&self, wanted: impl Iterator<Item = &'a Port> + Clone) -> Result<(), Error> {
        self.adopter.release_strangers(|name| {
            wanted
                .clone()
                .any(|port| matches!(&port.device, Device::Netdev { interface } if interface == name))
        })?;
        let remove = |links: &Links, mark, keep: &dyn Fn(&str) -> bool| -> Result<(), Error> {
            for link in links.list()? {
                if link.alias == mark && !keep(&link.name) {
                    info!(name = link.name, "removing a TAP that no port uses any more");
                    links.delete(&link)?;
                }
            }
            Ok(())
        };
        remove(&self.router, SHADOW_MARK, &|name| wanted.clone().any(|port| port.spec.name == name))?;
        remove(&self.host, TAP_MARK, &|name| {
            wanted.clone().any(|port| matches!(&port.device, Device::Tap { interface, netns } if interface == name && netns.is_empty()))
        })
    }

    /// The link behind a port, if it still exists.
    ///
    /// # Errors
    /// When the kernel does not answer or the namespace is gone.
    pub fn link_of(&self, open: &OpenPort) -> Result<Option<Link>, Error> {
        match &open.device {
            Device::Netdev { interface } => self.ports.find(interface),
            Device::Tap { interface, netns } => {
                Links::open(&self.namespace(netns)?, &self.runtime)?.find(interface)
            }
            Device::Pci { .. } | Device::VhostUser { .. } | Device::Memif { .. } => Ok(None),
        }
    }

    fn namespace(&self, path: &str) -> Result<Netns, Error> {
        if path.is_empty() { Ok(self.host_netns.clone()) } else { Netns::open(Path::new(path)) }
    }
}

impl OpenPort {
    /// Reads the link again. Whether it changed.
    ///
    /// # Errors
    /// When the device has gone.
    pub fn refresh_link(&mut self, name: &str) -> Result<bool, Error> {
        let link = self.backend.link()?;
        if let Device::Memif { socket, client: true, .. } = &self.device
            && !link.up
            && (self.link.up || self.opened.elapsed() > HANDSHAKE)
        {
            // The driver connects once, when it starts.
            let source = io::Error::other("the other side has gone, or does not want us");
            return Err(Error::Socket { doing: "stay connected to", path: socket.into(), source });
        }
        let changed = link != self.link;
        if changed {
            info!(port = name, up = link.up, "link");
            self.link = link;
            self.show_carrier(name);
        }
        Ok(changed)
    }

    /// Reads what the device has lost.
    pub fn count_losses(&self, name: &str) {
        match self.backend.stats() {
            Ok(Some(stats)) => self.losses.record(&stats),
            Ok(None) => {}
            // It has gone, which is noticed elsewhere.
            Err(error) => tracing::debug!(port = name, %error, "no counters"),
        }
    }

    /// Whether it is a TAP whose device exists, in whatever namespace.
    pub fn tap_lives(&self) -> bool {
        matches!(self.device, Device::Tap { .. }) && self.backend.link().is_ok()
    }

    /// Lets the router see the link's state on the shadow.
    fn show_carrier(&self, name: &str) {
        // Refused while the shadow is administratively down, e.g. before frr-bridge set it up: then it says
        // nothing to anybody, and the carrier is on by default when it comes up.
        if let Err(error) = self.shadow.set_carrier(self.link.up) {
            tracing::debug!(port = name, %error, "cannot set the shadow's carrier");
        }
    }
}

/// Opens the host's end of a TAP port. One of ours of another kind, as earlier releases made it, is replaced.
fn open_tap(
    netns: &Netns,
    links: &Links,
    interface: &str,
    mac: [u8; 6],
    header: Header,
) -> Result<Tap, Error> {
    let first = Tap::open(netns, interface, mac, header);
    if first.is_err()
        && let Some(link) = links.find(interface)?.filter(|link| link.alias == TAP_MARK)
    {
        links.delete(&link)?;
        return Tap::open(netns, interface, mac, header);
    }
    first
}

/// Bytes per buffer for frames of this MTU.
fn room_for(mtu: u32) -> u32 {
    mtu + FRAME_OVERHEAD + u32::from(Mbuf::HEADROOM)
}

fn configure_tap(
    links: &Links,
    interface: &str,
    mac: [u8; 6],
    mtu: u32,
    addresses: &[IpNet],
    virtio_user: bool,
) -> Result<(), Error> {
    let link =
        links.find(interface)?.ok_or_else(|| Error::NoInterface { interface: interface.to_owned() })?;
    let settings = LinkSettings {
        mtu: Some(mtu),
        mac: Some(mac),
        alias: Some(TAP_MARK),
        up: true,
        ..LinkSettings::default()
    };
    links.configure(&link, &settings)?;
    let settings =
        LinkSettings { gso_max_size: (!virtio_user).then_some(TAP_GSO_MAX_SIZE), ..LinkSettings::default() };
    if let Err(error) = links.configure(&link, &settings) {
        // Then some frames are too long for a buffer, and are sent again shorter.
        warn!(interface, %error, "the kernel may leave too long frames to us");
    }
    links.set_addresses(&link, addresses, true)
}

/// An MTU for DPDK, which counts in 16 bits; none above `MAX_MTU` comes here.
fn small(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

fn small_count(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
