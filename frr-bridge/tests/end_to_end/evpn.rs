//! A bridge domain over EVPN: stock FRR on both sides, the real frr-bridge and a stand-in for pe-dataplane on one, the Linux
//! kernel's own bridge on the other. A plain overlay in the default VRF, so that it runs on any kernel.

use std::time::{Duration, Instant};

use crate::common::standin::StandIn;
use crate::common::{Namespace, Process, bridge, eventually, frr, sh, show, vtysh};
use dataplane_api::v1::{
    BridgePortSpec, Health, L2VniSpec, L2VniState, LearnedMac, LearnedNeighbor, LearnedUpdate, PortSpec,
    PortState, TopologyState,
};

const VNI: u32 = 110;
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const UPLINK: u32 = 1;
const PORT: u32 = 2;
const SVI: u32 = 3;

fn topology() -> TopologyState {
    let port = |id, name: &str, addresses: &[&str], bridge| PortState {
        spec: Some(PortSpec { name: name.into(), bridge, ..Default::default() }),
        id,
        health: Health::Up.into(),
        mtu: 1500,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let bridged = BridgePortSpec { l2vni: VNI, ..Default::default() };
    TopologyState {
        ports: vec![
            port(UPLINK, "uplink", &["192.168.1.1/24"], None),
            port(PORT, "host0", &[], Some(bridged)),
        ],
        l2vnis: vec![L2VniState {
            spec: Some(L2VniSpec {
                vni: VNI,
                vtep_address: vec![10, 0, 0, 1].into(),
                mac: vec![0, 0xf3, 0, 0, 0, 0x6f].into(),
                ..Default::default()
            }),
            health: Health::Up.into(),
            mtu: 1450,
            id: SVI,
            ..Default::default()
        }],
        vtep_addresses: vec![vec![10, 0, 0, 1].into()],
        ..Default::default()
    }
}

fn bgp(number: u32, evpn: &str) -> String {
    let other = 3 - number;
    format!(
        "router bgp 6500{number}\n bgp router-id 10.0.0.{number}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n neighbor 192.168.1.{other} remote-as 6500{other}\n \
         neighbor 192.168.1.{other} timers connect 1\n address-family ipv4 unicast\n  \
         network 10.0.0.{number}/32\n  neighbor 192.168.1.{other} activate\n exit-address-family\n \
         address-family l2vpn evpn\n  neighbor 192.168.1.{other} activate\n{evpn} exit-address-family\n"
    )
}

const ALL_VNIS: &str = "  advertise-all-vni\n";

/// Our router, with the shadow of a bridged port, and a PE that is nothing but stock FRR and the Linux kernel.
struct Fabric {
    router: Namespace,
    peer: Namespace,
    directory: tempfile::TempDir,
    dataplane: StandIn,
}

impl Fabric {
    fn new(purpose: &str) -> Self {
        let (router, peer) = (Namespace::new(&format!("{purpose}1")), Namespace::new(&format!("{purpose}2")));
        sh(&format!(
            "ip link add uplink netns {} type veth peer name eth0 netns {}; ip -n {0} link set lo up",
            router.name, peer.name
        ));
        // A veth in the place of the shadow TAP: its carrier needs no dataplane.
        router.sh("ip link add host0 type veth peer name wire; ip link set wire up");
        peer.sh(
            "ip link set lo up; ip link set eth0 up; ip addr add 192.168.1.2/24 dev eth0; \
             ip addr add 10.0.0.2/32 dev lo; ip link add br110 address 02:00:00:00:01:02 type bridge; \
             ip link set br110 addrgenmode none up; \
             ip link add vx110 type vxlan id 110 local 10.0.0.2 dstport 4789 nolearning; \
             ip link set vx110 master br110 addrgenmode none; \
             ip link set vx110 type bridge_slave neigh_suppress on learning off; ip link set vx110 up; \
             ip link add port type veth peer name wire; ip link set wire up; \
             ip link set port master br110; ip link set port type bridge_slave learning off; ip link set port up",
        );
        let directory = tempfile::tempdir().expect("directory");
        let dataplane = StandIn::start(&directory.path().join("dataplane.sock"), 7);
        dataplane.set_topology(topology());
        Self { router, peer, directory, dataplane }
    }

    fn bridge(&self) -> Process {
        bridge(&self.router, &self.directory.path().join("dataplane.sock"))
    }

    /// zebra and bgpd of both; `evpn` is ours.
    fn frr(&self, evpn: &str) -> Vec<Process> {
        let fpm = "fpm address 127.0.0.1 port 2620\n";
        vec![
            frr(&self.router, "zebra", fpm, &["-M", "dplane_fpm_nl"]),
            frr(&self.router, "bgpd", &bgp(1, evpn), &[]),
            frr(&self.peer, "zebra", "", &[]),
            frr(&self.peer, "bgpd", &bgp(2, ALL_VNIS), &[]),
        ]
    }

    /// Waits until the peer's BGP table has a line with `route` and `attribute` below it, or none with `route`.
    fn peer_has(&self, route: &str, attribute: Option<&str>) {
        eventually(route, || {
            let table = show(&self.peer, "show bgp l2vpn evpn route type 2");
            let at = table.lines().position(|line| is_of(line, route));
            let below: String = at.map(|at| table.lines().skip(at).take(4).collect()).unwrap_or_default();
            let holds = match attribute {
                Some(attribute) => below.contains(attribute),
                None => at.is_none(),
            };
            if holds { Ok(()) } else { Err(table) }
        });
    }

    fn fib_has(&self, line: &str, wanted: bool) {
        eventually(line, || {
            let text = self.dataplane.text();
            if text.lines().any(|known| known == line) == wanted { Ok(()) } else { Err(text) }
        });
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        for name in [&self.router.name, &self.peer.name] {
            let _ = std::fs::remove_dir_all(format!("/var/run/frr/{name}"));
        }
    }
}

const MAC_ROUTE: &str = "[2]:[0]:[48]:[02:00:00:00:00:11]";
const IPV4_ROUTE: &str = "[2]:[0]:[48]:[02:00:00:00:00:11]:[32]:[192.170.1.11]";
const IPV6_ROUTE: &str = "[2]:[0]:[48]:[02:00:00:00:00:11]:[128]:[fd00:170::11]";
const ADDRESSES: &[&str] = &["192.170.1.11", "fd00:170::11"];

#[test]
fn what_is_learned_is_advertised_and_what_the_peer_advertises_is_forwarded_to() {
    let fabric = Fabric::new("evpn");
    let Fabric { router, peer, dataplane, .. } = &fabric;
    // Learned before there is a device, an FRR, or a VNI in FRR.
    dataplane.learn(VNI, HOST, PORT, ADDRESSES);
    let first = fabric.bridge();
    let frr = fabric.frr("");
    eventually("the entry behind the port's shadow", || {
        let fdb = router.sh("bridge -s fdb show br br-pe-110; ip neigh show dev br-pe-110");
        let all = ["02:00:00:00:00:11 dev host0", "192.170.1.11 lladdr 02:00:00:00:00:11 PERMANENT proto 77"];
        if all.iter().all(|entry| fdb.contains(entry)) { Ok(()) } else { Err(fdb) }
    });
    let details = router.sh("ip -d link show; sysctl net.ipv4.conf.br-pe-110.forwarding");
    for needle in [
        "vxlan id 110 local 10.0.0.1",
        "link/ether 00:f3:00:00:00:6f",
        "mtu 1450",
        "ageing_time 4000000000",
        "flood off",
        "mcast_flood off",
        "bcast_flood off",
        "neigh_suppress on",
        "br-pe-110.forwarding = 0",
    ] {
        assert!(details.contains(needle), "{needle:?} is missing in\n{details}");
    }
    vtysh(router, &["conf t", "router bgp 65001", "address-family l2vpn evpn", "advertise-all-vni"]);
    for route in [MAC_ROUTE, IPV4_ROUTE, IPV6_ROUTE] {
        fabric.peer_has(route, Some("10.0.0.1"));
    }
    fabric.fib_has("flood 110 to 10.0.0.2", true);

    // The peer's host: FDB and neighbour of its kernel become MAC and neighbour of ours.
    peer.sh("bridge fdb replace 02:00:00:00:00:22 dev port master dynamic; \
         ip neigh replace 192.170.1.22 lladdr 02:00:00:00:00:22 dev br110 nud reachable");
    fabric.fib_has("mac 110 02:00:00:00:00:22 to 10.0.0.2", true);
    fabric.fib_has("neighbor port 3 192.170.1.22 02:00:00:00:00:22", true);
    fabric.fib_has("neighbor port 3 192.170.1.11 02:00:00:00:00:11", true);

    // Nothing is told twice: not by a restart of frr-bridge, not by a dataplane that says everything again.
    eventually("synced", || {
        let state = dataplane.state.lock().expect("lock");
        if state.synced { Ok(()) } else { Err(format!("{state:?}")) }
    });
    let mut monitor = std::process::Command::new("ip")
        .args(["-n", &router.name, "monitor", "link", "address", "neigh"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ip monitor");
    first.kill();
    // Gone while nobody could be told.
    dataplane.forget(VNI, HOST, &ADDRESSES[1..]);
    dataplane.learn(VNI, HOST, PORT, &ADDRESSES[..1]);
    let second = fabric.bridge();
    eventually("a second session", || {
        let state = dataplane.state.lock().expect("lock");
        if state.sessions == 2 && state.synced { Ok(()) } else { Err(format!("{state:?}")) }
    });
    fabric.peer_has(IPV6_ROUTE, None);
    fabric.fib_has("mac 110 02:00:00:00:00:22 to 10.0.0.2", true);
    monitor.kill().expect("kill");
    let output = monitor.wait_with_output().expect("output");
    let heard = String::from_utf8_lossy(&output.stdout);
    let strange = |line: &&str| line.contains("br-pe-110") && !line.contains("fd00:170::11");
    assert_eq!(heard.lines().find(strange), None, "only what is gone is touched:\n{heard}");

    // The host moves to the peer, and back, with growing sequence numbers.
    peer.sh("bridge fdb replace 02:00:00:00:00:11 dev port master dynamic; \
         ip neigh replace 192.170.1.11 lladdr 02:00:00:00:00:11 dev br110 nud reachable");
    fabric.fib_has("mac 110 02:00:00:00:00:11 to 10.0.0.2", true);
    fabric.fib_has("local 110 02:00:00:00:00:11 port 2", false);
    fabric.peer_has(IPV4_ROUTE, Some("MM:1"));
    eventually("zebra's entries", || {
        let now = router.sh("ip neigh show dev br-pe-110; bridge fdb show dev vni110");
        let all = ["192.170.1.11 lladdr 02:00:00:00:00:11 extern_learn", "02:00:00:00:00:11 dst 10.0.0.2"];
        if all.iter().all(|entry| now.contains(entry)) { Ok(()) } else { Err(now) }
    });
    dataplane.learn(VNI, HOST, PORT, &ADDRESSES[..1]);
    fabric.peer_has(MAC_ROUTE, Some("MM:2"));
    fabric.peer_has(IPV4_ROUTE, Some("MM:2"));
    fabric.fib_has("local 110 02:00:00:00:00:11 port 2", true);
    fabric.fib_has("mac 110 02:00:00:00:00:11 to 10.0.0.2", false);

    // zebra's word comes back, as it does when it refuses a move: the dataplane is told, although it was told before.
    let told = dataplane.state.lock().expect("lock").mac_messages;
    router.sh("bridge fdb replace 02:00:00:00:00:11 dev vni110 master dynamic extern_learn");
    fabric.fib_has("mac 110 02:00:00:00:00:11 to 10.0.0.2", true);
    fabric.fib_has("local 110 02:00:00:00:00:11 port 2", false);
    assert!(dataplane.state.lock().expect("lock").mac_messages > told);
    dataplane.learn(VNI, HOST, PORT, &ADDRESSES[..1]);
    fabric.peer_has(IPV4_ROUTE, Some("10.0.0.1"));

    // A sticky MAC of the peer's does not move, and a dataplane that did not know it yet is told.
    peer.sh("bridge fdb replace 02:00:00:00:00:33 dev port master static sticky");
    let sticky = "mac 110 02:00:00:00:00:33 to 10.0.0.2 sticky";
    fabric.fib_has(sticky, true);
    dataplane.learn(VNI, [2, 0, 0, 0, 0, 0x33], PORT, &[]);
    fabric.fib_has("local 110 02:00:00:00:00:33 port 2", false);
    fabric.fib_has(sticky, true);
    assert!(!router.sh("bridge fdb show dev host0").contains("02:00:00:00:00:33"));

    // What the SVI itself broadcasts leaves by the port and by the tunnel, although neither floods.
    for (namespace, interface, filter) in
        [(router, "wire", "arp"), (peer, "eth0", "udp port 4789 and udp[46:2] == 0x0806")]
    {
        let capture = format!("timeout 20 tcpdump -c 1 -nn -i {interface} \"{filter}\" 2>/dev/null");
        let name = namespace.name.clone();
        let heard = std::thread::spawn(move || sh(&format!("ip netns exec {name} {capture} || true")));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !heard.is_finished() && Instant::now() < deadline {
            router.sh("ip neigh del 192.170.1.77 dev br-pe-110 2>/dev/null || true");
            // An address of the test's own makes the SVI ask.
            router.sh(
                "ip addr replace 192.170.1.1/24 dev br-pe-110; ping -c 1 -W 1 192.170.1.77 >/dev/null || true",
            );
        }
        let heard = heard.join().expect("tcpdump");
        assert!(!heard.is_empty(), "nothing was heard on {interface}");
    }

    // Gone here, gone there.
    dataplane.forget(VNI, HOST, &ADDRESSES[..1]);
    fabric.peer_has(IPV4_ROUTE, None);
    fabric.peer_has(MAC_ROUTE, None);
    peer.sh("bridge fdb del 02:00:00:00:00:22 dev port master; ip neigh del 192.170.1.22 dev br110");
    fabric.fib_has("mac 110 02:00:00:00:00:22 to 10.0.0.2", false);
    fabric.fib_has("neighbor port 3 192.170.1.22 02:00:00:00:00:22", false);

    // The L2VNI goes, and its devices only.
    dataplane.set_topology(TopologyState { l2vnis: Vec::new(), ..topology() });
    eventually("the devices are gone", || {
        let links = router.sh("ip -o link");
        let gone = !links.contains("br-pe-110") && !links.contains("vni110");
        if gone && links.contains("host0") && links.contains("uplink") { Ok(()) } else { Err(links) }
    });
    drop((second, frr));
}

/// Entries of the peer's table.
const MANY: u32 = 2000;

#[test]
fn many_macs_pass_in_both_directions_and_a_dataplane_that_restarts_takes_none_away() {
    let mut fabric = Fabric::new("macs");
    let bridge = fabric.bridge();
    let frr = fabric.frr(ALL_VNIS);
    let update = || LearnedUpdate {
        macs: (0..MANY)
            .map(|number| LearnedMac {
                vni: VNI,
                mac: mac(4, number).to_vec().into(),
                port: PORT,
                gone: false,
            })
            .collect(),
        neighbors: (0..MANY)
            .map(|number| LearnedNeighbor {
                vni: VNI,
                address: (0x0ac8_0000 + number).to_be_bytes().to_vec().into(),
                mac: mac(4, number).to_vec().into(),
                gone: false,
            })
            .collect(),
        ..Default::default()
    };
    eventually("the devices", || {
        let links = fabric.router.sh("ip -o link show master br-pe-110 up");
        if links.contains("vni110") && links.contains("host0") { Ok(()) } else { Err(links) }
    });
    let count = |router: &Namespace| -> usize {
        let count = router.sh(
            "bridge fdb show dev host0 | grep -c ^02:04 || true; ip neigh show dev br-pe-110 | grep -c 77 || true",
        );
        count.split_whitespace().map(|number| number.parse::<usize>().expect("a number")).min().expect("two")
    };
    let started = Instant::now();
    fabric.dataplane.learn_many(update());
    eventually("all in the kernel", || match count(&fabric.router) {
        all if all == MANY as usize => Ok(()),
        some => Err(some.to_string()),
    });
    println!("{MANY} MACs and neighbours in the kernel after {:?}", started.elapsed());
    let routes = |wanted: usize| {
        eventually("type-2 routes", || {
            let text = show(&fabric.peer, "show evpn mac vni 110");
            let remote =
                text.lines().filter(|line| line.starts_with("02:04") && line.contains("remote")).count();
            if remote == wanted { Ok(()) } else { Err(remote.to_string()) }
        });
    };
    routes(MANY as usize);
    println!("at the peer after {:?}", started.elapsed());

    // The other way round.
    let batch: String = (0..MANY)
        .map(|number| format!("fdb replace {} dev port master dynamic\n", text(mac(6, number))))
        .collect();
    let file = fabric.directory.path().join("batch");
    std::fs::write(&file, batch).expect("batch");
    fabric.peer.sh(&format!("bridge -batch {}", file.display()));
    eventually("remote MACs", || {
        let text = fabric.dataplane.text();
        match text.lines().filter(|line| line.starts_with("mac 110 02:06")).count() {
            all if all == MANY as usize => Ok(()),
            some => Err(some.to_string()),
        }
    });
    assert_eq!(
        fabric.dataplane.state.lock().expect("lock").mac_messages,
        MANY as usize,
        "each was sent once"
    );

    // The dataplane restarts: until the new one has said everything, the kernel and BGP keep what there is.
    let socket = fabric.directory.path().join("dataplane.sock");
    drop(std::mem::replace(&mut fabric.dataplane, StandIn::start(&fabric.directory.path().join("none"), 0)));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(count(&fabric.router), MANY as usize);
    let next = StandIn::start(&socket, 8);
    let mut half = update();
    half.macs.truncate(MANY as usize / 2);
    half.neighbors.truncate(MANY as usize / 2);
    next.learn_many(half);
    next.set_topology(topology());
    fabric.dataplane = next;
    eventually("half of them in the kernel", || match count(&fabric.router) {
        half if half == MANY as usize / 2 => Ok(()),
        some => Err(some.to_string()),
    });
    routes(MANY as usize / 2);
    drop((bridge, frr));
}

/// FRR 10 names the route distinguisher behind the route.
fn is_of(line: &str, route: &str) -> bool {
    line.split(" RD ").next().is_some_and(|line| line.trim_end().ends_with(route))
}

fn mac(kind: u8, number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, kind, a, b, c, d]
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
