//! From one reading of the files to the next: what a change touches, and what depends on FRR's version.

use std::collections::BTreeSet;
use std::path::Path;

use ipnet::IpNet;
use pe_controller::files::{node_config, objects};
use pe_controller::model::Reason;
use pe_controller::plan::{Machine, Plan, plan};
use pe_controller::render::frr_config;
use pe_controller::resolve::{FrrVersion, InterfaceAddresses};
use pe_controller::topology::{owner, readable};
use pe_controller::validate::InForce;
use proptest::prelude::*;
use serde_json::Value;

struct NoInterfaces;

impl InterfaceAddresses for NoInterfaces {
    fn addresses(&self, _: &str) -> Option<Vec<IpNet>> {
        None
    }
}

fn plan_with(text: &str, frr: Option<&FrrVersion>) -> Plan {
    let node = node_config(Path::new("node-config.yaml"), "nodeIndex: {index: 1}").unwrap();
    let loaded = objects(Path::new("openpe_test.yaml"), text).unwrap();
    assert_eq!(loaded.failures, []);
    let machine = Machine { name: "worker-1", interfaces: &NoInterfaces, frr };
    plan(loaded.objects, &node, machine, &InForce::default())
}

fn rendered(text: &str) -> (String, Value) {
    let plan = plan_with(text, Some(&FrrVersion::newest()));
    assert_eq!(plan.failures, []);
    (frr_config(plan.pe.as_ref().unwrap()).text, readable(&plan.topology().unwrap()))
}

const BASE: &str = "
underlays:
- asn: 64514
  tunnelEndpoint: {cidrs: [100.65.0.0/24, 'fd00:64::/120']}
  interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: toswitch1}}]
  neighbors: [{asn: 64512, address: 192.168.11.2}]
l3vnis:
- {name: red, vrf: red, vni: 100, hostSession: {asn: 64514, hostASN: 64515, localCIDR: {ipv4: 192.169.10.0/24}}}
";

const LAYER2: &str = "
l2vnis:
- name: layer2
  vni: 110
  routingDomain: {type: L3VNI, l3vni: {name: red}}
  gatewayIPs: [192.171.24.1/24]
  hostMaster: {type: LinuxBridge, linuxBridge: {lifecycle: Managed}}
  ports: [{name: vm1, vhostUser: {socketPath: /run/vm1.sock, mode: Server}}]
- {name: other, vni: 120}
";

const PASSTHROUGH: &str =
    "bgppassthrough: {hostSession: {asn: 64999, hostASN: 64515, localCIDR: {ipv4: 192.169.20.0/24}}}\n";

/// With what is removed everything of it goes: nothing is remembered.
#[test]
fn nothing_is_left_of_what_is_removed() {
    let before = rendered(BASE);
    let (frr, topology) = rendered(&format!("{BASE}{LAYER2}{PASSTHROUGH}"));
    assert!(frr.contains("network 192.171.24.0/24") && frr.contains("neighbor 192.169.20.3 remote-as 64515"));
    for name in ["pe-e-110", "br-hs-110", "vm1", "pt-ns", "host-e-120"] {
        assert!(topology.to_string().contains(name), "{name}");
        assert!(!before.1.to_string().contains(name), "{name}");
    }
    assert!(!before.0.contains("192.171.24") && !before.0.contains("192.169.20"));
    // The passthrough's hostSession.asn does not count: the default VRF has the underlay's.
    assert!(!frr.contains("64999"), "{frr}");
}

/// Parts of `value` by name: ports and L2VNIs.
fn parts(value: &Value) -> Vec<(String, Value)> {
    let named = |list: &Value, key: &str| -> Vec<(String, Value)> {
        let list = list.as_array().cloned().unwrap_or_default();
        list.into_iter().map(|item| (format!("{key} {}", item[key]), item)).collect()
    };
    let mut parts = named(&value["ports"], "name");
    parts.extend(named(&value["l2vnis"], "vni"));
    parts.extend(named(&value["l3vnis"], "vni"));
    parts
}

