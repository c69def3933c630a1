//! Reading the environment from /proc, /sys and the process's variables.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Environment, HugepagePool, HugetlbMount, PciFunction};
use crate::{CpuSet, PciAddress};

impl Environment {
    /// What this process finds. What cannot be read counts as absent.
    pub fn detect() -> Self {
        let affinity = CpuSet::of_this_thread().unwrap_or_default();
        Self::detect_under(
            Path::new("/"),
            &affinity,
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// As [`detect`](Self::detect), with /proc and /sys below `root`.
    pub fn detect_under(
        root: &Path,
        affinity: &CpuSet,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let tree = Tree { root };
        let groups = Groups::read(&tree);
        let cpus_online: CpuSet =
            tree.parse("sys/devices/system/cpu/online").unwrap_or_else(|| affinity.clone());
        let within = groups.cpuset(&tree).filter(|set| !set.is_empty());
        let mut cpus_allowed = within.map_or_else(|| affinity.clone(), |set| affinity.intersection(&set));
        if cpus_allowed.is_empty() {
            cpus_allowed = affinity.clone();
        }
        Self {
            cpus_online,
            cpus_allowed,
            cpu_quota: groups.cpu_quota(&tree),
            memory_limit: groups.smallest(&tree, "memory", "memory.max", "memory.limit_in_bytes"),
            memory_available: tree.read("proc/meminfo").and_then(|text| available(&text)).unwrap_or(0),
            hugepages: hugepages(&tree, &groups),
            hugetlbfs: tree.read("proc/self/mounts").map(|text| mounts(&text)).unwrap_or_default(),
            pci_variables: variables.into_iter().filter(|(name, _)| name.starts_with("PCIDEVICE_")).collect(),
            pci_functions: pci_functions(&tree),
        }
    }
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn parse<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.read(path)?.trim().parse().ok()
    }

    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// The process's control groups: one path (version 2), or one per controller (version 1), or both.
struct Groups {
    unified: Option<PathBuf>,
    controllers: Vec<(String, PathBuf)>,
}

impl Groups {
    fn read(tree: &Tree<'_>) -> Self {
        let mut groups = Self { unified: None, controllers: Vec::new() };
        for line in tree.read("proc/self/cgroup").unwrap_or_default().lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let path = PathBuf::from(path.trim_start_matches('/'));
            if controllers.is_empty() {
                groups.unified = Some(path);
            } else {
                groups.controllers.extend(controllers.split(',').map(|name| (name.to_owned(), path.clone())));
            }
        }
        groups
    }

    /// Folders of a controller's group and of those above it, innermost first; version 2 first. A container may see
    /// the group's path of the host below a mount that starts at its own group, so missing folders are skipped and the
    /// mount itself is always among them.
    fn folders(&self, controller: &str) -> impl Iterator<Item = (PathBuf, bool)> {
        let above = |path: &Path| path.ancestors().map(Path::to_path_buf).collect::<Vec<_>>();
        let unified = self.unified.as_deref().map(above).unwrap_or_default();
        let own = self
            .controllers
            .iter()
            .find(|(name, _)| name == controller)
            .map(|(name, path)| {
                above(path).into_iter().map(|path| Path::new(name).join(path)).collect::<Vec<_>>()
            })
            .unwrap_or_default();
        let mount = Path::new("sys/fs/cgroup");
        let unified = unified.into_iter().map(move |path| (mount.join(path), true));
        unified.chain(own.into_iter().map(move |path| (mount.join(path), false)))
    }

    /// The smallest limit, bytes, on the way up.
    fn smallest(&self, tree: &Tree<'_>, controller: &str, v2: &str, v1: &str) -> Option<u64> {
        self.folders(controller)
            .filter_map(|(folder, unified)| tree.parse(folder.join(if unified { v2 } else { v1 })))
            // Version 1 says "no limit" by a number near 2^63.
            .filter(|&limit: &u64| limit < 1 << 60)
            .min()
    }

    fn cpuset(&self, tree: &Tree<'_>) -> Option<CpuSet> {
        self.folders("cpuset").find_map(|(folder, unified)| {
            let names: &[&str] =
                if unified { &["cpuset.cpus.effective"] } else { &["cpuset.effective_cpus", "cpuset.cpus"] };
            names.iter().find_map(|name| tree.parse(folder.join(name)))
        })
    }

    fn cpu_quota(&self, tree: &Tree<'_>) -> Option<u32> {
        self.folders("cpu")
            .filter_map(|(folder, unified)| {
                let (quota, period) = if unified {
                    let text = tree.read(folder.join("cpu.max"))?;
                    let (quota, period) = text.trim().split_once(' ')?;
                    (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
                } else {
                    // -1 is no quota, and no u64.
                    (
                        tree.parse(folder.join("cpu.cfs_quota_us"))?,
                        tree.parse(folder.join("cpu.cfs_period_us"))?,
                    )
                };
                u32::try_from(quota.checked_mul(1000)?.checked_div(period)?).ok()
            })
            .min()
    }
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn hugepages(tree: &Tree<'_>, groups: &Groups) -> Vec<HugepagePool> {
    let folder = Path::new("sys/kernel/mm/hugepages");
    let mut pools: Vec<_> = tree
        .names(folder)
        .iter()
        .filter_map(|name| {
            let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: u64 = tree.parse(folder.join(name).join("free_hugepages"))?;
            let reserved: u64 = tree.parse(folder.join(name).join("resv_hugepages")).unwrap_or(0);
            Some(HugepagePool {
                size: kilobytes.checked_mul(1024)?,
                free: free.saturating_sub(reserved),
                limit: hugetlb_limit(tree, groups, kilobytes),
            })
        })
        .collect();
    pools.sort_by_key(|pool| std::cmp::Reverse(pool.size));
    pools
}

/// What is left of the tightest limit on the way up.
fn hugetlb_limit(tree: &Tree<'_>, groups: &Groups, kilobytes: u64) -> Option<u64> {
    let size = match kilobytes {
        0..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes / 1024),
        _ => format!("{}GB", kilobytes / 1_048_576),
    };
    groups
        .folders("hugetlb")
        .filter_map(|(folder, unified)| {
            let (limit, used) =
                if unified { ("max", "current") } else { ("limit_in_bytes", "usage_in_bytes") };
            let limit: u64 = tree.parse(folder.join(format!("hugetlb.{size}.{limit}")))?;
            let used: u64 = tree.parse(folder.join(format!("hugetlb.{size}.{used}"))).unwrap_or(0);
            (limit < 1 << 60).then_some(limit.saturating_sub(used))
        })
        .min()
}

fn mounts(text: &str) -> Vec<HugetlbMount> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (_, path, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (kind == "hugetlbfs").then(|| HugetlbMount { path: path.to_owned(), size: page_size(options) })
        })
        .collect()
}

