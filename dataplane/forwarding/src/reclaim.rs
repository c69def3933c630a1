//! Quiescent-state reclamation: when may the writer reuse what readers may still be looking at?
//!
//! Every polling thread registers a reader with a [`Domain`] and says, once per burst, that it holds nothing of the
//! tables any more ([`ReaderHandle::quiescent`]). The one writer unlinks an object, hands it to a [`Limbo`], and gets it
//! back for reuse when every reader that was online has said so since. Nobody waits for anybody: a reader pays one load
//! and one store per burst, the writer looks at the readers when it likes.
//!
//! The ordering argument, in the terms used beside the operations below:
//!
//! 1. *Unlink before epoch.* The writer's unlinking store comes before its increment of the epoch (release). A reader
//!    whose load of the epoch (acquire) returns that value or a later one therefore sees the unlinked structure in every
//!    later read: it cannot find the object any more.
//! 2. *Reads before report.* The reader reports the epoch with a release store after its last read of the tables. A
//!    writer that loads the report (acquire) knows those reads to be over.
//! 3. *Coming online.* An offline reader is not waited for, so going online must not overlap a scan unnoticed. Reader:
//!    report, fence, read tables. Writer: unlink, fence, read reports. With both fences sequentially consistent, either
//!    the writer sees the report, or the reader sees the structure without the object.
//!
//! A reader that never becomes quiescent holds memory back, never the writer: it must go [offline](ReaderHandle::offline)
//! before it sleeps.

use std::collections::VecDeque;

use sync::{Arc, AtomicU64, Mutex, Ordering, fence};

/// The same names from `std`, or from loom when its model checker runs this module.
mod sync {
    pub(super) use std::sync::atomic::Ordering;

    #[cfg(loom)]
    pub(super) use loom::sync::{
        Arc, Mutex,
        atomic::{AtomicU64, fence},
    };
    #[cfg(not(loom))]
    pub(super) use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU64, fence},
    };
}

/// What an offline reader reports. The epoch starts at 1 and never comes back to it.
const OFFLINE: u64 = 0;

/// A point in the writer's history: what was unlinked before it is invisible to a reader that has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// One writer's side and its readers. Clones are the same domain.
#[derive(Clone, Debug)]
pub struct Domain {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoch: Line,
    /// Locked to register, to leave and to scan; never by a reader at work.
    readers: Mutex<Vec<Arc<Line>>>,
}

/// Two cache lines of its own, since neighbouring lines are fetched in pairs: one reader's report must not slow
/// another's.
#[derive(Debug)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Domain {
    /// A domain without readers.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                epoch: Line(AtomicU64::new(OFFLINE + 1)),
                readers: Mutex::new(Vec::new()),
            }),
        }
    }

    /// A new reader, online. It leaves when it is dropped.
    pub fn register(&self) -> ReaderHandle {
        let report = Arc::new(Line(AtomicU64::new(OFFLINE)));
        self.readers().push(Arc::clone(&report));
        let mut reader = ReaderHandle { shared: Arc::clone(&self.shared), report, online: false };
        reader.online();
        reader
    }

    /// Begins a new epoch: what was unlinked before this call is unreachable for readers that have [passed](Self::passed)
    /// the epoch it returns.
    pub fn advance(&self) -> Epoch {
        // Release: argument 1. Only the writer calls this, but an increment costs it nothing and stays right if two do.
        Epoch(self.shared.epoch.0.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// The newest epoch that every online reader has seen. Never blocks on a reader.
    pub fn passed(&self) -> Epoch {
        // Sequentially consistent: argument 3, the writer's side.
        fence(Ordering::SeqCst);
        let now = self.shared.epoch.0.load(Ordering::Acquire);
        let oldest = self
            .readers()
            .iter()
            // Acquire: argument 2, of a report as well as of going offline.
            .map(|report| report.0.load(Ordering::Acquire))
            .filter(|&seen| seen != OFFLINE)
            .fold(now, u64::min);
        Epoch(oldest)
    }

    fn readers(&self) -> impl std::ops::DerefMut<Target = Vec<Arc<Line>>> + '_ {
        lock(&self.shared.readers)
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

/// The list stays whole whatever panicked while it was locked: every change of it is one push or one retain.
#[cfg(not(loom))]
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(loom)]
fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One polling thread's membership of a [`Domain`].
#[derive(Debug)]
pub struct ReaderHandle {
    shared: Arc<Shared>,
    report: Arc<Line>,
    online: bool,
}

impl ReaderHandle {
    /// Says that this thread holds nothing that it read from the tables. To be called between bursts; one load and one
    /// store. Does nothing while offline.
    #[inline]
    pub fn quiescent(&mut self) {
        if self.online {
            // Acquire: argument 1. Release: argument 2.
            let epoch = self.shared.epoch.0.load(Ordering::Acquire);
            self.report.0.store(epoch, Ordering::Release);
        }
    }

    /// Leaves the tables alone until [`online`](Self::online): before sleeping. The writer does not wait for it.
    pub fn offline(&mut self) {
        // Release: argument 2.
        self.report.0.store(OFFLINE, Ordering::Release);
        self.online = false;
    }

    /// Comes back. Must precede the first read of the tables after [`offline`](Self::offline).
    pub fn online(&mut self) {
        let epoch = self.shared.epoch.0.load(Ordering::Acquire);
        self.report.0.store(epoch, Ordering::Release);
        // Sequentially consistent: argument 3, the reader's side.
        fence(Ordering::SeqCst);
        self.online = true;
    }
}

impl Drop for ReaderHandle {
    fn drop(&mut self) {
        self.offline();
        lock(&self.shared.readers).retain(|report| !Arc::ptr_eq(report, &self.report));
    }
}

/// Objects that are unlinked and wait for the readers to pass.
///
/// `T` may be anything that is to be dropped or reused later: a block of an arena, a `Box<dyn Send>`.
#[derive(Debug)]
pub struct Limbo<T> {
    /// In the order of retirement: first those of `batches`, then those not yet in an epoch.
    items: VecDeque<T>,
    /// How many items each epoch closed.
    batches: VecDeque<(Epoch, usize)>,
    batched: usize,
}

impl<T> Limbo<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self { items: VecDeque::new(), batches: VecDeque::new(), batched: 0 }
    }

    /// Takes an object that the writer has unlinked already: no reader that starts now can reach it.
    pub fn retire(&mut self, item: T) {
        self.items.push_back(item);
    }

    /// Gives to `free` what no reader can hold any more, and returns how many that were. Never blocks.
    pub fn reclaim(&mut self, domain: &Domain, mut free: impl FnMut(T)) -> usize {
        if self.items.is_empty() {
            return 0;
        }
        let open = self.items.len() - self.batched;
        if open > 0 {
            self.batches.push_back((domain.advance(), open));
            self.batched += open;
        }
        let passed = domain.passed();
        let mut freed = 0;
        while let Some(&(epoch, count)) = self.batches.front()
            && epoch <= passed
        {
            self.batches.pop_front();
            self.batched -= count;
            freed += count;
            self.items.drain(..count).for_each(&mut free);
        }
        freed
    }

    /// How many objects wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many objects have been retired since the last [`reclaim`](Self::reclaim).
    pub fn unclosed(&self) -> usize {
        self.items.len() - self.batched
    }
}