fn changed(from: &str, to: &str) -> (Vec<String>, bool) {
    let text = format!("{BASE}{LAYER2}{PASSTHROUGH}");
    assert!(text.contains(from), "{from}");
    let (frr, topology) = rendered(&text);
    let (new_frr, new_topology) = rendered(&text.replace(from, to));
    let old = parts(&topology);
    let new = parts(&new_topology);
    let changed = new.iter().filter(|part| !old.contains(part)).map(|(name, _)| name.clone()).collect();
    (changed, frr != new_frr)
}

/// What changes in one object changes its own part of the topology, and no other.
#[test]
fn a_change_touches_only_its_object() {
    let vni = |number: u32| format!("vni {number}");
    let port = |name: &str| format!("name \"{name}\"");
    for (from, to, parts, frr) in [
        ("192.171.24.1/24", "192.171.24.254/24", vec![vni(110)], false),
        ("192.171.24.1/24", "192.171.30.1/24", vec![vni(110)], true),
        (
            "linuxBridge: {lifecycle: Managed}",
            "linuxBridge: {lifecycle: External, name: br0}",
            vec![port("pe-e-110")],
            false,
        ),
        (
            "  hostMaster: {type: LinuxBridge, linuxBridge: {lifecycle: Managed}}\n",
            "",
            vec![port("pe-e-110")],
            false,
        ),
        ("/run/vm1.sock", "/run/vm2.sock", vec![port("vm1")], false),
        ("vni: 120", "vni: 120, agingSeconds: 60", vec![vni(120)], false),
        ("vni: 120", "vni: 121", vec![port("pe-e-121"), vni(121)], false),
        ("ipv4: 192.169.20.0/24", "ipv4: 192.169.21.0/24", vec![port("pt-ns")], true),
    ] {
        assert_eq!(changed(from, to), (parts, frr), "{from} -> {to}");
    }
}

const IPV6: &str = "
l2vnis:
- {name: six, vni: 110, underlayAddressFamily: IPv6}
- {name: four, vni: 111}
- {name: routed, vni: 112, routingDomain: {type: L3VNI, l3vni: {name: red6}}, gatewayIPs: [10.0.0.1/24]}
";

const RED6: &str = "- {name: red6, vrf: red6, vni: 106, underlayAddressFamily: IPv6}\n";

/// An FRR that carries no IPv6 VTEPs is told from the version; everything else is carried out.
#[test]
fn an_old_frr_gets_no_ipv6_vtep() {
    let text = format!("{BASE}{RED6}{IPV6}");
    let old: FrrVersion = "8.4.4".parse().unwrap();
    let plan = plan_with(&text, Some(&old));
    let pe = plan.pe.as_ref().unwrap();
    assert_eq!(pe.vnis.iter().map(|vni| vni.vni).collect::<Vec<_>>(), [100]);
    assert_eq!(pe.bridges.iter().map(|bridge| bridge.vni).collect::<Vec<_>>(), [111]);
    assert!(!plan.needs_frr_version);
    let failed: Vec<_> =
        plan.failures.iter().map(|failure| (failure.object.name.as_str(), failure.reason)).collect();
    assert_eq!(
        failed,
        [
            ("red6", Reason::NotSupported),
            // Its own VTEP is an IPv4 one, but nothing routes for it.
            ("routed", Reason::DependencyFailed),
            ("six", Reason::NotSupported),
        ]
    );
    let said = plan.failures[0].to_string();
    assert!(
        said.contains("L3VNI red6") && said.contains("needs FRR 10.7") && said.contains("FRR 8.4.4"),
        "{said}"
    );
    // The addresses of the underlay are no matter of EVPN.
    assert!(frr_config(pe).text.contains("network fd00:64::1/128"));

    let plan = plan_with(&text, Some(&FrrVersion::newest()));
    assert_eq!(plan.failures, []);
    let pe = plan.pe.unwrap();
    assert_eq!((pe.vnis.len(), pe.bridges.len()), (2, 3));
}

/// Before FRR's version is known nobody can tell whether an IPv6 VTEP is possible; without one it does not matter.
#[test]
fn an_unknown_version_is_waited_for_only_where_it_matters() {
    assert!(plan_with(&format!("{BASE}{RED6}"), None).needs_frr_version);
    assert!(plan_with(&format!("{BASE}{IPV6}").replace("red6", "red"), None).needs_frr_version);
    let plan = plan_with(&format!("{BASE}{LAYER2}{PASSTHROUGH}"), None);
    assert_eq!((plan.failures, plan.needs_frr_version), (vec![], false));
}

