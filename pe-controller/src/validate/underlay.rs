use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::neighbor::{self, MAX_NEIGHBORS, Neighbor};
use super::selector_error;
use crate::model::{
    AddressFamily, Asn, FieldError, GracefulRestartSpec, InterfaceName, InterfaceType, PciAddress, Reason,
    UnderlayInterface, UnderlaySpec,
};

/// The node's connection to the fabric, all rules kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Underlay {
    /// The router's ASN.
    pub asn: Asn,
    /// Pool of router-ids.
    pub router_id_cidr: Ipv4Net,
    /// Pool of IPv4 VTEP addresses.
    pub vtep4_cidr: Option<Ipv4Net>,
    /// Pool of IPv6 VTEP addresses.
    pub vtep6_cidr: Option<Ipv6Net>,
    /// Interfaces, in the object's order, names unique.
    pub ports: Vec<Port>,
    /// Neighbours, in the object's order.
    pub neighbors: Vec<Neighbor>,
    /// Graceful restart, when it is on.
    pub graceful_restart: Option<GracefulRestartSpec>,
    /// The cluster-id of a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
}

/// An interface to the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the router.
    pub name: InterfaceName,
    /// What it is.
    pub device: PortDevice,
}

/// What an interface to the fabric is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortDevice {
    /// The host's network device of the same name.
    Netdev,
    /// A PCI function.
    Pci(PciAddress),
}

type Errors = Vec<(Reason, FieldError)>;

/// Checks an underlay. Beside it come the fields that this release leaves out.
///
/// # Errors
/// Every rule that is broken.
pub(super) fn check(spec: &UnderlaySpec) -> Result<(Underlay, Vec<FieldError>), Errors> {
    let mut errors: Vec<FieldError> = selector_error(&spec.node_selector);
    let mut unsupported = Vec::new();
    let neighbors = check_neighbors(spec, &mut errors);
    let ports = check_interfaces(&spec.interfaces, &mut errors, &mut unsupported);
    let (vtep4_cidr, vtep6_cidr) = check_tunnel_endpoint(spec, &mut errors);

    if spec.srv6.is_some() {
        if spec.isis.is_none() {
            errors.push(FieldError::new("srv6", "needs isis"));
        }
        if vtep6_cidr.is_none() {
            errors.push(FieldError::new("srv6", "needs an IPv6 CIDR in tunnelEndpoint.cidrs"));
        }
        unsupported.push(FieldError::new("srv6", "SRv6 is not supported by this release; it is left out"));
    }
    if spec.isis.is_some() {
        unsupported.push(FieldError::new("isis", "IS-IS is not supported by this release; it is left out"));
    }
    let cluster_id = spec.route_reflector.as_ref().map(|reflector| reflector.cluster_id);
    if let Some(id) = cluster_id
        && spec.router_id_cidr.contains(&id)
    {
        let message = format!(
            "{id} is inside routerIDCIDR {}, where it could be a node's router-id",
            spec.router_id_cidr
        );
        errors.push(FieldError::new("routeReflector.clusterID", message));
    }

    let mut all: Errors = errors.into_iter().map(|error| (Reason::ValidationFailed, error)).collect();
    if ports.is_empty() && all.is_empty() {
        // Only interfaces that this release cannot make: nothing would connect the node.
        all.extend(unsupported.into_iter().map(|error| (Reason::NotSupported, error)));
        return Err(all);
    }
    if !all.is_empty() {
        return Err(all);
    }
    let underlay = Underlay {
        asn: spec.asn,
        router_id_cidr: spec.router_id_cidr,
        vtep4_cidr,
        vtep6_cidr,
        ports,
        neighbors,
        graceful_restart: spec.graceful_restart.clone(),
        cluster_id,
    };
    Ok((underlay, unsupported))
}

fn check_neighbors(spec: &UnderlaySpec, errors: &mut Vec<FieldError>) -> Vec<Neighbor> {
    if spec.neighbors.is_empty() || spec.neighbors.len() > MAX_NEIGHBORS {
        let message = format!("must have 1 to {MAX_NEIGHBORS} neighbors, has {}", spec.neighbors.len());
        errors.push(FieldError::new("neighbors", message));
    }
    let mut good = Vec::new();
    for (index, neighbor) in spec.neighbors.iter().enumerate() {
        match neighbor::check(neighbor, spec.asn) {
            Ok(neighbor) => good.push((index, neighbor)),
            Err(found) => errors.extend(found.into_iter().map(|error| {
                let dot = if error.field.is_empty() { "" } else { "." };
                FieldError::new(format!("neighbors[{index}]{dot}{}", error.field), error.message)
            })),
        }
    }
    errors.extend(neighbor::check_all(&good));
    good.into_iter().map(|(_, neighbor)| neighbor).collect()
}

