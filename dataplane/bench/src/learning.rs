//! How fast new MACs are learned: from the frame that a host sends to what the dataplane tells of it, without FRR.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dataplane::learning::Learning;
use dataplane::slowpath::SlowPath;
use dataplane::topology::share;
use dataplane::trace::Tracer;
use dataplane::worker::{self, Receiving, Sending, WorkerConfig};
use dpdk::{Device, Eal, Environment, Mempool, MempoolConfig, Options, PortConfig, derive};
use forwarding::{Attachment, Control, Mac};
use serde::Serialize;

use crate::scenario::bridge;
use crate::{engine, pcap, traffic};

/// Ports that hosts come up behind, all at once. One port may have 20 000 new MACs per second, 2000 of them at once; DPDK as it
/// is packaged has 32 devices.
const PORTS: u32 = 30;
const MACS_PER_PORT: u32 = 1500;
/// It takes a second on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// New MACs, each the sender of a frame.
    pub(crate) macs: u32,
    pub(crate) ports: u32,
    /// From the first frame to the update that tells of the last of them.
    pub(crate) seconds: f64,
    /// Their ratio.
    pub(crate) macs_per_second: f64,
}

/// Runs it, in a process that has not started DPDK yet.
///
/// # Errors
/// When DPDK or a device does not start, or MACs are missing in the end.
pub(crate) fn measure() -> anyhow::Result<Report> {
    let options = Options { workers: Some(1), memory: Some(engine::MEMORY), ..Options::default() };
    let derived = derive(&Environment::detect(), &options);
    let eal = Eal::init("pe-bench", &derived.arguments)?;
    let config = MempoolConfig { buffers: 128 * 1024 - 1, ..MempoolConfig::default() };
    let pool = Mempool::create(eal, "packets", &config)?;

    let mut control = Control::new().context("cannot make the tables")?;
    let vni = bridge::add(&mut control)?;
    let mut port = |name: String| {
        let attachment = Attachment::Bridged(bridge::port(vni));
        control.port_add(forwarding::PortConfig {
            name,
            attachment,
            mac: Mac::new(traffic::OUR_MAC),
            mtu: bridge::MTU,
        })
    };
    let output = port("output".into())?;
    let inputs: Vec<_> = (0..PORTS).map(|index| port(format!("input{index}"))).collect::<Result<_, _>>()?;
    // The host that all of them talk to.
    bridge::introduce(&mut control, output, [traffic::PEER_MAC].into_iter())?;

    let engine = control.worker();
    let control = share(control);
    let slow_path = SlowPath::spawn(eal, &[])?;
    let learning = Learning::new(0)?;
    learning.run(Arc::clone(&control), slow_path.clone())?;
    let mut updates = learning.listen(&control);
    let cpu = derived.worker_cpus.first().copied();
    let worker = WorkerConfig { id: 0, cpu, idle: dataplane::config::Idle::Poll };
    let (handle, _count) =
        worker::spawn(worker, eal, engine, slow_path.sender(), &learning, &Tracer::default())?;

    let open = |device: &Device| -> Result<_, dpdk::Error> {
        device.probe(eal)?.configure(&PortConfig::default(), &pool)?.start()
    };
    let folder = tempfile::tempdir().context("cannot make a folder for captures")?;
    let (_sink, _, mut tx) = open(&Device::null("sink"))?;
    handle.attach(output, "output", Vec::new(), Sending::Own(tx.pop().context("the sink has no queue")?))?;
    let mut sources = Vec::new();
    for (index, &input) in (0..).zip(&inputs) {
        let path: PathBuf = folder.path().join(format!("{index}.pcap"));
        let hosts = index * MACS_PER_PORT..(index + 1) * MACS_PER_PORT;
        pcap::write(&path, hosts.map(|host| traffic::from_host(traffic::host_mac(host))))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let (source, rx, tx) = open(&Device::endless_pcap(&format!("source{index}"), &path))?;
        sources.push((input, source, rx, tx));
    }
    let start = Instant::now();
    let mut started = Vec::new();
    for (input, source, rx, tx) in sources {
        let nowhere = tx.into_iter().next().context("a source has no queue to send by")?;
        let rx = rx.into_iter().map(Receiving::Queue).collect();
        handle.attach(input, "input", rx, Sending::Own(nowhere))?;
        started.push(source);
    }

    let wanted = PORTS * MACS_PER_PORT;
    let mut missing: BTreeSet<_> = (0..wanted).map(|host| traffic::host_mac(host).to_vec()).collect();
    while !missing.is_empty() {
        let left = PATIENCE.saturating_sub(start.elapsed());
        ensure!(!left.is_zero(), "{} of {wanted} MACs were not learned", missing.len());
        let update = updates.blocking_recv().context("the dataplane stopped telling")?;
        for mac in update.macs.iter().filter(|mac| !mac.gone) {
            missing.remove(&mac.mac[..]);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Report { macs: wanted, ports: PORTS, seconds, macs_per_second: f64::from(wanted) / seconds })
}
