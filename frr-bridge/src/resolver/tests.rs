mod local;
mod oracle;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::learned::Learned;
use crate::netlink::{
    Address, FdbEntry, FloodEntry, Kind, Link, LinkNeighbor, NextHop, OWN_PROTOCOL, TABLE_MAIN, Vxlan, Write,
};
use crate::topology::VrfId;
use crate::topology::{L2Vni, L3Vni, Port};
use oracle::World;

/// What a dataplane that carries out deltas ends up with. Every delta must make sense to it.
#[derive(Debug, Default)]
struct Fib {
    groups: BTreeMap<GroupId, Vec<Path>>,
    routes: BTreeMap<(VrfId, IpNet), GroupId>,
    neighbors: BTreeMap<(PortId, IpAddr), Mac>,
    macs: BTreeMap<(u32, Mac), RemoteMac>,
    floods: BTreeMap<u32, Vec<IpAddr>>,
    /// MACs that it has learned on its own ports.
    local: BTreeSet<(u32, Mac)>,
}

impl Fib {
    /// Returns the MACs that are no longer local, which it will report.
    fn apply(&mut self, delta: Delta) -> Vec<(u32, Mac)> {
        let mut gone = Vec::new();
        for (vni, vteps) in delta.flood_lists {
            let old = if vteps.is_empty() {
                self.floods.remove(&vni)
            } else {
                self.floods.insert(vni, vteps.clone())
            };
            assert_ne!(old.unwrap_or_default(), vteps, "a flood list was sent that had not changed");
        }
        for (vni, mac, remote) in delta.macs {
            let at = (vni, mac);
            let was_local = remote.is_some() && self.local.remove(&at);
            let old = match remote {
                Some(remote) => self.macs.insert(at, remote),
                None => self.macs.remove(&at),
            };
            assert_ne!(old, remote, "a MAC was sent that had not changed");
            if was_local {
                gone.push(at);
            }
        }
        for group in delta.groups {
            assert!((1..=64).contains(&group.paths.len()), "{group:?}");
            let old = self.groups.insert(group.id, group.paths.clone());
            assert_ne!(old, Some(group.paths), "a group was sent that had not changed");
        }
        for (port, address, mac) in delta.neighbors {
            let old = match mac {
                Some(mac) => self.neighbors.insert((port, address), mac),
                None => self.neighbors.remove(&(port, address)),
            };
            assert_ne!(old, mac, "a neighbour was sent that had not changed");
        }
        for (vrf, prefix, group) in delta.routes {
            let old = match group {
                Some(group) => {
                    assert!(self.groups.contains_key(&group), "{prefix} uses unknown group {group}");
                    self.routes.insert((vrf, prefix), group)
                }
                None => self.routes.remove(&(vrf, prefix)),
            };
            assert_ne!(old, group, "route {prefix} was sent that had not changed");
        }
        for id in delta.deleted_groups {
            assert!(self.groups.remove(&id).is_some(), "group {id} was deleted that never was");
            assert!(!self.routes.values().any(|&used| used == id), "group {id} was deleted in use");
        }
        gone
    }

    fn learn(&mut self, at: (u32, Mac), here: bool) {
        if here {
            self.macs.remove(&at);
            self.local.insert(at);
        } else {
            self.local.remove(&at);
        }
    }

