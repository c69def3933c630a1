//! From files to what FRR and the dataplane are to be, in one step without I/O.

use std::collections::BTreeMap;

use dataplane_api::v1::TopologySpec;

use crate::files::Objects;
use crate::model::{Failure, FieldError, NodeConfig, Object, ObjectRef, Reason, Source};
use crate::resolve::{FrrVersion, InterfaceAddresses, Node, Pe, node_index, resolve};
use crate::topology::topology;
use crate::validate::{self, InForce, Valid};

/// What one reading of the files amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The provider edge; none when there is nothing to build on, and all should stay as it is.
    pub pe: Option<Pe>,
    /// Objects and fields that are not in force, and why.
    pub failures: Vec<Failure>,
    /// Where the objects in force were read.
    pub origins: BTreeMap<ObjectRef, Source>,
    /// Objects are left out of `pe` only because FRR's version is not known: it should not be brought about before.
    pub needs_frr_version: bool,
}

/// What a plan depends on beside the objects.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// The machine's own name.
    pub name: &'a str,
    /// Its interfaces.
    pub interfaces: &'a dyn InterfaceAddresses,
    /// Its FRR; none while that is not known.
    pub frr: Option<&'a FrrVersion>,
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

/// Validates `objects` and gives them the addresses of the node that `node_config` describes. `in_force` is what carries
/// traffic already.
#[must_use]
pub fn plan(
    objects: Objects,
    node_config: &Object<NodeConfig>,
    machine: Machine<'_>,
    in_force: &InForce,
) -> Plan {
    let valid = validate::objects(objects, in_force);
    let mut plan = Plan {
        pe: None,
        failures: valid.failures.clone(),
        origins: origins(&valid),
        needs_frr_version: false,
    };
    let index = match node_index(&node_config.spec, machine.interfaces) {
        Ok(index) => index,
        Err(error) => {
            let error = FieldError::new("nodeIndex", error.to_string());
            plan.failures.push(node_config.fails(Reason::ValidationFailed, error));
            return plan;
        }
    };
    if valid.underlay_failed {
        return plan;
    }
    let node = Node {
        index,
        // Not nodeName: vtysh shows the machine's name whatever FRR was told, so any other would differ at every reload.
        hostname: is_hostname(machine.name).then(|| machine.name.to_owned()),
        frr: machine.frr.cloned(),
        ovsdb: node_config.spec.ovs_socket_path.clone(),
    };
    match resolve(&valid, &node) {
        Ok(resolved) => {
            plan.pe = Some(resolved.pe);
            plan.failures.extend(resolved.failures);
            plan.needs_frr_version = resolved.needs_frr_version;
        }
        Err(more) => plan.failures.extend(more),
    }
    plan
}

fn origins(valid: &Valid) -> BTreeMap<ObjectRef, Source> {
    fn of<'a, T>(
        objects: impl IntoIterator<Item = &'a Object<T>> + 'a,
    ) -> impl Iterator<Item = (ObjectRef, Source)>
    where
        T: 'a,
    {
        objects.into_iter().map(|object| (object.id.clone(), object.source.clone()))
    }
    of(&valid.underlay)
        .chain(of(&valid.l3vnis))
        .chain(of(&valid.l2vnis))
        .chain(of(&valid.passthrough))
        .chain(of(&valid.raw))
        .collect()
}

/// FRR takes it as a host name (RFC 1123 section 2.1).
fn is_hostname(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}
