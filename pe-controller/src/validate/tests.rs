mod l2vni;
mod passthrough;

use std::path::Path;

use super::*;
use crate::files;

/// A well-formed underlay, to which a case changes one thing.
const UNDERLAY: &str = "
underlays:
- asn: 64514
  tunnelEndpoint: {cidrs: [100.65.0.0/24]}
  interfaces:
  - {type: NetworkDevice, networkDevice: {interfaceName: toswitch1}}
  neighbors:
  - {asn: 64512, address: 192.168.11.2}
";

fn read(text: &str) -> Valid {
    let loaded = files::objects(Path::new("t.yaml"), text).unwrap();
    let mut valid = objects(loaded.objects, &InForce::default());
    valid.failures.splice(0..0, loaded.failures);
    valid
}

fn said(text: &str) -> Vec<String> {
    read(text).failures.iter().map(ToString::to_string).collect()
}

/// Every case must be refused with one failure, whose field and message contain what is given.
fn refused(cases: &[(String, &str, &str)]) {
    for (text, field, message) in cases {
        let valid = read(text);
        let found =
            valid.failures.iter().any(|failure| failure.field == *field && failure.message.contains(message));
        assert!(found, "{text}\nexpected {field:?}: {message:?}, found {:#?}", valid.failures);
    }
}

fn underlay(from: &str, to: &str) -> String {
    assert!(UNDERLAY.contains(from), "{from}");
    UNDERLAY.replace(from, to)
}

fn neighbor(fields: &str) -> String {
    underlay("{asn: 64512, address: 192.168.11.2}", &format!("{{{fields}}}"))
}

fn with_vnis(vnis: &str) -> String {
    format!("{UNDERLAY}l3vnis:\n{vnis}")
}

const RED: &str = "- {name: red, vrf: red, vni: 100, hostSession: {asn: 64514, hostASN: 64515, \
                   localCIDR: {ipv4: 192.169.10.0/24, ipv6: '2001:db8:1::/64'}}}\n";

#[test]
fn a_good_configuration_has_no_failures() {
    let valid = read(&with_vnis(RED));
    assert_eq!(valid.failures, []);
    assert_eq!(valid.l3vnis.len(), 1);
    assert_eq!(valid.underlay.unwrap().spec.neighbors.len(), 1);
}

#[test]
fn underlay_fields() {
    refused(&[
        (underlay("asn: 64514", "asn: 0"), "asn", "0 is out of range: allowed are 1 to 4294967295"),
        (underlay("asn: 64514", "asn: 4294967296"), "asn", "out of range"),
        (underlay("asn: 64514", "as: 64514"), "as", "unknown field `as`"),
        (underlay("- asn: 64514\n ", "-"), "", "missing field `asn`"),
        (underlay("asn: 64514", "asn: 1\n  routerIDCIDR: fd00::/64"), "routerIDCIDR", "invalid"),
        (
            underlay("asn: 64514", "asn: 1\n  nodeSelector: {matchLabels: {a: b}}"),
            "nodeSelector",
            "leave it out",
        ),
        (
            underlay("  - {asn: 64512, address: 192.168.11.2}", "    []"),
            "neighbors",
            "1 to 128 neighbors, has 0",
        ),
        (underlay("[100.65.0.0/24]", "[]"), "tunnelEndpoint.cidrs", "one or two"),
        (underlay("100.65.0.0/24", "100.65.0.0/33"), "tunnelEndpoint.cidrs[0]", "invalid"),
        (
            underlay("100.65.0.0/24", "100.65.0.0/24, 100.66.0.0/24"),
            "tunnelEndpoint.cidrs[1]",
            "one CIDR per family",
        ),
        (
            underlay("100.65.0.0/24", "'fd00::/64', 'fd01::/64'"),
            "tunnelEndpoint.cidrs[1]",
            "one CIDR per family",
        ),
        (
            underlay("asn: 64514", "asn: 1\n  gracefulRestart: {restartTimeSeconds: 4096}"),
            "gracefulRestart.restartTimeSeconds",
            "allowed are 1 to 4095",
        ),
        (
            underlay("asn: 64514", "asn: 1\n  routeReflector: {clusterID: 10.0.0.9}"),
            "routeReflector.clusterID",
            "inside routerIDCIDR",
        ),
        (
            underlay("asn: 64514", "asn: 1\n  routerIDCIDR: 192.0.2.0/24\n  routeReflector: {}"),
            "routeReflector.clusterID",
            "inside routerIDCIDR",
        ),
        (underlay("asn: 64514", "asn: 1\n  srv6: {}"), "srv6", "needs isis"),
        (underlay("asn: 64514", "asn: 1\n  srv6: {}\n  isis: {}"), "srv6", "needs an IPv6 CIDR"),
        (underlay("asn: 64514", "asn: 1\n  isis: {baseNet: x}"), "isis", "not supported by this release"),
        (
            format!("{UNDERLAY}{}", UNDERLAY.replace("underlays:\n", "")),
            "",
            "at most one underlay, here are 2",
        ),
    ]);
}

