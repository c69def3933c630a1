//! Route netlink as the kernel and zebra's FPM speak it: a bounds-checked parser and the sockets.
//!
//! The parser is our own and not netlink-packet-route's because this one sits on the path of a million routes from
//! zebra (no allocation per route), knows next-hop objects, and shall never fail a whole batch for one odd attribute.
//! Requests to the kernel, which are few, are built by rtnetlink; but for what the dataplane has learned, which comes by
//! the thousand and goes out many to a buffer.

mod link;
mod parse;
mod socket;
#[cfg(test)]
mod tests;
mod write;

pub use link::{BridgePort, Kind, Link, Vxlan};
pub use parse::{
    Address, FdbEntry, FloodEntry, Hop, Hops, LinkNeighbor, Mac, MacEntry, Message, NextHop, NextHopContent,
    Route, RouteKind, messages, parse,
};
pub use socket::{Dump, EventSocket, Group, dump, dump_routes, is_from_frr};
pub use write::{OWN_PROTOCOL, Refusal, Write, WriteSocket};

/// The kernel's main routing table, the default VRF's.
pub const TABLE_MAIN: u32 = 254;
