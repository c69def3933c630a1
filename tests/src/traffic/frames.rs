//! Raw frames, as no well-behaved host sends them.

use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::{Error, Result};

/// Small, fast and the same in every run: xorshift64*.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed other than zero.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word().to_be_bytes()[0]).collect()
    }
}

/// A frame of every length from an Ethernet header's to `mtu` and header, in two variants: to a random unicast MAC, and to `mac` with
/// the EtherType of IPv4 or IPv6. Shorter ones no Linux socket will send; unit tests of the engine have them.
pub fn garbage(random: &mut Random, mac: [u8; 6], mtu: usize) -> impl Iterator<Item = Vec<u8>> {
    (14..=mtu + 14).flat_map(move |length| {
        let mut stray = random.bytes(length);
        stray[0] &= 0xfe;
        let mut ours = random.bytes(length);
        ours[..6].copy_from_slice(&mac);
        ours[12..14].copy_from_slice(if length % 2 == 0 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        [stray, ours]
    })
}

/// The packet socket address of `device` in the calling thread's namespace.
///
/// # Errors
/// When there is no such device.
pub fn address(device: &str) -> Result<LinkAddr> {
    getifaddrs()
        .map_err(Error::system("cannot list interfaces"))?
        .filter(|interface| interface.interface_name == device)
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .ok_or_else(|| Error::unexpected(format!("there is no {device} here")))
}

/// Sends frames out of `device` of the calling thread's namespace.
///
/// # Errors
/// When there is no such device, or it is down.
pub fn send(device: &str, frames: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let address = address(device)?;
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .map_err(Error::system("cannot open a packet socket"))?;
    for frame in frames {
        loop {
            match sendto(fd.as_raw_fd(), &frame, &address, MsgFlags::empty()) {
                Ok(_) => break,
                Err(Errno::ENOBUFS | Errno::EAGAIN) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(error) => {
                    return Err(Error::system(format!("cannot send {} bytes out of {device}", frame.len()))(
                        error,
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Sends frames out of `device` of the namespace `name`.
///
/// # Errors
/// When there is no such device, or it is down.
pub fn inject(name: &str, device: &str, frames: impl IntoIterator<Item = Vec<u8>> + Send) -> Result<()> {
    crate::lab::netns::within(name, || send(device, frames.into_iter()))
}
