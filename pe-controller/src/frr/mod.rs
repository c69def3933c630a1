//! Bringing a configuration into a running FRR.
//!
//! `vtysh -C` checks the grammar of a candidate without touching anything; `frr-reload.py` compares it with what runs
//! and applies the difference. Lines that FRR refuses are traced back to the raw objects they came from, and the rest is
//! applied without those.

mod apply;
mod command;
mod output;

pub use apply::{Applied, Frr, Instance, Settings};
pub use output::{Complaint, complaints, redact};
