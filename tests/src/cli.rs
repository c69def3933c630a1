//! The command line, and the request that crosses into the world a lab runs in.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, demo, init, remote, scenarios, world};

#[derive(Parser)]
#[command(name = "e2e", about = "The lab, the demo and the end-to-end tests", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the end-to-end tests; arguments after `--` are libtest's (a filter, --exact, --list, --skip, ...)
    Test {
        #[command(flatten)]
        options: Options,
        /// For libtest
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Start the lab and show it working
    Demo {
        #[command(flatten)]
        options: Options,
        /// Leave the lab running, with a shell in it when there is a terminal
        #[arg(long)]
        keep: bool,
    },
    /// Run a command in a lab that is kept, e.g. `e2e exec ip netns exec n1-red ping -c 3 10.2.0.1`
    Exec {
        /// Which lab; the newest one by default
        #[arg(long)]
        lab: Option<PathBuf>,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Be the first process of the lab's world
    #[command(hide = true)]
    Init { dir: PathBuf },
    /// Carry out the request, inside the lab's world
    #[command(hide = true)]
    Inside { dir: PathBuf },
}

#[derive(clap::Args)]
struct Options {
    /// Which FRR our nodes run
    #[arg(long, env = "FRR", default_value = "8.4")]
    frr: FrrVersion,
    /// Minutes after which the lab is ended by force
    #[arg(long, default_value_t = 30)]
    minutes: u64,
}

/// The FRR releases that are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum FrrVersion {
    /// Debian 12's, as installed.
    #[value(name = "8.4")]
    V8_4,
    /// Debian 13's, in a chroot.
    #[value(name = "10.3")]
    V10_3,
    /// Debian testing's, in a chroot.
    #[value(name = "10.7")]
    V10_7,
}

impl FrrVersion {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V8_4 => "8.4",
            Self::V10_3 => "10.3",
            Self::V10_7 => "10.7",
        }
    }

    /// Where its file system is; none for the host's own.
    pub fn root(self) -> Option<PathBuf> {
        match self {
            Self::V8_4 => None,
            Self::V10_3 => Some(PathBuf::from("/var/cache/openpe/frr-10.3")),
            Self::V10_7 => Some(PathBuf::from("/var/cache/openpe/frr-10.7")),
        }
    }
}

/// What is to be done inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Run tests with libtest's arguments.
    Test(Vec<String>),
    /// Run the demo.
    Demo {
        /// And leave the lab running afterwards.
        keep: bool,
        /// With a shell on the terminal.
        shell: bool,
    },
}

/// Handed from outside to inside as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub action: Action,
    /// FRR of our nodes.
    pub frr: FrrVersion,
    /// The folder our daemons' binaries are in.
    pub binaries: PathBuf,
    /// Inside is user-mode Linux, whose first process has to mount everything.
    pub uml: bool,
}

/// Runs a command line.
///
/// # Errors
/// Whatever kept the request from being carried out; failed tests are an exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<ExitCode> {
    let cli = Cli::parse_from(args);
    match cli.command {
        Command::Test { options, args } => {
            if args.iter().any(|arg| arg == "--list" || arg == "--help") {
                return scenarios::run(None, args);
            }
            let mut args = args;
            if !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                // Inside, standard output may be a serial line, which looks like a terminal.
                args.push("--color=never".to_owned());
            }
            world::enter(options.frr, options.minutes, Action::Test(args))
        }
        Command::Demo { options, keep } => {
            let shell = keep && std::io::IsTerminal::is_terminal(&std::io::stdin());
            world::enter(options.frr, options.minutes, Action::Demo { keep, shell })
        }
        Command::Exec { lab, command } => remote::call(lab.as_deref(), &command),
        Command::Init { dir } => init::run(&dir),
        Command::Inside { dir } => inside(&dir),
    }
}

fn inside(dir: &std::path::Path) -> Result<ExitCode> {
    let request = read_request(dir)?;
    match request.action.clone() {
        Action::Test(args) => scenarios::run(Some((dir, &request)), args),
        Action::Demo { keep, shell } => demo::run(dir, &request, keep, shell),
    }
}

/// Reads the request back.
///
/// # Errors
/// When it is missing or not what this program wrote.
pub fn read_request(dir: &std::path::Path) -> Result<Request> {
    let path = dir.join("request.json");
    let text = std::fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
    serde_json::from_str(&text).map_err(|error| Error::unexpected(format!("{}: {error}", path.display())))
}
