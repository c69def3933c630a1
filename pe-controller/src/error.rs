use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::frr::Complaint;

/// What the controller cannot do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A command cannot be started.
    #[error("cannot run {command}: {source}; is it installed?")]
    Start {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A command did not end.
    #[error("{command} did not end within {} s and was stopped", limit.as_secs())]
    Stuck {
        /// The command.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// A daemon of FRR is not there.
    #[error("FRR's {daemon} is not running: there is no socket {}; start it, or say where FRR's sockets are", socket.display())]
    NotRunning {
        /// The daemon.
        daemon: &'static str,
        /// Its socket.
        socket: PathBuf,
    },
    /// FRR does not tell its version.
    #[error("cannot read FRR's version with {command}: {output}")]
    Version {
        /// The command.
        command: String,
        /// What it said instead.
        output: String,
    },
    /// FRR refuses lines that no raw object contributed.
    #[error("FRR refuses its configuration: {}", join(.0))]
    Refused(Vec<Complaint>),
    /// A command failed without saying which line is wrong.
    #[error("{command} failed ({status}): {output}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said, passwords removed.
        output: String,
    },
    /// The dataplane cannot be reached.
    #[error(transparent)]
    Connect(#[from] dataplane_api::ConnectError),
    /// The dataplane refuses the topology as a whole.
    #[error("the dataplane refuses the topology: {0}")]
    Apply(#[from] Box<tonic::Status>),
}

fn join(complaints: &[Complaint]) -> String {
    complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