#[test]
fn underlay_interfaces() {
    let device = "{type: NetworkDevice, networkDevice: {interfaceName: toswitch1}}";
    let pci = |name: &str| {
        format!("{{type: PCIDevice, pciDevice: {{address: '0000:3b:02.1', interfaceName: {name}}}}}")
    };
    let cni = "{type: CNIDevice, cniDevice: {type: RawConfig, rawConfig: {}}}";
    let two = |a: &str, b: &str| underlay(device, &format!("{a}\n  - {b}"));
    refused(&[
        (underlay(&format!("  - {device}"), "    []"), "interfaces", "at least one"),
        (underlay(device, "{type: NetworkDevice}"), "interfaces[0].type", "belongs to the type"),
        (underlay("type: NetworkDevice", "type: PCIDevice"), "interfaces[0].type", "belongs to the type"),
        (underlay("type: NetworkDevice", "type: Netdev"), "interfaces[0].type", "unknown variant `Netdev`"),
        (
            underlay("toswitch1", "a-name-too-long-for-linux"),
            "interfaces[0].networkDevice.interfaceName",
            "1 to 15 characters",
        ),
        (underlay("toswitch1", "lo"), "interfaces[0]", "the router itself uses"),
        (underlay("toswitch1", "pe-e-100"), "interfaces[0]", "the router itself uses"),
        (two(device, device), "interfaces[1]", "listed twice"),
        (two(&pci("up1"), &pci("up2")), "interfaces[1].pciDevice.address", "listed twice"),
        (two(device, cni), "interfaces", "cannot be mixed"),
        (underlay(device, cni), "interfaces[0]", "not supported by this release"),
        (
            underlay(device, "{type: CNIDevice, cniDevice: {type: RawConfig}}"),
            "interfaces[0].cniDevice",
            "rawConfig set",
        ),
        (
            underlay(device, &pci("up1").replace("02.1", "02.9")),
            "interfaces[0].pciDevice.address",
            "no PCI address",
        ),
    ]);
    assert_eq!(said(&two(device, &pci("up1"))), [""; 0]);
    // Without any interface that can be made there is no underlay.
    assert!(read(&underlay(device, cni)).underlay_failed);
}

