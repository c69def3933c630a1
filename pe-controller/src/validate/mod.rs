//! The API's rules beyond the shape of single fields: between fields of an object, and between objects of a node.
//!
//! One bad object never stops the others, and the outcome does not depend on the order of files. Of two objects that
//! conflict the one that is in force already stays, else the first by name.

mod bridging;
mod l2vni;
mod l3vni;
mod neighbor;
mod overlap;
mod session;
mod subnets;
mod underlay;
mod unsupported;

pub use l2vni::{HostBridge, L2Port, L2PortDevice, L2Vni, PortLimits, RoutingDomain};
pub use l3vni::L3Vni;
pub use neighbor::{Family, Neighbor, Peer, RemoteAs};
pub use session::HostSession;
pub use underlay::{Port, PortDevice, Underlay};

use std::collections::BTreeSet;

use crate::files::Objects;
use crate::model::{
    AddressFamily, Failure, FieldError, L2VniSpec, L3PassthroughSpec, LabelSelector, Object,
    RawFrrConfigSpec, Reason,
};

/// The objects of a node that keep all rules, and why the others do not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Valid {
    /// The node's underlay.
    pub underlay: Option<Object<Underlay>>,
    /// There is an underlay, but it breaks a rule: what the node does already should then be left as it is.
    pub underlay_failed: bool,
    /// L3VNIs, by name.
    pub l3vnis: Vec<Object<L3Vni>>,
    /// L2VNIs, by name. What routes for them is among the L3VNIs.
    pub l2vnis: Vec<Object<L2Vni>>,
    /// The session with the host in the default VRF.
    pub passthrough: Option<Object<HostSession>>,
    /// Raw configuration, by priority and name.
    pub raw: Vec<Object<RawFrrConfigSpec>>,
    /// One per rule that is broken.
    pub failures: Vec<Failure>,
}

/// What carries traffic already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// VRF and VNI of L3VNIs.
    pub l3vnis: BTreeSet<(String, u32)>,
    /// VRF, empty without one, and VNI of L2VNIs.
    pub l2vnis: BTreeSet<(String, u32)>,
    /// The session with the host in the default VRF.
    pub passthrough: bool,
}

/// Applies all rules to the well-formed `objects` of one node. A new object that conflicts with one `in_force` must not
/// take its place: in a cluster it would not have been admitted.
#[must_use]
pub fn objects(objects: Objects, in_force: &InForce) -> Valid {
    let mut valid = Valid::default();
    valid.take_underlay(&objects);
    valid.take_raw(&objects);
    valid.take_passthrough(&objects.passthroughs);

    let mut l3vnis = objects.l3vnis;
    l3vnis.sort_by(|a, b| (&a.id, &a.source.file).cmp(&(&b.id, &b.source.file)));
    l3vnis.sort_by_key(|object| {
        !in_force.l3vnis.contains(&(object.spec.vrf.to_string(), object.spec.vni.value()))
    });
    for object in l3vnis {
        match l3vni::check(&object.spec) {
            Ok(spec) => valid.l3vnis.push(object.with(spec)),
            Err(errors) => valid.fail(&object, Reason::ValidationFailed, errors),
        }
    }
    let l2vnis = valid.well_formed(objects.l2vnis);
    valid.drop_conflicts(l2vnis, in_force);
    valid.check_dependencies();
    let orphans = bridging::drop_orphans(&mut valid);
    valid.failures.extend(orphans);
    let overlapping = subnets::drop_overlapping(&mut valid);
    valid.failures.extend(overlapping);
    valid.failures.extend(unsupported::check(&objects.l3vpns));
    valid
}

impl Valid {
    fn fail<T>(&mut self, object: &Object<T>, reason: Reason, errors: Vec<FieldError>) {
        self.failures.extend(errors.into_iter().map(|error| object.fails(reason, error)));
    }

    fn take_underlay(&mut self, objects: &Objects) {
        match objects.underlays.as_slice() {
            [] => {}
            [object] => match underlay::check(&object.spec) {
                Ok((spec, unsupported)) => {
                    self.fail(object, Reason::NotSupported, unsupported);
                    self.underlay = Some(object.with(spec));
                }
                Err(errors) => {
                    self.underlay_failed = true;
                    for (reason, error) in errors {
                        self.failures.push(object.fails(reason, error));
                    }
                }
            },
            several => {
                self.underlay_failed = true;
                for object in several {
                    let message = format!("a node has at most one underlay, here are {}", several.len());
                    self.fail(object, Reason::ValidationFailed, vec![FieldError::new("", message)]);
                }
            }
        }
    }

