//! An L2VNI with two TAP ports, stretched to a bridge of the kernel with a VXLAN device, and a host behind that. The test
//! does what frr-bridge would do. Takes root.

mod large;
mod traces;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dataplane_api::v1::fib_client::FibClient;
use dataplane_api::v1::inspect_client::InspectClient;
use dataplane_api::v1::{self, path};
use tonic::Streaming;

use crate::rig::{PATIENCE, Rig, Session, bytes, connected, group, is_root, neighbor, netdev, route, tap};

const VNI: u32 = 110;
const GATEWAY_MAC: [u8; 6] = [0, 0xf3, 0, 0, 0, 0x6e];
const OWN_VTEP: &str = "100.64.0.1";
const VTEP: &str = "100.64.0.2";
/// Hosts by namespace: the far one last.
const HOSTS: [(&str, &str, &str); 3] = [
    ("one", "10.1.0.10", "2001:db8:1::10"),
    ("two", "10.1.0.20", "2001:db8:1::20"),
    ("far", "10.1.0.30", "2001:db8:1::30"),
];

/// The domain, and all that is around it.
struct Domain {
    rig: Rig,
    _session: Session,
    learned: Learned,
    one: v1::PortState,
    two: v1::PortState,
}

impl Domain {
    async fn start(aging_seconds: u32) -> Self {
        let mut rig = Rig::start(&[]).await;
        rig.wire("vtep", "wu", &["192.168.7.2/24"]);
        rig.run("host", "ip addr add 192.168.7.1/24 dev wu");
        Self::start_over(rig, netdev("under", "wu", ""), aging_seconds).await
    }

    /// With the other VTEP on this node, behind a TAP.
    async fn start_over_tap() -> Self {
        let mut rig = Rig::start(&[]).await;
        rig.namespace("vtep");
        let netns = rig.netns_path("vtep");
        let under = tap("under", "eth0", &netns, "", &["192.168.7.1/24"], &["192.168.7.2/24"]);
        Self::start_over(rig, v1::PortSpec { mtu: 1500, ..under }, 300).await
    }

    async fn start_over(mut rig: Rig, under: v1::PortSpec, aging_seconds: u32) -> Self {
        rig.namespace("one");
        rig.namespace("two");

        let bridged = |name: &str, host: usize| {
            let (netns, v4, v6) = HOSTS[host];
            let addresses = [format!("{v4}/24"), format!("{v6}/64")];
            let addresses = addresses.each_ref().map(String::as_str);
            let port = tap(name, "eth0", &rig.netns_path(netns), "", &[], &addresses);
            let bridge = Some(v1::BridgePortSpec { l2vni: VNI, ..Default::default() });
            v1::PortSpec { bridge, ..port }
        };
        let spec = v1::TopologySpec {
            ports: vec![under, bridged("pe-e-1", 0), bridged("pe-e-2", 1)],
            vrfs: vec![v1::VrfSpec { name: "red".into() }],
            l2vnis: vec![v1::L2VniSpec {
                vni: VNI,
                vtep_address: bytes(OWN_VTEP),
                vrf: "red".into(),
                mac: GATEWAY_MAC.to_vec().into(),
                gateway_addresses: vec!["10.1.0.1/24".into(), "2001:db8:1::1/64".into()],
                aging_seconds,
                ..Default::default()
            }],
            vtep_addresses: vec![bytes(OWN_VTEP)],
            ..Default::default()
        };
        let state = rig.apply_well(spec).await;
        // In the order of their names.
        let [one, two, under] = <[_; 3]>::try_from(state.ports.clone()).unwrap();
        assert_eq!((under.mtu, state.l2vnis[0].mtu, one.mtu), (1500, 1450, 1450));
        kernel_vtep(&mut rig);
        rig.dress_shadow(&under);
        rig.carrier("under", true).await;
        let learned = Learned::listen(&rig).await;
        let mut session = rig.session().await;
        session.batch_well(fib(&rig, &state)).await;
        for (name, ..) in &HOSTS[..2] {
            let mac = rig.run(name, "cat /sys/class/net/eth0/address");
            rig.run("vtep", &format!("bridge fdb add {} dev vx110 dst {OWN_VTEP}", mac.trim()));
        }
        for (name, ..) in HOSTS {
            rig.addresses_usable(name).await;
        }
        Self { rig, _session: session, learned, one, two }
    }

    fn mac(&self, host: usize) -> Vec<u8> {
        self.rig.mac(HOSTS[host].0, "eth0")
    }

    async fn counters(&self) -> v1::BridgeCounters {
        self.rig.counters().await.bridges[0]
    }
}