    fn resolved(&self) -> BTreeMap<(VrfId, IpNet), Vec<Path>> {
        self.routes.iter().map(|(at, group)| (*at, self.groups[group].clone())).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Kernel(Message),
    Fpm(Message),
    Topology(usize),
    /// The dataplane learns a MAC on a port, or forgets it.
    Learn((u32, Mac), bool),
    /// All of the kernel's state once more, as after lost events.
    Resync,
    /// zebra restarts: it states everything again but the routes with these numbers, under other object ids.
    Restart(u32, BTreeSet<usize>),
    /// The dataplane restarts.
    Session,
    Flush,
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn net(text: &str) -> IpNet {
    text.parse().expect("CIDR")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn link(index: u32, name: &str, master: u32, kind: Kind) -> Link {
    Link {
        index,
        name: name.into(),
        up: true,
        master,
        mac: None,
        mtu: 1500,
        alias: String::new(),
        kind,
        generates_address: true,
        bridge_port: None,
    }
}

const LO: u32 = 1;
const RED: u32 = 2;
const BRIDGE: u32 = 3;
const VXLAN: u32 = 4;
const PORT: u32 = 5;
const TENANT: u32 = 6;
const SVI: u32 = 8;
const L2_VXLAN: u32 = 9;
const TAP: u32 = 10;
/// The SVI's identifier.
const SVI_PORT: PortId = 40;

fn links() -> Vec<Link> {
    let vxlan = Vxlan { vni: 100, local: None, port: 4789, learning: false };
    let other = || Kind::Other("tun".into());
    vec![
        link(LO, "lo", 0, Kind::Other(String::new())),
        link(RED, "red", 0, Kind::Vrf { table: 1001 }),
        link(BRIDGE, "br-pe-100", RED, Kind::Bridge),
        link(VXLAN, "vni100", BRIDGE, Kind::Vxlan(vxlan)),
        link(PORT, "uplink", 0, other()),
        link(TENANT, "pe-e-100", RED, other()),
        link(TENANT, "pe-e-100", 0, other()),
        link(RED, "red", 0, Kind::Vrf { table: 1002 }),
        link(7, "dummy", RED, other()),
        link(SVI, "br-pe-110", RED, Kind::Bridge),
        link(L2_VXLAN, "vni110", SVI, Kind::Vxlan(Vxlan { vni: 110, ..vxlan })),
        link(TAP, "host", SVI, other()),
        link(L2_VXLAN, "vni110", 0, Kind::Vxlan(Vxlan { vni: 110, ..vxlan })),
        link(SVI, "br-pe-110", 0, Kind::Bridge),
    ]
}

fn topology(variant: usize) -> Topology {
    let port = |id, vrf: &str| Port { id, vrf: vrf.into(), l2vni: None, mtu: 1500, addresses: Vec::new() };
    let mut topology = Topology { instance: 1, ..Topology::default() };
    if variant >= 1 {
        topology.ports.insert("uplink".into(), port(0, ""));
        topology.vrfs.insert("red".into(), 1);
    }
    if variant >= 2 {
        topology.ports.insert("pe-e-100".into(), port(4, "red"));
        let (vrf, vtep, router_mac) = ("red".into(), ip("10.0.0.1"), mac(1));
        topology.vnis.insert(100, L3Vni { vrf, vtep, port: 4789, router_mac, mtu: 1450 });
    }
    if variant >= 2 {
        let bridged = Port { l2vni: Some(110), ..port(5, "") };
        topology.ports.insert("host".into(), bridged);
        let l2vni = L2Vni {
            id: SVI_PORT,
            vrf: "red".into(),
            vtep: ip("10.0.0.1"),
            port: 4789,
            mac: mac(9),
            gateways: vec![net("10.1.0.1/24")],
            mtu: 1450,
            learns_from_vteps: false,
        };
        topology.l2vnis.insert(110, l2vni);
    }
    if variant == 3 {
        topology.vrfs.insert("red".into(), 9);
        topology.ports.insert("uplink".into(), port(7, ""));
        topology.l2vnis.get_mut(&110).expect("just added").id = SVI_PORT + 1;
    }
    topology
}

fn neighbor() -> impl Strategy<Value = LinkNeighbor> {
    let address =
        prop::sample::select(vec!["10.0.0.2", "::ffff:10.0.0.2", "10.0.0.3", "192.168.1.254", "fe80::1"]);
    // INCOMPLETE, REACHABLE, STALE, FAILED, NOARP.
    let state = prop::sample::select(vec![0x01u16, 0x02, 0x04, 0x20, 0x40]);
    (prop::sample::select(vec![BRIDGE, PORT, TENANT, 7, SVI]), address, 1..4u8, state, any::<bool>())
        .prop_map(|(ifindex, address, last, state, external)| LinkNeighbor {
            ifindex,
            address: ip(address),
            mac: (state & 0x21 == 0).then(|| mac(last)),
            state,
            flags: if external { 0x10 } else { 0 },
            protocol: 0,
        })
}

fn hop() -> impl Strategy<Value = Hop> {
    let gateway = prop::option::of(prop::sample::select(vec![
        ip("10.0.0.2"),
        ip("10.0.0.3"),
        ip("192.168.1.254"),
        ip("::ffff:10.0.0.2"),
        ip("fe80::1"),
    ]));
    (gateway, 0..11u32, 1..3u16).prop_map(|(gateway, oif, weight)| Hop { gateway, oif, weight })
}

fn hops() -> impl Strategy<Value = Hops> {
    prop_oneof![
        3 => (1..6u32).prop_map(Hops::Object),
        1 => prop::collection::vec(hop(), 0..3).prop_map(|hops| Hops::Inline(hops.into_boxed_slice())),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    let prefix = prop::sample::select(vec![
        "10.2.0.0/24",
        "10.3.0.0/24",
        "0.0.0.0/0",
        "10.0.0.2/32",
        "192.168.1.0/24",
        "fd00:2::/64",
        "::/0",
        "fe80::/64",
    ]);
    let kind = prop_oneof![5 => Just(RouteKind::Unicast), 1 => Just(RouteKind::Discard)];
    let protocol = prop_oneof![5 => Just(186u8), 1 => Just(RTPROT_KERNEL)];
    (prop::sample::select(vec![TABLE_MAIN, 1001, 1002]), prefix, protocol, kind, hops()).prop_map(
        |(table, prefix, protocol, kind, hops)| Route { table, prefix: net(prefix), protocol, kind, hops },
    )
}

fn object() -> impl Strategy<Value = NextHop> {
    let members = prop::collection::vec((1..6u32, 1..3u16), 1..4);
    let content = prop_oneof![
        4 => hop().prop_map(NextHopContent::Hop),
        2 => members.prop_map(|members| NextHopContent::Group(members.into_boxed_slice())),
        1 => Just(NextHopContent::Discard),
    ];
    (1..6u32, content).prop_map(|(id, content)| NextHop { id, content })
}

fn address() -> impl Strategy<Value = Address> {
    let text = prop::sample::select(vec![
        "192.168.1.1/24",
        "10.0.0.1/32",
        "10.1.0.1/24",
        "fd00:1::1/64",
        "fe80::5/64",
    ]);
    (1..9u32, text).prop_map(|(ifindex, text)| Address { ifindex, address: net(text) })
}

fn mac_entry(ifindex: u32) -> impl Strategy<Value = MacEntry> {
    let vtep = prop::sample::select(vec!["10.0.0.2", "10.0.0.3"]);
    (1..4u8, vtep, prop::bool::weighted(0.1)).prop_map(move |(last, vtep, sticky)| MacEntry {
        ifindex,
        mac: mac(last),
        vtep: ip(vtep),
        sticky,
    })
}

fn fdb_entry() -> impl Strategy<Value = FdbEntry> {
    (1..4u8, prop::sample::select(vec![L2_VXLAN, L2_VXLAN, TAP])).prop_map(|(last, port)| FdbEntry {
        bridge: SVI,
        port,
        mac: mac(last),
        dynamic: true,
    })
}

fn flood_entry() -> impl Strategy<Value = FloodEntry> {
    let vtep = prop::sample::select(vec!["10.0.0.2", "10.0.0.3", "fd00::2"]);
    (prop::sample::select(vec![VXLAN, L2_VXLAN, L2_VXLAN]), vtep)
        .prop_map(|(ifindex, vtep)| FloodEntry { ifindex, vtep: ip(vtep) })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::sample::select(links()).prop_map(|link| Step::Kernel(Message::NewLink(Box::new(link)))),
        1 => (1..11u32).prop_map(|index| Step::Kernel(Message::DelLink(index))),
        3 => address().prop_map(|address| Step::Kernel(Message::NewAddress(address))),
        1 => address().prop_map(|address| Step::Kernel(Message::DelAddress(address))),
        4 => neighbor().prop_map(|neighbor| Step::Kernel(Message::NewNeighbor(neighbor))),
        1 => neighbor().prop_map(|neighbor| Step::Kernel(Message::DelNeighbor(neighbor))),
        8 => route().prop_map(|route| Step::Fpm(Message::NewRoute(route))),
        2 => route().prop_map(|route| Step::Fpm(Message::DelRoute(route))),
        6 => object().prop_map(|object| Step::Fpm(Message::NewNextHop(object))),
        1 => (1..6u32).prop_map(|id| Step::Fpm(Message::DelNextHop(id))),
        2 => mac_entry(VXLAN).prop_map(|entry| Step::Fpm(Message::NewMac(entry))),
        1 => mac_entry(VXLAN).prop_map(|entry| Step::Fpm(Message::DelMac(entry))),
        4 => mac_entry(L2_VXLAN).prop_map(|entry| Step::Kernel(Message::NewMac(entry))),
        1 => mac_entry(L2_VXLAN).prop_map(|entry| Step::Kernel(Message::DelMac(entry))),
        4 => fdb_entry().prop_map(|entry| Step::Kernel(Message::NewFdb(entry))),
        1 => fdb_entry().prop_map(|entry| Step::Kernel(Message::DelFdb(entry))),
        3 => flood_entry().prop_map(|entry| Step::Kernel(Message::NewFlood(entry))),
        1 => flood_entry().prop_map(|entry| Step::Kernel(Message::DelFlood(entry))),
        2 => (1..4u8, any::<bool>()).prop_map(|(last, here)| Step::Learn((110, mac(last)), here)),
        2 => (0..4usize).prop_map(Step::Topology),
        1 => Just(Step::Resync),
        1 => (0..3u32, prop::collection::btree_set(0..8usize, 0..4)).prop_map(|(shift, lost)| Step::Restart(shift, lost)),
        1 => Just(Step::Session),
        6 => Just(Step::Flush),
    ]
}

fn learned(at: (u32, Mac), port: Option<PortId>) -> Learned {
    Learned { instance: 1, macs: vec![(at, port)], ..Learned::default() }
}

/// Carries out a flush, and tells the resolver what the dataplane then has to say.
fn settle(resolver: &mut Resolver, fib: &mut Fib) {
    for at in fib.apply(resolver.flush()) {
        resolver.learned(&learned(at, None));
    }
}

fn run(steps: Vec<Step>) -> (World, Fib) {
    let (mut resolver, mut world, mut fib) = (Resolver::default(), World::default(), Fib::default());
    resolver.session(true);
    resolver.learning();
    resolver.learned(&Learned { instance: 1, complete: true, ..Learned::default() });
    for step in steps {
        match step {
            Step::Kernel(message) => {
                world.apply(message.clone());
                resolver.kernel(message);
            }
            Step::Fpm(message) => {
                world.apply_fpm(message.clone());
                resolver.fpm(message);
            }
            Step::Topology(variant) => {
                // Tables of an L2VNI that is another one now are gone in the dataplane, too.
                settle(&mut resolver, &mut fib);
                let old = std::mem::replace(&mut world.topology, topology(variant));
                let same = |vni| {
                    let id = |of: &Topology| of.l2vnis.get(&vni).map(|of: &L2Vni| of.id);
                    id(&old) == id(&world.topology)
                };
                fib.macs.retain(|(vni, _), _| same(*vni));
                fib.floods.retain(|vni, _| same(*vni));
                resolver.topology(topology(variant));
                settle(&mut resolver, &mut fib);
            }
            Step::Learn(at, here) => {
                fib.learn(at, here);
                resolver.learned(&learned(at, here.then_some(5)));
            }
            Step::Resync => resolver.snapshot(Snapshot(world.resync())),
            Step::Restart(shift, lost) => {
                resolver.fpm_connected();
                world.restart(shift * 100, &lost);
                for message in world.replay() {
                    resolver.fpm(message);
                    settle(&mut resolver, &mut fib);
                }
                resolver.sweep();
            }
            Step::Session => {
                resolver.session(true);
                fib = Fib { local: std::mem::take(&mut fib.local), ..Fib::default() };
            }
            Step::Flush => settle(&mut resolver, &mut fib),
        }
    }
    settle(&mut resolver, &mut fib);
    settle(&mut resolver, &mut fib);
    assert!(resolver.flush().is_empty(), "another flush has nothing left to say");
    (world, fib)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn any_order_of_events_converges_to_what_the_oracle_says(steps in prop::collection::vec(step(), 1..120)) {
        let (world, fib) = run(steps);
        prop_assert_eq!(fib.resolved(), world.routes());
        prop_assert_eq!(&fib.neighbors, &world.neighbors());
        prop_assert_eq!(&fib.floods, &world.floods());
        // Where the dataplane has had the last word, it has its own entry.
        let mut macs = world.macs();
        macs.retain(|at, _| !fib.local.contains(at));
        prop_assert_eq!(fib.macs, macs);
    }
}

/// zebra and kernel of a PE with one tenant route behind a VTEP and one underlay route; topology variant 2.
fn converged() -> (Resolver, Fib) {
    let (mut resolver, mut fib) = (Resolver::default(), Fib::default());
    resolver.session(true);
    resolver.topology(topology(2));
    for link in links().into_iter().take(6).chain(links().into_iter().skip(9).take(3)) {
        resolver.kernel(Message::NewLink(Box::new(link)));
    }
    replay(&mut resolver, 0, 1000);
    fib.apply(resolver.flush());
    (resolver, fib)
}

/// `count` tenant routes through object 10 and one underlay route through object 11, ids shifted.
fn replay(resolver: &mut Resolver, shift: u32, count: u32) {
    let hop = |gateway: &str, oif| NextHopContent::Hop(Hop { gateway: Some(ip(gateway)), oif, weight: 1 });
    for (id, content) in [(10, hop("10.0.0.2", BRIDGE)), (11, hop("192.168.1.254", PORT))] {
        resolver.fpm(Message::NewNextHop(NextHop { id: id + shift, content }));
    }
    let mut route = |table, prefix, id| {
        let hops = Hops::Object(id + shift);
        resolver.fpm(Message::NewRoute(Route {
            table,
            prefix,
            protocol: 186,
            kind: RouteKind::Unicast,
            hops,
        }));
    };
    for number in 0..count {
        let address = std::net::Ipv4Addr::from_bits(0x0a40_0000 | number << 8);
        route(1001, IpNet::new(address.into(), 24).expect("length"), 10);
    }
    route(TABLE_MAIN, net("10.0.0.2/32"), 11);
}

#[test]
fn a_router_mac_that_comes_late_changes_the_group_and_no_prefix() {
    let (mut resolver, mut fib) = converged();
    let state = 0x40;
    let neighbor = LinkNeighbor {
        ifindex: BRIDGE,
        address: ip("10.0.0.2"),
        mac: Some(mac(2)),
        state,
        flags: 0x10,
        protocol: 0,
    };
    resolver.kernel(Message::NewNeighbor(neighbor));
    let delta = resolver.flush();
    assert_eq!((delta.groups.len(), delta.routes.len()), (1, 0));
    fib.apply(delta);
    let vtep = ip("10.0.0.2");
    let kind = PathKind::Vxlan { vni: 100, vtep, router_mac: Some(mac(2)) };
    assert_eq!(fib.resolved()[&(1, net("10.64.7.0/24"))], [Path { kind, weight: 1 }]);
}

#[test]
fn a_router_mac_stays_in_use_when_zebra_takes_it_away_too_early() {
    let (mut resolver, mut fib) = converged();
    let neighbor = |address, last| LinkNeighbor {
        ifindex: BRIDGE,
        address: ip(address),
        mac: Some(mac(last)),
        state: 0x40,
        flags: 0x10,
        protocol: 0,
    };
    let router_mac = |resolver: &mut Resolver, fib: &mut Fib| {
        fib.apply(resolver.flush());
        match fib.resolved()[&(1, net("10.64.7.0/24"))][0].kind {
            PathKind::Vxlan { router_mac, .. } => router_mac,
            other => panic!("{other:?}"),
        }
    };
    for address in ["10.0.0.2", "::ffff:10.0.0.2"] {
        resolver.kernel(Message::NewNeighbor(neighbor(address, 2)));
    }
    assert_eq!(router_mac(&mut resolver, &mut fib), Some(mac(2)));
    // One of the two statements goes, as with the last IPv6 prefix of that VTEP.
    resolver.kernel(Message::DelNeighbor(neighbor("::ffff:10.0.0.2", 2)));
    assert_eq!(router_mac(&mut resolver, &mut fib), Some(mac(2)));
    resolver.kernel(Message::DelNeighbor(neighbor("10.0.0.2", 2)));
    assert_eq!(router_mac(&mut resolver, &mut fib), Some(mac(2)));
    resolver.kernel(Message::NewNeighbor(neighbor("10.0.0.2", 3)));
    assert_eq!(router_mac(&mut resolver, &mut fib), Some(mac(3)));
}

/// A frr-bridge that is started anew remembers nothing: the kernel does.
#[test]
fn a_router_mac_that_zebra_took_away_is_kept_in_the_kernel() {
    let (mut resolver, mut fib) = converged();
    // Only then is it known what the kernel has.
    resolver.has_snapshot = true;
    resolver.learning();
    resolver.learned(&Learned { instance: resolver.topology.instance, complete: true, ..Learned::default() });
    let neighbor = |last, flags, protocol| LinkNeighbor {
        ifindex: BRIDGE,
        address: ip("10.0.0.2"),
        mac: Some(mac(last)),
        state: 0x40,
        flags,
        protocol,
    };
    resolver.kernel(Message::NewNeighbor(neighbor(2, 0x10, 0)));
    fib.apply(resolver.flush());
    assert_eq!(resolver.writes(), []);
    resolver.kernel(Message::DelNeighbor(neighbor(2, 0x10, 0)));
    fib.apply(resolver.flush());
    let kept = Write::KeepRouterMac { ifindex: BRIDGE, address: ip("10.0.0.2"), mac: mac(2) };
    assert_eq!(resolver.writes(), [kept]);
    // Ours says so from now on, to the next frr-bridge too.
    resolver.kernel.remembered.clear();
    resolver.kernel(Message::NewNeighbor(neighbor(2, 0, OWN_PROTOCOL)));
    fib.apply(resolver.flush());
    match fib.resolved()[&(1, net("10.64.7.0/24"))][0].kind {
        PathKind::Vxlan { router_mac, .. } => assert_eq!(router_mac, Some(mac(2))),
        other => panic!("{other:?}"),
    }
    // zebra stated another one before we came to it.
    resolver.kernel(Message::DelNeighbor(neighbor(2, 0x10, 0)));
    resolver.kernel(Message::NewNeighbor(neighbor(3, 0x10, 0)));
    fib.apply(resolver.flush());
    assert_eq!(resolver.writes(), []);
}

#[test]
fn an_object_that_changes_in_place_changes_the_group_and_no_prefix() {
    let (mut resolver, mut fib) = converged();
    let content = NextHopContent::Group(Box::new([(11, 1), (12, 1)]));
    let second = Hop { gateway: Some(ip("fe80::1")), oif: PORT, weight: 1 };
    resolver.fpm(Message::NewNextHop(NextHop { id: 12, content: NextHopContent::Hop(second) }));
    resolver.fpm(Message::NewNextHop(NextHop { id: 10, content }));
    let delta = resolver.flush();
    assert_eq!((delta.groups.len(), delta.routes.len()), (1, 0), "{delta:?}");
    fib.apply(delta);
    assert_eq!(fib.resolved()[&(1, net("10.64.7.0/24"))].len(), 2);
}

#[test]
fn a_restart_of_zebra_that_ends_where_it_began_sends_nothing() {
    let (mut resolver, _) = converged();
    resolver.fpm_connected();
    replay(&mut resolver, 500, 1000);
    assert!(resolver.flush().is_empty());
    assert_eq!(resolver.uncovered(&[(1001, net("10.64.7.0/24"))]), None);
    assert_eq!(resolver.sweep(), 0);
    assert!(resolver.flush().is_empty());
}

#[test]
fn a_restart_of_zebra_withdraws_only_what_is_swept_and_never_mixes_up_ids() {
    let (mut resolver, mut fib) = converged();
    let before = fib.resolved();
    resolver.fpm_connected();
    // The new zebra gives id 10, until now the tenant's, to something else.
    let other = Hop { gateway: Some(ip("192.168.1.254")), oif: PORT, weight: 1 };
    resolver.fpm(Message::NewNextHop(NextHop { id: 10, content: NextHopContent::Hop(other) }));
    fib.apply(resolver.flush());
    assert_eq!(fib.resolved(), before);
    let at = (1001, net("10.64.7.0/24"));
    assert_eq!(resolver.uncovered(&[at]), Some((1, &at)), "the kernel has it, zebra has not stated it yet");
    replay(&mut resolver, 500, 3);
    assert_eq!(resolver.sweep(), 997);
    fib.apply(resolver.flush());
    assert_eq!(fib.resolved().len(), 4);
}

#[test]
fn an_update_of_a_route_is_one_change_even_as_delete_and_add() {
    let (mut resolver, _) = converged();
    let prefix = net("10.64.7.0/24");
    let route =
        |id| Route { table: 1001, prefix, protocol: 186, kind: RouteKind::Unicast, hops: Hops::Object(id) };
    resolver.fpm(Message::DelRoute(route(10)));
    resolver.fpm(Message::NewRoute(route(11)));
    let delta = resolver.flush();
    assert_eq!(delta.routes.len(), 1);
    assert!(delta.routes[0].2.is_some());
}

#[test]
fn batches_carry_everything_in_order() {
    let (mut resolver, _) = converged();
    resolver.session(true);
    let batches: Vec<_> = resolver.flush().into_batches(1, 300).collect();
    assert_eq!(batches.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(batches.iter().map(|batch| batch.routes4.len()).sum::<usize>(), 1001);
    assert!(batches[0].groups.len() == 2 && batches[1..].iter().all(|batch| batch.groups.is_empty()));
}

fn fdb(last: u8, port: u32) -> Message {
    Message::NewFdb(FdbEntry { bridge: SVI, port, mac: mac(last), dynamic: true })
}

fn behind(last: u8, vtep: &str, sticky: bool) -> Message {
    Message::NewMac(MacEntry { ifindex: L2_VXLAN, mac: mac(last), vtep: ip(vtep), sticky })
}

/// As [`converged`], and the dataplane has said that it has learned nothing.
fn bridged() -> Resolver {
    let (mut resolver, _) = converged();
    resolver.learning();
    resolver.learned(&Learned { instance: 1, complete: true, ..Learned::default() });
    resolver
}

#[test]
fn the_kernels_word_is_always_passed_on_when_the_dataplane_has_learned_otherwise() {
    let mut resolver = bridged();
    let vtep = ip("10.0.0.2");
    let remote = |sticky| vec![(110, mac(1), Some(RemoteMac { vtep, sticky }))];
    let mut said = |messages: Vec<Message>| {
        messages.into_iter().for_each(|message| resolver.kernel(message));
        resolver.flush().macs
    };
    assert_eq!(said(vec![fdb(1, L2_VXLAN), behind(1, "10.0.0.2", false)]), remote(false));
    assert_eq!(said(vec![fdb(1, L2_VXLAN), behind(1, "10.0.0.2", false)]), [], "nothing new");
    resolver.learned(&learned((110, mac(1)), Some(5)));
    assert_eq!(resolver.flush().macs, [], "the dataplane knows better now");
    resolver.session(true);
    assert_eq!(resolver.flush().macs, [], "also in another session");
    // zebra refuses: the same that was sent before is sent again, and once only.
    resolver.kernel(fdb(1, L2_VXLAN));
    assert_eq!(resolver.flush().macs, remote(false));
    resolver.kernel(Message::NewAddress(Address { ifindex: SVI, address: net("10.1.0.1/24") }));
    assert_eq!(resolver.flush().macs, []);
    resolver.learned(&learned((110, mac(1)), None));
    assert_eq!(resolver.flush().macs, []);
    // Refused while there is no session, it is said in the next.
    resolver.learned(&learned((110, mac(1)), Some(5)));
    resolver.session(false);
    resolver.kernel(fdb(1, L2_VXLAN));
    assert_eq!(resolver.flush().macs, []);
    resolver.session(true);
    assert_eq!(resolver.flush().macs, remote(false));
    // What is sticky is never left to the dataplane, and never written.
    resolver.learned(&learned((110, mac(1)), None));
    resolver.kernel(behind(1, "10.0.0.2", true));
    assert_eq!(resolver.flush().macs, remote(true));
    let devices = links().into_iter().skip(9).take(3).map(|link| Message::NewLink(Box::new(link)));
    let all = devices.chain([fdb(1, L2_VXLAN), behind(1, "10.0.0.2", true)]).collect();
    resolver.snapshot(Snapshot(all));
    resolver.flush();
    resolver.learned(&learned((110, mac(1)), Some(5)));
    assert_eq!(resolver.flush().macs, remote(true));
    assert_eq!(resolver.writes(), []);
    resolver.learned(&learned((110, mac(2)), Some(5)));
    resolver.flush();
    assert_eq!(resolver.writes(), [Write::SetMac { port: TAP, mac: mac(2) }], "another one is written");
}

#[test]
fn hosts_of_a_bridge_domain_are_no_router_macs() {
    let mut resolver = bridged();
    let neighbor = |ifindex, address, last| {
        let (address, mac) = (ip(address), Some(mac(last)));
        Message::NewNeighbor(LinkNeighbor { ifindex, address, mac, state: 0x40, flags: 0x10, protocol: 11 })
    };
    resolver.kernel(behind(2, "10.0.0.2", false));
    resolver.kernel(neighbor(SVI, "10.1.0.22", 2));
    assert!(!resolver.has_router_macs(), "a host behind a VTEP");
    resolver.kernel(neighbor(BRIDGE, "10.0.0.2", 7));
    assert!(resolver.has_router_macs());
}

#[test]
fn an_svi_is_a_port() {
    let mut resolver = bridged();
    resolver.kernel(Message::NewAddress(Address { ifindex: SVI, address: net("10.1.0.1/24") }));
    let hop = Hop { gateway: Some(ip("10.1.0.7")), oif: SVI, weight: 1 };
    let hops = Hops::Inline(Box::new([hop]));
    let prefix = net("10.77.0.0/24");
    resolver.fpm(Message::NewRoute(Route {
        table: 1001,
        prefix,
        protocol: 196,
        kind: RouteKind::Unicast,
        hops,
    }));
    let mut fib = Fib::default();
    resolver.session(true);
    fib.apply(resolver.flush());
    let only =
        |prefix: &str| fib.resolved()[&(1, net(prefix))].iter().map(|path| path.kind).collect::<Vec<_>>();
    assert_eq!(only("10.1.0.1/32"), [PathKind::Local]);
    assert_eq!(only("10.1.0.0/24"), [PathKind::Connected { port: SVI_PORT }]);
    assert_eq!(only("10.77.0.0/24"), [PathKind::Adjacent { port: SVI_PORT, gateway: ip("10.1.0.7") }]);
    let unresolved: Vec<_> = resolver.upkeep().collect();
    assert!(unresolved.contains(&(SVI, ip("10.1.0.7"), true)), "the kernel is to ask for it: {unresolved:?}");
}
