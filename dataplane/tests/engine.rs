//! The real pe-dataplane between real hosts, without hugepages. Takes root.

mod bridges;
mod domains;
mod rig;
mod sockets;

use std::io::Write;
use std::time::Duration;

use dataplane_api::v1::inspect_client::InspectClient;
use dataplane_api::v1::{self, path};
use rig::{PATIENCE, Rig, bytes, connected, group, is_root, neighbor, netdev, route, tap};

fn sum(reasons: &[v1::ReasonCounter]) -> u64 {
    reasons.iter().map(|reason| reason.packets).sum()
}

/// Two hosts on two interfaces. First with unknown neighbours, so that the kernel behind the shadows does it all; then
/// with known ones, on the fast path.
#[tokio::test(flavor = "multi_thread")]
async fn routes_between_interfaces() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    rig.wire("a", "wa", &["10.1.0.10/24", "2001:db8:1::10/64"]);
    rig.wire("b", "wb", &["10.2.0.10/24", "2001:db8:2::10/64"]);
    for (interface, subnet) in [("wa", 1), ("wb", 2)] {
        rig.run("host", &format!("ip addr add 10.{subnet}.0.1/24 dev {interface}"));
        rig.run("host", &format!("ip addr add 2001:db8:{subnet}::1/64 dev {interface} nodad"));
    }
    for (name, subnet) in [("a", 1), ("b", 2)] {
        rig.run(name, &format!("ip route add default via 10.{subnet}.0.1"));
        rig.run(name, &format!("ip -6 route add default via 2001:db8:{subnet}::1"));
    }
    rig.run("host", "ip link set wa gso_max_size 40000");
    let ports = vec![netdev("pa", "wa", ""), netdev("pb", "wb", "")];
    let state = rig.apply_well(v1::TopologySpec { ports: ports.clone(), ..Default::default() }).await;
    let again = rig.apply_well(v1::TopologySpec { ports, ..Default::default() }).await;
    assert_eq!(state.generation, again.generation, "the same state twice changes nothing");
    let settings = rig.run("ports", "ip -d link show dev wa");
    let size = if dataplane::host::cuts_in_front_of_devices() { 1024 } else { 40_000 };
    assert!(settings.contains(&format!("gso_max_size {size} ")), "{settings}");
    for port in &state.ports {
        assert_eq!(port.addresses.len(), 2, "{port:?}");
        assert_eq!(port.driver, "net_af_packet", "{port:?}");
        rig.dress_shadow(port);
    }
    rig.state_when(|state| state.ports.iter().all(|port| port.health() == v1::Health::Up)).await;

    let mut session = rig.session().await;
    let mut batch = v1::FibBatch { groups: Vec::new(), ..Default::default() };
    let ids: Vec<u32> = state.ports.iter().map(|port| port.id).collect();
    batch.groups.push(group(100, path::Kind::Local(v1::LocalPath {})));
    for (&id, subnet) in ids.iter().zip([1, 2]) {
        batch.groups.push(group(id + 1, connected(id)));
        route(&mut batch, 0, &format!("10.{subnet}.0.0/24"), id + 1);
        route(&mut batch, 0, &format!("2001:db8:{subnet}::/64"), id + 1);
        route(&mut batch, 0, &format!("10.{subnet}.0.1/32"), 100);
        route(&mut batch, 0, &format!("2001:db8:{subnet}::1/128"), 100);
    }
    session.batch_well(batch).await;
    let swept = session.synced().await;
    assert_eq!((swept.routes, swept.neighbors), (0, 0));

    // The router itself answers, by its shadow.
    assert!(rig.pings("a", "10.1.0.1", ""), "{:#?}", rig.counters().await);
    assert!(rig.pings("a", "2001:db8:2::1", ""), "{:#?}", rig.counters().await);
    // Unresolved: the kernel resolves and forwards.
    assert!(rig.pings("a", "10.2.0.10", ""), "{:#?}", rig.counters().await);
    assert!(rig.pings("a", "2001:db8:2::10", ""), "{:#?}", rig.counters().await);
    let before = rig.port("pa").await;
    assert_eq!(before.forwarded, 0, "{before:?}");

    let mut batch = v1::FibBatch::default();
    for ((&id, name), subnet) in ids.iter().zip(["a", "b"]).zip([1, 2]) {
        let mac = rig.mac(name, "eth0");
        batch.neighbors.push(neighbor(id, &format!("10.{subnet}.0.10"), &mac));
        batch.neighbors.push(neighbor(id, &format!("2001:db8:{subnet}::10"), &mac));
    }
    session.batch_well(batch).await;
    let before = rig.port("pa").await;
    assert!(rig.pings("a", "10.2.0.10", "-s 1400"));
    assert!(rig.pings("a", "2001:db8:2::10", "-s 1400"));
    let enough = 10 * 1400;
    let after = rig
        .port_when("pa", |now| {
            now.forwarded >= before.forwarded + 10
                && now.rx_bytes - before.rx_bytes >= enough
                && now.tx_bytes - before.tx_bytes >= enough
        })
        .await;
    let of = |port: &v1::PortCounters, name: &str| {
        port.hand_overs.iter().find(|reason| reason.reason == name).map_or(0, |reason| reason.packets)
    };
    assert_eq!(of(&before, "unresolved-neighbor"), of(&after, "unresolved-neighbor"));

    // Nothing leads there: dropped and counted.
    assert!(!rig.pings("a", "10.3.0.1", ""));
    let vrfs = rig.counters().await.vrfs;
    assert!(vrfs.iter().find(|vrf| vrf.vrf == "default").unwrap().no_route >= 5, "{vrfs:?}");

    // Another session: what it does not restate is swept.
    let mut second = rig.session().await;
    assert!(session.replies.message().await.is_err(), "a second session ends the first");
    assert!(rig.pings("a", "10.2.0.10", ""), "routes stay");
    let mut batch = v1::FibBatch::default();
    batch.groups.push(group(7, connected(ids[1])));
    route(&mut batch, 0, "10.2.0.0/24", 7);
    second.batch_well(batch).await;
    let swept = second.synced().await;
    assert_eq!((swept.routes, swept.neighbors), (7, 4));

    // Removal gives the interface back with its addresses.
    rig.apply_well(v1::TopologySpec { ports: vec![netdev("pb", "wb", "")], ..Default::default() }).await;
    let addresses = rig.run("host", "ip addr show dev wa");
    assert!(addresses.contains("10.1.0.1/24") && addresses.contains("2001:db8:1::1/64"), "{addresses}");
    let settings = rig.run("host", "ip -d link show dev wa");
    assert!(settings.contains("gso_max_size 40000 "), "as it was: {settings}");
    assert!(!rig.run("router", "ip -o link").contains(" pa:"), "the shadow goes with its port");
}

