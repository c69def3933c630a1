//! A BGP speaker (RFC 4271) that announces a table as fast as its peer takes it, and nothing else. The table is what counts
//! here, so it is this small program and not a second FRR, which would take half of the machine for itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Longest message, RFC 4271 section 4.1.
const LONGEST: usize = 4096;
const HEADER: usize = 19;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
/// Seconds; long enough for any table, so that a single KEEPALIVE serves.
const HOLD_TIME: u16 = 3600;

/// An established session.
#[derive(Debug)]
pub(super) struct Speaker {
    stream: TcpStream,
    asn: u16,
    next_hop: Ipv4Addr,
}

impl Speaker {
    /// Connects to `peer` and exchanges OPEN and KEEPALIVE as AS `asn`, with `next_hop` as the identifier too.
    ///
    /// # Errors
    /// When the peer does not listen, or answers with anything else.
    pub(super) fn establish(peer: SocketAddr, asn: u16, next_hop: Ipv4Addr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&peer, Duration::from_secs(2))
            .map_err(Error::system(format!("cannot connect to bgpd at {peer}")))?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .map_err(Error::system("cannot set a timeout"))?;
        let mut this = Self { stream, asn, next_hop };
        let mut open = vec![4];
        open.extend(asn.to_be_bytes());
        open.extend(HOLD_TIME.to_be_bytes());
        open.extend(next_hop.octets());
        // One optional parameter: capability 1 (RFC 4760), IPv4 unicast.
        open.extend([8, 2, 6, 1, 4, 0, 1, 0, 1]);
        this.send(OPEN, &open)?;
        this.expect(OPEN)?;
        this.send(KEEPALIVE, &[])?;
        this.expect(KEEPALIVE)?;
        this.stream.set_read_timeout(None).map_err(Error::system("cannot clear a timeout"))?;
        this.drain()?;
        Ok(this)
    }

    /// Announces `count` /24s from 1.0.0.0 on. Returns when the first message was about to leave.
    ///
    /// # Errors
    /// When the session breaks.
    pub(super) fn announce(&mut self, count: u32) -> Result<Instant> {
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 4, 2, 1];
        attributes.extend(self.asn.to_be_bytes());
        attributes.extend([0x40, 3, 4]);
        attributes.extend(self.next_hop.octets());
        let room = (LONGEST - HEADER - 4 - attributes.len()) / 4;
        let start = Instant::now();
        let mut prefixes = (0..count).map(prefix);
        loop {
            let chunk: Vec<u8> = prefixes.by_ref().take(room).flatten().collect();
            if chunk.is_empty() {
                return Ok(start);
            }
            let length = u16::try_from(attributes.len()).expect("some twenty bytes");
            let mut update = vec![0, 0];
            update.extend(length.to_be_bytes());
            update.extend(&attributes);
            update.extend(chunk);
            self.send(UPDATE, &update)?;
        }
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let length = u16::try_from(HEADER + body.len()).expect("no longer than the longest");
        let mut message = vec![0xff; 16];
        message.extend(length.to_be_bytes());
        message.push(kind);
        message.extend(body);
        self.stream.write_all(&message).map_err(Error::system("cannot send to bgpd"))
    }

    fn expect(&mut self, kind: u8) -> Result<()> {
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header).map_err(Error::system("cannot read from bgpd"))?;
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length.saturating_sub(HEADER)];
        self.stream.read_exact(&mut body).map_err(Error::system("cannot read from bgpd"))?;
        match header[18] {
            got if got == kind => Ok(()),
            NOTIFICATION => {
                Err(Error::unexpected(format!("bgpd refused the session: notification {body:?}")))
            }
            other => Err(Error::unexpected(format!("bgpd sent message type {other} in place of {kind}"))),
        }
    }

    /// Reads away what bgpd has to say, so that it never waits for us.
    fn drain(&self) -> Result<()> {
        let mut stream = self.stream.try_clone().map_err(Error::system("cannot duplicate a socket"))?;
        std::thread::spawn(move || {
            let mut buffer = [0; LONGEST];
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        Ok(())
    }
}

/// The encoded prefix `index`: a /24.
fn prefix(index: u32) -> [u8; 4] {
    let [_, a, b, c] = (0x0001_0000 + index).to_be_bytes();
    [24, a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_distinct_and_global() {
        assert_eq!(prefix(0), [24, 1, 0, 0]);
        assert_eq!(prefix(255), [24, 1, 0, 255]);
        assert_eq!(prefix(256), [24, 1, 1, 0]);
        // A million of them stay below 127.0.0.0.
        assert!(prefix(999_999)[1] < 127);
    }
}
