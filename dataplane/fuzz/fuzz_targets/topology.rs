//! A topology as it comes from the socket: checked, and planned from nothing and back.
#![no_main]

use dataplane::topology::{Desired, Held, plan};
use dataplane_api::v1::TopologySpec;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(spec) = TopologySpec::decode(data) else { return };
    let desired = Desired::check(&spec);
    let vnis = spec.l3vnis.len() + spec.l2vnis.len();
    let objects = spec.ports.len() + spec.vrfs.len() + vnis + spec.vtep_addresses.len();
    let vnis = desired.vnis.len() + desired.l2vnis.len();
    let accepted = desired.ports.len() + desired.vrfs.len() + vnis + desired.vteps.len();
    assert_eq!(accepted + desired.refused.len(), objects);
    let steps = plan(&Held::default(), &desired);
    assert_eq!(steps.len(), desired.ports.len() + desired.vrfs.len() + vnis);
    let held = Held {
        ports: desired.ports.clone(),
        vrfs: desired.vrfs.clone(),
        vnis: desired.vnis.clone(),
        l2vnis: desired.l2vnis.clone(),
    };
    assert!(plan(&held, &desired).is_empty());
    assert_eq!(plan(&held, &Desired::default()).len(), steps.len());
});
