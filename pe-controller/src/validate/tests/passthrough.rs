use super::*;

const PASSTHROUGH: &str = "bgppassthrough: {hostSession: {asn: 64514, hostASN: 64515, localCIDR: {ipv4: 192.169.20.0/24, \
     ipv6: '2001:db8:20::/64'}}}\n";

fn with_passthrough(from: &str, to: &str) -> String {
    assert!(PASSTHROUGH.contains(from), "{from}");
    format!("{UNDERLAY}{}", PASSTHROUGH.replace(from, to))
}

#[test]
fn fields() {
    refused(&[
        (with_passthrough(", hostASN: 64515", ""), "hostSession.hostASN", "exactly one"),
        (
            with_passthrough("hostASN: 64515", "hostASN: 64515, hostType: Internal"),
            "hostSession.hostType",
            "exactly one",
        ),
        (
            with_passthrough("ipv4: 192.169.20.0/24, ipv6: '2001:db8:20::/64'", ""),
            "hostSession.localCIDR",
            "set ipv4, ipv6 or both",
        ),
        (
            with_passthrough("hostASN: 64515", "hostASN: 64515, netns: x"),
            "hostSession.netns",
            "absolute path",
        ),
        (
            with_passthrough("hostSession:", "nodeSelector: {matchLabels: {a: b}}, hostSession:"),
            "nodeSelector",
            "leave it out",
        ),
        (with_passthrough("hostSession:", "vrf: red, hostSession:"), "vrf", "unknown field"),
        (PASSTHROUGH.to_owned(), "", "there is no underlay"),
        (
            with_passthrough("h", "h").replace("asn: 64514\n", "asn: 64514\n  srv6: {}\n"),
            "",
            "the underlay it needs failed",
        ),
    ]);
    // Unlike in a VRF, the API lets the host have the router's ASN: the session is internal then.
    assert_eq!(said(&with_passthrough("hostASN: 64515", "hostASN: 64514")), [""; 0]);
    // No VTEP is needed: nothing is encapsulated.
    let no_vtep = with_passthrough("h", "h").replace("  tunnelEndpoint: {cidrs: [100.65.0.0/24]}\n", "");
    assert_eq!(said(&no_vtep), [""; 0]);
}

#[test]
fn a_node_has_at_most_one() {
    let one = files::objects(Path::new("a.yaml"), &with_passthrough("h", "h")).unwrap().objects;
    let mut two = one.clone();
    two.append(files::objects(Path::new("b.yaml"), PASSTHROUGH).unwrap().objects);
    assert!(objects(one, &InForce::default()).passthrough.is_some());
    let valid = objects(two, &InForce::default());
    assert_eq!((valid.passthrough, valid.failures.len()), (None, 2));
    assert!(valid.underlay.is_some());
    assert!(valid.failures[0].message.contains("at most one passthrough, here are 2"));
}

/// Links do not overlap across L3VNIs and the passthrough, whatever their VRFs: the one in force stays, else the L3VNI.
#[test]
fn its_link_overlaps_no_other() {
    for (from, to, field) in [
        ("192.169.20.0/24", "192.169.0.0/16", "hostSession.localCIDR.ipv4"),
        ("2001:db8:20::/64", "2001:db8:1::40/122", "hostSession.localCIDR.ipv6"),
    ] {
        let text = format!("{}l3vnis:\n{RED}", with_passthrough(from, to));
        let loaded = files::objects(Path::new("t.yaml"), &text).unwrap().objects;

        let valid = objects(loaded.clone(), &InForce::default());
        assert_eq!((valid.l3vnis.len(), valid.passthrough.is_some()), (1, false));
        let [failure] = valid.failures.as_slice() else { panic!("{:?}", valid.failures) };
        assert_eq!((failure.object.kind, failure.field.as_str()), (crate::model::Kind::L3Passthrough, field));
        assert!(failure.message.contains("of L3VNI red"), "{failure}");

        let valid = objects(loaded, &InForce { passthrough: true, ..InForce::default() });
        assert_eq!((valid.l3vnis.len(), valid.passthrough.is_some()), (0, true));
        assert_eq!(valid.failures[0].field, field);
        assert!(
            valid.failures[0].message.contains("of L3Passthrough bgppassthrough"),
            "{:?}",
            valid.failures
        );
    }
    let both = format!("{}l3vnis:\n{RED}", with_passthrough("h", "h"));
    assert_eq!(said(&both), [""; 0]);
}
