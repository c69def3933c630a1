//! Routes and MACs by the thousand: from a BGP speaker through stock bgpd and zebra, frr-bridge and the real dataplane, and from
//! hosts the other way round.
//!
//! Runs natively: the default VRF and a plain overlay are enough, so the kernel needs no VRF devices.

mod macs;
pub mod program;
mod rig;
mod routes;
mod speaker;

pub use macs::{Report as MacReport, macs};
pub use routes::{Report as RouteReport, routes};
