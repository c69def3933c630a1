//! `table_load`: what tables cost pe-dataplane: memory, time to take them, time to start with many VNIs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Load full tables, many VRFs and many VNIs into a pe-dataplane that is alone. Needs root; runs in namespaces of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Folder of the daemons; by default this program's own.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { binaries } = Arguments::parse();
    e2e::load::program::main("table_load", binaries, e2e::load::tables)
}
