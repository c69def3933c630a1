use super::selector_error;
use super::session::{self, HostSession};
use super::underlay::reserved;
use crate::model::{AddressFamily, FieldError, L3VniSpec, RouteTarget, Vni, VrfName};

/// Most route targets in each direction.
pub(super) const MAX_ROUTE_TARGETS: usize = 100;

/// A VRF carried by EVPN, all rules kept.
#[derive(Debug, Clone, PartialEq)]
pub struct L3Vni {
    /// The VRF's name.
    pub vrf: VrfName,
    /// Its number on the wire.
    pub vni: Vni,
    /// UDP port of its VXLAN packets.
    pub vxlan_port: u32,
    /// Which of the node's VTEP addresses it uses; none prefers IPv4.
    pub underlay_family: Option<AddressFamily>,
    /// Sorted, each once; none leaves them to FRR.
    pub export_rts: Vec<RouteTarget>,
    /// Sorted, each once; none leaves them to FRR.
    pub import_rts: Vec<RouteTarget>,
    /// The session with the host.
    pub session: Option<HostSession>,
}

/// Checks an L3VNI by itself.
///
/// # Errors
/// Every rule that is broken.
pub(super) fn check(spec: &L3VniSpec) -> Result<L3Vni, Vec<FieldError>> {
    let mut errors = selector_error(&spec.node_selector);
    for (field, targets) in [("exportRTs", &spec.export_rts), ("importRTs", &spec.import_rts)] {
        if targets.len() > MAX_ROUTE_TARGETS {
            let message = format!("at most {MAX_ROUTE_TARGETS} route targets, here are {}", targets.len());
            errors.push(FieldError::new(field, message));
        }
    }
    if let Some(message) = reserved(spec.vrf.as_str()) {
        errors.push(FieldError::new("vrf", message));
    }
    let session = spec.host_session.as_ref().and_then(|session| {
        errors.extend(session::same_asn(session));
        session::check(session).map_err(|found| errors.extend(found)).ok()
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(L3Vni {
        vrf: spec.vrf.clone(),
        vni: spec.vni,
        vxlan_port: spec.vxlan_port.value(),
        underlay_family: spec.underlay_address_family,
        export_rts: sorted(&spec.export_rts),
        import_rts: sorted(&spec.import_rts),
        session,
    })
}

fn sorted(targets: &[RouteTarget]) -> Vec<RouteTarget> {
    let mut targets = targets.to_vec();
    targets.sort();
    targets.dedup();
    targets
}
