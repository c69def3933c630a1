//! The one writer: topology, the FIB session, and what an operator may look at.

mod aging;
mod bridges;
mod explain;
mod explain_frame;
mod groups;
mod inspect;
mod learning;
mod macs;
mod neighbors;
mod routes;
mod sweep;
mod topology;
mod trace;
mod tunnels;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

pub use aging::Probe;
pub use bridges::BridgeConfig;
pub use explain::{Explanation, Flow, Outcome};
pub use explain_frame::FrameExplanation;
pub use groups::{Path, WeightedPath};
pub use inspect::{NeighborEntry, PathEntry, RouteEntry};
pub use learning::Learned;
pub use macs::{MacEntry, MacKind};
pub use routes::Route;
pub use sweep::{Sweep, Swept};
pub use topology::{Attachment, BridgePort, PortConfig, VniConfig};

use crate::counters::{PortCounters, VrfCounters, WorkerCells};
use crate::fib::{FibControl, FibError, TableId};
use crate::learn::{REPORTS, Report};
use crate::pipeline::Worker;
use crate::reclaim::{Domain, Limbo};
use crate::tables::Writers;
use crate::tables::address::AddressTableWriter;
use crate::tables::blocks::Blocks;
use crate::tables::bridge::FLOOD_CHUNK_LOG2;
use crate::tables::chunked::Slots;
use crate::tables::paths::BUCKET_CHUNK_LOG2;
use crate::tables::{
    MAX_BRIDGES, MAX_BUCKETS, MAX_FLOODS, MAX_GROUPS, MAX_NODES, MAX_PORTS, MAX_TUNNELS, MAX_VNIS, MAX_VRFS,
    MAX_VTEPS, NodeView, Tables,
};
use crate::types::{PortId, Vni, VrfId};
use bridges::Bridge;
use groups::Group;
use learning::Host;
use macs::MacState;
use neighbors::Neighbor;
use topology::{Port, VniState, Vrf};
use tunnels::{Tunnel, Vtep};

/// Port numbers are used again after so many others: clients know ports by them.
const PORTS_AT_REST: usize = 256;

/// Slots that wait for the readers.
#[derive(Debug)]
enum Retired {
    Group(u32),
    Buckets { base: u32, log2: u32 },
    Neighbor(u32),
    Peer(u32),
    Tunnel(u32),
    Vtep(u32),
    Vni(u32),
    Node(u32),
    Port(u32),
    Vrf(u32),
    Bridge(u32),
    Flood { base: u32, log2: u32 },
    Mac(u32),
    Gateway(u32),
}

/// What the paths of a group depend on, so that they are made anew when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dependency {
    Port(PortId),
    Vni(Vni),
    /// By slot.
    Vtep(u32),
    /// Whether its MAC is known, not which it is.
    Neighbor(PortId, u128),
}

/// The control side of the engine: one thread owns it and changes tables; [`Worker`]s read them.
///
/// Objects are named by numbers that it gives out; every method checks what it is given and answers with a typed error.
/// A change is visible to workers when the method returns. Memory that workers may still be reading is set aside and used
/// again by later changes, or by [`reclaim`](Self::reclaim).
pub struct Control {
    domain: Domain,
    tables: Arc<Tables>,
    fib4: FibControl<u32>,
    fib6: FibControl<u128>,
    limbo: Limbo<Retired>,
    workers: Vec<Arc<WorkerCells>>,

    ports: BTreeMap<PortId, Port>,
    port_slots: Slots,
    vrfs: BTreeMap<VrfId, Vrf>,
    vrf_slots: Slots,
    vnis: BTreeMap<Vni, VniState>,
    vni_slots: Slots,
    vtep_addresses: Vec<IpAddr>,
    node: NodeView,
    node_slot: u32,
    node_slots: Slots,

    groups: HashMap<u32, Group, foldhash::fast::FixedState>,
    group_slots: Slots,
    buckets: Blocks,
    dependents: BTreeSet<(Dependency, u32)>,

