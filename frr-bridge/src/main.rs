//! frr-bridge: translates FRR's routes into the dataplane's FIB and the topology into shadow devices.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use frr_bridge::config::Config;
use frr_bridge::run;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = Config::parse();
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frr-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("--log {}", config.log))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    if !config.router_netns.as_os_str().is_empty() {
        run::enter_namespace(&config.router_netns)?;
    }
    // Threads are made after the namespace has been entered, so that all are in it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(run::run(config));
    // A dump that is still under way need not be waited for.
    runtime.shutdown_background();
    Ok(outcome?)
}
