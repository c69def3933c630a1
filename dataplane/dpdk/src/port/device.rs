//! What can become a port, and how it is named to DPDK.

use std::{ffi::CString, fmt::Write as _, path::Path};

use dpdk_sys as sys;
use nix::errno::Errno;

use super::{AfPacket, Opened, PciAddress, af_packet::Ring};
use crate::{Error, error::errno_of};

/// The kernel's side of virtio.
const VHOST_NET: &str = "/dev/vhost-net";

/// Whether this process can use vhost-net, for [`Device::virtio_user`].
pub fn has_vhost_net() -> bool {
    std::fs::File::options().read(true).write(true).open(VHOST_NET).is_ok()
}

/// What a memif is besides its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memif<'a> {
    /// The unix socket.
    pub socket: &'a Path,
    /// Which of the socket's interfaces.
    pub interface: u32,
    /// Connect to the other side's socket.
    pub client: bool,
    /// Both sides must have the same; may be empty.
    pub secret: &'a str,
    /// Bytes per buffer of the shared memory; the client decides for both.
    pub buffer: u16,
}

/// A device that can be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    name: String,
    arguments: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Plain,
    AfPacket { interface: String, queues: u16, ring: Ring },
}

/// What a port has besides its DPDK device.
#[derive(Debug)]
pub(crate) enum Backend {
    Plain,
    AfPacket(AfPacket),
}

impl Device {
    /// A NIC or virtual function on vfio-pci, or one whose driver shares it with the kernel (mlx5).
    pub fn pci(address: PciAddress) -> Self {
        Self { name: address.to_string(), arguments: String::new(), kind: Kind::Plain }
    }

    /// A Linux interface, through a packet socket (`net_af_packet`). One queue pair and the usual Ethernet frames unless
    /// told otherwise.
    ///
    /// Two things of the driver are undone. It puts its sockets into a fan-out group that reassembles IPv4 fragments,
    /// even with one queue; a router must not, and the result would not fit the ring. And it receives what the kernel
    /// sends by the interface. So each socket is replaced, before anything is received, by one without either. GRO and LRO
    /// of the interface, which would merge packets likewise, are off while the port is open. Probing sets the interface up.
    pub fn af_packet(interface: &str) -> Self {
        let kind =
            Kind::AfPacket { interface: interface.to_owned(), queues: 1, ring: Ring::for_frames_of(1518) };
        Self { name: format!("net_af_packet_{interface}"), arguments: String::new(), kind }
    }

    /// A virtio device of a virtual machine or of a process with virtio-user (`net_vhost`), of one queue pair. `id` makes its
    /// name. The socket at `socket` is made by the driver, or with `client` by the other side; then the driver connects, and
    /// connects again when the other side went away, by itself.
    ///
    /// The link is up while the other side is there and ready. The driver copies frames to and from the other side's
    /// memory, which must be shared (hugepages, memfd); ours need not be. There are no interrupts.
    pub fn vhost_user(id: &str, socket: &Path, client: bool) -> Self {
        let arguments = format!("iface={},queues=1,client={}", socket.display(), u8::from(client));
        Self::virtual_device("net_vhost", id, &arguments)
    }

    /// A memif of a DPDK or VPP process (`net_memif`), of one queue pair. `id` makes its name. The socket is made by us, or
    /// with `client` by the other side.
    ///
    /// The link is up while the other side is there. A client connects once, when it starts, and does not start without
    /// the other side: to connect again, close it and open it anew. There are no interrupts.
    ///
    /// The other side is trusted: the driver takes the offsets that it writes into the shared memory for granted, and when
    /// it dies EAL's interrupt thread unmaps that memory without waiting for who is copying from it. Many microseconds of
    /// other work lie between taking the link down and unmapping, which bursts of usual size do not outlast.
    pub fn memif(id: &str, memif: &Memif<'_>) -> Self {
        let role = if memif.client { "client" } else { "server" };
        let mut arguments = format!(
            "role={role},id={},socket={},socket-abstract=no,bsize={}",
            memif.interface,
            memif.socket.display(),
            memif.buffer
        );
        if !memif.secret.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(arguments, ",secret={}", memif.secret);
        }
        Self::virtual_device("net_memif", id, &arguments)
    }

    /// A TAP of the kernel through vhost-net (`net_virtio_user`): its frames are copied by a kernel thread and cost the worker
    /// no system calls. The TAP must exist, with nobody holding it open. Takes /dev/vhost-net.
    ///
    /// No guest offloads are asked for, so the kernel completes checksums and segments before a frame arrives here.
    pub fn virtio_user(interface: &str, mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        let arguments = format!(
            "path={VHOST_NET},iface={interface},mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x},queues=1,queue_size=1024"
        );
        Self::virtual_device("net_virtio_user", interface, &arguments)
    }

    /// Receives nothing, sends everything into nothing (`net_null`, with `no-rx`).
    pub fn null(id: &str) -> Self {
        Self::virtual_device("net_null", id, "no-rx=1")
    }

    /// Receives what is sent to it (`net_ring`).
    pub fn ring(id: &str) -> Self {
        Self::virtual_device("net_ring", id, "")
    }

    /// Receives the packets of a capture file again and again, as fast as they are polled, and sends everything into
    /// nothing (`net_pcap`, `infinite_rx`).
    pub fn endless_pcap(id: &str, capture: &Path) -> Self {
        Self::virtual_device("net_pcap", id, &format!("rx_pcap={},infinite_rx=1", capture.display()))
    }

    /// Any other virtual device: its driver, a name for it, and the driver's arguments (may be empty).
    pub fn virtual_device(driver: &str, id: &str, arguments: &str) -> Self {
        let arguments = if arguments.is_empty() { String::new() } else { format!(",{arguments}") };
        Self { name: format!("{driver}_{id}"), arguments, kind: Kind::Plain }
    }

    /// Adds arguments of the driver, `key=value,...`; none when empty.
    #[must_use]
    pub fn arguments(mut self, arguments: &str) -> Self {
        if !arguments.is_empty() {
            self.arguments.push(',');
            self.arguments.push_str(arguments);
        }
        self
    }

    /// Queue pairs of a packet socket, 1 or more, over which the kernel spreads flows. Other devices take theirs from
    /// [`PortConfig`](super::PortConfig).
    #[must_use]
    pub fn queues(mut self, count: u16) -> Self {
        if let Kind::AfPacket { queues, .. } = &mut self.kind {
            *queues = count.max(1);
        }
        self
    }

    /// The largest MTU a packet socket will have, bytes; its ring is made for that. Above 1964 the mempool's buffers must
    /// be larger than usual: see [`data_room`](Self::data_room).
    #[must_use]
    pub fn max_mtu(mut self, mtu: u16) -> Self {
        if let Kind::AfPacket { ring, .. } = &mut self.kind {
            *ring = Ring::for_frames_of(u32::from(mtu) + super::FRAME_OVERHEAD);
        }
        self
    }

    /// Bytes that the mempool's buffers need at least for this device, headroom included.
    pub fn data_room(&self) -> u32 {
        match &self.kind {
            Kind::AfPacket { ring, .. } => ring.data_room(),
            Kind::Plain => u32::from(crate::Mbuf::HEADROOM) + 1518,
        }
    }

    /// Its name among DPDK's devices.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What EAL is told: name and arguments.
    pub fn to_argument(&self) -> String {
        let mut text = format!("{}{}", self.name, self.arguments);
        if let Kind::AfPacket { interface, queues, ring } = &self.kind {
            // Writing to a string cannot fail.
            let _ = write!(text, ",iface={interface},qpairs={queues},{ring}");
        }
        text
    }
}

