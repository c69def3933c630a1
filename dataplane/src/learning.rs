//! Bridge domains' upkeep: what workers saw becomes MACs and hosts, who is not seen is asked and forgotten, and whoever
//! wants to know is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dataplane_api::v1;
use forwarding::{Control, Learned};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::sync::mpsc;
use tracing::warn;

use crate::error::Error;
use crate::slowpath::SlowPath;
use crate::topology::{SharedControl, lock};
use crate::wake::Waker;

/// How often hosts are looked at while nobody reports anything.
const PERIOD: Duration = Duration::from_millis(250);
/// The same while there is no bridge domain.
const IDLE_PERIOD: Duration = Duration::from_secs(5);
/// What is seen within this time is one change, for those who are told.
const GATHER: Duration = Duration::from_millis(1);
/// Updates that may wait for one who is told; who is slower than that begins anew.
const UPDATES: usize = 1024;
/// Entries of one update.
const ENTRIES: usize = 4096;

/// The outside's handle.
#[derive(Clone, Debug)]
pub struct Learning {
    waker: Waker,
    listeners: Arc<Mutex<Vec<mpsc::Sender<v1::LearnedUpdate>>>>,
    instance: u64,
}

impl Learning {
    /// A handle; nothing happens until [`run`](Self::run).
    ///
    /// # Errors
    /// Without descriptors left.
    pub fn new(instance: u64) -> Result<Self, Error> {
        Ok(Self { waker: Waker::new()?, listeners: Arc::default(), instance })
    }

    /// What workers wake when they saw something.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// Without descriptors or threads left.
    pub fn run(&self, control: SharedControl, slow_path: SlowPath) -> Result<(), Error> {
        let system = |errno: nix::errno::Errno| Error::system("make an epoll descriptor")(errno.into());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system)?;
        epoll.add(&self.waker, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(system)?;
        let handle = self.clone();
        std::thread::Builder::new()
            .name("learning".into())
            .spawn(move || handle.serve(&control, &slow_path, &epoll))
            .map_err(Error::system("start the learning thread"))?;
        Ok(())
    }

    fn serve(&self, control: &SharedControl, slow_path: &SlowPath, epoll: &Epoll) {
        let started = Instant::now();
        let mut events = [EpollEvent::empty(); 1];
        loop {
            let (probes, busy) = {
                let mut control = lock(control);
                let probes = control.upkeep(started.elapsed());
                self.publish(&mut control);
                (probes, control.bridges().next().is_some())
            };
            for probe in probes {
                if let Err(error) = slow_path.transmit(probe.port, probe.frame) {
                    warn!(%error, "hosts cannot be asked whether they are still there");
                }
            }
            self.waker.prepare();
            let period = if busy { PERIOD } else { IDLE_PERIOD };
            let timeout = EpollTimeout::try_from(period).unwrap_or(EpollTimeout::ZERO);
            // A failed wait is a short one.
            let woken = epoll.wait(&mut events, timeout).unwrap_or(1);
            self.waker.awake();
            if woken > 0 {
                std::thread::sleep(GATHER);
            }
        }
    }

    /// Tells what was learned since the last time. Holding the tables, so that no listener misses or doubles anything.
    fn publish(&self, control: &mut Control) {
        let learned = control.take_learned();
        if learned.is_empty() {
            return;
        }
        let updates: Vec<_> = learned.chunks(ENTRIES).map(|learned| self.update(learned, false)).collect();
        self.listeners()
            .retain(|listener| updates.iter().all(|update| listener.try_send(update.clone()).is_ok()));
    }

    /// All that is learned now, and from now on every change. The stream ends when its reader falls behind.
    pub fn listen(&self, control: &SharedControl) -> mpsc::Receiver<v1::LearnedUpdate> {
        let mut control = lock(control);
        self.publish(&mut control);
        let learned: Vec<Learned> = control.learned().collect();
        let mut updates: Vec<_> =
            learned.chunks(ENTRIES).map(|learned| self.update(learned, false)).collect();
        match updates.last_mut() {
            Some(last) => last.complete = true,
            None => updates.push(self.update(&[], true)),
        }
        let (sender, receiver) = mpsc::channel(UPDATES + updates.len());
        for update in updates {
            // There is room for all of them.
            let _ = sender.try_send(update);
        }
        self.listeners().push(sender);
        receiver
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<v1::LearnedUpdate>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, learned: &[Learned], complete: bool) -> v1::LearnedUpdate {
        let mut update = v1::LearnedUpdate { complete, instance: self.instance, ..Default::default() };
        for learned in learned {
            match *learned {
                Learned::Mac { vni, mac, port } => update.macs.push(v1::LearnedMac {
                    vni: vni.get(),
                    mac: mac.octets().to_vec().into(),
                    port: port.map_or(0, |port| port.0.into()),
                    gone: port.is_none(),
                }),
                Learned::Host { vni, address, mac, gone } => update.neighbors.push(v1::LearnedNeighbor {
                    vni: vni.get(),
                    address: crate::rpc::octets(address),
                    mac: mac.octets().to_vec().into(),
                    gone,
                }),
            }
        }
        update
    }
}
