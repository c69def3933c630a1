use std::path::Path;

use super::*;
use crate::{files, model, resolve, validate};

fn pe(text: &str) -> Pe {
    let loaded = files::objects(Path::new("t.yaml"), text).unwrap();
    assert_eq!(loaded.failures, []);
    let node = resolve::Node {
        index: 1,
        hostname: None,
        frr: Some(resolve::FrrVersion::newest()),
        ovsdb: model::OvsSocketPath::default(),
    };
    let valid = validate::objects(loaded.objects, &validate::InForce::default());
    resolve::resolve(&valid, &node).unwrap().pe
}

const RAW: &str = "
rawfrrconfigs:
- {name: one, rawConfig: \"ip prefix-list one permit any\\nip prefix-list both permit any\"}
- {name: two, priority: 1, rawConfig: \"ip prefix-list  two permit any\\n\\nip prefix-list both permit any\\nip nht resolve-via-default\"}
";

#[test]
fn a_line_is_traced_to_its_raw_object() {
    let config = frr_config(&pe(RAW));
    for (at, line) in config.text.lines().enumerate() {
        let owner = config.raw_at(at + 1).map(|id| id.name.as_str());
        match line {
            "ip prefix-list one permit any" => assert_eq!(owner, Some("one")),
            "ip prefix-list  two permit any" => assert_eq!(owner, Some("two")),
            line if line.starts_with('!') || line.starts_with("fpm") => assert_eq!(owner, None),
            _ => {}
        }
    }
    assert_eq!(config.raw_with(" ip prefix-list two permit any").unwrap().name, "two");
    assert_eq!(config.raw_with("ip nht resolve-via-default"), None, "we say it too");
    assert_eq!(config.raw_with("no such line"), None);
}

#[test]
fn raw_configuration_needs_no_underlay() {
    let text = frr_config(&pe(RAW)).text;
    assert!(!text.contains("router bgp"), "{text}");
    assert!(text.find("one permit").unwrap() < text.find("two permit").unwrap());
}

#[test]
fn passwords_do_not_show_in_debugging_output() {
    let config = frr_config(&pe("
underlays:
- asn: 1
  interfaces: [{type: NetworkDevice, networkDevice: {interfaceName: eth1}}]
  neighbors: [{asn: 2, address: 10.0.0.1, password: s3cret}]
"));
    assert!(config.text.contains(" neighbor 10.0.0.1 password s3cret\n"));
    assert!(!format!("{config:?}").contains("s3cret"));
}
