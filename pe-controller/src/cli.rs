//! The command line.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::files::{Loaded, Objects, node_config, objects, read_text};
use crate::frr::Settings;
use crate::model::{Kind, LogLevel, NodeConfig, Object, ObjectRef, Source};
use crate::plan::{Machine, Plan, plan};
use crate::render::frr_config;
use crate::resolve::FrrVersion;
use crate::run::{Host, Options, run};
use crate::topology::readable;
use crate::validate::InForce;

/// Turns the objects of a provider edge into FRR's configuration and the dataplane's topology.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How much is logged: off, error, warn, info, debug or trace; default: node-config.yaml's logLevel, else info.
    #[arg(long, global = true, env = "RUST_LOG")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the files of a directory, with no cluster.
    Static(Box<StaticArgs>),
    /// Check files without touching anything.
    ///
    /// Exit status: 0 all objects are valid, 1 some are not, 2 the command is wrong.
    Validate(FilesArgs),
    /// Print the FRR configuration (passwords hidden) and the topology that files amount to.
    Render {
        #[command(flatten)]
        files: FilesArgs,
        /// Print passwords too.
        #[arg(long)]
        show_passwords: bool,
        /// Print only this part.
        #[arg(long, value_enum)]
        only: Option<Part>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Frr,
    Topology,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct StaticArgs {
    /// Holds node-config.yaml, and openpe_*.yaml in its directory configs.
    #[arg(long, default_value = "/var/lib/openperouter")]
    config_dir: PathBuf,
    /// The dataplane's socket.
    #[arg(long, default_value = dataplane_api::DEFAULT_SOCKET)]
    dataplane: PathBuf,
    /// Where the state of all objects is written as JSON; empty writes none.
    #[arg(long, default_value = "/run/openpe/controller-status.json")]
    status_file: String,
    /// The pathspace (-N) of FRR's daemons.
    #[arg(long)]
    frr_pathspace: Option<String>,
    /// Where frr.conf is written. With --frr-prefix, a path that means the same file inside.
    ///
    /// Default: frr.conf in --frr-confdir, below the pathspace.
    #[arg(long)]
    frr_config: Option<PathBuf>,
    /// frr-reload.py (Debian: package frr-pythontools).
    #[arg(long, default_value = "/usr/lib/frr/frr-reload.py")]
    frr_reload: PathBuf,
    /// The directory vtysh is in.
    #[arg(long, default_value = "/usr/bin")]
    frr_bindir: PathBuf,
    /// FRR's configuration directory, without the pathspace.
    #[arg(long, default_value = "/etc/frr")]
    frr_confdir: PathBuf,
    /// Where frr-reload.py keeps its temporary file.
    #[arg(long, default_value = "/run/frr")]
    frr_rundir: PathBuf,
    /// The directory of FRR's vty sockets, without the pathspace.
    #[arg(long, default_value = "/run/frr")]
    frr_vty_sockets: PathBuf,
    /// Put before vtysh and frr-reload.py, words separated by blanks, e.g. "chroot /srv/frr".
    #[arg(long, default_value = "")]
    frr_prefix: String,
    /// The group that may read frr.conf.
    #[arg(long, default_value = "frr")]
    frr_group: String,
}

#[derive(Debug, Args)]
struct FilesArgs {
    /// YAML files, or directories like that of `static`. A file named node-config.yaml says which node it is for.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The node's index, where no node-config.yaml is given.
    #[arg(long, default_value_t = 0)]
    node_index: u32,
    /// The version of FRR they are for, e.g. 8.4: older ones cannot do everything. Default: the newest.
    #[arg(long)]
    frr_version: Option<FrrVersion>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// When a file given by name cannot be read, or the runtime cannot be started.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Static(args) => run_static(*args, self.log),
            Command::Validate(args) => validate(&args),
            Command::Render { files, show_passwords, only } => render(&files, show_passwords, only),
        }
    }
}