impl<T> Default for Limbo<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn freed(limbo: &mut Limbo<u32>, domain: &Domain) -> Vec<u32> {
        let mut out = Vec::new();
        assert_eq!(limbo.reclaim(domain, |item| out.push(item)), out.len());
        out
    }

    #[test]
    fn without_readers_everything_is_free_at_once() {
        let (domain, mut limbo) = (Domain::new(), Limbo::new());
        limbo.retire(1);
        limbo.retire(2);
        assert_eq!(freed(&mut limbo, &domain), [1, 2]);
        assert!(limbo.is_empty());
    }

    #[test]
    fn every_online_reader_must_pass() {
        let (domain, mut limbo) = (Domain::new(), Limbo::new());
        let (mut first, mut second) = (domain.register(), domain.register());
        limbo.retire(1);
        assert!(freed(&mut limbo, &domain).is_empty());
        first.quiescent();
        assert!(freed(&mut limbo, &domain).is_empty());
        limbo.retire(2);
        second.quiescent();
        assert_eq!(freed(&mut limbo, &domain), [1], "2 is of a later epoch");
        first.quiescent();
        second.quiescent();
        assert_eq!(freed(&mut limbo, &domain), [2]);
    }

    #[test]
    fn offline_and_dropped_readers_are_not_waited_for() {
        let (domain, mut limbo) = (Domain::new(), Limbo::new());
        let mut sleeper = domain.register();
        let gone = domain.register();
        limbo.retire(1);
        sleeper.offline();
        sleeper.quiescent();
        assert!(freed(&mut limbo, &domain).is_empty());
        drop(gone);
        assert_eq!(freed(&mut limbo, &domain), [1]);
        sleeper.online();
        limbo.retire(2);
        assert!(freed(&mut limbo, &domain).is_empty());
        sleeper.quiescent();
        assert_eq!(freed(&mut limbo, &domain), [2]);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::AtomicU32;
    use loom::thread;

    use super::*;

    const ALIVE: u32 = 7;
    const FREED: u32 = 0;

    /// Two objects and a pointer to the one in use: the writer swings the pointer, retires the other and poisons it once
    /// it is reclaimed. A reader must never see poison.
    fn swing(reader: impl Fn(&Table, ReaderHandle) + Send + Sync + 'static) {
        let reader = std::sync::Arc::new(reader);
        loom::model(move || {
            let domain = Domain::new();
            let table = Arc::new(Table::new());
            let thread = {
                let (reader, table, handle) =
                    (std::sync::Arc::clone(&reader), Arc::clone(&table), domain.register());
                thread::spawn(move || reader(&table, handle))
            };
            let mut limbo = Limbo::new();
            table.current.store(1, Ordering::Release);
            limbo.retire(0_usize);
            for _ in 0..2 {
                limbo.reclaim(&domain, |object| table.objects[object].store(FREED, Ordering::Relaxed));
            }
            thread.join().unwrap();
            limbo.reclaim(&domain, |object| table.objects[object].store(FREED, Ordering::Relaxed));
            assert!(limbo.is_empty(), "the reader is gone and still waited for");
        });
    }

    struct Table {
        objects: [AtomicU32; 2],
        current: AtomicU32,
    }

    impl Table {
        fn new() -> Self {
            Self { objects: [AtomicU32::new(ALIVE), AtomicU32::new(ALIVE)], current: AtomicU32::new(0) }
        }

        fn read(&self) {
            let at = self.current.load(Ordering::Acquire) as usize;
            assert_eq!(
                self.objects[at].load(Ordering::Relaxed),
                ALIVE,
                "object {at} was reused under a reader"
            );
        }
    }

    #[test]
    fn loom_quiescent_reader_never_sees_a_reused_object() {
        swing(|table, mut handle| {
            table.read();
            handle.quiescent();
            table.read();
        });
    }

    #[test]
    fn loom_reader_may_sleep_and_wake() {
        swing(|table, mut handle| {
            handle.offline();
            handle.online();
            table.read();
            handle.offline();
        });
    }
}
