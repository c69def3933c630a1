//! What a worker sends by: frames wait until the end of a round and leave in bursts.

use std::io::IoSlice;

use dpdk::{Burst, Mbuf, Mempool};
use forwarding::{Coalescer, PortId, Reason, Segments, VirtioHeader};
use nix::errno::Errno;
use tracing::info;

use super::inbox::{Cutting, Sending};
use super::large;
use crate::host::Tap;

/// Packets sent at once.
const TX_BURST: usize = 64;

/// The shortest train of packets that is given to the kernel to cut, bytes: of an interface that takes no frame of this
/// length from it, it cuts them all before the interface has them.
pub const LEAST_TRAIN: u32 = 1024;
/// The longest train of packets, bytes.
const TRAIN: usize = 1 << 16;

/// A port of a worker.
pub(super) struct PortSlot {
    port: PortId,
    sending: Sending,
    cutting: Cutting,
    waiting: Burst<TX_BURST>,
    /// Of what waits.
    bytes: u64,
    /// It is among those that have frames waiting.
    pub(super) touched: bool,
}

/// What sending takes besides a port.
pub(super) struct Sender<'a> {
    pub(super) engine: &'a forwarding::Worker,
    pub(super) coalescer: &'a mut Coalescer,
    /// Memory for a train of packets.
    pub(super) train: &'a mut Vec<u8>,
}

impl PortSlot {
    pub(super) fn new(port: PortId, sending: Sending, cutting: Cutting) -> Self {
        Self { port, sending, cutting, waiting: Burst::new(), bytes: 0, touched: false }
    }

    /// Where what large frames are cut into comes from.
    pub(super) fn pool(&self) -> Option<&Mempool> {
        self.cutting.pool.as_ref()
    }

    /// Puts a frame with those that wait.
    #[inline]
    pub(super) fn queue(&mut self, packet: Mbuf, sender: &mut Sender<'_>) {
        if packet.note().is_some()
            && !(matches!(self.sending, Sending::Tap(_)) && large::may_go_whole(&packet))
        {
            return self.queue_finished(packet, sender);
        }
        if self.waiting.is_full() {
            self.send(sender);
        }
        // There is room: sending empties it.
        let bytes = packet.len() as u64;
        if self.waiting.push(packet).is_ok() {
            self.bytes += bytes;
        }
    }

    /// The same for one that the port cannot take as it is, such as most of what a TAP's host sends to a wire. It has code of
    /// its own, so that what is complete pays nothing for it.
    #[inline(never)]
    fn queue_finished(&mut self, packet: Mbuf, sender: &mut Sender<'_>) {
        let from = self.send_trains(&packet, sender);
        let pool = self.cutting.pool.take();
        let lost = large::finish(packet, pool.as_ref(), from, |packet| self.queue(packet, sender));
        self.cutting.pool = pool;
        lost.count(sender.engine, self.port);
    }

    /// Has the kernel cut a large frame that leaves in a tunnel, if it can. How many packets, from the first on, are done
    /// with.
    ///
    /// One call for many packets, which then go through the kernel together, is several times as fast as one by one.
    fn send_trains(&mut self, packet: &Mbuf, sender: &mut Sender<'_>) -> usize {
        if !matches!(self.sending, Sending::Own(_)) {
            return 0;
        }
        let offload = large::offload(packet).filter(|offload| offload.is_large());
        let Some(segments) = offload.and_then(|offload| Segments::new(packet.data(), offload)) else {
            return 0;
        };
        // Back in its place at the end, unless the kernel cannot.
        let Some(socket) = self.cutting.socket.take() else { return 0 };
        let mut done = 0;
        sender.train.resize(TRAIN, 0);
        while let Some(train) = segments.train(done, sender.train) {
            if train.length < LEAST_TRAIN as usize {
                break;
            }
            if done == 0 {
                // What came before goes before.
                self.send(sender);
            }
            let frame = sender.train.get(..train.length).unwrap_or_default();
            match socket.send(&[IoSlice::new(&train.virtio.0), IoSlice::new(frame)]) {
                Ok(()) => {
                    let bytes: usize = (done..done + train.count).map(|index| segments.length(index)).sum();
                    sender.engine.count_transmitted(self.port, train.count as u64, bytes as u64);
                }
                Err(errno @ (Errno::EINVAL | Errno::EMSGSIZE | Errno::EOPNOTSUPP)) => {
                    info!(port = %self.port, %errno, "this kernel cuts no UDP for packet sockets (Linux 6.2 does)");
                    return done;
                }
                Err(_) => sender.engine.count_dropped(self.port, Reason::TxFull, train.count as u64),
            }
            done += train.count;
        }
        self.cutting.socket = Some(socket);
        done
    }

    /// Sends what waits. What the device has no room for is dropped and counted: waiting would stall the other ports.
    pub(super) fn send(&mut self, sender: &mut Sender<'_>) {
        let engine = sender.engine;
        let mut all = self.waiting.len();
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
                let (sent, sent_bytes);
                (all, sent, sent_bytes) = write(tap, &self.waiting, sender.coalescer);
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

/// Writes frames into a TAP, those of one TCP flow as one. How many packets there were, how many of them it took, and the
/// bytes of these; a large frame counts as what it stands for. It refuses while the kernel's end is down.
fn write(tap: &Tap, frames: &[Mbuf], coalescer: &mut Coalescer) -> (usize, usize, u64) {
    // A burst's length.
    let count = u16::try_from(frames.len()).unwrap_or(u16::MAX);
    let is_whole = |number: usize| frames.get(number).is_some_and(|frame| frame.note().is_none());
    coalescer.sort(count, |number| frames.get(number).map(Mbuf::data), is_whole);
    let (mut all, mut sent, mut bytes) = (0, 0, 0);
    for run in coalescer.runs() {
        let written = if run.count() == 1 {
            frames.get(run.first()).is_some_and(|frame| {
                let header = VirtioHeader::write(large::offload(frame), frame.data());
                tap.write_large(&[IoSlice::new(&header.0), IoSlice::new(frame.data())]).is_ok()
            })
        } else {
            write_run(tap, frames, coalescer, run)
        };
        let members = coalescer.members(run).filter_map(|number| frames.get(number));
        let (packets, long) = members.map(stands_for).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        all += packets;
        if written {
            sent += packets;
            bytes += long as u64;
        }
    }
    (all, sent, bytes)
}

/// How many packets a frame stands for, and the bytes of these together.
fn stands_for(frame: &Mbuf) -> (usize, usize) {
    let length = frame.len();
    large::offload(frame).map_or((1, length), |offload| (offload.segments(length), offload.bytes(length)))
}

/// Writes a run of several as one frame, from where they are.
fn write_run(tap: &Tap, frames: &[Mbuf], coalescer: &Coalescer, run: &forwarding::Run) -> bool {
    let frame = |number: usize| frames.get(number).map(Mbuf::data).unwrap_or_default();
    let last = coalescer.members(run).last().unwrap_or_default();
    let Some(head) = Coalescer::head(run, frame(run.first()), frame(last)) else { return false };
    let mut parts = [IoSlice::new(&[]); TX_BURST + 2];
    let payloads =
        coalescer.members(run).map(|number| IoSlice::new(coalescer.payload(run, number, frame(number))));
    let all = [IoSlice::new(&head.virtio.0), IoSlice::new(head.bytes())].into_iter().chain(payloads);
    let mut count = 0;
    for (part, slice) in parts.iter_mut().zip(all) {
        *part = slice;
        count += 1;
    }
    tap.write_large(parts.get(..count).unwrap_or_default()).is_ok()
}
