//! What the programs that measure a load have in common.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::{Error, Result};

/// Measures, and prints the report as JSON. `measure` gets the folder of the daemons, by default the program's own, and one for
/// logs, which is kept when it fails.
pub fn main<R: Serialize>(
    name: &str,
    binaries: Option<PathBuf>,
    measure: impl FnOnce(&Path, &Path) -> Result<R>,
) -> ExitCode {
    match run(name, binaries, measure) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run<R: Serialize>(
    name: &str,
    binaries: Option<PathBuf>,
    measure: impl FnOnce(&Path, &Path) -> Result<R>,
) -> Result<String> {
    let program = std::env::current_exe().map_err(Error::system("cannot find my own program"))?;
    let own = program.parent().map(PathBuf::from).unwrap_or_default();
    let binaries = binaries.unwrap_or(own);
    let folder = tempfile::Builder::new()
        .prefix("openpe-load-")
        .tempdir()
        .map_err(Error::system("cannot make a folder for logs"))?;
    // FRR's daemons read and write there as their own user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).map_err(Error::file("cannot open up", folder.path()))?;
    match measure(&binaries, folder.path()) {
        Ok(report) => serde_json::to_string_pretty(&report)
            .map_err(|error| Error::unexpected(format!("cannot print: {error}"))),
        Err(error) => {
            eprintln!("{name}: logs are kept in {}", folder.keep().display());
            Err(error)
        }
    }
}
