//! pe-dataplane: workers, slow path and gRPC service of the forwarding engine.

use clap::Parser;
use dataplane::config::Config;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(dataplane::run(&Config::parse())?)
}
