//! A Linux interface, asked and told through a socket that stays in the interface's network namespace.

use std::{
    ffi::CString,
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

// From linux/sockios.h and linux/ethtool.h, which libc does not bind.
const ETHTOOL_GSET: u32 = 0x01;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETH_FLAG_LRO: u32 = 1 << 15;
/// The device takes the 802.1Q tag out of a frame and tells it beside.
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// A Linux interface. Known by its index, so that renaming it does no harm.
#[derive(Debug)]
pub(crate) struct Interface {
    socket: OwnedFd,
    index: i32,
}

/// Queues in use, those for both directions counted in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) rx: u32,
    pub(crate) tx: u32,
}

/// What merges packets on their way in, and was on before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merging {
    gro: bool,
    lro: bool,
}

impl Interface {
    /// Finds it in the calling thread's network namespace.
    pub(crate) fn find(name: &str) -> Result<Self, Errno> {
        let c_name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        // SAFETY: reads a string that outlives the call.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        match i32::try_from(index) {
            Ok(0) | Err(_) => Err(Errno::ENODEV),
            Ok(index) => Ok(Self { socket, index }),
        }
    }

    pub(crate) fn index(&self) -> i32 {
        self.index
    }

    fn ioctl<T>(&self, request: libc::c_ulong, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: the callers pass the structure that belongs to the request.
        let ret = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, std::ptr::from_mut(argument)) };
        Errno::result(ret).map(drop)
    }

    /// A request that carries its name as it is now.
    fn request(&self) -> Result<libc::ifreq, Errno> {
        // SAFETY: a structure of numbers and bytes, for which zero is a value.
        let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
        request.ifr_ifru.ifru_ifindex = self.index;
        self.ioctl(libc::SIOCGIFNAME, &mut request)?;
        Ok(request)
    }

    pub(crate) fn mac(&self) -> Result<[u8; 6], Errno> {
        let mut request = self.request()?;
        self.ioctl(libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: the call filled this member of the union.
        let bytes = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
        Ok(std::array::from_fn(|index| bytes[index].cast_unsigned()))
    }

    pub(crate) fn mtu(&self) -> Result<u16, Errno> {
        let mut request = self.request()?;
        self.ioctl(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: the call filled this member of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    pub(crate) fn set_mtu(&self, mtu: u16) -> Result<(), Errno> {
        if self.mtu()? == mtu {
            return Ok(());
        }
        let mut request = self.request()?;
        request.ifr_ifru.ifru_mtu = mtu.into();
        self.ioctl(libc::SIOCSIFMTU, &mut request)
    }

    fn flags(&self) -> Result<i32, Errno> {
        let mut request = self.request()?;
        self.ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: the call filled this member of the union.
        Ok(unsafe { request.ifr_ifru.ifru_flags }.into())
    }

    /// Up, and its link too.
    pub(crate) fn running(&self) -> Result<bool, Errno> {
        let both = libc::IFF_UP | libc::IFF_RUNNING;
        Ok(self.flags()? & both == both)
    }

    pub(crate) fn set_promiscuous(&self, on: bool) -> Result<(), Errno> {
        self.set_flag(libc::IFF_PROMISC, on)
    }

    /// Sets it up; its link may still be down.
    pub(crate) fn set_up(&self) -> Result<(), Errno> {
        self.set_flag(libc::IFF_UP, true)
    }

    fn set_flag(&self, flag: i32, on: bool) -> Result<(), Errno> {
        let flags = self.flags()?;
        let wanted = if on { flags | flag } else { flags & !flag };
        if wanted == flags {
            return Ok(());
        }
        let mut request = self.request()?;
        // The kernel's flags of this call are 16 bits wide.
        #[expect(clippy::cast_possible_truncation)]
        {
            request.ifr_ifru.ifru_flags = wanted as libc::c_short;
        }
        self.ioctl(libc::SIOCSIFFLAGS, &mut request)
    }

    /// Queues in use; fails where the driver does not tell.
    pub(crate) fn channels(&self) -> Result<Channels, Errno> {
        // struct ethtool_channels: command, the most of four kinds, then how many there are: receive, send, other, combined.
        let mut channels = [0_u32; 9];
        channels[0] = ETHTOOL_GCHANNELS;
        self.ethtool(channels.as_mut_ptr().cast())?;
        let [.., rx, tx, _other, combined] = channels;
        Ok(Channels { rx: rx.saturating_add(combined), tx: tx.saturating_add(combined) })
    }

    /// Mbit/s.
    pub(crate) fn speed(&self) -> Option<u32> {
        // struct ethtool_cmd: command, supported, advertising, then the lower 16 bits of the speed; the upper are in the
        // eighth word. 44 bytes.
        let mut command = [0_u32; 11];
        command[0] = ETHTOOL_GSET;
        self.ethtool(command.as_mut_ptr().cast()).ok()?;
        let speed = (command[3] & 0xffff) | ((command[7] & 0xffff) << 16);
        // SPEED_UNKNOWN in either width.
        Some(speed).filter(|&speed| speed != 0 && speed != u32::MAX && speed != 0xffff)
    }

    /// Stops what merges packets on their way in, and says what was on.
    pub(crate) fn stop_merging(&self) -> Merging {
        let gro = self.value(ETHTOOL_GGRO).is_ok_and(|on| on != 0);
        let flags = self.value(ETHTOOL_GFLAGS).unwrap_or(0);
        let lro = flags & ETH_FLAG_LRO != 0;
        self.set_merging(Merging { gro, lro }, false);
        Merging { gro, lro }
    }

    pub(crate) fn resume_merging(&self, merging: Merging) {
        self.set_merging(merging, true);
    }

    fn set_merging(&self, which: Merging, on: bool) {
        let gro = if which.gro { self.set_value(ETHTOOL_SGRO, on.into()) } else { Ok(()) };
        let lro = if which.lro { self.set_lro(on) } else { Ok(()) };
        // An interface that is gone merges nothing.
        if let Err(errno) = gro.and(lro)
            && errno != Errno::ENODEV
        {
            tracing::warn!(index = self.index, on, %errno, "cannot switch GRO and LRO of the interface");
        }
    }

    fn set_lro(&self, on: bool) -> Result<(), Errno> {
        self.set_eth_flag(ETH_FLAG_LRO, on)
    }

    /// Has the device leave tags in frames, and says whether it took them out before.
    fn keep_tags(&self) -> Result<bool, Errno> {
        if self.value(ETHTOOL_GFLAGS)? & ETH_FLAG_RXVLAN == 0 {
            return Ok(false);
        }
        self.set_eth_flag(ETH_FLAG_RXVLAN, false)?;
        // A driver may know better.
        if self.value(ETHTOOL_GFLAGS)? & ETH_FLAG_RXVLAN != 0 { Err(Errno::EOPNOTSUPP) } else { Ok(true) }
    }

    fn take_out_tags(&self) {
        if let Err(errno) = self.set_eth_flag(ETH_FLAG_RXVLAN, true)
            && errno != Errno::ENODEV
        {
            tracing::warn!(index = self.index, %errno, "cannot switch rxvlan of the interface on again");
        }
    }

    fn set_eth_flag(&self, flag: u32, on: bool) -> Result<(), Errno> {
        let flags = self.value(ETHTOOL_GFLAGS)?;
        self.set_value(ETHTOOL_SFLAGS, if on { flags | flag } else { flags & !flag })
    }

    fn value(&self, command: u32) -> Result<u32, Errno> {
        let mut words = [command, 0];
        self.ethtool(words.as_mut_ptr().cast())?;
        Ok(words[1])
    }

    fn set_value(&self, command: u32, value: u32) -> Result<(), Errno> {
        let mut words = [command, value];
        self.ethtool(words.as_mut_ptr().cast())
    }

    fn ethtool(&self, data: *mut libc::c_char) -> Result<(), Errno> {
        let mut request = self.request()?;
        request.ifr_ifru.ifru_data = data;
        self.ioctl(libc::SIOCETHTOOL, &mut request)
    }
}

/// An interface that passes on what it receives as it is, until this is dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    interface: Interface,
    merging: Merging,
    took_out_tags: bool,
}

impl Bare {
    /// Stops merging. Fails where the device insists on taking tags out of frames.
    pub(crate) fn new(interface: Interface) -> Result<Self, Errno> {
        let took_out_tags = interface.keep_tags()?;
        let merging = interface.stop_merging();
        Ok(Self { interface, merging, took_out_tags })
    }

    pub(crate) fn interface(&self) -> &Interface {
        &self.interface
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.interface.resume_merging(self.merging);
        if self.took_out_tags {
            self.interface.take_out_tags();
        }
    }
}
