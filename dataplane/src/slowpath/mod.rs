//! The slow path: packets the fast path declines go to the kernel through the shadow TAP of the port they came in by,
//! exactly as they were received; what the kernel sends into a shadow leaves by its port.
//!
//! One thread does both. Classes are served in their order of importance and policed one by one.

mod policer;
mod queue;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use dpdk::{Eal, Mempool};
use forwarding::{Class, PortId};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tracing::{error, warn};

use self::policer::Policer;
pub use self::queue::HandOverSender;
use self::queue::{CLASSES, ClassCount, HandOver, queues};
use crate::config::Police;
use crate::error::Error;
use crate::host::Tap;
use crate::wake::Waker;
use crate::worker::{FrameSender, PortCount};

/// Packets of one class per round, so that a class in full flood delays the next one by little.
const PER_CLASS: usize = 256;
/// Frames of one shadow per round.
const PER_TAP: usize = 64;
/// Largest frame a TAP delivers without segmentation offloads: far above any MTU.
const FRAME_BYTES: usize = 1 << 16;
/// What the waker is called in epoll; ports are called by their number.
const WAKER: u64 = u64::MAX;

/// Packets per second unless `--police` says otherwise. Control is generous: a full table's BGP session at 1500 bytes
/// per packet needs some thousands.
const fn default_rate(class: Class) -> u32 {
    match class {
        Class::Control => 50_000,
        Class::Neighbor => 5_000,
        Class::Resolve => 10_000,
        Class::Error => 1_000,
        Class::Other => 10_000,
    }
}

/// What the slow path needs of a port.
#[derive(Debug)]
pub struct Shadow {
    /// The port.
    pub port: PortId,
    /// Its shadow.
    pub tap: Arc<Tap>,
    /// The worker that sends by it.
    pub worker: FrameSender,
    /// Where its frames' buffers come from.
    pub pool: Mempool,
    /// Counts what the kernel sends.
    pub count: Arc<PortCount>,
}

#[derive(Debug)]
enum Change {
    Attach(Shadow),
    Detach(PortId, Sender<()>),
    Transmit(PortId, Vec<u8>),
}

/// One class's counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassSnapshot {
    /// The class.
    pub class: Class,
    /// Given to the kernel.
    pub passed: u64,
    /// Over the rate.
    pub policed: u64,
    /// Refused by the TAP, or for a port that has gone.
    pub failed: u64,
    /// Packets per second allowed.
    pub rate: u32,
}

/// The outside's handle.
#[derive(Clone, Debug)]
pub struct SlowPath {
    changes: Sender<Change>,
    packets: HandOverSender,
    counts: Arc<[ClassCount; CLASSES]>,
    rates: [u32; CLASSES],
    waker: Waker,
}

impl SlowPath {
    /// Starts the thread.
    ///
    /// # Errors
    /// Without descriptors or threads left.
    pub fn spawn(eal: Eal, police: &[Police]) -> Result<Self, Error> {
        let waker = Waker::new()?;
        let counts = Arc::new(std::array::from_fn(|_| ClassCount::default()));
        let mut rates = Class::ALL.map(default_rate);
        for police in police {
            if let Some(rate) = rates.get_mut(police.class.index()) {
                *rate = police.rate;
            }
        }
        let (packets, receivers) = queues(waker.clone(), Arc::clone(&counts));
        let (changes, change_receiver) = channel();
        let epoll_error = |errno: nix::errno::Errno| Error::system("make an epoll descriptor")(errno.into());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(epoll_error)?;
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN, WAKER)).map_err(epoll_error)?;
        let now = Instant::now();
        let thread = Thread {
            changes: change_receiver,
            classes: receivers,
            counts: Arc::clone(&counts),
            policers: rates.map(|rate| Policer::new(rate, now)),
            shadows: BTreeMap::new(),
            epoll,
            waker: waker.clone(),
            buffer: vec![0; FRAME_BYTES],
        };
        std::thread::Builder::new()
            .name("slow-path".into())
            .spawn(move || {
                // For the mempools' caches; it runs where the control threads do.
                let _registration = eal.register_thread(None).inspect_err(|error| warn!(%error, "slow path"));
                thread.run();
            })
            .map_err(Error::system("start the slow path"))?;
        Ok(Self { changes, packets, counts, rates, waker })
    }

    /// A worker's way in.
    pub fn sender(&self) -> HandOverSender {
        self.packets.clone()
    }

    /// Serves a port from now on.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn attach(&self, shadow: Shadow) -> Result<(), Error> {
        self.change(Change::Attach(shadow))
    }

    /// Forgets a port. Its TAP is closed when this returns, but for the caller's own reference.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn detach(&self, port: PortId) -> Result<(), Error> {
        let (done, answer) = channel();
        self.change(Change::Detach(port, done))?;
        answer.recv().map_err(|_| Error::SlowPath)
    }

    /// Sends a frame of ours by a port, as one of the kernel's. Nothing is done when the port is not served.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn transmit(&self, port: PortId, frame: Vec<u8>) -> Result<(), Error> {
        self.change(Change::Transmit(port, frame))
    }

    /// Counters of every class.
    pub fn snapshot(&self) -> Vec<ClassSnapshot> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Class::ALL
            .iter()
            .zip(self.counts.iter())
            .zip(self.rates)
            .map(|((&class, count), rate)| ClassSnapshot {
                class,
                passed: read(&count.passed),
                policed: read(&count.policed),
                failed: read(&count.failed),
                rate,
            })
            .collect()
    }

    fn change(&self, change: Change) -> Result<(), Error> {
        self.changes.send(change).map_err(|_| Error::SlowPath)?;
        self.waker.wake();
        Ok(())
    }
}

