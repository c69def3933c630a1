//! What workers read: every table is written by the control side alone and read without locks.
//!
//! Two ways to publish. What fits into one word (a neighbour's MAC and port, a VTEP's route, a group's paths) is stored
//! over the old value. What does not (a tunnel's headers, a VNI, a group's buckets) is written to a slot that no reader
//! can find, then one word that leads there is stored with release; the old slot is used again only when every reader has
//! passed a quiescent state. Everything is an atomic or an index, so that not even a reader which broke that rule could
//! do more harm than to misroute a packet.

pub(crate) mod address;
pub(crate) mod blocks;
pub(crate) mod bridge;
pub(crate) mod chunked;
pub(crate) mod paths;
pub(crate) mod tunnel;
mod version;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use address::{AddressTable, AddressTableWriter};
use bridge::{BridgeRecord, BridgeView, FLOOD_CHUNK_LOG2, FloodTarget, MacWord};
use chunked::Chunked;
use tunnel::{TunnelRecord, TunnelSpec};
use version::Version;

use crate::fib::TableId;
use crate::types::{Mac, PortId, VrfId, v4_bits};

/// Most ports, VNIs with a slot, groups and so on; 16 bytes per chunk of them are reserved.
pub(crate) const MAX_PORTS: u32 = 1 << 16;
pub(crate) const MAX_VRFS: u32 = 1 << 16;
pub(crate) const MAX_VNIS: u32 = 1 << 16;
pub(crate) const MAX_GROUPS: u32 = 1 << 20;
pub(crate) const MAX_BUCKETS: u32 = 1 << 24;
pub(crate) const MAX_TUNNELS: u32 = 1 << 20;
pub(crate) const MAX_VTEPS: u32 = 1 << 16;
pub(crate) const MAX_NODES: u32 = 1 << 8;
pub(crate) const MAX_BRIDGES: u32 = 1 << 16;
pub(crate) const MAX_FLOODS: u32 = 1 << 24;

/// The one writer's side of the tables by address.
pub(crate) struct Writers {
    pub(crate) neighbors: AddressTableWriter,
    pub(crate) peers: AddressTableWriter,
    pub(crate) macs: AddressTableWriter,
    pub(crate) gateways: AddressTableWriter,
}

impl Writers {
    pub(crate) fn new() -> Self {
        Self {
            neighbors: AddressTableWriter::new(),
            peers: AddressTableWriter::new(),
            macs: AddressTableWriter::new(),
            gateways: AddressTableWriter::new(),
        }
    }
}

/// All tables but the FIBs.
pub(crate) struct Tables {
    pub(crate) ports: Chunked<PortRecord, 6>,
    vrfs: Chunked<AtomicU64, 8>,
    /// By VNI: the slot of its record plus one.
    vni_slots: Chunked<AtomicU32, 12>,
    vnis: Chunked<VniRecord, 6>,
    /// By [`NextHopIndex`](crate::fib::NextHopIndex): a [`paths::GroupWord`].
    pub(crate) groups: Chunked<AtomicU64, 10>,
    /// Path words of groups with more than one path.
    pub(crate) buckets: Chunked<AtomicU32, { paths::BUCKET_CHUNK_LOG2 }>,
    pub(crate) tunnels: Chunked<TunnelRecord, 6>,
    /// By VTEP slot: the group that leads there plus one, 0 when there is none.
    pub(crate) vteps: Chunked<AtomicU64, 8>,
    /// Neighbours by port; the value is a [`Station`] or 0 while unresolved.
    pub(crate) neighbors: Arc<AddressTable>,
    /// VTEPs by VNI whose packets are accepted.
    pub(crate) peers: Arc<AddressTable>,
    bridges: Chunked<BridgeRecord, 4>,
    /// Flood lists: [`FloodTarget`] words.
    pub(crate) floods: Chunked<AtomicU32, FLOOD_CHUNK_LOG2>,
    /// MACs by bridge domain; the value is a [`MacWord`].
    pub(crate) macs: Arc<AddressTable>,
    /// The router's addresses by bridge domain.
    pub(crate) gateways: Arc<AddressTable>,
    /// The slot of the node's own record in force.
    node: AtomicU32,
    nodes: Chunked<NodeRecord, 2>,
    /// See [`version`](Self::version).
    version: Version,
}

