//! TAP devices: shadows of ports in the router's namespace, and the host's ends of TAP ports.
//!
//! The only `unsafe` of this crate: `ioctl(2)` has no safe wrapper for tun devices.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use forwarding::VirtioHeader;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::Error;
use crate::host::Netns;

mod ioctl {
    nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);
    nix::ioctl_write_int_bad!(set_persistent, libc::TUNSETPERSIST);
    nix::ioctl_write_ptr_bad!(set_carrier, libc::TUNSETCARRIER, libc::c_int);
    nix::ioctl_write_ptr_bad!(set_header_length, libc::TUNSETVNETHDRSZ, libc::c_int);
    nix::ioctl_write_int_bad!(set_offloads, libc::TUNSETOFFLOAD);
    nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFHWADDR, libc::ifreq);
}

// From linux/if_tun.h.
const TUN_F_CSUM: libc::c_int = 0x01;
const TUN_F_TSO4: libc::c_int = 0x02;
const TUN_F_TSO6: libc::c_int = 0x04;
const TUN_F_TSO_ECN: libc::c_int = 0x08;
/// For UDP, since Linux 6.2.
const TUN_F_USO: libc::c_int = 0x20 | 0x40;
const LARGE_TCP: libc::c_int = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

/// The kernel's limit on a name, without the final zero.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// An open TAP: a frame written here is received by the kernel's end, and one the kernel sends is read here.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    header: Header,
}

/// What is in front of every frame that is read from a TAP or written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// Nothing (`IFF_NO_PI`): the kernel completes checksums and segments before it lets a frame out.
    #[default]
    None,
    /// A [`VirtioHeader`] (`IFF_VNET_HDR`): what is left to do for the frame, either way.
    Virtio,
}

impl Header {
    /// Bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::None => 0,
            Self::Virtio => VirtioHeader::LENGTH,
        }
    }

    const fn flags(self) -> libc::c_int {
        match self {
            Self::None => libc::IFF_NO_PI,
            Self::Virtio => libc::IFF_NO_PI | libc::IFF_VNET_HDR,
        }
    }
}

impl Tap {
    /// Opens the TAP `name` in `netns`, made persistent; an existing one is taken over with its configuration.
    /// Reads and writes do not block. The kernel leaves nothing undone, whatever it was allowed before.
    ///
    /// # Errors
    /// When the name is too long or taken by another kind of device, the TAP is held open by another process, or
    /// without CAP_NET_ADMIN.
    pub fn open(netns: &Netns, name: &str, mac: [u8; 6], header: Header) -> Result<Self, Error> {
        let fail = |doing, source| Error::Tap { doing, name: name.to_owned(), source };
        let file = netns.run(|| -> Result<File, Error> {
            let mut request = interface_request(name).map_err(|source| fail("name", source))?;
            let flags = libc::IFF_TAP | header.flags();
            // All of them are below 2^15.
            request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open("/dev/net/tun")
                .map_err(|source| fail("open /dev/net/tun for", source))?;
            let fd = file.as_raw_fd();
            // SAFETY: `fd` is open for the whole call and `request` is a valid ifreq that the kernel only reads and
            // writes within its size.
            unsafe { ioctl::set_interface(fd, &raw const request) }
                .map_err(|errno| fail("attach to", errno.into()))?;
            // SAFETY: as above; the argument is a plain integer.
            unsafe { ioctl::set_persistent(fd, 1) }.map_err(|errno| fail("keep", errno.into()))?;
            // SAFETY: as above.
            unsafe { ioctl::set_offloads(fd, 0) }
                .map_err(|errno| fail("take offloads from", errno.into()))?;
            if header == Header::Virtio {
                // 10.
                let length = libc::c_int::try_from(header.length()).unwrap_or_default();
                // SAFETY: the descriptor is open and the kernel reads one int.
                unsafe { ioctl::set_header_length(fd, &raw const length) }
                    .map_err(|errno| fail("set the header of", errno.into()))?;
            }
            Ok(file)
        })??;
        let tap = Self { file, name: name.to_owned(), header };
        tap.set_mac(mac)?;
        Ok(tap)
    }

