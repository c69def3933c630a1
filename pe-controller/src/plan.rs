//! From files to what FRR and the dataplane are to be, in one step without I/O.

use std::collections::BTreeMap;

use dataplane_api::v1::TopologySpec;

use crate::files::Objects;
use crate::model::{Failure, FieldError, NodeConfig, Object, ObjectRef, Reason, Source};
use crate::resolve::{InterfaceAddresses, Node, Pe, node_index, resolve};
use crate::topology::topology;
use crate::validate::{self, InForce};

/// What one reading of the files amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The provider edge; none when there is nothing to build on, and all should stay as it is.
    pub pe: Option<Pe>,
    /// Objects and fields that are not in force, and why.
    pub failures: Vec<Failure>,
    /// Where the objects in force were read.
    pub origins: BTreeMap<ObjectRef, Source>,
}

impl Plan {
    /// The dataplane's part; none when all should stay as it is.
    #[must_use]
    pub fn topology(&self) -> Option<TopologySpec> {
        self.pe.as_ref().map(topology)
    }

    /// A failure of the object `id`, found while it was put in force.
    #[must_use]
    pub fn failure(&self, id: &ObjectRef, reason: Reason, message: &str) -> Failure {
        let origin = self.origins.get(id);
        Failure {
            file: origin.map(|source| source.file.clone()).unwrap_or_default(),
            line: origin.and_then(|source| source.line("")),
            object: id.clone(),
            field: String::new(),
            reason,
            message: message.to_owned(),
        }
    }
}

/// Validates `objects` and gives them the addresses of the node that `node_config` describes. `machine` is the machine's
/// own name; `in_force` what carries traffic already.
#[must_use]
pub fn plan(
    objects: Objects,
    node_config: &Object<NodeConfig>,
    machine: &str,
    interfaces: &dyn InterfaceAddresses,
    in_force: &InForce,
) -> Plan {
    let valid = validate::objects(objects, in_force);
    let mut failures = valid.failures.clone();
    let mut origins = BTreeMap::new();
    origins.extend(valid.underlay.iter().map(|object| (object.id.clone(), object.source.clone())));
    origins.extend(valid.l3vnis.iter().map(|object| (object.id.clone(), object.source.clone())));
    origins.extend(valid.raw.iter().map(|object| (object.id.clone(), object.source.clone())));

    let index = match node_index(&node_config.spec, interfaces) {
        Ok(index) => index,
        Err(error) => {
            let error = FieldError::new("nodeIndex", error.to_string());
            failures.push(node_config.fails(Reason::ValidationFailed, error));
            return Plan { pe: None, failures, origins };
        }
    };
    if valid.underlay_failed {
        return Plan { pe: None, failures, origins };
    }
    // Not nodeName: vtysh shows the machine's name whatever FRR was told, so any other would differ at every reload.
    let hostname = is_hostname(machine).then(|| machine.to_owned());
    match resolve(&valid, &Node { index, hostname }) {
        Ok((pe, more)) => {
            failures.extend(more);
            Plan { pe: Some(pe), failures, origins }
        }
        Err(more) => {
            failures.extend(more);
            Plan { pe: None, failures, origins }
        }
    }
}

/// FRR takes it as a host name (RFC 1123 section 2.1).
fn is_hostname(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}
