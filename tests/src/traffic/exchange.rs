//! A TCP connection that carries data both ways.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::lab::netns;
use crate::{Error, Result};

/// The port of the far end.
const PORT: u16 = 7200;

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects from the namespace `from` to `target` in the namespace `to`, sends `bytes` bytes, has them echoed and compares; the
/// address that the far end saw.
///
/// # Errors
/// When the connection fails, or what comes back is something else.
pub fn exchange(from: &str, to: &str, target: IpAddr, bytes: usize) -> Result<IpAddr> {
    let failed = |what: &'static str| Error::system(format!("{from} to {target}: {what}"));
    let listener =
        netns::within(to, || TcpListener::bind(SocketAddr::new(target, PORT)).map_err(failed("listening")))?;
    let echo = std::thread::spawn(move || -> std::io::Result<IpAddr> {
        let (mut stream, peer) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        stream.write_all(&received)?;
        Ok(peer.ip())
    });
    let sent: Vec<u8> = (0..bytes).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    let received = netns::within(from, || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(target, PORT), PATIENCE)
            .map_err(failed("connecting"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed("a timeout"))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed("a timeout"))?;
        stream.write_all(&sent).map_err(failed("sending"))?;
        stream.shutdown(Shutdown::Write).map_err(failed("closing"))?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).map_err(failed("receiving"))?;
        Ok(received)
    });
    if received.is_err() {
        // The listener still waits: a connection of its own namespace lets it go.
        let _ = netns::within(to, || {
            TcpStream::connect(SocketAddr::new(target, PORT)).map_err(failed("letting go"))
        });
    }
    let peer = echo
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("the echo panicked")))
        .map_err(failed("echoing"));
    if received? != sent {
        return Err(Error::unexpected(format!("{from} got something else back from {target}")));
    }
    peer
}
