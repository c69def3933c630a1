//! Stock zebra, staticd and the real frr-bridge in a namespace of their own, default VRF only, so that it runs on any
//! kernel. The dataplane is a stand-in that records.

use crate::common::standin::StandIn;
use crate::common::{Namespace, bridge, eventually, frr, vtysh};
use dataplane_api::v1::{Health, PortSpec, PortState, TopologyState};

const STATIC: &str = "
ip route 198.51.100.0/24 192.0.2.2
ip route 198.51.101.0/24 192.0.2.2
ip route 198.51.101.0/24 192.0.2.3
ip route 203.0.113.0/24 blackhole
ipv6 route 2001:db8:1::/48 2001:db8::2
";

const EXPECTED: &str = "\
vrf 0 10.255.0.1/32 local
vrf 0 192.0.2.0/24 connected port 3
vrf 0 192.0.2.1/32 local
vrf 0 198.51.100.0/24 via 192.0.2.2 port 3
vrf 0 198.51.101.0/24 via 192.0.2.2 port 3 | via 192.0.2.3 port 3
vrf 0 2001:db8:1::/48 via 2001:db8::2 port 3
vrf 0 2001:db8::/64 connected port 3
vrf 0 2001:db8::1/128 local
vrf 0 203.0.113.0/24 drop
";

fn topology() -> TopologyState {
    TopologyState {
        ports: vec![PortState {
            spec: Some(PortSpec { name: "uplink".into(), ..Default::default() }),
            id: 3,
            health: Health::Up.into(),
            mtu: 1400,
            addresses: vec!["192.0.2.1/24".into(), "2001:db8::1/64".into()],
            ..Default::default()
        }],
        vtep_addresses: vec![vec![10, 255, 0, 1].into()],
        ..Default::default()
    }
}

fn routes(text: &str) -> String {
    text.lines().filter(|line| line.starts_with("vrf")).map(|line| format!("{line}\n")).collect()
}

fn holds(dataplane: &StandIn, expected: &str) {
    eventually("the FIB", || {
        let text = routes(&dataplane.text());
        let synced = dataplane.state.lock().expect("lock").synced;
        if text == expected && synced { Ok(()) } else { Err(format!("synced {synced}\n{text}")) }
    });
}

#[test]
fn routes_reach_the_fib_and_survive_the_restart_of_anybody() {
    let router = Namespace::new("default");
    // A veth in the place of the shadow TAP: its carrier needs no dataplane.
    router.sh("ip link add uplink type veth peer name wire; ip link set wire up");
    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("dataplane.sock");

    // frr-bridge first, alone: it must wait for everybody.
    let first = bridge(&router, &socket);
    let fpm = ["-M", "dplane_fpm_nl"];
    let zebra = frr(&router, "zebra", "fpm address 127.0.0.1 port 2620\n", &fpm);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let staticd = frr(&router, "staticd", STATIC, &[]);
    let dataplane = StandIn::start(&socket, 7);
    dataplane.set_topology(topology());
    holds(&dataplane, EXPECTED);
    let link = router.sh("ip link show uplink");
    assert!(link.contains("mtu 1400") && link.contains(",UP"), "{link}");
    assert!(router.sh("sysctl -n net.ipv4.ip_forward").starts_with('1'));

    // A neighbour of the port comes and goes.
    router.sh("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev uplink nud reachable");
    let neighbor = "neighbor port 3 192.0.2.2 02:00:00:00:00:02";
    let seen = |wanted: bool| {
        eventually("the neighbour", || {
            let text = dataplane.text();
            if text.contains(neighbor) == wanted { Ok(()) } else { Err(text) }
        });
    };
    seen(true);
    router.sh("ip neigh del 192.0.2.2 dev uplink");
    seen(false);

    // A route comes and goes.
    vtysh(&router, &["conf t", "ip route 198.51.102.0/24 192.0.2.3"]);
    eventually("the new route", || {
        let text = dataplane.text();
        if text.contains("198.51.102.0/24 via 192.0.2.3") { Ok(()) } else { Err(text) }
    });
    vtysh(&router, &["conf t", "no ip route 198.51.102.0/24 192.0.2.3"]);
    holds(&dataplane, EXPECTED);
    dataplane.state.lock().expect("lock").withdrawn.clear();

    // The same topology again, and a restart of frr-bridge: nothing is withdrawn, and no device is touched.
    let mut monitor = std::process::Command::new("ip")
        .args(["-n", &router.name, "monitor", "link", "address"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ip monitor");
    dataplane.set_topology(topology());
    first.kill();
    let second = bridge(&router, &socket);
    eventually("a second session", || {
        let state = dataplane.state.lock().expect("lock");
        if state.sessions == 2 && state.synced { Ok(()) } else { Err(format!("{state:?}")) }
    });
    holds(&dataplane, EXPECTED);
    assert!(dataplane.state.lock().expect("lock").withdrawn.is_empty());
    monitor.kill().expect("kill");
    let output = monitor.wait_with_output().expect("output");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "",
        "nothing unchanged is ever sent to the kernel again"
    );

    // The dataplane restarts and has forgotten everything.
    drop(dataplane);
    let dataplane = StandIn::start(&socket, 8);
    dataplane.set_topology(topology());
    holds(&dataplane, EXPECTED);

    // zebra restarts: everything stays until it has said everything; what it no longer says goes.
    staticd.stop();
    zebra.stop();
    let zebra =
        frr(&router, "zebra", "fpm address 127.0.0.1 port 2620\n", &["-M", "dplane_fpm_nl", "-K", "5"]);
    let fewer = STATIC.replace("ip route 198.51.100.0/24 192.0.2.2", "");
    let staticd = frr(&router, "staticd", &fewer, &[]);
    let expected = EXPECTED.replace("vrf 0 198.51.100.0/24 via 192.0.2.2 port 3\n", "");
    holds(&dataplane, &expected);
    let withdrawn = dataplane.state.lock().expect("lock").withdrawn.clone();
    assert_eq!(withdrawn.into_iter().collect::<Vec<_>>(), ["vrf 0 198.51.100.0/24"]);

    drop((second, staticd, zebra));
    let _ = std::fs::remove_dir_all(format!("/var/run/frr/{}", router.name));
}
