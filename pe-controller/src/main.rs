//! pe-controller: from objects to FRR's configuration and the dataplane's topology.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match pe_controller::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pe-controller: {error:#}");
            ExitCode::from(2)
        }
    }
}