impl Tables {
    pub(crate) fn new(writers: &Writers) -> Self {
        Self {
            ports: Chunked::new(MAX_PORTS),
            vrfs: Chunked::new(MAX_VRFS),
            vni_slots: Chunked::new(1 << 24),
            vnis: Chunked::new(MAX_VNIS),
            groups: Chunked::new(MAX_GROUPS),
            buckets: Chunked::new(MAX_BUCKETS),
            tunnels: Chunked::new(MAX_TUNNELS),
            vteps: Chunked::new(MAX_VTEPS),
            neighbors: Arc::clone(writers.neighbors.table()),
            peers: Arc::clone(writers.peers.table()),
            bridges: Chunked::new(MAX_BRIDGES),
            floods: Chunked::new(MAX_FLOODS),
            macs: Arc::clone(writers.macs.table()),
            gateways: Arc::clone(writers.gateways.table()),
            node: AtomicU32::new(0),
            nodes: Chunked::new(MAX_NODES),
            version: Version::default(),
        }
    }

    /// Changes with everything that a worker may remember from burst to burst: what a port, VRF, VNI, bridge domain or VTEP is,
    /// which peers are accepted, the groups by which VTEPs are reached, and the neighbours that paths lead to. Not with what is
    /// looked up for every packet: the FIBs, groups and their buckets, MACs, flood lists.
    #[inline(always)]
    pub(crate) fn version(&self) -> u64 {
        self.version.read()
    }

    /// Says that something changed, or is about to be used for something else.
    pub(crate) fn changed(&self) {
        self.version.bump();
    }

    /// A port as it is now; `None` when it does not exist.
    #[inline(always)]
    pub(crate) fn port(&self, port: PortId) -> Option<PortView> {
        self.ports.get(port.0.into())?.view()
    }

    pub(crate) fn set_port(&self, port: PortId, view: Option<PortView>) -> Option<()> {
        self.ports.get_or_make(port.0.into())?.set(view);
        self.changed();
        Some(())
    }

    /// A bridge domain as it is now; `None` when it does not exist.
    #[inline(always)]
    pub(crate) fn bridge(&self, slot: u32) -> Option<BridgeView> {
        self.bridges.get(slot)?.view(slot)
    }

    /// Writes what a bridge domain is; nothing when it is gone.
    pub(crate) fn set_bridge(&self, slot: u32, view: Option<&BridgeView>) -> Option<()> {
        let record = self.bridges.get_or_make(slot)?;
        match view {
            Some(view) => record.set(view),
            None => record.clear(),
        }
        self.changed();
        Some(())
    }

    /// The record of a bridge domain, for its flood list.
    pub(crate) fn bridge_record(&self, slot: u32) -> Option<&BridgeRecord> {
        self.bridges.get_or_make(slot)
    }

