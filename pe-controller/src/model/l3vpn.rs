use serde::Deserialize;

use super::{HostSessionSpec, Int, LabelSelector, RouteTarget, VrfName};

/// A VRF carried by SRv6. This release reads and checks it, and then says that it does not carry it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L3VpnSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// The VRF's name on the node.
    pub vrf: VrfName,
    /// Route targets of routes taken in.
    #[serde(rename = "importRTs")]
    pub import_rts: Vec<RouteTarget>,
    /// Route targets put on routes.
    #[serde(default, rename = "exportRTs")]
    pub export_rts: Vec<RouteTarget>,
    /// The assigned number of its route distinguisher.
    pub rd_assigned_number: Int<1, 65535>,
    /// The session with the host.
    #[serde(default)]
    pub host_session: Option<HostSessionSpec>,
}
