//! The engine alone, on frames in memory: for profilers, and to look at what becomes of every frame.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context;
use forwarding::{Control, Packet, Reason, Verdict};

use crate::engine::BURST;
use crate::scenario::Scenario;

/// What DPDK leaves in front of a received frame, bytes.
const HEADROOM: usize = 128;
const SIZE: usize = 384;

/// A frame in a buffer of a fixed size, as a mempool's are.
#[derive(Clone)]
#[repr(align(64))]
pub(crate) struct Slot {
    bytes: [u8; SIZE],
    start: usize,
    end: usize,
}

impl Slot {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; SIZE], start: HEADROOM, end: HEADROOM }
    }

    /// Copies a frame of less than 256 bytes in.
    pub(crate) fn fill(&mut self, frame: &[u8]) {
        (self.start, self.end) = (HEADROOM, HEADROOM + frame.len());
        self.bytes[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
    }
}

impl Packet for Slot {
    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> bool {
        let fits = n <= self.start;
        self.start -= if fits { n } else { 0 };
        fits
    }

    #[inline]
    fn trim_front(&mut self, n: usize) -> bool {
        let fits = n < self.end - self.start;
        self.start += if fits { n } else { 0 };
        fits
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    #[inline]
    fn reframe(&mut self, at: usize, front: usize, length: usize) -> bool {
        let (start, end) = (self.start + at, self.start + at + length);
        let fits = end <= self.end && front <= start;
        if fits {
            (self.start, self.end) = (start - front, end);
        }
        fits
    }
}

/// Forwards `rounds` times every frame of the scenario, in bursts; nanoseconds per packet of the fastest round.
///
/// # Errors
/// When the tables cannot be made.
pub(crate) fn run(scenario: Scenario, rounds: u32) -> anyhow::Result<f64> {
    let mut control = Control::new().context("cannot make the tables")?;
    let ports = scenario.set_up(&mut control)?;
    let mut worker = control.worker();
    let inputs = scenario.frames();
    let mut slots = vec![Slot::new(); BURST];
    let mut verdicts = [Verdict::Drop(Reason::PortDown); BURST];
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        // By turns, as a worker serves its queues.
        let of = |input: &Vec<Vec<u8>>| input.len() / BURST;
        let bursts = (0..inputs.iter().map(of).max().unwrap_or(0)).flat_map(|burst| {
            let frames = inputs.iter().map(move |frames| frames.chunks_exact(BURST).nth(burst));
            ports.inputs.iter().zip(frames).filter_map(|(&input, burst)| Some((input, burst?)))
        });
        for (input, burst) in bursts {
            for (slot, frame) in slots.iter_mut().zip(burst) {
                slot.fill(frame);
            }
            worker.process(input, &mut slots, &mut verdicts);
            for (slot, verdict) in slots.iter().zip(&verdicts) {
                if *verdict == Verdict::Replicate {
                    worker.replicate(
                        input,
                        slot,
                        |slot| Some(slot.clone()),
                        |copy, verdict| {
                            black_box((copy, verdict));
                        },
                    );
                }
            }
            black_box((&slots, &verdicts));
            worker.quiescent();
        }
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let each = start.elapsed().as_secs_f64() * 1e9 / inputs.iter().map(Vec::len).sum::<usize>() as f64;
        best = best.min(each);
    }
    Ok(best)
}
