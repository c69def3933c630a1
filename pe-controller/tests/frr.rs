//! Configurations in a real FRR.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use ipnet::IpNet;
use pe_controller::Error;
use pe_controller::files::{node_config, objects};
use pe_controller::frr::Frr;
use pe_controller::plan::{Machine, plan};
use pe_controller::resolve::{FrrVersion, InterfaceAddresses, Pe};
use pe_controller::validate::InForce;
use support::{TestFrr, available, ok, wait_for};

struct NoInterfaces;

impl InterfaceAddresses for NoInterfaces {
    fn addresses(&self, _: &str) -> Option<Vec<IpNet>> {
        None
    }
}

fn pe(text: &str) -> Pe {
    let node = node_config(Path::new("node-config.yaml"), "nodeIndex: {index: 1}").unwrap();
    let loaded = objects(Path::new("openpe_test.yaml"), text).unwrap();
    let machine = Machine {
        name: &pe_controller::run::Host::name(),
        interfaces: &NoInterfaces,
        frr: Some(&FrrVersion::newest()),
    };
    let plan = plan(loaded.objects, &node, machine, &InForce::default());
    assert_eq!((loaded.failures, plan.failures), (vec![], vec![]));
    plan.pe.unwrap()
}

fn apply(frr: &TestFrr, pe: &Pe) -> Result<Vec<(String, String)>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let applied = runtime.block_on(Frr::new(frr.settings()).apply(pe))?;
    Ok(applied.refused.into_iter().map(|(id, message)| (id.name, message)).collect())
}

const UNDERLAY: &str = "
underlays:
- asn: 64514
  tunnelEndpoint: {cidrs: [100.65.0.0/24]}
  interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: toswitch1}}]
  gracefulRestart: {}
  neighbors:
  - {asn: 64512, address: 192.168.11.2, bfd: {receiveInterval: 200}}
";

const RED: &str = "
l3vnis:
- name: red
  vrf: red
  vni: 100
  hostSession: {asn: 64514, hostASN: 64515, localCIDR: {ipv4: 192.169.10.0/24, ipv6: '2001:db8:1::/64'}}
";

const BLUE: &str = "
- name: blue
  vrf: blue
  vni: 200
  importRTs: ['64520:200']
  hostSession: {asn: 64514, hostASN: 64515, localCIDR: {ipv4: 192.169.11.0/24}}
";

const LAYER2: &str = "
l2vnis:
- name: layer2
  vni: 110
  routingDomain: {type: L3VNI, l3vni: {name: red}}
  gatewayIPs: [192.171.24.1/24, 'fd00:10:245:1::1/64']
";

const PASSTHROUGH: &str =
    "bgppassthrough: {hostSession: {asn: 64514, hostASN: 64515, localCIDR: {ipv4: 192.169.20.0/24}}}\n";

/// FRR takes every golden configuration as it is, from whatever it had before, and shows it in the same words: a second
/// reload has nothing to do.
#[test]
fn golden_configurations_are_fixed_points() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("gold");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    for case in cases {
        let pe = pe(&fs::read_to_string(case.join("openpe.yaml")).unwrap());
        assert_eq!(apply(&frr, &pe).unwrap_or_else(|error| panic!("{}: {error}", case.display())), []);
        assert_eq!(frr.pending_changes(), "", "{}", case.display());
    }
}

/// Another VNI, another gateway or host, and their end, leave the sessions of the fabric alone.
#[test]
fn another_object_resets_no_session() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("us");
    let leaf = TestFrr::start("leaf");
    ok(Command::new("ip")
        .args(["link", "add", "toswitch1", "netns", &frr.name, "type", "veth", "peer", "name"])
        .args(["toswitch1", "netns", &leaf.name]));
    for (side, address) in [(&frr, "192.168.11.1/24"), (&leaf, "192.168.11.2/24")] {
        side.ip(&["addr", "add", address, "dev", "toswitch1"]);
        side.ip(&["link", "set", "toswitch1", "up"]);
    }
    fs::write(
        leaf.config(),
        "router bgp 64512\n no bgp ebgp-requires-policy\n neighbor 192.168.11.1 remote-as 64514\n \
         neighbor 192.168.11.1 bfd\n address-family l2vpn evpn\n  neighbor 192.168.11.1 activate\n exit-address-family\nexit\n",
    )
    .unwrap();
    ok(Command::new("vtysh").args(["-N", &leaf.name, "-f"]).arg(leaf.config()));

    let established = || {
        let text = frr.vtysh("show bgp neighbors 192.168.11.2 json");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let peer = &value["192.168.11.2"];
        (peer["bgpState"] == "Established").then(|| peer["connectionsEstablished"].as_u64().unwrap())
    };
    assert_eq!(apply(&frr, &pe(UNDERLAY)).unwrap(), []);
    wait_for("session", || established().is_some());
    let before = established();
    let red = format!("{UNDERLAY}{RED}");
    let both = format!("{red}{BLUE}");
    let bridged = format!("{both}{LAYER2}");
    let other_gateway = bridged.replace("192.171.24.1", "192.171.30.1");
    let passthrough = format!("{other_gateway}{PASSTHROUGH}");
    let texts = [&red, &both, &both, &red, &UNDERLAY.to_owned(), &both];
    for text in texts.into_iter().chain([&bridged, &other_gateway, &passthrough, &bridged, &both]) {
        assert_eq!(apply(&frr, &pe(text)).unwrap(), []);
        assert_eq!(frr.pending_changes(), "");
        assert_eq!(established(), before, "after {text}");
    }
    assert!(frr.vtysh("show running-config").contains("router bgp 64514 vrf blue"));
}

