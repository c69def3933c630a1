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

/// Tunnels remembered at once, in pairs of places.
const ENDS: usize = 2048;
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
        let mut at = place(source, vni);
        if !self.is(at, source, vni) {
            at = self.other(tables, ingress, source, udp_port, vni, at)?;
        }
        let end = self.ends.get(at)?;
        (end.own == own && end.udp_port == udp_port).then_some(end)
    }

    #[inline(always)]
    fn is(&self, at: usize, source: u128, vni: u32) -> bool {
        self.vnis.get(at) == Some(&vni) && self.ends.get(at).is_some_and(|end| end.source == source)
    }

    /// A tunnel that is not the first of its two places: it is the second, or it becomes the first, the older one going.
    #[cold]
    #[inline(never)]
    fn other(
        &mut self,
        tables: &Tables,
        ingress: &Ingress,
        source: u128,
        udp_port: u16,
        vni: u32,
        at: usize,
    ) -> Option<usize> {
        if self.is(at + 1, source, vni) {
            return Some(at + 1);
        }
        let end = end_of(tables, ingress, source, udp_port, vni)?;
        self.vnis.swap(at, at + 1);
        self.ends.swap(at, at + 1);
        *self.ends.get_mut(at)? = end;
        *self.vnis.get_mut(at)? = vni;
        Some(at)
    }
}

/// The first of the two places of a tunnel. VTEPs are often numbered one after the other: in one VNI they have different ones.
#[inline(always)]
const fn place(source: u128, vni: u32) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "all of it is folded in")]
    let above = (source >> 10) as u64 ^ (source >> 74) as u64 ^ (vni as u64) << 40;
    let mixed = above.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    let place = (source as usize).wrapping_add(mixed as usize) % (ENDS / 2);
    2 * place
}

/// What is at a tunnel's end; nothing when its packets are not accepted.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::v4_bits;

    /// How many of the tunnels share a pair of places with more than one other.
    fn crowded(tunnels: impl IntoIterator<Item = (u128, u32)>) -> usize {
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        tunnels.into_iter().for_each(|(source, vni)| *places.entry(place(source, vni)).or_default() += 1);
        places.into_values().filter(|&count| count > 2).sum()
    }

    #[test]
    fn vteps_in_a_row_have_places_of_their_own() {
        let vteps = |vni| (0..1000).map(move |last| (v4_bits(0x0a00_0000 + last), vni));
        assert_eq!(crowded(vteps(100)), 0);
        assert_eq!(crowded(vteps(100).chain(vteps(16_777_215))), 0);
        assert_eq!(crowded((0..1000).map(|last| (0x2001_0db8_u128 << 96 | last, 100))), 0);
    }

    #[test]
    fn so_do_nearly_all_of_those_that_differ_elsewhere() {
        // A rack each: 10.r.0.1, 10.0.r.1, or 2001:db8:r::1.
        for shift in [8, 16] {
            assert!(crowded((0..256).map(|rack| (v4_bits(0x0a00_0001 | rack << shift), 100))) < 20);
        }
        assert!(crowded((0..256).map(|rack| (0x2001_0db8_u128 << 96 | rack << 80 | 1, 100))) < 20);
        // A VTEP with many VNIs.
        assert!(crowded((0..256).map(|vni| (v4_bits(0x0a00_0001), 10_000 + vni))) < 20);
    }
}
