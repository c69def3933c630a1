//! The forwarding engine: headers, FIB, next hops and VXLAN, without DPDK, I/O or a clock.
//!
//! One thread owns a [`Control`] and changes tables: ports, VRFs, VNIs, and the routes, next-hop groups and neighbours of a
//! session. Every polling thread owns a [`Worker`], which [processes](Worker::process) bursts of [`Packet`]s and says of
//! each what to do with it: a [`Verdict`]. Readers never wait for the writer, nor it for them.
//!
//! ```
//! use forwarding::{Attachment, Control, Mac, Path, PortConfig, VrfId, WeightedPath};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut control = Control::new()?;
//! let port = control.port_add(PortConfig {
//!     name: "toswitch1".to_owned(),
//!     attachment: Attachment::Routed(VrfId::DEFAULT),
//!     mac: "02:00:00:00:00:01".parse()?,
//!     mtu: 1500,
//! })?;
//! control.session_begin();
//! let path = Path::Adjacent { port, gateway: "192.0.2.1".parse()? };
//! control.group_set(1, &[WeightedPath { weight: 1, path }])?;
//! control.neighbor_set(port, "192.0.2.1".parse()?, "02:00:00:00:00:02".parse()?)?;
//! control.route4(VrfId::DEFAULT, 0x0a00_0000, 8, 1)?;
//! control.session_sweep();
//! let worker = control.worker();
//! # drop(worker);
//! # Ok(())
//! # }
//! ```

mod checksum;
mod control;
mod counters;
mod ecn;
mod error;
pub mod fib;
mod hash;
mod headers;
mod learn;
mod offload;
mod packet;
mod pipeline;
mod reason;
pub mod reclaim;
mod tables;
pub mod trace;
mod types;

pub use control::{
    Attachment, BridgeConfig, BridgePort, Control, Explanation, Flow, FrameExplanation, Learned, MacEntry,
    MacKind, NeighborEntry, Outcome, Path, PathEntry, PortConfig, Probe, Route, RouteEntry, Sweep, Swept,
    VniConfig, WeightedPath,
};
pub use counters::{BridgeCounters, PortCounters, VrfCounters};
pub use error::Error;
pub use offload::{BadOffload, Coalescer, Head, Offload, Run, Segments, Train, VirtioHeader};
pub use packet::{Buffer, Packet};
pub use pipeline::{MAX_BURST, Worker};
pub use reason::{Class, Kind, Reason, Verdict};
pub use types::{InvalidValue, Mac, PortId, Vni, VrfId, address_from_bytes};
