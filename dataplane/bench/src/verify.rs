//! What becomes of every frame of a scenario, byte by byte: a figure for wrong frames would be worth nothing.

use anyhow::{Context, ensure};
use dataplane::config::Idle;
use dataplane::learning::Learning;
use dataplane::slowpath::SlowPath;
use dataplane::trace::Tracer;
use dataplane::worker::{self, Receiving, Sending, WorkerConfig};
use dpdk::{Burst, Device, Eal, Mempool, MempoolConfig, Options, RxQueue, TxQueue, derive};
use forwarding::Control;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

use crate::engine::{self, BURST};
use crate::scenario::{Expected, Scenario};

/// Frames on their way at once; DPDK's rings hold 1024.
const ON_THE_WAY: usize = 512;
/// It takes microseconds on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Checked {
    /// Frames that entered.
    pub(crate) entered: u64,
    /// Frames that left, each compared to the last byte.
    pub(crate) left: u64,
}

/// Compares what leaves with what must.
struct Judge {
    /// By input and flow.
    expected: Vec<Vec<Vec<Expected>>>,
    checked: Checked,
}

impl Judge {
    fn new(scenario: Scenario) -> Self {
        Self { expected: scenario.expected(), checked: Checked::default() }
    }

    /// `left` is what left, by output and in order, after these flows of an input entered in that order.
    fn judge(
        &mut self,
        input: usize,
        flows: std::ops::Range<usize>,
        left: &[Vec<Vec<u8>>],
    ) -> anyhow::Result<()> {
        let mut left: Vec<_> = left.iter().map(|frames| frames.iter()).collect();
        for flow in flows {
            self.checked.entered += 1;
            let expected = self.expected.get(input).and_then(|flows| flows.get(flow));
            for (copy, expected) in expected.context("a flow that is none")?.iter().enumerate() {
                let sent = left.get_mut(expected.output).and_then(Iterator::next).with_context(|| {
                    format!("copy {copy} of frame {flow} did not leave by output {}", expected.output)
                })?;
                ensure!(
                    expected.is(sent),
                    "copy {copy} of frame {flow} left with wrong bytes: {sent:02x?}, wanted {expected:02x?}"
                );
                self.checked.left += 1;
            }
        }
        ensure!(left.iter_mut().all(|frames| frames.next().is_none()), "more frames left than should");
        Ok(())
    }
}

/// Lets every frame of a scenario go through the production worker, as it is measured but for its devices: from rings and to
/// rings of DPDK, in bursts. In a process that has not started DPDK yet.
///
/// # Errors
/// When DPDK does not start; when a frame is lost, or leaves by another port or with other bytes than it must.
pub(crate) fn through_the_worker(scenario: Scenario) -> anyhow::Result<Checked> {
    let options = Options { workers: Some(1), memory: Some(engine::MEMORY), ..Options::default() };
    let derived = derive(&dpdk::Environment::detect(), &options);
    let eal = Eal::init("pe-bench", &derived.arguments)?;
    let config = MempoolConfig { buffers: 32 * 1024 - 1, ..MempoolConfig::default() };
    let pool = Mempool::create(eal, "packets", &config)?;
    let mut control = Control::new().context("cannot make the tables")?;
    let ports = scenario.set_up(&mut control)?;
    let slow_path = SlowPath::spawn(eal, &[])?;
    let cpu = derived.worker_cpus.first().copied();
    let worker = WorkerConfig { id: 0, cpu, idle: Idle::Poll };
    let learning = Learning::new(0)?;
    let (handle, _count) =
        worker::spawn(worker, eal, control.worker(), slow_path.sender(), &learning, &Tracer::default())?;

    let mut started = Vec::new();
    let mut open = |device: &Device| -> anyhow::Result<(RxQueue, TxQueue)> {
        let (port, rx, tx) = engine::open(eal, &pool, device)?;
        started.push(port);
        let rx = rx.into_iter().next().context("a device has no queue to receive from")?;
        Ok((rx, tx.into_iter().next().context("a device has no queue to send by")?))
    };
    let mut outputs = Vec::new();
    for (index, &port) in ports.outputs.iter().enumerate() {
        let (rx, tx) = open(&Device::ring(&format!("output{index}")))?;
        handle.attach(port, format!("output{index}"), Vec::new(), Sending::Own(tx))?;
        outputs.push(rx);
    }
    let mut inputs = Vec::new();
    for (index, &port) in ports.inputs.iter().enumerate() {
        let (rx, tx) = open(&Device::ring(&format!("input{index}")))?;
        let (_, nowhere) = open(&Device::null(&format!("nowhere{index}")))?;
        handle.attach(port, format!("input{index}"), vec![Receiving::Queue(rx)], Sending::Own(nowhere))?;
        inputs.push(tx);
    }

    let mut judge = Judge::new(scenario);
    let step = (ON_THE_WAY / usize::from(scenario.copies())).clamp(1, BURST);
    let mut burst = Burst::<256>::new();
    for (input, (frames, queue)) in scenario.frames().iter().zip(&mut inputs).enumerate() {
        let flows = judge.expected.get(input).map_or(0, Vec::len).min(frames.len());
        for first in (0..flows).step_by(step) {
            let flows = first..flows.min(first + step);
            for frame in &frames[flows.clone()] {
                let mut packet = pool.alloc().context("the pool is empty")?;
                ensure!(packet.copy_from_slice(frame), "a frame does not fit into a buffer");
                ensure!(burst.push(packet).is_ok(), "the burst is full");
            }
            ensure!(queue.send(&mut burst) == flows.len(), "the input's ring is full");
            let wanted = flows.len() * usize::from(scenario.copies());
            let left = receive(&mut outputs, &mut burst, wanted);
            judge.judge(input, flows, &left)?;
        }
    }
    let others = engine::reasons(&control, &ports)?;
    ensure!(others.is_empty(), "not every frame was forwarded: {others}");
    Ok(judge.checked)
}

