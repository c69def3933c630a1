//! Reading objects from files: `node-config.yaml` and `openpe_*.yaml`.

mod directory;
mod load;
mod tree;

pub use directory::{Directory, Reading, read_text};
pub use load::{Loaded, Objects, node_config, objects};
pub use tree::{Tree, YamlError, parse};
