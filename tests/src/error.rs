//! What goes wrong in a lab.

use std::io;
use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the lab, or a condition of a test that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written or opened.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried, e.g. "cannot read".
        what: &'static str,
        /// Of which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be started, or reported failure.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status or reason.
        status: String,
        /// What it printed on both channels.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("gave up after {seconds} s waiting for {what}: {last}")]
    Timeout {
        /// How long it was waited for.
        seconds: u64,
        /// What for.
        what: String,
        /// What was seen last.
        last: String,
    },
    /// What was seen is not what must be.
    #[error("{0}")]
    Unexpected(String),
    /// The dataplane's gRPC refused or could not be reached.
    #[error("gRPC to {socket}: {reason}")]
    Rpc {
        /// The socket.
        socket: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// An [`Error::Unexpected`].
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::Unexpected(message.into())
    }

    /// A closure for `map_err` on a file operation.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// A closure for `map_err` on a system call.
    pub fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::System { what, source: source.into() }
    }
}
