use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bridge::{self, BridgeDomain};
use super::formula::{AddressError, Link, link_addresses, router_id, router_mac, tunnel_endpoint};
use super::frr::FrrVersion;
use crate::model::{
    AddressFamily, Asn, Failure, FieldError, NetnsPath, Object, ObjectRef, OvsSocketPath, RawFrrConfigSpec,
    Reason, RouteTarget, VrfName,
};
use crate::validate::{HostSession, L3Vni, RemoteAs, Underlay, Valid};

/// Which node this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its index among the nodes, from 0.
    pub index: u32,
    /// The machine's name, for FRR's prompt and capabilities; none when FRR would not take it.
    pub hostname: Option<String>,
    /// Its FRR; none while that is not known.
    pub frr: Option<FrrVersion>,
    /// Where Open vSwitch's database is reached.
    pub ovsdb: OvsSocketPath,
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
    /// L2VNIs, in the order of their names.
    pub bridges: Vec<BridgeDomain>,
    /// The session with the host in the default VRF; only with an underlay.
    pub passthrough: Option<Passthrough>,
    /// Raw FRR configuration, in the order it is rendered in.
    pub raw: Vec<Object<RawFrrConfigSpec>>,
}

/// A session with the host in the default VRF, with this node's addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Passthrough {
    /// The object.
    pub id: ObjectRef,
    /// The session. Its own ASN does not count: the default VRF has the underlay's.
    pub session: Session,
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

type FieldProblem = (&'static str, AddressError);

/// What [`resolve`] makes of the objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The provider edge.
    pub pe: Pe,
    /// What cannot be part of it, and why.
    pub failures: Vec<Failure>,
    /// Some of the failures are only because FRR's version is not known.
    pub needs_frr_version: bool,
}

/// Gives the objects this node's addresses. What cannot be addressed, or is beyond the node's FRR, is left out and said.
///
/// # Errors
/// When the underlay has no addresses for this node: then there is nothing to build on.
pub fn resolve(valid: &Valid, node: &Node) -> Result<Resolved, Vec<Failure>> {
    let mut pe = Pe {
        hostname: node.hostname.clone(),
        underlay: None,
        vtep4: None,
        vtep6: None,
        vnis: Vec::new(),
        bridges: Vec::new(),
        passthrough: None,
        raw: valid.raw.clone(),
    };
    if let Some(object) = &valid.underlay {
        resolve_underlay(object, node.index, &mut pe)?;
    }
    let mut resolved = Resolved { pe, failures: Vec::new(), needs_frr_version: false };
    for object in &valid.l3vnis {
        if let Some(vtep) = resolved.vtep(object, object.spec.underlay_family, node) {
            match resolve_vni(object, vtep, node.index) {
                Ok(vni) => resolved.pe.vnis.push(vni),
                Err(problem) => resolved.fail_address(object, problem),
            }
        }
    }
    for object in &valid.l2vnis {
        if let Some(vtep) = resolved.vtep(object, object.spec.underlay_family, node) {
            match bridge::resolve(object, vtep, &resolved.pe.vnis, &node.ovsdb) {
                Ok(bridge) => resolved.pe.bridges.push(bridge),
                Err((reason, error)) => resolved.failures.push(object.fails(reason, error)),
            }
        }
    }
    if let Some(object) = &valid.passthrough {
        match resolve_session(&object.spec, node.index) {
            Ok(session) => {
                resolved.pe.passthrough = Some(Passthrough { id: object.id.clone(), session });
            }
            Err(problem) => resolved.fail_address(object, problem),
        }
    }
    Ok(resolved)
}

impl Resolved {
    fn fail_address<T>(&mut self, object: &Object<T>, (field, error): FieldProblem) {
        let error = FieldError::new(field, error.to_string());
        self.failures.push(object.fails(Reason::ValidationFailed, error));
    }

    /// The node's end of the tunnels of a VNI that asks for `family`; none when the VNI cannot be.
    fn vtep<T>(&mut self, object: &Object<T>, family: Option<AddressFamily>, node: &Node) -> Option<IpAddr> {
        let vtep4 = self.pe.vtep4.map(IpAddr::V4);
        let vtep6 = self.pe.vtep6.map(IpAddr::V6);
        // Validation keeps no VNI without a VTEP address of its family.
        let vtep = match family {
            Some(AddressFamily::Ipv4) => vtep4,
            Some(AddressFamily::Ipv6) => vtep6,
            None => vtep4.or(vtep6),
        }?;
        if vtep.is_ipv4() {
            return Some(vtep);
        }
        let problem = match &node.frr {
            Some(frr) => frr.ipv6_vtep_problem(),
            None => {
                self.needs_frr_version = true;
                Some("whether FRR carries its IPv6 VTEP is not known before FRR runs".to_owned())
            }
        };
        let Some(message) = problem else { return Some(vtep) };
        let error = FieldError::new("underlayAddressFamily", message);
        self.failures.push(object.fails(Reason::NotSupported, error));
        None
    }
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

fn resolve_vni(object: &Object<L3Vni>, vtep: IpAddr, index: u32) -> Result<Vni, FieldProblem> {
    let spec = &object.spec;
    let vni = spec.vni.value();
    Ok(Vni {
        id: object.id.clone(),
        vrf: spec.vrf.clone(),
        vni,
        vxlan_port: spec.vxlan_port,
        vtep,
        router_mac: router_mac(vtep, vni),
        export_rts: spec.export_rts.clone(),
        import_rts: spec.import_rts.clone(),
        session: spec.session.as_ref().map(|session| resolve_session(session, index)).transpose()?,
    })
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
