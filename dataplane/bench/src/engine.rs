//! The measured loop: the production worker, polling, between endless captures and sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{thread, time::Duration};

use anyhow::{Context, ensure};
use dataplane::learning::Learning;
use dataplane::slowpath::SlowPath;
use dataplane::trace::Tracer;
use dataplane::worker::{self, Receiving, Sending, WorkerConfig, WorkerCount};
use dpdk::{Device, Eal, Environment, Mempool, MempoolConfig, Options, PortConfig, derive, tsc};
use forwarding::Control;
use serde::{Deserialize, Serialize};

use crate::scenario::{Ports, Scenario};

/// Packets at once, as the worker takes them: the floor is measured with the same.
pub(crate) const BURST: usize = 64;
/// What a run of this size needs, MB: buffers for the capture, its copies, and the tables of DPDK.
pub(crate) const MEMORY: u64 = 1024;
/// Caches, branch predictors and tables settle in this time.
const WARM_UP: Duration = Duration::from_secs(1);
/// A worker that counted a burst has not sent it yet, and counters are not all read at once: this share of what was
/// received may be missing at the sinks.
const LATE: f64 = 0.002;

/// What was measured.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Measured {
    /// TSC cycles that passed.
    pub(crate) cycles: f64,
    /// TSC cycles per second.
    pub(crate) hertz: f64,
    /// Packets that entered.
    pub(crate) packets: u64,
    /// Frames that the sinks took, by the devices' own counters.
    pub(crate) left: u64,
}

/// Runs `scenario` on `captures`, one for each input, for `time`, on a CPU of its own where there are two.
///
/// # Errors
/// When DPDK or a device does not start, or the engine did anything but forward every packet.
pub(crate) fn measure(scenario: Scenario, captures: &[PathBuf], time: Duration) -> anyhow::Result<Measured> {
    let mut control = Control::new().context("cannot make the tables")?;
    let ports = scenario.set_up(&mut control)?;
    let copies = f64::from(scenario.copies());
    run(&mut control, &[ports], captures, 1, copies, time)
}

/// The same scenario from two ports into one: all of it by one worker, or each port by a worker of its own, which has a queue
/// of its own at the output, too.
///
/// # Errors
/// Likewise, and when there are not two CPUs for two workers.
pub(crate) fn measure_twice(
    scenario: Scenario,
    captures: &[PathBuf],
    workers: usize,
    time: Duration,
) -> anyhow::Result<Measured> {
    let mut control = Control::new().context("cannot make the tables")?;
    let first = scenario.set_up(&mut control)?;
    let second = first.with_more_inputs(&mut control)?;
    let captures: Vec<PathBuf> = captures.iter().chain(captures).cloned().collect();
    run(&mut control, &[first, second], &captures, workers, f64::from(scenario.copies()), time)
}

/// `all` are sets of ports; the workers take turns in serving them.
fn run(
    control: &mut Control,
    all: &[Ports],
    captures: &[PathBuf],
    workers: usize,
    copies: f64,
    time: Duration,
) -> anyhow::Result<Measured> {
    let options = Options { workers: Some(workers), memory: Some(MEMORY), ..Options::default() };
    let derived = derive(&Environment::detect(), &options);
    let eal = Eal::init("pe-bench", &derived.arguments)?;
    let slow_path = SlowPath::spawn(eal, &[])?;
    let learning = Learning::new(0)?;
    let cpus = cpus(&derived.worker_cpus, workers)?;

    let mut counts: Vec<Arc<WorkerCount>> = Vec::new();
    let mut handles = Vec::new();
    for (id, cpu) in cpus.into_iter().enumerate() {
        let config = WorkerConfig { id, cpu, idle: dataplane::config::Idle::Poll };
        let (handle, count) =
            worker::spawn(config, eal, control.worker(), slow_path.sender(), &learning, &Tracer::default())?;
        handles.push(handle);
        counts.push(count);
    }

    let (mut sinks, mut sources, mut captures) = (Vec::new(), Vec::new(), captures.iter());
    for (set, ports) in all.iter().enumerate() {
        // Nothing that workers write is shared, as on NICs whose queues have pools of their own.
        let config = MempoolConfig { buffers: 64 * 1024 - 1, ..MempoolConfig::default() };
        let pool = Mempool::create(eal, &format!("packets{set}"), &config)?;
        let handle = &handles[set % handles.len()];
        for (index, &port) in ports.outputs.iter().enumerate() {
            let (sink, _, mut tx) = open(eal, &pool, &Device::null(&format!("sink{set}{index}")))?;
            let tx = tx.pop().context("the sink has no queue")?;
            handle.attach(port, "output", Vec::new(), Sending::Own(tx))?;
            sinks.push(sink);
        }
        for (index, &port) in ports.inputs.iter().enumerate() {
            let capture: &Path = captures.next().context("a capture is missing")?;
            let device = Device::endless_pcap(&format!("source{set}{index}"), capture);
            let (source, rx, tx) = open(eal, &pool, &device)?;
            let nowhere = tx.into_iter().next().context("the source has no queue to send by")?;
            let rx = rx.into_iter().map(Receiving::Queue).collect();
            handle.attach(port, "input", rx, Sending::Own(nowhere))?;
            sources.push(source);
        }
    }

    let sent = || -> anyhow::Result<u64> {
        sinks.iter().try_fold(0, |sum, sink| Ok(sum + sink.stats()?.tx_packets))
    };
    let received = || counts.iter().map(|count| count.packets.load(Ordering::Relaxed)).sum::<u64>();
    thread::sleep(WARM_UP);
    let (start, received_before, sent_before) = (tsc::cycles(), received(), sent()?);
    thread::sleep(time);
    let (end, received_after, sent_after) = (tsc::cycles(), received(), sent()?);
    let (packets, left) = (received_after - received_before, sent_after - sent_before);
    ensure!(packets > 0, "no packet came through");

    for ports in all {
        let others = reasons(control, ports)?;
        ensure!(others.is_empty(), "not every packet was forwarded: {others}");
    }
    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
    let (cycles, hertz, wanted, got) =
        ((end - start) as f64, tsc::hertz() as f64, packets as f64 * copies, left as f64);
    ensure!(
        (got - wanted).abs() <= wanted * LATE + 10_000.0 * copies,
        "{packets} packets entered, and {left} frames left in place of {wanted}"
    );
    Ok(Measured { cycles, hertz, packets, left })
}

/// A CPU for each worker.
fn cpus(derived: &[u32], workers: usize) -> anyhow::Result<Vec<Option<u32>>> {
    ensure!(derived.len() >= workers, "{workers} workers need as many CPUs; there are {}", derived.len());
    Ok(derived.iter().take(workers).copied().map(Some).collect())
}

/// Starts a device.
///
/// # Errors
/// DPDK's.
pub(crate) fn open(eal: Eal, pool: &Mempool, device: &Device) -> Result<dpdk::port::Running, dpdk::Error> {
    device.probe(eal)?.configure(&PortConfig::default(), pool)?.start()
}

/// What became of packets that were not forwarded, on any port.
///
/// # Errors
/// When a port is unknown.
pub(crate) fn reasons(control: &Control, ports: &Ports) -> anyhow::Result<String> {
    let mut all = Vec::new();
    for &port in ports.inputs.iter().chain(&ports.outputs) {
        let counters = control.port_counters(port)?;
        all.extend(counters.reasons().map(|(reason, count)| format!("{} {count}", reason.name())));
    }
    Ok(all.join(", "))
}
