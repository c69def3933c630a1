use ipnet::{Ipv4Net, Ipv6Net};

use super::neighbor::RemoteAs;
use super::selector_error;
use super::underlay::{Underlay, reserved};
use crate::model::{
    AddressFamily, Asn, FieldError, HostSessionSpec, L3VniSpec, NetnsPath, RouteTarget, Vni, VrfName,
};

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

/// A session with the host, all rules kept: at least one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSession {
    /// The router's ASN.
    pub asn: Asn,
    /// The host's ASN.
    pub remote: RemoteAs,
    /// Pool of the link's IPv4 addresses.
    pub cidr4: Option<Ipv4Net>,
    /// Pool of the link's IPv6 addresses.
    pub cidr6: Option<Ipv6Net>,
    /// Where the host's end is placed, when not in the host's own namespace.
    pub netns: Option<NetnsPath>,
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
    let session = spec.host_session.as_ref().and_then(|session| match check_session(session) {
        Ok(session) => Some(session),
        Err(found) => {
            errors.extend(found);
            None
        }
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

/// Checks a host session. Fields of the errors are relative to the object it is part of.
pub(super) fn check_session(spec: &HostSessionSpec) -> Result<HostSession, Vec<FieldError>> {
    let mut errors = Vec::new();
    let remote = RemoteAs::from_fields(spec.host_asn, spec.host_type);
    if remote.is_none() {
        let field = if spec.host_asn.is_some() { "hostSession.hostType" } else { "hostSession.hostASN" };
        errors.push(FieldError::new(field, "set exactly one of hostASN and hostType"));
    }
    if spec.host_asn == Some(spec.asn) {
        errors.push(FieldError::new(
            "hostSession.hostASN",
            format!("{} is asn too: it must be another, or hostType Internal", spec.asn),
        ));
    }
    let pools = &spec.local_cidr;
    if pools.ipv4.is_none() && pools.ipv6.is_none() {
        errors.push(FieldError::new("hostSession.localCIDR", "set ipv4, ipv6 or both"));
    }
    match remote {
        Some(remote) if errors.is_empty() => Ok(HostSession {
            asn: spec.asn,
            remote,
            cidr4: pools.ipv4,
            cidr6: pools.ipv6,
            netns: spec.netns.clone(),
        }),
        _ => Err(errors),
    }
}

/// Says why `underlay` has no VTEP address for this L3VNI.
pub(super) fn vtep_problem(l3vni: &L3Vni, underlay: &Underlay) -> Option<String> {
    let (has4, has6) = (underlay.vtep4_cidr.is_some(), underlay.vtep6_cidr.is_some());
    match l3vni.underlay_family {
        None if !has4 && !has6 => {
            Some("the underlay has no tunnelEndpoint.cidrs, so the node has no VTEP address".to_owned())
        }
        Some(AddressFamily::Ipv4) if !has4 => {
            Some("IPv4 is asked for, but the underlay's tunnelEndpoint.cidrs has no IPv4 CIDR".to_owned())
        }
        Some(AddressFamily::Ipv6) if !has6 => {
            Some("IPv6 is asked for, but the underlay's tunnelEndpoint.cidrs has no IPv6 CIDR".to_owned())
        }
        _ => None,
    }
}