    /// Where a frame that is flooded in a domain goes.
    pub(crate) fn flood_targets(&self, bridge: u32) -> impl Iterator<Item = FloodTarget> + '_ {
        let block = self.bridges.get(bridge).map(BridgeRecord::flood).unwrap_or_default();
        (block.base..block.base + block.count)
            .filter_map(|at| self.floods.get(at))
            .map(|word| FloodTarget::from_word(word.load(Ordering::Relaxed)))
    }

    /// Where a MAC of a domain is.
    #[inline(always)]
    pub(crate) fn mac(&self, bridge: u32, mac: u64) -> MacWord {
        let record = self.macs.find(bridge, mac.into());
        record.map_or_else(MacWord::default, |record| MacWord(record.value.load(Ordering::Acquire)))
    }

    /// The FIB tables of a VRF, IPv4's and IPv6's.
    #[inline(always)]
    pub(crate) fn vrf(&self, vrf: VrfId) -> Option<(TableId, TableId)> {
        let word = self.vrfs.get(vrf.0)?.load(Ordering::Acquire);
        if word == 0 { None } else { Some((table_id(low(word)), table_id(low(word >> 32)))) }
    }

    pub(crate) fn set_vrf(&self, vrf: VrfId, tables: Option<(TableId, TableId)>) -> Option<()> {
        let word = tables.map_or(0, |(v4, v6)| u64::from(v4.index() + 1) | u64::from(v6.index() + 1) << 32);
        self.vrfs.get_or_make(vrf.0)?.store(word, Ordering::Release);
        self.changed();
        Some(())
    }

    /// Writes where a VTEP is reached: by a group of the default VRF.
    pub(crate) fn set_vtep(&self, slot: u32, group: Option<u32>) -> Option<()> {
        let word = group.map_or(0, |group| u64::from(group) + 1);
        self.vteps.get_or_make(slot)?.store(word, Ordering::Release);
        self.changed();
        Some(())
    }

    /// Writes a tunnel to a slot that no reader can find yet.
    pub(crate) fn write_tunnel(&self, slot: u32, spec: &TunnelSpec, vtep: u32) -> Option<()> {
        self.tunnels.get_or_make(slot)?.write(spec, vtep);
        Some(())
    }

    /// The record of a VNI, which may be any number.
    #[inline(always)]
    pub(crate) fn vni(&self, vni: u32) -> Option<VniView> {
        let slot = self.vni_slots.get(vni)?.load(Ordering::Acquire);
        self.vnis.get(slot.checked_sub(1)?).map(VniRecord::view)
    }

    /// Writes a VNI's record to a slot that no reader can find yet.
    pub(crate) fn write_vni(&self, slot: u32, view: &VniView) -> Option<()> {
        self.vnis.get_or_make(slot)?.set(view);
        Some(())
    }

    /// Makes a VNI lead to a slot.
    pub(crate) fn link_vni(&self, vni: u32, slot: Option<u32>) -> Option<()> {
        self.vni_slots.get_or_make(vni)?.store(slot.map_or(0, |slot| slot + 1), Ordering::Release);
        self.changed();
        Some(())
    }

    /// The node's own VTEP addresses and UDP ports.
    #[inline(always)]
    pub(crate) fn node(&self) -> NodeView {
        self.nodes.get(self.node.load(Ordering::Acquire)).map(NodeRecord::view).unwrap_or_default()
    }

    /// Writes the node's record to a slot that no reader looks at, and makes it the one in force.
    pub(crate) fn set_node(&self, slot: u32, view: NodeView) -> Option<()> {
        self.nodes.get_or_make(slot)?.set(view);
        self.node.store(slot, Ordering::Release);
        self.changed();
        Some(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
pub(crate) const fn low(word: u64) -> u32 {
    word as u32
}

/// From the number plus one that is stored.
#[inline(always)]
const fn table_id(stored: u32) -> TableId {
    TableId::from_index(stored.wrapping_sub(1))
}

/// A MAC and 16 bits in one word: a neighbour and the port it is on, or a port's own MAC and its MTU. Zero is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Station(pub(crate) u64);

impl Station {
    pub(crate) const fn new(mac: Mac, number: u16) -> Self {
        Self(mac.bits() << 16 | number as u64)
    }

    #[inline(always)]
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(crate) const fn mac(self) -> Mac {
        Mac::from_bits(self.0 >> 16)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower 16 bits")]
    pub(crate) const fn number(self) -> u16 {
        self.0 as u16
    }
}

/// A port: its MAC and MTU in one word; its VRF, or its place in a bridge domain and what it may do there.
#[derive(Default)]
#[repr(align(32))]
pub(crate) struct PortRecord {
    station: AtomicU64,
    vrf: AtomicU32,
    /// 0, or the bridge domain's slot plus one; with [`SVI`] for the router's interface in it.
    bridge: AtomicU32,
    flood_rate: AtomicU32,
    /// Not zero: no more MACs are learned on it.
    is_full: AtomicU32,
}

/// A port's bridge word: it is the router's interface in the domain.
const SVI: u32 = 1 << 31;

/// What a port is to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortRole {
    /// It has a MAC and is looked up in a VRF.
    Routed,
    /// A port of a bridge domain.
    Bridged {
        bridge: u32,
        /// Frames per second that it may flood.
        flood_rate: u32,
    },
    /// The router's interface in a bridge domain.
    Svi(u32),
}

/// A port as a worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortView {
    pub(crate) mac: Mac,
    /// Largest IP packet, bytes.
    pub(crate) mtu: u16,
    pub(crate) vrf: VrfId,
    pub(crate) role: PortRole,
}

impl PortRecord {
    /// Its MAC and MTU; nothing when it does not exist.
    #[inline(always)]
    pub(crate) fn station(&self) -> Station {
        Station(self.station.load(Ordering::Acquire))
    }

    /// The bridge domain whose router interface this is.
    #[inline(always)]
    pub(crate) fn svi_of(&self) -> Option<u32> {
        let word = self.bridge.load(Ordering::Relaxed);
        if word & SVI != 0 { Some((word & !SVI).wrapping_sub(1)) } else { None }
    }

    /// Whether no more MACs are learned on it.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.is_full.store(full.into(), Ordering::Relaxed);
    }

    #[inline(always)]
    fn view(&self) -> Option<PortView> {
        let station = self.station();
        if station.is_none() {
            return None;
        }
        let word = self.bridge.load(Ordering::Relaxed);
        let role = match (word & !SVI).checked_sub(1) {
            None => PortRole::Routed,
            Some(bridge) if word & SVI != 0 => PortRole::Svi(bridge),
            Some(bridge) => PortRole::Bridged { bridge, flood_rate: self.flood_rate.load(Ordering::Relaxed) },
        };
        let vrf = VrfId(self.vrf.load(Ordering::Relaxed));
        Some(PortView { mac: station.mac(), mtu: station.number(), vrf, role })
    }

    fn set(&self, view: Option<PortView>) {
        if let Some(view) = view {
            let (bridge, flood_rate) = match view.role {
                PortRole::Routed => (0, 0),
                PortRole::Bridged { bridge, flood_rate } => (bridge + 1, flood_rate),
                PortRole::Svi(bridge) => ((bridge + 1) | SVI, 0),
            };
            self.vrf.store(view.vrf.0, Ordering::Relaxed);
            self.bridge.store(bridge, Ordering::Relaxed);
            self.flood_rate.store(flood_rate, Ordering::Relaxed);
        }
        let station = view.map_or(Station(0), |view| Station::new(view.mac, view.mtu));
        self.station.store(station.0, Ordering::Release);
    }
}

