use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::link::{self, Link};
use crate::error::ParseError;

const NLMSG_HEADER: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_BRIDGE: u8 = 7;
pub(super) const AF_INET6: u8 = 10;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// From exactly six bytes, not all zero.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let octets: [u8; 6] = bytes.try_into().ok()?;
        (octets != [0; 6]).then_some(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One message, already judged to be new (or changed) or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `RTM_NEWROUTE`.
    NewRoute(Route),
    /// `RTM_DELROUTE`.
    DelRoute(Route),
    /// `RTM_NEWNEXTHOP`.
    NewNextHop(NextHop),
    /// `RTM_DELNEXTHOP` of this id.
    DelNextHop(u32),
    /// `RTM_NEWNEIGH` of family IPv4 or IPv6.
    NewNeighbor(LinkNeighbor),
    /// `RTM_DELNEIGH` of family IPv4 or IPv6.
    DelNeighbor(LinkNeighbor),
    /// `RTM_NEWNEIGH` of family bridge that names a remote VTEP.
    NewMac(MacEntry),
    /// `RTM_DELNEIGH` of family bridge that names a remote VTEP.
    DelMac(MacEntry),
    /// `RTM_NEWNEIGH` of family bridge that names a remote VTEP for the all-zero MAC.
    NewFlood(FloodEntry),
    /// `RTM_DELNEIGH` of family bridge that names a remote VTEP for the all-zero MAC.
    DelFlood(FloodEntry),
    /// `RTM_NEWNEIGH` of family bridge from the bridge itself.
    NewFdb(FdbEntry),
    /// `RTM_DELNEIGH` of family bridge from the bridge itself.
    DelFdb(FdbEntry),
    /// `RTM_NEWLINK`.
    NewLink(Box<Link>),
    /// `RTM_DELLINK` of this interface index.
    DelLink(u32),
    /// `RTM_NEWADDR`.
    NewAddress(Address),
    /// `RTM_DELADDR`.
    DelAddress(Address),
    /// A message that says nothing to us: another type, a family or a scope we do not forward.
    Other,
}

/// What a route does with its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// To the next hops.
    Unicast,
    /// Blackhole, unreachable, prohibit.
    Discard,
    /// Local, broadcast, multicast...: the kernel's own affair.
    Own,
}

/// A route of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `RTA_TABLE`, or the header's table.
    pub table: u32,
    /// Destination, bits beyond the length zero.
    pub prefix: IpNet,
    /// `rtm_protocol`: who made it.
    pub protocol: u8,
    /// What it does.
    pub kind: RouteKind,
    /// Its next hops.
    pub hops: Hops,
}

/// The next hops of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hops {
    /// `RTA_NH_ID`: a next-hop object.
    Object(u32),
    /// `RTA_GATEWAY`, `RTA_VIA`, `RTA_OIF`, `RTA_MULTIPATH`; empty when the message has none.
    Inline(Box<[Hop]>),
}

/// One next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// Of either family; `None` on a directly connected route.
    pub gateway: Option<IpAddr>,
    /// Interface index; 0 when absent.
    pub oif: u32,
    /// 1 to 256.
    pub weight: u16,
}

/// A next-hop object (`RTM_NEWNEXTHOP`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// `NHA_ID`.
    pub id: u32,
    /// What it is.
    pub content: NextHopContent,
}

/// What a next-hop object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHopContent {
    /// `NHA_GATEWAY` and `NHA_OIF`.
    Hop(Hop),
    /// `NHA_BLACKHOLE`.
    Discard,
    /// `NHA_GROUP`: ids and weights (1 to 65535).
    Group(Box<[(u32, u16)]>),
}

/// An IP neighbour of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkNeighbor {
    /// Interface index.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
    /// `NDA_LLADDR`.
    pub mac: Option<Mac>,
    /// `ndm_state`: `NUD_*` bits.
    pub state: u16,
    /// `ndm_flags`: `NTF_*` bits.
    pub flags: u8,
    /// `NDA_PROTOCOL`: who made it; 0 when the kernel did, or its maker does not say.
    pub protocol: u8,
}

