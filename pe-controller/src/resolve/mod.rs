//! What the objects of a node amount to on this one: its addresses, by the formulas all PEs of a cluster share.

mod formula;
mod index;
mod pe;

pub use formula::{AddressError, Link, link_addresses, router_id, router_mac, tunnel_endpoint};
pub use index::{IndexError, InterfaceAddresses, node_index};
pub use pe::{Node, Pe, Session, Vni, resolve};
