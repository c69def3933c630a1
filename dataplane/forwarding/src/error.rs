//! What the control side refuses.

use std::net::IpAddr;

use crate::types::{InvalidValue, Mac, PortId, Vni, VrfId};

/// Why an object was refused. Nothing was changed by the call that returned it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such port.
    #[error("port {0} does not exist")]
    UnknownPort(PortId),
    /// No such VRF.
    #[error("VRF {0} does not exist")]
    UnknownVrf(VrfId),
    /// No such VNI.
    #[error("VNI {0} does not exist")]
    UnknownVni(Vni),
    /// No such group in this session.
    #[error("next-hop group {0} does not exist in this session; state it before its routes")]
    UnknownGroup(u32),
    /// 0 stands for deletion.
    #[error("next-hop group 0 is not an identifier; use 1 to 4294967295")]
    GroupZero,
    /// Too few or too many paths.
    #[error("next-hop group {id} has {paths} paths; it must have 1 to 64")]
    PathCount {
        /// The group.
        id: u32,
        /// Its paths.
        paths: usize,
    },
    /// Something still uses the VRF.
    #[error("VRF {vrf} is still used by {user}; remove that first")]
    VrfInUse {
        /// The VRF.
        vrf: VrfId,
        /// A port or a VNI, by name.
        user: String,
    },
    /// The default VRF cannot be removed.
    #[error("the default VRF cannot be removed")]
    DefaultVrf,
    /// L3VNIs belong to tenants.
    #[error("VNI {0} cannot be attached to the default VRF")]
    VniInDefaultVrf(Vni),
    /// One VNI cannot be both.
    #[error("VNI {0} is an L3VNI and an L2VNI; it can be one of them")]
    VniKind(Vni),
    /// Ports are still in the bridge domain.
    #[error("L2VNI {vni} still has port {port}; remove that first")]
    BridgeInUse {
        /// The L2VNI.
        vni: Vni,
        /// A port, by name.
        port: String,
    },
    /// A gateway needs a VRF.
    #[error("L2VNI {0} has gateway addresses but no VRF that routes for it")]
    GatewayWithoutVrf(Vni),
    /// The control plane says that a MAC is elsewhere which is the router's own.
    #[error("MAC {mac} is the router's own in L2VNI {vni}")]
    OwnMac {
        /// The L2VNI.
        vni: Vni,
        /// The MAC.
        mac: Mac,
    },
    /// The VNI's own VTEP address is not one of this node's.
    #[error("VNI {vni} uses {address}, which is not a VTEP address of this node")]
    NotOurVtep {
        /// The VNI.
        vni: Vni,
        /// The address.
        address: IpAddr,
    },
    /// Two VTEP addresses of one family.
    #[error("{0} and {1} are both VTEP addresses of this node; one per family is possible")]
    TwoVteps(IpAddr, IpAddr),
    /// Different UDP ports are kept in one word.
    #[error("UDP port {0} would be the fifth VXLAN port; at most 4 different ones are possible")]
    TooManyUdpPorts(u16),
    /// UDP port 0.
    #[error("UDP port 0 cannot be VXLAN's")]
    UdpPortZero,
    /// The remote VTEP and ours are of different families.
    #[error("VTEP {vtep} is not of the family of VNI {vni}'s own address {own}")]
    VtepFamily {
        /// The VNI.
        vni: Vni,
        /// The remote address.
        vtep: IpAddr,
        /// Our address.
        own: IpAddr,
    },
    /// Not an address that a host may have.
    #[error("{0} is not a unicast address")]
    NotUnicast(IpAddr),
    /// A MAC that no station may have.
    #[error("MAC {0} is not a unicast address")]
    MacNotUnicast(Mac),
    /// Prefix length out of range.
    #[error("prefix length {length} is more than {max}")]
    PrefixLength {
        /// What was asked for.
        length: u32,
        /// 32 or 128.
        max: u8,
    },
    /// An MTU too small for IPv4 (RFC 791: 68 bytes).
    #[error("MTU {0} is less than 68 bytes")]
    MtuTooSmall(u16),
    /// Bits of a route's address beyond its length.
    #[error("{address}/{length} has bits set beyond its length")]
    PrefixBits {
        /// The address.
        address: IpAddr,
        /// The length.
        length: u32,
    },
    /// All numbers are in use.
    #[error("no room for another {0}")]
    Full(&'static str),
    /// A number out of its range.
    #[error(transparent)]
    Value(#[from] InvalidValue),
}
