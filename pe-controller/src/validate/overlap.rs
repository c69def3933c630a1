use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{HostSession, L3Vni, Underlay};
use crate::model::{Failure, FieldError, Object, ObjectRef, Reason};

/// Takes out of `l3vnis`, the preferred ones first, every one that conflicts with an earlier one, with the underlay, or
/// with `passthrough`, which carries traffic already.
pub(super) fn drop_conflicts(
    l3vnis: &mut Vec<Object<L3Vni>>,
    underlay: Option<&Object<Underlay>>,
    passthrough: Option<&Object<HostSession>>,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut kept: Vec<Object<L3Vni>> = Vec::with_capacity(l3vnis.len());
    for object in l3vnis.drain(..) {
        let conflict = underlay
            .and_then(|underlay| port_conflict(&object, underlay))
            .or_else(|| {
                let passthrough = passthrough?;
                session_conflict(object.spec.session.as_ref()?, &passthrough.spec, &passthrough.id)
            })
            .or_else(|| kept.iter().find_map(|earlier| conflict(&object, earlier)));
        match conflict {
            Some(error) => failures.push(object.fails(Reason::ValidationFailed, error)),
            None => kept.push(object),
        }
    }
    *l3vnis = kept;
    failures
}

/// Says why the link of `passthrough` cannot be there beside those of `l3vnis`.
pub(super) fn passthrough_conflict(
    passthrough: &HostSession,
    l3vnis: &[Object<L3Vni>],
) -> Option<FieldError> {
    l3vnis.iter().find_map(|l3vni| session_conflict(passthrough, l3vni.spec.session.as_ref()?, &l3vni.id))
}

/// The VRF's device and the port's shadow live in one namespace.
fn port_conflict(object: &Object<L3Vni>, underlay: &Object<Underlay>) -> Option<FieldError> {
    let vrf = object.spec.vrf.as_str();
    underlay.spec.ports.iter().any(|port| port.name.as_str() == vrf).then(|| {
        FieldError::new("vrf", format!("{vrf} is the name of an underlay interface too: choose another"))
    })
}

fn conflict(object: &Object<L3Vni>, earlier: &Object<L3Vni>) -> Option<FieldError> {
    let (new, old) = (&object.spec, &earlier.spec);
    let used_by = |value: &dyn std::fmt::Display| format!("{value} is used by {} already", earlier.id);
    if object.id == earlier.id {
        return Some(FieldError::new("name", used_by(&object.id.name)));
    }
    if new.vni == old.vni {
        return Some(FieldError::new("vni", used_by(&new.vni)));
    }
    if new.vrf == old.vrf {
        return Some(FieldError::new("vrf", used_by(&new.vrf)));
    }
    session_conflict(new.session.as_ref()?, old.session.as_ref()?, &earlier.id)
}

/// Pools of links differ whatever VRF they are in: all their host ends may be in one namespace.
fn session_conflict(new: &HostSession, old: &HostSession, owner: &ObjectRef) -> Option<FieldError> {
    let overlap = |pool: IpNet, other: IpNet| format!("{pool} overlaps {other} of {owner}");
    if let (Some(pool), Some(other)) = (new.cidr4, old.cidr4)
        && overlap4(pool, other)
    {
        return Some(FieldError::new("hostSession.localCIDR.ipv4", overlap(pool.into(), other.into())));
    }
    if let (Some(pool), Some(other)) = (new.cidr6, old.cidr6)
        && overlap6(pool, other)
    {
        return Some(FieldError::new("hostSession.localCIDR.ipv6", overlap(pool.into(), other.into())));
    }
    None
}

fn overlap4(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn overlap6(a: Ipv6Net, b: Ipv6Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Two pools overlap exactly if their ranges of addresses do.
        #[test]
        fn pools_overlap_as_ranges_do(a: u32, a_len in 0u8..=32, b: u32, b_len in 0u8..=32, near: bool) {
            let b = if near { a ^ (b & 0x3ff) } else { b };
            let a = Ipv4Net::new(a.into(), a_len).unwrap();
            let b = Ipv4Net::new(b.into(), b_len).unwrap();
            let ranges = a.network() <= b.broadcast() && b.network() <= a.broadcast();
            prop_assert_eq!(overlap4(a, b), ranges);
        }

        #[test]
        fn pools_overlap_as_ranges_do_v6(a: u128, a_len in 0u8..=128, b: u128, b_len in 0u8..=128, near: bool) {
            let b = if near { a ^ (b & 0x3ff) } else { b };
            let a = Ipv6Net::new(a.into(), a_len).unwrap();
            let b = Ipv6Net::new(b.into(), b_len).unwrap();
            let ranges = a.network() <= b.broadcast() && b.network() <= a.broadcast();
            prop_assert_eq!(overlap6(a, b), ranges);
        }
    }
}
