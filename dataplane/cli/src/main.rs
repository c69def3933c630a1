//! pectl: the operator's command line for the dataplane.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod cli;
mod command;
mod decode;
mod error;
mod output;
mod text;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match command::run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pectl: {error}");
            error.exit_code()
        }
    }
}