/// What leaves by each output: `wanted` frames in all if they come, and what is there besides.
fn receive(outputs: &mut [RxQueue], burst: &mut Burst<256>, wanted: usize) -> Vec<Vec<Vec<u8>>> {
    let mut left = vec![Vec::new(); outputs.len()];
    let (mut count, start) = (0, Instant::now());
    while count < wanted && start.elapsed() < PATIENCE {
        for (queue, left) in outputs.iter_mut().zip(&mut left) {
            count += queue.receive(burst);
            left.extend(burst.drain().map(|packet| packet.data().to_vec()));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use forwarding::{Buffer, Packet, PortId, Verdict, Worker};

    use super::*;
    use crate::scenario::{ALL, Ports};

    /// An engine and what is wrong with it.
    struct Engine {
        worker: Worker,
        ports: Ports,
        fault: Fault,
        sent: usize,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        None,
        /// Changes a byte of one frame in a thousand: the one at this offset, from the end where it is negative.
        Byte(isize),
        /// Loses one.
        Loss,
        /// Sends one twice.
        Twice,
        /// Sends one by another port, or two in the wrong order where there is but one.
        Elsewhere,
        /// Leaves padding behind one.
        Padding,
    }

    const FAULTS: [Fault; 13] = [
        // Destination and source MAC, EtherType.
        Fault::Byte(5),
        Fault::Byte(11),
        Fault::Byte(13),
        // TTL of IPv4 without a tunnel, its checksum, its destination.
        Fault::Byte(22),
        Fault::Byte(24),
        Fault::Byte(33),
        // What is somewhere in every kind of frame.
        Fault::Byte(15),
        Fault::Byte(-1),
        Fault::Byte(-28),
        Fault::Loss,
        Fault::Twice,
        Fault::Elsewhere,
        Fault::Padding,
    ];

    impl Engine {
        /// In bursts, as the worker does; by output, what leaves.
        fn process(&mut self, input: usize, frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
            let port = self.ports.inputs[input];
            let mut packets: Vec<_> = frames.iter().map(|frame| Buffer::new(frame)).collect();
            let mut verdicts = vec![Verdict::Replicate; packets.len()];
            self.worker.process(port, &mut packets, &mut verdicts);
            let mut left = vec![Vec::new(); self.ports.outputs.len()];
            for (packet, verdict) in packets.iter().zip(verdicts) {
                if verdict == Verdict::Replicate {
                    let mut copies = Vec::new();
                    let send = |copy: Buffer, verdict| copies.push((copy, verdict));
                    self.worker.replicate(port, packet, |packet| Some(packet.clone()), send);
                    for (copy, verdict) in copies {
                        self.leave(verdict, copy.data(), &mut left);
                    }
                } else {
                    self.leave(verdict, packet.data(), &mut left);
                }
            }
            self.worker.quiescent();
            left
        }

        fn leave(&mut self, verdict: Verdict, frame: &[u8], left: &mut [Vec<Vec<u8>>]) {
            let output = |port: PortId| self.ports.outputs.iter().position(|&output| output == port);
            let Verdict::Transmit(port) = verdict else { return };
            let Some(mut output) = output(port) else { return };
            let mut frame = frame.to_vec();
            self.sent += 1;
            let mut times = 1;
            if self.sent % 1000 == 500 {
                match self.fault {
                    Fault::None => {}
                    Fault::Byte(at) => {
                        let at = if at < 0 { frame.len().wrapping_add_signed(at) } else { at.unsigned_abs() };
                        frame[at] ^= 0x40;
                    }
                    Fault::Loss => times = 0,
                    Fault::Twice => times = 2,
                    Fault::Elsewhere if left.len() > 1 => output = (output + 1) % left.len(),
                    Fault::Elsewhere => {
                        left[output].insert(0, frame);
                        return;
                    }
                    Fault::Padding => frame.push(0),
                }
            }
            left[output].extend(std::iter::repeat_n(frame, times));
        }
    }

    fn verify(scenario: Scenario, fault: Fault) -> anyhow::Result<Checked> {
        let mut control = Control::new().expect("tables");
        let ports = scenario.set_up(&mut control).expect("set up");
        let worker = control.worker();
        let mut engine = Engine { worker, ports, fault, sent: 0 };
        let mut judge = Judge::new(scenario);
        for (input, frames) in scenario.frames().iter().enumerate() {
            let flows = judge.expected[input].len();
            for first in (0..flows).step_by(BURST) {
                let flows = first..flows.min(first + BURST);
                let left = engine.process(input, &frames[flows.clone()]);
                judge.judge(input, flows, &left)?;
            }
        }
        Ok(judge.checked)
    }

    /// All scenarios but those whose tables take seconds to fill.
    fn quick() -> impl Iterator<Item = Scenario> {
        ALL.iter().copied().filter(|scenario| !scenario.name.ends_with("-1m") && scenario.name != "mixed")
    }

    #[test]
    fn every_flow_leaves_as_it_must() {
        for &scenario in ALL {
            let checked =
                verify(scenario, Fault::None).unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
            assert!(checked.left >= 16_384, "{}: {checked:?}", scenario.name);
        }
    }

    #[test]
    fn a_broken_engine_is_noticed() {
        for scenario in quick() {
            for fault in FAULTS {
                assert!(verify(scenario, fault).is_err(), "{}: {fault:?}", scenario.name);
            }
        }
    }
}
