//! Routes by the hundred thousand: from a BGP speaker through stock bgpd and zebra, frr-bridge and the real dataplane.
//!
//! Runs natively: the default VRF is enough, so the kernel needs no VRF devices.

mod rig;
mod speaker;

pub use rig::{Report, measure};
