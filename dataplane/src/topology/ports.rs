//! Opening and closing ports: device, queues, shadow.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use dpdk::{Device as DpdkDevice, Eal, Mbuf, Mempool, MempoolConfig, PortConfig, RxQueue, Started, TxQueue};
use forwarding::PortId;
use ipnet::IpNet;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::mac::{End, mac_of};
use super::spec::{Device, MAX_MTU, Port};
use crate::error::Error;
use crate::host::{Adopter, Link, LinkSettings, Links, Netns, Queues, Tap};
use crate::slowpath::{Shadow, SlowPath};
use crate::worker::{Change, PortCount, Sending, WorkerHandle};

/// Marks shadow TAPs, and host ends of TAPs, as ours in their alias.
const SHADOW_MARK: &str = "openpe-shadow";
const TAP_MARK: &str = "openpe-tap";
/// MTU of a TAP that nothing else decides, bytes.
pub(super) const TAP_MTU: u32 = 1500;
/// Largest MTU of a TAP. net_tap drops longer frames on their way to the kernel, and ethdev lets nobody raise its limit.
const TAP_MAX_MTU: u32 = 1500;
/// Largest MTU of frames that fit into the buffers of usual size, bytes. What DPDK's packet-socket driver takes.
const USUAL_MTU: u32 = 1964;
/// Ethernet header and one tag, bytes.
const FRAME_OVERHEAD: u32 = 18;
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
    /// DPDK's driver.
    pub driver: String,
    /// Receive queues.
    pub rx_queues: u32,
    /// Numbers of the workers that poll it.
    pub polled_by: Vec<usize>,
    /// Its link.
    pub link: dpdk::Link,
    /// Counters that forwarding does not keep.
    pub count: Arc<PortCount>,
    /// Largest MTU its buffers take.
    pub capacity: u32,
    port: dpdk::Port<Started>,
    shadow: Arc<Tap>,
    device: Device,
}

