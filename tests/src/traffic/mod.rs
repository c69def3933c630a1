//! Traffic of tests, made in this process: a process per ping would cost user-mode Linux 40 ms each.

pub mod frames;
pub mod ping;
pub mod stream;
pub mod who;

pub use ping::ping;
pub use stream::{Report, Stream};
