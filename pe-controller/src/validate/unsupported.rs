use super::{l3vni::MAX_ROUTE_TARGETS, selector_error, session};
use crate::model::{Failure, FieldError, L3VpnSpec, Object, Reason};

/// Checks kinds that this release does not carry, so that a mistake in them is found now, and says that they are not in
/// force.
pub(super) fn check(l3vpns: &[Object<L3VpnSpec>]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for object in l3vpns {
        let errors = l3vpn(&object.spec);
        failures.extend(errors.into_iter().map(|error| object.fails(Reason::ValidationFailed, error)));
        let message = format!("{} is not supported by this release", object.id.kind);
        failures.push(object.fails(Reason::NotSupported, FieldError::new("", message)));
    }
    failures
}

fn l3vpn(spec: &L3VpnSpec) -> Vec<FieldError> {
    let mut errors = selector_error(&spec.node_selector);
    if let Some(session) = &spec.host_session {
        errors.extend(session::same_asn(session));
        errors.extend(session::check(session).err().unwrap_or_default());
    }
    for (field, targets) in [("exportRTs", &spec.export_rts), ("importRTs", &spec.import_rts)] {
        if targets.len() > MAX_ROUTE_TARGETS {
            errors.push(FieldError::new(field, format!("at most {MAX_ROUTE_TARGETS} route targets")));
        }
    }
    errors
}
