//! The lab's bridge domains: three L2VNIs, and on every PE a station or two in each.

pub mod attach;
pub mod config;
pub mod ovs;
pub mod plan;
pub mod stations;

pub use plan::{Attachment, BACK, FRONT, ISLAND, L2VNIS, L2Vni, MTU, MTU_OVER_V6, Station};
