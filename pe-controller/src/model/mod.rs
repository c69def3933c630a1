//! What the operator's objects say: the API's shape, field for field, with its schema's limits built into the types.
//!
//! Types here are what one object says by itself. What spans fields or objects is [`crate::validate`]'s; what depends
//! on the node is [`crate::resolve`]'s.

mod l2vni;
mod l3vni;
mod l3vpn;
mod names;
mod node;
mod number;
mod object;
mod passthrough;
mod paths;
mod raw;
mod secrets;
mod underlay;

pub use l2vni::{
    BridgeLifecycle, BridgeSpec, HostMasterSpec, HostMasterType, L2PortSpec, L2VniSpec, MemifSpec,
    NamedReference, RoutingDomainSpec, RoutingDomainType, SocketRole, VhostUserSpec,
};
pub use l3vni::{AddressFamily, HostSessionSpec, L3VniSpec, LocalCidr};
pub use l3vpn::L3VpnSpec;
pub use names::{BridgeName, InterfaceName, NameError, ObjectName, PciAddress, RouteTarget, VrfName};
pub use node::{LogLevel, NodeConfig, NodeIndexSpec};
pub use number::{Asn, Int, Vni};
pub use object::{Failure, FieldError, Kind, LabelSelector, Object, ObjectRef, Reason, Source};
pub use passthrough::L3PassthroughSpec;
pub use paths::{NetnsPath, OvsSocketPath, SocketPath};
pub use raw::RawFrrConfigSpec;
pub use secrets::{MemifSecret, Password};
pub use underlay::{
    AfProperty, AfPropertyType, AfType, BfdSpec, CniDevice, EbgpMultiHop, GracefulRestartSpec, InterfaceType,
    IsisSpec, NeighborAf, NeighborProperty, NeighborPropertyType, NeighborSpec, NetworkDevice, PciDevice,
    PeerType, RouteReflectorSpec, SessionMode, Srv6Spec, TunnelEndpointSpec, UnderlayInterface, UnderlaySpec,
};
