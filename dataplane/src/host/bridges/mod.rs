//! Bridges of the host that TAPs are put into.

/// Where ovsdb-server listens unless told otherwise.
pub const DEFAULT_OVSDB: &str = "/var/run/openvswitch/db.sock";

/// What kind of bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BridgeKind {
    /// The kernel's.
    Linux,
    /// Open vSwitch's.
    Ovs {
        /// ovsdb-server's socket.
        socket: String,
    },
}

/// A bridge of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostBridge {
    /// What kind.
    pub kind: BridgeKind,
    /// Its name.
    pub name: String,
    /// Made when it is missing, and removed when no port is in it any more.
    pub managed: bool,
}