#[test]
fn neighbor_fields() {
    let at = |field: &str| {
        if field.is_empty() { "neighbors[0]".to_owned() } else { format!("neighbors[0].{field}") }
    };
    for (fields, field, message) in [
        ("address: 10.0.0.1", "asn", "exactly one of asn and type"),
        ("address: 10.0.0.1, asn: 1, type: External", "type", "exactly one of asn and type"),
        ("asn: 1", "", "exactly one of address, interface and listenRange"),
        ("asn: 1, address: 10.0.0.1, interface: eth0", "", "exactly one of address"),
        ("asn: 1, address: 10.0.0.1, listenRange: 10.0.0.0/24", "", "exactly one of address"),
        ("asn: 1, interface: eth0, listenRange: 10.0.0.0/24", "", "exactly one of address"),
        ("asn: 1, address: 10.0.0.300", "address", "invalid IP address"),
        ("asn: 1, interface: e/0", "interface", "no interface name"),
        ("asn: 1, listenRange: 10.0.0.0", "listenRange", "invalid"),
        ("asn: 1, listenRange: 'fe80::/64'", "listenRange", "link-local"),
        ("asn: 1, address: 10.0.0.1, port: 16385", "port", "allowed are 0 to 16384"),
        ("asn: 1, address: 10.0.0.1, password: 'a b'", "password", "blanks"),
        ("asn: 1, address: 10.0.0.1, passwordSecret: x", "passwordSecret", "use password"),
        ("asn: 1, address: 10.0.0.1, holdTimeSeconds: 9", "holdTimeSeconds", "or neither"),
        ("asn: 1, address: 10.0.0.1, keepaliveTimeSeconds: 9", "holdTimeSeconds", "or neither"),
        (
            "asn: 1, address: 10.0.0.1, holdTimeSeconds: 2, keepaliveTimeSeconds: 1",
            "holdTimeSeconds",
            "at least 3",
        ),
        (
            "asn: 1, address: 10.0.0.1, holdTimeSeconds: 9, keepaliveTimeSeconds: 10",
            "keepaliveTimeSeconds",
            "larger",
        ),
        ("asn: 1, address: 10.0.0.1, connectTimeSeconds: 0", "connectTimeSeconds", "allowed are 1 to 65535"),
        (
            "asn: 1, address: 10.0.0.1, bfd: {receiveInterval: 9}",
            "bfd.receiveInterval",
            "allowed are 10 to 60000",
        ),
        (
            "asn: 1, address: 10.0.0.1, bfd: {detectMultiplier: 1}",
            "bfd.detectMultiplier",
            "allowed are 2 to 255",
        ),
        ("asn: 1, address: 10.0.0.1, bfd: {minimumTTL: 255}", "bfd.minimumTTL", "allowed are 1 to 254"),
        ("asn: 1, address: 10.0.0.1, bfd: {sessionMode: Lazy}", "bfd.sessionMode", "unknown variant"),
        (
            "asn: 1, address: 10.0.0.1, properties: [{type: ebgpMultiHop, ebgpMultiHop: {ttl: 256}}]",
            "properties[0].ebgpMultiHop.ttl",
            "allowed are 1 to 255",
        ),
        (
            "asn: 1, address: 10.0.0.1, properties: [{type: ebgpMultiHop}, {type: ebgpMultiHop}]",
            "properties",
            "at most one",
        ),
        (
            "asn: 1, address: 10.0.0.1, addressFamilies: [{type: evpn}, {type: evpn}]",
            "addressFamilies[1].type",
            "listed twice",
        ),
        (
            "asn: 1, address: 'fd00::1', addressFamilies: [{type: evpn}, {type: ipv4vpn}]",
            "addressFamilies",
            "exclude",
        ),
        ("asn: 1, interface: eth0, addressFamilies: [{type: ipv4vpn}]", "addressFamilies", "with interface"),
        (
            "asn: 1, address: 10.0.0.1, addressFamilies: [{type: ipv6vpn}]",
            "addressFamilies",
            "need an IPv6 address",
        ),
        (
            "asn: 1, address: 'fd00::1', addressFamilies: [{type: ipv6vpn}]",
            "addressFamilies",
            "not supported",
        ),
        (
            "asn: 1, address: 10.0.0.1, addressFamilies: [{type: evpn, properties: [{type: routeReflectorClient}]}]",
            "addressFamilies[0].properties",
            "needs type Internal",
        ),
    ] {
        refused(&[(neighbor(fields), &at(field), message)]);
    }
    for good in [
        "type: External, interface: eth0",
        "type: Internal, listenRange: 10.0.0.0/24",
        "asn: 1, address: 10.0.0.1, holdTimeSeconds: 0, keepaliveTimeSeconds: 0",
        "asn: 1, address: 10.0.0.1, port: 0, password: s3cret, bfd: {}",
        "type: Internal, address: 'fd00::1', addressFamilies: [{type: evpn, properties: [{type: routeReflectorClient}]}]",
    ] {
        assert_eq!(said(&neighbor(good)), [""; 0], "{good}");
    }
}

