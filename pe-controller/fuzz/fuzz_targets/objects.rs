//! Any text as a file of objects: read, validated, addressed and rendered. Nothing panics, and what is rendered from typed
//! objects consists of the lines we write and no others.
#![no_main]

use std::path::Path;

use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use pe_controller::files::{node_config, objects};
use pe_controller::plan::{Machine, plan};
use pe_controller::render::frr_config;
use pe_controller::resolve::{FrrVersion, InterfaceAddresses};
use pe_controller::validate::InForce;

struct NoInterfaces;

impl InterfaceAddresses for NoInterfaces {
    fn addresses(&self, _: &str) -> Option<Vec<IpNet>> {
        None
    }
}

fuzz_target!(|text: &str| {
    let file = Path::new("openpe_fuzz.yaml");
    let _ = node_config(file, text);
    let Ok(loaded) = objects(file, text) else { return };
    let Ok(node) = node_config(Path::new("node-config.yaml"), "nodeIndex: {index: 1}") else { return };
    let frr = FrrVersion::newest();
    let machine = Machine { name: "fuzz", interfaces: &NoInterfaces, frr: Some(&frr) };
    let plan = plan(loaded.objects, &node, machine, &InForce::default());
    let _ = plan.topology();
    let Some(pe) = &plan.pe else { return };
    let config = frr_config(pe);
    for (at, line) in config.text.lines().enumerate() {
        assert!(
            config.raw_at(at + 1).is_some()
                || line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
                || line.contains("password")
                || line.starts_with('!'),
            "{line:?}"
        );
    }
});
