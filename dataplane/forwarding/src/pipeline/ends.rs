//! Tunnels that end here, as a worker remembers them: what a VNI means, by the VTEPs that were found to be its peers.
//!
//! Otherwise every packet would be looked for in two tables that say the same each time. What is remembered is forgotten
//! when the tables' [version](Tables::version) is another one, as [ways out](super::ways) are.

use super::Ingress;
use super::quick::wire_mac;
use crate::fib::TableId;
use crate::tables::bridge::BridgeView;
use crate::tables::{Tables, VniView};
use crate::types::VrfId;

/// Tunnels remembered at once.
const ENDS: usize = 1024;
/// No VNI.
const EMPTY: u32 = u32::MAX;

/// One tunnel's end.
#[derive(Clone, Copy)]
#[repr(align(128))]
pub(super) struct End {
    udp_port: u16,
    source: u128,
    own: u128,
    pub(super) place: Place,
}

/// What is behind it.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// An L3VNI: the router's MAC as [`wire_mac`] has it, and where packets to it are looked up.
    Routed { mac: u64, vrf: VrfId, tables: (TableId, TableId) },
    /// An L2VNI.
    Bridged(BridgeView),
}

/// See the module.
pub(super) struct Ends {
    version: u64,
    vnis: Box<[u32; ENDS]>,
    ends: Box<[End]>,
}

impl Ends {
    pub(super) fn new() -> Self {
        let place = Place::Routed {
            mac: 0,
            vrf: VrfId::DEFAULT,
            tables: (TableId::from_index(0), TableId::from_index(0)),
        };
        let nothing = End { udp_port: 0, source: 0, own: 0, place };
        Self { version: 0, vnis: Box::new([EMPTY; ENDS]), ends: vec![nothing; ENDS].into_boxed_slice() }
    }

    /// Before a burst: forgets everything if anything changed. `version` was read before.
    #[inline(always)]
    pub(super) fn renew(&mut self, version: u64) {
        if self.version != version {
            self.vnis.fill(EMPTY);
            self.version = version;
        }
    }

    /// The end of the tunnel that a packet came by: between these addresses, as tables of both families have them, to a UDP
    /// port and with a VNI. Nothing when the packet is not to be accepted, or it is for the long way to say where it
    /// belongs.
    #[inline(always)]
    pub(super) fn find(
        &mut self,
        tables: &Tables,
        ingress: &Ingress,
        (source, own): (u128, u128),
        udp_port: u16,
        vni: u32,
    ) -> Option<&End> {
        // VTEPs are often numbered one after the other: in one VNI they have different places then.
        #[expect(clippy::cast_possible_truncation, reason = "the lower bits")]
        let at = (source as u32).wrapping_add(vni.wrapping_mul(0x9e37_79b1) >> 22) as usize % ENDS;
        let (known, end) = (self.vnis.get_mut(at)?, self.ends.get_mut(at)?);
        if *known != vni || end.source != source {
            *end = end_of(tables, ingress, source, udp_port, vni)?;
            *known = vni;
        }
        (end.own == own && end.udp_port == udp_port).then_some(&*end)
    }
}

#[cold]
#[inline(never)]
fn end_of(tables: &Tables, ingress: &Ingress, source: u128, udp_port: u16, vni: u32) -> Option<End> {
    let view: VniView = tables.vni(vni)?;
    if udp_port == 0 || !ingress.node.udp_ports.contains(&view.udp_port) {
        return None;
    }
    tables.peers.find(vni, source)?;
    let place = match view.bridge {
        Some(slot) => Place::Bridged(tables.bridge(slot)?),
        None => Place::Routed {
            mac: wire_mac(view.router_mac.bits()),
            vrf: view.vrf,
            tables: tables.vrf(view.vrf)?,
        },
    };
    Some(End { udp_port: view.udp_port, source, own: view.own, place })
}
