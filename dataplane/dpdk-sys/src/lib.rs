//! Raw bindings to DPDK 22.11 to 25.11: bindgen output and a C shim for its inline functions.
//!
//! Nothing here is safe to use on its own; the `dpdk` crate is the one user. Functions keep their DPDK names and
//! documentation; those that start with `shim_` are in `shim.c`.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unused_qualifications,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::use_self,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::semicolon_if_nothing_returned
)]

mod mbuf;

pub use mbuf::Mbuf;

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

// A bad allowlist gives empty bindings and a green build; these fail instead.
const _: () = assert!(size_of::<rte_ether_addr>() == 6);
const _: () = assert!(size_of::<rte_eth_stats>() >= 7 * 8);
const _: () = assert!(size_of::<shim_eth_info>() == 56);

unsafe extern "C" {
    pub safe fn shim_errno() -> i32;
    pub safe fn shim_lcore_id() -> u32;
    pub safe fn shim_rdtsc() -> u64;
    pub fn shim_reserve_note() -> i32;
    pub fn shim_eth_rx_burst(port: u16, queue: u16, packets: *mut *mut rte_mbuf, count: u16) -> u16;
    pub fn shim_eth_tx_burst(port: u16, queue: u16, packets: *mut *mut rte_mbuf, count: u16) -> u16;
    pub fn shim_pktmbuf_alloc_bulk(pool: *mut rte_mempool, packets: *mut *mut rte_mbuf, count: u32) -> i32;
    pub fn shim_pktmbuf_free(packet: *mut rte_mbuf);
    pub fn shim_pktmbuf_data_room(pool: *mut rte_mempool) -> u16;
    pub fn shim_eth_configure(
        port: u16,
        rx_queues: u16,
        tx_queues: u16,
        mtu: u32,
        rx_interrupts: i32,
        spread: i32,
        rx_offloads: u64,
        tx_offloads: u64,
    ) -> i32;
    pub fn shim_eth_info(port: u16, out: *mut shim_eth_info) -> i32;
    pub fn shim_eth_link(port: u16, out: *mut shim_eth_link) -> i32;
}
