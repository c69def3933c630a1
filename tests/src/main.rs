//! `e2e`: the lab, the demo and the end-to-end tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    match e2e::cli::run(std::env::args_os()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::from(1)
        }
    }
}