/// `pagesize=2M` among mount options.
fn page_size(options: &str) -> Option<u64> {
    let text = options.split(',').find_map(|option| option.strip_prefix("pagesize="))?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..)? {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn pci_functions(tree: &Tree<'_>) -> Vec<PciFunction> {
    let folder = Path::new("sys/bus/pci/devices");
    tree.names(folder)
        .iter()
        .filter_map(|name| {
            let address: PciAddress = name.parse().ok()?;
            // Class 02xxxx: network controllers.
            if !tree.read(folder.join(name).join("class"))?.trim().starts_with("0x02") {
                return None;
            }
            let driver = fs::read_link(tree.root.join(folder).join(name).join("driver")).ok();
            let driver = driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
            Some(PciFunction { address, driver })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn detect(files: &[(&str, &str)]) -> Environment {
        let root = tree(files);
        Environment::detect_under(root.path(), &"0-7".parse().unwrap(), std::iter::empty())
    }

    #[test]
    fn a_pod_on_version_2() {
        let pod = "sys/fs/cgroup/kubepods.slice/pod1";
        let file = |name: &str| format!("{pod}/{name}");
        let environment = detect(&[
            ("proc/self/cgroup", "0::/kubepods.slice/pod1\n"),
            (
                "proc/self/mounts",
                "none /hp hugetlbfs rw,relatime,pagesize=1024M 0 0\nproc /proc proc rw 0 0\n",
            ),
            ("proc/meminfo", "MemTotal:  100 kB\nMemAvailable:    2048 kB\n"),
            ("sys/devices/system/cpu/online", "0-7\n"),
            (&file("cpuset.cpus.effective"), "2-3\n"),
            (&file("cpu.max"), "150000 100000\n"),
            ("sys/fs/cgroup/kubepods.slice/cpu.max", "max 100000\n"),
            (&file("memory.max"), "max\n"),
            ("sys/fs/cgroup/kubepods.slice/memory.max", "1073741824\n"),
            (&file("hugetlb.2MB.max"), "67108864\n"),
            (&file("hugetlb.2MB.current"), "2097152\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "512\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "12\n"),
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "3\n"),
        ]);
        assert_eq!(environment.cpus_allowed, "2-3".parse().unwrap());
        assert_eq!(environment.cpu_quota, Some(1500));
        assert_eq!(environment.memory_limit, Some(1 << 30));
        assert_eq!(environment.memory_available, 2 << 20);
        assert_eq!(
            environment.hugepages,
            [
                HugepagePool { size: 1 << 30, free: 3, limit: None },
                HugepagePool { size: 2 << 20, free: 500, limit: Some(62 << 20) }
            ]
        );
        assert_eq!(environment.hugetlbfs, [HugetlbMount { path: "/hp".into(), size: Some(1 << 30) }]);
    }

    #[test]
    fn a_container_on_version_1_sees_its_groups_at_the_mount() {
        let environment = detect(&[
            (
                "proc/self/cgroup",
                "11:cpuset:/docker/abc\n7:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:hugetlb:/docker/abc\n",
            ),
            ("sys/fs/cgroup/cpuset/cpuset.cpus", "1,5\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/hugetlb/hugetlb.1GB.limit_in_bytes", "2147483648\n"),
            ("sys/fs/cgroup/hugetlb/hugetlb.1GB.usage_in_bytes", "1073741824\n"),
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "8\n"),
        ]);
        assert_eq!(environment.cpus_allowed, "1,5".parse().unwrap());
        assert_eq!((environment.cpu_quota, environment.memory_limit), (None, None));
        assert_eq!(environment.hugepages, [HugepagePool { size: 1 << 30, free: 8, limit: Some(1 << 30) }]);
    }

    #[test]
    fn pci_network_functions_and_their_drivers() {
        let root = tree(&[
            ("sys/bus/pci/devices/0000:3b:02.1/class", "0x020000\n"),
            ("sys/bus/pci/devices/0000:00:1f.2/class", "0x010601\n"),
            ("sys/bus/pci/drivers/vfio-pci/new_id", ""),
        ]);
        let link = root.path().join("sys/bus/pci/devices/0000:3b:02.1/driver");
        std::os::unix::fs::symlink("../../drivers/vfio-pci", link).unwrap();
        let variables =
            [("PCIDEVICE_X", "0000:3b:02.1"), ("PATH", "/bin")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let environment = Environment::detect_under(root.path(), &"0".parse().unwrap(), variables);
        let address = "0000:3b:02.1".parse().unwrap();
        assert_eq!(environment.pci_functions, [PciFunction { address, driver: Some("vfio-pci".into()) }]);
        assert!(environment.pci_functions[0].usable());
        assert_eq!(environment.pci_variables.keys().collect::<Vec<_>>(), ["PCIDEVICE_X"]);
    }

    #[test]
    fn nothing_readable_and_nonsense_count_as_absent() {
        let empty = detect(&[]);
        assert_eq!(empty.cpus_allowed, "0-7".parse().unwrap());
        let nonsense = detect(&[
            ("proc/self/cgroup", "x\n::\n0::/a\n"),
            ("proc/self/mounts", "hugetlbfs\n"),
            ("sys/fs/cgroup/a/cpuset.cpus.effective", "9-10\n"),
            ("sys/fs/cgroup/a/cpu.max", "1 0\n"),
            ("sys/kernel/mm/hugepages/hugepages-99999999999999999kB/free_hugepages", "1\n"),
        ]);
        assert_eq!(nonsense.cpus_allowed, "0-7".parse().unwrap(), "a cpuset without any of ours is not ours");
        assert_eq!((nonsense.cpu_quota, nonsense.hugepages.len()), (None, 0));
    }
}
