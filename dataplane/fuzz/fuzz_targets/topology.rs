//! A topology as it comes from the socket: checked, and planned from nothing and back.
#![no_main]

use dataplane::topology::{Desired, Held, plan};
use dataplane_api::v1::TopologySpec;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(spec) = TopologySpec::decode(data) else { return };
    let desired = Desired::check(&spec);
    let objects = spec.ports.len() + spec.vrfs.len() + spec.l3vnis.len() + spec.vtep_addresses.len();
    let accepted = desired.ports.len() + desired.vrfs.len() + desired.vnis.len() + desired.vteps.len();
    assert_eq!(accepted + desired.refused.len(), objects);
    let steps = plan(&Held::default(), &desired);
    assert_eq!(steps.len(), desired.ports.len() + desired.vrfs.len() + desired.vnis.len());
    let held =
        Held { ports: desired.ports.clone(), vrfs: desired.vrfs.clone(), vnis: desired.vnis.clone() };
    assert!(plan(&held, &desired).is_empty());
    assert_eq!(plan(&held, &Desired::default()).len(), steps.len());
});