/// DPDK's packet socket has rings of fixed slots: an MTU that grows beyond them later must not be promised.
#[tokio::test(flavor = "multi_thread")]
async fn an_mtu_beyond_the_ring_is_not_promised() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&["--netdev-backend", "af-packet"]).await;
    rig.wire("a", "wa", &[]);
    let mut port = netdev("pa", "wa", "");
    let state = rig.apply_well(v1::TopologySpec { ports: vec![port.clone()], ..Default::default() }).await;
    assert_eq!(state.ports[0].mtu, 1500);
    port.mtu = 2000;
    let state = rig.apply_well(v1::TopologySpec { ports: vec![port], ..Default::default() }).await;
    assert_eq!(state.ports[0].mtu, 1964, "what a slot of 2048 bytes holds");
    rig.apply_well(v1::TopologySpec::default()).await;
}

/// What the kernel has no room for, because the workers do not come, is shown too.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_port_loses_before_the_engine_is_counted() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    rig.wire("a", "wa", &["10.1.0.10/24"]);
    rig.apply_well(v1::TopologySpec { ports: vec![netdev("pa", "wa", "")], ..Default::default() }).await;
    let pid = nix::unistd::Pid::from_raw(rig.pid().cast_signed());
    rig.run("a", "ip neigh add 10.1.0.99 lladdr 02:00:00:00:00:99 dev eth0");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let netns = dataplane::host::Netns::open(rig.netns_path("a").as_ref()).unwrap();
    let flood = || {
        let socket = std::net::UdpSocket::bind("10.1.0.10:0").unwrap();
        for _ in 0..3000 {
            socket.send_to(&[0; 100], "10.1.0.99:9").unwrap();
        }
    };
    netns.run(flood).unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    let missed = |port: &v1::PortCounters| {
        port.drops.iter().find(|drop| drop.reason == "rx-missed").map_or(0, |drop| drop.packets)
    };
    let port = rig.port_when("pa", |port| port.rx_packets + missed(port) >= 3000).await;
    assert!(missed(&port) > 1000, "{port:#?}");
}

