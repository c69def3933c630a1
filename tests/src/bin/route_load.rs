//! `route_load`: how many routes per second go from a BGP peer into the dataplane.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Announce a table to a node's bgpd and time its way into the dataplane. Needs root; runs in namespaces of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many /24s.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    routes: u32,
    /// The best of so many rounds counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Folder of the daemons; by default this program's own.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { routes, rounds, binaries } = Arguments::parse();
    e2e::load::program::main("route_load", binaries, |binaries, logs| {
        e2e::load::routes(routes, rounds, binaries, logs)
    })
}
