//! Echo requests over the kernel's own echo sockets.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::lab::netns;
use crate::lab::plan::{Vrf, pairs};
use crate::{Error, Result};

/// How long a reply may take. Long enough for ARP on a loaded machine.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Sends one echo request from `netns` to `target` and waits for its reply; the time it took.
///
/// # Errors
/// When none comes within 1.5 s.
pub fn ping(netns: &str, target: IpAddr, source: Option<IpAddr>) -> Result<Duration> {
    netns::within(netns, || {
        let failed = |error: std::io::Error| {
            Error::unexpected(format!("no echo reply in {netns} from {target}: {error}"))
        };
        let (family, protocol, request) = match target {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
        };
        let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(Error::system("cannot open an echo socket"))?;
        let socket = UdpSocket::from(fd);
        if let Some(source) = source {
            bind(&socket, source)?;
        }
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let start = Instant::now();
        // Type, code, checksum and identifier (the kernel's business), sequence number, 48 bytes of data.
        let mut message = [0x5a; 56];
        message[..8].copy_from_slice(&[request, 0, 0, 0, 0, 0, 0, 1]);
        socket.send_to(&message, SocketAddr::new(target, 0)).map_err(failed)?;
        let mut buffer = [0; 256];
        let (length, _) = socket.recv_from(&mut buffer).map_err(failed)?;
        if buffer[..length].first() != Some(&if request == 8 { 0 } else { 129 }) {
            return Err(Error::unexpected(format!(
                "{netns}: something else than an echo reply from {target}"
            )));
        }
        Ok(start.elapsed())
    })
}

/// An echo socket is no UDP socket to the standard library's bind.
fn bind(socket: &UdpSocket, source: IpAddr) -> Result<()> {
    use nix::sys::socket::{SockaddrStorage, bind};
    use std::os::fd::AsRawFd as _;
    let address = SockaddrStorage::from(SocketAddr::new(source, 0));
    bind(socket.as_raw_fd(), &address).map_err(Error::system(format!("cannot send from {source}")))
}

/// One echo request: from which namespace, to which address, from which address.
pub type Try = (String, IpAddr, Option<IpAddr>);

/// Makes all tries at once; what became of each, in order.
pub fn at_once(tries: Vec<Try>) -> Vec<(Try, Result<Duration>)> {
    std::thread::scope(|scope| {
        let running: Vec<_> = tries
            .into_iter()
            .map(|(from, target, source)| {
                let thread = scope.spawn({
                    let from = from.clone();
                    move || ping(&from, target, source)
                });
                ((from, target, source), thread)
            })
            .collect();
        running
            .into_iter()
            .map(|(tried, thread)| {
                let result = thread.join().unwrap_or_else(|_| Err(Error::unexpected("a ping panicked")));
                (tried, result)
            })
            .collect()
    })
}

/// Every try is answered.
///
/// # Errors
/// Naming those that are not.
pub fn every(tries: Vec<Try>) -> Result<()> {
    let lost: Vec<String> = at_once(tries)
        .into_iter()
        .filter_map(|((from, target, _), result)| result.err().map(|_| format!("{from} -> {target}")))
        .collect();
    if lost.is_empty() { Ok(()) } else { Err(Error::unexpected(format!("no reply: {}", lost.join(", ")))) }
}

/// All hosts of a VRF reach each other, both ways and in both families.
///
/// # Errors
/// Naming the pairs that do not.
pub fn all_reach(vrf: Vrf) -> Result<()> {
    every(
        pairs(vrf)
            .into_iter()
            .flat_map(|(from, to)| {
                to.addresses().map(|address| {
                    let source = from.addresses().into_iter().find(|own| own.is_ipv4() == address.is_ipv4());
                    (from.name(), address, source)
                })
            })
            .collect(),
    )
    .map_err(|error| Error::unexpected(format!("VRF {}: {error}", vrf.name)))
}
