//! Whole configurations: what a folder's `openpe.yaml` amounts to on node 1, against its `frr.conf` and `topology.json`. A
//! `node-config.yaml` beside it may say more of the node. `UPDATE_GOLDEN=1` writes them anew; read the difference before
//! committing it. Where FRR is installed, its own parser reads every `frr.conf` too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipnet::IpNet;
use pe_controller::files::{Objects, node_config, objects};
use pe_controller::model::{NodeConfig, Object};
use pe_controller::plan::{Machine, Plan, plan};
use pe_controller::render::frr_config;
use pe_controller::resolve::{FrrVersion, InterfaceAddresses};
use pe_controller::topology::readable;
use pe_controller::validate::InForce;

struct NoInterfaces;

impl InterfaceAddresses for NoInterfaces {
    fn addresses(&self, _: &str) -> Option<Vec<IpNet>> {
        None
    }
}

fn plan_of(all: Objects, node: &Object<NodeConfig>) -> Plan {
    let machine = Machine { name: "worker-1", interfaces: &NoInterfaces, frr: Some(&FrrVersion::newest()) };
    plan(all, node, machine, &InForce::default())
}

fn read(file: &Path) -> Plan {
    let text = fs::read_to_string(file).unwrap();
    let loaded = objects(file, &text).unwrap();
    assert_eq!(loaded.failures, [], "{}", file.display());
    let node_file = file.with_file_name("node-config.yaml");
    let node = fs::read_to_string(&node_file).unwrap_or_else(|_| "nodeIndex: {index: 1}".to_owned());
    let node = node_config(&node_file, &node).unwrap();
    let plan = plan_of(loaded.objects, &node);
    assert_eq!(plan.failures, [], "{}", file.display());
    plan
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 5, "{cases:?}");
    cases
}

fn compare(file: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, actual).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    if expected != actual {
        let difference = similar::TextDiff::from_lines(expected.as_str(), actual);
        panic!("{}:\n{}", file.display(), difference.unified_diff().header("expected", "actual"));
    }
}

#[test]
fn every_case_is_rendered_as_written_down() {
    for case in cases() {
        let plan = read(&case.join("openpe.yaml"));
        compare(&case.join("frr.conf"), &frr_config(plan.pe.as_ref().unwrap()).text);
        let topology = serde_json::to_string_pretty(&readable(&plan.topology().unwrap())).unwrap();
        compare(&case.join("topology.json"), &(topology + "\n"));
    }
}

#[test]
fn frr_reads_every_case() {
    if !Path::new("/usr/bin/vtysh").exists() {
        eprintln!("skipped: FRR is not installed");
        return;
    }
    for case in cases() {
        let file = case.join("frr.conf");
        let output = Command::new("/usr/bin/vtysh").args(["-C", "-f"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", file.display());
    }
}

/// The examples an operator starts from are valid, together and as they are.
#[test]
fn the_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/static");
    let node_file = folder.join("node-config.yaml");
    let node = node_config(&node_file, &fs::read_to_string(&node_file).unwrap()).unwrap();
    let mut all = Objects::default();
    for entry in fs::read_dir(folder.join("configs")).unwrap() {
        let file = entry.unwrap().path();
        let loaded = objects(&file, &fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(loaded.failures, []);
        all.append(loaded.objects);
    }
    let plan = plan_of(all, &node);
    assert_eq!(plan.failures, []);
    let pe = plan.pe.unwrap();
    assert_eq!((pe.vnis.len(), pe.bridges.len(), pe.passthrough.is_some()), (2, 3, true));
}