#[test]
fn neighbors_among_each_other() {
    let two = |a: &str, b: &str| neighbor(&format!("type: External, {a}}}\n  - {{type: External, {b}"));
    refused(&[
        (
            two("address: 10.0.0.1", "address: 10.0.0.1"),
            "neighbors[1].address",
            "same as that of neighbors[0]",
        ),
        // The same address, written in two ways.
        (two("address: 'fd00::1'", "address: 'FD00:0::1'"), "neighbors[1].address", "same as"),
        (two("interface: eth0", "interface: eth0"), "neighbors[1].interface", "same as"),
        (two("listenRange: 10.0.0.0/16", "listenRange: 10.0.9.0/24"), "neighbors[1].listenRange", "overlaps"),
        (two("listenRange: 10.0.9.0/24", "listenRange: 10.0.0.0/16"), "neighbors[1].listenRange", "overlaps"),
    ]);
    assert_eq!(said(&two("listenRange: 10.0.0.0/24", "listenRange: 10.0.1.0/24")), [""; 0]);
    assert_eq!(said(&two("address: 10.0.0.1", "listenRange: 10.0.0.0/24")), [""; 0]);
    let many: String = (0..129).map(|n| format!("\n  - {{type: External, address: 10.0.1.{n}}}")).collect();
    refused(&[(underlay("\n  - {asn: 64512, address: 192.168.11.2}", &many), "neighbors", "has 129")]);
}

#[test]
fn l3vni_fields() {
    let red = |from: &str, to: &str| {
        assert!(RED.contains(from), "{from}");
        with_vnis(&RED.replace(from, to))
    };
    let targets = |count: u32| {
        format!("vni: 100, exportRTs: [{}]", (0..count).map(|n| format!("'1:{n}',")).collect::<String>())
    };
    refused(&[
        (red("vni: 100", "vni: 0"), "vni", "allowed are 1 to 16777215"),
        (red("vni: 100", "vni: 16777216"), "vni", "out of range"),
        (red("vni: 100", "vni: red"), "vni", "expected a whole number"),
        (red("vni: 100, ", ""), "", "missing field `vni`"),
        (red("vni: 100", "vni: 100, vlan: 5"), "vlan", "unknown field `vlan`"),
        (red("name: red, ", ""), "name", "is missing"),
        (red("name: red", "name: 7"), "name", "expected text"),
        (red("vrf: red", "vrf: red.one"), "vrf", "no VRF name"),
        (red("vrf: red", "vrf: a-name-that-is-too-long"), "vrf", "1 to 15 characters"),
        (red("vrf: red", "vrf: default"), "vrf", "the router itself uses"),
        (red("vrf: red", "vrf: vni7"), "vrf", "the router itself uses"),
        (red("vrf: red", "vrf: pt-ns"), "vrf", "the router itself uses"),
        (red("vrf: red", "vrf: toswitch1"), "vrf", "name of an underlay interface"),
        (red("vni: 100", "vni: 100, vxlanPort: 0"), "vxlanPort", "allowed are 1 to 65535"),
        (red("vni: 100", "vni: 100, importRTs: ['65536:65536']"), "importRTs[0]", "no route target"),
        (red("vni: 100", &targets(101)), "exportRTs", "at most 100"),
        (red("vni: 100", "vni: 100, nodeSelector: {matchExpressions: [{}]}"), "nodeSelector", "leave it out"),
        (red("hostASN: 64515", "hostASN: 64514"), "hostSession.hostASN", "64514 is asn too"),
        (red(", hostASN: 64515", ""), "hostSession.hostASN", "exactly one"),
        (red("hostASN: 64515", "hostASN: 64515, hostType: External"), "hostSession.hostType", "exactly one"),
        (
            red("ipv4: 192.169.10.0/24, ipv6: '2001:db8:1::/64'", ""),
            "hostSession.localCIDR",
            "set ipv4, ipv6 or both",
        ),
        (red("192.169.10.0/24", "'2001:db8::/64'"), "hostSession.localCIDR.ipv4", "invalid"),
        (red("hostASN: 64515", "hostASN: 64515, netns: red"), "hostSession.netns", "absolute path"),
        (
            red("vni: 100", "vni: 100, underlayAddressFamily: IPv6"),
            "underlayAddressFamily",
            "has no IPv6 CIDR",
        ),
        (
            red("vni: 100", "vni: 100, underlayAddressFamily: IPv5"),
            "underlayAddressFamily",
            "unknown variant",
        ),
        (RED.replacen("- ", "l3vnis:\n- ", 1), "", "there is no underlay"),
        (
            with_vnis(RED).replace("asn: 64514\n", "asn: 64514\n  srv6: {}\n"),
            "",
            "the underlay it needs failed",
        ),
        (
            with_vnis(RED).replace("  tunnelEndpoint: {cidrs: [100.65.0.0/24]}\n", ""),
            "underlayAddressFamily",
            "no tunnelEndpoint.cidrs",
        ),
    ]);
    assert_eq!(said(&red("vni: 100", &targets(100))), [""; 0]);
}

