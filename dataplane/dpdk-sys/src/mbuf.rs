//! The fields of `struct rte_mbuf` a dataplane reads and writes, at their ABI offsets.

use core::mem::offset_of;

/// `struct rte_mbuf`, seen through the fields that are used.
///
/// bindgen's view of it is not source compatible across releases: 22.11 has `data_off` at top level beside zero-sized
/// markers, 24.07 puts it inside anonymous unions. The offsets did not move; `shim.c` asserts them against whichever
/// header is installed.
#[repr(C, align(64))]
pub struct Mbuf {
    pub buf_addr: *mut u8,
    pub buf_iova: u64,
    pub data_off: u16,
    pub refcnt: u16,
    pub nb_segs: u16,
    pub port: u16,
    pub ol_flags: u64,
    pub packet_type: u32,
    pub pkt_len: u32,
    pub data_len: u16,
    pub vlan_tci: u16,
    pub rss_hash: u32,
    _rest_of_hash_and_outer_tag: [u8; 6],
    pub buf_len: u16,
    pub pool: *mut u8,
    pub next: *mut u8,
    pub tx_offload: u64,
}

impl Mbuf {
    /// `RTE_MBUF_F_RX_RSS_HASH`: the NIC has set `rss_hash`.
    pub const RX_RSS_HASH: u64 = 1 << 1;
    /// The flag that [`shim_reserve_note`](crate::shim_reserve_note) reserves: the last of those that DPDK gives out.
    pub const NOTE: u64 = 1 << 40;
    /// `RTE_PKTMBUF_HEADROOM`: bytes in front of the data of a fresh mbuf.
    pub const HEADROOM: u16 = 128;
}

const _: () = assert!(size_of::<Mbuf>() == 128);
const _: () = assert!(offset_of!(Mbuf, rss_hash) == 44);
const _: () = assert!(offset_of!(Mbuf, buf_len) == 54);
const _: () = assert!(offset_of!(Mbuf, pool) == 56);
const _: () = assert!(offset_of!(Mbuf, next) == 64);
const _: () = assert!(offset_of!(Mbuf, tx_offload) == 72);
