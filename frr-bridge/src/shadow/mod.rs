//! Shadow devices: the Linux devices in the router's namespace from which zebra learns VRFs, VNIs and local addresses.
//!
//! [`plan()`] compares what the topology asks for with what there is and names the steps; nothing unchanged is ever sent
//! (a redundant link-up flushes neighbours in zebra). [`Shadow`] carries them out and looks again, until nothing is left.

mod apply;
mod plan;
mod sysctl;
#[cfg(test)]
mod tests;

pub use apply::{Shadow, run};
pub use plan::{Action, Change, Current, plan};