#[test]
fn l3vnis_among_each_other() {
    let blue = |vrf: &str, vni: u32, v4: &str, v6: &str| {
        with_vnis(&format!(
            "- {{name: alpha, vrf: {vrf}, vni: {vni}, hostSession: {{asn: 1, hostASN: 2, localCIDR: {{ipv4: {v4}, ipv6: '{v6}'}}}}}}\n{RED}"
        ))
    };
    for (text, field, message) in [
        (blue("blue", 100, "10.0.0.0/24", "fd00::/64"), "vni", "100 is used by L3VNI alpha already"),
        (blue("red", 200, "10.0.0.0/24", "fd00::/64"), "vrf", "red is used by L3VNI alpha already"),
        (
            blue("blue", 200, "192.169.0.0/16", "fd00::/64"),
            "hostSession.localCIDR.ipv4",
            "overlaps 192.169.0.0/16",
        ),
        (
            blue("blue", 200, "10.0.0.0/24", "2001:db8:1::/120"),
            "hostSession.localCIDR.ipv6",
            "overlaps 2001:db8:1::/120",
        ),
    ] {
        let valid = read(&text);
        // The one that comes first by name stays, wherever it stands.
        let names: Vec<_> = valid.l3vnis.iter().map(|object| object.id.name.as_str()).collect();
        assert_eq!(names, ["alpha"]);
        let [failure] = valid.failures.as_slice() else { panic!("{:?}", valid.failures) };
        assert_eq!((failure.object.name.as_str(), failure.field.as_str()), ("red", field));
        assert!(failure.message.contains(message), "{failure}");
    }
    assert_eq!(said(&blue("blue", 200, "192.169.11.0/24", "2001:db8:2::/64")), [""; 0]);
    refused(&[(with_vnis(&format!("{RED}{RED}")), "name", "name of an earlier object too")]);
}

#[test]
fn what_is_in_force_stays_in_force() {
    let text = with_vnis(&format!("- {{name: alpha, vrf: ochre, vni: 100}}\n{RED}"));
    let loaded = files::objects(Path::new("t.yaml"), &text).unwrap();
    let valid =
        objects(loaded.objects, &InForce { l3vnis: [("red".to_owned(), 100)].into(), ..InForce::default() });
    let names: Vec<_> = valid.l3vnis.iter().map(|object| object.id.name.as_str()).collect();
    assert_eq!(names, ["red"]);
    assert_eq!(
        valid.failures[0].to_string(),
        "t.yaml:10: L3VNI alpha: vni: 100 is used by L3VNI red already"
    );
}

