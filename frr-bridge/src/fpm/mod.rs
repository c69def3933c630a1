//! The Forwarding Plane Manager channel: zebra's `dplane_fpm_nl` module connects and streams netlink messages.

mod frame;
mod server;

pub use frame::Decoder;
pub use server::{Event, listen, serve};
