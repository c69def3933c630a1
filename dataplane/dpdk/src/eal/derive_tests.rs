use proptest::prelude::*;

use super::{
    super::{HugepagePool, HugetlbMount, PciFunction},
    *,
};

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

/// A bare machine of four CPUs and 8 GB.
fn machine() -> Environment {
    Environment {
        cpus_online: set("0-3"),
        cpus_allowed: set("0-3"),
        memory_available: 8 << 30,
        hugepages: vec![HugepagePool { size: 2 << 20, free: 0, limit: None }],
        ..Environment::default()
    }
}

fn with_hugepages(free: u64, limit: Option<u64>) -> Environment {
    Environment { hugepages: vec![HugepagePool { size: 2 << 20, free, limit }], ..machine() }
}

fn arguments(environment: &Environment, options: &Options) -> String {
    derive(environment, options).arguments.join(" ")
}

#[test]
fn a_bare_machine_without_hugepages() {
    let derived = derive(&machine(), &Options::default());
    assert_eq!(
        derived.arguments.join(" "),
        "--no-shconf --no-telemetry --log-level=5 --lcores=0@(0-2) -m 256 --no-huge --no-pci"
    );
    assert_eq!(
        derived.notes,
        [
            "CPUs: 0-3 allowed of 4 online; workers on 3, the rest on 0-2",
            "hugepages of 2048 kB: 0 free",
            "memory: no hugepages to be had, so 256 MB of ordinary memory (8192 MB available); forwarding is about half as fast",
        ]
    );
}

#[test]
fn a_pod_with_exclusive_cpus_and_hugepages() {
    let environment = Environment {
        cpus_online: set("0-63"),
        cpus_allowed: set("4-7"),
        cpu_quota: Some(4000),
        memory_limit: Some(1 << 30),
        hugetlbfs: vec![HugetlbMount { path: "/hugepages".into(), size: Some(2 << 20) }],
        ..with_hugepages(4096, Some(2 << 30))
    };
    let derived = derive(&environment, &Options::default());
    assert_eq!(derived.worker_cpus, [5, 6, 7]);
    assert_eq!(derived.housekeeping_cpus, set("4"));
    assert_eq!((derived.hugepages, derived.memory), (true, 2048));
    let text = derived.arguments.join(" ");
    assert!(
        text.starts_with("--in-memory ")
            && text.contains("--lcores=0@(4) -m 2048")
            && !text.contains("--no-huge")
    );
}

#[test]
fn hugepages_of_nobody_are_taken_sparingly_and_limits_kept() {
    for (free, limit, huge, memory) in [
        (4096, None, true, 1024),
        (100, None, true, 200),
        (31, None, false, 256),
        (4096, Some(512 << 20), true, 512),
        (4096, Some(0), false, 256),
        // What the limit leaves of a page is no page.
        (4096, Some((64 << 20) + 1), true, 64),
    ] {
        let derived = derive(&with_hugepages(free, limit), &Options::default());
        assert_eq!((derived.hugepages, derived.memory), (huge, memory), "{free} free, {limit:?} allowed");
    }
    let asked = Options { memory: Some(4096), ..Options::default() };
    assert_eq!(derive(&with_hugepages(1024, None), &asked).memory, 2048);
    assert_eq!(derive(&machine(), &asked).memory, 4096);
}

#[test]
fn little_memory_is_shared() {
    let small = Environment { memory_limit: Some(512 << 20), ..machine() };
    assert_eq!(derive(&small, &Options::default()).memory, 128);
    let smaller = Environment { memory_available: 64 << 20, ..machine() };
    assert_eq!(derive(&smaller, &Options::default()).memory, LEAST_MEMORY);
}

#[test]
fn workers_by_quota_by_count_and_by_list() {
    let quota = |milli| Environment { cpu_quota: Some(milli), ..machine() };
    let workers = |environment: &Environment, options: &Options| derive(environment, options).worker_cpus;
    let none = Options::default();
    assert_eq!(workers(&quota(500), &none), [3]);
    assert_eq!(workers(&quota(3000), &none), [2, 3]);
    assert_eq!(workers(&quota(64_000), &none), [1, 2, 3]);
    let three = Options { workers: Some(3), ..Options::default() };
    assert_eq!(workers(&machine(), &three), [1, 2, 3]);
    let listed = Options { cpus: Some(set("0-1,9")), ..Options::default() };
    let derived = derive(&machine(), &listed);
    assert_eq!((derived.worker_cpus, derived.housekeeping_cpus), (vec![0, 1], set("2-3")));
    assert!(derived.notes.iter().any(|note| note == "CPUs: 9 asked for workers, but not allowed: ignored"));
    let single = Environment { cpus_online: set("0"), cpus_allowed: set("0"), ..machine() };
    let derived = derive(&single, &three);
    assert_eq!((derived.worker_cpus, derived.housekeeping_cpus), (vec![0], set("0")));
    assert!(derived.notes.iter().any(|note| note.contains("only 1 CPUs")), "{:?}", derived.notes);
}

