use super::{l3vni::MAX_ROUTE_TARGETS, l3vni::check_session, selector_error};
use crate::model::{
    BridgeSpec, Failure, FieldError, HostMasterSpec, HostSessionSpec, L2VniSpec, L3PassthroughSpec,
    L3VpnSpec, Object, Reason, RoutingDomainSpec,
};

/// Checks kinds that this release does not carry, so that a mistake in them is found now, and says that they are not in
/// force.
pub(super) fn check(
    l2vnis: &[Object<L2VniSpec>],
    l3vpns: &[Object<L3VpnSpec>],
    passthroughs: &[Object<L3PassthroughSpec>],
) -> Vec<Failure> {
    let mut failures = Vec::new();
    for object in l2vnis {
        report(object, l2vni(&object.spec), &mut failures);
    }
    for object in l3vpns {
        report(object, l3vpn(&object.spec), &mut failures);
    }
    for object in passthroughs {
        report(object, session(Some(&object.spec.host_session)), &mut failures);
    }
    failures
}

fn report<T>(object: &Object<T>, errors: Vec<FieldError>, failures: &mut Vec<Failure>) {
    failures.extend(errors.into_iter().map(|error| object.fails(Reason::ValidationFailed, error)));
    let message = format!("{} is not supported by this release", object.id.kind);
    failures.push(object.fails(Reason::NotSupported, FieldError::new("", message)));
}

fn session(spec: Option<&HostSessionSpec>) -> Vec<FieldError> {
    spec.and_then(|spec| check_session(spec).err()).unwrap_or_default()
}

fn l3vpn(spec: &L3VpnSpec) -> Vec<FieldError> {
    let mut errors = selector_error(&spec.node_selector);
    errors.extend(session(spec.host_session.as_ref()));
    for (field, targets) in [("exportRTs", &spec.export_rts), ("importRTs", &spec.import_rts)] {
        if targets.len() > MAX_ROUTE_TARGETS {
            errors.push(FieldError::new(field, format!("at most {MAX_ROUTE_TARGETS} route targets")));
        }
    }
    errors
}

fn l2vni(spec: &L2VniSpec) -> Vec<FieldError> {
    let mut errors = selector_error(&spec.node_selector);
    if !spec.gateway_ips.is_empty() && spec.routing_domain.is_none() {
        errors.push(FieldError::new("gatewayIPs", "needs routingDomain"));
    }
    let v4 = spec.gateway_ips.iter().filter(|gateway| gateway.addr().is_ipv4()).count();
    if v4 > 1 || spec.gateway_ips.len() - v4 > 1 {
        errors.push(FieldError::new("gatewayIPs", "at most one address per family"));
    }
    if let Some(domain) = &spec.routing_domain {
        errors.extend(routing_domain(domain));
    }
    if let Some(master) = &spec.host_master {
        errors.extend(host_master(master));
    }
    errors
}

fn routing_domain(domain: &RoutingDomainSpec) -> Option<FieldError> {
    match (domain.r#type.as_str(), &domain.l3vni, &domain.l3vpn) {
        ("L3VNI", Some(_), None) | ("L3VPN", None, Some(_)) => None,
        _ => Some(FieldError::new(
            "routingDomain",
            "type L3VNI needs l3vni, type L3VPN needs l3vpn, and only that one",
        )),
    }
}

fn host_master(master: &HostMasterSpec) -> Option<FieldError> {
    let (field, bridge) = match (master.r#type.as_str(), &master.linux_bridge, &master.ovs_bridge) {
        ("LinuxBridge", Some(bridge), None) => ("hostMaster.linuxBridge", bridge),
        ("OVSBridge", None, Some(bridge)) => ("hostMaster.ovsBridge", bridge),
        _ => {
            let message =
                "type LinuxBridge needs linuxBridge, type OVSBridge needs ovsBridge, and only that one";
            return Some(FieldError::new("hostMaster", message));
        }
    };
    let BridgeSpec { lifecycle, name } = bridge;
    match (lifecycle.as_str(), name) {
        ("Managed", None) | ("External", Some(_)) => None,
        ("Managed" | "External", _) => {
            Some(FieldError::new(format!("{field}.name"), "is set if and only if lifecycle is External"))
        }
        _ => Some(FieldError::new(format!("{field}.lifecycle"), "must be Managed or External")),
    }
}
