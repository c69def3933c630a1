//! The shadow devices of an L3VNI, and routes of a VRF: real devices, stock zebra and staticd, the real frr-bridge. Where
//! the running kernel has no VRF, the test runs itself inside of user-mode Linux.

use std::path::Path;
use std::process::Command;

use crate::common::standin::StandIn;
use crate::common::{Namespace, bridge, eventually, frr, sh, vtysh};
use dataplane_api::v1::{
    BridgePortSpec, Health, L2VniSpec, L2VniState, L3VniSpec, L3VniState, PortSpec, PortState, TopologyState,
    VrfSpec, VrfState,
};

/// Set for the copy of this test inside of user-mode Linux: where to write the outcome.
const INSIDE: &str = "FRR_BRIDGE_TEST_INSIDE";

fn has_vrf() -> bool {
    let namespace = Namespace::new("probe");
    let probe = format!("ip -n {} link add probe type vrf table 99 2>/dev/null", namespace.name);
    Command::new("sh").args(["-c", &probe]).status().is_ok_and(|status| status.success())
}

/// Boots user-mode Linux on the host's files with this test as its only process.
fn boot(test: &str) {
    let directory = tempfile::tempdir().expect("directory");
    let (init, outcome) = (directory.path().join("init"), directory.path().join("outcome"));
    let executable = std::env::current_exe().expect("path of the test");
    std::fs::write(
        &init,
        format!(
            "#!/bin/bash\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr HOME=/root\n\
             mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run\n\
             mkdir -p /run/netns /run/frr /run/lock; chown frr:frr /run/frr; ip link set lo up\n\
             modprobe -a ipv6 bridge vxlan vrf veth tun\n\
             {INSIDE}={outcome} {executable} --exact {test} --nocapture >{outcome}.log 2>&1 && echo ok >{outcome}\n\
             sync; poweroff -f\n",
            outcome = outcome.display(),
            executable = executable.display(),
        ),
    )
    .expect("init");
    sh(&format!(
        "chmod +x {}; modules=$(ls -d /usr/lib/uml/modules/* | tail -n 1); mkdir -p /lib/modules; \
         ln -sfn $modules /lib/modules/$(basename $modules)",
        init.display()
    ));
    let status = Command::new("timeout")
        .args([
            "240",
            "linux.uml",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            "mem=1G",
            "con0=fd:0,fd:1",
            "con=null",
        ])
        .arg(format!("init={}", init.display()))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .expect("linux.uml (Debian's user-mode-linux)");
    let log = std::fs::read_to_string(format!("{}.log", outcome.display())).unwrap_or_default();
    assert!(Path::new(&outcome).exists(), "inside of user-mode Linux ({status}):\n{log}");
}

