//! An expression, a zero byte, and a frame that it is asked about.
#![no_main]

use std::collections::BTreeMap;

use forwarding::trace::{Filter, Scope};
use forwarding::{PortId, Reason, Verdict, Vni};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let frame = parts.next().unwrap_or_default();
    let scope = Scope {
        ports: BTreeMap::from([("a".to_owned(), PortId(1))]),
        domains: BTreeMap::from([(PortId(1), Vni::new(110).unwrap())]),
        udp_ports: vec![4789],
    };
    match Filter::parse(&text, &scope) {
        Ok(filter) => {
            let verdict = Verdict::Drop(Reason::NoRoute);
            // What matches in the end must not have been passed over before.
            assert!(filter.may_match(PortId(1), frame) || !filter.matches(PortId(1), frame, verdict));
        }
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.position), "{error}");
            assert!(!error.expected.is_empty());
        }
    }
});
