//! `mac_load`: how many new MACs per second become type-2 routes at a BGP peer.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Let hosts appear on a bridged port of a node and time their way to another FRR. Needs root; runs in namespaces of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many; a port has 8192 at most.
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1..=8_192))]
    macs: u32,
    /// Folder of the daemons; by default this program's own.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { macs, binaries } = Arguments::parse();
    e2e::load::program::main("mac_load", binaries, |binaries, logs| e2e::load::macs(macs, binaries, logs))
}
