//! What would happen to a packet: the resolution in words, and the outcome by the very pipeline.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use ipnet::IpNet;

use super::inspect::{net4, net6};
use super::{Control, Path};
use crate::checksum;
use crate::counters::WorkerCells;
use crate::error::Error;
use crate::fib::NextHopIndex;
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, Family, ICMP, ICMPV6, IpView, SCTP, TCP, UDP};
use crate::packet::{Buffer, Packet};
use crate::pipeline::{Ingress, Place, Worker};
use crate::reason::{Reason, Verdict};
use crate::tables::NodeView;
use crate::types::{PortId, VrfId};

/// A packet to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it goes.
    pub destination: IpAddr,
    /// Where it comes from; of the destination's family. `None` takes a documentation address.
    pub source: Option<IpAddr>,
    /// IP protocol; 0 is ICMP.
    pub protocol: u8,
    /// Of TCP, UDP and SCTP.
    pub source_port: u16,
    /// Of TCP, UDP and SCTP.
    pub destination_port: u16,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It leaves.
    Transmit {
        /// By this port.
        port: PortId,
        /// With this in front of its IP header.
        headers: Vec<u8>,
    },
    /// The kernel gets it.
    HandOver(Reason),
    /// It ends here.
    Drop(Reason),
    /// A frame of a bridge domain that goes to several places.
    Flood,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// For people, in order.
    pub steps: Vec<String>,
    /// What becomes of the packet.
    pub outcome: Outcome,
    /// The route that matched.
    pub prefix: Option<IpNet>,
}

const PROBE_TTL: u8 = 64;
/// No port of this node has the last number.
pub(super) const NO_PORT: PortId = PortId(u16::MAX);

impl Control {
    /// What would happen to a packet in a VRF, without sending one and without counting it.
    pub fn explain(&self, vrf: VrfId, flow: &Flow) -> Result<Explanation, Error> {
        let (v4, v6) = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        let (prefix, found) = match flow.destination {
            IpAddr::V4(address) => {
                self.fib4.lookup(v4, address.to_bits()).map(|(prefix, found)| (net4(prefix), found))
            }
            IpAddr::V6(address) => {
                self.fib6.lookup(v6, address.to_bits()).map(|(prefix, found)| (net6(prefix), found))
            }
        }
        .unzip();

        let frame = frame(flow);
        let length = frame.len() - ETHERNET;
        let mut steps = Vec::new();
        let vrf_name = self.vrfs.get(&vrf).map_or("?", |vrf| vrf.name.as_str());
        match (prefix, found) {
            (Some(prefix), Some(found)) => {
                self.explain_route(&mut steps, vrf_name, prefix, found, flow, &frame);
            }
            _ => steps.push(format!("VRF {vrf_name}: no route to {}", flow.destination)),
        }

        let mut probe = Buffer::new(&frame);
        let mut verdict = [Verdict::Drop(Reason::PortDown)];
        // Counters of its own, which nobody adds up.
        let mut reader = self.silent_reader();
        let ingress = Ingress {
            port: NO_PORT,
            place: Place::Routed,
            mac: PROBE_MAC,
            vrf,
            tables: (v4, v6),
            node: NodeView::default(),
        };
        reader.burst(&ingress, std::slice::from_mut(&mut probe), &mut verdict);
        let outcome = match verdict[0] {
            Verdict::Transmit(port) => {
                let headers = probe.data().len().saturating_sub(length);
                Outcome::Transmit { port, headers: probe.data()[..headers].to_vec() }
            }
            Verdict::HandOver(reason) => Outcome::HandOver(reason),
            Verdict::Drop(reason) => Outcome::Drop(reason),
            Verdict::Replicate => Outcome::Flood,
        };
        steps.push(match &outcome {
            Outcome::Transmit { port, headers } => {
                format!("transmit by {} with {} bytes of headers", self.port_name(*port), headers.len())
            }
            Outcome::HandOver(reason) => format!("hand over to the kernel: {reason}"),
            Outcome::Drop(reason) => format!("drop: {reason}"),
            Outcome::Flood => "flood".to_owned(),
        });
        Ok(Explanation { steps, outcome, prefix })
    }

    /// A reader whose counters nobody adds up and whose reports nobody reads.
    pub(super) fn silent_reader(&self) -> Worker {
        self.reader(Arc::new(WorkerCells::new()), sync_channel(0).0)
    }

    fn explain_route(
        &self,
        steps: &mut Vec<String>,
        vrf: &str,
        prefix: IpNet,
        found: NextHopIndex,
        flow: &Flow,
        frame: &[u8],
    ) {
        let family = if flow.destination.is_ipv4() { Family::V4 } else { Family::V6 };
        let Ok(view) = IpView::new(family, frame.get(ETHERNET..).unwrap_or_default()) else { return };
        self.explain_paths(steps, vrf, prefix, found, view.flow_hash());
    }

