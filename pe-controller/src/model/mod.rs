//! What the operator's objects say: the API's shape, field for field, with its schema's limits built into the types.
//!
//! Types here are what one object says by itself. What spans fields or objects is [`crate::validate`]'s; what depends
//! on the node is [`crate::resolve`]'s.

mod l3vni;
mod names;
mod node;
mod number;
mod object;
mod other;
mod raw;
mod underlay;

pub use l3vni::{AddressFamily, HostSessionSpec, L3VniSpec, LocalCidr};
pub use names::{InterfaceName, NameError, NetnsPath, Password, PciAddress, RouteTarget, VrfName};
pub use node::{LogLevel, NodeConfig, NodeIndexSpec};
pub use number::{Asn, Int, Vni};
pub use object::{Failure, FieldError, Kind, LabelSelector, Object, ObjectRef, Reason, Source};
pub use other::{
    BridgeSpec, HostMasterSpec, L2VniSpec, L3PassthroughSpec, L3VpnSpec, NamedReference, RoutingDomainSpec,
};
pub use raw::RawFrrConfigSpec;
pub use underlay::{
    AfProperty, AfPropertyType, AfType, BfdSpec, CniDevice, EbgpMultiHop, GracefulRestartSpec, InterfaceType,
    IsisSpec, NeighborAf, NeighborProperty, NeighborPropertyType, NeighborSpec, NetworkDevice, PciDevice,
    PeerType, RouteReflectorSpec, SessionMode, Srv6Spec, TunnelEndpointSpec, UnderlayInterface, UnderlaySpec,
};
