//! The first stage: what a frame is, and in which table it is looked up.

use super::bridge::{self, Decision, Inside};
use super::learn::Learner;
use super::{Ingress, Place};
use crate::counters::WorkerCells;
use crate::ecn;
use crate::fib::TableId;
use crate::headers::{
    ETHERNET, ETHERTYPE_ARP, EthernetView, Family, IpView, UDP, UDP_VXLAN, VXLAN_FLAG_VNI, be32, udp_length,
};
use crate::learn::Origin;
use crate::reason::Reason;
use crate::tables::Tables;
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

#[inline(always)]
pub(super) fn classify(
    tables: &Tables,
    learner: &mut Learner,
    cells: &WorkerCells,
    ingress: &Ingress,
    frame: &[u8],
) -> Result<Decision, Reason> {
    match locate(tables, ingress, frame)? {
        Frame::Routed(routed) => Ok(Decision::Route(routed)),
        Frame::Inside(inside) => bridge::decide(tables, learner, cells.bridge(inside.bridge.slot), &inside),
    }
}

/// What a frame is, without a trace of having looked.
#[inline(always)]
pub(crate) fn locate<'a>(tables: &Tables, ingress: &Ingress, frame: &'a [u8]) -> Result<Frame<'a>, Reason> {
    if let Place::Bridged { bridge, flood_rate } = ingress.place {
        let origin = Origin::Port(ingress.port);
        let inside = Inside { bridge, frame, at: 0, port: ingress.port, origin, flood_rate, outer_tos: None };
        return Ok(Frame::Inside(inside));
    }
    let ethernet = EthernetView::new(frame).ok_or(Reason::Runt)?;
    if ethernet.destination_bits() != ingress.mac {
        return Err(not_to_us(ethernet, frame));
    }
    let Some(family) = Family::of_ethertype(ethernet.ethertype) else {
        return Err(not_ip(ethernet, frame));
    };
    let packet = frame.get(ETHERNET..).unwrap_or_default();
    let view = IpView::new(family, packet)?;
    if view.transport.protocol == UDP
        && ingress.node.is_own(view.destination_bits())
        && let Some(inner) = decapsulate(tables, ingress, &view, packet)?
    {
        return Ok(inner);
    }
    #[expect(clippy::cast_possible_truncation, reason = "14")]
    let l3 = ETHERNET as u16;
    let routed =
        Routed { view, l3, tos: view.tos, vrf: ingress.vrf, tables: ingress.tables, tunnelled: false };
    Ok(Frame::Routed(routed))
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

/// The inner packet of a UDP packet to our VTEP address; nothing when its port is none of VXLAN's, and it is an ordinary
/// packet to us.
#[inline(always)]
fn decapsulate<'a>(
    tables: &Tables,
    ingress: &Ingress,
    outer: &IpView,
    packet: &'a [u8],
) -> Result<Option<Frame<'a>>, Reason> {
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
    let vni = be32(packet, start + 12).ok_or(Reason::MalformedVxlan)? >> 8;
    let view = tables.vni(vni).ok_or(Reason::UnknownVni)?;
    if view.own != outer.destination_bits() || view.udp_port != udp_port {
        return Err(Reason::UnknownVni);
    }
    if tables.peers.find(vni, outer.source_bits()).is_none() {
        return Err(Reason::UnknownVtep);
    }
    let inner_start = start + UDP_VXLAN;
    let inner = packet.get(inner_start..start + udp_length).unwrap_or_default();
    if let Some(slot) = view.bridge {
        #[expect(clippy::cast_possible_truncation, reason = "at most 14 + 60 + 16")]
        let at = (ETHERNET + inner_start) as u16;
        return Ok(Some(Frame::Inside(Inside {
            bridge: tables.bridge(slot).ok_or(Reason::NoBridge)?,
            frame: inner,
            at,
            port: ingress.port,
            origin: Origin::Vtep(outer.source_bits()),
            flood_rate: 0,
            outer_tos: Some(outer.tos),
        })));
    }
    let ethernet = EthernetView::new(inner).ok_or(Reason::MalformedVxlan)?;
    if ethernet.destination_bits() != view.router_mac.bits() {
        return Err(Reason::NotRouterMac);
    }
    let family = Family::of_ethertype(ethernet.ethertype).ok_or(Reason::InnerNotIp)?;
    let inner = IpView::new(family, inner.get(ETHERNET..).unwrap_or_default())?;
    let ecn = ecn::decapsulate(outer.tos, inner.tos)?;
    #[expect(clippy::cast_possible_truncation, reason = "at most 14 + 60 + 16 + 14")]
    let l3 = (ETHERNET + inner_start + ETHERNET) as u16;
    Ok(Some(Frame::Routed(Routed {
        view: inner,
        l3,
        tos: inner.tos & !ecn::MASK | ecn,
        vrf: view.vrf,
        tables: tables.vrf(view.vrf).ok_or(Reason::UnknownVni)?,
        tunnelled: true,
    })))
}
