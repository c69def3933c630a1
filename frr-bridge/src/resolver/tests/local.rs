//! Local hosts on their way to the kernel, against a kernel whose events come late, ports that come and go, and a zebra that
//! moves MACs away.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::netlink::{OWN_PROTOCOL, Refusal};

const SECOND_TAP: u32 = 11;
const VNI: u32 = 110;
const NUD_FAILED: u16 = 0x20;
const NUD_PERMANENT: u16 = 0x80;

/// The bridge of the L2VNI as the kernel has it.
#[derive(Debug, Default)]
struct Bridge {
    up: BTreeSet<u32>,
    fdb: BTreeMap<Mac, u32>,
    /// MAC, and whether it is zebra's.
    neighbors: BTreeMap<IpAddr, (Mac, bool)>,
    /// Not heard yet.
    events: VecDeque<Message>,
}

fn entry(port: u32, mac: Mac) -> FdbEntry {
    FdbEntry { bridge: SVI, port, mac, dynamic: true }
}

fn host(address: IpAddr, mac: Mac, state: u16, zebras: bool) -> LinkNeighbor {
    let (flags, protocol) = if zebras { (0x10, 11) } else { (0, OWN_PROTOCOL) };
    LinkNeighbor { ifindex: SVI, address, mac: Some(mac), state, flags, protocol }
}

impl Bridge {
    fn put(&mut self, mac: Mac, port: u32) {
        if self.fdb.insert(mac, port) != Some(port) {
            self.events.push_back(Message::NewFdb(entry(port, mac)));
        }
    }

    fn set(&mut self, address: IpAddr, mac: Mac, zebras: bool) {
        if self.neighbors.insert(address, (mac, zebras)) != Some((mac, zebras)) {
            self.events.push_back(Message::NewNeighbor(host(address, mac, NUD_PERMANENT, zebras)));
        }
    }

    fn carry_out(&mut self, write: Write) -> Option<Refusal> {
        match write {
            Write::SetMac { port, .. } if !self.up.contains(&port) => {
                return Some(Refusal { write, errno: libc::EPERM });
            }
            Write::SetMac { port, mac } => self.put(mac, port),
            Write::RemoveMac { port, mac } => {
                if self.fdb.get(&mac) == Some(&port) {
                    self.fdb.remove(&mac);
                    self.events.push_back(Message::DelFdb(entry(port, mac)));
                }
            }
            Write::SetNeighbor { address, mac, .. } => self.set(address, mac, false),
            Write::KeepRouterMac { .. } => panic!("there is no L3VNI here"),
            Write::RemoveNeighbor { address, .. } => {
                if let Some((mac, zebras)) = self.neighbors.remove(&address) {
                    self.events.push_back(Message::NewNeighbor(host(address, mac, NUD_FAILED, zebras)));
                    self.events.push_back(Message::DelNeighbor(host(address, mac, NUD_FAILED, zebras)));
                    // zebra puts back what others take away.
                    if zebras {
                        self.set(address, mac, true);
                    }
                }
            }
        }
        None
    }

    fn carrier(&mut self, port: u32, up: bool) {
        if up {
            self.up.insert(port);
        } else {
            self.up.remove(&port);
            let lost: Vec<Mac> =
                self.fdb.iter().filter(|(_, of)| **of == port).map(|(mac, _)| *mac).collect();
            for mac in lost {
                self.fdb.remove(&mac);
                self.events.push_back(Message::DelFdb(entry(port, mac)));
            }
        }
        self.events.push_back(Message::NewLink(Box::new(tap(port, up))));
    }

    /// zebra has heard of a MAC behind another VTEP.
    fn takes(&mut self, mac: Mac) {
        self.put(mac, L2_VXLAN);
        self.events.push_back(behind(mac.0[5], "10.0.0.2", false));
        let addresses: Vec<IpAddr> =
            self.neighbors.iter().filter(|(_, (of, _))| *of == mac).map(|(address, _)| *address).collect();
        addresses.into_iter().for_each(|address| self.set(address, mac, true));
    }
}

fn tap(index: u32, up: bool) -> Link {
    let name = if index == TAP { "host" } else { "host2" };
    Link { up, ..link(index, name, SVI, Kind::Other("tun".into())) }
}