pub(super) const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_NOARP: u16 = 0x40;
pub(super) const NUD_PERMANENT: u16 = 0x80;
const NTF_EXT_LEARNED: u8 = 0x10;
const NTF_STICKY: u8 = 0x40;

impl LinkNeighbor {
    /// `NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP | NUD_PERMANENT`.
    const NUD_VALID: u16 = NUD_REACHABLE | NUD_STALE | 0x08 | 0x10 | NUD_NOARP | NUD_PERMANENT;

    /// The MAC that packets may be sent to now.
    #[must_use]
    pub fn usable_mac(&self) -> Option<Mac> {
        if self.state & Self::NUD_VALID == 0 { None } else { self.mac }
    }

    /// Nobody confirmed it lately.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.state & NUD_STALE != 0
    }

    /// Made by a control plane, e.g. a router MAC by zebra.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.flags & NTF_EXT_LEARNED != 0
    }
}

/// A remote MAC behind a VTEP (`AF_BRIDGE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacEntry {
    /// The VXLAN device.
    pub ifindex: u32,
    /// The MAC.
    pub mac: Mac,
    /// `NDA_DST`.
    pub vtep: IpAddr,
    /// The control plane says that it does not move (`NTF_STICKY`).
    pub sticky: bool,
}

/// A VTEP that gets what a VXLAN device floods (`AF_BRIDGE`, all-zero MAC). There is one entry per VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FloodEntry {
    /// The VXLAN device.
    pub ifindex: u32,
    /// `NDA_DST`.
    pub vtep: IpAddr,
}

/// An entry of a bridge's FDB (`AF_BRIDGE`): which port a MAC is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbEntry {
    /// The bridge.
    pub bridge: u32,
    /// The port's interface index.
    pub port: u32,
    /// The MAC.
    pub mac: Mac,
    /// It may age: neither static nor an address of the bridge's own.
    pub dynamic: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Interface index.
    pub ifindex: u32,
    /// The address itself and its prefix length, not truncated.
    pub address: IpNet,
}

/// Splits a buffer into netlink messages: type and body.
///
/// Stops with an error at the first header that does not fit; what came before it has been yielded.
pub fn messages(buffer: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), ParseError>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok());
        let Some((length, kind)) = length.zip(u16_at(rest, 4)) else {
            let have = std::mem::take(&mut rest).len();
            return Some(Err(ParseError::Truncated { what: "netlink header", need: NLMSG_HEADER, have }));
        };
        if length < NLMSG_HEADER || length > rest.len() {
            let have = std::mem::take(&mut rest).len();
            return Some(Err(ParseError::Length { what: "netlink message", length, have }));
        }
        let body = &rest[NLMSG_HEADER..length];
        rest = rest.get(align(length)..).unwrap_or_default();
        Some(Ok((kind, body)))
    })
}

/// Parses the body of a message of type `kind`.
///
/// # Errors
/// When its fixed header is cut short, a length contradicts itself, or an attribute that matters has the wrong size.
pub fn parse(kind: u16, body: &[u8]) -> Result<Message, ParseError> {
    Ok(match kind {
        RTM_NEWROUTE => route(body)?.map_or(Message::Other, Message::NewRoute),
        RTM_DELROUTE => route(body)?.map_or(Message::Other, Message::DelRoute),
        RTM_NEWNEXTHOP => Message::NewNextHop(next_hop(body)?),
        RTM_DELNEXTHOP => Message::DelNextHop(next_hop_id(body)?),
        RTM_NEWNEIGH => neighbor(body, true)?,
        RTM_DELNEIGH => neighbor(body, false)?,
        RTM_NEWLINK => link::parse(body)?.map_or(Message::Other, |link| Message::NewLink(Box::new(link))),
        RTM_DELLINK => link::parse(body)?.map_or(Message::Other, |link| Message::DelLink(link.index)),
        RTM_NEWADDR => address(body)?.map_or(Message::Other, Message::NewAddress),
        RTM_DELADDR => address(body)?.map_or(Message::Other, Message::DelAddress),
        _ => Message::Other,
    })
}

