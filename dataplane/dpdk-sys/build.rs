//! Raw bindings to DPDK.

fn main() {}
