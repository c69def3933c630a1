//! What EAL's arguments are derived from.

use std::collections::BTreeMap;

use crate::{CpuSet, PciAddress};

/// What a process finds around it. A value, so that deriving from it can be tested on any machine;
/// [`detect`](Self::detect) reads the real one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// CPUs that run.
    pub cpus_online: CpuSet,
    /// CPUs that this process may use: its affinity, within its cgroup's cpuset.
    pub cpus_allowed: CpuSet,
    /// Thousandths of a CPU that the cgroup allows; `None` without a limit.
    pub cpu_quota: Option<u32>,
    /// Bytes that the cgroup allows; `None` without a limit.
    pub memory_limit: Option<u64>,
    /// Bytes the kernel could give without swapping.
    pub memory_available: u64,
    /// One per size the CPU has, largest first.
    pub hugepages: Vec<HugepagePool>,
    /// Where hugetlbfs is mounted.
    pub hugetlbfs: Vec<HugetlbMount>,
    /// `PCIDEVICE_*` of the environment, as the SR-IOV network device plugin sets them.
    pub pci_variables: BTreeMap<String, String>,
    /// The machine's PCI network functions.
    pub pci_functions: Vec<PciFunction>,
}

/// Hugepages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugepagePool {
    /// Bytes per page.
    pub size: u64,
    /// Pages that nobody uses.
    pub free: u64,
    /// Bytes that the cgroup lets this process take in addition to what it has; `None` without a limit.
    pub limit: Option<u64>,
}

/// A mounted hugetlbfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugetlbMount {
    /// Where.
    pub path: String,
    /// Bytes per page; `None` is the kernel's default size.
    pub size: Option<u64>,
}

/// A PCI network device or virtual function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciFunction {
    /// Where it is.
    pub address: PciAddress,
    /// The kernel driver that has it.
    pub driver: Option<String>,
}

impl PciFunction {
    /// DPDK can drive it as it is: its kernel driver keeps out of the way, or shares it.
    pub fn usable(&self) -> bool {
        matches!(
            self.driver.as_deref(),
            Some("vfio-pci" | "igb_uio" | "uio_pci_generic" | "mlx5_core" | "mlx4_core" | "mana")
        )
    }
}
