//! Raw bindings to DPDK: bindgen output and a C shim for its inline functions.