/// A VNI, in one cache line.
#[derive(Default)]
#[repr(align(64))]
struct VniRecord {
    /// The router MAC and the UDP port.
    station: AtomicU64,
    own_high: AtomicU64,
    own_low: AtomicU64,
    vrf: AtomicU32,
    /// Of an L2VNI: its bridge domain's slot plus one.
    bridge: AtomicU32,
}

/// A VNI as a worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VniView {
    pub(crate) router_mac: Mac,
    pub(crate) udp_port: u16,
    /// Our own VTEP address.
    pub(crate) own: u128,
    /// Of an L3VNI.
    pub(crate) vrf: VrfId,
    /// The bridge domain of an L2VNI.
    pub(crate) bridge: Option<u32>,
}

impl VniRecord {
    #[inline(always)]
    fn view(&self) -> VniView {
        let station = Station(self.station.load(Ordering::Relaxed));
        let high = u128::from(self.own_high.load(Ordering::Relaxed));
        let low = u128::from(self.own_low.load(Ordering::Relaxed));
        VniView {
            router_mac: station.mac(),
            udp_port: station.number(),
            own: high << 64 | low,
            vrf: VrfId(self.vrf.load(Ordering::Relaxed)),
            bridge: self.bridge.load(Ordering::Relaxed).checked_sub(1),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn set(&self, view: &VniView) {
        self.station.store(Station::new(view.router_mac, view.udp_port).0, Ordering::Relaxed);
        self.own_high.store((view.own >> 64) as u64, Ordering::Relaxed);
        self.own_low.store(view.own as u64, Ordering::Relaxed);
        self.vrf.store(view.vrf.0, Ordering::Relaxed);
        self.bridge.store(view.bridge.map_or(0, |bridge| bridge + 1), Ordering::Relaxed);
    }
}

/// What makes a packet VXLAN to us, before its VNI is looked at.
#[derive(Default)]
#[repr(align(64))]
struct NodeRecord {
    v4: AtomicU64,
    v6_high: AtomicU64,
    v6_low: AtomicU64,
    udp_ports: AtomicU64,
}

/// The node as a worker sees it, read once per burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeView {
    /// Our VTEP address of each family.
    pub(crate) v4: Option<u32>,
    pub(crate) v6: Option<u128>,
    /// The UDP ports of our VNIs; 0 is none.
    pub(crate) udp_ports: [u16; 4],
}

impl NodeView {
    #[inline(always)]
    pub(crate) fn is_own(&self, address: u128) -> bool {
        self.v4.is_some_and(|v4| v4_bits(v4) == address) || self.v6 == Some(address)
    }
}

impl NodeRecord {
    #[inline(always)]
    fn view(&self) -> NodeView {
        let v4 = self.v4.load(Ordering::Relaxed);
        let high = u128::from(self.v6_high.load(Ordering::Relaxed));
        let v6 = high << 64 | u128::from(self.v6_low.load(Ordering::Relaxed));
        let ports = self.udp_ports.load(Ordering::Relaxed);
        NodeView {
            v4: (v4 != 0).then_some(low(v4)),
            v6: (v6 != 0).then_some(v6),
            udp_ports: [0, 16, 32, 48].map(|shift| Station(ports >> shift).number()),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn set(&self, view: NodeView) {
        // Bit 32 tells an address from none.
        self.v4.store(view.v4.map_or(0, |v4| u64::from(v4) | 1 << 32), Ordering::Relaxed);
        let v6 = view.v6.unwrap_or_default();
        self.v6_high.store((v6 >> 64) as u64, Ordering::Relaxed);
        self.v6_low.store(v6 as u64, Ordering::Relaxed);
        let ports = view.udp_ports.iter().rev().fold(0, |word, &port| word << 16 | u64::from(port));
        self.udp_ports.store(ports, Ordering::Relaxed);
    }
}
