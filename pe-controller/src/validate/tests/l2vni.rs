use super::*;

/// An underlay, VRF red, and a bridge domain in it, to which a case changes one thing.
const LAYER2: &str = "- {name: layer2, vni: 110, routingDomain: {type: L3VNI, l3vni: {name: red}}, \
                      gatewayIPs: [192.171.24.1/24, 'fd00:10:245:1::1/64'], \
                      hostMaster: {type: LinuxBridge, linuxBridge: {lifecycle: Managed}}, \
                      ports: [{name: vm1, vhostUser: {socketPath: /run/vm1.sock, mode: Server}}]}\n";

fn with_bridges(bridges: &str) -> String {
    format!("{}l2vnis:\n{bridges}", with_vnis(RED))
}

fn layer2(from: &str, to: &str) -> String {
    assert!(LAYER2.contains(from), "{from}");
    with_bridges(&LAYER2.replace(from, to))
}

fn names<T>(objects: &[Object<T>]) -> Vec<&str> {
    objects.iter().map(|object| object.id.name.as_str()).collect()
}

fn reasons(valid: &Valid) -> Vec<(&str, &str, Reason)> {
    valid.failures.iter().map(|f| (f.object.name.as_str(), f.field.as_str(), f.reason)).collect()
}

#[test]
fn a_good_one_has_no_failures() {
    let valid = read(&with_bridges(LAYER2));
    assert_eq!(valid.failures, []);
    let gateways: Vec<_> = valid.l2vnis[0].spec.gateways().map(|gateway| gateway.to_string()).collect();
    assert_eq!(gateways, ["192.171.24.1/24", "fd00:10:245:1::1/64"]);
    assert_eq!(valid.l2vnis[0].spec.vxlan_port, 4789);
}

#[test]
fn fields() {
    refused(&[
        (layer2("vni: 110", "vni: 0"), "vni", "allowed are 1 to 16777215"),
        (layer2("vni: 110, ", ""), "", "missing field `vni`"),
        (layer2("name: layer2, ", ""), "name", "is missing"),
        (layer2("vni: 110", "vni: 110, vxlanPort: 65536"), "vxlanPort", "allowed are 1 to 65535"),
        (layer2("vni: 110", "vni: 110, importRTs: ['1:1']"), "importRTs", "unknown field"),
        (layer2("vni: 110", "vni: 110, nodeSelector: {matchLabels: {a: b}}"), "nodeSelector", "leave it out"),
        (
            layer2("vni: 110", "vni: 110, underlayAddressFamily: IPv6"),
            "underlayAddressFamily",
            "no IPv6 CIDR",
        ),
        (layer2("vni: 110", "vni: 110, agingSeconds: 9"), "agingSeconds", "allowed are 10 to 1000000"),
        (layer2("vni: 110", "vni: 110, agingSeconds: 1000001"), "agingSeconds", "out of range"),
        (layer2("vni: 110", "vni: 110, macLimit: 0"), "macLimit", "allowed are 1 to 1000000"),
        (layer2("vni: 110", "vni: 110, portMacLimit: 0"), "portMacLimit", "allowed are 1 to 1000000"),
        (layer2("vni: 110", "vni: 110, floodRate: 0"), "floodRate", "allowed are 1 to 100000000"),
        (layer2("vni: 110", "vni: 110, netns: tenant"), "netns", "absolute path"),
        (layer2("vni: 110", "vni: 110, learnFromVteps: 1"), "learnFromVteps", "expected a boolean"),
        ("l2vnis: [{name: a, vni: 1}]\n".to_owned(), "", "there is no underlay"),
    ]);
    for good in ["agingSeconds: 10", "agingSeconds: 1000000", "macLimit: 1", "macLimit: 1000000"] {
        assert_eq!(said(&layer2("vni: 110", &format!("vni: 110, {good}"))), [""; 0], "{good}");
    }
}

