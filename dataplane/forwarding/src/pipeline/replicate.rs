//! Frames for several places of a bridge domain: broadcast, unknown unicast and multicast (BUM), by ingress replication.

use super::bridge::{self, Inside};
use super::classify::{self, Frame};
use super::exit::{self, Exit};
use super::switch::{fits, mtu};
use super::{Worker, rewrite};
use crate::hash::FlowHash;
use crate::headers::{ETHERNET, EthernetView, frame_flow_hash};
use crate::learn::Origin;
use crate::packet::Packet;
use crate::reason::{Reason, Verdict};
use crate::tables::Tables;
use crate::tables::bridge::FloodTarget;
use crate::types::PortId;

impl Worker {
    /// Makes the copies of a packet whose verdict was [`Verdict::Replicate`], which came in by `port`: `copy` makes one,
    /// `send` gets each with what to do with it. The packet itself is left as it is, for the caller to free.
    ///
    /// Copies go to every other port of the domain; from a port also to every VTEP of its flood list, from a tunnel to
    /// none (split horizon). ARP and ND of a domain with a router are for the kernel too. Copies that cannot be made or
    /// do not fit are counted as dropped. A [large frame](crate::Offload) is to be cut before: none of its copies would fit.
    pub fn replicate<P: Packet>(
        &mut self,
        port: PortId,
        packet: &P,
        mut copy: impl FnMut(&P) -> Option<P>,
        mut send: impl FnMut(P, Verdict),
    ) {
        let Some(ingress) = self.ingress(port) else { return self.count_dropped(port, Reason::PortDown, 1) };
        let inside = match classify::locate(&self.tables, &ingress, packet.data()) {
            Ok(Frame::Inside(inside)) => inside,
            // Its port has just left the domain.
            Ok(Frame::Routed(_)) => return self.count_dropped(port, Reason::NoBridge, 1),
            Err(reason) => return self.count_dropped(port, reason, 1),
        };
        let hash = frame_flow_hash(inside.frame);
        for target in self.tables.flood_targets(inside.bridge.slot) {
            match target {
                FloodTarget::Port(to) if inside.origin == Origin::Port(to) => continue,
                FloodTarget::Tunnel(_) if matches!(inside.origin, Origin::Vtep(_)) => continue,
                _ => {}
            }
            let result = match copy(packet) {
                None => Err(Reason::NoBuffer),
                Some(mut made) => {
                    prepare(&self.tables, &inside, hash, target, &mut made).map(|to| (made, to))
                }
            };
            match result {
                Ok((made, to)) => send(made, Verdict::Transmit(to)),
                Err(reason) => self.count_dropped(port, reason, 1),
            }
        }
        let heard = EthernetView::new(inside.frame)
            .filter(|ethernet| ethernet.is_group() && inside.bridge.vrf.is_some())
            .and_then(|ethernet| bridge::neighbor_reason(ethernet, inside.frame));
        if let Some(reason) = heard {
            match copy(packet) {
                Some(made) => send(made, Verdict::HandOver(reason)),
                None => self.count_dropped(port, Reason::NoBuffer, 1),
            }
        }
    }
}

/// Makes a copy ready for one target; the port it leaves by.
fn prepare<P: Packet>(
    tables: &Tables,
    inside: &Inside<'_>,
    hash: FlowHash,
    target: FloodTarget,
    made: &mut P,
) -> Result<PortId, Reason> {
    let payload = inside.frame.len().saturating_sub(ETHERNET);
    match target {
        FloodTarget::Port(to) => {
            fits(payload, mtu(tables, to)?.number(), || None)?;
            let tos = match inside.outer_tos {
                Some(outer) => bridge::decapsulated_tos(outer, inside.frame)?,
                None => None,
            };
            let length = u16::try_from(inside.frame.len()).map_err(|_| Reason::BridgeTooBig)?;
            rewrite::bring_out(made, inside.at, length, tos)?;
            Ok(to)
        }
        FloodTarget::Tunnel(tunnel) => {
            let (neighbor, overhead) = exit::underlay(tables, tunnel, hash)?;
            let own = mtu(tables, PortId(neighbor.number()))?;
            fits(payload + overhead, own.number(), || None)?;
            let exit = Exit::default().tunnelled(neighbor, own, tunnel);
            rewrite::encapsulate(tables, &exit, hash, made)?;
            Ok(exit.port())
        }
    }
}