struct Thread {
    changes: Receiver<Change>,
    classes: [Receiver<HandOver>; CLASSES],
    counts: Arc<[ClassCount; CLASSES]>,
    policers: [Policer; CLASSES],
    shadows: BTreeMap<PortId, Shadow>,
    epoll: Epoll,
    waker: Waker,
    buffer: Vec<u8>,
}

impl Thread {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            self.waker.prepare();
            let worked = self.take_changes() | self.take_packets();
            let timeout = if worked { EpollTimeout::ZERO } else { EpollTimeout::NONE };
            let ready = match self.epoll.wait(&mut events, timeout) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(errno) => {
                    error!(error = %io::Error::from(errno), "slow path cannot wait; it ends");
                    return;
                }
            };
            self.waker.awake();
            for event in events.iter().take(ready).filter(|event| event.data() != WAKER) {
                if let Some(shadow) =
                    u16::try_from(event.data()).ok().and_then(|id| self.shadows.get(&PortId(id)))
                {
                    shadow.send_frames(&mut self.buffer);
                }
            }
        }
    }

    fn take_changes(&mut self) -> bool {
        let mut any = false;
        while let Ok(change) = self.changes.try_recv() {
            any = true;
            match change {
                Change::Attach(shadow) => {
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(shadow.port.0));
                    if let Err(errno) = self.epoll.add(&*shadow.tap, event) {
                        error!(port = %shadow.port, error = %io::Error::from(errno), "cannot wait for the shadow");
                    }
                    self.shadows.insert(shadow.port, shadow);
                }
                Change::Transmit(port, frame) => {
                    if let Some(shadow) = self.shadows.get(&port)
                        && shadow.send(&frame)
                    {
                        shadow.worker.flush();
                    }
                }
                Change::Detach(port, done) => {
                    if let Some(shadow) = self.shadows.remove(&port) {
                        // Fails only for one that could not be added.
                        let _ = self.epoll.delete(&*shadow.tap);
                    }
                    // Who asked may have gone.
                    let _ = done.send(());
                }
            }
        }
        any
    }

    /// Gives waiting packets to the kernel. Whether there were any.
    fn take_packets(&mut self) -> bool {
        let mut any = false;
        let now = Instant::now();
        for ((queue, policer), count) in self.classes.iter().zip(&mut self.policers).zip(self.counts.iter()) {
            policer.refill(now);
            for HandOver { port, packet } in queue.try_iter().take(PER_CLASS) {
                any = true;
                let counter = if !policer.admit() {
                    &count.policed
                } else if self
                    .shadows
                    .get(&port)
                    .is_some_and(|shadow| shadow.tap.write(packet.data()).is_ok())
                {
                    &count.passed
                } else {
                    &count.failed
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        any
    }
}

impl Shadow {
    /// Sends what the kernel wants sent.
    fn send_frames(&self, buffer: &mut [u8]) {
        let mut sent = 0;
        for _ in 0..PER_TAP {
            let frame = match self.tap.read(buffer) {
                Ok(length) => buffer.get(..length).unwrap_or_default(),
                // Nothing more, or the shadow's kernel end is down.
                Err(_) => break,
            };
            sent += u64::from(self.send(frame));
        }
        if sent > 0 {
            self.worker.flush();
        }
    }

    /// Gives a frame to the worker that sends; whether it took it.
    fn send(&self, frame: &[u8]) -> bool {
        let buffer = self.pool.alloc().and_then(|mut packet| packet.copy_from_slice(frame).then_some(packet));
        // No buffer, or a frame larger than one: as full as a device's queue.
        let sent = buffer.is_some_and(|packet| self.worker.send(self.port, packet));
        let counter = if sent { &self.count.from_kernel } else { &self.count.tx_full };
        counter.fetch_add(1, Ordering::Relaxed);
        sent
    }
}
