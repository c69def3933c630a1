//! What the engine does to the machine it runs on: network namespaces, links, TAPs.

mod adopt;
pub mod bridges;
mod kernel;
mod links;
mod netns;
mod tap;

pub use adopt::{Adopted, Adopter};
pub use kernel::cuts_in_front_of_devices;
pub use links::{Link, LinkEvent, LinkSettings, Links};
pub use netns::Netns;
pub use tap::{Header, MAX_NAME, Tap};