/// What the host announces in the default VRF reaches the fabric as it is, and the fabric's prefixes the host: of both
/// families, over external and internal sessions.
#[test]
fn the_passthrough_connects_host_and_fabric() {
    if !available() {
        return;
    }
    let us = TestFrr::start("ptus");
    let leaf = TestFrr::start("ptleaf");
    let host = TestFrr::start("pthost");
    let link = |a: &TestFrr, a_end: &str, b: &TestFrr, b_end: &str, addresses: &[(&str, &str)]| {
        ok(Command::new("ip")
            .args(["link", "add", a_end, "netns", &a.name, "type", "veth", "peer", "name"])
            .args([b_end, "netns", &b.name]));
        for (a_address, b_address) in addresses {
            a.ip(&["addr", "add", a_address, "dev", a_end, "nodad"]);
            b.ip(&["addr", "add", b_address, "dev", b_end, "nodad"]);
        }
        a.ip(&["link", "set", a_end, "up"]);
        b.ip(&["link", "set", b_end, "up"]);
    };
    let uplink = [("192.168.11.1/24", "192.168.11.2/24"), ("fd00:11::1/64", "fd00:11::2/64")];
    link(&us, "toswitch1", &leaf, "toswitch1", &uplink);
    // The dataplane's part: the ends of the link, with the addresses of the topology.
    let ends = [("192.169.20.1/24", "192.169.20.3/24"), ("2001:db8:20::1/64", "2001:db8:20::3/64")];
    link(&us, "pt-ns", &host, "pt-host", &ends);

    let speaker = |frr: &TestFrr, asn: u32, neighbors: &[(&str, u32)], prefixes: [&str; 2]| {
        let mut text = format!(
            "router bgp {asn}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n"
        );
        for (neighbor, remote) in neighbors {
            text +=
                &format!(" neighbor {neighbor} remote-as {remote}\n neighbor {neighbor} timers connect 1\n");
        }
        for (family, prefix) in ["ipv4", "ipv6"].into_iter().zip(prefixes) {
            text += &format!(" address-family {family} unicast\n  network {prefix}\n");
            // In the default VRF each session with the host has the family it runs over; the leaf's has both.
            for (neighbor, _) in neighbors {
                if neighbors.len() == 1 || neighbor.contains(':') == (family == "ipv6") {
                    text += &format!("  neighbor {neighbor} activate\n");
                }
            }
            text += " exit-address-family\n";
        }
        fs::write(frr.config(), text + "exit\n").unwrap();
        ok(Command::new("vtysh").args(["-N", &frr.name, "-f"]).arg(frr.config()));
    };
    speaker(&leaf, 64512, &[("192.168.11.1", 64514)], ["198.51.100.0/24", "2001:db8:100::/48"]);

    let has = |frr: &TestFrr, family: &str, prefix: &str| {
        let routes = frr.vtysh(&format!("show bgp {family} unicast {prefix} json"));
        routes.contains("\"valid\":true")
    };
    for (asn, remote) in [(64515, "hostASN: 64515"), (64514, "hostType: Internal")] {
        let text = format!(
            "{UNDERLAY}\nbgppassthrough:\n  hostSession: {{asn: 64514, {remote}, \
             localCIDR: {{ipv4: 192.169.20.0/24, ipv6: '2001:db8:20::/64'}}}}\n"
        );
        assert_eq!(apply(&us, &pe(&text)).unwrap(), []);
        assert_eq!(us.pending_changes(), "");
        let prefixes = ["203.0.113.0/24", "2001:db8:113::/48"];
        speaker(&host, asn, &[("192.169.20.1", 64514), ("2001:db8:20::1", 64514)], prefixes);
        for (family, of_host, of_leaf) in
            [("ipv4", prefixes[0], "198.51.100.0/24"), ("ipv6", prefixes[1], "2001:db8:100::/48")]
        {
            wait_for(&format!("{of_host} at the leaf, {remote}"), || has(&leaf, family, of_host));
            wait_for(&format!("{of_leaf} at the host, {remote}"), || has(&host, family, of_leaf));
        }
        // The link's own address is originated, for answers to the host itself.
        wait_for("the host's address at the leaf", || has(&leaf, "ipv4", "192.169.20.3/32"));

        assert_eq!(apply(&us, &pe(UNDERLAY)).unwrap(), []);
        assert_eq!(us.pending_changes(), "");
        assert!(!us.vtysh("show running-config").contains("192.169.20"));
        wait_for("withdrawal", || !has(&leaf, "ipv4", prefixes[0]));
        ok(Command::new("vtysh")
            .args(["-N", &host.name, "-c", "configure"])
            .args(["-c", &format!("no router bgp {asn}")]));
    }
}

