//! frr-bridge: translates FRR's routes into the dataplane's FIB and the topology into shadow devices.

fn main() {}
