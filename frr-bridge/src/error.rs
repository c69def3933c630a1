//! What can go wrong: one enum for messages that cannot be read, one for the process.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A netlink or FPM message that cannot be read. It is counted and skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than its fixed part.
    #[error("{what} needs {need} bytes, has {have}")]
    Truncated {
        /// The part.
        what: &'static str,
        /// Bytes it takes.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A length field that points outside.
    #[error("{what} claims {length} bytes where {have} are left")]
    Length {
        /// The part.
        what: &'static str,
        /// Its length field.
        length: usize,
        /// Bytes there are.
        have: usize,
    },
    /// An attribute of an impossible size.
    #[error("{what} has {size} bytes")]
    Size {
        /// The attribute.
        what: &'static str,
        /// Its size.
        size: usize,
    },
    /// An attribute without which the message means nothing.
    #[error("{what} is missing")]
    Missing {
        /// The attribute.
        what: &'static str,
    },
    /// A prefix longer than its address.
    #[error("prefix length {length} is too long for {destination}")]
    PrefixLength {
        /// The address.
        destination: IpAddr,
        /// The length.
        length: u8,
    },
    /// A destination of another family than the header says.
    #[error("destination contradicts address family {family}")]
    Family {
        /// The header's family.
        family: u8,
    },
    /// An FPM frame of a version or type that is not ours; the stream cannot be followed any further.
    #[error(
        "FPM frame of version {version}, type {kind}, length {length}: not netlink (is zebra run with -M dplane_fpm_nl?)"
    )]
    Frame {
        /// First byte.
        version: u8,
        /// Second byte.
        kind: u8,
        /// Length field.
        length: u16,
    },
}

/// What keeps frr-bridge from starting or from reaching the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The router's network namespace cannot be entered.
    #[error("cannot enter network namespace {}: {source}; it must exist (ip netns add), and CAP_SYS_ADMIN is needed", path.display())]
    Namespace {
        /// Path of the namespace.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The FPM port is taken or not ours to take.
    #[error(
        "cannot listen for zebra's FPM connection on {address}: {source}; is another frr-bridge running in this namespace?"
    )]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A netlink socket failed.
    #[error("netlink: cannot {doing}: {source}")]
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a dump.
    #[error("netlink: the kernel refused to {doing}: {source}")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// Its errno.
        source: io::Error,
    },
}
