//! pe-dataplane: workers, slow path and gRPC service of the forwarding engine.

fn main() {}
