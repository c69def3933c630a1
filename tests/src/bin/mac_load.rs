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
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mac_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> e2e::Result<String> {
    let program = std::env::current_exe().map_err(e2e::Error::system("cannot find my own program"))?;
    let own = program.parent().map(PathBuf::from).unwrap_or_default();
    let binaries = arguments.binaries.clone().unwrap_or(own);
    let folder = tempfile::Builder::new()
        .prefix("openpe-load-")
        .tempdir()
        .map_err(e2e::Error::system("cannot make a folder for logs"))?;
    // FRR's daemons read and write there as their own user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open)
        .map_err(e2e::Error::file("cannot open up", folder.path()))?;
    match e2e::load::macs(arguments.macs, &binaries, folder.path()) {
        Ok(report) => serde_json::to_string_pretty(&report)
            .map_err(|error| e2e::Error::unexpected(format!("cannot print: {error}"))),
        Err(error) => {
            eprintln!("mac_load: logs are kept in {}", folder.keep().display());
            Err(error)
        }
    }
}
