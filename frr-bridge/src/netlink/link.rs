use std::net::IpAddr;

use super::parse::{Attributes, Mac, ip, number, split, u32_at};
use crate::error::ParseError;

/// A network interface, as far as the shadow devices need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Index of the bridge or VRF it belongs to; 0 when of none.
    pub master: u32,
    /// Its MAC address, where it has one.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// `ifalias`; empty when not set.
    pub alias: String,
    /// What kind of device.
    pub kind: Kind,
    /// The kernel makes an IPv6 link-local address by itself (`addrgenmode` is not `none`).
    pub generates_address: bool,
    /// Its settings as a port, when `master` is a bridge.
    pub bridge_port: Option<BridgePort>,
}

/// Kinds of devices that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VRF and its table.
    Vrf {
        /// Routing table.
        table: u32,
    },
    /// A bridge.
    Bridge,
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// TAP, loopback, physical, anything else; `IFLA_INFO_KIND` or empty.
    Other(String),
}

/// Settings of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// VNI.
    pub vni: u32,
    /// Local VTEP address.
    pub local: Option<IpAddr>,
    /// UDP destination port.
    pub port: u16,
    /// It learns remote MACs from packets.
    pub learning: bool,
}

/// Settings of a bridge port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgePort {
    /// It learns MACs from packets.
    pub learning: bool,
    /// ARP and ND are answered from the neighbour table instead of flooded.
    pub neigh_suppress: bool,
    /// Unicast frames to unknown MACs go out of it.
    pub flood: bool,
    /// Multicast frames of other ports go out of it.
    pub mcast_flood: bool,
    /// Broadcast frames of other ports go out of it.
    pub bcast_flood: bool,
}

impl Default for BridgePort {
    /// As the kernel makes one.
    fn default() -> Self {
        Self { learning: true, neigh_suppress: false, flood: true, mcast_flood: true, bcast_flood: true }
    }
}

/// Parses the body of a link message; `None` for a bridge's notice about a port (family `AF_BRIDGE`), which comes as the
/// same type and is not about the link's existence.
pub(super) fn parse(body: &[u8]) -> Result<Option<Link>, ParseError> {
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_MASTER: u16 = 10;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_IFALIAS: u16 = 20;
    const IFLA_AF_SPEC: u16 = 26;
    const IFF_UP: u32 = 1;

    let (header, attributes) = split(body, 16, "link header")?;
    if header[0] != 0 {
        return Ok(None);
    }
    let mut link = Link {
        index: u32_at(header, 4).unwrap_or_default(),
        name: String::new(),
        up: u32_at(header, 8).unwrap_or_default() & IFF_UP != 0,
        master: 0,
        mac: None,
        mtu: 0,
        alias: String::new(),
        kind: Kind::Other(String::new()),
        generates_address: true,
        bridge_port: None,
    };
    for attribute in Attributes(attributes) {
        match attribute? {
            (IFLA_ADDRESS, value) => link.mac = Mac::from_slice(value),
            (IFLA_IFNAME, value) => link.name = text(value),
            (IFLA_MTU, value) => link.mtu = number(value, "IFLA_MTU")?,
            (IFLA_MASTER, value) => link.master = number(value, "IFLA_MASTER")?,
            (IFLA_IFALIAS, value) => link.alias = text(value),
            (IFLA_LINKINFO, value) => information(value, &mut link)?,
            (IFLA_AF_SPEC, value) => link.generates_address = generates_address(value)?,
            _ => {}
        }
    }
    Ok(Some(link))
}

