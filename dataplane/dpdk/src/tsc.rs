//! The CPU's time stamp counter, as DPDK reads it.

use std::sync::OnceLock;

/// Cycles of the time stamp counter, which ticks at a constant rate whatever the CPU's frequency.
#[inline]
pub fn cycles() -> u64 {
    dpdk_sys::shim_rdtsc()
}

/// Ticks per second; 0 before [`Eal::init`](crate::Eal::init), which measures it.
pub fn hertz() -> u64 {
    static HERTZ: OnceLock<u64> = OnceLock::new();
    if crate::Eal::current().is_none() {
        return 0;
    }
    // SAFETY: reads a variable that rte_eal_init, which has returned, set.
    *HERTZ.get_or_init(|| unsafe { dpdk_sys::rte_get_tsc_hz() })
}
