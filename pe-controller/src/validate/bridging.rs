use std::collections::BTreeMap;

use super::{L2Vni, RoutingDomain, Valid};
use crate::model::{Failure, FieldError, InterfaceName, Object, ObjectRef, Reason, Vni};

/// Takes out of `l2vnis`, the preferred ones first, every one that conflicts with an L3VNI, the underlay, or an earlier one.
pub(super) fn drop_conflicts(l2vnis: Vec<Object<L2Vni>>, valid: &mut Valid) {
    let mut vnis: BTreeMap<Vni, ObjectRef> =
        valid.l3vnis.iter().map(|object| (object.spec.vni, object.id.clone())).collect();
    let mut kept: Vec<Object<L2Vni>> = Vec::with_capacity(l2vnis.len());
    for object in l2vnis {
        let error = vnis
            .get(&object.spec.vni)
            .map(|owner| FieldError::new("vni", format!("{} is used by {owner} already", object.spec.vni)))
            .or_else(|| kept.iter().find_map(|earlier| conflict(&object, earlier)))
            .or_else(|| device_conflict(&object, valid));
        match error {
            Some(error) => valid.failures.push(object.fails(Reason::ValidationFailed, error)),
            None => {
                vnis.insert(object.spec.vni, object.id.clone());
                kept.push(object);
            }
        }
    }
    kept.sort_by(|a, b| a.id.cmp(&b.id));
    valid.l2vnis = kept;
}

fn conflict(object: &Object<L2Vni>, earlier: &Object<L2Vni>) -> Option<FieldError> {
    if object.id == earlier.id {
        let message = format!("{} is used by {} already", object.id.name, earlier.id);
        return Some(FieldError::new("name", message));
    }
    object.spec.ports.iter().enumerate().find_map(|(index, port)| {
        let error =
            earlier.spec.ports.iter().find_map(|other| {
                port.conflict(other, &format_args!("port {} of {}", other.name, earlier.id))
            })?;
        Some(FieldError::new(format!("ports[{index}].{}", error.field), error.message))
    })
}

/// All devices of the router live in one namespace.
fn device_conflict(object: &Object<L2Vni>, valid: &Valid) -> Option<FieldError> {
    let owner = |name: &InterfaceName| {
        let underlay = valid.underlay.as_ref();
        if underlay.is_some_and(|underlay| underlay.spec.ports.iter().any(|port| port.name == *name)) {
            return Some("an underlay interface".to_owned());
        }
        let vrf = valid.l3vnis.iter().find(|l3vni| l3vni.spec.vrf.as_str() == name.as_str())?;
        Some(format!("the VRF of {}", vrf.id))
    };
    object.spec.ports.iter().enumerate().find_map(|(index, port)| {
        let message = format!("{} is the name of {} too: choose another", port.name, owner(&port.name)?);
        Some(FieldError::new(format!("ports[{index}].name"), message))
    })
}

/// Takes out every L2VNI whose routing domain is not there.
pub(super) fn drop_orphans(valid: &mut Valid) -> Vec<Failure> {
    let mut failures = Vec::new();
    let l3vnis = &valid.l3vnis;
    valid.l2vnis.retain(|object| {
        let (reason, field, message) = match &object.spec.domain {
            None => return true,
            Some(RoutingDomain::L3Vni(_))
                if l3vnis.iter().any(|l3vni| object.spec.is_routed_by(&l3vni.id)) =>
            {
                return true;
            }
            Some(RoutingDomain::L3Vni(name)) => (
                Reason::DependencyFailed,
                "routingDomain.l3vni.name",
                format!("L3VNI {name}, which is to route for it, is missing or failed"),
            ),
            Some(RoutingDomain::L3Vpn(name)) => (
                Reason::NotSupported,
                "routingDomain",
                format!("L3VPN {name} is to route for it, but L3VPN is not supported by this release"),
            ),
        };
        failures.push(object.fails(reason, FieldError::new(field, message)));
        false
    });
    failures
}