    neighbors: BTreeMap<(PortId, u128), Neighbor>,
    neighbor_table: AddressTableWriter,
    peers: HashMap<(Vni, u128), Peer, foldhash::fast::FixedState>,
    peer_table: AddressTableWriter,
    tunnels: HashMap<tunnels::TunnelSpec, Tunnel, foldhash::fast::FixedState>,
    tunnel_slots: Slots,
    vteps: BTreeMap<u128, Vtep>,
    vtep_slots: Slots,
    /// Which VTEPs a group is the underlay route of, by address.
    vtep_users: BTreeSet<(u32, u128)>,

    bridges: BTreeMap<Vni, Bridge>,
    bridge_slots: Slots,
    floods: Blocks,
    macs: BTreeMap<(Vni, u64), MacState>,
    mac_table: AddressTableWriter,
    gateway_table: AddressTableWriter,
    /// Hosts on ports of bridge domains, by address.
    hosts: BTreeMap<(Vni, u128), Host>,
    /// The same by MAC: which addresses it has.
    host_macs: BTreeSet<(Vni, u64, u128)>,
    /// Groups with the number of routes that have left them, which readers have not heard of yet.
    unpublished: Vec<(u32, u64)>,
    reports: Receiver<Report>,
    reporter: SyncSender<Report>,
    /// What was learned or forgotten since it was last asked.
    learned: Vec<Learned>,
    /// The time of the last upkeep.
    now: Duration,

    /// Grows with every session; what was stated in an earlier one is stale.
    session: u64,
    /// The session's names of groups.
    names: HashMap<u32, u32, foldhash::fast::FixedState>,

    /// What counters were when a port or VRF got its number.
    port_baselines: HashMap<PortId, PortCounters>,
    vrf_baselines: HashMap<VrfId, VrfCounters>,
}

/// A VTEP whose packets a VNI accepts.
#[derive(Debug)]
struct Peer {
    record: u32,
    paths: u32,
}

impl Control {
    /// An engine without ports, with the default VRF.
    ///
    /// Fails when the address space for the FIBs cannot be reserved.
    pub fn new() -> Result<Self, FibError> {
        let domain = Domain::new();
        let writers = Writers::new();
        let tables = Arc::new(Tables::new(&writers));
        let Writers { neighbors, peers, macs, gateways } = writers;
        let (reporter, reports) = sync_channel(REPORTS);
        let mut control = Self {
            fib4: FibControl::new(&domain)?,
            fib6: FibControl::new(&domain)?,
            domain,
            tables,
            limbo: Limbo::new(),
            workers: Vec::new(),
            ports: BTreeMap::new(),
            port_slots: Slots::with_rest(MAX_PORTS, PORTS_AT_REST),
            vrfs: BTreeMap::new(),
            vrf_slots: Slots::new(MAX_VRFS),
            vnis: BTreeMap::new(),
            vni_slots: Slots::new(MAX_VNIS),
            vtep_addresses: Vec::new(),
            node: NodeView::default(),
            node_slot: 0,
            node_slots: Slots::new(MAX_NODES),
            groups: HashMap::default(),
            group_slots: Slots::new(MAX_GROUPS),
            buckets: Blocks::new(MAX_BUCKETS, BUCKET_CHUNK_LOG2),
            dependents: BTreeSet::new(),
            neighbors: BTreeMap::new(),
            neighbor_table: neighbors,
            peers: HashMap::default(),
            peer_table: peers,
            tunnels: HashMap::default(),
            tunnel_slots: Slots::new(MAX_TUNNELS),
            vteps: BTreeMap::new(),
            vtep_slots: Slots::new(MAX_VTEPS),
            vtep_users: BTreeSet::new(),
            bridges: BTreeMap::new(),
            bridge_slots: Slots::new(MAX_BRIDGES),
            floods: Blocks::new(MAX_FLOODS, FLOOD_CHUNK_LOG2),
            macs: BTreeMap::new(),
            mac_table: macs,
            gateway_table: gateways,
            hosts: BTreeMap::new(),
            host_macs: BTreeSet::new(),
            unpublished: Vec::new(),
            reports,
            reporter,
            learned: Vec::new(),
            now: Duration::ZERO,
            session: 0,
            names: HashMap::default(),
            port_baselines: HashMap::new(),
            vrf_baselines: HashMap::new(),
        };
        // Number 0: the first that is given out.
        let tables = (control.fib4.table_add()?, control.fib6.table_add()?);
        control.vrf_slots.take();
        control.node_slots.take();
        control.install_vrf(VrfId::DEFAULT, "default".to_owned(), tables);
        Ok(control)
    }

