//! Frames of bridge domains: what they say of their sender, and where they go.

use super::classify::Routed;
use super::learn::Learner;
use crate::counters::BridgeCells;
use crate::ecn;
use crate::headers::arp::ArpView;
use crate::headers::nd::NdView;
use crate::headers::{ETHERNET, ETHERTYPE_ARP, EthernetView, Family, ICMPV6, IPV6, IpView};
use crate::learn::{Origin, Report};
use crate::reason::Reason;
use crate::tables::bridge::{BridgeView, MacPlace, MacWord};
use crate::tables::{PortRecord, Station, Tables};
use crate::types::{Mac, PortId, v4_bits};

/// A frame within a bridge domain.
#[derive(Clone, Copy)]
pub(crate) struct Inside<'a> {
    pub(crate) bridge: BridgeView,
    /// From its Ethernet header on.
    pub(crate) frame: &'a [u8],
    /// Where it starts in the packet: behind the tunnel's headers, if it came through one.
    pub(crate) at: u16,
    /// The port of this node that it came in by: one of the domain's, or the underlay's.
    pub(crate) port: PortId,
    pub(crate) origin: Origin,
    /// Of a port of the domain: what it may flood.
    pub(crate) flood_rate: u32,
    /// Of the outer header of one that came through a tunnel.
    pub(crate) outer_tos: Option<u8>,
}

/// What becomes of it.
pub(super) enum Decision {
    /// To the router's MAC: it is looked up in the domain's VRF.
    Route(Routed),
    /// To one MAC.
    Switch(Switched),
    /// To several places.
    Flood,
    /// ARP or ND, answered here.
    Answer(Answer),
}

/// A frame to one MAC.
#[derive(Clone, Copy)]
pub(super) struct Switched {
    pub(super) bridge: u32,
    pub(super) destination: u64,
    pub(super) at: u16,
    pub(super) length: u16,
    /// The type of service that its IP header is to have, when that is another than it has.
    pub(super) tos: Option<u8>,
    pub(super) from_tunnel: bool,
}

/// An answer to ARP or ND.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    pub(super) mac: Mac,
    pub(super) is_arp: bool,
    pub(super) is_router: bool,
}

/// Decides, and reports what was seen.
#[inline(always)]
pub(super) fn decide(
    tables: &Tables,
    learner: &mut Learner,
    cells: Option<&BridgeCells>,
    inside: &Inside<'_>,
) -> Result<Decision, Reason> {
    let Inside { bridge, frame, .. } = inside;
    let ethernet = EthernetView::new(frame).ok_or(Reason::Runt)?;
    let source = EthernetView::source_bits(frame);
    if ethernet.is_tagged() {
        return Err(Reason::BridgeVlan);
    }
    if source >> 40 & 1 == 1 || source == 0 {
        return Err(Reason::BadSourceMac);
    }
    if let Some(cells) = cells {
        cells.packets.add(1);
    }
    if source != bridge.mac.bits() {
        learn(tables, learner, cells, inside, source);
    } else if matches!(inside.origin, Origin::Port(_)) {
        // Through a tunnel it comes from another node's router, which has the same MAC.
        return Err(Reason::OwnSourceMac);
    }
    if ethernet.ethertype == ETHERTYPE_ARP {
        if let Some(answer) = arp(tables, learner, cells, inside, ethernet, source)? {
            return Ok(answer);
        }
    } else if is_icmp6(ethernet, frame)
        && let Some(answer) = nd(tables, learner, cells, inside, ethernet, source)?
    {
        return Ok(answer);
    }
    if ethernet.is_group() {
        if ethernet.is_reserved_group() {
            return Err(Reason::ReservedGroup);
        }
        if let Origin::Port(port) = inside.origin
            && !learner.may_flood(port, inside.flood_rate)
        {
            return Err(Reason::FloodLimited);
        }
        if let Some(cells) = cells {
            cells.flooded.add(1);
        }
        return Ok(Decision::Flood);
    }
    let destination = ethernet.destination_bits();
    if destination == bridge.mac.bits() {
        return route(tables, inside, ethernet).map(Decision::Route);
    }
    let tos = match inside.outer_tos {
        None => None,
        Some(outer) => decapsulated_tos(outer, frame)?,
    };
    #[expect(clippy::cast_possible_truncation, reason = "no frame is longer")]
    let length = frame.len() as u16;
    let from_tunnel = matches!(inside.origin, Origin::Vtep(_));
    Ok(Decision::Switch(Switched {
        bridge: bridge.slot,
        destination,
        at: inside.at,
        length,
        tos,
        from_tunnel,
    }))
}

