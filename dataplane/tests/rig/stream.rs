//! TCP between namespaces, with what arrives compared with what was sent.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use dataplane::host::Netns;

use super::{PATIENCE, Rig};

impl Rig {
    fn inside<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        Netns::open(self.netns_path(namespace).as_ref()).unwrap().run(work).unwrap()
    }

    /// Sends so many bytes from a namespace to an address of another.
    pub(crate) fn transfer(&self, from: &str, to: &str, address: &str, length: usize) {
        let address: IpAddr = address.parse().unwrap();
        let listener = self.inside(to, || TcpListener::bind((address, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let connect = || TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE).unwrap();
        let mut sender = self.inside(from, connect);
        let (mut receiver, _) = listener.accept().unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        sender.set_write_timeout(Some(PATIENCE)).unwrap();
        let sent: Vec<u8> = (0..length).map(|at| (at / 251 + at).to_le_bytes()[0].wrapping_mul(37)).collect();
        let mut received = Vec::with_capacity(length);
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.write_all(&sent).unwrap();
                drop(sender);
            });
            receiver.read_to_end(&mut received).unwrap();
        });
        // Not the bytes themselves in the message.
        assert!(received == sent, "{} of {length} bytes from {from} to {to}", received.len());
    }

    /// A UDP socket in a namespace.
    pub(crate) fn udp(&self, namespace: &str, port: u16) -> UdpSocket {
        let socket = self.inside(namespace, || UdpSocket::bind(("0.0.0.0", port)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// What a device's own kernel has counted: packets and bytes received.
    pub(crate) fn received(&self, namespace: &str, device: &str) -> (u64, u64) {
        let read = |what: &str| {
            let text = self.run(namespace, &format!("cat /sys/class/net/{device}/statistics/{what}"));
            text.trim().parse().unwrap()
        };
        (read("rx_packets"), read("rx_bytes"))
    }
}
