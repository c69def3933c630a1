//! `pe-bench`: what the engine costs per packet, against testpmd in io mode in the same run.
//!
//! Every scenario runs in a process of its own (DPDK can be started once per process): the production worker polls a
//! `net_pcap` source that never ends, and sends to `net_null`. testpmd does the same with the same capture and
//! without looking at the packets; what is left after subtracting its cycles is forwarding.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};

mod bars;
mod changes;
mod engine;
mod floor;
mod hugepages;
mod kernel;
mod learning;
mod memory;
mod pcap;
mod report;
mod run;
mod scenario;
mod traffic;
mod verify;

use hugepages::Hugepages;
use run::{Run, by_name};

/// 2 MiB pages for one process at a time, and some to spare.
pub(crate) const PAGES: u64 = 640;

/// Cycles per packet of the engine, by scenario.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure scenarios, print tables, and write a JSON file for each.
    Run {
        /// Which; all when none is named.
        names: Vec<String>,
        /// Folder of the JSON files.
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
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
    /// How long changes of tables take while a worker forwards, as JSON: one route of a full table, and the next hop of all.
    Changes,
    /// Hold what is in a folder of JSON files, of `make bench`, against its bars.
    Bars {
        /// The folder.
        #[arg(default_value = "target/bench")]
        folder: PathBuf,
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
    /// One scenario, in this process; prints what was measured as JSON.
    #[command(hide = true)]
    One { name: String, seconds: u64, captures: Vec<PathBuf> },
    /// One scenario from two ports, likewise.
    #[command(hide = true)]
    Twice { name: String, workers: usize, seconds: u64, captures: Vec<PathBuf> },
    /// What becomes of every frame of one scenario, likewise.
    #[command(hide = true)]
    Check { name: String },
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
        What::List => {
            scenario::ALL.iter().for_each(|scenario| println!("{}", scenario.name));
            println!("{}", run::WORKERS);
        }
        What::Kernel { out, milliseconds } => kernel::run(&out, Duration::from_millis(milliseconds))?,
        What::Changes => println!("{}", serde_json::to_string(&changes::measure()?)?),
        What::Bars { folder } => println!("{}", bars::table(&folder)?),
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
        What::One { name, seconds, captures } => {
            let measured = engine::measure(by_name(&name)?, &captures, Duration::from_secs(seconds))?;
            println!("{}", serde_json::to_string(&measured)?);
        }
        What::Twice { name, workers, seconds, captures } => {
            let time = Duration::from_secs(seconds);
            let measured = engine::measure_twice(by_name(&name)?, &captures, workers, time)?;
            println!("{}", serde_json::to_string(&measured)?);
        }
        What::Check { name } => {
            println!("{}", serde_json::to_string(&verify::through_the_worker(by_name(&name)?)?)?);
        }
        What::Run { names, out, seconds, no_huge } => {
            Run { out, time: Duration::from_secs(seconds), no_huge }.measure(&names)?;
        }
    }
    Ok(())
}
