//! What the device plugin, the kernel and the operator say about devices and CPUs, in any words.
#![no_main]

use dpdk::{CpuSet, Environment, Options, PciAddress, derive};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let environment = Environment {
        pci_variables: [("PCIDEVICE_A", text), ("PCIDEVICE_A_INFO", text)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        cpus_allowed: text.parse().unwrap_or_default(),
        ..Environment::default()
    };
    let derived = derive(&environment, &Options::default());
    assert!(!derived.worker_cpus.is_empty() && !derived.housekeeping_cpus.is_empty());
    // Each address is one argument, whatever the text was.
    for address in &derived.pci {
        assert!(derived.arguments.contains(&address.to_string()));
        assert_eq!(address.to_string().parse::<PciAddress>().as_ref(), Ok(address));
    }
    if let Ok(set) = text.parse::<CpuSet>() {
        assert_eq!(set.to_string().parse::<CpuSet>().as_ref(), Ok(&set));
    }
});
