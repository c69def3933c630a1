//! `route_load`: how many routes per second go from a BGP peer into the dataplane.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Announce a table to a node's bgpd and time its way into the dataplane. Needs root; runs in namespaces of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many /24s.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    routes: u32,
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
            eprintln!("route_load: {error}");
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
    match e2e::load::routes(arguments.routes, &binaries, folder.path()) {
        Ok(report) => serde_json::to_string_pretty(&report)
            .map_err(|error| e2e::Error::unexpected(format!("cannot print: {error}"))),
        Err(error) => {
            eprintln!("route_load: logs are kept in {}", folder.keep().display());
            Err(error)
        }
    }
}
