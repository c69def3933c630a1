//! The first stage: what a frame is, and in which table it is looked up.

use super::bridge::Inside;
use super::{Ingress, Place};
use crate::ecn;
use crate::fib::TableId;
use crate::headers::{
    ETHERNET, ETHERTYPE_ARP, EthernetView, Family, IpView, UDP, UDP_VXLAN, VXLAN_FLAG_VNI, be32, udp_length,
};
use crate::learn::Origin;
use crate::reason::Reason;
use crate::tables::bridge::BridgeView;
use crate::tables::{Tables, VniView};
use crate::types::VrfId;

/// A packet to be looked up.
pub(crate) struct Routed {
    pub(crate) view: IpView,
    /// Where it starts in the frame.
    pub(crate) l3: u16,
    /// Its type of service when it leaves.
    pub(crate) tos: u8,
    pub(crate) vrf: VrfId,
    pub(crate) tables: (TableId, TableId),
    /// It came through a tunnel that ends here.
    pub(crate) tunnelled: bool,
}

/// A frame, and where in a bridge domain it is if it is in one.
pub(crate) enum Frame<'a> {
    /// To be routed.
    Routed(Routed),
    /// In a bridge domain.
    Inside(Inside<'a>),
}

/// What a frame is, without a trace of having looked.
pub(crate) fn locate<'a>(tables: &Tables, ingress: &Ingress, frame: &'a [u8]) -> Result<Frame<'a>, Reason> {
    if let Place::Bridged { bridge, flood_rate } = ingress.place {
        return Ok(Frame::Inside(of_port(ingress, bridge, flood_rate, frame)));
    }
    locate_routed(tables, ingress, frame)
}

/// The same of a port that is routed.
pub(super) fn locate_routed<'a>(
    tables: &Tables,
    ingress: &Ingress,
    frame: &'a [u8],
) -> Result<Frame<'a>, Reason> {
    let view = packet(ingress, frame)?;
    if may_be_vxlan(ingress, &view)
        && let Some(tunnel) = terminate(tables, ingress, &view, frame)?
    {
        return match tunnel.bridge() {
            Some(slot) => tunnel.inside(tables, ingress, &view, slot).map(Frame::Inside),
            None => tunnel.routed(tables, &view).map(Frame::Routed),
        };
    }
    Ok(Frame::Routed(plain(ingress, view)))
}

/// A frame that a port of a bridge domain received.
#[inline(always)]
pub(super) const fn of_port<'a>(
    ingress: &Ingress,
    bridge: BridgeView,
    flood_rate: u32,
    frame: &'a [u8],
) -> Inside<'a> {
    let origin = Origin::Port(ingress.port);
    Inside { bridge, frame, at: 0, port: ingress.port, origin, flood_rate, outer_tos: None }
}

/// The IP packet of a frame to a routed port.
#[inline(always)]
pub(super) fn packet(ingress: &Ingress, frame: &[u8]) -> Result<IpView, Reason> {
    let ethernet = EthernetView::new(frame).ok_or(Reason::Runt)?;
    if ethernet.destination_bits() != ingress.mac {
        return Err(not_to_us(ethernet, frame));
    }
    let Some(family) = Family::of_ethertype(ethernet.ethertype) else {
        return Err(not_ip(ethernet, frame));
    };
    IpView::new(family, frame.get(ETHERNET..).unwrap_or_default())
}

/// A packet that came through no tunnel.
#[inline(always)]
pub(super) const fn plain(ingress: &Ingress, view: IpView) -> Routed {
    #[expect(clippy::cast_possible_truncation, reason = "14")]
    let l3 = ETHERNET as u16;
    Routed { view, l3, tos: view.tos, vrf: ingress.vrf, tables: ingress.tables, tunnelled: false }
}

/// To a group, or to another station.
#[cold]
fn not_to_us(ethernet: EthernetView, frame: &[u8]) -> Reason {
    if !ethernet.is_group() {
        return Reason::NotOurMac;
    }
    let Some(family) = Family::of_ethertype(ethernet.ethertype) else {
        return match not_ip(ethernet, frame) {
            Reason::NotIp => Reason::Multicast,
            reason => reason,
        };
    };
    match IpView::new(family, frame.get(ETHERNET..).unwrap_or_default()) {
        Err(reason) => reason,
        // A unicast packet in a broadcast frame must not be forwarded (RFC 1812 section 5.3.4).
        Ok(_) => Reason::Multicast,
    }
}

#[cold]
fn not_ip(ethernet: EthernetView, frame: &[u8]) -> Reason {
    if ethernet.ethertype == ETHERTYPE_ARP {
        Reason::Arp
    } else if ethernet.is_tagged() {
        Reason::Vlan
    } else if ethernet.is_isis(frame) {
        Reason::IsIs
    } else {
        Reason::NotIp
    }
}

