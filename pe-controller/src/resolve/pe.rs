use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::formula::{AddressError, Link, link_addresses, router_id, router_mac, tunnel_endpoint};
use crate::model::{
    AddressFamily, Asn, Failure, FieldError, NetnsPath, Object, ObjectRef, RawFrrConfigSpec, Reason,
    RouteTarget, VrfName,
};
use crate::validate::{HostSession, L3Vni, RemoteAs, Underlay, Valid};

/// Which node this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its index among the nodes, from 0.
    pub index: u32,
    /// The machine's name, for FRR's prompt and capabilities; none when FRR would not take it.
    pub hostname: Option<String>,
}

/// The provider edge this node is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Pe {
    /// FRR's hostname.
    pub hostname: Option<String>,
    /// The underlay and the router-id, when there is one.
    pub underlay: Option<(Underlay, Ipv4Addr)>,
    /// The IPv4 VTEP address.
    pub vtep4: Option<Ipv4Addr>,
    /// The IPv6 VTEP address.
    pub vtep6: Option<Ipv6Addr>,
    /// L3VNIs, in the order of their names.
    pub vnis: Vec<Vni>,
    /// Raw FRR configuration, in the order it is rendered in.
    pub raw: Vec<Object<RawFrrConfigSpec>>,
}

/// A VRF carried by EVPN, with this node's addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Vni {
    /// The object.
    pub id: ObjectRef,
    /// The VRF's name.
    pub vrf: VrfName,
    /// Its number on the wire.
    pub vni: u32,
    /// UDP port of its VXLAN packets.
    pub vxlan_port: u32,
    /// This node's end of the tunnels.
    pub vtep: IpAddr,
    /// The router MAC of type-5 routes.
    pub router_mac: [u8; 6],
    /// Route targets put on routes; none leaves them to FRR.
    pub export_rts: Vec<RouteTarget>,
    /// Route targets of routes taken in; none leaves them to FRR.
    pub import_rts: Vec<RouteTarget>,
    /// The session with the host.
    pub session: Option<Session>,
}

/// A session with the host, with this node's addresses: at least one link.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The router's ASN.
    pub asn: Asn,
    /// The host's ASN.
    pub remote: RemoteAs,
    /// IPv4 addresses of the link.
    pub link4: Option<Link>,
    /// IPv6 addresses of the link.
    pub link6: Option<Link>,
    /// Where the host's end is placed, when not in the host's own namespace.
    pub netns: Option<NetnsPath>,
}

impl Session {
    /// The addresses of the link, IPv4 first.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.link4.iter().chain(&self.link6)
    }
}

/// Gives the objects this node's addresses. What cannot be addressed is left out and said.
///
/// # Errors
/// When the underlay has no addresses for this node: then there is nothing to build on.
pub fn resolve(valid: &Valid, node: &Node) -> Result<(Pe, Vec<Failure>), Vec<Failure>> {
    let mut pe = Pe {
        hostname: node.hostname.clone(),
        underlay: None,
        vtep4: None,
        vtep6: None,
        vnis: Vec::new(),
        raw: valid.raw.clone(),
    };
    if let Some(object) = &valid.underlay {
        resolve_underlay(object, node.index, &mut pe)?;
    }
    let mut failures = Vec::new();
    for object in &valid.l3vnis {
        match resolve_vni(object, node.index, &pe) {
            Ok(Some(vni)) => pe.vnis.push(vni),
            // Validation keeps no L3VNI without a VTEP address of its family.
            Ok(None) => {}
            Err((field, error)) => {
                let error = FieldError::new(field, error.to_string());
                failures.push(object.fails(Reason::ValidationFailed, error));
            }
        }
    }
    Ok((pe, failures))
}

fn resolve_underlay(object: &Object<Underlay>, index: u32, pe: &mut Pe) -> Result<(), Vec<Failure>> {
    let underlay = &object.spec;
    let mut failures = Vec::new();
    let mut fail = |field: &str, error: &AddressError| {
        failures.push(object.fails(Reason::ValidationFailed, FieldError::new(field, error.to_string())));
    };
    let id = router_id(underlay.router_id_cidr, index).inspect_err(|error| fail("routerIDCIDR", error));
    for pool in underlay.vtep4_cidr.map(Into::into).into_iter().chain(underlay.vtep6_cidr.map(Into::into)) {
        match tunnel_endpoint(pool, index) {
            Ok(IpAddr::V4(address)) => pe.vtep4 = Some(address),
            Ok(IpAddr::V6(address)) => pe.vtep6 = Some(address),
            Err(error) => fail("tunnelEndpoint.cidrs", &error),
        }
    }
    match id {
        Ok(id) if failures.is_empty() => {
            pe.underlay = Some((underlay.clone(), id));
            Ok(())
        }
        _ => Err(failures),
    }
}

type FieldProblem = (&'static str, AddressError);

fn resolve_vni(object: &Object<L3Vni>, index: u32, pe: &Pe) -> Result<Option<Vni>, FieldProblem> {
    let spec = &object.spec;
    let vtep4 = pe.vtep4.map(IpAddr::V4);
    let vtep6 = pe.vtep6.map(IpAddr::V6);
    let vtep = match spec.underlay_family {
        Some(AddressFamily::Ipv4) => vtep4,
        Some(AddressFamily::Ipv6) => vtep6,
        None => vtep4.or(vtep6),
    };
    let Some(vtep) = vtep else { return Ok(None) };
    let vni = spec.vni.value();
    Ok(Some(Vni {
        id: object.id.clone(),
        vrf: spec.vrf.clone(),
        vni,
        vxlan_port: spec.vxlan_port,
        vtep,
        router_mac: router_mac(vtep, vni),
        export_rts: spec.export_rts.clone(),
        import_rts: spec.import_rts.clone(),
        session: spec.session.as_ref().map(|session| resolve_session(session, index)).transpose()?,
    }))
}

fn resolve_session(session: &HostSession, index: u32) -> Result<Session, FieldProblem> {
    let link4 = session.cidr4.map(|pool| link_addresses(pool.into(), index)).transpose();
    let link6 = session.cidr6.map(|pool| link_addresses(pool.into(), index)).transpose();
    Ok(Session {
        asn: session.asn,
        remote: session.remote,
        link4: link4.map_err(|error| ("hostSession.localCIDR.ipv4", error))?,
        link6: link6.map_err(|error| ("hostSession.localCIDR.ipv6", error))?,
        netns: session.netns.clone(),
    })
}
