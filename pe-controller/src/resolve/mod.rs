//! What the objects of a node amount to on this one: its addresses, by the formulas all PEs of a cluster share.

mod bridge;
mod formula;
mod frr;
mod index;
mod pe;

pub use bridge::{AttachedBridge, BridgeDomain, BridgeOwner};
pub use formula::{AddressError, Link, gateway_mac, link_addresses, router_id, router_mac, tunnel_endpoint};
pub use frr::FrrVersion;
pub use index::{IndexError, InterfaceAddresses, node_index};
pub use pe::{Node, Passthrough, Pe, Resolved, Session, Vni, resolve};