/// Both kinds of socket carry an interface.
#[tokio::test(flavor = "multi_thread")]
async fn a_netdev_port_is_carried_by_what_is_asked_for() {
    if !is_root() {
        return;
    }
    // Not every kernel has AF_XDP sockets. Of a veth they are taken only when asked for.
    let protocols = std::fs::read_to_string("/proc/net/protocols").unwrap();
    carries_packets(&[], ("net_af_packet", 9000)).await;
    if protocols.lines().any(|line| line.starts_with("XDP ")) {
        carries_packets(&["--netdev-backend", "af-xdp"], ("af_xdp", 3000)).await;
    }
}

/// With ports of the usual MTU and of a larger one, all by the same driver.
async fn carries_packets(flags: &[&str], (driver, mtu): (&str, u32)) {
    let mut rig = Rig::start(flags).await;
    rig.wire("a", "wa", &["10.1.0.10/24"]);
    rig.wire("b", "wb", &["10.2.0.10/24"]);
    for (name, interface, address) in [("a", "wa", "10.1.0.1/24"), ("b", "wb", "10.2.0.1/24")] {
        rig.run("host", &format!("ip addr add {address} dev {interface}"));
        rig.run(name, "ip route add default dev eth0");
    }
    rig.run("host", &format!("ip link set wb mtu {mtu}"));
    rig.run("b", &format!("ip link set eth0 mtu {mtu}"));
    let ports = vec![netdev("pa", "wa", ""), netdev("pb", "wb", "")];
    let state = rig.apply_well(v1::TopologySpec { ports, ..Default::default() }).await;
    let [pa, pb] = <[_; 2]>::try_from(state.ports).unwrap();
    assert_eq!((pa.driver.as_str(), pa.mtu), (driver, 1500), "{}", rig.log());
    assert_eq!((pb.driver.as_str(), pb.mtu), (driver, mtu), "{}", rig.log());
    for port in [&pa, &pb] {
        rig.dress_shadow(port);
    }
    let mut session = rig.session().await;
    let mut batch = v1::FibBatch::default();
    for (port, subnet, name) in [(&pa, "10.1.0.0/24", "a"), (&pb, "10.2.0.0/24", "b")] {
        batch.groups.push(group(port.id + 1, connected(port.id)));
        route(&mut batch, 0, subnet, port.id + 1);
        let host = subnet.replace("0.0/24", "0.10");
        batch.neighbors.push(neighbor(port.id, &host, &rig.mac(name, "eth0")));
    }
    session.batch_well(batch).await;
    for (name, port) in [("a", &pa), ("b", &pb)] {
        let mac = port.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        let other = if name == "a" { "10.2.0.10" } else { "10.1.0.10" };
        rig.run(name, &format!("ip neigh add {other} lladdr {mac} dev eth0"));
    }
    assert!(rig.pings("a", "10.2.0.10", "-s 1400"));
    // A connection: its checksums are left to the interface by both kernels.
    let netns = |name: &str| dataplane::host::Netns::open(rig.netns_path(name).as_ref()).unwrap();
    let listener = netns("b").run(|| std::net::TcpListener::bind("10.2.0.10:9")).unwrap().unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let received = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut all = Vec::new();
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            std::io::Read::read_to_end(&mut stream, &mut all).unwrap();
            all
        });
        let address = "10.2.0.10:9".parse().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        netns("a").run(connect).unwrap().write_all(&sent).unwrap();
        receiver.join().unwrap()
    });
    assert!(received == sent, "{} bytes of {} came through unharmed", received.len(), sent.len());
}