#[test]
fn devices_of_the_plugin_and_of_the_configuration() {
    let variables = [
        ("PCIDEVICE_INTEL_COM_UNDERLAY", "0000:3b:02.1,0000:3b:02.0"),
        (
            "PCIDEVICE_INTEL_COM_UNDERLAY_INFO",
            r#"{"0000:3b:02.0":{"generic":{"deviceID":"0000:3b:02.0"},"vfio":{"dev-mount":"/dev/vfio/70","mount":"/dev/vfio/vfio"}},
                "0000:3b:02.1":{"generic":{"deviceID":"0000:3b:02.1"}}}"#,
        ),
        // One resource may come by _INFO alone.
        ("PCIDEVICE_NVIDIA_COM_MLX_INFO", r#"{"mlx-1":{"generic":{"deviceID":"0000:5e:00.3"},"rdma":{}}}"#),
        ("PCIDEVICE_BROKEN_INFO", "{"),
        ("PCIDEVICE_BROKEN", "eth0"),
    ];
    let environment = Environment {
        pci_variables: variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        pci_functions: vec![PciFunction {
            address: "0000:3b:02.0".parse().unwrap(),
            driver: Some("iavf".into()),
        }],
        ..machine()
    };
    let device = PciDevice { address: "0000:5e:00.3".parse().unwrap(), arguments: "dv_flow_en=2".into() };
    let options = Options { pci: vec![device], ..Options::default() };
    let derived = derive(&environment, &options);
    let text = derived.arguments.join(" ");
    assert!(text.ends_with("-a 0000:3b:02.0 -a 0000:3b:02.1 -a 0000:5e:00.3,dv_flow_en=2"), "{text}");
    for says in
        ["PCIDEVICE_BROKEN_INFO ignored: ", "PCIDEVICE_BROKEN ignored: ", "0000:3b:02.0 is with iavf: "]
    {
        assert!(derived.notes.iter().any(|note| note.contains(says)), "{says}: {:?}", derived.notes);
    }
}

#[test]
fn pci_stays_on_where_a_device_might_be_added() {
    let with = |driver: &str| Environment {
        pci_functions: vec![PciFunction {
            address: "0000:3b:00.0".parse().unwrap(),
            driver: Some(driver.into()),
        }],
        ..machine()
    };
    assert!(arguments(&with("vfio-pci"), &Options::default()).ends_with("-a 0000:00:00.0"));
    assert!(arguments(&with("mlx5_core"), &Options::default()).ends_with("-a 0000:00:00.0"));
    assert!(arguments(&with("virtio-pci"), &Options::default()).ends_with("--no-pci"));
}

#[test]
fn given_arguments_replace_derived_ones() {
    let options = Options { arguments: Some(vec!["-l".into(), "1".into()]), ..Options::default() };
    let derived = derive(&machine(), &options);
    assert_eq!(derived.arguments, ["-l", "1"]);
    assert_eq!(derived.worker_cpus, [3]);
}

prop_compose! {
    fn cpu_sets()(online in prop::collection::btree_set(0_u32..256, 1..12), keep: u16) -> (CpuSet, CpuSet) {
        let allowed = online.iter().enumerate().filter(|(index, _)| keep >> index & 1 == 1).map(|(_, cpu)| *cpu).collect();
        (online.into_iter().collect(), allowed)
    }
}

prop_compose! {
    fn environments()(
        (cpus_online, cpus_allowed) in cpu_sets(),
        cpu_quota in prop::option::of(0_u32..20_000),
        memory_limit in prop::option::of(any::<u64>()),
        memory_available: u64,
        pools in prop::collection::vec((prop::sample::select(vec![0_u64, 2 << 20, 1 << 30, u64::MAX]), any::<u64>(), any::<Option<u64>>()), 0..3),
        value in ".{0,60}",
        listed in "[0-9a-f:.,]{0,40}",
        driver in prop::option::of(prop::sample::select(vec!["vfio-pci", "ixgbe"])),
    ) -> Environment {
        let variables = [("PCIDEVICE_A_INFO", value), ("PCIDEVICE_B", listed)];
        Environment {
            cpus_online, cpus_allowed, cpu_quota, memory_limit, memory_available,
            hugepages: pools.into_iter().map(|(size, free, limit)| HugepagePool { size, free, limit }).collect(),
            hugetlbfs: Vec::new(),
            pci_variables: variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            pci_functions: vec![PciFunction { address: "0000:01:00.0".parse().unwrap(), driver: driver.map(str::to_owned) }],
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_found_the_result_is_sound(
        environment in environments(),
        cpus in prop::option::of(cpu_sets()),
        workers in prop::option::of(0_usize..300),
        memory in any::<Option<u64>>(),
    ) {
        let options = Options { cpus: cpus.map(|(cpus, _)| cpus), workers, memory, ..Options::default() };
        let derived = derive(&environment, &options);
        prop_assert_eq!(&derived, &derive(&environment, &options), "a function of its arguments");

        let allowed = &environment.cpus_allowed;
        let distinct: CpuSet = derived.worker_cpus.iter().copied().collect();
        prop_assert!(!derived.worker_cpus.is_empty() && distinct.len() == derived.worker_cpus.len());
        prop_assert!(!derived.housekeeping_cpus.is_empty());
        if !allowed.is_empty() {
            prop_assert!(distinct.difference(allowed).is_empty());
            prop_assert!(derived.housekeeping_cpus.difference(allowed).is_empty());
            if distinct.len() < allowed.len() {
                prop_assert!(distinct.intersection(&derived.housekeeping_cpus).is_empty());
            }
        }

        prop_assert!(derived.memory >= LEAST_MEMORY);
        if derived.hugepages {
            let free = environment.hugepages.iter().fold(0_u128, |sum, pool| {
                let free = u128::from(pool.size) * u128::from(pool.free);
                sum.saturating_add(pool.limit.map_or(free, |limit| free.min(limit.into())))
            });
            prop_assert!(u128::from(derived.memory) * u128::from(MB) <= free);
        }
        let has = |argument: &str| derived.arguments.iter().any(|a| a == argument);
        prop_assert_eq!(has("--no-huge"), !derived.hugepages);
        prop_assert_ne!(has("--in-memory"), has("--no-huge"));
        prop_assert_ne!(has("--no-pci"), has("-a"));
        prop_assert_eq!(derived.arguments.iter().filter(|a| *a == "-a").count().saturating_sub(derived.pci.len()), usize::from(has("-a") && derived.pci.is_empty()));
    }
}