fn check_tunnel_endpoint(
    spec: &UnderlaySpec,
    errors: &mut Vec<FieldError>,
) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
    let (mut vtep4, mut vtep6) = (None, None);
    let Some(endpoint) = &spec.tunnel_endpoint else { return (None, None) };
    if endpoint.cidrs.is_empty() {
        errors.push(FieldError::new("tunnelEndpoint.cidrs", "must have one or two CIDRs"));
    }
    for (index, cidr) in endpoint.cidrs.iter().enumerate() {
        let taken = match cidr {
            IpNet::V4(cidr) => vtep4.replace(*cidr).is_some(),
            IpNet::V6(cidr) => vtep6.replace(*cidr).is_some(),
        };
        if taken {
            let message = format!("{cidr}: at most one CIDR per family");
            errors.push(FieldError::new(format!("tunnelEndpoint.cidrs[{index}]"), message));
        }
    }
    (vtep4, vtep6)
}

fn check_interfaces(
    interfaces: &[UnderlayInterface],
    errors: &mut Vec<FieldError>,
    unsupported: &mut Vec<FieldError>,
) -> Vec<Port> {
    if interfaces.is_empty() {
        errors.push(FieldError::new("interfaces", "must have at least one interface"));
    }
    let is_cni = |interface: &UnderlayInterface| interface.r#type == InterfaceType::CniDevice;
    if interfaces.iter().any(is_cni) && !interfaces.iter().all(is_cni) {
        errors.push(FieldError::new("interfaces", "CNIDevice cannot be mixed with other types"));
    }
    let mut ports = Vec::new();
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let field = format!("interfaces[{index}]");
        let port = match (
            interface.r#type,
            &interface.network_device,
            &interface.cni_device,
            &interface.pci_device,
        ) {
            (InterfaceType::NetworkDevice, Some(device), None, None) => {
                Port { name: device.interface_name.clone(), device: PortDevice::Netdev }
            }
            (InterfaceType::PciDevice, None, None, Some(device)) => {
                if !addresses.insert(&device.address) {
                    let message = format!("{} is listed twice", device.address);
                    errors.push(FieldError::new(format!("{field}.pciDevice.address"), message));
                }
                Port { name: device.interface_name.clone(), device: PortDevice::Pci(device.address.clone()) }
            }
            (InterfaceType::CniDevice, None, Some(device), None) => {
                if device.r#type != "RawConfig" || device.raw_config.is_none() {
                    let message = "type must be RawConfig, and rawConfig set";
                    errors.push(FieldError::new(format!("{field}.cniDevice"), message));
                }
                unsupported.push(FieldError::new(field, "CNIDevice is not supported by this release"));
                continue;
            }
            _ => {
                let message = "set the member that belongs to the type, and no other: \
                               networkDevice for NetworkDevice, pciDevice for PCIDevice, cniDevice for CNIDevice";
                errors.push(FieldError::new(format!("{field}.type"), message));
                continue;
            }
        };
        if let Some(message) = reserved(port.name.as_str()) {
            errors.push(FieldError::new(&field, message));
        }
        if names.insert(port.name.clone()) {
            ports.push(port);
        } else {
            errors.push(FieldError::new(field, format!("interface {} is listed twice", port.name)));
        }
    }
    ports
}

/// Says why `underlay` has no VTEP address of the asked family, or of any.
pub(super) fn vtep_problem(family: Option<AddressFamily>, underlay: &Underlay) -> Option<String> {
    let (has4, has6) = (underlay.vtep4_cidr.is_some(), underlay.vtep6_cidr.is_some());
    match family {
        None if !has4 && !has6 => {
            Some("the underlay has no tunnelEndpoint.cidrs, so the node has no VTEP address".to_owned())
        }
        Some(AddressFamily::Ipv4) if !has4 => {
            Some("IPv4 is asked for, but the underlay's tunnelEndpoint.cidrs has no IPv4 CIDR".to_owned())
        }
        Some(AddressFamily::Ipv6) if !has6 => {
            Some("IPv6 is asked for, but the underlay's tunnelEndpoint.cidrs has no IPv6 CIDR".to_owned())
        }
        _ => None,
    }
}

/// Says why `name` cannot be a port's, a VRF's or a bridge's: the router has a device of its own by that name.
pub(super) fn reserved(name: &str) -> Option<String> {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let ours = matches!(name, "lo" | "default" | "all" | "pt-ns" | "pt-host")
        || ["pe-e-", "br-pe-", "vni", "host-e-", "br-hs-"].iter().any(|p| numbered(p));
    ours.then(|| format!("{name} is a name the router itself uses: choose another"))
}
