//! The lab and the end-to-end tests.
//!
//! A lab is a handful of network namespaces on one kernel: two nodes of ours, a PE whose dataplane is the Linux kernel, two
//! spines and the tenants behind the PEs. It needs VRF devices; where the running kernel has none, [`world`] boots user-mode
//! Linux on the host's own file system and runs this very program in it.

#![forbid(unsafe_code)]

pub mod cli;
pub mod demo;
pub mod error;
pub mod init;
pub mod lab;
pub mod load;
pub mod remote;
pub mod scenarios;
pub mod traffic;
pub mod wait;
pub mod world;

pub use error::{Error, Result};