/// A tenant's host behind a TAP, and a kernel's VXLAN device at the other end of the underlay.
#[tokio::test(flavor = "multi_thread")]
async fn tunnels_to_a_kernel() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    rig.namespace("tenant");
    rig.wire("peer", "wu", &["192.168.7.2/24"]);
    rig.run("host", "ip addr add 192.168.7.1/24 dev wu");
    rig.run("peer", "ip addr add 100.64.0.2/32 dev lo");
    rig.run("peer", "ip route add 100.64.0.1/32 via 192.168.7.1");
    rig.run("peer", "ip link add vx100 type vxlan id 100 local 100.64.0.2 dstport 4789 nolearning");
    rig.run("peer", "sysctl -qw net.ipv6.conf.vx100.accept_dad=0");
    rig.run("peer", "ip link set vx100 mtu 1450 up");
    rig.run("peer", "ip addr add 10.9.0.2/24 dev vx100");
    rig.run("peer", "ip addr add 2001:db8:9::2/64 dev vx100");
    let router_mac = [2, 0, 0, 0, 0, 1];
    rig.run("peer", "ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev vx100");
    rig.run("peer", "ip neigh add 2001:db8:9::1 lladdr 02:00:00:00:00:01 dev vx100");
    rig.run("peer", "bridge fdb add 02:00:00:00:00:01 dev vx100 dst 100.64.0.1");
    rig.run("peer", "ip route add 10.1.0.0/24 via 10.9.0.1");
    rig.run("peer", "ip -6 route add 2001:db8:1::/64 via 2001:db8:9::1");

    let tenant = rig.netns_path("tenant");
    let router = ["10.1.0.1/24", "2001:db8:1::1/64"];
    let host = ["10.1.0.10/24", "2001:db8:1::10/64"];
    let spec = v1::TopologySpec {
        ports: vec![netdev("under", "wu", ""), tap("pe-e-100", "host-e-100", &tenant, "red", &router, &host)],
        vrfs: vec![v1::VrfSpec { name: "red".into() }],
        l3vnis: vec![v1::L3VniSpec {
            vni: 100,
            vrf: "red".into(),
            vtep_address: bytes("100.64.0.1"),
            udp_port: 0,
            router_mac: router_mac.to_vec().into(),
        }],
        vtep_addresses: vec![bytes("100.64.0.1")],
        ..Default::default()
    };
    let state = rig.apply_well(spec).await;
    assert_eq!(state.l3vnis[0].mtu, 1450);
    let port = |name: &str| {
        state.ports.iter().find(|port| port.spec.as_ref().unwrap().name == name).unwrap().clone()
    };
    let (under, access) = (port("under"), port("pe-e-100"));
    assert_eq!(access.mtu, 1450, "a TAP has the MTU of its VRF's VNI");
    let red = state.vrfs.iter().find(|vrf| vrf.spec.as_ref().unwrap().name == "red").unwrap().id;
    rig.dress_shadow(&under);
    rig.dress_shadow(&access);
    rig.run("tenant", "ip route add default via 10.1.0.1");
    rig.run("tenant", "ip -6 route add default via 2001:db8:1::1");

    rig.addresses_usable("tenant").await;
    rig.addresses_usable("router").await;
    rig.carrier("pe-e-100", true).await;
    let mut session = rig.session().await;
    let vtep = |router_mac: &[u8]| {
        path::Kind::Vxlan(v1::VxlanPath {
            vni: 100,
            vtep: bytes("100.64.0.2"),
            router_mac: router_mac.to_vec().into(),
        })
    };
    let mut batch = v1::FibBatch {
        groups: vec![
            group(1, connected(access.id)),
            group(2, vtep(&rig.mac("peer", "vx100"))),
            group(
                3,
                path::Kind::Adjacent(v1::AdjacentPath { port: under.id, address: bytes("192.168.7.2") }),
            ),
            group(4, path::Kind::Local(v1::LocalPath {})),
        ],
        neighbors: vec![
            neighbor(under.id, "192.168.7.2", &rig.mac("peer", "eth0")),
            neighbor(access.id, "10.1.0.10", &rig.mac("tenant", "host-e-100")),
            neighbor(access.id, "2001:db8:1::10", &rig.mac("tenant", "host-e-100")),
        ],
        ..Default::default()
    };
    for (vrf, prefix, group) in [
        (red, "10.1.0.0/24", 1),
        (red, "2001:db8:1::/64", 1),
        (red, "10.1.0.1/32", 4),
        (red, "10.9.0.0/24", 2),
        (red, "2001:db8:9::/64", 2),
        (0, "100.64.0.2/32", 3),
        (0, "100.64.0.1/32", 4),
        (0, "192.168.7.1/32", 4),
    ] {
        route(&mut batch, vrf, prefix, group);
    }
    session.batch_well(batch).await;

    assert!(rig.pings("tenant", "10.9.0.2", ""), "{:#?}", rig.counters().await);
    assert!(rig.pings("tenant", "2001:db8:9::2", ""), "{:#?}", rig.counters().await);
    assert!(
        rig.pings("tenant", "10.9.0.2", "-s 1422 -M do"),
        "as large as fits: {:#?}",
        rig.counters().await
    );
    for (tenant, peer) in [("10.1.0.10", "10.9.0.2"), ("2001:db8:1::10", "2001:db8:9::2")] {
        rig.transfer("tenant", "peer", peer, 2_000_000);
        rig.transfer("peer", "tenant", tenant, 2_000_000);
    }
    // The router takes it cut: its shadow knows no large frames.
    rig.transfer("tenant", "router", "10.1.0.1", 200_000);
    let under_counters = rig.port_when("under", |port| port.forwarded >= 15).await;
    rig.port_when("pe-e-100", |port| port.forwarded >= 15).await;
    assert_eq!(sum(&under_counters.drops), 0, "{under_counters:?}");

    let mut inspect = InspectClient::new(rig.channel().await);
    let ask = v1::ResolveRequest { vrf: "red".into(), address: bytes("10.9.0.2"), ..Default::default() };
    let explained = inspect.resolve(ask).await.unwrap().into_inner();
    assert_eq!((explained.outcome.as_str(), explained.port.as_str()), ("transmit", "under"), "{explained:?}");
    assert_eq!(explained.prefix, "10.9.0.0/24");
    assert_eq!(explained.headers.len(), 14 + 20 + 8 + 8 + 14, "{explained:?}");
    let unknown =
        v1::ResolveRequest { vrf: "green".into(), address: bytes("10.9.0.2"), ..Default::default() };
    assert_eq!(inspect.resolve(unknown).await.unwrap_err().code(), tonic::Code::NotFound);

    // A router MAC that is not known: handed over, not guessed.
    let batch = v1::FibBatch { groups: vec![group(2, vtep(&[]))], ..Default::default() };
    session.batch_well(batch).await;
    assert!(!rig.pings("tenant", "10.9.0.2", ""));
    rig.port_when("pe-e-100", |port| {
        port.hand_overs.iter().any(|reason| reason.reason == "unresolved-router-mac")
    })
    .await;
}

