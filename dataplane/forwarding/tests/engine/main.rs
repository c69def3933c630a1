//! The engine as its callers see it: frames in, frames and verdicts out, by the public interface alone.

mod concurrent;
mod ecmp;
mod frames;
mod lab;
mod oracle;
mod robust;
mod session;
mod vxlan;