#[test]
fn routing_domains() {
    let domain = "{type: L3VNI, l3vni: {name: red}}";
    let only_one = "and only that one";
    refused(&[
        (layer2(domain, "{type: L3VNI}"), "routingDomain", only_one),
        (layer2(domain, "{type: L3VPN, l3vni: {name: red}}"), "routingDomain", only_one),
        (layer2(domain, "{type: L3VNI, l3vni: {name: red}, l3vpn: {name: p}}"), "routingDomain", only_one),
        (layer2(domain, "{type: VRF, l3vni: {name: red}}"), "routingDomain.type", "unknown variant `VRF`"),
        (layer2(domain, "{type: L3VNI, l3vni: {name: ''}}"), "routingDomain.l3vni.name", "must not be empty"),
        (layer2(domain, "{type: L3VNI, l3vni: {}}"), "routingDomain.l3vni", "missing field `name`"),
        (layer2(&format!("routingDomain: {domain}, "), ""), "gatewayIPs", "needs routingDomain"),
    ]);
    let valid = read(&layer2("{name: red}", "{name: ochre}"));
    assert_eq!(
        reasons(&valid),
        [("layer2", "routingDomain.l3vni.name", Reason::DependencyFailed)],
        "it need not be there when the L2VNI is written, but the L2VNI waits for it"
    );
    assert_eq!(names(&valid.l3vnis), ["red"]);
    let valid = read(&layer2(domain, "{type: L3VPN, l3vpn: {name: p}}"));
    assert_eq!(reasons(&valid), [("layer2", "routingDomain", Reason::NotSupported)]);
    assert!(valid.failures[0].message.contains("L3VPN is not supported by this release"));
}

#[test]
fn gateways() {
    let gateways = |list: &str| layer2("192.171.24.1/24, 'fd00:10:245:1::1/64'", list);
    refused(&[
        (gateways("10.0.0.1"), "gatewayIPs[0]", "invalid"),
        (gateways("10.0.0.1/24, 10.0.1.1/24"), "gatewayIPs[1]", "at most one address per family"),
        (gateways("'fd00::1/64', 'fd01::1/64'"), "gatewayIPs[1]", "at most one address per family"),
        (
            gateways("10.0.0.1/24, 'fd00::1/64', 10.0.1.1/24"),
            "gatewayIPs[2]",
            "at most one address per family",
        ),
        (gateways("10.0.0.0/24"), "gatewayIPs[0]", "network address"),
        (gateways("10.0.0.255/24"), "gatewayIPs[0]", "broadcast address"),
        (gateways("224.0.0.1/24"), "gatewayIPs[0]", "multicast"),
        (gateways("'::1/64'"), "gatewayIPs[0]", "loopback"),
        (gateways("'fe80::1/64'"), "gatewayIPs[0]", "link-local"),
    ]);
    for good in ["", "10.0.0.0/31", "10.0.0.255/32", "'fd00::/64'", "'fd00::1/128', 10.0.0.1/8"] {
        assert_eq!(said(&gateways(good)), [""; 0], "{good}");
    }
}

#[test]
fn host_masters() {
    let master = "{type: LinuxBridge, linuxBridge: {lifecycle: Managed}}";
    let linux = |bridge: &str| layer2("{lifecycle: Managed}", bridge);
    refused(&[
        (layer2(master, "{type: LinuxBridge}"), "hostMaster", "and only that one"),
        (
            layer2(master, "{type: OVSBridge, linuxBridge: {lifecycle: Managed}}"),
            "hostMaster",
            "and only that one",
        ),
        (layer2(master, "{type: OVS}"), "hostMaster.type", "unknown variant `OVS`"),
        (linux("{lifecycle: Managed, name: br0}"), "hostMaster.linuxBridge.name", "if and only if"),
        (linux("{lifecycle: External}"), "hostMaster.linuxBridge.name", "if and only if"),
        (linux("{lifecycle: Shared}"), "hostMaster.linuxBridge.lifecycle", "unknown variant `Shared`"),
        (linux("{lifecycle: External, name: br.0}"), "hostMaster.linuxBridge.name", "no bridge name"),
        (
            linux("{lifecycle: External, name: a-name-too-long-for-linux}"),
            "hostMaster.linuxBridge.name",
            "1 to 15 characters",
        ),
        (
            linux("{lifecycle: External, name: br-hs-7}"),
            "hostMaster.linuxBridge.name",
            "the router itself uses",
        ),
        (
            layer2(master, "{type: OVSBridge, ovsBridge: {lifecycle: External}}"),
            "hostMaster.ovsBridge.name",
            "if and only if",
        ),
    ]);
    for good in [
        "{type: OVSBridge, ovsBridge: {lifecycle: Managed}}",
        "{type: OVSBridge, ovsBridge: {lifecycle: External, name: br-int}}",
        "{type: LinuxBridge, linuxBridge: {lifecycle: External, name: br0}}",
    ] {
        assert_eq!(said(&layer2(master, good)), [""; 0], "{good}");
    }
}