/// Errors are per object, and what heals by itself does.
#[tokio::test(flavor = "multi_thread")]
async fn interfaces_come_and_go() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    rig.wire("a", "wa", &[]);
    let spec = v1::TopologySpec {
        ports: vec![
            netdev("pa", "wa", ""),
            netdev("pb", "wb", ""),
            netdev("pc", "wa", ""),
            netdev("", "x", ""),
        ],
        vrfs: vec![v1::VrfSpec { name: "default".into() }],
        l3vnis: vec![v1::L3VniSpec { vni: 1 << 24, ..Default::default() }],
        vtep_addresses: vec![vec![1, 2, 3].into()],
        ..Default::default()
    };
    let results = rig.apply(spec.clone()).await.results;
    let errors: Vec<_> = results.iter().map(|result| (result.error.as_str(), result.retrying)).collect();
    assert_eq!(errors[0], ("", false));
    assert!(errors[1].0.contains("no interface wb") && errors[1].1, "{errors:?}");
    assert!(errors[2].0.contains("port pa has this device") && !errors[2].1, "{errors:?}");
    assert!(results[3..].iter().all(|result| !result.error.is_empty()), "{results:?}");
    assert_eq!(results.len(), 7);

    let health = |state: &v1::TopologyState, name: &str| {
        state.ports.iter().find(|port| port.spec.as_ref().unwrap().name == name).map(v1::PortState::health)
    };
    rig.wire("b", "wb", &[]);
    rig.state_when(|state| ["pa", "pb"].iter().all(|name| health(state, name) == Some(v1::Health::Up))).await;

    // A link that goes down shows on the shadow at once.
    rig.run("router", "ip link set pa up");
    rig.run("a", "ip link set eth0 down");
    rig.state_when(|state| health(state, "pa") == Some(v1::Health::Down)).await;
    rig.carrier("pa", false).await;
    rig.run("a", "ip link set eth0 up");
    rig.state_when(|state| health(state, "pa") == Some(v1::Health::Up)).await;
    rig.carrier("pa", true).await;

    // An interface that disappears, and returns.
    rig.run("a", "ip link del eth0");
    rig.state_when(|state| health(state, "pa") == Some(v1::Health::Failed)).await;
    rig.add_wire("a", "wa", &[]);
    rig.state_when(|state| health(state, "pa") == Some(v1::Health::Up)).await;

    // Another process takes over what the first one left.
    rig.kill();
    rig.launch().await;
    let results = rig.apply(spec).await.results;
    assert!(results[..2].iter().all(|result| result.error.is_empty()), "{results:?}\n{}", rig.log());
    rig.apply_well(v1::TopologySpec::default()).await;
    let links = rig.run("host", "ip -o link");
    assert!(links.contains(" wa@") && links.contains(" wb@"), "{links}");
}

