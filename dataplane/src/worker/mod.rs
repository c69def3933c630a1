//! Workers: threads that receive, forward and send.
//!
//! A worker polls its queues. When nothing came for some rounds it sleeps on the queues' descriptors and its inbox
//! (unless told to poll on), so that an idle node does not burn its CPUs. Ports come and go by message, so a change of one
//! stops no other.

mod frame;
mod idle;
mod inbox;
mod large;
mod port;
mod taps;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::TransparentWrapper;
use dpdk::{Burst, Eal, Mbuf, Mempool, RxQueue};
use forwarding::{Class, Coalescer, PortId, Reason, Verdict};
use tracing::{debug, error, warn};

use self::frame::Frame;
use self::idle::Sleeper;
pub(crate) use self::inbox::Change;
pub use self::inbox::{Cutting, FrameSender, PortCount, Receiving, Sending, WorkerHandle};
use self::inbox::{Inbox, inbox};
pub use self::port::LEAST_TRAIN;
use self::port::{PortSlot, Sender};
pub use self::taps::TapQueue;
use self::taps::Taps;
use crate::config::Idle;
use crate::error::Error;
use crate::learning::Learning;
use crate::slowpath::HandOverSender;
use crate::trace::{Tracer, Unwatched, Watch};
use crate::wake::Waker;

/// Packets taken from a queue at once.
const RX_BURST: usize = 64;
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
    tracer: &Tracer,
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
        cut: Vec::new(),
        coalescer: Coalescer::default(),
        train: Vec::new(),
        learner: learning.waker(),
        tracer: tracer.clone(),
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
    /// What a large frame was cut into.
    cut: Vec<Mbuf>,
    coalescer: Coalescer,
    /// Packets that leave together.
    train: Vec<u8>,
    /// Who looks at what the engine reports.
    learner: Waker,
    /// Whether somebody wants to see packets.
    tracer: Tracer,
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
            let Some((port, any)) = self.taps.receive(number, burst, &self.engine) else { continue };
            worked |= any;
            if !burst.is_empty() {
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
        if !self.tracer.is_on() {
            return self.forward_watched(port, burst, &mut Unwatched);
        }
        let frames = burst.iter().map(|packet| (packet.data(), large::offload(packet)));
        let mut catch = self.tracer.catch(port, frames);
        self.forward_watched(port, burst, &mut catch);
        catch.send();
    }

    fn forward_watched(&mut self, port: PortId, burst: &mut Burst<RX_BURST>, watch: &mut impl Watch) {
        let count = burst.len();
        let frames: &mut [Frame] = Frame::wrap_slice_mut(burst);
        let Some(verdicts) = self.verdicts.get_mut(..count) else { return burst.clear() };
        self.engine.process(port, frames, verdicts);
        let mut handed_over = false;
        for (packet, index) in burst.drain().zip(0..count) {
            let verdict = self.verdicts.get(index).copied().unwrap_or(Verdict::Drop(Reason::PortDown));
            watch.verdict(index, verdict);
            handed_over |= match verdict {
                Verdict::Replicate if packet.note().is_some() => {
                    self.replicate_finished(port, packet, |copy| watch.copy(index, copy))
                }
                Verdict::Replicate => self.replicate(port, packet, |copy| watch.copy(index, copy)),
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
                let class = reason.class().unwrap_or(Class::Other);
                if packet.note().is_some() {
                    // As it would have come from a host that does it all itself: policed as so many, too.
                    let pool = pool_of(&self.ports, port);
                    large::finish(packet, pool, 0, |packet| self.slow_path.send(class, port, packet))
                        .count(&self.engine, port);
                } else {
                    self.slow_path.send(class, port, packet);
                }
                return true;
            }
            Verdict::Drop(_) | Verdict::Replicate => drop(packet),
        }
        false
    }

    /// The same for one with something left to do, which is done first: copies of a large frame would be too large for some
    /// ports and too many for the pool. Tells the places of one of those that it stands for.
    #[cold]
    fn replicate_finished(&mut self, port: PortId, packet: Mbuf, mut tell: impl FnMut(Verdict)) -> bool {
        let count = large::offload(&packet).map_or(1, |offload| offload.segments(packet.len()));
        if !self.engine.may_flood_more(port, count - 1) {
            self.engine.count_dropped(port, Reason::FloodLimited, 1);
            return false;
        }
        let mut cut = std::mem::take(&mut self.cut);
        large::finish(packet, pool_of(&self.ports, port), 0, |packet| cut.push(packet))
            .count(&self.engine, port);
        let mut handed_over = false;
        for (index, packet) in cut.drain(..).enumerate() {
            handed_over |= self.replicate(port, packet, |verdict| {
                if index == 0 {
                    tell(verdict);
                }
            });
        }
        self.cut = cut;
        handed_over
    }

    /// Sends a packet to all its places, and tells them; whether one of them is the kernel.
    fn replicate(&mut self, port: PortId, packet: Mbuf, mut tell: impl FnMut(Verdict)) -> bool {
        let mut copies = std::mem::take(&mut self.copies);
        let packet = Frame::wrap(packet);
        self.engine.replicate(port, &packet, Frame::duplicate, |copy, verdict| {
            copies.push((copy.into_inner(), verdict));
        });
        let mut handed_over = false;
        for (copy, verdict) in copies.drain(..) {
            tell(verdict);
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
        slot.queue(
            packet,
            &mut Sender { engine: &self.engine, coalescer: &mut self.coalescer, train: &mut self.train },
        );
        if !slot.touched {
            slot.touched = true;
            self.touched.push(port);
        }
    }

    fn flush(&mut self) {
        let mut sender =
            Sender { engine: &self.engine, coalescer: &mut self.coalescer, train: &mut self.train };
        for port in self.touched.drain(..) {
            if let Some(Some(slot)) = self.ports.get_mut(usize::from(port.0)) {
                slot.send(&mut sender);
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
                Change::Attach { port, name, rx, sending, cutting } => {
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
                        *slot = Some(PortSlot::new(port, sending, cutting));
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

/// Where buffers for what came in by a port come from.
fn pool_of(ports: &[Option<PortSlot>], port: PortId) -> Option<&Mempool> {
    ports.get(usize::from(port.0))?.as_ref()?.pool()
}
