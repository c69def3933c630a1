//! Safe Rust over DPDK: EAL, mempools, packet buffers, ports and queues.
