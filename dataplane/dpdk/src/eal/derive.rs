//! From the environment to EAL's arguments.

use std::collections::BTreeMap;

use super::Environment;
use crate::{CpuSet, PciAddress};

/// What the operator decides; the rest is derived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// CPUs for workers, one each; within the allowed ones.
    pub cpus: Option<CpuSet>,
    /// Number of workers, 1 or more.
    pub workers: Option<usize>,
    /// Memory to take at the start, MB.
    pub memory: Option<u64>,
    /// PCI devices besides those of the environment.
    pub pci: Vec<PciDevice>,
    /// EAL's arguments, all of them: overrides what is derived.
    pub arguments: Option<Vec<String>>,
}

/// A PCI device and its driver's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// `key=value,...`; may be empty.
    pub arguments: String,
}

/// What follows from an [`Environment`] and [`Options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// For [`Eal::init`](super::Eal::init), without the program's name.
    pub arguments: Vec<String>,
    /// What was found and what was made of it, a line each, for people.
    pub notes: Vec<String>,
    /// Where workers run, one each: at least one.
    pub worker_cpus: Vec<u32>,
    /// Where everything else runs: the allowed CPUs that no worker has, or all of them when workers have all.
    pub housekeeping_cpus: CpuSet,
    /// MB of memory for EAL.
    pub memory: u64,
    /// That memory is hugepages.
    pub hugepages: bool,
    /// The PCI devices that EAL may use from the start.
    pub pci: Vec<PciAddress>,
}

/// MB taken of hugepages that are nobody's in particular.
const HUGE_MEMORY: u64 = 1024;
/// MB taken where there are no hugepages.
const PLAIN_MEMORY: u64 = 256;
/// MB below which it is not worth starting.
const LEAST_MEMORY: u64 = 64;
/// Never a NIC: in the allow list it keeps PCI on with nothing allowed, so that devices can be added later.
const NO_DEVICE: &str = "0000:00:00.0";
const MB: u64 = 1 << 20;

/// Derives EAL's arguments.
///
/// * CPUs: those given; else, where the cpuset or the quota is a share of the machine, all of that share but one for
///   housekeeping; else one.
/// * Memory: hugepages as far as they are free and the cgroup allows, all of them where a cgroup limit makes them ours, at
///   most 1 GB otherwise; without hugepages ordinary memory, at most 256 MB or a quarter of what there is.
/// * PCI: the devices that the device plugin and the options name; none at all, and no scan, where the machine has none that
///   DPDK could drive.
/// * Always `--in-memory`, or `--no-shconf` without hugepages: nothing stays behind in hugetlbfs or /var/run, and threads
///   can be registered, which EAL refuses where other processes might share its memory.
pub fn derive(environment: &Environment, options: &Options) -> Derived {
    let mut notes = Vec::new();
    let (worker_cpus, housekeeping_cpus) = cpus(environment, options, &mut notes);
    let (hugepages, memory) = memory(environment, options, &mut notes);
    let devices = pci(environment, options, &mut notes);

    let arguments = if let Some(arguments) = &options.arguments {
        notes.push("EAL arguments: as given, nothing derived".to_owned());
        arguments.clone()
    } else {
        // Without hugepages memory is anonymous anyway, and EAL refuses the two together.
        let traceless = if hugepages { "--in-memory" } else { "--no-shconf" };
        let mut arguments = vec![
            traceless.to_owned(),
            "--no-telemetry".to_owned(),
            // Warnings and worse; the notes say the rest.
            "--log-level=5".to_owned(),
            // One thread of EAL's own, number 0, which is the one that starts it. Numbers are limited to 128, CPUs are not.
            format!("--lcores=0@({housekeeping_cpus})"),
            "-m".to_owned(),
            memory.to_string(),
        ];
        if !hugepages {
            arguments.push("--no-huge".to_owned());
        }
        if !devices.is_empty() {
            for (address, driver_arguments) in &devices {
                arguments.push("-a".to_owned());
                arguments.push(match driver_arguments.as_str() {
                    "" => address.to_string(),
                    given => format!("{address},{given}"),
                });
            }
        } else if environment.pci_functions.iter().any(super::PciFunction::usable) {
            arguments.extend(["-a".to_owned(), NO_DEVICE.to_owned()]);
        } else {
            arguments.push("--no-pci".to_owned());
        }
        arguments
    };
    Derived {
        arguments,
        notes,
        worker_cpus,
        housekeeping_cpus,
        memory,
        hugepages,
        pci: devices.into_keys().collect(),
    }
}

