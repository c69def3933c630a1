//! Workers: threads that receive, forward and send.
//!
//! A worker polls its queues. When nothing came for some rounds it sleeps on the queues' descriptors and its inbox
//! (unless told to poll on), so that an idle node does not burn its CPUs. Ports come and go by message, so a change of one
//! stops no other.

mod frame;
mod idle;
mod inbox;
mod taps;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::TransparentWrapper;
use dpdk::{Burst, Eal, Mbuf, RxQueue};
use forwarding::{Class, PortId, Reason, Verdict};
use tracing::{debug, error, warn};

use self::frame::Frame;
use self::idle::Sleeper;
pub(crate) use self::inbox::Change;
pub use self::inbox::{FrameSender, PortCount, Receiving, Sending, WorkerHandle};
use self::inbox::{Inbox, inbox};
pub use self::taps::TapQueue;
use self::taps::Taps;
use crate::config::Idle;
use crate::error::Error;
use crate::learning::Learning;
use crate::slowpath::HandOverSender;
use crate::wake::Waker;

/// Packets taken from a queue at once.
const RX_BURST: usize = 64;
/// Packets sent at once.
const TX_BURST: usize = 64;
/// Frames of others sent per round.
const FRAMES_PER_ROUND: usize = 64;
/// Rounds without work after which a worker sleeps: some microseconds with NIC queues.
const SPIN_ROUNDS: u32 = 64;
/// But no longer than this, in microseconds, where a round costs system calls (TAPs) and these are dear (virtual machines).
const SPIN_MICROSECONDS: u64 = 50;

/// What a worker did, for the operator. Written by the worker only.
#[derive(Debug, Default)]
pub struct WorkerCount {
    /// Bursts received that were not empty.
    pub bursts: AtomicU64,
    /// Packets received.
    pub packets: AtomicU64,
    /// Times it went to sleep.
    pub sleeps: AtomicU64,
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

/// How a worker is set up.
#[derive(Debug)]
pub struct WorkerConfig {
    /// Its number, from 0.
    pub id: usize,
    /// The CPU it runs on; anywhere when there is none.
    pub cpu: Option<u32>,
    /// What it does without packets.
    pub idle: Idle,
}

/// Starts a worker.
///
/// # Errors
/// Without descriptors or threads left.
pub fn spawn(
    config: WorkerConfig,
    eal: Eal,
    engine: forwarding::Worker,
    slow_path: HandOverSender,
    learning: &Learning,
) -> Result<(WorkerHandle, Arc<WorkerCount>), Error> {
    let (handle, inbox) = inbox(config.id)?;
    let count = Arc::new(WorkerCount::default());
    let sleeper = Sleeper::new(&inbox.waker)?;
    let worker = Worker {
        engine,
        slow_path,
        inbox,
        sleeper,
        count: Arc::clone(&count),
        polled: Vec::new(),
        taps: Taps::new()?,
        ports: Vec::new(),
        touched: Vec::new(),
        verdicts: [Verdict::Drop(Reason::PortDown); RX_BURST],
        copies: Vec::new(),
        learner: learning.waker(),
        clock: Clock::new(),
        idle: config.idle,
    };
    std::thread::Builder::new()
        .name(format!("worker-{}", config.id))
        .spawn(move || match eal.register_thread(config.cpu) {
            Ok(_registration) => worker.run(),
            Err(error) => error!(worker = config.id, %error, "worker cannot start"),
        })
        .map_err(Error::system("start a worker"))?;
    Ok((handle, count))
}

/// Time since it was made, by the time stamp counter: some nanoseconds to read, and no system call.
struct Clock {
    start: u64,
    nanoseconds_per_cycle: f64,
}

impl Clock {
    fn new() -> Self {
        #[expect(clippy::cast_precision_loss, reason = "some 10^9")]
        let nanoseconds_per_cycle = 1e9 / dpdk::tsc::hertz() as f64;
        Self { start: dpdk::tsc::cycles(), nanoseconds_per_cycle }
    }

    fn now(&self) -> Duration {
        let cycles = dpdk::tsc::cycles().wrapping_sub(self.start);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "53 bits of nanoseconds are a hundred days exactly, and close enough after"
        )]
        Duration::from_nanos((cycles as f64 * self.nanoseconds_per_cycle) as u64)
    }
}

struct Polled {
    port: PortId,
    queue: RxQueue,
}

struct PortSlot {
    port: PortId,
    sending: Sending,
    waiting: Burst<TX_BURST>,
    /// Of what waits.
    bytes: u64,
    touched: bool,
}