fn information(value: &[u8], link: &mut Link) -> Result<(), ParseError> {
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const IFLA_INFO_SLAVE_KIND: u16 = 4;
    const IFLA_INFO_SLAVE_DATA: u16 = 5;

    let (mut kind, mut slave_kind) = (String::new(), String::new());
    let (mut data, mut slave_data): (&[u8], &[u8]) = (&[], &[]);
    for attribute in Attributes(value) {
        match attribute? {
            (IFLA_INFO_KIND, value) => kind = text(value),
            (IFLA_INFO_DATA, value) => data = value,
            (IFLA_INFO_SLAVE_KIND, value) => slave_kind = text(value),
            (IFLA_INFO_SLAVE_DATA, value) => slave_data = value,
            _ => {}
        }
    }
    link.kind = match kind.as_str() {
        "vrf" => vrf(data)?,
        "bridge" => Kind::Bridge,
        "vxlan" => vxlan(data)?,
        _ => Kind::Other(kind),
    };
    if slave_kind == "bridge" {
        link.bridge_port = Some(bridge_port(slave_data)?);
    }
    Ok(())
}

fn vrf(data: &[u8]) -> Result<Kind, ParseError> {
    const IFLA_VRF_TABLE: u16 = 1;
    for attribute in Attributes(data) {
        if let (IFLA_VRF_TABLE, value) = attribute? {
            return Ok(Kind::Vrf { table: number(value, "IFLA_VRF_TABLE")? });
        }
    }
    Err(ParseError::Missing { what: "IFLA_VRF_TABLE" })
}

fn vxlan(data: &[u8]) -> Result<Kind, ParseError> {
    const IFLA_VXLAN_ID: u16 = 1;
    const IFLA_VXLAN_LOCAL: u16 = 4;
    const IFLA_VXLAN_LEARNING: u16 = 7;
    const IFLA_VXLAN_PORT: u16 = 15;
    const IFLA_VXLAN_LOCAL6: u16 = 17;

    let mut device = Vxlan { vni: 0, local: None, port: 0, learning: false };
    for attribute in Attributes(data) {
        match attribute? {
            (IFLA_VXLAN_ID, value) => device.vni = number(value, "IFLA_VXLAN_ID")?,
            // The kernel states the address of the family that is not in use as zero.
            (IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6, value) => {
                let address = ip(value)?;
                if !address.is_unspecified() {
                    device.local = Some(address);
                }
            }
            (IFLA_VXLAN_LEARNING, value) => device.learning = flag(value),
            (IFLA_VXLAN_PORT, value) => {
                device.port = value
                    .try_into()
                    .map(u16::from_be_bytes)
                    .map_err(|_| ParseError::Size { what: "IFLA_VXLAN_PORT", size: value.len() })?;
            }
            _ => {}
        }
    }
    Ok(Kind::Vxlan(device))
}

fn bridge_port(data: &[u8]) -> Result<BridgePort, ParseError> {
    const IFLA_BRPORT_LEARNING: u16 = 8;
    const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
    const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
    const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
    const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;

    let mut port = BridgePort::default();
    for attribute in Attributes(data) {
        match attribute? {
            (IFLA_BRPORT_LEARNING, value) => port.learning = flag(value),
            (IFLA_BRPORT_UNICAST_FLOOD, value) => port.flood = flag(value),
            (IFLA_BRPORT_MCAST_FLOOD, value) => port.mcast_flood = flag(value),
            (IFLA_BRPORT_BCAST_FLOOD, value) => port.bcast_flood = flag(value),
            (IFLA_BRPORT_NEIGH_SUPPRESS, value) => port.neigh_suppress = flag(value),
            _ => {}
        }
    }
    Ok(port)
}

fn generates_address(value: &[u8]) -> Result<bool, ParseError> {
    const AF_INET6: u16 = 10;
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const NONE: u8 = 1;
    for family in Attributes(value) {
        let (AF_INET6, settings) = family? else { continue };
        for setting in Attributes(settings) {
            if let (IFLA_INET6_ADDR_GEN_MODE, mode) = setting? {
                return Ok(mode.first() != Some(&NONE));
            }
        }
    }
    Ok(true)
}

fn flag(value: &[u8]) -> bool {
    value.first().is_some_and(|&byte| byte != 0)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}
