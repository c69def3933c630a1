//! The topology: ports, VRFs, VNIs and VTEP addresses. What is wanted is checked ([`spec`]), compared with what is held
//! ([`plan`]), carried out ([`manager`], [`ports`]) and shown ([`state`]).

mod mac;
mod manager;
mod plan;
mod ports;
mod spec;
mod state;

pub use mac::{End, mac_of};
pub use manager::{Names, SharedControl, Topology, lock, share, unlock_fair};
pub use plan::{Held, Step, plan};
pub use ports::{Carriers, Losses, Namespaces, Ports};
pub use spec::{DEFAULT_VRF, Desired, Device, L3Vni, ObjectName, Port, Refusal, address};
pub use state::{PortView, View, render, vni_mtu};