fn route(body: &[u8]) -> Result<Option<Route>, ParseError> {
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const RTA_MULTIPATH: u16 = 9;
    const RTA_TABLE: u16 = 15;
    const RTA_VIA: u16 = 18;
    const RTA_NH_ID: u16 = 30;
    const RTM_F_CLONED: u32 = 0x200;

    let (header, attributes) = split(body, 12, "route header")?;
    let (family, length, source_length, tos, table, protocol, kind) =
        (header[0], header[1], header[2], header[3], header[4], header[5], header[7]);
    let cloned = u32_at(header, 8).is_some_and(|flags| flags & RTM_F_CLONED != 0);
    // Source-specific and TOS routes do not exist in the FIB; cloned ones are the kernel's exceptions (PMTU).
    if !matches!(family, AF_INET | AF_INET6) || source_length != 0 || tos != 0 || cloned {
        return Ok(None);
    }
    let mut destination =
        if family == AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let mut table = u32::from(table);
    let (mut gateway, mut oif, mut object, mut multipath) = (None, 0, None, None);
    for attribute in Attributes(attributes) {
        let (name, value) = attribute?;
        match name {
            RTA_DST => destination = ip(value)?,
            RTA_TABLE => table = number(value, "RTA_TABLE")?,
            RTA_GATEWAY => gateway = Some(ip(value)?),
            RTA_VIA => gateway = Some(via(value)?),
            RTA_OIF => oif = number(value, "RTA_OIF")?,
            RTA_NH_ID => object = Some(number(value, "RTA_NH_ID")?),
            RTA_MULTIPATH => multipath = Some(value),
            _ => {}
        }
    }
    let prefix = IpNet::new(destination, length)
        .map_err(|_| ParseError::PrefixLength { destination, length })?
        .trunc();
    if destination.is_ipv4() != (family == AF_INET) {
        return Err(ParseError::Family { family });
    }
    let hops = match (object, multipath) {
        (Some(id), _) => Hops::Object(id),
        (None, Some(value)) => Hops::Inline(multipath_hops(value)?),
        (None, None) if gateway.is_none() && oif == 0 => Hops::Inline(Box::new([])),
        (None, None) => Hops::Inline(Box::new([Hop { gateway, oif, weight: 1 }])),
    };
    // RTN_UNICAST is 1; RTN_BLACKHOLE, RTN_UNREACHABLE and RTN_PROHIBIT are 6 to 8. A deletion may leave it open (0).
    let kind = match kind {
        0 | 1 => RouteKind::Unicast,
        6..=8 => RouteKind::Discard,
        _ => RouteKind::Own,
    };
    Ok(Some(Route { table, prefix, protocol, kind, hops }))
}

fn multipath_hops(mut value: &[u8]) -> Result<Box<[Hop]>, ParseError> {
    const RTA_GATEWAY: u16 = 5;
    const RTA_VIA: u16 = 18;

    let mut hops = Vec::new();
    while !value.is_empty() {
        let (header, _) = split(value, 8, "multipath next hop")?;
        let length = usize::from(u16_at(header, 0).unwrap_or_default());
        if length < 8 || length > value.len() {
            return Err(ParseError::Length { what: "multipath next hop", length, have: value.len() });
        }
        let mut hop = Hop {
            gateway: None,
            oif: u32_at(header, 4).unwrap_or_default(),
            // Stored less one by the kernel and by zebra.
            weight: u16::from(header[3]) + 1,
        };
        for attribute in Attributes(&value[8..length]) {
            match attribute? {
                (RTA_GATEWAY, address) => hop.gateway = Some(ip(address)?),
                (RTA_VIA, address) => hop.gateway = Some(via(address)?),
                _ => {}
            }
        }
        hops.push(hop);
        value = value.get(align(length)..).unwrap_or_default();
    }
    Ok(hops.into_boxed_slice())
}

