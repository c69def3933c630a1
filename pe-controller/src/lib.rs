//! pe-controller: from the operator's objects to FRR's configuration and the dataplane's topology.
//!
//! ```text
//! files -> validate -> resolve -> render   -> frr -> FRR
//!                              -> topology -> run -> pe-dataplane
//! ```
//!
//! Everything up to `render` and `topology` is a function of values, put together in [`plan`]; [`frr`] and [`run`] do the I/O.

#![forbid(unsafe_code)]

pub mod cli;
mod error;
pub mod files;
pub mod frr;
pub mod model;
pub mod plan;
pub mod render;
pub mod resolve;
pub mod run;
pub mod topology;
pub mod validate;

pub use error::Error;
