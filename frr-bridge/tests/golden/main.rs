//! What stock FRR and a kernel really said (`tests/capture/` records it), and what frr-bridge makes of it. The expected
//! files are for people to read; `GOLDEN_UPDATE=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use frr_bridge::fpm::Decoder;
use frr_bridge::netlink::{self, Mac, Message};
use frr_bridge::resolver::{PathKind, Resolver, Snapshot};
use frr_bridge::topology::{L3Vni, Port, Topology};

fn captures() -> Vec<PathBuf> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found: Vec<_> = fs::read_dir(base)
        .expect("directory")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn agrees(path: &Path, text: &str) {
    if std::env::var_os("GOLDEN_UPDATE").is_some() {
        fs::write(path, text).expect("write");
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, expected, "{}", path.display());
}

fn zebra(path: &Path) -> Vec<Message> {
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
    let mut stream = BytesMut::from(&fs::read(path).expect("capture")[..]);
    decoder.decode(&mut stream, &mut messages).expect("a whole stream");
    assert_eq!(decoder.malformed(), 0);
    assert!(stream.is_empty());
    messages
}

fn kernel(path: &Path) -> Vec<Message> {
    let dump = fs::read(path).expect("capture");
    netlink::messages(&dump)
        .map(|message| message.and_then(|(kind, body)| netlink::parse(kind, body)).expect("the kernel's own"))
        .collect()
}

/// The recorded node as pe-controller would have described it.
fn topology() -> Topology {
    let port = |id, vrf: &str| Port { id, vrf: vrf.into(), l2vni: None, mtu: 1500, addresses: Vec::new() };
    let vni = L3Vni {
        vrf: "red".into(),
        vtep: "10.0.0.1".parse().expect("address"),
        port: 4789,
        router_mac: Mac([0xaa, 0xbb, 0xcc, 0, 0, 1]),
        mtu: 1450,
    };
    Topology {
        instance: 1,
        ports: [("eth0".into(), port(1, "")), ("host".into(), port(2, "red"))].into(),
        vrfs: [("red".into(), 1)].into(),
        vnis: [(100, vni)].into(),
        vteps: vec!["10.0.0.1".parse().expect("address")],
        ..Topology::default()
    }
}

fn fib(zebra: Vec<Message>, kernel: Vec<Message>) -> String {
    let mut resolver = Resolver::default();
    resolver.session(true);
    resolver.topology(topology());
    resolver.fpm_connected();
    for message in zebra {
        resolver.fpm(message);
    }
    resolver.snapshot(Snapshot(kernel));
    let delta = resolver.flush();
    let groups: BTreeMap<_, _> = delta.groups.iter().map(|group| (group.id, &group.paths)).collect();
    let mut lines = Vec::new();
    for (vrf, prefix, group) in delta.routes {
        let paths: Vec<String> = groups[&group.expect("nothing was sent before")]
            .iter()
            .map(|path| {
                let kind = match path.kind {
                    PathKind::Adjacent { port, gateway } => format!("via {gateway} port {port}"),
                    PathKind::Vxlan { vni, vtep, router_mac } => {
                        let mac = router_mac.map_or_else(|| "unknown".into(), |mac| mac.to_string());
                        format!("vxlan {vni} to {vtep} router MAC {mac}")
                    }
                    PathKind::Connected { port } => format!("connected port {port}"),
                    PathKind::Local => "local".into(),
                    PathKind::Drop => "drop".into(),
                };
                format!("{kind} weight {}", path.weight)
            })
            .collect();
        lines.push(format!("VRF {vrf} {prefix} {}\n", paths.join(", ")));
    }
    lines.extend(
        delta
            .neighbors
            .iter()
            .map(|(port, address, mac)| format!("neighbour port {port} {address} {mac:?}\n")),
    );
    lines.sort();
    lines.concat()
}

#[test]
fn every_message_is_understood() {
    for capture in captures() {
        for name in ["fpm-objects", "fpm-inline"] {
            let mut text = String::new();
            for message in zebra(&capture.join(name).with_extension("bin")) {
                writeln!(text, "{message:?}").expect("text");
            }
            agrees(&capture.join(name).with_extension("txt"), &text);
        }
    }
}

#[test]
fn both_languages_of_zebra_give_the_same_fib() {
    for capture in captures() {
        for name in ["fpm-objects", "fpm-inline"] {
            let messages = zebra(&capture.join(name).with_extension("bin"));
            agrees(&capture.join("fib.txt"), &fib(messages, kernel(&capture.join("netlink.bin"))));
        }
    }
}
