//! Frames as they pass an interface, seen by a packet socket.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};

use super::frames;
use crate::lab::netns;
use crate::{Error, Result};

/// Of the kernel's `if_packet.h`: a frame that this machine sends.
const OUTGOING: u8 = 4;

/// Which frames of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Those that come in.
    In,
    /// Those that go out.
    Out,
    /// All.
    Both,
}

/// Collects what `pick` makes of the frames that pass, until it is stopped.
#[derive(Debug)]
pub struct Sniffer<T> {
    seen: Arc<Mutex<Vec<T>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl<T: Send + 'static> Sniffer<T> {
    /// Starts on `device` of the namespace `name`. Frames that pass from now on are seen.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn start(
        name: &str,
        device: &str,
        way: Way,
        mut pick: impl FnMut(&[u8]) -> Option<T> + Send + 'static,
    ) -> Result<Self> {
        let fd = netns::within(name, || open(device))?;
        let seen: Arc<Mutex<Vec<T>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                listen(&fd, &stop, |frame, outgoing| {
                    if way == Way::Both || (way == Way::Out) == outgoing {
                        let picked = pick(frame);
                        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(picked);
                    }
                })
            }
        });
        Ok(Self { seen, stop, thread })
    }

    /// Number of frames picked so far.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends it; what was picked, in order.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn stop(self) -> Result<Vec<T>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|_| Err(Error::unexpected("a sniffer panicked")))?;
        Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn open(device: &str) -> Result<OwnedFd> {
    let address = frames::address(device)?;
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )
    .map_err(Error::system("cannot open a packet socket"))?;
    setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20))
        .map_err(Error::system("cannot enlarge a receive buffer"))?;
    // Until here it has seen other interfaces' frames, too.
    bind(fd.as_raw_fd(), &address).map_err(Error::system(format!("cannot listen on {device}")))?;
    let mut buffer = [0; 64];
    while recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer).is_ok() {}
    Ok(fd)
}

fn listen(fd: &OwnedFd, stop: &AtomicBool, mut see: impl FnMut(&[u8], bool)) -> Result<()> {
    use std::os::fd::AsFd as _;
    let mut buffer = vec![0; 1 << 16];
    loop {
        // What passed before the request to stop is still read.
        let last = stop.load(Ordering::Acquire);
        while let Ok((length, from)) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) {
            see(&buffer[..length], from.is_some_and(|from| from.pkttype() == OUTGOING));
        }
        if last {
            return Ok(());
        }
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(50_u8)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::system("cannot wait for frames")(error)),
        }
    }
}
