//! FRR's configuration of a provider edge, as text.
//!
//! Lines have the form in which FRR shows its running configuration, and values that are FRR's defaults are left out:
//! frr-reload.py compares text with text, so anything else would be deleted and added again with every reload, and some
//! of that resets sessions.

mod bgp;
mod session;
mod text;
mod vrf;

use std::ops::Range;

use crate::model::{Int, ObjectRef, SessionMode};
use crate::resolve::Pe;
use crate::validate::Neighbor;
use text::Text;

/// Where frr-bridge listens for FRR's forwarding decisions. FRR's default port, 2620, is left out as FRR does.
const FPM: &str = "fpm address 127.0.0.1";

/// Most equal-cost paths: what the dataplane takes.
const MAXIMUM_PATHS: u32 = 64;

/// Seconds between attempts to connect, where the object does not say. FRR's own 120 would make every restart of a
/// neighbour an outage of minutes.
const CONNECT_SECONDS: u32 = 5;

/// A rendered `frr.conf`.
#[derive(Clone, PartialEq, Eq)]
pub struct FrrConfig {
    /// The whole file. It may contain passwords.
    pub text: String,
    /// The lines, counted from 1, that raw objects contributed.
    pub raw: Vec<(Range<usize>, ObjectRef)>,
    /// BFD is used: FRR's bfdd must run.
    pub bfd: bool,
}

impl std::fmt::Debug for FrrConfig {
    // The text may contain passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrrConfig").field("bytes", &self.text.len()).field("raw", &self.raw).finish()
    }
}

impl FrrConfig {
    /// The raw object that contributed `line`, counted from 1.
    #[must_use]
    pub fn raw_at(&self, line: usize) -> Option<&ObjectRef> {
        self.raw.iter().find(|(lines, _)| lines.contains(&line)).map(|(_, id)| id)
    }

    /// The raw object that contributed a line that reads `command`, if nothing else did.
    #[must_use]
    pub fn raw_with(&self, command: &str) -> Option<&ObjectRef> {
        let mut found = None;
        for (at, line) in self.text.lines().enumerate() {
            if line.split_whitespace().eq(command.split_whitespace()) {
                found = Some(self.raw_at(at + 1)?);
            }
        }
        found
    }
}

/// Renders `pe`. The same `pe` always gives the same text.
#[must_use]
pub fn frr_config(pe: &Pe) -> FrrConfig {
    let mut text = Text::default();
    text.line("! Written by pe-controller: changes are lost.");
    text.line("frr defaults traditional");
    if let Some(hostname) = &pe.hostname {
        text.line(format_args!("hostname {hostname}"));
    }
    text.separator();
    text.line("ip nht resolve-via-default");
    text.line("ipv6 nht resolve-via-default");
    text.line(FPM);
    text.separator();
    for vni in &pe.vnis {
        vrf::device(&mut text, vni);
    }
    let mut bfd = false;
    if let Some((underlay, router_id)) = &pe.underlay {
        bfd_profiles(&mut text, &underlay.neighbors);
        bfd = underlay.neighbors.iter().any(|neighbor| neighbor.bfd.is_some());
        text.block("route-map allowall permit 1", "exit", |_| {});
        text.separator();
        bgp::underlay(&mut text, pe, underlay, *router_id);
        for vni in &pe.vnis {
            vrf::bgp(&mut text, pe, vni, underlay.asn, *router_id);
        }
    }
    let mut raw = Vec::new();
    for object in &pe.raw {
        text.line(format_args!("! {}", object.id));
        let first = text.next_line();
        for line in object.spec.raw_config.lines() {
            text.line(line.trim_end());
        }
        raw.push((first..text.next_line(), object.id.clone()));
        text.separator();
    }
    FrrConfig { text: text.finish(), raw, bfd }
}

/// The name of the BFD profile of `neighbor`; none when FRR's defaults do.
fn bfd_profile(neighbor: &Neighbor) -> Option<String> {
    let bfd = neighbor.bfd.as_ref()?;
    let any = bfd.receive_interval.is_some()
        || bfd.transmit_interval.is_some()
        || bfd.detect_multiplier.is_some()
        || bfd.session_mode.is_some()
        || bfd.minimum_ttl.is_some();
    any.then(|| format!("neighbor-{}", neighbor.peer))
}

/// The block is there even when it is empty: once entered, FRR shows it for ever.
fn bfd_profiles(text: &mut Text, neighbors: &[Neighbor]) {
    text.block("bfd", "exit", |text| {
        for neighbor in neighbors {
            let (Some(name), Some(bfd)) = (bfd_profile(neighbor), &neighbor.bfd) else { continue };
            text.block(format_args!("profile {name}"), "exit", |text| {
                let mut unless = |command: &str, value: Option<u32>, default: u32| {
                    if let Some(value) = value.filter(|value| *value != default) {
                        text.line(format_args!("{command} {value}"));
                    }
                };
                unless("detect-multiplier", bfd.detect_multiplier.map(Int::value), 3);
                unless("transmit-interval", bfd.transmit_interval.map(Int::value), 300);
                unless("receive-interval", bfd.receive_interval.map(Int::value), 300);
                unless("minimum-ttl", bfd.minimum_ttl.map(Int::value), 254);
                if bfd.session_mode == Some(SessionMode::Passive) {
                    text.line("passive-mode");
                }
            });
        }
    });
    text.separator();
}

#[cfg(test)]
mod tests;