pub(super) fn open(device: &Device) -> Result<Opened, Error> {
    // What separates arguments would add some: the kernel allows it in the names of interfaces.
    if device.name.contains([',', '=', '\0', ' ']) {
        return Err(Error::Probe { device: device.to_argument(), errno: Errno::EINVAL });
    }
    match &device.kind {
        Kind::Plain => {
            let mut opened = Opened::new(probe(device)?, device.name.clone(), Backend::Plain)?;
            opened.replays = device.arguments.contains("infinite_rx=1");
            Ok(opened)
        }
        Kind::AfPacket { interface, queues, ring } => {
            let before = AfPacket::prepare(interface)?;
            let id = probe(device)?;
            // From here on the device closes by itself when something fails.
            let mut opened = Opened::new(id, device.name.clone(), Backend::Plain)?;
            let sockets =
                before.adopt(*queues, *ring).map_err(|errno| opened.error("replacing the sockets", errno))?;
            opened.backend = Backend::AfPacket(sockets);
            Ok(opened)
        }
    }
}

/// The number of the port.
fn probe(device: &Device) -> Result<u16, Error> {
    let argument = device.to_argument();
    let c_argument =
        CString::new(argument.as_str()).map_err(|_| Error::NulByte { argument: argument.clone() })?;
    // Devices that were allowed on EAL's command line are probed already.
    if let Some(id) = port_by_name(&device.name)? {
        // Ours, though: two owners of one device would be two owners of its queues.
        return if super::claim(id) {
            Ok(id)
        } else {
            Err(Error::Probe { device: argument, errno: Errno::EBUSY })
        };
    }
    // SAFETY: EAL runs; the text outlives the call, which copies it.
    let ret = unsafe { sys::rte_dev_probe(c_argument.as_ptr()) };
    if ret != 0 {
        // -1 is a driver without a reason, though its log may have one; rte_errno is somebody else's then.
        let errno = if ret == -1 { Errno::EIO } else { errno_of(ret) };
        return Err(Error::Probe { device: argument, errno });
    }
    match port_by_name(&device.name)? {
        Some(id) if super::claim(id) => Ok(id),
        _ => Err(Error::NoPort { device: device.name.clone() }),
    }
}

fn port_by_name(name: &str) -> Result<Option<u16>, Error> {
    let c_name = CString::new(name).map_err(|_| Error::NulByte { argument: name.to_owned() })?;
    let mut id = 0;
    // SAFETY: EAL runs; the number is ours to write.
    let ret = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
    Ok((ret == 0).then_some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_to_eal_by_their_arguments() {
        let memif =
            Memif { socket: Path::new("/run/m"), interface: 7, client: true, secret: "", buffer: 2048 };
        for (device, argument) in [
            (
                Device::vhost_user("vm1", Path::new("/run/vm1.sock"), false),
                "net_vhost_vm1,iface=/run/vm1.sock,queues=1,client=0",
            ),
            (
                Device::vhost_user("vm1", Path::new("/run/vm1.sock"), true),
                "net_vhost_vm1,iface=/run/vm1.sock,queues=1,client=1",
            ),
            (
                Device::memif("pod", &memif),
                "net_memif_pod,role=client,id=7,socket=/run/m,socket-abstract=no,bsize=2048",
            ),
            (
                Device::memif("pod", &Memif { client: false, secret: "s", ..memif }),
                "net_memif_pod,role=server,id=7,socket=/run/m,socket-abstract=no,bsize=2048,secret=s",
            ),
            (
                Device::virtio_user("host-e-100", [2, 0, 0, 0, 0, 0xab]),
                "net_virtio_user_host-e-100,path=/dev/vhost-net,iface=host-e-100,mac=02:00:00:00:00:ab,queues=1,queue_size=1024",
            ),
        ] {
            assert_eq!(device.to_argument(), argument);
        }
    }
}