#[test]
fn ports() {
    let vm1 = "{name: vm1, vhostUser: {socketPath: /run/vm1.sock, mode: Server}}";
    let memif = |name: &str, socket: &str, id: &str, role: &str| {
        format!("{{name: {name}, memif: {{socketPath: {socket}, id: {id}, role: {role}}}}}")
    };
    let and = |second: &str| layer2(vm1, &format!("{vm1}, {second}"));
    let m = memif("mem1", "/run/m.sock", "0", "Client");
    refused(&[
        (layer2("vm1,", "vm1-with-a-long-name,"), "ports[0].name", "1 to 15 characters"),
        (layer2("vm1,", "pe-e-7,"), "ports[0].name", "the router itself uses"),
        (layer2("vm1,", "toswitch1,"), "ports[0].name", "name of an underlay interface"),
        (layer2("vm1,", "red,"), "ports[0].name", "name of the VRF of L3VNI red"),
        (layer2(vm1, "{name: vm1}"), "ports[0]", "exactly one of vhostUser and memif"),
        (
            layer2(vm1, &vm1.replace("}}", &format!("}}, {}", &m["{name: mem1, ".len()..]))),
            "ports[0]",
            "exactly one of vhostUser and memif",
        ),
        (layer2("/run/vm1.sock", "vm1.sock"), "ports[0].vhostUser.socketPath", "absolute path"),
        (layer2("mode: Server", "mode: Both"), "ports[0].vhostUser.mode", "unknown variant `Both`"),
        (layer2(", mode: Server", ""), "ports[0].vhostUser", "missing field `mode`"),
        (and(vm1), "ports[1].name", "vm1 is the name of an earlier port too"),
        (
            and(&vm1.replace("name: vm1", "name: vm2")),
            "ports[1].vhostUser.socketPath",
            "is the socket of an earlier port too",
        ),
        (
            and(&memif("mem1", "/run/vm1.sock", "0", "Server")),
            "ports[1].memif.socketPath",
            "is the socket of an earlier port",
        ),
        (and(&memif("mem1", "/run/m.sock", "-1", "Server")), "ports[1].memif.id", "-1 is out of range"),
        (
            and(&format!("{m}, {}", m.replace("mem1", "mem2"))),
            "ports[2].memif.id",
            "interface 0 of /run/m.sock is an earlier port too",
        ),
        (
            and(&format!("{m}, {}", memif("mem2", "/run/m.sock", "1", "Server"))),
            "ports[2].memif.role",
            "made by us or by the other side",
        ),
        (
            and(&m.replace("role", "secret: '1234567890123456789012345', role")),
            "ports[1].memif.secret",
            "1 to 24 characters",
        ),
    ]);
    assert_eq!(said(&and(&format!("{m}, {}", memif("mem2", "/run/m.sock", "1", "Client")))), [""; 0]);
    // A secret is not repeated, whatever is wrong with it.
    let text = and(&m.replace("role", "secret: 's3 cret', role"));
    assert!(said(&text)[0].contains("secret") && !said(&text)[0].contains("s3 cret"), "{:?}", said(&text));
}

#[test]
fn among_each_other() {
    let two = |second: &str| with_bridges(&format!("{LAYER2}{second}"));
    for (second, field, message) in [
        ("- {name: alpha, vni: 110}\n", "vni", "110 is used by L2VNI alpha already"),
        (
            "- {name: alpha, vni: 111, ports: [{name: vm1, vhostUser: {socketPath: /run/x, mode: Client}}]}\n",
            "ports[0].name",
            "vm1 is the name of port vm1 of L2VNI alpha too",
        ),
        (
            "- {name: alpha, vni: 111, ports: [{name: vm0, memif: {socketPath: /run/vm1.sock, id: 0, role: Server}}]}\n",
            "ports[0].vhostUser.socketPath",
            "is the socket of port vm0 of L2VNI alpha too",
        ),
    ] {
        let valid = read(&two(second));
        // The one that comes first by name stays, wherever it stands.
        assert_eq!(names(&valid.l2vnis), ["alpha"]);
        assert_eq!(reasons(&valid), [("layer2", field, Reason::ValidationFailed)]);
        assert!(valid.failures[0].message.contains(message), "{}", valid.failures[0]);
        assert_eq!(names(&valid.l3vnis), ["red"]);
    }
    refused(&[(two(LAYER2), "name", "name of an earlier object too")]);
}