    /// A reader for one polling thread. It is online: it must process, be [quiescent](Worker::quiescent), or go
    /// [offline](Worker::offline), or nothing that is retired is ever freed.
    pub fn worker(&mut self) -> Worker {
        let cells = Arc::new(WorkerCells::new());
        self.ports.keys().for_each(|&port| cells.make_port(port));
        self.vrfs.keys().for_each(|&vrf| cells.make_vrf(vrf));
        self.bridges.values().for_each(|bridge| cells.make_bridge(bridge.slot));
        self.workers.push(Arc::clone(&cells));
        self.reader(cells, self.reporter.clone())
    }

    fn reader(&self, cells: Arc<WorkerCells>, reports: SyncSender<Report>) -> Worker {
        Worker::new(
            Arc::clone(&self.tables),
            self.fib4.reader(),
            self.fib6.reader(),
            self.domain.register(),
            cells,
            reports,
        )
    }

    /// Frees what no worker can see any more. Never blocks; to be called now and then when nothing changes.
    pub fn reclaim(&mut self) {
        self.reclaim_slots();
        self.fib4.reclaim();
        self.fib6.reclaim();
        self.routes_published();
    }

    fn reclaim_slots(&mut self) {
        let Self { limbo, domain, .. } = self;
        let (groups, buckets) = (&mut self.group_slots, &mut self.buckets);
        limbo.reclaim(domain, |retired| match retired {
            Retired::Group(slot) => groups.give(slot),
            Retired::Buckets { base, log2 } => buckets.give(base, log2),
            Retired::Neighbor(slot) => self.neighbor_table.release(slot),
            Retired::Peer(slot) => self.peer_table.release(slot),
            Retired::Tunnel(slot) => self.tunnel_slots.give(slot),
            Retired::Vtep(slot) => self.vtep_slots.give(slot),
            Retired::Vni(slot) => self.vni_slots.give(slot),
            Retired::Node(slot) => self.node_slots.give(slot),
            Retired::Port(slot) => self.port_slots.give(slot),
            Retired::Vrf(slot) => self.vrf_slots.give(slot),
            Retired::Bridge(slot) => self.bridge_slots.give(slot),
            Retired::Flood { base, log2 } => self.floods.give(base, log2),
            Retired::Mac(slot) => self.mac_table.release(slot),
            Retired::Gateway(slot) => self.gateway_table.release(slot),
        });
    }

    /// Sets a slot aside until the readers have passed; tidies up when much has gathered.
    fn retire(&mut self, retired: Retired) {
        // Unlinked, and no epoch has begun since: what workers remember of it they forget before it is used again. Of the
        // others they remember nothing, or what they led to has said so: of neighbours, once no path led there any more.
        if matches!(
            retired,
            Retired::Tunnel(_)
                | Retired::Vtep(_)
                | Retired::Peer(_)
                | Retired::Vni(_)
                | Retired::Node(_)
                | Retired::Port(_)
                | Retired::Vrf(_)
                | Retired::Bridge(_)
        ) {
            self.tables.changed();
        }
        self.limbo.retire(retired);
        if self.limbo.unclosed() >= 1024 {
            self.reclaim_slots();
        }
    }

    fn vrf_tables(&self, vrf: VrfId) -> Option<(TableId, TableId)> {
        self.vrfs.get(&vrf).map(|vrf| vrf.tables)
    }
}
