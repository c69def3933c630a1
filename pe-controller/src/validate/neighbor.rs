use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{
    AfPropertyType, AfType, Asn, BfdSpec, FieldError, Int, InterfaceName, NeighborAf, NeighborSpec, Password,
    PeerType,
};

/// Most neighbours of an underlay.
pub(super) const MAX_NEIGHBORS: usize = 128;
/// Most address families of a neighbour.
const MAX_FAMILIES: usize = 4;

/// A BGP neighbour in the fabric.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbor {
    /// Who it is.
    pub peer: Peer,
    /// Its ASN.
    pub remote: RemoteAs,
    /// Its ASN is ours: iBGP.
    pub internal: bool,
    /// TCP port, when not 179.
    pub port: Option<u32>,
    /// TCP MD5 key.
    pub password: Option<Password>,
    /// Keepalive and hold time, seconds.
    pub timers: Option<(u32, u32)>,
    /// Pause between attempts to connect, seconds.
    pub connect_time: Option<u32>,
    /// Hops of an eBGP multihop session.
    pub multihop: Option<u32>,
    /// BFD.
    pub bfd: Option<BfdSpec>,
    /// Address families asked for; none takes those the other objects need.
    pub families: Vec<Family>,
}

/// Who a neighbour is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The one at this address.
    Address(IpAddr),
    /// Whoever is at the other end of this interface.
    Interface(InterfaceName),
    /// Anyone from this range.
    Range(IpNet),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(name) => name.fmt(f),
            Self::Range(range) => range.fmt(f),
        }
    }
}

/// A neighbour's ASN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAs {
    /// This one.
    Number(Asn),
    /// Any but ours.
    External,
    /// Ours.
    Internal,
}

impl RemoteAs {
    /// From the API's pair of fields, of which exactly one must be set.
    pub(super) fn from_fields(asn: Option<Asn>, kind: Option<PeerType>) -> Option<Self> {
        match (asn, kind) {
            (Some(asn), None) => Some(Self::Number(asn)),
            (None, Some(PeerType::External)) => Some(Self::External),
            (None, Some(PeerType::Internal)) => Some(Self::Internal),
            _ => None,
        }
    }
}

impl std::fmt::Display for RemoteAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(asn) => asn.fmt(f),
            Self::External => f.write_str("external"),
            Self::Internal => f.write_str("internal"),
        }
    }
}

/// An address family of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Which.
    pub af: AfType,
    /// The neighbour is a client of this route reflector.
    pub reflector_client: bool,
}