/// Whatever arrives, the process goes on.
#[tokio::test(flavor = "multi_thread")]
async fn survives_garbage() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    // The test holds the far end of one interface, and of one bridged to a TAP port's host.
    rig.namespace("g");
    let netns = |name: &str| dataplane::host::Netns::open(rig.netns_path(name).as_ref()).unwrap();
    let open = |name: &str, interface: &str| {
        let header = dataplane::host::Header::None;
        dataplane::host::Tap::open(&netns(name), interface, [2, 0, 0, 0, 9, 9], header).unwrap()
    };
    let first = open("host", "gar0");
    let second = open("g", "gar1");
    let spec = v1::TopologySpec {
        ports: vec![
            netdev("under", "gar0", ""),
            tap("pe-e-1", "host-e-1", &rig.netns_path("g"), "red", &["10.0.0.1/24"], &[]),
        ],
        vrfs: vec![v1::VrfSpec { name: "red".into() }],
        l3vnis: vec![v1::L3VniSpec {
            vni: 1,
            vrf: "red".into(),
            vtep_address: bytes("100.64.0.1"),
            udp_port: 0,
            router_mac: vec![2, 0, 0, 0, 0, 1].into(),
        }],
        vtep_addresses: vec![bytes("100.64.0.1")],
        ..Default::default()
    };
    let state = rig.apply_well(spec).await;
    for port in &state.ports {
        rig.dress_shadow(port);
    }
    rig.run("g", "ip link add br0 type bridge");
    for member in ["gar1", "host-e-1"] {
        rig.run("g", &format!("ip link set {member} master br0 up"));
    }
    rig.run("g", "ip link set br0 up");
    let mac = |name: &str| {
        let named = |port: &&v1::PortState| port.spec.as_ref().unwrap().name == name;
        state.ports.iter().find(named).unwrap().mac.to_vec()
    };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[3]
    };
    for length in 0..=1514 {
        for (tap, mac) in [(&first, mac("under")), (&second, mac("pe-e-1"))] {
            for round in 0..4 {
                let mut frame: Vec<u8> = (0..length).map(|_| byte()).collect();
                // Most of them are for us, and say that they are IP, so that they go deep.
                for (to, from) in frame.iter_mut().zip(&mac) {
                    *to = if round == 0 { *to } else { *from };
                }
                let kind: &[u8] = match round {
                    1 => &[0x08, 0x00, 0x45],
                    2 => &[0x86, 0xdd, 0x60],
                    _ => &[],
                };
                for (to, from) in frame.iter_mut().skip(12).zip(kind) {
                    *to = *from;
                }
                // The kernel refuses what is shorter than a header.
                let _ = tap.write(&frame);
            }
        }
        if length % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for _ in 0..64 {
        let mut socket = std::os::unix::net::UnixStream::connect(rig.socket()).unwrap();
        let garbage: Vec<u8> = (0..2048).map(|_| byte()).collect();
        // It may hang up before all of it is written.
        let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let _ = socket.write_all(&garbage);
    }
    let refused = rig.apply(v1::TopologySpec::default()).await;
    assert!(refused.results.is_empty());
    let mut inspect = InspectClient::new(rig.channel().await);
    let info = inspect.info(v1::InfoRequest {}).await.unwrap().into_inner();
    assert!(info.workers[0].packets > 5000, "{info:?}");
}

