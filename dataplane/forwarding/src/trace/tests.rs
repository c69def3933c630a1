use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::parse::PRIMITIVES;
use super::*;

const A: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
const UNDER: PortId = PortId(1);
const BRIDGED: PortId = PortId(2);
const DROPPED: Verdict = Verdict::Drop(Reason::NoRoute);

fn scope() -> Scope {
    Scope {
        ports: BTreeMap::from([("toswitch1".to_owned(), UNDER), ("pe-e-110".to_owned(), BRIDGED)]),
        domains: BTreeMap::from([(BRIDGED, Vni::new(110).unwrap())]),
        udp_ports: vec![4789],
    }
}

fn filter(text: &str) -> Filter {
    Filter::parse(text, &scope()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    Filter::parse(text, &scope()).unwrap_err().to_string()
}

fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(A.octets(), B.octets())
        .ipv4(source, destination, 64)
        .udp(ports.0, ports.1)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn tunnelled(vni: u32, inner: &[u8]) -> Vec<u8> {
    let payload = [&[8, 0, 0, 0], &(vni << 8).to_be_bytes()[..], inner].concat();
    udp([192, 0, 2, 1], [192, 0, 2, 2], (50_000, 4789), &payload)
}

fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let target = u32::from_be_bytes(target);
    crate::headers::arp::request(A, u32::from_be_bytes(sender), Mac::new([0xff; 6]), target)
}

