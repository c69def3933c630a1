//! Routes and MACs by the thousand: from a BGP speaker through stock bgpd and zebra, frr-bridge and the real dataplane, and from
//! hosts the other way round; and what tables cost the dataplane alone.
//!
//! Runs natively: the default VRF and a plain overlay are enough, so the kernel needs no VRF devices.

mod macs;
pub mod program;
mod reference;
mod rig;
mod routes;
mod session;
mod speaker;
mod tables;

pub use macs::{Report as MacReport, macs};
pub use routes::{Report as RouteReport, routes};
pub use tables::{Report as TableReport, tables};
