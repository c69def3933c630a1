//! Compiles the `.proto` files.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().bytes(".").compile_protos(&["proto/dataplane.proto"], &["proto"])
}
