//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// An error of pe-dataplane. Its text names the object and what to do where that is not obvious.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A network namespace.
    #[error("cannot {doing} the network namespace {}: {source}", path.display())]
    Netns {
        /// What was tried.
        doing: &'static str,
        /// Where it is bound.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A TAP device.
    #[error("cannot {doing} TAP {name}: {source}")]
    Tap {
        /// What was tried.
        doing: &'static str,
        /// The device.
        name: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A netlink socket could not be opened.
    #[error("cannot open a netlink socket: {source}")]
    NetlinkSocket {
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("cannot {doing} {object}: {source}")]
    Netlink {
        /// What was tried.
        doing: &'static str,
        /// The link.
        object: String,
        /// The kernel's answer.
        source: Box<rtnetlink::Error>,
    },
    /// An interface that a port needs does not exist.
    #[error("there is no interface {interface} in the host's namespace; it is taken over when it appears")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// A VRF that a port or VNI needs has not been made.
    #[error("VRF {name} does not exist yet")]
    NoVrf {
        /// Its name.
        name: String,
    },
    /// More addresses than can be remembered.
    #[error("interface {interface} has {count} addresses, which its alias cannot hold; remove some")]
    TooManyAddresses {
        /// Its name.
        interface: String,
        /// How many it has.
        count: usize,
    },
    /// DPDK refused.
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    /// The forwarding tables refused.
    #[error(transparent)]
    Forwarding(#[from] forwarding::Error),
    /// There is no memory for the forwarding tables.
    #[error("cannot make the forwarding tables: {error}")]
    Tables {
        /// Why.
        error: String,
    },
    /// A worker has ended.
    #[error("worker {worker} does not answer")]
    Worker {
        /// Its number.
        worker: usize,
    },
    /// The slow path's thread has ended.
    #[error("the slow path does not answer")]
    SlowPath,
    /// The unix socket could not be served.
    #[error("cannot {doing} the socket {}: {source}", path.display())]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No such group.
    #[error("there is no group {group} on this machine; name another by --socket-group")]
    NoGroup {
        /// Its name.
        group: String,
    },
    /// Anything else of the operating system.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn netlink(doing: &'static str, object: &str, source: rtnetlink::Error) -> Self {
        Self::Netlink { doing, object: object.to_owned(), source: Box::new(source) }
    }

    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}