#[test]
fn an_l3vni_keeps_its_vni() {
    let valid = read(&with_bridges("- {name: alpha, vni: 100}\n- {name: beta, vni: 111}\n"));
    assert_eq!((names(&valid.l3vnis), names(&valid.l2vnis)), (vec!["red"], vec!["beta"]));
    assert_eq!(reasons(&valid), [("alpha", "vni", Reason::ValidationFailed)]);
    assert!(valid.failures[0].message.contains("100 is used by L3VNI red already"));
}

#[test]
fn what_is_in_force_stays_in_force() {
    let text = with_bridges(&format!("- {{name: alpha, vni: 110}}\n{LAYER2}"));
    let loaded = files::objects(Path::new("t.yaml"), &text).unwrap();
    let in_force = InForce { l2vnis: [("red".to_owned(), 110)].into(), ..InForce::default() };
    let valid = objects(loaded.objects, &in_force);
    assert_eq!(names(&valid.l2vnis), ["layer2"]);
    assert_eq!(reasons(&valid), [("alpha", "vni", Reason::ValidationFailed)]);
}

/// What needs something that failed waits for it; the rest goes on.
#[test]
fn a_failed_l3vni_takes_its_bridges_with_it() {
    let others = "- {name: alone, vni: 120}\n";
    for (from, to) in [
        ("hostASN: 64515", "hostASN: 64514"),
        ("vni: 100", "vni: 100, importRTs: ['65536:65536']"),
        ("vni: 100", "vni: 100, underlayAddressFamily: IPv6"),
    ] {
        let text = with_bridges(&format!("{LAYER2}{others}")).replace(from, to);
        let valid = read(&text);
        assert_eq!((names(&valid.l3vnis), names(&valid.l2vnis)), (vec![], vec!["alone"]), "{to}");
        assert!(
            reasons(&valid).contains(&("layer2", "routingDomain.l3vni.name", Reason::DependencyFailed)),
            "{:?}",
            valid.failures
        );
        assert_eq!(valid.failures.len(), 2, "{:?}", valid.failures);
    }
}

#[test]
fn subnets_of_a_vrf_do_not_overlap() {
    let blue = "- {name: blue, vrf: blue, vni: 200, hostSession: {asn: 1, hostASN: 2, localCIDR: {ipv4: 10.9.0.0/24}}}\n";
    let bridge = |name: &str, vni: u32, domain: &str, gateway: &str| {
        format!(
            "- {{name: {name}, vni: {vni}, routingDomain: {{type: L3VNI, l3vni: {{name: {domain}}}}}, gatewayIPs: [{gateway}]}}\n"
        )
    };
    let text = |bridges: String| format!("{}{blue}l2vnis:\n{bridges}", with_vnis(RED));
    for (gateway, field_of_red) in [
        // Of another bridge domain, and of the link with the host.
        ("192.171.24.129/25", ""),
        ("'fd00:10:245:1:8000::1/66'", ""),
        ("192.169.10.9/30", "hostSession.localCIDR.ipv4"),
        ("'2001:db8::1/32'", "hostSession.localCIDR.ipv6"),
    ] {
        let valid = read(&text(format!(
            "{LAYER2}{}{}{}",
            bridge("other", 111, "red", gateway),
            bridge("third", 112, "red", "10.3.0.1/24"),
            bridge("elsewhere", 113, "blue", gateway),
        )));
        // Everything of that VRF fails, and nothing of another one, where the same subnet is as good as any.
        assert_eq!(
            (names(&valid.l3vnis), names(&valid.l2vnis)),
            (vec!["blue"], vec!["elsewhere"]),
            "{gateway}"
        );
        let failed = reasons(&valid);
        assert_eq!(failed.len(), 4, "{failed:?}");
        assert!(failed.contains(&("red", field_of_red, Reason::ValidationFailed)), "{failed:?}");
        assert!(failed.contains(&("other", "gatewayIPs", Reason::ValidationFailed)), "{failed:?}");
        assert!(failed.contains(&("third", "", Reason::ValidationFailed)), "{failed:?}");
        assert!(valid.failures.iter().all(|failure| failure.message.contains("nothing of VRF red")));
    }
    let apart =
        bridge("other", 111, "red", "192.171.25.1/24") + &bridge("third", 112, "blue", "192.171.24.1/24");
    assert_eq!(said(&text(format!("{LAYER2}{apart}"))), [""; 0]);
}