/// A bridge with a VXLAN device, and a namespace with a host on it.
fn kernel_vtep(rig: &mut Rig) {
    rig.namespace("far");
    let far = rig.netns("far");
    for command in [
        &format!("ip addr add {VTEP}/32 dev lo"),
        &format!("ip route add {OWN_VTEP}/32 via 192.168.7.1"),
        "ip link add br110 type bridge",
        &format!("ip link add vx110 type vxlan id {VNI} local {VTEP} dstport 4789 nolearning"),
        "ip link set vx110 mtu 1450 master br110 up",
        "bridge link set dev vx110 learning off",
        &format!("bridge fdb append 00:00:00:00:00:00 dev vx110 dst {OWN_VTEP}"),
        &format!("ip link add tofar type veth peer name eth0 netns {far}"),
        "ip link set tofar mtu 1450 master br110 up",
        "ip link set br110 up",
    ] {
        rig.run("vtep", command);
    }
    rig.run("far", "ip link set eth0 mtu 1450 up");
    let (_, v4, v6) = HOSTS[2];
    for address in [format!("{v4}/24"), format!("{v6}/64")] {
        rig.run("far", &format!("ip addr add {address} dev eth0"));
    }
}

/// The underlay's routes, the domain's flood list, and the far host as zebra would have it.
fn fib(rig: &Rig, state: &v1::TopologyState) -> v1::FibBatch {
    let (under, svi) = (state.ports[2].id, state.l2vnis[0].id);
    let red = state.vrfs.iter().find(|vrf| vrf.spec.as_ref().unwrap().name == "red").unwrap().id;
    let far = rig.mac("far", "eth0");
    let spine = v1::AdjacentPath { port: under, address: bytes("192.168.7.2") };
    let (_, v4, v6) = HOSTS[2];
    let mut batch = v1::FibBatch {
        groups: vec![
            group(1, path::Kind::Adjacent(spine)),
            group(2, path::Kind::Local(v1::LocalPath {})),
            group(3, connected(svi)),
        ],
        neighbors: vec![
            neighbor(under, "192.168.7.2", &rig.mac("vtep", "eth0")),
            neighbor(svi, v4, &far),
            neighbor(svi, v6, &far),
        ],
        macs: vec![v1::MacEntry { vni: VNI, mac: far.into(), vtep: bytes(VTEP), sticky: false }],
        flood_lists: vec![v1::FloodList { vni: VNI, vteps: vec![bytes(VTEP)] }],
        ..Default::default()
    };
    for (vrf, prefix, group) in [
        (0, "100.64.0.2/32", 1),
        (0, "100.64.0.1/32", 2),
        (0, "192.168.7.1/32", 2),
        (red, "10.1.0.0/24", 3),
        (red, "2001:db8:1::/64", 3),
        (red, "10.1.0.1/32", 2),
        (red, "2001:db8:1::1/128", 2),
    ] {
        route(&mut batch, vrf, prefix, group);
    }
    batch
}

/// What `Fib.Learned` has said so far.
struct Learned {
    updates: Streaming<v1::LearnedUpdate>,
    /// The port of each MAC.
    macs: BTreeMap<Vec<u8>, u32>,
    /// The MAC of each host.
    hosts: BTreeMap<IpAddr, Vec<u8>>,
    /// Addresses that went, ever.
    gone: Vec<IpAddr>,
}

impl Learned {
    async fn listen(rig: &Rig) -> Self {
        let mut client = FibClient::new(rig.channel().await);
        let updates = client.learned(v1::LearnedRequest {}).await.unwrap().into_inner();
        Self { updates, macs: BTreeMap::new(), hosts: BTreeMap::new(), gone: Vec::new() }
    }

    fn take(&mut self, update: v1::LearnedUpdate) {
        for mac in update.macs {
            assert_eq!(mac.vni, VNI);
            match mac.gone {
                true => self.macs.remove(&mac.mac[..]),
                false => self.macs.insert(mac.mac.to_vec(), mac.port),
            };
        }
        for host in update.neighbors {
            let address = match <[u8; 4]>::try_from(&host.address[..]) {
                Ok(v4) => IpAddr::from(v4),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(&host.address[..]).unwrap()),
            };
            if host.gone {
                self.hosts.remove(&address);
                self.gone.push(address);
            } else {
                self.hosts.insert(address, host.mac.to_vec());
            }
        }
    }

    /// Whether it becomes as wanted within a time.
    async fn becomes(&mut self, time: Duration, wanted: impl Fn(&Self) -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + time;
        while !wanted(self) {
            match tokio::time::timeout_at(deadline, self.updates.message()).await {
                Ok(update) => self.take(update.unwrap().unwrap()),
                Err(_) => return false,
            }
        }
        true
    }

    async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        let became = self.becomes(PATIENCE, wanted).await;
        assert!(became, "MACs {:02x?}, hosts {:?}, gone {:?}", self.macs, self.hosts, self.gone);
    }
}

