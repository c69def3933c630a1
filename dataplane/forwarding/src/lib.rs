//! The forwarding engine: headers, FIB, next hops and VXLAN, without DPDK, I/O or a clock.

pub mod fib;
pub mod reclaim;
