//! Route netlink as the kernel and zebra's FPM speak it: a bounds-checked parser and the sockets.
//!
//! The parser is our own and not netlink-packet-route's because this one sits on the path of a million routes from
//! zebra (no allocation per route), knows next-hop objects, and shall never fail a whole batch for one odd attribute.
//! Requests to the kernel, which are few, are built by rtnetlink.

mod link;
mod parse;
mod socket;
#[cfg(test)]
mod tests;

pub use link::{BridgePort, Kind, Link, Vxlan};
pub use parse::{
    Address, Hop, Hops, LinkNeighbor, Mac, MacEntry, Message, NextHop, NextHopContent, Route, RouteKind,
    messages, parse,
};
pub use socket::{EventSocket, Group, dump, dump_routes, is_from_frr};

/// The kernel's main routing table, the default VRF's.
pub const TABLE_MAIN: u32 = 254;
