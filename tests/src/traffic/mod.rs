//! Traffic of tests, made in this process: a process per ping would cost user-mode Linux 40 ms each.

pub mod exchange;
pub mod frames;
pub mod outer;
pub mod packet;
pub mod ping;
pub mod sniff;
pub mod stream;
pub mod who;

pub use exchange::exchange;
pub use frames::inject;
pub use outer::Outer;
pub use ping::ping;
pub use sniff::{Sniffer, Way};
pub use stream::{Report, Stream};