    fn take_raw(&mut self, objects: &Objects) {
        for object in &objects.raw {
            let mut errors = selector_error(&object.spec.node_selector);
            if object.spec.raw_config.trim().is_empty() {
                errors.push(FieldError::new("rawConfig", "is empty"));
            }
            if object.spec.raw_config.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                errors.push(FieldError::new("rawConfig", "contains control characters"));
            }
            if errors.is_empty() {
                self.raw.push(object.clone());
            } else {
                self.fail(object, Reason::ValidationFailed, errors);
            }
        }
        self.raw.sort_by(|a, b| {
            (a.spec.priority, &a.id, &a.source.file).cmp(&(b.spec.priority, &b.id, &b.source.file))
        });
    }

    fn take_passthrough(&mut self, objects: &[Object<L3PassthroughSpec>]) {
        let [object] = objects else {
            for object in objects {
                let message = format!("a node has at most one passthrough, here are {}", objects.len());
                self.fail(object, Reason::ValidationFailed, vec![FieldError::new("", message)]);
            }
            return;
        };
        let mut errors = selector_error(&object.spec.node_selector);
        match session::check(&object.spec.host_session) {
            Ok(session) if errors.is_empty() => self.passthrough = Some(object.with(session)),
            Ok(_) => self.fail(object, Reason::ValidationFailed, errors),
            Err(found) => {
                errors.extend(found);
                self.fail(object, Reason::ValidationFailed, errors);
            }
        }
    }

    /// The L2VNIs that keep the rules by themselves, by name.
    fn well_formed(&mut self, mut l2vnis: Vec<Object<L2VniSpec>>) -> Vec<Object<L2Vni>> {
        l2vnis.sort_by(|a, b| (&a.id, &a.source.file).cmp(&(&b.id, &b.source.file)));
        let mut good = Vec::with_capacity(l2vnis.len());
        for object in l2vnis {
            match l2vni::check(&object.spec) {
                Ok(spec) => good.push(object.with(spec)),
                Err(errors) => self.fail(&object, Reason::ValidationFailed, errors),
            }
        }
        good
    }

    /// Of objects that cannot be there together keeps those in force, else L3VNIs before others, else the first by name.
    fn drop_conflicts(&mut self, mut l2vnis: Vec<Object<L2Vni>>, in_force: &InForce) {
        let first = self.passthrough.as_ref().filter(|_| in_force.passthrough);
        self.failures.extend(overlap::drop_conflicts(&mut self.l3vnis, self.underlay.as_ref(), first));
        if let Some(passthrough) = &self.passthrough
            && let Some(error) = overlap::passthrough_conflict(&passthrough.spec, &self.l3vnis)
        {
            self.failures.push(passthrough.fails(Reason::ValidationFailed, error));
            self.passthrough = None;
        }
        self.l3vnis.sort_by(|a, b| a.id.cmp(&b.id));
        l2vnis.sort_by_cached_key(|object| {
            let l3vni = self.l3vnis.iter().find(|l3vni| object.spec.is_routed_by(&l3vni.id));
            let vrf = l3vni.map_or_else(String::new, |l3vni| l3vni.spec.vrf.to_string());
            !in_force.l2vnis.contains(&(vrf, object.spec.vni.value()))
        });
        bridging::drop_conflicts(l2vnis, self);
    }

    /// A VNI needs an underlay with a VTEP address of its family, a passthrough any underlay.
    fn check_dependencies(&mut self) {
        let underlay = self.underlay.as_ref().map(|object| &object.spec);
        let failed = self.underlay_failed;
        let mut failures = Vec::new();
        self.l3vnis.retain(|object| {
            let problem = vtep_problem(object.spec.underlay_family, underlay, failed);
            failures.extend(problem.clone().map(|error| object.fails(Reason::DependencyFailed, error)));
            problem.is_none()
        });
        self.l2vnis.retain(|object| {
            let problem = vtep_problem(object.spec.underlay_family, underlay, failed);
            failures.extend(problem.clone().map(|error| object.fails(Reason::DependencyFailed, error)));
            problem.is_none()
        });
        if underlay.is_none()
            && let Some(object) = self.passthrough.take()
        {
            failures.push(object.fails(Reason::DependencyFailed, no_underlay(failed)));
        }
        self.failures.extend(failures);
    }
}

/// Says why there is no VTEP address of `family`.
fn vtep_problem(
    family: Option<AddressFamily>,
    underlay: Option<&Underlay>,
    failed: bool,
) -> Option<FieldError> {
    match underlay {
        Some(underlay) => {
            let message = underlay::vtep_problem(family, underlay)?;
            Some(FieldError::new("underlayAddressFamily", message))
        }
        None => Some(no_underlay(failed)),
    }
}

fn no_underlay(failed: bool) -> FieldError {
    let message =
        if failed { "the underlay it needs failed" } else { "there is no underlay, which it needs" };
    FieldError::new("", message)
}

/// Without a cluster there are no labels that a selector could match.
fn selector_error(selector: &LabelSelector) -> Vec<FieldError> {
    if selector.is_empty() {
        return Vec::new();
    }
    let message = "selects by labels, but objects in files are for this node only: leave it out";
    vec![FieldError::new("nodeSelector", message)]
}

#[cfg(test)]
mod tests;