/// A device that is ready, with queues that nobody polls yet.
#[derive(Debug)]
pub struct ReadyPort {
    /// The router's MAC on it.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u32,
    adopted: Vec<IpNet>,
    port: dpdk::Port<Started>,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    link: dpdk::Link,
    pool: Mempool,
    shadow: Arc<Tap>,
    device: Device,
    capacity: u32,
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
    buffers: u32,
    workers: Vec<WorkerHandle>,
    slow_path: SlowPath,
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
        workers: Vec<WorkerHandle>,
        slow_path: SlowPath,
    ) -> Result<Self, Error> {
        let host = Links::open(&namespaces.host, runtime)?;
        let ports = Links::open(&namespaces.ports, runtime)?;
        let adopter =
            Adopter::new((host.clone(), namespaces.host.clone()), (ports.clone(), namespaces.ports.clone()));
        let config = MempoolConfig { buffers: buffers.next_power_of_two() - 1, ..MempoolConfig::default() };
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
            buffers: config.buffers,
            workers,
            slow_path,
        })
    }

    /// Prepares the device of `wanted`, with `tap_mtu` for a TAP that names none.
    ///
    /// # Errors
    /// When the device does not exist, or kernel or driver refuse it. What was made until then is undone, but an
    /// interface stays adopted: it will be tried again, or released when nobody wants it any more.
    pub fn open(&mut self, wanted: &Port, tap_mtu: u32) -> Result<ReadyPort, Error> {
        match &wanted.device {
            Device::Netdev { interface } => {
                let adopted = self.adopter.adopt(interface, wanted.mtu, wanted.mac)?;
                let mtu = adopted.link.mtu.min(MAX_MTU);
                let device = DpdkDevice::af_packet(interface).max_mtu(small(mtu.max(USUAL_MTU)));
                let own = <[u8; 6]>::try_from(&adopted.link.mac[..]).ok();
                let netns = self.ports_netns.clone();
                let mut ready = self.start(wanted, device, mtu, own, &netns)?;
                ready.adopted = adopted.addresses;
                // Multicast of protocols the interface never joined (IS-IS, ND): the kernel there has no addresses.
                if let Err(error) = ready.port.set_promiscuous(true) {
                    warn!(port = wanted.spec.name, %error, "multicast may be missed");
                }
                Ok(ready)
            }
            Device::Tap { interface, netns } => {
                let netns = self.namespace(netns)?;
                let links = Links::open(&netns, &self.runtime)?;
                let mtu = wanted.mtu.unwrap_or(tap_mtu).min(TAP_MAX_MTU);
                let host_mac = wanted.host_mac.unwrap_or_else(|| mac_of(&wanted.spec.name, End::Host));
                // Made here and not by the driver, so that it outlives this process with its addresses and routes.
                drop(Tap::open(&netns, interface, host_mac, Queues::Many)?);
                let device = DpdkDevice::tap(interface).mac(host_mac);
                let mac = wanted.mac.unwrap_or_else(|| mac_of(&wanted.spec.name, End::Router));
                let ready = self.start(wanted, device, mtu, Some(mac), &netns)?;
                configure_tap(&links, interface, host_mac, mtu, &wanted.host_addresses)?;
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
                let mut ready = self.start(wanted, device, mtu, None, &netns)?;
                if let Some(mac) = wanted.mac {
                    ready.port.set_mac(mac)?;
                }
                ready.port.set_promiscuous(true)?;
                Ok(ready)
            }
        }
    }

    fn start(
        &mut self,
        wanted: &Port,
        device: DpdkDevice,
        mtu: u32,
        mac: Option<[u8; 6]>,
        netns: &Netns,
    ) -> Result<ReadyPort, Error> {
        let room = (mtu + FRAME_OVERHEAD + u32::from(Mbuf::HEADROOM)).max(device.data_room());
        let pool = self.pool(room)?;
        let room = u32::from(pool.data_room()) - FRAME_OVERHEAD - u32::from(Mbuf::HEADROOM);
        let tap = matches!(wanted.device, Device::Tap { .. });
        let queues = self.workers.len();
        let device = device.queues(small_count(queues));
        let eal = self.eal;
        let ((port, rx, tx), most) = netns.run(|| -> Result<_, Error> {
            let port = device.probe(eal)?;
            let can = port.capabilities()?;
            let most = if tap { TAP_MAX_MTU } else { u32::from(can.max_mtu) };
            let config = PortConfig {
                rx_queues: small_count(queues).min(can.rx_queues).max(1),
                tx_queues: small_count(queues).min(can.tx_queues).max(1),
                // The kernel's side of a TAP is what carries its MTU; net_tap knows none above 1504.
                mtu: (!tap).then_some(small(mtu)),
                ..PortConfig::default()
            };
            // net_tap has one number of queues for both ways.
            let both = config.rx_queues.min(config.tx_queues);
            let config = if tap { PortConfig { rx_queues: both, tx_queues: both, ..config } } else { config };
            Ok((port.configure(&config, &pool)?.start()?, most))
        })??;
        let mac = match mac {
            Some(mac) => mac,
            None => port.mac()?,
        };
        let link = link_behind(&wanted.device, port.link()?);
        let name = &wanted.spec.name;
        let shadow = Tap::open(&self.router_netns, name, mac, Queues::One)?;
        if let Some(link) = self.router.find(name)? {
            self.router
                .configure(&link, &LinkSettings { alias: Some(SHADOW_MARK), ..LinkSettings::default() })?;
        }
        Ok(ReadyPort {
            mac,
            mtu,
            adopted: Vec::new(),
            port,
            rx,
            tx,
            link,
            pool,
            shadow: Arc::new(shadow),
            device: wanted.device.clone(),
            capacity: room.min(most),
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
        let rx_queues = u32::try_from(ready.rx.len()).unwrap_or(u32::MAX);
        // The worker with the first send queue sends what the kernel sends, and for workers without a queue.
        let first = usize::from(id.0) % self.workers.len().max(1);
        let order = |index: usize| (first + index) % self.workers.len().max(1);
        let owner =
            self.workers.get(first).map(WorkerHandle::frames).ok_or(Error::Worker { worker: first })?;
        let mut rx: Vec<Vec<RxQueue>> = self.workers.iter().map(|_| Vec::new()).collect();
        let mut polled_by = Vec::new();
        for (index, queue) in ready.rx.into_iter().enumerate() {
            if let Some(share) = rx.get_mut(order(index)) {
                share.push(queue);
                polled_by.push(order(index));
            }
        }
        let mut tx: Vec<Option<TxQueue>> = self.workers.iter().map(|_| None).collect();
        for (index, queue) in ready.tx.into_iter().enumerate() {
            if let Some(share) = tx.get_mut(order(index)) {
                *share = Some(queue);
            }
        }
        for ((worker, rx), tx) in self.workers.iter().zip(rx).zip(tx) {
            let sending = tx.map_or_else(|| Sending::Through(owner.clone()), Sending::Own);
            worker.attach(id, name, rx, sending)?;
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
            driver: ready.port.driver().to_owned(),
            rx_queues,
            polled_by,
            link: ready.link,
            count,
            capacity: ready.capacity,
            port: ready.port,
            shadow: ready.shadow,
            device: ready.device,
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
        open.port.close().map_err(|(_, error)| error)?;
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
            Device::Pci { .. } => Ok(()),
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
                let mtu = wanted.mtu.unwrap_or(tap_mtu).min(TAP_MAX_MTU);
                let host_mac = wanted.host_mac.unwrap_or_else(|| mac_of(&wanted.spec.name, End::Host));
                configure_tap(&links, interface, host_mac, mtu, &wanted.host_addresses)?;
                open.mtu = mtu;
            }
            Device::Pci { .. } => {
                let mtu = wanted.mtu.unwrap_or(open.mtu);
                if mtu != open.mtu {
                    open.port.set_mtu(small(mtu))?;
                    open.mtu = mtu;
                }
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
            Device::Pci { .. } => Ok(None),
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
        let link = link_behind(&self.device, self.port.link()?);
        let changed = link != self.link;
        if changed {
            info!(port = name, up = link.up, "link");
            self.link = link;
            self.show_carrier(name);
        }
        Ok(changed)
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

/// The link's state. net_tap looks its far end up by name in the namespace it was made in; once that end has moved to
/// another it sees the first state for ever. As long as we hold a TAP, its far end has a carrier.
fn link_behind(device: &Device, seen: dpdk::Link) -> dpdk::Link {
    if matches!(device, Device::Tap { .. }) { dpdk::Link { up: true, ..seen } } else { seen }
}

fn configure_tap(
    links: &Links,
    interface: &str,
    mac: [u8; 6],
    mtu: u32,
    addresses: &[IpNet],
) -> Result<(), Error> {
    let link =
        links.find(interface)?.ok_or_else(|| Error::NoInterface { interface: interface.to_owned() })?;
    let settings = LinkSettings { mtu: Some(mtu), mac: Some(mac), alias: Some(TAP_MARK), up: true };
    links.configure(&link, &settings)?;
    links.set_addresses(&link, addresses, true)
}

/// An MTU for DPDK, which counts in 16 bits; none above `MAX_MTU` comes here.
fn small(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

fn small_count(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
