//! Generates the bindings from the DPDK that pkg-config finds, compiles the shim against the same headers, and links.

use std::{env, path::PathBuf};

/// The functions the safe layer calls. Narrow on purpose: whatever is not listed is not bound, so that releases may change
/// it freely. bindgen's regular expressions have no `(?i)` without its default features.
const FUNCTIONS: &[&str] = &[
    "rte_eal_init",
    "rte_strerror",
    "rte_version",
    "rte_get_tsc_hz",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_socket_id",
    "rte_pktmbuf_pool_create",
    "rte_pktmbuf_free_bulk",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_get_mtu",
    "rte_eth_macaddr_get",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_promiscuous_enable",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_get",
    "rte_eth_stats_get",
    "rte_eth_dev_rx_intr_ctl_q_get_fd",
    "rte_eth_dev_rx_intr_enable",
    "rte_eth_dev_rx_intr_disable",
];

/// What the safe layer and its shim refer to when linked dynamically. Drivers are plugins that EAL loads by itself from
/// the distribution's folder.
const SHARED_LIBS: &[&str] = &["eal", "mempool", "mbuf", "ethdev"];

/// Core libraries first, then the drivers we ship. Drivers (and the log types and tailqs of libraries) register
/// themselves from constructors, which only whole-archive keeps. Which of these exist depends on the release (log since
/// 23.11, argparse since 24.03), so the set is intersected with what pkg-config names.
const STATIC_LIBS: &[&str] = &[
    "log",
    "argparse",
    "kvargs",
    "telemetry",
    "eal",
    "ring",
    "rcu",
    "mempool",
    "mbuf",
    "net",
    "meter",
    "ethdev",
    "hash",
    "timer",
    "pci",
    "security",
    "cryptodev",
    "dmadev",
    "vhost",
];
const STATIC_DRIVERS: &[&str] = &[
    "bus_vdev",
    "bus_pci",
    "bus_auxiliary",
    "mempool_ring",
    "net_null",
    "net_ring",
    "net_af_packet",
    "net_memif",
    "net_vhost",
    "net_virtio",
    "net_pcap",
    "common_iavf",
    "net_iavf",
    "net_i40e",
    "net_ice",
    "net_ixgbe",
    "common_mlx5",
    "net_mlx5",
];
/// What those need from outside DPDK; dynamic, as on any Debian system.
const SYSTEM_LIBS: &[&str] = &["numa", "bsd", "pcap", "ibverbs", "mlx5", "dl", "m"];

fn main() {
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed=shim.c");
    println!("cargo::rerun-if-env-changed=DPDK_SHIM_MARCH");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let dpdk = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .expect("libdpdk 22.11 or newer (apt install libdpdk-dev)");
    println!("cargo::metadata=version={}", dpdk.version);

    // pkg-config says -march=corei7, which is what Debian's objects were built for; they choose AVX2 and AVX-512 at run
    // time. Inline functions in the shim may use more.
    let march = env::var("DPDK_SHIM_MARCH").unwrap_or_else(|_| "x86-64-v3".into());

    bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(dpdk.include_paths.iter().map(|path| format!("-I{}", path.display())))
        .clang_args(["-include", "rte_config.h", &format!("-march={march}")])
        .use_core()
        .rust_edition(bindgen::RustEdition::Edition2024)
        .rust_target(bindgen::RustTarget::stable(85, 0).expect("a release bindgen knows"))
        .generate_comments(false)
        .layout_tests(true)
        .allowlist_function(FUNCTIONS.join("|"))
        .allowlist_type("shim_eth_info|shim_eth_link|rte_eth_stats|rte_ether_addr")
        .allowlist_var("RTE_MAX_ETHPORTS|RTE_MAX_LCORE")
        // Only ever behind pointers; the layout that is needed is in src/mbuf.rs.
        .opaque_type("rte_mbuf|rte_mempool|rte_device|rte_eth_rxconf|rte_eth_txconf")
        .generate()
        .expect("bindgen")
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR is writable");

    cc::Build::new()
        .file("shim.c")
        .includes(&dpdk.include_paths)
        .flag("-include")
        .flag("rte_config.h")
        .flag(format!("-march={march}"))
        .opt_level(3)
        .warnings(false)
        .compile("dpdk_shim");

    if env::var_os("CARGO_FEATURE_STATIC").is_some() {
        link_static(&dpdk);
    } else {
        for path in &dpdk.link_paths {
            println!("cargo::rustc-link-search=native={}", path.display());
        }
        for lib in SHARED_LIBS {
            println!("cargo::rustc-link-lib=dylib=rte_{lib}");
        }
    }
}

/// `cargo::rustc-link-arg` would not do: it does not reach dependents.
fn link_static(dpdk: &pkg_config::Library) {
    let dir = pkg_config::get_variable("libdpdk", "libdir").expect("libdpdk.pc has libdir");
    println!("cargo::rustc-link-search=native={dir}");
    let has = |lib: &&&str| dpdk.libs.iter().any(|name| name.strip_prefix("rte_") == Some(**lib));
    for lib in STATIC_LIBS.iter().filter(has).chain(STATIC_DRIVERS) {
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle=rte_{lib}");
    }
    for lib in SYSTEM_LIBS {
        println!("cargo::rustc-link-lib=dylib={lib}");
    }
}
