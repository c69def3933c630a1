//! The daemon: files -> plan -> FRR -> dataplane, over and over, with everything that can be away at times.

mod controller;
mod dataplane;
mod host;
mod status;
mod watch;

pub use controller::{Options, run};
pub use host::Host;
pub use status::{Status, Step};