#[test]
fn a_value_that_is_wrong_is_quoted_unless_it_is_secret() {
    let text = with_vnis(&RED.replace("192.169.10.0/24", "192.169.300.0/24"));
    assert!(said(&text)[0].contains("192.169.300.0/24"), "{:?}", said(&text));
    assert!(!said(&neighbor("asn: 1, address: 10.0.0.1, password: 87654321"))[0].contains("87654321"));
}

#[test]
fn one_bad_object_stops_no_other() {
    let good =
        RED.replace("red", "blue").replace("100", "200").replace(".10.", ".11.").replace("db8:1:", "db8:2:");
    let valid = read(&with_vnis(&format!("{}{good}", RED.replace("vni: 100", "vni: x"))));
    assert_eq!(valid.failures.len(), 1);
    assert_eq!(valid.l3vnis.len(), 1);
    assert!(valid.underlay.is_some());
    assert!(
        valid.failures[0].to_string().starts_with("t.yaml:10: L3VNI red: vni: "),
        "{}",
        valid.failures[0]
    );
}

#[test]
fn raw_configuration() {
    let raw = |object: &str| format!("rawfrrconfigs:\n- {object}\n");
    refused(&[
        (raw("{rawConfig: ''}"), "rawConfig", "is empty"),
        (raw("{rawConfig: ' '}"), "rawConfig", "is empty"),
        (raw("{rawConfig: \"a\\0b\"}"), "rawConfig", "control characters"),
        (raw("{priority: -1, rawConfig: x}"), "priority", "-1 is out of range"),
        (raw("{priority: 1}"), "", "missing field `rawConfig`"),
    ]);
    let valid = read(
        "rawfrrconfigs:\n- {name: b, priority: 5, rawConfig: x}\n- {name: c, rawConfig: x}\n- {name: a, priority: 5, rawConfig: x}\n",
    );
    let order: Vec<_> = valid.raw.iter().map(|object| object.id.name.as_str()).collect();
    assert_eq!(order, ["c", "a", "b"]);
}

#[test]
fn kinds_of_later_releases_are_checked_and_named() {
    let text = with_vnis(&format!(
        "{RED}l3vpns:\n- {{name: p, vrf: p, rdAssignedNumber: 1, importRTs: [], \
         hostSession: {{asn: 1, hostASN: 1, localCIDR: {{ipv4: 10.0.0.0/24}}}}}}\n"
    ));
    let valid = read(&text);
    assert_eq!(valid.l3vnis.len(), 1, "the L3VNI is in force all the same");
    let said: Vec<_> =
        valid.failures.iter().map(|f| (f.object.name.as_str(), f.field.as_str(), f.reason)).collect();
    assert_eq!(
        said,
        [("p", "hostSession.hostASN", Reason::ValidationFailed), ("p", "", Reason::NotSupported)]
    );
}

#[test]
fn files_that_are_not_lists_of_objects() {
    let whole = |text: &str| files::objects(Path::new("t.yaml"), text).unwrap_err().to_string();
    assert!(whole("- a\n").contains("t.yaml:1: expected a mapping"));
    assert!(whole("a: [\n").contains("not valid YAML"));
    refused(&[
        ("underlay: []\n".to_owned(), "", "unknown section \"underlay\""),
        ("l3vnis: {name: red}\n".to_owned(), "", "l3vnis: expected a list"),
        ("l3vnis: [5]\n".to_owned(), "", "expected a mapping of fields"),
    ]);
    assert_eq!(said(""), [""; 0]);
    assert_eq!(said("l3vnis:\nunderlays: []\n"), [""; 0]);
}