/// UDP to our VTEP address.
#[inline(always)]
pub(super) fn may_be_vxlan(ingress: &Ingress, view: &IpView) -> bool {
    view.transport.protocol == UDP && ingress.node.is_own(view.destination_bits())
}

/// Whether a frame is VXLAN to our VTEP address, whatever its VNI.
pub(super) fn is_vxlan_to_us(ingress: &Ingress, frame: &[u8]) -> bool {
    matches!(ingress.place, Place::Routed)
        && packet(ingress, frame).is_ok_and(|view| {
            let udp_port = view.transport.destination_port();
            may_be_vxlan(ingress, &view) && udp_port != 0 && ingress.node.udp_ports.contains(&udp_port)
        })
}

/// A frame that came through a tunnel which ends here.
pub(super) struct Terminated<'a> {
    vni: VniView,
    /// From its Ethernet header on.
    frame: &'a [u8],
    /// Where it starts in what was received.
    at: u16,
}

/// The frame within UDP to our VTEP address; nothing when its port is none of VXLAN's, and it is an ordinary packet to us.
#[inline(always)]
pub(super) fn terminate<'a>(
    tables: &Tables,
    ingress: &Ingress,
    outer: &IpView,
    frame: &'a [u8],
) -> Result<Option<Terminated<'a>>, Reason> {
    let packet = frame.get(ETHERNET..).unwrap_or_default();
    let transport = outer.transport;
    if transport.fragment {
        return Err(Reason::OuterFragment);
    }
    let udp_port = transport.destination_port();
    if udp_port == 0 || !ingress.node.udp_ports.contains(&udp_port) {
        return Ok(None);
    }
    let start = usize::from(transport.offset);
    let udp_length = usize::from(udp_length(packet, transport).ok_or(Reason::MalformedVxlan)?);
    if udp_length < UDP_VXLAN + ETHERNET || start + udp_length > usize::from(outer.length) {
        return Err(Reason::MalformedVxlan);
    }
    // The UDP checksum may be anything: RFC 7348 section 5 lets the receiver ignore it, RFC 6935 allows zero over IPv6.
    let flags = packet.get(start + 8).copied().unwrap_or(0);
    if flags & VXLAN_FLAG_VNI == 0 {
        return Err(Reason::MalformedVxlan);
    }
    let number = be32(packet, start + 12).ok_or(Reason::MalformedVxlan)? >> 8;
    let vni = tables.vni(number).ok_or(Reason::UnknownVni)?;
    if vni.own != outer.destination_bits() || vni.udp_port != udp_port {
        return Err(Reason::UnknownVni);
    }
    if tables.peers.find(number, outer.source_bits()).is_none() {
        return Err(Reason::UnknownVtep);
    }
    let inner = start + UDP_VXLAN;
    let frame = packet.get(inner..start + udp_length).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "at most 14 + 60 + 16")]
    let at = (ETHERNET + inner) as u16;
    Ok(Some(Terminated { vni, frame, at }))
}

impl<'a> Terminated<'a> {
    /// The bridge domain that it is in, of an L2VNI.
    #[inline(always)]
    pub(super) const fn bridge(&self) -> Option<u32> {
        self.vni.bridge
    }

    /// In that domain.
    #[inline(always)]
    pub(super) fn inside(
        &self,
        tables: &Tables,
        ingress: &Ingress,
        outer: &IpView,
        slot: u32,
    ) -> Result<Inside<'a>, Reason> {
        Ok(Inside {
            bridge: tables.bridge(slot).ok_or(Reason::NoBridge)?,
            frame: self.frame,
            at: self.at,
            port: ingress.port,
            origin: Origin::Vtep(outer.source_bits()),
            flood_rate: 0,
            outer_tos: Some(outer.tos),
        })
    }

    /// Of an L3VNI: a packet to be routed in its VRF.
    #[inline(always)]
    pub(super) fn routed(&self, tables: &Tables, outer: &IpView) -> Result<Routed, Reason> {
        let ethernet = EthernetView::new(self.frame).ok_or(Reason::MalformedVxlan)?;
        if ethernet.destination_bits() != self.vni.router_mac.bits() {
            return Err(Reason::NotRouterMac);
        }
        let family = Family::of_ethertype(ethernet.ethertype).ok_or(Reason::InnerNotIp)?;
        let view = IpView::new(family, self.frame.get(ETHERNET..).unwrap_or_default())?;
        let ecn = ecn::decapsulate(outer.tos, view.tos)?;
        #[expect(clippy::cast_possible_truncation, reason = "14")]
        let l3 = self.at + ETHERNET as u16;
        let (vrf, tos) = (self.vni.vrf, view.tos & !ecn::MASK | ecn);
        let tables = tables.vrf(vrf).ok_or(Reason::UnknownVni)?;
        Ok(Routed { view, l3, tos, vrf, tables, tunnelled: true })
    }
}
