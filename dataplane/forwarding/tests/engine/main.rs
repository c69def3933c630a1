//! The engine as its callers see it: frames in, frames and verdicts out, by the public interface alone.

mod bridge;
mod bridge_lab;
mod bridge_oracle;
mod concurrent;
mod ecmp;
mod frames;
mod lab;
mod large;
mod learning;
mod oracle;
mod remembered;
mod robust;
mod session;
mod vxlan;