#[derive(Clone, Debug)]
enum Action {
    Learn(u8, PortId),
    Forget(u8),
    Address(u8, u8),
    NoAddress(u8),
    Carrier(u32, bool),
    Zebra(u8),
    /// So many events are heard.
    Hear(usize),
    /// Changes go out, but so many writes are carried out later.
    Flush(usize),
    Second,
    /// The dataplane says everything again.
    Stream,
    Resync,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1..4u8, 5..7u32).prop_map(|(last, port)| Action::Learn(last, port)),
        2 => (1..4u8).prop_map(Action::Forget),
        3 => (1..4u8, 1..4u8).prop_map(|(address, last)| Action::Address(address, last)),
        1 => (1..4u8).prop_map(Action::NoAddress),
        2 => (prop::sample::select(vec![TAP, SECOND_TAP]), any::<bool>()).prop_map(|(tap, up)| Action::Carrier(tap, up)),
        2 => (1..4u8).prop_map(Action::Zebra),
        4 => (1..6usize).prop_map(Action::Hear),
        4 => (0..3usize).prop_map(Action::Flush),
        1 => Just(Action::Second),
        1 => Just(Action::Stream),
        1 => Just(Action::Resync),
    ]
}

/// All parties.
struct Node {
    resolver: Resolver,
    bridge: Bridge,
    writes: VecDeque<Write>,
    /// What the dataplane has.
    macs: BTreeMap<Mac, PortId>,
    neighbors: BTreeMap<IpAddr, Mac>,
}

fn address_of(last: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, last])
}

impl Node {
    fn new() -> Self {
        let mut resolver = Resolver::default();
        let mut topology = topology(2);
        let second = Port { id: 6, ..topology.ports["host"].clone() };
        topology.ports.insert("host2".into(), second);
        resolver.topology(topology);
        let links = links().into_iter().skip(9).take(2).chain([tap(TAP, true), tap(SECOND_TAP, true)]);
        resolver.snapshot(Snapshot(links.map(|link| Message::NewLink(Box::new(link))).collect()));
        resolver.session(true);
        resolver.learning();
        resolver.learned(&Learned { instance: 1, complete: true, ..Learned::default() });
        let bridge = Bridge { up: [TAP, SECOND_TAP].into(), ..Bridge::default() };
        let (macs, neighbors) = (BTreeMap::new(), BTreeMap::new());
        Self { resolver, bridge, writes: VecDeque::new(), macs, neighbors }
    }

    fn say(&mut self, macs: Vec<(Mac, Option<PortId>)>, neighbors: Vec<(IpAddr, Option<Mac>)>) {
        self.resolver.learned(&Learned {
            instance: 1,
            macs: macs.into_iter().map(|(mac, port)| ((VNI, mac), port)).collect(),
            neighbors: neighbors.into_iter().map(|(address, mac)| ((VNI, address), mac)).collect(),
            complete: false,
        });
    }

    /// A MAC goes, and with it the addresses that it has.
    fn forget(&mut self, mac: Mac) {
        if self.macs.remove(&mac).is_some() {
            let of: Vec<IpAddr> =
                self.neighbors.iter().filter(|(_, of)| **of == mac).map(|(address, _)| *address).collect();
            self.neighbors.retain(|_, of| *of != mac);
            self.say(vec![(mac, None)], of.into_iter().map(|address| (address, None)).collect());
        }
    }

    fn flush(&mut self, later: usize) {
        for (_, mac, remote) in self.resolver.flush().macs {
            if remote.is_some() {
                self.forget(mac);
            }
        }
        self.writes.extend(self.resolver.writes());
        while self.writes.len() > later {
            let Some(write) = self.writes.pop_front() else { break };
            if let Some(refusal) = self.bridge.carry_out(write) {
                self.resolver.refused(&[refusal]);
            }
        }
    }

    fn hear(&mut self, count: usize) {
        for message in self.bridge.events.drain(..count.min(self.bridge.events.len())) {
            self.resolver.kernel(message);
        }
    }

