//! What happens to a frame, stage by stage, in words; and to one for a MAC of a bridge domain.

use std::net::IpAddr;

use super::explain::{NO_PORT, PROBE_MAC};
use super::inspect::{net4, net6};
use super::macs::MacAt;
use super::{Control, Outcome};
use crate::error::Error;
use crate::headers::arp::ArpView;
use crate::headers::nd::NdView;
use crate::headers::{ETHERNET, ETHERTYPE_ARP, EthernetView, Family};
use crate::learn::Origin;
use crate::offload::Segments;
use crate::packet::{Buffer, Packet};
use crate::pipeline::{Frame, Ingress, Inside, Place, Routed, locate};
use crate::reason::{Reason, Verdict};
use crate::tables::NodeView;
use crate::types::{Mac, PortId, Vni, VrfId, address_from_bits, v4_bits};

/// For local experiments (IEEE 802): no protocol's frames.
const EXPERIMENTAL: u16 = 0x88b5;

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameExplanation {
    /// Every stage and decision, for people, in order.
    pub steps: Vec<String>,
    /// What the engine says.
    pub verdict: Verdict,
    /// Each frame that leaves, and by which port.
    pub sent: Vec<(PortId, Vec<u8>)>,
}

impl Control {
    /// What would happen to a frame that comes in by a port, without counting or learning it.
    pub fn explain_frame(&self, port: PortId, frame: &[u8]) -> FrameExplanation {
        self.explain_packet(port, Buffer::new(frame))
    }

    /// The same for one that a host left something to do for. What a large one is cut into goes the same way; it is
    /// shown as one.
    pub fn explain_packet(&self, port: PortId, packet: Buffer) -> FrameExplanation {
        let offload = packet.offload();
        let frame = packet.data();
        let mut steps = vec![format!("received on {}: {}", self.port_name(port), summary(frame))];
        let mut reader = self.silent_reader();
        if let Some(offload) = offload.filter(|offload| offload.is_large()) {
            steps.push(format!("large: {} packets in one", offload.segments(frame.len())));
        }
        let located = reader.ingress(port).ok_or(Reason::PortDown).and_then(|ingress| {
            let located = locate(&self.tables, &ingress, frame)?;
            self.explain_located(&mut steps, &located);
            Ok(())
        });
        if let Err(reason) = located {
            steps.push(format!("classified: {reason}"));
        }
        let mut packets = [packet];
        let mut verdicts = [Verdict::Drop(Reason::PortDown)];
        reader.process(port, &mut packets, &mut verdicts);
        let [packet] = packets;
        let verdict = verdicts[0];
        let mut sent = Vec::new();
        match verdict {
            Verdict::Transmit(to) => sent.push((to, packet.data().to_vec())),
            Verdict::Replicate => {
                let packet = first_segment(&packet).unwrap_or(packet);
                reader.replicate(
                    port,
                    &packet,
                    |packet| Some(packet.clone()),
                    |copy, verdict| match verdict {
                        Verdict::Transmit(to) => sent.push((to, copy.data().to_vec())),
                        Verdict::HandOver(reason) => steps.push(format!("a copy for the kernel: {reason}")),
                        Verdict::Drop(_) | Verdict::Replicate => {}
                    },
                );
            }
            Verdict::HandOver(reason) => steps.push(format!("hand over to the kernel: {reason}")),
            Verdict::Drop(reason) => steps.push(format!("drop: {reason}")),
        }
        for (to, out) in &sent {
            steps.push(format!("transmit by {}: {}", self.port_name(*to), summary(out)));
        }
        FrameExplanation { steps, verdict, sent }
    }

    fn explain_located(&self, steps: &mut Vec<String>, located: &Frame<'_>) {
        match located {
            Frame::Routed(routed) => self.explain_routed(steps, routed),
            Frame::Inside(inside) => self.explain_inside(steps, inside),
        }
    }