fn run_static(args: StaticArgs, log: Option<String>) -> anyhow::Result<ExitCode> {
    let log = log.or_else(|| configured_log(&args.config_dir)).unwrap_or_else(|| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(log))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    // What we and frr-reload.py write may hold passwords: nothing of it is for everybody.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));

    let mut default_dir = args.frr_confdir;
    default_dir.extend(&args.frr_pathspace);
    let config = args.frr_config.unwrap_or_else(|| default_dir.join("frr.conf"));
    let config_dir = match (config.parent(), config.file_name()) {
        (Some(directory), Some(name)) if name == "frr.conf" => directory.to_owned(),
        _ => anyhow::bail!("--frr-config {}: frr-reload.py needs it to be named frr.conf", config.display()),
    };
    let options = Options {
        config_dir: args.config_dir,
        dataplane: args.dataplane,
        status_file: (!args.status_file.is_empty()).then(|| args.status_file.into()),
        frr: Settings {
            config_dir,
            pathspace: args.frr_pathspace,
            reload: args.frr_reload,
            bindir: args.frr_bindir,
            rundir: args.frr_rundir,
            vty_sockets: args.frr_vty_sockets,
            prefix: args.frr_prefix.split_whitespace().map(str::to_owned).collect(),
            group: args.frr_group,
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(run(options)).context("cannot wait for signals")?;
    // A reload that is under way runs to its end by itself.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn configured_log(config_dir: &Path) -> Option<String> {
    let path = config_dir.join("node-config.yaml");
    let config = node_config(&path, &read_text(&path).ok()?).ok()?;
    let level = match config.spec.log_level? {
        LogLevel::All => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::None => "off",
    };
    Some(level.to_owned())
}

fn validate(args: &FilesArgs) -> anyhow::Result<ExitCode> {
    let plan = plan_of(args)?;
    match args.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&plan.failures)?),
        Format::Text => {
            for failure in &plan.failures {
                println!("{failure}");
            }
            let good = plan.origins.len();
            println!("{good} objects are valid, {} problems", plan.failures.len());
        }
    }
    Ok(exit_code(&plan))
}

fn render(args: &FilesArgs, show_passwords: bool, only: Option<Part>) -> anyhow::Result<ExitCode> {
    let plan = plan_of(args)?;
    for failure in &plan.failures {
        eprintln!("{failure}");
    }
    let Some(pe) = &plan.pe else { return Ok(exit_code(&plan)) };
    let config = frr_config(pe).text;
    let config = if show_passwords { config } else { crate::frr::redact(&config) + "\n" };
    let topology = plan.topology().unwrap_or_default();
    match args.output {
        Format::Json => {
            let value = serde_json::json!({"frr": config, "topology": readable(&topology)});
            println!("{}", serde_json::to_string_pretty(&value)?);
        }
        Format::Text => {
            if only != Some(Part::Topology) {
                print!("{config}");
            }
            if only != Some(Part::Frr) {
                println!("{}", serde_json::to_string_pretty(&readable(&topology))?);
            }
        }
    }
    Ok(exit_code(&plan))
}

fn exit_code(plan: &Plan) -> ExitCode {
    if plan.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Reads the files given on the command line.
fn plan_of(args: &FilesArgs) -> anyhow::Result<Plan> {
    let mut failures = Vec::new();
    let mut all = Objects::default();
    let mut node = None;
    for path in expand(&args.files)? {
        let text = read_text(&path).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        if path.file_name().is_some_and(|name| name == "node-config.yaml") {
            match node_config(&path, &text) {
                Ok(config) => node = Some(config),
                Err(failure) => failures.push(*failure),
            }
            continue;
        }
        match objects(&path, &text) {
            Ok(Loaded { objects, failures: found }) => {
                all.append(objects);
                failures.extend(found);
            }
            Err(failure) => failures.push(*failure),
        }
    }
    let node = node.unwrap_or_else(|| given_node(args.node_index));
    let frr = args.frr_version.clone().unwrap_or_else(FrrVersion::newest);
    let machine = Machine { name: &Host::name(), interfaces: &Host::read(), frr: Some(&frr) };
    let mut plan = plan(all, &node, machine, &InForce::default());
    failures.append(&mut plan.failures);
    failures.sort();
    failures.dedup();
    plan.failures = failures;
    Ok(plan)
}

fn given_node(index: u32) -> Object<NodeConfig> {
    let mut spec = NodeConfig::default();
    spec.node_index.index = Some(index);
    Object {
        id: ObjectRef { kind: Kind::NodeConfig, name: String::new() },
        source: Source { file: PathBuf::from("--node-index"), lines: std::collections::BTreeMap::new() },
        spec,
    }
}

/// Directories become the files that `static` would read.
fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        for directory in [path.clone(), path.join("configs")] {
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries {
                let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name == "node-config.yaml" || (name.starts_with("openpe_") && name.ends_with(".yaml")) {
                    files.push(entry.path());
                }
            }
        }
    }
    files.sort();
    Ok(files)
}
