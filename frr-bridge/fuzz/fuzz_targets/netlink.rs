//! A buffer of netlink messages, and the mirror of it. Seeds: `tests/golden/*/netlink.bin`.
#![no_main]

use dataplane_api::v1;
use frr_bridge::netlink::{messages, parse};
use frr_bridge::resolver::Resolver;
use frr_bridge::topology::Topology;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut resolver = Resolver::default();
    resolver.topology(topology());
    resolver.session(true);
    for message in messages(data) {
        let Ok((kind, body)) = message else { break };
        if let Ok(message) = parse(kind, body) {
            resolver.kernel(message);
        }
    }
    let _ = resolver.flush();
    assert!(resolver.flush().is_empty());
});

/// With an L2VNI, so that FDB entries mean something.
fn topology() -> Topology {
    let spec = v1::L2VniSpec {
        vni: 110,
        vtep_address: vec![10, 0, 0, 1].into(),
        mac: vec![2, 0, 0, 0, 0, 1].into(),
        ..Default::default()
    };
    let l2vnis = vec![v1::L2VniState { spec: Some(spec), id: 9, ..Default::default() }];
    Topology::from_state(v1::TopologyState { l2vnis, ..Default::default() }).0
}