fn solicitation() -> Vec<u8> {
    let mut frame = Vec::new();
    let target: std::net::Ipv6Addr = "fd00::7".parse().unwrap();
    let group: std::net::Ipv6Addr = "ff02::1:ff00:7".parse().unwrap();
    PacketBuilder::ethernet2(A.octets(), [0x33, 0x33, 0xff, 0, 0, 7])
        .ipv6("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets(), group.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &target.octets())
        .unwrap();
    frame
}

/// Whether an expression matches a frame on a port.
fn is(text: &str, port: PortId, frame: &[u8]) -> bool {
    let filter = filter(text);
    let is = filter.matches(port, frame, DROPPED);
    assert!(filter.may_match(port, frame) || !is, "{text}");
    is
}

#[test]
fn of_a_tunnelled_packet_both_layers_count() {
    let inner = udp([10, 1, 0, 1], [10, 2, 0, 1], (1000, 53), &[0; 8]);
    let frame = tunnelled(110, &inner);
    for text in [
        "",
        "vxlan",
        "vni 110",
        "port toswitch1 and (vni 110 or host 10.9.0.1) and not arp",
        "host 10.1.0.1",
        "src host 10.1.0.1 and dst host 10.2.0.1",
        "src host 192.0.2.1",
        "net 10.0.0.0/8 and net 192.0.2.0/24",
        "dport 53 and dport 4789 and sport 1000",
        "src mac 02:00:00:00:00:01 and dst mac 2:0:0:0:0:2 and mac 02:00:00:00:00:02",
        "udp and ip and proto 17 and proto udp",
        "verdict drop and reason no-route",
        "not verdict transmit and not reason arp",
    ] {
        assert!(is(text, UNDER, &frame), "{text}");
    }
    for text in [
        "vni 111",
        "arp",
        "tcp",
        "nd",
        "ip6",
        "icmp or icmp6",
        "dst host 10.1.0.1",
        "sport 53",
        "src mac 02:00:00:00:00:02",
        "port pe-e-110",
        "host ::1",
        "verdict replicate or verdict hand-over or reason arp",
    ] {
        assert!(!is(text, UNDER, &frame), "{text}");
    }
    assert!(
        !is("vni 110 or vxlan or host 192.0.2.1", UNDER, &inner),
        "without a tunnel there is no outer layer"
    );
}

#[test]
fn neighbours_are_found_by_the_addresses_they_are_asked_for() {
    let frame = arp([10, 1, 0, 10], [10, 1, 0, 1]);
    for text in ["arp", "proto arp", "dst host 10.1.0.1", "src host 10.1.0.10", "vni 110", "port pe-e-110"] {
        assert!(is(text, BRIDGED, &frame), "{text}");
    }
    assert!(!is("src host 10.1.0.1 or ip or nd or vxlan", BRIDGED, &frame));
    let frame = solicitation();
    for text in ["nd", "ip6 and icmp6", "host fd00::7", "dst host fd00::7", "src host fd00::1", "not arp"] {
        assert!(is(text, BRIDGED, &frame), "{text}");
    }
    assert!(!is("src host fd00::7 or icmp or arp", BRIDGED, &frame));
}

#[test]
fn a_tag_is_looked_behind() {
    let mut frame = arp([10, 1, 0, 10], [10, 1, 0, 1]);
    frame.splice(12..12, [0x81, 0, 0, 7]);
    assert!(is("arp and host 10.1.0.1", BRIDGED, &frame));
}

#[test]
fn a_later_fragment_has_no_ports() {
    let mut frame = udp([10, 1, 0, 1], [10, 2, 0, 1], (1000, 53), &[0; 8]);
    assert!(is("dport 53", UNDER, &frame));
    frame[21] = 1;
    assert!(!is("dport 53", UNDER, &frame));
    assert!(is("udp and host 10.1.0.1", UNDER, &frame));
}

#[test]
fn not_binds_closest_and_or_last() {
    let frame = arp([10, 1, 0, 10], [10, 1, 0, 1]);
    for (text, expected) in [
        ("arp or udp and tcp", true),
        ("(arp or udp) and tcp", false),
        ("not arp or arp", true),
        ("not (arp or arp)", false),
        ("not not arp", true),
        ("not udp and arp", true),
        ("((arp))", true),
        ("(arp)and(not(udp))", true),
    ] {
        assert_eq!(is(text, BRIDGED, &frame), expected, "{text}");
    }
}

#[test]
fn an_outcome_is_waited_for() {
    let frame = arp([10, 1, 0, 10], [10, 1, 0, 1]);
    let waits = filter("arp and verdict replicate");
    assert!(waits.may_match(BRIDGED, &frame));
    assert!(waits.matches(BRIDGED, &frame, Verdict::Replicate));
    assert!(!waits.matches(BRIDGED, &frame, Verdict::Transmit(UNDER)));
    let known = filter("udp and verdict replicate");
    assert!(!known.may_match(BRIDGED, &frame), "nothing that becomes of it makes it UDP");
    let known = filter("not (arp or verdict drop)");
    assert!(!known.may_match(BRIDGED, &frame));
    assert!(filter("reason arp").matches(BRIDGED, &frame, Verdict::HandOver(Reason::Arp)));
}

#[test]
fn errors_say_where_and_what() {
    assert_eq!(
        error("port nowhere"),
        "at character 6, \"nowhere\": expected the name of a port: pe-e-110, toswitch1"
    );
    assert_eq!(error("arp and"), format!("at character 8, the end: expected {PRIMITIVES}"));
    assert_eq!(error("arp udp"), "at character 5, \"udp\": expected and, or, or the end");
    assert_eq!(error("(arp"), "at character 5, the end: expected and, or, or )");
    assert_eq!(error("arp)"), "at character 4, \")\": expected and, or, or the end");
    assert_eq!(error("vni 0"), "at character 5, \"0\": expected a VNI, 1 to 16777215");
    assert_eq!(error("vni 16777216"), "at character 5, \"16777216\": expected a VNI, 1 to 16777215");
    assert_eq!(error("src arp"), "at character 5, \"arp\": expected mac, host or net");
    assert_eq!(error("ärp"), format!("at character 1, \"ärp\": expected {PRIMITIVES}"));
    assert_eq!(error("ip6 and ä"), format!("at character 9, \"ä\": expected {PRIMITIVES}"));
    assert!(error("proto 256").contains("a number, 0 to 255"));
    assert!(error("reason boredom").contains("no-route"));
    assert!(error("verdict maybe").contains("hand-over"));
    assert!(error("host 10.1.0.300").contains("IPv4 or IPv6 address"));
    assert!(error("dport 65536").contains("0 to 65535"));
    assert!(error("net 10.0.0.0/33").contains("prefix"));
    assert!(error(&"(".repeat(200)).contains("64 levels"));
    assert!(error(&"not ".repeat(200)).contains("64 levels"));
    assert!(error(&"arp or ".repeat(1000)).contains("4096 characters"));
}

/// An expression, as text and as what it means.
fn expression() -> impl Strategy<Value = (String, Test)> {
    let end =
        prop_oneof![Just(("", End::Either)), Just(("src ", End::Source)), Just(("dst ", End::Destination))];
    let primitive = prop_oneof![
        Just(("port toswitch1".to_owned(), Test::Port(UNDER))),
        (1..=Vni::MAX).prop_map(|vni| (format!("vni {vni}"), Test::Vni(vni))),
        (end.clone(), any::<[u8; 6]>()).prop_map(|((word, end), bytes)| {
            let mac = Mac::new(bytes);
            (format!("{word}mac {mac}"), Test::Mac(end, mac))
        }),
        (end, any::<IpAddr>()).prop_map(|((word, end), address)| {
            (format!("{word}host {address}"), Test::Net(end, address.into()))
        }),
        any::<u8>()
            .prop_map(|number| { (format!("proto {number}"), Test::Protocol(Protocol::Number(number))) }),
        any::<u16>().prop_map(|port| (format!("dport {port}"), Test::TransportPort(End::Destination, port))),
        prop::sample::select(Reason::ALL)
            .prop_map(|reason| (format!("reason {reason}"), Test::Reason(reason))),
        Just(("verdict drop".to_owned(), Test::Verdict(Outcome::Drop))),
        Just(("arp".to_owned(), Test::Protocol(Protocol::Arp))),
    ];
    primitive.prop_recursive(4, 32, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 2..4);
        let join = |parts: Vec<(String, Test)>, word: &str| -> (String, Vec<Test>) {
            let (texts, tests): (Vec<_>, Vec<_>) =
                parts.into_iter().map(|(text, test)| (format!("({text})"), test)).unzip();
            (texts.join(word), tests)
        };
        prop_oneof![
            inner.prop_map(|(text, test)| (format!("not ({text})"), Test::Not(Box::new(test)))),
            list.clone().prop_map(move |parts| {
                let (text, tests) = join(parts, " and ");
                (text, Test::All(tests))
            }),
            list.prop_map(move |parts| {
                let (text, tests) = join(parts, "or");
                (text, Test::Any(tests))
            }),
        ]
    })
}