fn next_hop_id(body: &[u8]) -> Result<u32, ParseError> {
    const NHA_ID: u16 = 1;
    let (_, attributes) = split(body, 8, "next-hop header")?;
    for attribute in Attributes(attributes) {
        if let (NHA_ID, value) = attribute? {
            return number(value, "NHA_ID");
        }
    }
    Err(ParseError::Missing { what: "NHA_ID" })
}

fn next_hop(body: &[u8]) -> Result<NextHop, ParseError> {
    const NHA_GROUP: u16 = 2;
    const NHA_BLACKHOLE: u16 = 4;
    const NHA_OIF: u16 = 5;
    const NHA_GATEWAY: u16 = 6;

    let id = next_hop_id(body)?;
    let (_, attributes) = split(body, 8, "next-hop header")?;
    let mut hop = Hop { gateway: None, oif: 0, weight: 1 };
    let mut content = None;
    for attribute in Attributes(attributes) {
        match attribute? {
            (NHA_GROUP, value) => content = Some(NextHopContent::Group(group(value)?)),
            (NHA_BLACKHOLE, _) => content = Some(NextHopContent::Discard),
            (NHA_OIF, value) => hop.oif = number(value, "NHA_OIF")?,
            (NHA_GATEWAY, value) => hop.gateway = Some(ip(value)?),
            _ => {}
        }
    }
    Ok(NextHop { id, content: content.unwrap_or(NextHopContent::Hop(hop)) })
}

fn group(value: &[u8]) -> Result<Box<[(u32, u16)]>, ParseError> {
    let entries = value.chunks_exact(8);
    if !entries.remainder().is_empty() {
        return Err(ParseError::Size { what: "NHA_GROUP", size: value.len() });
    }
    // The weight less one; newer ones (Linux 6.12, FRR 10.2) keep its upper byte in what was reserved before.
    let weight = |entry: &[u8]| u16::from_le_bytes([entry[4], entry[5]]).saturating_add(1);
    Ok(entries.map(|entry| (u32_at(entry, 0).unwrap_or_default(), weight(entry))).collect())
}