/// What the dataplane says of its own objects is said of the operator's.
#[test]
fn the_dataplanes_objects_have_owners() {
    let plan = plan_with(&format!("{BASE}{LAYER2}{PASSTHROUGH}"), Some(&FrrVersion::newest()));
    let pe = plan.pe.unwrap();
    let owner = |kind: &str, name: &str| owner(&pe, kind, name).map(ToString::to_string).unwrap_or_default();
    for (kind, name, object) in [
        ("port", "pe-e-100", "L3VNI red"),
        ("vrf", "red", "L3VNI red"),
        ("vni", "100", "L3VNI red"),
        ("port", "pe-e-110", "L2VNI layer2"),
        ("port", "vm1", "L2VNI layer2"),
        ("l2vni", "120", "L2VNI other"),
        ("port", "pt-ns", "L3Passthrough bgppassthrough"),
        ("l2vni", "100", ""),
        ("vni", "110", ""),
        ("port", "toswitch1", ""),
        ("vtep", "100.65.0.1", ""),
    ] {
        assert_eq!(owner(kind, name), object, "{kind} {name}");
    }
}

/// Words of files that are in order, and some that are not.
fn words() -> impl Strategy<Value = String> {
    const ODD: &str =
        "0 -1 4294967295 16777215 255.255.255.255/32 0.0.0.0/0 ::/0 ffff::/128 [] {} ~ 'x y' 10.0.0.1/31";
    let texts = [BASE, LAYER2, PASSTHROUGH, IPV6, RED6, ODD];
    let words: Vec<String> =
        texts.iter().flat_map(|text| text.split([' ', '\n'])).map(str::to_owned).collect();
    proptest::sample::select(words)
}

proptest! {
    /// Whatever words are changed in a file, the rest of it is planned.
    #[test]
    fn any_change_of_a_file_is_planned(
        changes in prop::collection::vec((any::<prop::sample::Index>(), words()), 0..6),
        index in 0u32..300,
    ) {
        let text = format!("{BASE}{RED6}{LAYER2}{}{PASSTHROUGH}", IPV6.replace("l2vnis:", ""));
        let mut parts: Vec<String> = text.split_inclusive([' ', '\n']).map(str::to_owned).collect();
        for (at, word) in changes {
            let part = at.get(&parts).clone();
            let at = at.index(parts.len());
            let kept = part.trim_start_matches(|c: char| !matches!(c, ' ' | '\n' | ',' | '}' | ']'));
            parts[at] = format!("{word}{kept}");
        }
        let Ok(loaded) = objects(Path::new("openpe_test.yaml"), &parts.concat()) else { return Ok(()) };
        let node = format!("nodeIndex: {{index: {index}}}");
        let node = node_config(Path::new("node-config.yaml"), &node).unwrap();
        for version in [None, Some(FrrVersion::newest()), Some("8.4".parse().unwrap())] {
            let machine = Machine { name: "worker-1", interfaces: &NoInterfaces, frr: version.as_ref() };
            let plan = plan(loaded.objects.clone(), &node, machine, &InForce::default());
            let Some(pe) = &plan.pe else { continue };
            let topology = plan.topology().unwrap();
            // What is in the topology is valid for the dataplane: VNIs and ports are each there once.
            let vnis: Vec<u32> = topology
                .l3vnis
                .iter()
                .map(|vni| vni.vni)
                .chain(topology.l2vnis.iter().map(|vni| vni.vni))
                .collect();
            let ports: Vec<&str> = topology.ports.iter().map(|port| port.name.as_str()).collect();
            prop_assert_eq!(vnis.iter().collect::<BTreeSet<_>>().len(), vnis.len());
            prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
            for bridge in &topology.l2vnis {
                prop_assert!(bridge.vrf.is_empty() || topology.vrfs.iter().any(|vrf| vrf.name == bridge.vrf));
            }
            let _ = (frr_config(pe), readable(&topology));
        }
    }
}
