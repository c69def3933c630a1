//! What the names in a trace's expression mean.

use super::{Attachment, Control};
use crate::trace::{Filter, FilterError, Scope};

/// IANA's VXLAN port: what is sent to it is looked into even while no VNI of ours uses it.
const VXLAN_PORT: u16 = 4789;

impl Control {
    /// Parses an expression that says which packets to catch. Ports and L2VNIs are those of now.
    ///
    /// # Errors
    /// With the place that is not understood, and what was expected there.
    pub fn filter(&self, expression: &str) -> Result<Filter, FilterError> {
        let received = self.ports.iter().filter(|(_, port)| port.svi.is_none());
        let mut scope = Scope::default();
        for (&id, port) in received {
            scope.ports.insert(port.config.name.clone(), id);
            if let Attachment::Bridged(bridge) = port.config.attachment {
                scope.domains.insert(id, bridge.vni);
            }
        }
        scope.udp_ports = self.node.udp_ports.into_iter().filter(|&port| port != 0).collect();
        scope.udp_ports.push(VXLAN_PORT);
        Filter::parse(expression, &scope)
    }
}