/// Frames that come in by a device; ends with this value.
struct Capture {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    async fn start(rig: &Rig, namespace: &str, device: &str, filter: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        // Both outputs into it, one behind the other.
        let log = std::fs::File::options().append(true).open(file.path()).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &rig.netns(namespace), "tcpdump", "-l", "-nne", "-Q", "in", "-i", device])
            .arg(filter)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let capture = Self { child, file };
        let deadline = Instant::now() + PATIENCE;
        while !capture.text().contains("listening on") {
            assert!(Instant::now() < deadline, "tcpdump does not start: {}", capture.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        capture
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file.path()).unwrap()
    }

    fn count(&self, what: &str) -> usize {
        self.text().lines().filter(|line| line.contains(what)).count()
    }

    /// Waits until there is a frame of the kind.
    async fn sees(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(what) == 0 {
            assert!(Instant::now() < deadline, "no {what} in {}", self.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // `ip netns exec` has become tcpdump.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_stretches_to_a_kernel() {
    if !is_root() {
        return;
    }
    let mut domain = Domain::start(300).await;
    let (one, two) = (domain.mac(0), domain.mac(1));

    // Both families, both ways, and between the ports of this node.
    for (from, to) in [(0, 2), (2, 0), (0, 1), (1, 2)] {
        for target in [HOSTS[to].1, HOSTS[to].2] {
            let reached = domain.rig.pings(HOSTS[from].0, target, "");
            assert!(reached, "{} to {target}: {:#?}", HOSTS[from].0, domain.rig.counters().await);
        }
    }
    let ports = [domain.one.id, domain.two.id];
    domain
        .learned
        .until(|learned| {
            let of = |address: &str| learned.hosts.get(&address.parse().unwrap());
            learned.macs.get(&one) == Some(&ports[0])
                && learned.macs.get(&two) == Some(&ports[1])
                && [HOSTS[0].1, HOSTS[0].2].iter().all(|address| of(address) == Some(&one))
                && [HOSTS[1].1, HOSTS[1].2].iter().all(|address| of(address) == Some(&two))
        })
        .await;
    assert_eq!(domain.learned.macs.len(), 2, "what is remote was not learned here");
    let rig = &domain.rig;

    // The known host's answer comes from here: nothing is asked on the wire.
    let before = domain.counters().await;
    let wire = Capture::start(rig, "vtep", "vx110", "arp or icmp6 or icmp").await;
    rig.run("one", "ip neigh flush dev eth0");
    rig.run("one", "ip -6 neigh flush dev eth0");
    assert!(rig.pings("one", HOSTS[2].1, ""));
    assert!(rig.pings("one", HOSTS[2].2, ""));
    wire.sees(&format!("{} > {}: ICMP6, echo request", HOSTS[0].2, HOSTS[2].2)).await;
    assert_eq!(wire.count("ICMP echo request"), 5, "{}", wire.text());
    assert_eq!(wire.count(&format!("who-has {}", HOSTS[2].1)), 0, "{}", wire.text());
    assert_eq!(wire.count(&format!("neighbor solicitation, who has {}", HOSTS[2].2)), 0, "{}", wire.text());
    assert!(domain.counters().await.suppressed >= before.suppressed + 2);
    // And the gateway's.
    rig.pings("one", "10.1.0.1", "-c 1");
    let gateway = rig.run("one", "ip neigh show 10.1.0.1 dev eth0");
    assert!(gateway.contains("00:f3:00:00:00:6e"), "{gateway}");
    assert_eq!(wire.count("who-has 10.1.0.1 "), 0, "{}", wire.text());

    // Broadcast reaches everybody else once, and does not come back.
    let asked = |host: usize| format!("{} > 10.1.0.255: ICMP echo request", HOSTS[host].1);
    let at_one = Capture::start(rig, "one", "eth0", "icmp").await;
    let at_two = Capture::start(rig, "two", "eth0", "icmp").await;
    rig.pings("one", "10.1.0.255", "-b -c 1");
    wire.sees(&asked(0)).await;
    at_two.sees(&asked(0)).await;
    rig.pings("far", "10.1.0.255", "-b -c 1");
    at_one.sees(&asked(2)).await;
    at_two.sees(&asked(2)).await;
    assert!(rig.pings("one", HOSTS[2].1, ""), "what would have come after it has come by now");
    assert!(rig.pings("one", HOSTS[1].1, ""));
    for (capture, from_one, from_far) in [(&wire, 1, 0), (&at_one, 0, 1), (&at_two, 1, 1)] {
        let counts = (capture.count(&asked(0)), capture.count(&asked(2)));
        assert_eq!(counts, (from_one, from_far), "{}", capture.text());
    }

    // As large as fits, and not larger.
    for (from, to) in [(0, 2), (2, 0), (0, 1)] {
        assert!(rig.pings(HOSTS[from].0, HOSTS[to].1, "-s 1422 -M do"), "{:#?}", rig.counters().await);
    }
    rig.run("one", "ip link set eth0 mtu 1500");
    assert!(!rig.pings("one", HOSTS[2].1, "-s 1423 -M do -c 1"));
    rig.port_when("pe-e-1", |port| port.drops.iter().any(|drop| drop.reason == "bridge-too-big")).await;

    looks_right(&domain).await;
}

/// What operators are shown of it.
async fn looks_right(domain: &Domain) {
    let mut inspect = InspectClient::new(domain.rig.channel().await);
    let mut bridges = inspect.list_bridges(v1::ListBridgesRequest { vni: VNI }).await.unwrap().into_inner();
    let bridge = bridges.message().await.unwrap().unwrap();
    assert_eq!((bridge.vrf.as_str(), bridge.local_macs, bridge.remote_macs), ("red", 2, 1), "{bridge:?}");
    assert_eq!(
        (&bridge.ports[..], &bridge.vteps[..]),
        (&["pe-e-1".into(), "pe-e-2".into()][..], &[VTEP.into()][..])
    );
    let mut request = v1::ResolveMacRequest { vni: VNI, mac: domain.mac(2).into() };
    let remote = inspect.resolve_mac(request.clone()).await.unwrap().into_inner();
    assert_eq!((remote.outcome.as_str(), remote.port.as_str()), ("transmit", "under"), "{remote:?}");
    assert_eq!(remote.headers.len(), 14 + 20 + 8 + 8);
    request.mac = domain.mac(1).into();
    let local = inspect.resolve_mac(request).await.unwrap().into_inner();
    assert_eq!((local.port.as_str(), local.headers.len()), ("pe-e-2", 0), "{local:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_hosts_are_asked_and_dead_ones_forgotten() {
    if !is_root() {
        return;
    }
    const AGING: u32 = 4;
    let mut domain = Domain::start(AGING).await;
    assert!(domain.rig.pings("one", HOSTS[1].1, ""));
    assert!(domain.rig.pings("one", HOSTS[1].2, ""));
    let address =
        |host: usize| -> [IpAddr; 2] { [HOSTS[host].1, HOSTS[host].2].map(|text| text.parse().unwrap()) };
    let (alive, dead) = (address(0), address(1));
    let (one, two) = (domain.mac(0), domain.mac(1));
    let known = |learned: &Learned| alive.iter().chain(&dead).all(|host| learned.hosts.contains_key(host));
    domain.learned.until(known).await;
    domain.learned.gone.clear();

    // Still linked, but nobody answers there any more.
    let start = Instant::now();
    domain.rig.run("two", "ip addr flush dev eth0");
    domain.rig.run("two", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1");
    let forgotten = |learned: &Learned| {
        dead.iter().all(|host| !learned.hosts.contains_key(host)) && !learned.macs.contains_key(&two)
    };
    domain.learned.until(forgotten).await;
    // The other one says nothing by itself for three times as long as it would be remembered.
    let rest = Duration::from_secs((3 * AGING).into()).saturating_sub(start.elapsed());
    assert!(!domain.learned.becomes(rest, |_| false).await);
    let learned = &domain.learned;
    let kept = alive.iter().all(|host| learned.hosts.contains_key(host) && !learned.gone.contains(host));
    assert!(kept, "hosts {:?}, gone {:?}, {:#?}", learned.hosts, learned.gone, domain.rig.counters().await);
    assert_eq!(learned.macs.keys().collect::<Vec<_>>(), [&one]);
    let port = domain.rig.port("pe-e-1").await;
    assert!(port.from_kernel > 0, "it was asked: {port:?}");

    // Whoever comes back is learned anew.
    domain.rig.run("two", &format!("ip addr add {}/24 dev eth0", HOSTS[1].1));
    assert!(domain.rig.pings("two", HOSTS[2].1, ""));
    domain.learned.until(|learned| learned.hosts.get(&dead[0]) == Some(&two)).await;
}
