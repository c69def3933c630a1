//! frr-bridge: translates FRR's routes into the dataplane's FIB and the topology into shadow devices.
//!
//! zebra (FPM), the kernel (netlink) and pe-dataplane (topology) come in at the rim; [`bridge`] takes their events in one
//! task, [`resolver`] and [`shadow::plan()`] decide without I/O, and the differences go out to the dataplane's FIB and the
//! router namespace.

#![forbid(unsafe_code)]

pub mod bridge;
pub mod config;
pub mod dataplane;
pub mod error;
pub mod fpm;
pub mod gate;
pub mod learned;
pub mod mirror;
pub mod netlink;
pub mod resolver;
pub mod run;
pub mod shadow;
pub mod topology;
pub mod upkeep;
