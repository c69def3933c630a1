//! Traces: workers copy frames that somebody wants to see, and note what became of them.
//!
//! While nobody does, a worker reads one word a burst. There is one trace at a time: what it costs is what one costs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forwarding::trace::Filter;
use forwarding::{Buffer, Offload, PortId, Reason, Verdict};
use tokio::sync::mpsc;

/// Bytes of a frame that are kept: all that is looked at to explain it, and the whole of any that fits a usual buffer.
pub const COPY_BYTES: usize = 2048;
/// Frames that may wait to be explained.
const WAITING: usize = 256;

/// A frame that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// When, since the Unix epoch.
    pub time: Duration,
    /// The port it came in by.
    pub port: PortId,
    /// As it was received, the first [`COPY_BYTES`].
    pub frame: Vec<u8>,
    /// All of it, bytes.
    pub length: usize,
    /// What a host left to do for it.
    pub offload: Option<Offload>,
    /// What the worker did with it.
    pub verdict: Verdict,
    /// Of one that went to several places, what was done with each copy.
    pub copies: Vec<Verdict>,
}

impl Caught {
    fn new(port: PortId, frame: &[u8], offload: Option<Offload>) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let kept = frame.get(..COPY_BYTES).unwrap_or(frame).to_vec();
        let verdict = Verdict::Drop(Reason::PortDown);
        Self { time, port, frame: kept, length: frame.len(), offload, verdict, copies: Vec::new() }
    }

    /// As long as it was received; what was not kept is zero.
    pub fn whole(&self) -> Buffer {
        let mut frame = self.frame.clone();
        frame.resize(self.length, 0);
        Buffer::new(&frame).with_offload(self.offload)
    }

    /// The ports it left by, one for each copy.
    pub fn left_by(&self) -> impl Iterator<Item = PortId> {
        std::iter::once(&self.verdict).chain(&self.copies).filter_map(|verdict| match verdict {
            Verdict::Transmit(port) => Some(*port),
            _ => None,
        })
    }
}

/// What workers are told to catch.
#[derive(Debug)]
struct Plan {
    filter: Filter,
    frames: mpsc::Sender<Caught>,
    /// How many more.
    wanted: AtomicU64,
    /// Matched while too many waited.
    lost: AtomicU64,
    until: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    is_on: AtomicBool,
    plan: Mutex<Option<Arc<Plan>>>,
}

/// Where traces are asked for, and where workers see whether one is.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Arc<Shared>);

/// A trace; it ends when this is dropped.
#[derive(Debug)]
pub struct Trace {
    tracer: Tracer,
    plan: Arc<Plan>,
    frames: mpsc::Receiver<Caught>,
}

/// Somebody else's trace has not ended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another trace is running, for {} s more at most; one at a time is possible", left.as_secs() + 1)]
pub struct Busy {
    left: Duration,
}

impl Tracer {
    /// Starts a trace of at most `count` frames, which whoever asked for it will end after `time`.
    ///
    /// # Errors
    /// While there is another one.
    pub fn start(&self, filter: Filter, count: u32, time: Duration) -> Result<Trace, Busy> {
        let (sender, frames) = mpsc::channel(WAITING);
        let mut plan = self.0.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = plan.as_ref() {
            return Err(Busy { left: other.until.saturating_duration_since(Instant::now()) });
        }
        let made = Arc::new(Plan {
            filter,
            frames: sender,
            wanted: AtomicU64::new(count.into()),
            lost: AtomicU64::new(0),
            until: Instant::now() + time,
        });
        *plan = Some(Arc::clone(&made));
        self.0.is_on.store(true, Ordering::Relaxed);
        Ok(Trace { tracer: self.clone(), plan: made, frames })
    }

    /// Whether somebody wants to see frames. All that it costs while nobody does.
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    /// Copies what is wanted of a burst that came in by `port`; nothing when the trace ends or begins just now.
    #[cold]
    pub(crate) fn catch<'a>(
        &self,
        port: PortId,
        burst: impl Iterator<Item = (&'a [u8], Option<Offload>)>,
    ) -> Catch {
        let plan = match self.0.plan.try_lock() {
            Ok(plan) => plan.clone(),
            // A worker waits for nobody.
            Err(_) => None,
        };
        let mut caught = Vec::new();
        if let Some(plan) = &plan
            && plan.wanted.load(Ordering::Relaxed) > 0
        {
            let wanted = burst.enumerate().filter(|(_, (frame, _))| plan.filter.may_match(port, frame));
            caught.extend(wanted.map(|(index, (frame, offload))| (index, Caught::new(port, frame, offload))));
        }
        Catch { plan, caught }
    }
}

impl Trace {
    /// The next frame, in the order they were caught by each worker.
    pub async fn next(&mut self) -> Option<Caught> {
        self.frames.recv().await
    }

