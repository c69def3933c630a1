use serde::Deserialize;

use super::{HostSessionSpec, LabelSelector};

/// A session with the host in the default VRF: the host's prefixes go to the fabric without encapsulation, and the
/// fabric's to the host. A node has at most one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L3PassthroughSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// The session. Its `asn` is not looked at: the default VRF has the underlay's.
    pub host_session: HostSessionSpec,
}