    /// Lets the kernel leave checksums and segmentation to who reads, of UDP too where it can. With
    /// [`Header::Virtio`] only.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn take_large(&self) -> Result<(), Error> {
        let fd = self.file.as_raw_fd();
        // SAFETY: the descriptor is open; the argument is a plain integer.
        let set = |offloads| unsafe { ioctl::set_offloads(fd, offloads) };
        set(LARGE_TCP | TUN_F_USO).or_else(|_| set(LARGE_TCP)).map(drop).map_err(|errno| Error::Tap {
            doing: "offer offloads to",
            name: self.name.clone(),
            source: errno.into(),
        })
    }

    fn set_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        let fail = |source| Error::Tap { doing: "set the MAC of", name: self.name.clone(), source };
        let mut request = interface_request(&self.name).map_err(fail)?;
        let mut address = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: [0; 14] };
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_hwaddr = address;
        // SAFETY: the descriptor is open, and the kernel only reads the ifreq. The tun driver takes this request on
        // the descriptor itself and ignores the name in it, so the caller's namespace does not matter.
        unsafe { ioctl::set_address(self.file.as_raw_fd(), &raw const request) }
            .map(drop)
            .map_err(|errno| fail(errno.into()))
    }

    /// Shows the kernel's end as connected or not, so that what runs on it sees a lost link at once.
    ///
    /// # Errors
    /// On kernels before 5.0, and while the kernel's end is down (there the carrier is off anyway).
    pub fn set_carrier(&self, on: bool) -> io::Result<()> {
        let value = libc::c_int::from(on);
        // SAFETY: the descriptor is open and the kernel reads one int.
        unsafe { ioctl::set_carrier(self.file.as_raw_fd(), &raw const value) }?;
        Ok(())
    }

    /// Its name when it was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is in front of its frames.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Whether the kernel's end is up, asked through the descriptor: it may have moved to any namespace since.
    ///
    /// # Errors
    /// `NotFound` when the device has been deleted.
    pub fn is_up(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO)?;
        // tun_chr_poll: an error once the device is unregistered, writable only while it is up.
        let seen = fds.first().and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if seen.contains(PollFlags::POLLERR) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(seen.contains(PollFlags::POLLOUT))
    }

    /// Reads one frame the kernel sent.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Reads one frame into several buffers, the first of which gets its [`VirtioHeader`]; the bytes, without that.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_large(&self, header: &mut VirtioHeader, parts: [&mut [u8]; 2]) -> io::Result<usize> {
        let [first, second] = parts;
        let mut buffers = [IoSliceMut::new(&mut header.0), IoSliceMut::new(first), IoSliceMut::new(second)];
        let length = (&self.file).read_vectored(&mut buffers)?;
        Ok(length.saturating_sub(VirtioHeader::LENGTH))
    }

    /// Lets the kernel receive a frame of several parts, the first of which is a [`VirtioHeader`].
    ///
    /// # Errors
    /// When its end is down or refuses the frame.
    pub fn write_large(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(parts).map(drop)
    }

    /// Lets the kernel receive a frame.
    ///
    /// # Errors
    /// When its end is down or refuses the frame.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(drop)
    }

    /// Deletes the device with the last open descriptor.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(self) -> Result<(), Error> {
        // SAFETY: the descriptor is open; the argument is a plain integer.
        unsafe { ioctl::set_persistent(self.file.as_raw_fd(), 0) }.map(drop).map_err(|errno| Error::Tap {
            doing: "remove",
            name: self.name.clone(),
            source: errno.into(),
        })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(io::Error::other(format!("a name has 1 to {MAX_NAME} bytes")));
    }
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } })
}