    fn step(&mut self, action: Action) {
        match action {
            Action::Learn(last, port) => {
                self.macs.insert(mac(last), port);
                self.say(vec![(mac(last), Some(port))], Vec::new());
            }
            Action::Forget(last) => self.forget(mac(last)),
            Action::Address(last, of) => {
                // Only of a MAC that it has.
                if self.macs.contains_key(&mac(of)) {
                    self.neighbors.insert(address_of(last), mac(of));
                    self.say(Vec::new(), vec![(address_of(last), Some(mac(of)))]);
                }
            }
            Action::NoAddress(last) => {
                if self.neighbors.remove(&address_of(last)).is_some() {
                    self.say(Vec::new(), vec![(address_of(last), None)]);
                }
            }
            Action::Carrier(tap, up) => self.bridge.carrier(tap, up),
            Action::Zebra(last) => self.bridge.takes(mac(last)),
            Action::Hear(count) => self.hear(count),
            Action::Flush(later) => self.flush(later),
            Action::Second => drop(self.resolver.retry_local()),
            Action::Stream => {
                self.resolver.learning();
                self.resolver.learned(&Learned {
                    instance: 1,
                    macs: self.macs.iter().map(|(&mac, &port)| ((VNI, mac), Some(port))).collect(),
                    neighbors: self.neighbors.iter().map(|(&at, &mac)| ((VNI, at), Some(mac))).collect(),
                    complete: true,
                });
            }
            Action::Resync => {
                self.hear(usize::MAX);
                let links = links().into_iter().skip(9).take(2);
                let taps = [TAP, SECOND_TAP].map(|index| tap(index, self.bridge.up.contains(&index)));
                let links = links.chain(taps).map(|link| Message::NewLink(Box::new(link)));
                let fdb = self.bridge.fdb.iter().map(|(&mac, &port)| Message::NewFdb(entry(port, mac)));
                let remote = (1..4).map(|last| behind(last, "10.0.0.2", false));
                let neighbors = self.bridge.neighbors.iter().map(|(&address, &(mac, zebras))| {
                    Message::NewNeighbor(host(address, mac, NUD_PERMANENT, zebras))
                });
                let all = links.chain(fdb).chain(remote).chain(neighbors).collect();
                self.resolver.snapshot(Snapshot(all));
            }
        }
    }

    /// Everything is heard and done, and a second passes now and then, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.hear(usize::MAX);
            self.flush(0);
            self.resolver.retry_local();
        }
        self.flush(0);
        assert!(self.bridge.events.is_empty(), "it never ends: {:?}", self.bridge.events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn the_kernel_ends_up_with_what_the_dataplane_has(actions in prop::collection::vec(action(), 1..80)) {
        let mut node = Node::new();
        for action in actions {
            node.step(action);
        }
        node.settle();
        for (mac, port) in &node.macs {
            let tap = if *port == 5 { TAP } else { SECOND_TAP };
            // Of a port that is down the kernel takes none: it keeps where the MAC was before.
            let is = node.bridge.fdb.get(mac);
            let right = if node.bridge.up.contains(&tap) { Some(&tap) } else { is.filter(|port| **port != tap) };
            prop_assert_eq!(is, right, "{}", mac);
        }
        for (mac, port) in &node.bridge.fdb {
            prop_assert!(*port == L2_VXLAN || node.macs.contains_key(mac), "{} is behind {} and gone", mac, port);
        }
        for (address, mac) in &node.neighbors {
            let is = node.bridge.neighbors.get(address);
            let here = node.bridge.fdb.get(mac).is_some_and(|port| *port != L2_VXLAN);
            // An address that zebra has moved to another MAC, as of a service that fails over, is zebra's to move.
            if here && !is.is_some_and(|(of, zebras)| *zebras && of != mac) {
                prop_assert_eq!(is, Some(&(*mac, false)), "{}", address);
            }
        }
        for (address, (_, zebras)) in &node.bridge.neighbors {
            prop_assert!(*zebras || node.neighbors.contains_key(address), "{} is gone", address);
        }
        // And nothing of it is written again when the dataplane says it all again.
        node.step(Action::Stream);
        node.resolver.flush();
        let again = node.resolver.writes();
        let is_zebras = |address: &IpAddr| node.bridge.neighbors.get(address).is_some_and(|(_, zebras)| *zebras);
        let is_right = |write: &Write| match write {
            Write::SetMac { port, .. } => !node.bridge.up.contains(port),
            Write::SetNeighbor { address, .. } => is_zebras(address),
            _ => false,
        };
        prop_assert!(again.iter().all(is_right), "{:?}", again);
    }
}