/// Words that expressions are made of, in any order.
fn soup() -> impl Strategy<Value = String> {
    let words = [
        "port",
        "toswitch1",
        "vni",
        "110",
        "src",
        "dst",
        "mac",
        "02:00:00:00:00:01",
        "host",
        "10.0.0.1",
        "net",
        "10.0.0.0/8",
        "proto",
        "tcp",
        "arp",
        "nd",
        "sport",
        "dport",
        "verdict",
        "drop",
        "reason",
        "arp",
        "and",
        "or",
        "not",
        "(",
        ")",
        "ä",
        "\u{2003}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..24).prop_map(|words| words.join(" "))
}

/// What an expression amounts to, told in the plainest way: of all verdicts, and before there is one.
fn oracle(test: &Test, caught: &Caught<'_>) -> bool {
    match test {
        Test::All(tests) => tests.iter().all(|test| oracle(test, caught)),
        Test::Any(tests) => tests.iter().any(|test| oracle(test, caught)),
        Test::Not(test) => !oracle(test, caught),
        primitive => primitive.evaluate(caught).unwrap(),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_meant((text, test) in expression()) {
        prop_assert_eq!(parse::parse(&text, &scope().ports).unwrap(), test, "{}", text);
    }

    #[test]
    fn any_text_is_answered(text in prop_oneof![any::<String>(), soup()], frame: Vec<u8>) {
        match Filter::parse(&text, &scope()) {
            Ok(filter) => {
                let is = filter.matches(UNDER, &frame, DROPPED);
                prop_assert!(!is || filter.may_match(UNDER, &frame));
            }
            Err(error) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.position), "{}", error);
                prop_assert!(error.found.is_none_or(|word| text.contains(&word)));
            }
        }
    }

    /// With a verdict it is plain logic; without one nothing is passed over that would match, and nothing that is sure
    /// turns out otherwise.
    #[test]
    fn an_expression_is_logic((_, test) in expression(), cut in 0_usize..120, reason in prop::sample::select(Reason::ALL)) {
        let frame = tunnelled(110, &udp([10, 1, 0, 1], [10, 2, 0, 1], (1000, 53), &[0; 8]));
        let headers = Headers::read(&frame[..cut.min(frame.len())], &[4789]);
        let caught = |verdict| Caught { port: UNDER, domain: Some(110), headers: &headers, verdict };
        let before = test.evaluate(&caught(None));
        for verdict in [reason.verdict(), Verdict::Transmit(UNDER), Verdict::Replicate] {
            let expected = oracle(&test, &caught(Some(verdict)));
            prop_assert_eq!(test.evaluate(&caught(Some(verdict))), Some(expected));
            prop_assert!(before.is_none_or(|before| before == expected));
        }
    }
}
