//! pe-controller: from objects to FRR's configuration and the dataplane's topology.

fn main() {}