/// Looks whether the sender is where the tables have it, and reports it otherwise.
#[inline(always)]
fn learn(
    tables: &Tables,
    learner: &mut Learner,
    cells: Option<&BridgeCells>,
    inside: &Inside<'_>,
    source: u64,
) {
    let slot = inside.bridge.slot;
    match inside.origin {
        Origin::Port(port) => {
            let Some(record) = tables.macs.find(slot, source.into()) else {
                return unknown(tables, learner, cells, inside, port, source);
            };
            let word = MacWord(record.value.load(std::sync::atomic::Ordering::Relaxed));
            match word.place() {
                MacPlace::Port(known) if known == port => {
                    // The one write of a worker to a table, once per ageing interval.
                    if !word.is_seen() {
                        record.value.fetch_or(MacWord::SEEN, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                MacPlace::Tunnel(_) if word.is_sticky() => refused(cells),
                _ => unknown(tables, learner, cells, inside, port, source),
            }
        }
        origin @ Origin::Vtep(_) if inside.bridge.learns_from_vteps => {
            let word = tables.mac(slot, source);
            if word.place() == MacPlace::Unknown || matches!(word.place(), MacPlace::Tunnel(_)) {
                learner.report(inside.port, Report::Mac { bridge: slot, mac: source, origin });
            }
        }
        Origin::Vtep(_) => {}
    }
}

#[cold]
fn unknown(
    tables: &Tables,
    learner: &mut Learner,
    cells: Option<&BridgeCells>,
    inside: &Inside<'_>,
    port: PortId,
    source: u64,
) {
    if tables.ports.get(port.0.into()).is_some_and(PortRecord::is_full) {
        if let Some(cells) = cells {
            cells.limited.add(1);
        }
        return;
    }
    let report = Report::Mac { bridge: inside.bridge.slot, mac: source, origin: inside.origin };
    learner.report(port, report);
}

#[cold]
fn refused(cells: Option<&BridgeCells>) {
    if let Some(cells) = cells {
        cells.refused.add(1);
    }
}

#[cold]
fn arp(
    tables: &Tables,
    learner: &mut Learner,
    cells: Option<&BridgeCells>,
    inside: &Inside<'_>,
    ethernet: EthernetView,
    source: u64,
) -> Result<Option<Decision>, Reason> {
    let Origin::Port(port) = inside.origin else { return Ok(None) };
    let Some(arp) = ArpView::new(inside.frame.get(ETHERNET..).unwrap_or_default()) else { return Ok(None) };
    let (sender, target) = (v4_bits(arp.sender), v4_bits(arp.target));
    if arp.sender != 0 {
        said(tables, learner, cells, inside, port, source, (sender, arp.sender_mac))?;
    }
    if !arp.is_request || arp.sender_mac != source || arp.sender == arp.target {
        return Ok(None);
    }
    // Probes for an address (RFC 5227) are answered too: the address is taken.
    Ok(answer(tables, inside, ethernet, target, true, cells))
}

#[cold]
fn nd(
    tables: &Tables,
    learner: &mut Learner,
    cells: Option<&BridgeCells>,
    inside: &Inside<'_>,
    ethernet: EthernetView,
    source: u64,
) -> Result<Option<Decision>, Reason> {
    let Origin::Port(port) = inside.origin else { return Ok(None) };
    let Some(nd) = NdView::new(inside.frame.get(ETHERNET..).unwrap_or_default()) else { return Ok(None) };
    let sender = if nd.is_solicitation { nd.source } else { nd.target };
    if sender != 0 {
        said(tables, learner, cells, inside, port, source, (sender, nd.link_layer.unwrap_or(source)))?;
    }
    // Without the option an answer has no room; from :: it is duplicate address detection, which the owner answers.
    if !nd.is_solicitation || nd.source == 0 || nd.link_layer != Some(source) {
        return Ok(None);
    }
    Ok(answer(tables, inside, ethernet, nd.target, false, cells))
}

/// A host said that it has an address: reported if it speaks for itself.
fn said(
    tables: &Tables,
    learner: &mut Learner,
    cells: Option<&BridgeCells>,
    inside: &Inside<'_>,
    port: PortId,
    source: u64,
    (address, mac): (u128, u64),
) -> Result<(), Reason> {
    let slot = inside.bridge.slot;
    if tables.gateways.find(slot, address).is_some() {
        return Err(Reason::GatewaySpoof);
    }
    // A full port's hosts are not learned, so what they say is not either.
    let known = tables.mac(slot, source).place() == MacPlace::Port(port)
        || !tables.ports.get(port.0.into()).is_some_and(PortRecord::is_full);
    if mac == source && known {
        learner.report(port, Report::Neighbor { bridge: slot, port, address, mac });
    } else {
        refused(cells);
    }
    Ok(())
}

/// The answer to a request for an address of the router's, or of a host behind another VTEP.
fn answer(
    tables: &Tables,
    inside: &Inside<'_>,
    ethernet: EthernetView,
    target: u128,
    is_arp: bool,
    cells: Option<&BridgeCells>,
) -> Option<Decision> {
    let bridge = &inside.bridge;
    let answer = if tables.gateways.find(bridge.slot, target).is_some() {
        Answer { mac: bridge.mac, is_arp, is_router: true }
    } else {
        // To one station, who then asks whether it is still there: its own affair.
        if !ethernet.is_group() {
            return None;
        }
        let record = tables.neighbors.find(bridge.svi.0.into(), target)?;
        let station = Station(record.value.load(std::sync::atomic::Ordering::Acquire));
        if station.is_none()
            || !matches!(tables.mac(bridge.slot, station.mac().bits()).place(), MacPlace::Tunnel(_))
        {
            return None;
        }
        Answer { mac: station.mac(), is_arp, is_router: false }
    };
    if let Some(cells) = cells {
        cells.suppressed.add(1);
    }
    Some(Decision::Answer(answer))
}

/// ICMPv6 right behind the IPv6 header, as neighbour discovery always is.
#[inline(always)]
fn is_icmp6(ethernet: EthernetView, frame: &[u8]) -> bool {
    Family::of_ethertype(ethernet.ethertype) == Some(Family::V6) && frame.get(ETHERNET + 6) == Some(&ICMPV6)
}

/// ARP or ND: what the kernel hears besides.
pub(super) fn neighbor_reason(ethernet: EthernetView, frame: &[u8]) -> Option<Reason> {
    if ethernet.ethertype == ETHERTYPE_ARP {
        Some(Reason::Arp)
    } else if is_icmp6(ethernet, frame) && matches!(frame.get(ETHERNET + IPV6), Some(133..=137)) {
        Some(Reason::Nd)
    } else {
        None
    }
}

/// A frame to the router.
#[inline(always)]
fn route(tables: &Tables, inside: &Inside<'_>, ethernet: EthernetView) -> Result<Routed, Reason> {
    let frame = inside.frame;
    let Some(vrf) = inside.bridge.vrf else {
        return Err(neighbor_reason(ethernet, frame).unwrap_or(Reason::NotOurMac));
    };
    let family = Family::of_ethertype(ethernet.ethertype)
        .ok_or_else(|| neighbor_reason(ethernet, frame).unwrap_or(Reason::NotIp))?;
    let view = IpView::new(family, frame.get(ETHERNET..).unwrap_or_default())?;
    let tos = match inside.outer_tos {
        None => view.tos,
        Some(outer) => view.tos & !ecn::MASK | ecn::decapsulate(outer, view.tos)?,
    };
    #[expect(clippy::cast_possible_truncation, reason = "at most 14 + 60 + 16 + 14")]
    let l3 = inside.at + ETHERNET as u16;
    let tables = tables.vrf(vrf).ok_or(Reason::NoBridge)?;
    Ok(Routed { view, l3, tos, vrf, tables, tunnelled: inside.outer_tos.is_some() })
}

/// The type of service that the IP packet of a frame is to have after the tunnel (RFC 6040), when it is not what it has.
#[inline(always)]
pub(super) fn decapsulated_tos(outer: u8, frame: &[u8]) -> Result<Option<u8>, Reason> {
    // Not marked on the way, the usual case: nothing changes.
    if !matches!(outer & ecn::MASK, 1 | 3) {
        return Ok(None);
    }
    let Some(inner) = tos(frame) else { return Ok(None) };
    let after = inner & !ecn::MASK | ecn::decapsulate(outer, inner)?;
    Ok((after != inner).then_some(after))
}

/// The type of service or traffic class of the IP packet in a frame.
#[inline(always)]
pub(super) fn tos(frame: &[u8]) -> Option<u8> {
    let (ethernet, ip) = frame.split_at_checked(ETHERNET)?;
    match (u16::from_be_bytes([ethernet[12], ethernet[13]]), ip) {
        (crate::headers::ETHERTYPE_IPV4, [0x45..=0x4f, tos, ..]) => Some(*tos),
        (crate::headers::ETHERTYPE_IPV6, [first @ 0x60..=0x6f, second, ..]) => Some(first << 4 | second >> 4),
        _ => None,
    }
}
