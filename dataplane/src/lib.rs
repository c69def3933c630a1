//! pe-dataplane: the forwarding engine of an EVPN provider edge.
//!
//! [`worker`]s receive, forward and send; the [`slowpath`] gives the kernel what they decline, and sends what the kernel
//! wants sent; [`learning`] looks after who is where in bridge domains; [`topology`] opens and closes ports and knows VRFs and VNIs; [`rpc`] is how the others talk to it.

pub mod config;
pub mod error;
pub mod host;
pub mod learning;
pub mod rpc;
mod run;
pub mod slowpath;
pub mod topology;
mod wake;
pub mod worker;

pub use run::run;
