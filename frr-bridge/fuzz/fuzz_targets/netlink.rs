//! A buffer of netlink messages, and the mirror of it. Seeds: `tests/golden/*/netlink.bin`.
#![no_main]

use frr_bridge::netlink::{messages, parse};
use frr_bridge::resolver::Resolver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut resolver = Resolver::default();
    resolver.session(true);
    for message in messages(data) {
        let Ok((kind, body)) = message else { break };
        if let Ok(message) = parse(kind, body) {
            resolver.kernel(message);
        }
    }
    let _ = resolver.flush();
});