/// Checks a neighbour of the router `asn`. Fields of the errors are relative to the neighbour.
pub(super) fn check(spec: &NeighborSpec, asn: Asn) -> Result<Neighbor, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut error = |field: &str, message: &str| errors.push(FieldError::new(field, message));

    let remote = RemoteAs::from_fields(spec.asn, spec.r#type);
    if remote.is_none() {
        error(if spec.asn.is_some() { "type" } else { "asn" }, "set exactly one of asn and type");
    }
    let peer = match (&spec.address, &spec.interface, &spec.listen_range) {
        (Some(address), None, None) => Some(Peer::Address(*address)),
        (None, Some(interface), None) => Some(Peer::Interface(interface.clone())),
        (None, None, Some(range)) => Some(Peer::Range(range.trunc())),
        _ => {
            error("", "set exactly one of address, interface and listenRange");
            None
        }
    };
    if let Some(IpNet::V6(range)) = spec.listen_range
        && range.addr().is_unicast_link_local()
    {
        error("listenRange", "an IPv6 link-local range cannot be listened on");
    }
    if spec.password_secret.is_some() {
        error("passwordSecret", "there is no cluster to read a secret from: use password");
    }
    let timers = match (spec.keepalive_time_seconds, spec.hold_time_seconds) {
        (None, None) => None,
        (Some(keepalive), Some(hold)) => {
            if matches!(hold.value(), 1 | 2) {
                error("holdTimeSeconds", "must be 0 or at least 3");
            }
            if keepalive > hold {
                error("keepaliveTimeSeconds", "must not be larger than holdTimeSeconds");
            }
            Some((keepalive.value(), hold.value()))
        }
        _ => {
            error("holdTimeSeconds", "set both holdTimeSeconds and keepaliveTimeSeconds, or neither");
            None
        }
    };
    if spec.properties.len() > 1 {
        error("properties", "at most one property, ebgpMultiHop, is known");
    }
    check_families(&spec.address_families, spec, &mut error);

    match (remote, peer) {
        (Some(remote), Some(peer)) if errors.is_empty() => Ok(Neighbor {
            internal: remote == RemoteAs::Internal || remote == RemoteAs::Number(asn),
            peer,
            remote,
            port: spec.port.map(Int::value).filter(|port| !matches!(port, 0 | 179)),
            password: spec.password.clone(),
            timers,
            connect_time: spec.connect_time_seconds.map(Int::value),
            multihop: spec.properties.first().map(|property| {
                property.ebgp_multi_hop.as_ref().and_then(|hops| hops.ttl).map_or(255, Int::value)
            }),
            bfd: spec.bfd.clone(),
            families: spec
                .address_families
                .iter()
                .map(|family| Family { af: family.r#type, reflector_client: is_client(family) })
                .collect(),
        }),
        _ => Err(errors),
    }
}

fn is_client(family: &NeighborAf) -> bool {
    family.properties.iter().any(|property| property.r#type == AfPropertyType::RouteReflectorClient)
}

fn check_families(families: &[NeighborAf], spec: &NeighborSpec, error: &mut impl FnMut(&str, &str)) {
    let is_vpn = |af: AfType| matches!(af, AfType::Ipv4Vpn | AfType::Ipv6Vpn);
    let vpn = families.iter().any(|family| is_vpn(family.r#type));
    let evpn = families.iter().any(|family| family.r#type == AfType::Evpn);
    if families.len() > MAX_FAMILIES {
        error("addressFamilies", "at most 4 address families");
    }
    let mut seen = BTreeSet::new();
    for (index, family) in families.iter().enumerate() {
        let field = format!("addressFamilies[{index}]");
        if !seen.insert(family.r#type) {
            error(&format!("{field}.type"), "this address family is listed twice");
        }
        if family.properties.len() > 1 {
            error(&format!("{field}.properties"), "this property is listed twice");
        }
        if is_client(family) && spec.r#type != Some(PeerType::Internal) {
            error(&format!("{field}.properties"), "routeReflectorClient needs type Internal");
        }
    }
    if vpn && evpn {
        error("addressFamilies", "evpn and ipv4vpn or ipv6vpn exclude each other");
    }
    if vpn && spec.interface.is_some() {
        error("addressFamilies", "ipv4vpn and ipv6vpn cannot be used with interface");
    }
    if vpn && matches!(spec.address, Some(IpAddr::V4(_))) {
        error("addressFamilies", "ipv4vpn and ipv6vpn need an IPv6 address");
    }
    if vpn {
        error("addressFamilies", "ipv4vpn and ipv6vpn are not supported by this release");
    }
}

/// Rules between the neighbours of one underlay: no two alike, no listen ranges that overlap.
pub(super) fn check_all(neighbors: &[(usize, Neighbor)]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (at, (index, neighbor)) in neighbors.iter().enumerate() {
        for (earlier_index, earlier) in &neighbors[..at] {
            let (field, conflict) = match (&neighbor.peer, &earlier.peer) {
                (Peer::Address(a), Peer::Address(b)) => ("address", a == b),
                (Peer::Interface(a), Peer::Interface(b)) => ("interface", a == b),
                (Peer::Range(a), Peer::Range(b)) => ("listenRange", a.contains(b) || b.contains(a)),
                _ => continue,
            };
            if conflict {
                let what = if field == "listenRange" { "overlaps" } else { "is the same as" };
                errors.push(FieldError::new(
                    format!("neighbors[{index}].{field}"),
                    format!("{} {what} that of neighbors[{earlier_index}], {}", neighbor.peer, earlier.peer),
                ));
            }
        }
    }
    errors
}