struct Worker {
    engine: forwarding::Worker,
    slow_path: HandOverSender,
    inbox: Inbox,
    sleeper: Sleeper,
    count: Arc<WorkerCount>,
    polled: Vec<Polled>,
    taps: Taps,
    /// By port number.
    ports: Vec<Option<PortSlot>>,
    /// Ports with frames waiting to be sent.
    touched: Vec<PortId>,
    verdicts: [Verdict; RX_BURST],
    /// Copies of one frame.
    copies: Vec<(Mbuf, Verdict)>,
    /// Who looks at what the engine reports.
    learner: Waker,
    clock: Clock,
    idle: Idle,
}

impl Worker {
    fn run(mut self) -> ! {
        let mut burst = Burst::<RX_BURST>::new();
        let spin = dpdk::tsc::hertz() / 1_000_000 * SPIN_MICROSECONDS;
        let (mut idle_rounds, mut idle_since) = (0, 0);
        loop {
            if self.round(&mut burst) {
                idle_rounds = 0;
                continue;
            }
            if idle_rounds == 0 {
                idle_since = dpdk::tsc::cycles();
            }
            idle_rounds += 1;
            let enough = idle_rounds >= SPIN_ROUNDS || dpdk::tsc::cycles().wrapping_sub(idle_since) >= spin;
            if self.idle == Idle::Adaptive && enough {
                self.sleep(&mut burst);
                idle_rounds = 0;
            }
        }
    }

    /// Serves every queue and the inbox once. Whether there was anything to do.
    fn round(&mut self, burst: &mut Burst<RX_BURST>) -> bool {
        let mut worked = self.take_changes();
        self.engine.tick(self.clock.now());
        for index in 0..self.polled.len() {
            let Some(polled) = self.polled.get_mut(index) else { break };
            let received = polled.queue.receive(burst);
            if received > 0 {
                let port = polled.port;
                worked = true;
                add(&self.count.bursts, 1);
                add(&self.count.packets, received as u64);
                self.forward(port, burst);
            }
        }
        worked |= self.take_frames();
        for number in 0..self.taps.poll(worked) {
            if let Some(port) = self.taps.receive(number, burst) {
                worked = true;
                add(&self.count.bursts, 1);
                add(&self.count.packets, burst.len() as u64);
                self.forward(port, burst);
            }
        }
        self.flush();
        self.engine.quiescent();
        if self.engine.take_reported() {
            self.learner.wake();
        }
        worked
    }

    fn forward(&mut self, port: PortId, burst: &mut Burst<RX_BURST>) {
        let count = burst.len();
        let frames: &mut [Frame] = Frame::wrap_slice_mut(burst);
        let Some(verdicts) = self.verdicts.get_mut(..count) else { return burst.clear() };
        self.engine.process(port, frames, verdicts);
        let mut handed_over = false;
        for (packet, index) in burst.drain().zip(0..count) {
            let verdict = self.verdicts.get(index).copied().unwrap_or(Verdict::Drop(Reason::PortDown));
            handed_over |= match verdict {
                Verdict::Replicate => self.replicate(port, packet),
                verdict => self.carry_out(port, packet, verdict),
            };
        }
        if handed_over {
            self.slow_path.flush();
        }
    }

