use serde::Deserialize;

use super::{Int, LabelSelector};

/// A piece of FRR configuration taken as it is, after everything rendered from the other objects.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawFrrConfigSpec {
    /// The nodes it is for.
    #[serde(default)]
    pub node_selector: LabelSelector,
    /// Lower ones come first; equal ones in the order of their names.
    #[serde(default = "default_priority")]
    pub priority: Int<0, { i32::MAX as u32 }>,
    /// FRR's own commands, not empty.
    pub raw_config: String,
}

fn default_priority() -> Int<0, { i32::MAX as u32 }> {
    Int::constant::<0>()
}
