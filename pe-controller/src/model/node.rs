use ipnet::IpNet;
use serde::Deserialize;

use super::{InterfaceName, OvsSocketPath};

/// Which node this is: `node-config.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// Where the node's index comes from.
    #[serde(default)]
    pub node_index: NodeIndexSpec,
    /// The node's name in the cluster, for people: nothing is derived from it.
    #[serde(default)]
    pub node_name: Option<String>,
    /// How much is logged; absent leaves it to the command line.
    #[serde(default)]
    pub log_level: Option<LogLevel>,
    /// Where Open vSwitch's database is reached, for L2VNIs on its bridges.
    #[serde(default)]
    pub ovs_socket_path: OvsSocketPath,
}

/// Where the node's index comes from: a number, or the host part of an interface's address.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeIndexSpec {
    /// The index itself, from 0.
    #[serde(default)]
    pub index: Option<u32>,
    /// The interface whose address tells it.
    #[serde(default)]
    pub interface_name: Option<InterfaceName>,
    /// The address is the first one within this.
    #[serde(default)]
    pub cidr: Option<IpNet>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    All,
    /// Debugging.
    Debug,
    /// What happens.
    Info,
    /// What should not happen.
    Warn,
    /// What fails.
    Error,
    /// Nothing.
    None,
}