/// A node with nothing to do leaves the CPU alone.
#[tokio::test(flavor = "multi_thread")]
async fn idles() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::start(&[]).await;
    rig.wire("a", "wa", &[]);
    rig.namespace("tenant");
    let ports =
        vec![netdev("pa", "wa", ""), tap("pe-e-1", "host-e-1", &rig.netns_path("tenant"), "", &[], &[])];
    rig.apply_well(v1::TopologySpec { ports, ..Default::default() }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", rig.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    let seconds = 4;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = ticks() - before;
    println!("{used} ticks of 10 ms in {seconds} s");
    // 5 % of 100 ticks a second.
    assert!(used <= 5 * seconds, "{used} ticks of 10 ms in {seconds} s");
}

/// More TAP ports than DPDK has room for, all of which carry packets; and one with large ones.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_taps() {
    if !is_root() {
        return;
    }
    const COUNT: usize = 200;
    let mut rig = Rig::start(&[]).await;
    rig.namespace("tenant");
    let tenant = rig.netns_path("tenant");
    let ports: Vec<_> = (0..COUNT)
        .map(|number| {
            let router = format!("10.1.{number}.1/24");
            let host = format!("10.1.{number}.10/24");
            tap(&format!("pe-e-{number}"), &format!("host-e-{number}"), &tenant, "", &[&router], &[&host])
        })
        .chain([v1::PortSpec {
            mtu: 9000,
            ..tap("large", "host-large", &tenant, "", &["10.2.0.1/24"], &["10.2.0.10/24"])
        }])
        .collect();
    let spec = v1::TopologySpec { ports, ..Default::default() };
    let state = rig.apply_well(spec.clone()).await;
    assert_eq!(state.ports.len(), COUNT + 1);
    let mut batch = String::new();
    for port in &state.ports {
        assert_eq!((port.driver.as_str(), port.health()), ("tap", v1::Health::Up), "{port:?}");
        let name = &port.spec.as_ref().unwrap().name;
        batch.push_str(&format!("addr add {} dev {name}\nlink set {name} up\n", port.addresses[0]));
    }
    rig.batch("router", &batch);
    let mut session = rig.session().await;
    let mut batch =
        v1::FibBatch { groups: vec![group(1, path::Kind::Local(v1::LocalPath {}))], ..Default::default() };
    route(&mut batch, 0, "10.0.0.0/8", 1);
    session.batch_well(batch).await;
    for number in 0..COUNT {
        assert!(rig.pings("tenant", &format!("10.1.{number}.1"), "-c 1"), "{number}");
        let port = rig.port(&format!("pe-e-{number}")).await;
        assert!(port.rx_packets > 0 && port.from_kernel > 0, "{port:?}");
    }
    rig.run("router", "ip link set large mtu 9000");
    assert!(rig.pings("tenant", "10.2.0.1", "-s 8972 -M do"), "{:#?}", rig.port("large").await);

    // The link is that of the host's end.
    let health = |state: &v1::TopologyState, name: &str| {
        state.ports.iter().find(|port| port.spec.as_ref().unwrap().name == name).map(v1::PortState::health)
    };
    rig.run("tenant", "ip link set host-e-7 down");
    rig.state_when(|state| health(state, "pe-e-7") == Some(v1::Health::Down)).await;
    rig.run("tenant", "ip link set host-e-7 up");
    rig.state_when(|state| health(state, "pe-e-7") == Some(v1::Health::Up)).await;
    // One that is deleted is made anew.
    rig.run("tenant", "ip link del host-e-8");
    let before = state.ports.iter().find(|port| port.spec.as_ref().unwrap().name == "pe-e-8").unwrap().id;
    rig.state_when(|state| {
        let port = state.ports.iter().find(|port| port.spec.as_ref().unwrap().name == "pe-e-8").unwrap();
        port.health() == v1::Health::Up && port.id != before
    })
    .await;
    assert!(rig.pings("tenant", "10.1.8.1", "-c 1"));
    // Another process takes all of them over, addresses included.
    rig.kill();
    rig.launch().await;
    rig.apply_well(spec).await;
    rig.apply_well(v1::TopologySpec::default()).await;
    assert!(!rig.run("tenant", "ip -o link").contains("host-e-"));
}
