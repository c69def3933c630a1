//! The API's rules beyond the shape of single fields: between fields of an object, and between objects of a node.
//!
//! One bad object never stops the others, and the outcome does not depend on the order of files. Of two objects that
//! conflict the one that is in force already stays, else the first by name.

mod l3vni;
mod neighbor;
mod overlap;
mod underlay;
mod unsupported;

pub use l3vni::{HostSession, L3Vni};
pub use neighbor::{Family, Neighbor, Peer, RemoteAs};
pub use underlay::{Port, PortDevice, Underlay};

use std::collections::BTreeSet;

use crate::files::Objects;
use crate::model::{Failure, FieldError, LabelSelector, Object, RawFrrConfigSpec, Reason};

/// The objects of a node that keep all rules, and why the others do not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Valid {
    /// The node's underlay.
    pub underlay: Option<Object<Underlay>>,
    /// There is an underlay, but it breaks a rule: what the node does already should then be left as it is.
    pub underlay_failed: bool,
    /// L3VNIs, by name.
    pub l3vnis: Vec<Object<L3Vni>>,
    /// Raw configuration, by priority and name.
    pub raw: Vec<Object<RawFrrConfigSpec>>,
    /// One per rule that is broken.
    pub failures: Vec<Failure>,
}

/// VRF and VNI of the L3VNIs that carry traffic already.
pub type InForce = BTreeSet<(String, u32)>;

/// Applies all rules to the well-formed `objects` of one node. A new object that conflicts with one `in_force` must not
/// take its place: in a cluster it would not have been admitted.
#[must_use]
pub fn objects(objects: Objects, in_force: &InForce) -> Valid {
    let mut valid = Valid::default();
    valid.take_underlay(&objects);
    valid.take_raw(&objects);

    let mut l3vnis = objects.l3vnis;
    l3vnis.sort_by(|a, b| (&a.id, &a.source.file).cmp(&(&b.id, &b.source.file)));
    l3vnis.sort_by_key(|object| !in_force.contains(&(object.spec.vrf.to_string(), object.spec.vni.value())));
    for object in l3vnis {
        match l3vni::check(&object.spec) {
            Ok(spec) => valid.l3vnis.push(object.with(spec)),
            Err(errors) => valid.fail(&object, Reason::ValidationFailed, errors),
        }
    }
    valid.failures.extend(overlap::drop_conflicts(&mut valid.l3vnis, valid.underlay.as_ref()));
    valid.l3vnis.sort_by(|a, b| a.id.cmp(&b.id));
    valid.check_dependencies();
    valid.failures.extend(unsupported::check(&objects.l2vnis, &objects.l3vpns, &objects.passthroughs));
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

    /// An L3VNI needs an underlay with a VTEP address of its family.
    fn check_dependencies(&mut self) {
        let underlay = self.underlay.as_ref();
        let failed = self.underlay_failed;
        let mut failures = Vec::new();
        self.l3vnis.retain(|object| {
            let problem = match underlay {
                Some(underlay) => l3vni::vtep_problem(&object.spec, &underlay.spec),
                None if failed => Some("the underlay it needs failed".to_owned()),
                None => Some("there is no underlay, which it needs".to_owned()),
            };
            let Some(message) = problem else { return true };
            let field = if underlay.is_some() { "underlayAddressFamily" } else { "" };
            failures.push(object.fails(Reason::DependencyFailed, FieldError::new(field, message)));
            false
        });
        self.failures.extend(failures);
    }
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
