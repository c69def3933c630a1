use ipnet::{Ipv4Net, Ipv6Net};

use super::neighbor::RemoteAs;
use crate::model::{Asn, FieldError, HostSessionSpec, NetnsPath};

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

/// Checks a host session. Fields of the errors are relative to the object it is part of.
pub(super) fn check(spec: &HostSessionSpec) -> Result<HostSession, Vec<FieldError>> {
    let mut errors = Vec::new();
    let remote = RemoteAs::from_fields(spec.host_asn, spec.host_type);
    if remote.is_none() {
        let field = if spec.host_asn.is_some() { "hostSession.hostType" } else { "hostSession.hostASN" };
        errors.push(FieldError::new(field, "set exactly one of hostASN and hostType"));
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

/// In a VRF the host's ASN as a number means another one than the router's. In the default VRF the API has no such rule.
pub(super) fn same_asn(spec: &HostSessionSpec) -> Option<FieldError> {
    (spec.host_asn == Some(spec.asn)).then(|| {
        let message = format!("{} is asn too: it must be another, or hostType Internal", spec.asn);
        FieldError::new("hostSession.hostASN", message)
    })
}