fn cpus(environment: &Environment, options: &Options, notes: &mut Vec<String>) -> (Vec<u32>, CpuSet) {
    let mut allowed = environment.cpus_allowed.clone();
    if allowed.is_empty() {
        // Whatever could not be read, there is a CPU, and the first is numbered 0 unless the online list says otherwise.
        allowed = std::iter::once(environment.cpus_online.iter().next().unwrap_or(0)).collect();
    }
    let (online, count) = (environment.cpus_online.len(), allowed.len());
    let share = count < online;
    let quota = environment.cpu_quota.map(|milli| usize::try_from(milli / 1000).unwrap_or(usize::MAX));
    let mut line = format!("CPUs: {allowed} allowed of {online} online");
    if let Some(milli) = environment.cpu_quota {
        line.push_str(&format!(", quota {}.{:03}", milli / 1000, milli % 1000));
    }

    let given = options.cpus.as_ref().map(|given| given.intersection(&allowed));
    if let Some(given) = &given
        && let refused = options.cpus.clone().unwrap_or_default().difference(given)
        && !refused.is_empty()
    {
        notes.push(format!("CPUs: {refused} asked for workers, but not allowed: ignored"));
    }
    let given = given.filter(|given| !given.is_empty());
    let default = if given.is_some() {
        usize::MAX
    } else if share || quota.is_some() {
        quota.map_or(count, |quota| quota.min(count)).saturating_sub(1)
    } else {
        1
    };
    let wanted = options.workers.unwrap_or(default).max(1);
    let pool = given.unwrap_or_else(|| allowed.clone());
    // From the top: the kernel's own work and interrupts prefer the lowest numbers.
    let mut workers: Vec<u32> = pool.iter().rev().take(wanted).collect();
    workers.sort_unstable();
    if options.workers.is_some_and(|asked| asked > workers.len()) {
        notes.push(format!("CPUs: {wanted} workers asked for, but only {} CPUs for them", workers.len()));
    }
    let mut housekeeping = allowed.difference(&workers.iter().copied().collect());
    if housekeeping.is_empty() {
        housekeeping = allowed;
        line.push_str("; workers share theirs with everything else");
    }
    let worker_set: CpuSet = workers.iter().copied().collect();
    notes.push(format!("{line}; workers on {worker_set}, the rest on {housekeeping}"));
    (workers, housekeeping)
}

fn memory(environment: &Environment, options: &Options, notes: &mut Vec<String>) -> (bool, u64) {
    let mut huge = 0;
    let mut ours = false;
    for pool in &environment.hugepages {
        let free = pool.size.saturating_mul(pool.free);
        let usable = pool.limit.map_or(free, |limit| limit.min(free));
        // Whole pages of the limit.
        huge += usable.checked_div(pool.size).unwrap_or(0) * pool.size / MB;
        ours |= pool.limit.is_some_and(|limit| limit > 0);
        let limit = pool.limit.map(|limit| format!(", {} MB allowed", limit / MB)).unwrap_or_default();
        notes.push(format!("hugepages of {} kB: {} free{limit}", pool.size / 1024, pool.free));
    }
    for mount in &environment.hugetlbfs {
        let size = mount.size.map(|size| format!(" of {} kB", size / 1024)).unwrap_or_default();
        notes.push(format!("hugetlbfs{size} at {}: not needed, memory is anonymous", mount.path));
    }
    let wanted = options.memory.unwrap_or(if ours { huge } else { HUGE_MEMORY }).max(LEAST_MEMORY);
    if huge >= LEAST_MEMORY {
        let memory = wanted.min(huge);
        notes.push(format!("memory: {memory} MB of hugepages"));
        if let Some(asked) = options.memory.filter(|&asked| asked > memory) {
            notes.push(format!("memory: {asked} MB asked for, but only {memory} MB of hugepages can be had"));
        }
        return (true, memory);
    }
    let there = environment
        .memory_limit
        .map_or(environment.memory_available, |limit| limit.min(environment.memory_available))
        / MB;
    let memory = options.memory.unwrap_or_else(|| PLAIN_MEMORY.min(there / 4)).max(LEAST_MEMORY);
    notes.push(format!(
        "memory: no hugepages to be had, so {memory} MB of ordinary memory ({there} MB available); forwarding is about half as fast"
    ));
    (false, memory)
}

/// The devices to allow, each once, with their drivers' arguments.
fn pci(
    environment: &Environment,
    options: &Options,
    notes: &mut Vec<String>,
) -> BTreeMap<PciAddress, String> {
    let mut devices = BTreeMap::new();
    for (name, value) in &environment.pci_variables {
        let found = if name.ends_with("_INFO") { from_info(value) } else { from_list(value) };
        match found {
            Ok(found) => {
                let text: Vec<String> = found.iter().map(ToString::to_string).collect();
                notes.push(format!(
                    "PCI: {name} names {}",
                    if text.is_empty() { "none".to_owned() } else { text.join(", ") }
                ));
                devices.extend(found.into_iter().map(|address| (address, String::new())));
            }
            Err(error) => notes.push(format!("PCI: {name} ignored: {error}")),
        }
    }
    for device in &options.pci {
        notes.push(format!("PCI: {} as configured", device.address));
        devices.insert(device.address, device.arguments.clone());
    }
    for function in &environment.pci_functions {
        if devices.contains_key(&function.address) && !function.usable() {
            let driver = function.driver.as_deref().unwrap_or("no driver");
            notes.push(format!(
                "PCI: {} is with {driver}: DPDK can drive it only after it is bound to vfio-pci",
                function.address
            ));
        }
    }
    devices
}

/// `PCIDEVICE_VENDOR_COM_RESOURCE=0000:03:02.0,0000:03:02.1`
fn from_list(value: &str) -> Result<Vec<PciAddress>, String> {
    value
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|error: crate::PciAddressError| error.to_string()))
        .collect()
}

/// `PCIDEVICE_VENDOR_COM_RESOURCE_INFO={"0000:03:02.0":{"generic":{"deviceID":"0000:03:02.0"},"vfio":{...}}}`, of the
/// SR-IOV network device plugin from 3.5.1 on.
fn from_info(value: &str) -> Result<Vec<PciAddress>, String> {
    let devices: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(value).map_err(|error| error.to_string())?;
    devices
        .iter()
        .map(|(key, info)| {
            let id = info.pointer("/generic/deviceID").and_then(serde_json::Value::as_str).unwrap_or(key);
            id.parse().or_else(|_| key.parse()).map_err(|error: crate::PciAddressError| error.to_string())
        })
        .collect()
}

#[cfg(test)]
#[path = "derive_tests.rs"]
mod tests;
