//! The dataplane's gRPC interface: types and services generated from `proto/dataplane.proto`, and how to reach it.

/// Messages and services of `openpe.dataplane.v1`.
// Generated: its documentation is the `.proto` file's, its style the generator's.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic,
    clippy::use_self
)]
pub mod v1 {
    tonic::include_proto!("openpe.dataplane.v1");
}

mod connect;

pub use connect::{ConnectError, DEFAULT_SOCKET, MAX_MESSAGE_BYTES, connect};
