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

/// Another L3VNI, and its end, leave the sessions of the fabric alone.
#[test]
fn another_l3vni_resets_no_session() {
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
    for text in [&red, &both, &both, &red, &UNDERLAY.to_owned(), &both] {
        assert_eq!(apply(&frr, &pe(text)).unwrap(), []);
        assert_eq!(frr.pending_changes(), "");
        assert_eq!(established(), before, "after {text}");
    }
    assert!(frr.vtysh("show running-config").contains("router bgp 64514 vrf blue"));
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