    /// How many frames matched since this was last asked that nobody gets to see.
    pub fn take_lost(&self) -> u64 {
        self.plan.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.tracer.0.is_on.store(false, Ordering::Relaxed);
        *self.tracer.0.plan.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What a worker is told of the packets of a burst as it deals with them.
pub(crate) trait Watch {
    /// What is done with a packet.
    fn verdict(&mut self, index: usize, verdict: Verdict);

    /// What is done with one of its copies.
    fn copy(&mut self, index: usize, verdict: Verdict);
}

/// Nobody looks.
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    #[inline(always)]
    fn verdict(&mut self, _: usize, _: Verdict) {}

    #[inline(always)]
    fn copy(&mut self, _: usize, _: Verdict) {}
}

/// Frames of one burst, each with its place in it.
pub(crate) struct Catch {
    plan: Option<Arc<Plan>>,
    caught: Vec<(usize, Caught)>,
}

impl Catch {
    fn at(&mut self, index: usize) -> Option<&mut Caught> {
        self.caught.iter_mut().find(|(at, _)| *at == index).map(|(_, caught)| caught)
    }

    /// Gives away what matches, now that it is known what became of it.
    pub(crate) fn send(self) {
        let Some(plan) = self.plan else { return };
        for (_, caught) in self.caught {
            if !plan.filter.matches(caught.port, &caught.frame, caught.verdict) {
                continue;
            }
            let less = |wanted: u64| wanted.checked_sub(1);
            if plan.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
                return;
            }
            if plan.frames.try_send(caught).is_err() {
                plan.wanted.fetch_add(1, Ordering::Relaxed);
                plan.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Watch for Catch {
    fn verdict(&mut self, index: usize, verdict: Verdict) {
        if let Some(caught) = self.at(index) {
            caught.verdict = verdict;
        }
    }

    fn copy(&mut self, index: usize, verdict: Verdict) {
        if let Some(caught) = self.at(index) {
            caught.copies.push(verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use forwarding::Packet;
    use forwarding::trace::Scope;

    use super::*;

    const PORT: PortId = PortId(3);
    const HOUR: Duration = Duration::from_secs(3600);

    fn filter(text: &str) -> Filter {
        Filter::parse(text, &Scope::default()).unwrap()
    }

    fn burst(tracer: &Tracer, frames: &[&[u8]], verdict: Verdict) {
        let mut catch = tracer.catch(PORT, frames.iter().map(|&frame| (frame, None)));
        for index in 0..frames.len() {
            catch.verdict(index, verdict);
        }
        catch.send();
    }

    fn taken(trace: &mut Trace) -> Vec<Caught> {
        std::iter::from_fn(|| trace.frames.try_recv().ok()).collect()
    }

    #[test]
    fn one_at_a_time_and_off_when_it_ends() {
        let tracer = Tracer::default();
        assert!(!tracer.is_on());
        let trace = tracer.start(filter(""), 1, HOUR).unwrap();
        assert!(tracer.is_on());
        let busy = tracer.start(filter(""), 1, HOUR).unwrap_err();
        assert!(busy.to_string().contains("another trace is running"), "{busy}");
        drop(trace);
        assert!(!tracer.is_on());
        assert!(tracer.start(filter(""), 1, HOUR).is_ok());
    }

    #[test]
    fn exactly_so_many_are_caught_with_what_became_of_them() {
        let tracer = Tracer::default();
        let mut trace = tracer.start(filter("verdict drop"), 3, HOUR).unwrap();
        let long = vec![7; COPY_BYTES + 100];
        burst(&tracer, &[&[1], &[2]], Verdict::Transmit(PORT));
        burst(&tracer, &[&[3], &long], Verdict::Drop(Reason::NoRoute));
        burst(&tracer, &[&[5], &[6]], Verdict::Drop(Reason::NoRoute));
        burst(&tracer, &[&[7]], Verdict::Drop(Reason::NoRoute));
        let frames = taken(&mut trace);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[1].frame.len(), COPY_BYTES);
        assert_eq!(frames[1].whole().data().len(), long.len());
        assert!(frames.iter().all(|caught| caught.verdict == Verdict::Drop(Reason::NoRoute)));
        assert_eq!((frames[2].frame.as_slice(), trace.take_lost()), (&[5][..], 0));
    }

    #[test]
    fn what_nobody_reads_in_time_is_lost_and_counted() {
        let tracer = Tracer::default();
        let mut trace = tracer.start(filter(""), 1000, HOUR).unwrap();
        for _ in 0..WAITING + 5 {
            burst(&tracer, &[&[1]], Verdict::Replicate);
        }
        assert_eq!((trace.take_lost(), trace.take_lost()), (5, 0));
        assert_eq!(taken(&mut trace).len(), WAITING);
        burst(&tracer, &[&[1]], Verdict::Replicate);
        assert_eq!(taken(&mut trace).len(), 1, "there is room again");
    }

    #[test]
    fn copies_say_where_they_left() {
        let tracer = Tracer::default();
        let mut trace = tracer.start(filter(""), 1, HOUR).unwrap();
        let mut catch = tracer.catch(PORT, [(&[1][..], None)].into_iter());
        catch.verdict(0, Verdict::Replicate);
        for copy in [Verdict::Transmit(PORT), Verdict::HandOver(Reason::Arp), Verdict::Transmit(PortId(9))] {
            catch.copy(0, copy);
        }
        catch.send();
        let frames = taken(&mut trace);
        assert_eq!(frames[0].left_by().collect::<Vec<_>>(), [PORT, PortId(9)]);
    }
}