/// `new`: it is there, or has changed; otherwise it is gone.
fn neighbor(body: &[u8], new: bool) -> Result<Message, ParseError> {
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    const NDA_VLAN: u16 = 5;
    const NDA_MASTER: u16 = 9;
    const NDA_PROTOCOL: u16 = 12;
    const NTF_PROXY: u8 = 0x08;

    let (header, attributes) = split(body, 12, "neighbour header")?;
    let family = header[0];
    let ifindex = u32_at(header, 4).unwrap_or_default();
    let state = u16_at(header, 8).unwrap_or_default();
    let flags = header[10];
    if !matches!(family, AF_INET | AF_INET6 | AF_BRIDGE) || flags & NTF_PROXY != 0 {
        return Ok(Message::Other);
    }
    let (mut address, mut link_address, mut bridge, mut vlan, mut protocol) = (None, None, None, false, 0);
    for attribute in Attributes(attributes) {
        match attribute? {
            (NDA_DST, value) => address = Some(ip(value)?),
            (NDA_LLADDR, value) => link_address = Some(value),
            (NDA_VLAN, _) => vlan = true,
            (NDA_MASTER, value) => bridge = Some(number(value, "NDA_MASTER")?),
            (NDA_PROTOCOL, value) => protocol = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    let mac = link_address.and_then(Mac::from_slice);
    Ok(match (family, address, mac) {
        // Learned by the kernel from packets that it was handed: the dataplane learns for itself.
        (AF_BRIDGE, Some(_), Some(_))
            if new && flags & NTF_EXT_LEARNED == 0 && state & (NUD_PERMANENT | NUD_NOARP) == 0 =>
        {
            Message::Other
        }
        (AF_BRIDGE, Some(vtep), Some(mac)) => {
            let (vtep, sticky) = (vtep.to_canonical(), flags & NTF_STICKY != 0);
            let entry = MacEntry { ifindex, mac, vtep, sticky };
            if new { Message::NewMac(entry) } else { Message::DelMac(entry) }
        }
        (AF_BRIDGE, Some(vtep), None) if link_address == Some(&[0; 6]) && !vtep.is_multicast() => {
            let entry = FloodEntry { ifindex, vtep: vtep.to_canonical() };
            if new { Message::NewFlood(entry) } else { Message::DelFlood(entry) }
        }
        // Bridges here know no VLANs: with one it repeats what is said without.
        (AF_BRIDGE, None, Some(mac)) if !vlan => match bridge {
            Some(bridge) => {
                let dynamic = state & (NUD_PERMANENT | NUD_NOARP) == 0;
                let entry = FdbEntry { bridge, port: ifindex, mac, dynamic };
                if new { Message::NewFdb(entry) } else { Message::DelFdb(entry) }
            }
            None => Message::Other,
        },
        (AF_INET | AF_INET6, Some(address), _) if !address.is_multicast() => {
            let neighbor = LinkNeighbor { ifindex, address, mac, state, flags, protocol };
            if new { Message::NewNeighbor(neighbor) } else { Message::DelNeighbor(neighbor) }
        }
        _ => Message::Other,
    })
}

fn address(body: &[u8]) -> Result<Option<Address>, ParseError> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;

    let (header, attributes) = split(body, 8, "address header")?;
    let (family, length) = (header[0], header[1]);
    if !matches!(family, AF_INET | AF_INET6) {
        return Ok(None);
    }
    let ifindex = u32_at(header, 4).unwrap_or_default();
    let (mut address, mut local) = (None, None);
    for attribute in Attributes(attributes) {
        match attribute? {
            (IFA_ADDRESS, value) => address = Some(ip(value)?),
            (IFA_LOCAL, value) => local = Some(ip(value)?),
            _ => {}
        }
    }
    // On a point-to-point address IFA_ADDRESS is the peer's; ours is IFA_LOCAL.
    let own = local.or(address).ok_or(ParseError::Missing { what: "IFA_ADDRESS" })?;
    let address =
        IpNet::new(own, length).map_err(|_| ParseError::PrefixLength { destination: own, length })?;
    Ok(Some(Address { ifindex, address }))
}

/// Walks netlink attributes: type without its flag bits, and value. Ends after the first error.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        const FLAGS: u16 = 0xc000;
        if self.0.is_empty() {
            return None;
        }
        let Some((length, kind)) = u16_at(self.0, 0).map(usize::from).zip(u16_at(self.0, 2)) else {
            let have = std::mem::take(&mut self.0).len();
            return Some(Err(ParseError::Truncated { what: "attribute header", need: 4, have }));
        };
        if length < 4 || length > self.0.len() {
            let have = std::mem::take(&mut self.0).len();
            return Some(Err(ParseError::Length { what: "attribute", length, have }));
        }
        let value = &self.0[4..length];
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some(Ok((kind & !FLAGS, value)))
    }
}

pub(super) fn split<'a>(
    body: &'a [u8],
    header: usize,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), ParseError> {
    body.split_at_checked(header).ok_or(ParseError::Truncated { what, need: header, have: body.len() })
}

pub(super) fn number(value: &[u8], what: &'static str) -> Result<u32, ParseError> {
    value.try_into().map(u32::from_ne_bytes).map_err(|_| ParseError::Size { what, size: value.len() })
}

pub(super) fn ip(value: &[u8]) -> Result<IpAddr, ParseError> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value)
        .map(|octets| Ipv6Addr::from(octets).into())
        .map_err(|_| ParseError::Size { what: "IP address", size: value.len() })
}

/// `RTA_VIA`: two bytes of family, then the address. How an IPv4 route names an IPv6 gateway.
fn via(value: &[u8]) -> Result<IpAddr, ParseError> {
    split(value, 2, "RTA_VIA").and_then(|(_, address)| ip(address))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}