    fn explain_routed(&self, steps: &mut Vec<String>, routed: &Routed) {
        let vrf = self.vrfs.get(&routed.vrf).map_or("?", |vrf| vrf.name.as_str());
        if routed.tunnelled {
            steps.push(format!("VXLAN: the packet within is of VRF {vrf}"));
        }
        let destination = address_from_bits(routed.view.destination_bits());
        let (v4, v6) = routed.tables;
        let found = match destination {
            IpAddr::V4(address) => {
                self.fib4.lookup(v4, address.to_bits()).map(|(prefix, found)| (net4(prefix), found))
            }
            IpAddr::V6(address) => {
                self.fib6.lookup(v6, address.to_bits()).map(|(prefix, found)| (net6(prefix), found))
            }
        };
        match found {
            Some((prefix, found)) => {
                self.explain_paths(steps, vrf, prefix, found, routed.view.flow_hash());
            }
            None => steps.push(format!("VRF {vrf}: no route to {destination}")),
        }
    }

    fn explain_inside(&self, steps: &mut Vec<String>, inside: &Inside<'_>) {
        let vni = self.vni_of(inside.bridge.slot);
        let name = vni.map_or_else(|| "L2VNI ?".to_owned(), |vni| format!("L2VNI {vni}"));
        steps.push(match inside.origin {
            Origin::Port(port) => format!("{name}: from port {}", self.port_name(port)),
            Origin::Vtep(vtep) => {
                format!("{name}: from VTEP {}, {}", address_from_bits(vtep), summary(inside.frame))
            }
        });
        let (Some(vni), Some(ethernet)) = (vni, EthernetView::new(inside.frame)) else { return };
        let source = EthernetView::source_bits(inside.frame);
        steps.push(format!("sender {} is {}", Mac::from_bits(source), self.describe_mac(vni, source)));
        let packet = inside.frame.get(ETHERNET..).unwrap_or_default();
        if ethernet.ethertype == ETHERTYPE_ARP
            && let Some(arp) = ArpView::new(packet)
        {
            let [sender, target] = [arp.sender, arp.target].map(|bits| address_from_bits(v4_bits(bits)));
            steps.push(match arp.is_request {
                true => format!("ARP: {sender} asks for {target}"),
                false => format!("ARP: {sender} is at {}", Mac::from_bits(arp.sender_mac)),
            });
        } else if Family::of_ethertype(ethernet.ethertype) == Some(Family::V6)
            && let Some(nd) = NdView::new(packet)
        {
            let [source, target] = [nd.source, nd.target].map(address_from_bits);
            steps.push(match nd.is_solicitation {
                true => format!("ND: {source} asks for {target}"),
                false => format!("ND: {target} advertises itself"),
            });
        }
        let destination = ethernet.destination_bits();
        if ethernet.is_group() {
            let ports = self.ports_of(vni).count();
            let vteps = self.flood_list(vni).count();
            steps.push(format!("to a group: {ports} ports and {vteps} VTEPs are in the flood list"));
            return;
        }
        let place = self.describe_mac(vni, destination);
        steps.push(format!("destination {} is {place}", Mac::from_bits(destination)));
        if destination == inside.bridge.mac.bits()
            && let Some(vrf) = inside.bridge.vrf
            && let Some(tables) = self.vrf_tables(vrf)
            && let Some(family) = Family::of_ethertype(ethernet.ethertype)
            && let Ok(view) = crate::headers::IpView::new(family, packet)
        {
            let routed = Routed { view, l3: 0, tos: view.tos, vrf, tables, tunnelled: false };
            self.explain_routed(steps, &routed);
        }
    }

    /// Where a MAC is, in words.
    fn describe_mac(&self, vni: Vni, mac: u64) -> String {
        if self.bridges.get(&vni).is_some_and(|bridge| bridge.config.mac.bits() == mac) {
            return "the router's own".to_owned();
        }
        match self.macs.get(&(vni, mac)).map(|state| state.place) {
            None => "unknown".to_owned(),
            Some(MacAt::Port(port)) => format!("on port {}", self.port_name(port)),
            Some(MacAt::Vtep { vtep, sticky, .. }) => {
                let sticky = if sticky { ", sticky" } else { "" };
                format!("behind VTEP {}{sticky}", address_from_bits(vtep))
            }
            Some(MacAt::Heard { vtep }) => {
                format!("behind VTEP {}, as its packets say", address_from_bits(vtep))
            }
        }
    }

