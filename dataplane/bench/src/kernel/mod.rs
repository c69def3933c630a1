//! The same traffic between the same two veths, forwarded by the kernel of this machine and by pe-dataplane.
//!
//! What is compared is the CPU time per packet of everything that takes part, less that of the generator and the sink, which
//! is measured with a veth that leads straight from one to the other.

mod cpu;
mod frames;
mod generator;
mod lab;
mod node;
mod report;
mod tcp;

use std::{path::Path, time::Duration};

use self::{
    frames::{Direction, Service, Traffic},
    generator::Measured,
    lab::{Lab, Pe},
    node::{Access, Node},
    report::Report,
};
use crate::hugepages::Hugepages;

/// Lengths of frames without their checksum: 64 and 1400 bytes.
const LENGTHS: [usize; 2] = [60, 1396];
/// Every measurement is made so often, alternating, and the best counts: what else runs on the machine only makes it worse.
const ROUNDS: usize = 2;
/// How Linux interfaces become ports, in pe-dataplane's words.
const BACKENDS: [&str; 2] = ["af-packet", "af-xdp"];
/// 2 MiB pages of pe-dataplane.
const PAGES: u64 = 256;

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forwarder {
    Kernel,
    Engine(&'static str),
}

/// Measures all, prints tables, and writes `kernel.json` into a folder.
///
/// # Errors
/// When a lab or pe-dataplane cannot be started, or a packet comes out wrong.
pub(crate) fn run(out: &Path, time: Duration) -> anyhow::Result<()> {
    let hugepages = Hugepages::borrow(PAGES);
    if let Err(error) = &hugepages {
        eprintln!("pe-bench: without hugepages: {error}");
    }
    let mut report = Report::default();
    for round in 0..ROUNDS {
        eprintln!("pe-bench: kernel, round {} of {ROUNDS}", round + 1);
        baseline(&mut report, time)?;
        let engines = BACKENDS.map(Forwarder::Engine);
        for forwarder in [Forwarder::Kernel].into_iter().chain(engines) {
            for service in [Service::L3, Service::L2] {
                forward(&mut report, forwarder, service, time)?;
            }
        }
        for forwarder in [Forwarder::Kernel, Forwarder::Engine("auto")] {
            connect(&mut report, forwarder, time)?;
        }
    }
    report.finish();
    println!("{report}");
    Ok(crate::report::save(out, "kernel", &report)?)
}

fn baseline(report: &mut Report, time: Duration) -> anyhow::Result<()> {
    let _lab = Lab::new(Pe::Nobody)?;
    let (host, fabric) = (lab::netns("host")?, lab::netns("fabric")?);
    for traffic in [Service::L3, Service::L2].into_iter().flat_map(traffics) {
        let same = |frame: &[u8]| traffic.is_sent(frame);
        let ends = match traffic.direction {
            Direction::Encapsulation => (&host, &fabric),
            Direction::Decapsulation => (&fabric, &host),
        };
        let measured = generator::run(traffic, same, ends, &[], time)?;
        report.row(traffic).baseline.add(measured);
    }
    Ok(())
}

fn forward(
    report: &mut Report,
    forwarder: Forwarder,
    service: Service,
    time: Duration,
) -> anyhow::Result<()> {
    let (_lab, node) = start(forwarder, service, Access::Veth)?;
    if let (Forwarder::Engine(backend), Some(node)) = (forwarder, &node) {
        report.drivers.insert(backend, node.driver.clone());
    }
    let processes: Vec<u32> = node.iter().map(Node::id).collect();
    let (host, fabric) = (lab::netns("host")?, lab::netns("fabric")?);
    for traffic in traffics(service) {
        let ends = match traffic.direction {
            Direction::Encapsulation => (&host, &fabric),
            Direction::Decapsulation => (&fabric, &host),
        };
        let measured = generator::run(traffic, |frame| traffic.is_right(frame), ends, &processes, time)
            .map_err(|error| error.context(format!("{forwarder:?}: {}", traffic.name())))?;
        let row = report.row(traffic);
        let place = match forwarder {
            Forwarder::Kernel => &mut row.kernel,
            Forwarder::Engine(backend) => row.engine.entry(backend).or_default(),
        };
        place.add(measured);
    }
    Ok(())
}

/// Encapsulation first: a bridge domain learns its host by that.
fn traffics(service: Service) -> impl Iterator<Item = Traffic> {
    [Direction::Encapsulation, Direction::Decapsulation]
        .into_iter()
        .flat_map(move |direction| LENGTHS.map(|length| Traffic { service, direction, length }))
}

fn connect(report: &mut Report, forwarder: Forwarder, time: Duration) -> anyhow::Result<()> {
    let (_lab, node) = start(forwarder, Service::L3, Access::Tap)?;
    let under_mac = node.as_ref().map_or(frames::UNDER_MAC, |node| node.under_mac);
    lab::far_end(under_mac, crate::traffic::OUR_ROUTER_MAC)?;
    lab::host_session(node.is_some())?;
    if node.is_some() {
        lab::cut_segments()?;
    }
    let (out, back) = tcp::measure(time)?;
    match forwarder {
        Forwarder::Kernel => report.tcp.kernel.add(out, back),
        Forwarder::Engine(_) => report.tcp.engine.add(out, back),
    }
    Ok(())
}

fn start(forwarder: Forwarder, service: Service, access: Access) -> anyhow::Result<(Lab, Option<Node>)> {
    Ok(match forwarder {
        Forwarder::Kernel => (Lab::new(Pe::Kernel(service))?, None),
        Forwarder::Engine(backend) => {
            let lab = Lab::new(Pe::Engine)?;
            (lab, Some(Node::start(service, access, backend)?))
        }
    })
}
