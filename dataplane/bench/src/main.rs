//! `pe-bench`: what the engine costs per packet, against testpmd in io mode in the same run.
//!
//! Every scenario runs in a process of its own (DPDK can be started once per process): the production worker polls a
//! `net_pcap` source that never ends, and sends to `net_null`. testpmd then does the same with the same capture and
//! without looking at the packets; what is left after subtracting its cycles is forwarding.
#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

mod engine;
mod floor;
mod hugepages;
mod kernel;
mod learning;
mod memory;
mod pcap;
mod report;
mod scenario;
mod traffic;
mod verify;

use hugepages::Hugepages;
use report::Figures;
use scenario::Scenario;

/// 2 MiB pages for one process at a time, and some to spare.
const PAGES: u64 = 640;

/// Cycles per packet of the engine, by scenario.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure scenarios, print a table, and write a JSON file for each.
    Run {
        /// Which; all when none is named.
        names: Vec<String>,
        /// Folder of the JSON files.
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
        /// Do without hugepages.
        #[arg(long)]
        no_huge: bool,
    },
    /// List the scenarios.
    List,
    /// The kernel's forwarding against the engine's between the same veths, and TCP through both.
    Kernel {
        /// Folder of the JSON file.
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
        /// Milliseconds of each measurement.
        #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(100..=60_000))]
        milliseconds: u64,
    },
    /// New MACs per second, as JSON: from their frames to what the dataplane tells of them.
    Learning,
    /// One scenario without DPDK, frames in memory: nanoseconds per packet of the fastest round. For profilers, as
    /// `valgrind --tool=callgrind pe-bench memory l2-1mac`.
    Memory {
        name: String,
        /// How many times each of the 16 384 flows is forwarded.
        #[arg(default_value_t = 100)]
        rounds: u32,
    },
    /// Put the JSON object on standard input under a key of the object in a file, beside its other keys.
    #[command(hide = true)]
    Merge { key: String, file: PathBuf },
    /// One scenario, in this process; prints its figures as JSON.
    #[command(hide = true)]
    One { name: String, capture: PathBuf, seconds: u64 },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pe-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: What) -> anyhow::Result<()> {
    match command {
        What::List => scenario::ALL.iter().for_each(|scenario| println!("{}", scenario.name)),
        What::Kernel { out, milliseconds } => kernel::run(&out, Duration::from_millis(milliseconds))?,
        What::Learning => {
            let _hugepages = Hugepages::borrow(PAGES);
            // On one line: DPDK's drivers print as they please before it.
            println!("{}", serde_json::to_string(&learning::measure()?)?);
        }
        What::Memory { name, rounds } => println!("{:.2} ns", memory::run(by_name(&name)?, rounds)?),
        What::Merge { key, file } => {
            let value = serde_json::from_reader(std::io::stdin()).context("no JSON on standard input")?;
            report::merge(&file, &key, value)
                .with_context(|| format!("cannot merge into {}", file.display()))?;
        }
        What::One { name, capture, seconds } => {
            let figures = engine::measure(by_name(&name)?, &capture, Duration::from_secs(seconds))?;
            println!("{}", serde_json::to_string(&figures)?);
        }
        What::Run { names, out, seconds, no_huge } => {
            let scenarios = if names.is_empty() {
                scenario::ALL.to_vec()
            } else {
                names.iter().map(|name| by_name(name)).collect::<anyhow::Result<_>>()?
            };
            measure_all(&scenarios, &out, Duration::from_secs(seconds), no_huge)?;
        }
    }
    Ok(())
}

fn by_name(name: &str) -> anyhow::Result<Scenario> {
    Scenario::by_name(name)
        .with_context(|| format!("there is no scenario \"{name}\"; `pe-bench list` names them"))
}

fn measure_all(scenarios: &[Scenario], out: &Path, time: Duration, no_huge: bool) -> anyhow::Result<()> {
    let _hugepages = if no_huge {
        None
    } else {
        Hugepages::borrow(PAGES).inspect_err(|error| eprintln!("pe-bench: without hugepages: {error}")).ok()
    };
    let memory: Vec<String> = match _hugepages {
        Some(_) => vec!["--in-memory".to_owned(), "-m".to_owned(), engine::MEMORY.to_string()],
        // Which EAL 22.11 refuses together with --in-memory.
        None => ["--no-shconf", "--no-huge", "-m", &engine::MEMORY.to_string()].map(str::to_owned).to_vec(),
    };
    let folder = tempfile::tempdir().context("cannot make a folder for captures")?;
    let mut all = Vec::new();
    for scenario in scenarios {
        eprintln!("pe-bench: {}", scenario.name);
        let capture = folder.path().join(scenario.name).with_extension("pcap");
        pcap::write(&capture, scenario.frames())
            .with_context(|| format!("cannot write {}", capture.display()))?;
        let floor = floor::measure(&capture, &memory, engine::BURST, time)?;
        let mut figures = in_child(*scenario, &capture, time)?;
        figures.cycles_forwarding = figures.cycles_total - floor.cycles;
        report::save(out, scenario.name, &figures)?;
        if all.is_empty() {
            all.push(floor_figures(floor, out)?);
        }
        all.push(figures);
    }
    println!("{}", report::table(&all));
    Ok(())
}

/// The floor is a row too: that of the first capture, the shortest frames.
fn floor_figures(floor: floor::Floor, out: &Path) -> anyhow::Result<Figures> {
    let figures = Figures {
        name: "floor".to_owned(),
        mpps: floor.megahertz / floor.cycles,
        cycles_total: floor.cycles,
        cycles_forwarding: 0.0,
        packets: floor.packets,
        copies: None,
        cycles_per_copy: None,
    };
    report::save(out, "floor", &figures)?;
    Ok(figures)
}

fn in_child(scenario: Scenario, capture: &Path, time: Duration) -> anyhow::Result<Figures> {
    let program = std::env::current_exe().context("cannot find my own program")?;
    let output = Command::new(program)
        .args(["one", scenario.name])
        .arg(capture)
        .arg(time.as_secs().to_string())
        .output()
        .context("cannot start a process for the measurement")?;
    if !output.status.success() {
        bail!("{}: {}", scenario.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    // DPDK's drivers print as they please; the figures are the last line.
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().context("the measurement printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("cannot read figures from {line:?}"))
}