    /// What would happen to a frame for a MAC of a bridge domain that comes in by one of its ports: steps and outcome. Of
    /// one that goes to several places, [`Outcome::Flood`].
    pub fn explain_mac(&self, vni: Vni, mac: Mac) -> Result<(Vec<String>, Outcome), Error> {
        let bridge = self.bridges.get(&vni).ok_or(Error::UnknownVni(vni))?;
        let view = self.tables.bridge(bridge.slot).ok_or(Error::UnknownVni(vni))?;
        let mut frame = mac.octets().to_vec();
        frame.extend(&PROBE_MAC.to_be_bytes()[2..]);
        frame.extend(EXPERIMENTAL.to_be_bytes());
        frame.resize(60, 0);
        let length = frame.len();
        let ingress = Ingress {
            port: NO_PORT,
            place: Place::Bridged { bridge: view, flood_rate: u32::MAX },
            mac: 0,
            vrf: VrfId::DEFAULT,
            tables: self.vrf_tables(VrfId::DEFAULT).ok_or(Error::UnknownVrf(VrfId::DEFAULT))?,
            node: NodeView::default(),
        };
        let mut packets = [Buffer::new(&frame)];
        let mut verdicts = [Verdict::Drop(Reason::PortDown)];
        self.silent_reader().burst(&ingress, &mut packets, &mut verdicts);
        let [packet] = packets;

        let mut steps = vec![format!("L2VNI {vni}: {mac} is {}", self.describe_mac(vni, mac.bits()))];
        for address in self.host_addresses(vni, mac) {
            steps.push(format!("it has {address}"));
        }
        let outcome = match verdicts[0] {
            Verdict::Transmit(port) => {
                let headers = packet.data().len().saturating_sub(length);
                Outcome::Transmit { port, headers: packet.data()[..headers].to_vec() }
            }
            Verdict::HandOver(reason) => Outcome::HandOver(reason),
            Verdict::Drop(reason) => Outcome::Drop(reason),
            Verdict::Replicate => Outcome::Flood,
        };
        steps.push(match &outcome {
            Outcome::Transmit { port, headers } if headers.is_empty() => {
                format!("transmit by {} as it is", self.port_name(*port))
            }
            Outcome::Transmit { port, headers } => {
                format!("transmit by {} with {} bytes of headers", self.port_name(*port), headers.len())
            }
            Outcome::HandOver(reason) => format!("hand over to the kernel: {reason}"),
            Outcome::Drop(reason) => format!("drop: {reason}"),
            Outcome::Flood => {
                let ports = self.ports_of(vni).count();
                format!("flood to the other of {ports} ports and {} VTEPs", self.flood_list(vni).count())
            }
        });
        Ok((steps, outcome))
    }
}

/// The first of the packets in a large frame: the others are copied as it is.
fn first_segment(packet: &Buffer) -> Option<Buffer> {
    let segments = Segments::new(packet.data(), packet.offload()?)?;
    let mut first = vec![0; segments.length(0)];
    segments.write(0, &mut first);
    Some(Buffer::new(&first))
}

/// A frame in few words.
fn summary(frame: &[u8]) -> String {
    let Some(ethernet) = EthernetView::new(frame) else { return format!("{} bytes", frame.len()) };
    let (source, destination) =
        (Mac::from_bits(EthernetView::source_bits(frame)), Mac::from_bits(ethernet.destination_bits()));
    let what = match Family::of_ethertype(ethernet.ethertype) {
        Some(family) => ip_summary(family, frame.get(ETHERNET..).unwrap_or_default()),
        None if ethernet.ethertype == ETHERTYPE_ARP => "ARP".to_owned(),
        None => format!("EtherType 0x{:04x}", ethernet.ethertype),
    };
    format!("{source} > {destination}, {what}, {} bytes", frame.len())
}

fn ip_summary(family: Family, packet: &[u8]) -> String {
    let address = |at: usize, len: usize| {
        crate::types::address_from_bytes(packet.get(at..at + len).unwrap_or_default())
    };
    let (source, destination, protocol) = match family {
        Family::V4 => (address(12, 4), address(16, 4), packet.get(9)),
        Family::V6 => (address(8, 16), address(24, 16), packet.get(6)),
    };
    match (source, destination, protocol) {
        (Ok(source), Ok(destination), Some(protocol)) => {
            format!("{source} > {destination} protocol {protocol}")
        }
        _ => "IP, too short".to_owned(),
    }
}
