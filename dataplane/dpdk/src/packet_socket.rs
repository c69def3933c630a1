//! A packet socket that sends what no driver takes: frames that the kernel is to cut.

use std::{
    ffi::CString,
    io::IoSlice,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socket, sockopt::SndBufForce,
    },
};

use crate::Error;

/// What may be on its way at once, bytes: some of the largest frames, as the kernel counts them.
const SEND_BUFFER: usize = 4 << 20;

/// Sends by a Linux interface; receives nothing. Any number of threads may send.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one for an interface in the calling thread's network namespace. In front of every frame is a
    /// `struct virtio_net_hdr`.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or without CAP_NET_RAW.
    pub fn open(interface: &str) -> Result<Self, Error> {
        let no_interface = || Error::NoInterface { interface: interface.to_owned() };
        let fail = |operation| move |errno| Error::Device { operation, device: interface.to_owned(), errno };
        let name = CString::new(interface).map_err(|_| no_interface())?;
        // SAFETY: reads a string that outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let index = i32::try_from(index).ok().filter(|&index| index > 0).ok_or_else(no_interface)?;
        // No protocol: nothing is received.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .map_err(fail("opening a packet socket"))?;
        // Without the right to force it the usual size must do.
        let _ = setsockopt(&socket, SndBufForce, &SEND_BUFFER);
        let (on, length) = (1_i32, size_of::<i32>());
        // SAFETY: the value outlives the call, and is of the option's type.
        let ret = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const on).cast(),
                libc::socklen_t::try_from(length).unwrap_or_default(),
            )
        };
        Errno::result(ret).map_err(fail("asking for headers at a packet socket"))?;
        // SAFETY: a structure of numbers and bytes, for which zero is a value.
        let mut link: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        link.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap_or_default();
        link.sll_ifindex = index;
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
        // SAFETY: the address outlives the call.
        Errno::result(unsafe { libc::bind(socket.as_raw_fd(), (&raw const link).cast(), length) })
            .map_err(fail("binding a packet socket"))?;
        Ok(Self(socket))
    }

    /// Sends a frame of several parts, the first of which is the header.
    ///
    /// # Errors
    ///
    /// When too much is on its way, the interface is down or gone, or the header asks for what the kernel cannot do.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        sendmsg::<()>(self.0.as_raw_fd(), parts, &[], MsgFlags::MSG_DONTWAIT, None).map(drop)
    }
}