#[test]
fn its_version_is_read() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("ver");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let version = || runtime.block_on(Frr::new(frr.settings()).version());
    assert_eq!(version().unwrap().to_string(), frr.version());
    for daemon in ["staticd", "bfdd", "bgpd", "zebra"] {
        frr.kill_daemon(daemon);
    }
    let error = version().unwrap_err().to_string();
    assert!(error.contains("cannot read FRR's version"), "{error}");
}

/// A raw object that FRR refuses is named, and everything else is in force.
#[test]
fn refused_raw_configuration_is_left_out() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("raw");
    let good = "\nrawfrrconfigs:\n- {name: good, rawConfig: 'ip prefix-list good seq 5 permit any'}\n";
    for (bad, said) in [
        // Not in the grammar.
        ("ip prefix-lst x seq 5 permit any", "\"ip prefix-lst x seq 5 permit any\": unknown command"),
        // In the grammar, but bgpd refuses it; the line after it then makes no sense either.
        ("router bgp 64999\n     neighbor 1.2.3.4 remote-as 5", "BGP is already running; AS is 64514"),
        (
            "router bgp 64514\n     neighbor 9.9.9.9 timers 3 9",
            "Specify remote-as or peer-group commands first",
        ),
    ] {
        let text = format!("{UNDERLAY}{RED}{good}- name: bad\n  rawConfig: |\n     {bad}\n");
        let refused = apply(&frr, &pe(&text)).unwrap();
        let [(name, message)] = refused.as_slice() else { panic!("{refused:?}") };
        assert_eq!(name, "bad");
        assert!(message.contains(said), "{message}");
        assert_eq!(frr.pending_changes(), "");
        let running = frr.vtysh("show running-config");
        assert!(running.contains("ip prefix-list good seq 5 permit any") && running.contains("vni 100"));
        assert!(!running.contains("9.9.9.9"));
    }
}

/// A line that FRR refuses and that nobody can be blamed for by its words is found by leaving objects out.
#[test]
fn a_culprit_is_found_by_trying() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("try");
    // Each is right by itself. Both together are refused, in the words of neither's line: frr-reload.py writes prefixes anew.
    let text = format!(
        "{UNDERLAY}\nrawfrrconfigs:\n- {{name: first, rawConfig: 'ip prefix-list x seq 5 permit any'}}\n\
         - name: second\n  rawConfig: |\n    router bgp 64514\n     address-family ipv4 unicast\n      network 10.0.0.0/8 route-map\n"
    );
    let refused = apply(&frr, &pe(&text)).unwrap();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, "second");
    assert!(frr.vtysh("show running-config").contains("ip prefix-list x"));
}

#[test]
fn without_frr_it_says_so() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("none");
    frr.kill_daemon("bfdd");
    fs::remove_file(format!("/run/frr/{}/bfdd.vty", frr.name)).unwrap();
    let error = apply(&frr, &pe(UNDERLAY)).unwrap_err().to_string();
    assert!(error.contains("FRR's bfdd is not running") && error.contains("bfdd.vty"), "{error}");
    assert!(!frr.config().exists());
}

/// The file may hold passwords: root writes it, FRR's group reads it, nobody else does.
#[test]
fn passwords_are_not_for_everybody() {
    if !available() {
        return;
    }
    let frr = TestFrr::start("mode");
    let with_password = UNDERLAY.replace("bfd: {receiveInterval: 200}", "password: s3cret-key");
    assert_eq!(apply(&frr, &pe(&with_password)).unwrap(), []);
    let metadata = fs::metadata(frr.config()).unwrap();
    let group = nix::unistd::Group::from_name("frr").unwrap().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 0, group.gid.as_raw()));
    assert!(fs::read_to_string(frr.config()).unwrap().contains("s3cret-key"));
    let bad = format!(
        "{with_password}\nrawfrrconfigs:\n- name: bad\n  rawConfig: neighbor 1.2.3.4 password s3cret-too\n"
    );
    let refused = apply(&frr, &pe(&bad)).unwrap();
    assert!(refused[0].1.contains("<hidden>") && !refused[0].1.contains("s3cret"), "{refused:?}");
}