    /// The paths of a route, and the one that a flow takes.
    pub(super) fn explain_paths(
        &self,
        steps: &mut Vec<String>,
        vrf: &str,
        prefix: IpNet,
        found: NextHopIndex,
        hash: FlowHash,
    ) {
        let paths = self.group_paths(found.index());
        let plural = if paths.len() == 1 { "" } else { "s" };
        steps.push(format!("VRF {vrf}: {prefix} -> {} path{plural}", paths.len()));
        let chosen = self.explain_choice(steps, found.index(), hash.overlay());
        let Some(Path::Vxlan { vtep, .. }) = chosen else { return };
        match self.vteps.get(&crate::types::address_bits(vtep)).and_then(|vtep| vtep.group) {
            None => steps.push(format!("underlay: no route to VTEP {vtep}")),
            Some(group) => {
                let count = self.group_paths(group).len();
                let plural = if count == 1 { "" } else { "s" };
                steps.push(format!("underlay: VTEP {vtep} -> {count} path{plural}"));
                self.explain_choice(steps, group, hash.underlay());
            }
        }
    }

    /// Names the path that the workers' tables choose.
    fn explain_choice(&self, steps: &mut Vec<String>, slot: u32, hash: u32) -> Option<Path> {
        let group = self.groups.get(&slot)?;
        let chosen = self.tables.select(slot, hash);
        let at = group.resolved.iter().position(|path| path.word == chosen)?;
        let path = group.paths.get(at)?.path.path;
        let entry = self.group_paths(slot).into_iter().nth(at)?;
        let problem = entry.problem.map(|reason| format!(" ({reason})")).unwrap_or_default();
        steps.push(format!("{}{problem}", self.describe(&path)));
        Some(path)
    }

    fn describe(&self, path: &Path) -> String {
        match path {
            Path::Adjacent { port, gateway } => format!("adjacent: {gateway} by {}", self.port_name(*port)),
            Path::Vxlan { vni, vtep, router_mac: Some(mac) } => {
                format!("vxlan: VNI {vni} to VTEP {vtep}, router MAC {mac}")
            }
            Path::Vxlan { vni, vtep, router_mac: None } => {
                format!("vxlan: VNI {vni} to VTEP {vtep}, router MAC unknown")
            }
            Path::Connected { port } => format!("connected: by {}", self.port_name(*port)),
            Path::Local => "local: an address of this router".to_owned(),
            Path::Drop => "drop: blackhole, unreachable or prohibit".to_owned(),
        }
    }

    pub(super) fn port_name(&self, port: PortId) -> String {
        self.ports.get(&port).map_or_else(|| format!("port {port}"), |port| port.config.name.clone())
    }
}

pub(super) const PROBE_MAC: u64 = 0x0200_0000_0001;

/// The smallest packet of a flow.
fn frame(flow: &Flow) -> Vec<u8> {
    let mut frame = PROBE_MAC.to_be_bytes()[2..].to_vec();
    frame.extend([2, 0, 0, 0, 0, 2]);
    let mut payload = [0; 8];
    if matches!(flow.protocol, TCP | UDP | SCTP) {
        payload[..2].copy_from_slice(&flow.source_port.to_be_bytes());
        payload[2..4].copy_from_slice(&flow.destination_port.to_be_bytes());
    } else {
        // An echo request.
        payload[0] = if flow.destination.is_ipv4() { 8 } else { 128 };
    }
    match flow.destination {
        IpAddr::V4(destination) => {
            // RFC 5737.
            let source = match flow.source {
                Some(IpAddr::V4(source)) => source.octets(),
                _ => [192, 0, 2, 1],
            };
            let protocol = if flow.protocol == 0 { ICMP } else { flow.protocol };
            let mut ip = [0x45, 0, 0, 28, 0, 0, 0, 0, PROBE_TTL, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            ip[12..16].copy_from_slice(&source);
            ip[16..20].copy_from_slice(&destination.octets());
            let checksum = !checksum::fold(checksum::sum(&ip));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend(Family::V4.ethertype().to_be_bytes());
            frame.extend(ip);
        }
        IpAddr::V6(destination) => {
            // RFC 3849.
            let source = match flow.source {
                Some(IpAddr::V6(source)) => source.octets(),
                _ => [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            };
            let protocol = if flow.protocol == 0 { ICMPV6 } else { flow.protocol };
            frame.extend(Family::V6.ethertype().to_be_bytes());
            frame.extend([0x60, 0, 0, 0, 0, 8, protocol, PROBE_TTL]);
            frame.extend(source);
            frame.extend(destination.octets());
        }
    }
    frame.extend(payload);
    frame
}