fn topology(red: u32, with_vni: bool) -> TopologyState {
    let port = |id, name: &str, vrf: &str, addresses: &[&str]| PortState {
        spec: Some(PortSpec { name: name.into(), vrf: vrf.into(), ..Default::default() }),
        id,
        health: Health::Up.into(),
        mtu: 1500,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let vni = L3VniState {
        spec: Some(L3VniSpec {
            vni: 100,
            vrf: "red".into(),
            vtep_address: vec![10, 0, 0, 1].into(),
            router_mac: vec![2, 0, 0, 0, 1, 1].into(),
            ..Default::default()
        }),
        health: Health::Up.into(),
        mtu: 1450,
        ..Default::default()
    };
    let l2vni = |vni, id, vtep: &[u8], gateways: &[&str]| L2VniState {
        spec: Some(L2VniSpec {
            vni,
            vrf: "red".into(),
            vtep_address: vtep.to_vec().into(),
            mac: vec![0, 0xf3, 0, 0, 0, 0x6f].into(),
            gateway_addresses: gateways.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }),
        health: Health::Up.into(),
        mtu: 1430,
        id,
        ..Default::default()
    };
    let ipv6 = "fd00:64::1".parse::<std::net::Ipv6Addr>().expect("address").octets();
    let l2vnis = [
        l2vni(110, 20, &[10, 0, 0, 1], &["10.110.0.1/24", "fd00:110::1/64"]),
        l2vni(120, 21, &ipv6, &["10.120.0.1/24"]),
    ];
    let bridged = |mut port: PortState| {
        port.spec.as_mut().expect("set").bridge = Some(BridgePortSpec { l2vni: 110, ..Default::default() });
        port
    };
    let vrf = VrfState { spec: Some(VrfSpec { name: "red".into() }), id: red, ..Default::default() };
    TopologyState {
        ports: [
            Some(port(1, "uplink", "", &["192.168.1.1/24"])),
            with_vni.then(|| port(2, "pe-e-100", "red", &["10.1.0.1/24", "fd00:1::1/64"])),
            with_vni.then(|| bridged(port(3, "pe-e-110", "", &[]))),
        ]
        .into_iter()
        .flatten()
        .collect(),
        vrfs: with_vni.then_some(vrf).into_iter().collect(),
        l3vnis: with_vni.then_some(vni).into_iter().collect(),
        l2vnis: if with_vni { l2vnis.into() } else { Vec::new() },
        vtep_addresses: vec![vec![10, 0, 0, 1].into(), ipv6.to_vec().into()],
        ..Default::default()
    }
}

const STATIC: &str = "
ip route 10.0.0.2/32 192.168.1.254
vrf red
 ip route 10.9.0.0/24 10.1.0.7
 ip route 10.2.0.0/24 10.0.0.2 br-pe-100 onlink
 ip route 10.8.0.0/24 blackhole
 ip route 10.111.0.0/24 10.110.0.7
 ipv6 route fd00:9::/64 fd00:1::7
exit-vrf
";

fn expected(red: u32) -> String {
    let mut lines: Vec<String> = [
        "vrf 0 10.0.0.1/32 local",
        "vrf 0 10.0.0.2/32 via 192.168.1.254 port 1",
        "vrf 0 192.168.1.0/24 connected port 1",
        "vrf 0 192.168.1.1/32 local",
        "vrf RED 10.1.0.0/24 connected port 2",
        "vrf RED 10.1.0.1/32 local",
        "vrf 0 fd00:64::1/128 local",
        "vrf RED 10.110.0.0/24 connected port 20",
        "vrf RED 10.110.0.1/32 local",
        "vrf RED 10.111.0.0/24 via 10.110.0.7 port 20",
        "vrf RED 10.120.0.0/24 connected port 21",
        "vrf RED 10.120.0.1/32 local",
        "vrf RED fd00:110::/64 connected port 20",
        "vrf RED fd00:110::1/128 local",
        "vrf RED 10.2.0.0/24 vxlan 100 to 10.0.0.2 mac 02:00:00:00:01:02",
        "vrf RED 10.8.0.0/24 drop",
        "vrf RED 10.9.0.0/24 via 10.1.0.7 port 2",
        "vrf RED fd00:1::/64 connected port 2",
        "vrf RED fd00:1::1/128 local",
        "vrf RED fd00:9::/64 via fd00:1::7 port 2",
    ]
    .iter()
    .map(|line| line.replace("RED", &red.to_string()))
    .collect();
    lines.sort();
    lines.join("\n") + "\n"
}

fn holds(dataplane: &StandIn, expected: &str) {
    eventually("the FIB", || {
        let text: String = dataplane
            .text()
            .lines()
            .filter(|line| line.starts_with("vrf"))
            .map(|line| format!("{line}\n"))
            .collect();
        if text == expected { Ok(()) } else { Err(text) }
    });
}

#[test]
fn an_l3vni_gets_its_devices_and_its_routes() {
    if std::env::var_os(INSIDE).is_none() && !has_vrf() {
        return boot("devices::an_l3vni_gets_its_devices_and_its_routes");
    }
    let router = Namespace::new("vrf");
    router.sh(
        "for i in uplink pe-e-100 pe-e-110; do ip link add $i type veth peer name w-$i; ip link set w-$i up; done",
    );
    let directory = tempfile::tempdir().expect("directory");
    // A socket on user-mode Linux's host file system would be the host's.
    let base = if std::env::var_os(INSIDE).is_some() { Path::new("/run") } else { directory.path() };
    let socket = base.join("dataplane.sock");
    let dataplane = StandIn::start(&socket, 1);
    dataplane.set_topology(topology(5, true));
    let first = bridge(&router, &socket);
    let zebra = frr(&router, "zebra", "fpm address 127.0.0.1 port 2620\n", &["-M", "dplane_fpm_nl"]);
    eventually("the VNI's devices", || {
        let links = router.sh("ip -o link show master br-pe-100 up; ip -o link show master red up");
        if links.contains("vni100") && links.contains("br-pe-100") && links.contains("pe-e-100") {
            Ok(())
        } else {
            Err(links)
        }
    });
    let staticd = frr(&router, "staticd", STATIC, &[]);
    // What zebra does for an EVPN next hop.
    router.sh("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:01:02 dev br-pe-100 nud noarp extern_learn");
    holds(&dataplane, &expected(5));

    let details =
        router.sh("ip -d link show; ip rule; ip -6 rule; ip -4 addr show lo; ip -6 addr show br-pe-100");
    let svi = router.sh("ip -d addr show br-pe-110; ip -d -o link show vni110; ip -d -o link show pe-e-110");
    let vxlan6 = router.sh("ip -d link show vni120");
    for (text, needle) in [
        (&svi, "link/ether 00:f3:00:00:00:6f"),
        (&svi, "master red"),
        (&svi, "mtu 1430"),
        (&svi, "addrgenmode none"),
        (&svi, "inet 10.110.0.1/24"),
        (&svi, "inet6 fd00:110::1/64 scope global nodad"),
        (&svi, "inet6 fe80::2f3:ff:fe00:6f/64 scope link nodad"),
        (&svi, "ageing_time 4000000000"),
        (&svi, "vlan_default_pvid 0"),
        (&vxlan6, "local fd00:64::1"),
        (&vxlan6, "udp6zerocsumtx udp6zerocsumrx"),
    ] {
        assert!(text.contains(needle), "{needle:?} is missing in\n{text}");
    }
    for port in svi.lines().filter(|line| line.contains("bridge_slave")) {
        for needle in ["learning off", " flood off", "mcast_flood off", "bcast_flood off", "addrgenmode none"]
        {
            assert!(port.contains(needle), "{needle:?} is missing in\n{port}");
        }
    }
    assert_eq!(svi.matches("bridge_slave").count(), 2, "VXLAN device and port\n{svi}");
    assert_eq!(svi.matches("neigh_suppress on").count(), 1, "of the VXLAN device only\n{svi}");

    // What the dataplane learns in a bridge domain of a VRF is a neighbour of its SVI, and the SVI asks for others: ARP and ND
    // leave by a port that floods nothing.
    dataplane.learn(110, [2, 0, 0, 0, 0, 7], 3, &["10.110.0.7", "fd00:110::7"]);
    for line in
        ["neighbor port 20 10.110.0.7 02:00:00:00:00:07", "neighbor port 20 fd00:110::7 02:00:00:00:00:07"]
    {
        eventually(line, || {
            let text = dataplane.text();
            if text.contains(line) { Ok(()) } else { Err(text) }
        });
    }
    assert_eq!(
        router.sh("bridge fdb show | grep -c 02:00:00:00:00:07").trim(),
        "1",
        "not once more for a VLAN"
    );
    for (filter, address) in [("arp", "10.110.0.9"), ("icmp6 and ip6[40] == 135", "fd00:110::9")] {
        let heard = router.sh(&format!(
            "timeout 10 tcpdump -c 1 -nn -i w-pe-e-110 \"{filter}\" 2>/dev/null & sleep 1; \
             ping -c 3 -W 1 -I red {address} >/dev/null || true; wait"
        ));
        assert!(heard.contains(address), "nobody asked for {address}: {heard}");
    }
    for needle in [
        "vrf table 1005",
        "vxlan id 100 local 10.0.0.1",
        "nolearning",
        "learning off",
        "neigh_suppress on",
        "addrgenmode none",
        "link/ether 02:00:00:00:01:01",
        "mtu 1450",
        "lookup [l3mdev-table]",
        "2000:\tfrom all lookup [l3mdev-table] unreachable",
        "32765:\tfrom all lookup local",
        "inet 10.0.0.1/32",
    ] {
        assert!(details.contains(needle), "{needle:?} is missing in\n{details}");
    }
    assert!(!details.contains("\n0:\tfrom all lookup local"), "{details}");

    // zebra drops FPM while it has router MACs: from now on the routes come from the kernel, none is withdrawn, and
    // changes are seen as before.
    vtysh(&router, &["conf t", "no fpm address"]);
    eventually("the port to be closed", || {
        let listening = router.sh("ss -ltn");
        if listening.contains(":2620 ") { Err(listening) } else { Ok(()) }
    });
    vtysh(&router, &["conf t", "vrf red", "ip route 10.7.0.0/24 10.1.0.7"]);
    let more = format!("{}vrf 5 10.7.0.0/24 via 10.1.0.7 port 2\n", expected(5));
    let mut more: Vec<_> = more.lines().map(|line| format!("{line}\n")).collect();
    more.sort();
    holds(&dataplane, &more.concat());
    vtysh(&router, &["conf t", "vrf red", "no ip route 10.7.0.0/24 10.1.0.7"]);
    holds(&dataplane, &expected(5));
    {
        let mut state = dataplane.state.lock().expect("lock");
        let withdrawn = std::mem::take(&mut state.withdrawn);
        assert_eq!(withdrawn.into_iter().collect::<Vec<_>>(), ["vrf 5 10.7.0.0/24"]);
    }

    // A restart of frr-bridge touches no device and withdraws nothing.
    let mut monitor = Command::new("ip")
        .args(["-n", &router.name, "monitor", "link", "address", "rule"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ip monitor");
    first.kill();
    let second = bridge(&router, &socket);
    eventually("a second session", || {
        let state = dataplane.state.lock().expect("lock");
        if state.sessions == 2 && state.synced { Ok(()) } else { Err(format!("{state:?}")) }
    });
    holds(&dataplane, &expected(5));
    assert!(dataplane.state.lock().expect("lock").withdrawn.is_empty());

    // A dataplane that restarts has other numbers; the devices stay as they are.
    drop(dataplane);
    let dataplane = StandIn::start(&socket, 2);
    std::thread::sleep(std::time::Duration::from_secs(3));
    dataplane.set_topology(topology(9, true));
    holds(&dataplane, &expected(9));
    monitor.kill().expect("kill");
    let output = monitor.wait_with_output().expect("output");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "",
        "nothing unchanged is ever sent to the kernel again"
    );

    // The VNI goes, and its devices with it; the default VRF stays. The port's device is the dataplane's to remove.
    router.sh("ip link del pe-e-100; ip link del pe-e-110");
    dataplane.set_topology(topology(9, false));
    eventually("the devices are gone", || {
        let links = router.sh("ip -o link");
        if ["red", "br-pe-100", "vni100", "br-pe-110", "vni110", "vni120"]
            .iter()
            .any(|name| links.contains(&format!(" {name}:")))
        {
            Err(links)
        } else {
            Ok(())
        }
    });
    let default: String = expected(9)
        .lines()
        .filter(|line| line.starts_with("vrf 0"))
        .map(|line| format!("{line}\n"))
        .collect();
    holds(&dataplane, &default);

    drop((second, staticd, zebra));
    let _ = std::fs::remove_dir_all(format!("/var/run/frr/{}", router.name));
}
