//! The measured loop: the production worker, polling, between an endless capture and a sink.

use std::{path::Path, sync::atomic::Ordering, thread, time::Duration};

use anyhow::{Context, ensure};
use dataplane::learning::Learning;
use dataplane::slowpath::SlowPath;
use dataplane::worker::{self, Receiving, Sending, WorkerConfig, WorkerCount};
use dpdk::{Device, Eal, Environment, Mempool, MempoolConfig, Options, PortConfig, derive, tsc};
use forwarding::Control;

use crate::{report::Figures, scenario::Scenario};

/// Packets at once, as the worker takes them: the floor is measured with the same.
pub(crate) const BURST: usize = 64;
/// What a run of this size needs, MB: buffers for the capture, its copies, and the tables of DPDK.
pub(crate) const MEMORY: u64 = 1024;
/// Caches, branch predictors and tables settle in this time.
const WARM_UP: Duration = Duration::from_secs(1);

/// Runs `scenario` on `capture` for `time`, on a CPU of its own where there are two. The figures are without floor yet.
///
/// # Errors
/// When DPDK or a device does not start, or the engine did anything but forward every packet.
pub(crate) fn measure(scenario: Scenario, capture: &Path, time: Duration) -> anyhow::Result<Figures> {
    let options = Options { workers: Some(1), memory: Some(MEMORY), ..Options::default() };
    let derived = derive(&Environment::detect(), &options);
    let eal = Eal::init("pe-bench", &derived.arguments)?;
    let config = MempoolConfig { buffers: 64 * 1024 - 1, ..MempoolConfig::default() };
    let pool = Mempool::create(eal, "packets", &config)?;
    let open = |device: &Device| -> Result<_, dpdk::Error> {
        device.probe(eal)?.configure(&PortConfig::default(), &pool)?.start()
    };
    let (_source, rx, unused) = open(&Device::endless_pcap("source", capture))?;
    let (_sink, _, mut tx) = open(&Device::null("sink"))?;

    let mut control = Control::new().context("cannot make the tables")?;
    let ports = scenario.set_up(&mut control)?;
    let slow_path = SlowPath::spawn(eal, &[])?;
    let cpu = derived.worker_cpus.first().copied();
    let worker = WorkerConfig { id: 0, cpu, idle: dataplane::config::Idle::Poll };
    let (handle, count) =
        worker::spawn(worker, eal, control.worker(), slow_path.sender(), &Learning::new(0)?)?;
    let sink = tx.pop().context("the sink has no queue")?;
    let nowhere = unused.into_iter().next().context("the source has no queue to send by")?;
    handle.attach(ports.output, "output", Vec::new(), Sending::Own(sink))?;
    let rx = rx.into_iter().map(Receiving::Queue).collect();
    handle.attach(ports.input, "input", rx, Sending::Own(nowhere))?;

    thread::sleep(WARM_UP);
    let (start, packets_before) = now(&count);
    thread::sleep(time);
    let (end, packets_after) = now(&count);
    let packets = packets_after - packets_before;
    ensure!(packets > 0, "no packet came through");

    let counters = control.port_counters(ports.input)?;
    let others: Vec<_> =
        counters.reasons().map(|(reason, count)| format!("{} {count}", reason.name())).collect();
    ensure!(others.is_empty(), "not every packet was forwarded: {}", others.join(", "));
    ensure!(counters.forwarded > 0, "nothing was forwarded");

    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
    let (cycles, packets_f, hertz) = ((end - start) as f64, packets as f64, tsc::hertz() as f64);
    let cycles_total = cycles / packets_f;
    Ok(Figures {
        name: scenario.name.to_owned(),
        mpps: hertz / cycles_total / 1e6,
        cycles_total,
        cycles_forwarding: cycles_total,
        packets,
    })
}

fn now(count: &WorkerCount) -> (u64, u64) {
    (tsc::cycles(), count.packets.load(Ordering::Relaxed))
}
