//! Sends frames by a veth's end, and counts and looks at what comes out at another.
//!
//! The sender lets so many frames be on their way as every queue in between can hold, so nothing is lost and nobody is
//! measured dropping. When they do not come out in time it sleeps, so that waiting costs no CPU time.

use std::{
    fs::File,
    io::IoSlice,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use dataplane::host::Netns;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, bind, recv, sendmmsg,
    setsockopt, socket, sockopt,
};

use super::cpu::Tasks;
use super::frames::{FLOWS, Traffic};

/// Frames per system call.
const BATCH: usize = 64;
/// Frames on their way. The smallest queue in between has 512 places.
const WINDOW: u64 = 384;
/// Asked for again after this long.
const REST: Duration = Duration::from_micros(50);
/// Frames that are not there after this long are lost.
const LOST: Duration = Duration::from_millis(20);
/// Caches and the workers' sleep settle in this time.
const WARM_UP: Duration = Duration::from_millis(200);
/// Batches between looks at what comes out.
const LOOK_EVERY: usize = 16;
/// Frames that must have been looked at.
const ENOUGH: u64 = 50;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Packets that came out, per second.
    pub(crate) rate: f64,
    /// CPU time of all that took part per packet that came out, nanoseconds.
    pub(crate) nanoseconds: f64,
    /// Packets sent that did not come out.
    pub(crate) lost: u64,
}

/// Sends `traffic` by eth0 of `from` for `time`, and counts at eth0 of `to`. The time of `processes` is measured too.
///
/// # Errors
/// When a frame comes out that is not right, or too many are lost.
pub(crate) fn run(
    traffic: Traffic,
    expected: impl Fn(&[u8]) -> bool + Sync,
    (from, to): (&Netns, &Netns),
    processes: &[u32],
    time: Duration,
) -> anyhow::Result<Measured> {
    let tasks = Tasks::new(processes)?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            stay_on_first_cpu()?;
            to.enter()?;
            let sink = Sink::open()?;
            from.enter()?;
            measure(traffic, &expected, &sink, &tasks, time)
        });
        sender.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?
    })
}

/// The engine's worker takes the last one.
fn stay_on_first_cpu() -> nix::Result<()> {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(0)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus)
}

fn measure(
    traffic: Traffic,
    expected: &impl Fn(&[u8]) -> bool,
    sink: &Sink,
    tasks: &Tasks,
    time: Duration,
) -> anyhow::Result<Measured> {
    let mut sender = Sender::open(traffic)?;
    let mut looked_at = 0;
    let mut deadline = Instant::now() + WARM_UP;
    let mut span = Span::begin(sink, tasks)?;
    let mut warm = false;
    for number in 0.. {
        span.sent += sender.send(number)?;
        span.wait(sink)?;
        if number % LOOK_EVERY == 0 {
            looked_at += sink.look(expected)?;
        }
        if Instant::now() >= deadline {
            if warm {
                break;
            }
            warm = true;
            deadline = Instant::now() + time;
            span = Span::begin(sink, tasks)?;
        }
    }
    let seconds = span.start.elapsed().as_secs_f64();
    // What is still on its way.
    thread::sleep(LOST);
    let came = sink.count()? - span.before;
    let ended = "a thread has ended that had run for longer than the measurement took";
    let nanoseconds = tasks.nanoseconds()?.checked_sub(span.nanoseconds).context(ended)?;
    ensure!(looked_at >= ENOUGH, "only {looked_at} frames were looked at");
    let lost = span.sent.saturating_sub(came);
    ensure!(came > 0 && lost <= span.sent / 100, "{lost} of {} frames did not come out", span.sent);
    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
    let (came, nanoseconds) = (came as f64, nanoseconds as f64);
    Ok(Measured { rate: came / seconds, nanoseconds: nanoseconds / came, lost })
}

/// What is measured.
struct Span {
    start: Instant,
    sent: u64,
    /// Given up.
    lost: u64,
    before: u64,
    nanoseconds: u64,
}

impl Span {
    fn begin(sink: &Sink, tasks: &Tasks) -> anyhow::Result<Self> {
        // Nothing of before is on its way.
        thread::sleep(LOST);
        let (before, nanoseconds) = (sink.count()?, tasks.nanoseconds()?);
        Ok(Self { start: Instant::now(), sent: 0, lost: 0, before, nanoseconds })
    }

    /// Waits until another batch may be sent.
    fn wait(&mut self, sink: &Sink) -> anyhow::Result<()> {
        let mut since = None;
        loop {
            let came = sink.count()? - self.before;
            let under_way = self.sent.saturating_sub(self.lost + came);
            if under_way + BATCH as u64 <= WINDOW {
                return Ok(());
            }
            if since.get_or_insert_with(Instant::now).elapsed() > LOST {
                self.lost += under_way;
                return Ok(());
            }
            thread::sleep(REST);
        }
    }
}

/// A packet socket that sends by eth0 of the thread's namespace.
struct Sender {
    socket: OwnedFd,
    frames: Vec<Vec<u8>>,
}

impl Sender {
    fn open(traffic: Traffic) -> anyhow::Result<Self> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let address: LinkAddr = nix::ifaddrs::getifaddrs()?
            .filter(|interface| interface.interface_name == "eth0")
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .context("there is no eth0 to send by")?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self { socket, frames: (0..FLOWS).map(|flow| traffic.frame(flow)).collect() })
    }

    /// Sends batch `number`; how many frames that were.
    fn send(&mut self, number: usize) -> nix::Result<u64> {
        let mut headers = MultiHeaders::<LinkAddr>::preallocate(BATCH, None);
        let first = number * BATCH % self.frames.len();
        let slices: Vec<[IoSlice<'_>; 1]> =
            self.frames.iter().cycle().skip(first).take(BATCH).map(|frame| [IoSlice::new(frame)]).collect();
        let results = sendmmsg(
            self.socket.as_raw_fd(),
            &mut headers,
            &slices,
            vec![None; BATCH],
            [],
            MsgFlags::empty(),
        )?;
        Ok(results.count() as u64)
    }
}

/// What comes out by eth0 of the thread's namespace.
struct Sink {
    /// /proc/net/dev of that namespace.
    counters: File,
    /// Holds hardly more than one frame: the next is a sample of those that came after the last look.
    socket: OwnedFd,
}

impl Sink {
    fn open() -> anyhow::Result<Self> {
        let counters =
            File::open("/proc/thread-self/net/dev").context("cannot read the counters of interfaces")?;
        // Of all interfaces of the namespace, which has but one.
        let all = SockProtocol::EthAll;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            all,
        )?;
        // The kernel's least.
        setsockopt(&socket, sockopt::RcvBuf, &0)?;
        Ok(Self { counters, socket })
    }

    /// Frames received so far.
    fn count(&self) -> anyhow::Result<u64> {
        let mut text = [0; 2048];
        let length = self.counters.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        // After the name: bytes, packets.
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
        let count = line.and_then(|line| line.split_whitespace().nth(1)).context("eth0 has no counters")?;
        Ok(count.parse()?)
    }

    /// Looks at the frames that have been caught; how many.
    fn look(&self, expected: &impl Fn(&[u8]) -> bool) -> anyhow::Result<u64> {
        let mut frame = [0; 2048];
        let mut count = 0;
        while let Ok(length) = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            let frame = &frame[..length];
            ensure!(expected(frame), "a frame came out with wrong bytes: {frame:02x?}");
            count += 1;
        }
        Ok(count)
    }
}
