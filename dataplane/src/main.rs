//! pe-dataplane: workers, slow path and gRPC service of the forwarding engine.

use std::io::IsTerminal;

use clap::Parser;
use dataplane::config::Config;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(terminal).with_writer(std::io::stderr).init();
    Ok(dataplane::run(&Config::parse())?)
}
