//! Numbered datagrams from one host to another, to count what is lost and see by how long a gap.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab::netns;
use crate::{Error, Result};

/// The port that streams go to, when there is one flow; further flows use the next ones.
pub const PORT: u16 = 7100;

/// After the last datagram was sent, how long the receiver waits for stragglers.
const DRAIN: Duration = Duration::from_millis(1500);

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where they came from.
    pub source: IpAddr,
    /// Where they went to.
    pub target: IpAddr,
    /// Datagrams sent.
    pub sent: u64,
    /// Of them, how many the sender's own kernel refused, for want of a route or for an ICMP error of an earlier one.
    pub refused: u64,
    /// Of them, how many arrived, counted once each.
    pub received: u64,
    /// The longest run of lost ones.
    pub longest_gap: u64,
}

impl Report {
    /// Datagrams that did not arrive.
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }

    /// Everything arrived.
    ///
    /// # Errors
    /// Saying how much did not.
    pub fn complete(&self) -> Result<()> {
        if self.lost() == 0 && self.sent > 0 {
            return Ok(());
        }
        Err(Error::unexpected(format!(
            "{} of {} datagrams from {} to {} lost, {} in a row at most, {} refused by the sender",
            self.lost(),
            self.sent,
            self.source,
            self.target,
            self.longest_gap,
            self.refused
        )))
    }
}

/// A stream that is running.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    plan: Plan,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Result<Vec<bool>>>,
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The sending host's address.
    pub source: IpAddr,
    /// The receiving host's address.
    pub target: IpAddr,
    /// Bytes of UDP payload, 8 at least.
    pub size: usize,
    /// Between two datagrams.
    pub pause: Duration,
    /// So many flows, told apart by their destination port.
    pub flows: u16,
    /// Ends by itself after so many datagrams.
    pub count: Option<u64>,
}

impl Plan {
    /// A flow of small datagrams, 200 per second, until it is stopped.
    pub fn steady(source: IpAddr, target: IpAddr) -> Self {
        Self { source, target, size: 64, pause: Duration::from_millis(5), flows: 1, count: None }
    }
}

impl Stream {
    /// Starts sending from namespace `from` to namespace `to`.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(from: &str, to: &str, plan: Plan) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let receivers: Vec<UdpSocket> = netns::within(to, || {
            (0..plan.flows).map(|flow| bind(SocketAddr::new(plan.target, PORT + flow))).collect()
        })?;
        let transmitter = netns::within(from, || bind(SocketAddr::new(plan.source, 0)))?;

        let done = Arc::new(AtomicBool::new(false));
        let receiver = std::thread::spawn({
            let done = Arc::clone(&done);
            move || receive(&receivers, &done)
        });
        let sender = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let refused = send(&transmitter, plan, &stop, &sent);
                done.store(true, Ordering::Release);
                refused
            }
        });
        Ok(Self { stop, sent, plan, sender, receiver })
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Stops sending, waits for stragglers and counts.
    ///
    /// # Errors
    /// When a socket failed.
    pub fn stop(self) -> Result<Report> {
        self.stop.store(true, Ordering::Release);
        self.finish()
    }

    /// Waits until all of a counted stream is sent and its stragglers had their time, and counts.
    ///
    /// # Errors
    /// When a socket failed.
    pub fn finish(self) -> Result<Report> {
        let panicked = || Error::unexpected("a stream's thread panicked");
        let refused = self.sender.join().map_err(|_| panicked())?;
        let seen = self.receiver.join().map_err(|_| panicked())??;
        let sent = self.sent.load(Ordering::Acquire);
        let (mut received, mut gap, mut longest_gap) = (0, 0, 0);
        for number in 0..sent {
            let arrived =
                usize::try_from(number).ok().and_then(|number| seen.get(number)).is_some_and(|seen| *seen);
            received += u64::from(arrived);
            gap = if arrived { 0 } else { gap + 1 };
            longest_gap = longest_gap.max(gap);
        }
        let Plan { source, target, .. } = self.plan;
        Ok(Report { source, target, sent, refused, received, longest_gap })
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).map_err(Error::system(format!("cannot bind to {address}")))?;
    // A receiver that is not scheduled for a while must not lose what has arrived.
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20))
        .map_err(Error::system("cannot enlarge a receive buffer"))?;
    Ok(socket)
}

/// How many the kernel refused to send.
fn send(socket: &UdpSocket, plan: Plan, stop: &AtomicBool, sent: &AtomicU64) -> u64 {
    let mut payload = vec![0; plan.size.max(8)];
    let (mut number, mut refused) = (0, 0);
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) && plan.count.is_none_or(|count| number < count) {
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let flow = u16::try_from(number % u64::from(plan.flows)).unwrap_or(0);
        // An error that ICMP reported for an earlier datagram shows up here. It is lost all the same, and counts as sent.
        let result = socket.send_to(&payload, SocketAddr::new(plan.target, PORT + flow));
        refused += u64::from(result.is_err());
        number += 1;
        sent.store(number, Ordering::Release);
        // What a pause of the whole machine has delayed is not made up for: hundreds of datagrams at once are another load than
        // the one asked for, and overflow a packet ring whose reader shares this CPU.
        due = (due + plan.pause).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    refused
}

/// Which numbers have arrived, until `done` and a moment for stragglers.
fn receive(sockets: &[UdpSocket], done: &AtomicBool) -> Result<Vec<bool>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    for socket in sockets {
        socket.set_nonblocking(true).map_err(Error::system("cannot set up a receiver"))?;
    }
    let mut seen = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut last = Instant::now();
    loop {
        if !done.load(Ordering::Acquire) {
            last = Instant::now();
        } else if last.elapsed() > DRAIN {
            return Ok(seen);
        }
        let mut fds: Vec<PollFd<'_>> =
            sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::from(100_u8)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::system("cannot wait for datagrams")(error)),
        }
        for socket in sockets {
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                if let Some(number) = buffer[..length].first_chunk::<8>()
                    && let Ok(number) = usize::try_from(u64::from_be_bytes(*number))
                    // No stream is that long: garbage must not make us allocate.
                    && number < 1 << 24
                {
                    if seen.len() <= number {
                        seen.resize(number + 1, false);
                    }
                    seen[number] = true;
                }
            }
        }
    }
}