    /// Does with a packet what the engine says; whether it was handed over.
    fn carry_out(&mut self, port: PortId, packet: Mbuf, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Transmit(to) => self.queue(to, packet),
            Verdict::HandOver(reason) => {
                self.slow_path.send(reason.class().unwrap_or(Class::Other), port, packet);
                return true;
            }
            Verdict::Drop(_) | Verdict::Replicate => drop(packet),
        }
        false
    }

    /// Sends a packet to all its places; whether one of them is the kernel.
    fn replicate(&mut self, port: PortId, packet: Mbuf) -> bool {
        let mut copies = std::mem::take(&mut self.copies);
        let packet = Frame::wrap(packet);
        self.engine.replicate(port, &packet, Frame::duplicate, |copy, verdict| {
            copies.push((copy.into_inner(), verdict));
        });
        let mut handed_over = false;
        for (copy, verdict) in copies.drain(..) {
            handed_over |= self.carry_out(port, copy, verdict);
        }
        // Its memory, for the next one.
        self.copies = copies;
        handed_over
    }

    /// Puts a frame with those that wait to be sent by a port.
    fn queue(&mut self, port: PortId, packet: Mbuf) {
        // A port that was just removed: the engine's verdict is older.
        let Some(Some(slot)) = self.ports.get_mut(usize::from(port.0)) else { return };
        if slot.waiting.is_full() {
            slot.send(&self.engine);
        }
        // There is room: sending empties it.
        let bytes = packet.len() as u64;
        if slot.waiting.push(packet).is_ok() {
            slot.bytes += bytes;
        }
        if !slot.touched {
            slot.touched = true;
            self.touched.push(port);
        }
    }

    fn flush(&mut self) {
        for port in self.touched.drain(..) {
            if let Some(Some(slot)) = self.ports.get_mut(usize::from(port.0)) {
                slot.send(&self.engine);
                slot.touched = false;
            }
        }
    }

    fn take_frames(&mut self) -> bool {
        for taken in 0..FRAMES_PER_ROUND {
            match self.inbox.frames.try_recv() {
                Ok((port, frame)) => self.queue(port, frame),
                Err(_) => return taken > 0,
            }
        }
        true
    }

    fn take_changes(&mut self) -> bool {
        let mut any = false;
        while let Ok(change) = self.inbox.changes.try_recv() {
            any = true;
            match change {
                Change::Attach { port, name, rx, sending } => {
                    debug!(name, queues = rx.len(), "port attached");
                    for receiving in rx {
                        match receiving {
                            Receiving::Queue(queue) => self.polled.push(Polled { port, queue }),
                            Receiving::Tap(queue) => self.taps.add(port, queue),
                        }
                    }
                    let index = usize::from(port.0);
                    if self.ports.len() <= index {
                        self.ports.resize_with(index + 1, || None);
                    }
                    if let Some(slot) = self.ports.get_mut(index) {
                        *slot =
                            Some(PortSlot { port, sending, waiting: Burst::new(), bytes: 0, touched: false });
                    }
                    self.watch_queues();
                }
                Change::Detach { port, done } => {
                    self.sleeper.clear();
                    self.polled.retain(|polled| polled.port != port);
                    self.taps.remove(port);
                    self.touched.retain(|touched| *touched != port);
                    if let Some(slot) = self.ports.get_mut(usize::from(port.0)) {
                        *slot = None;
                    }
                    self.watch_queues();
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                }
            }
        }
        any
    }

    fn watch_queues(&mut self) {
        self.sleeper.clear();
        if let Err(error) = self.sleeper.watch(Some(self.taps.as_fd())) {
            warn!(%error, "TAPs cannot be waited for; they are polled with short sleeps");
        }
        for polled in &self.polled {
            if let Err(error) = self.sleeper.watch(polled.queue.wait_fd()) {
                warn!(device = polled.queue.device(), %error, "queue cannot be waited for; it is polled with short sleeps");
            }
        }
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self, burst: &mut Burst<RX_BURST>) {
        self.inbox.waker.prepare();
        for polled in &mut self.polled {
            polled.queue.arm();
        }
        // What came before the queues were armed and the flag was up would wake nobody.
        if !self.round(burst) {
            add(&self.count.sleeps, 1);
            // Tables may change and be freed meanwhile: this thread holds no reference into them.
            self.engine.offline();
            self.sleeper.sleep();
            self.engine.online();
        }
        self.inbox.waker.awake();
        for polled in &mut self.polled {
            polled.queue.disarm();
        }
    }
}

impl PortSlot {
    /// Sends what waits. What the device has no room for is dropped and counted: waiting would stall the other ports.
    fn send(&mut self, engine: &forwarding::Worker) {
        let all = self.waiting.len();
        let bytes = std::mem::take(&mut self.bytes);
        let refused = match &mut self.sending {
            Sending::Own(queue) => {
                let sent = queue.send(&mut self.waiting);
                let left: u64 = self.waiting.iter().map(|frame| frame.len() as u64).sum();
                engine.count_transmitted(self.port, sent as u64, bytes - left);
                self.waiting.clear();
                all - sent
            }
            Sending::Through(worker) => {
                let refused =
                    self.waiting.drain().filter_map(|frame| (!worker.send(self.port, frame)).then_some(()));
                let refused = refused.count();
                worker.flush();
                refused
            }
            Sending::Tap(tap) => {
                let (mut sent, mut sent_bytes) = (0, 0);
                for frame in self.waiting.iter() {
                    // Refused while the kernel's end is down.
                    if tap.write(frame.data()).is_ok() {
                        sent += 1;
                        sent_bytes += frame.len() as u64;
                    }
                }
                engine.count_transmitted(self.port, sent as u64, sent_bytes);
                self.waiting.clear();
                all - sent
            }
        };
        if refused > 0 {
            engine.count_dropped(self.port, Reason::TxFull, refused as u64);
        }
    }
}
