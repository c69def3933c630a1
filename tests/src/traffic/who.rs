//! A service on every host that says which host it is. Tenants share addresses, so a reply alone proves nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::lab::netns;
use crate::lab::plan::Host;
use crate::{Error, Result};

/// The port the service is on.
pub const PORT: u16 = 7000;

/// Answers every datagram to the host with the host's name, on a thread of its own, for as long as the lab lives.
///
/// # Errors
/// When the port is taken.
pub fn serve(host: Host) -> Result<()> {
    let name = host.name();
    let socket = netns::within(&name, || {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))
            .map_err(Error::system(format!("cannot serve in {name}")))
    })?;
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            // A peer that has gone is no reason to stop.
            let _ = socket.send_to(name.as_bytes(), peer);
        }
    });
    Ok(())
}

/// Asks `target` from `netns` which host it is.
///
/// # Errors
/// When no answer comes within a second.
pub fn ask(netns: &str, target: IpAddr, source: Option<IpAddr>) -> Result<String> {
    netns::within(netns, || {
        let failed =
            |error: std::io::Error| Error::unexpected(format!("{netns}: no answer from {target}: {error}"));
        let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(source.unwrap_or(any), 0)).map_err(failed)?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).map_err(failed)?;
        socket.send_to(b"who?", SocketAddr::new(target, PORT)).map_err(failed)?;
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).map_err(failed)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}
