//! A whole run: every measurement in a process of its own, and what they amount to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::engine::{self, BURST, Measured};
use crate::floor::{self, Floor};
use crate::hugepages::Hugepages;
use crate::report::{self, Bar, Comparison, Figures};
use crate::scenario::{ALL, Scenario};
use crate::verify::Checked;
use crate::{PAGES, pcap};

/// The comparison of two workers with one.
pub(crate) const WORKERS: &str = "workers-2";
/// It is made with this scenario.
const OF_WORKERS: &str = "ipv4-1m";
/// And repeated, for what else runs on a machine whose every CPU is busy counts twice; the best counts.
const REPEATED: usize = 3;
/// Packets of two workers against one.
const WORKERS_BAR: f64 = 1.9;
/// Cycles of the mixed scenario against the weighted sum of its parts.
const MIXED_BAR: f64 = 1.3;

/// Where a run leaves what it found, and how long each measurement takes.
pub(crate) struct Run {
    pub(crate) out: PathBuf,
    pub(crate) time: Duration,
    pub(crate) no_huge: bool,
}

impl Run {
    /// Measures what is named, or everything.
    ///
    /// # Errors
    /// When something cannot be measured, or a frame came out wrong.
    pub(crate) fn measure(&self, names: &[String]) -> anyhow::Result<()> {
        let hugepages = if self.no_huge {
            None
        } else {
            let pages = Hugepages::borrow(PAGES);
            pages.inspect_err(|error| eprintln!("pe-bench: without hugepages: {error}")).ok()
        };
        let memory = memory(hugepages.is_some());
        let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
        for name in names {
            if name != WORKERS {
                by_name(name)?;
            }
        }
        let folder = tempfile::tempdir().context("cannot make a folder for captures")?;
        let mut all = Vec::<Figures>::new();
        for scenario in ALL.iter().filter(|scenario| is_wanted(scenario.name)) {
            eprintln!("pe-bench: {}", scenario.name);
            let captures = write_captures(folder.path(), *scenario)?;
            let floor = floor::measure(&captures, 1, &memory, BURST, self.time)?;
            if all.is_empty() {
                all.push(self.floor(floor)?);
            }
            let floor = floor.cycles;
            // The first of them: the machine's.
            let machine = all.first().map_or(floor, |figures| figures.cycles_total);
            let checked: Checked = in_child(&["check", scenario.name], &[])?;
            let seconds = self.time.as_secs().to_string();
            let measured: Measured = in_child(&["one", scenario.name, &seconds], &captures)?;
            let figures = figures(*scenario, measured, floor, machine, checked);
            report::save(&self.out, scenario.name, &figures)?;
            all.push(figures);
        }
        let mut comparisons: Vec<Comparison> = ALL.iter().filter_map(|whole| mixture(*whole, &all)).collect();
        if is_wanted(WORKERS) {
            eprintln!("pe-bench: {WORKERS}");
            comparisons.push(self.workers(folder.path(), &memory)?);
        }
        for comparison in &comparisons {
            report::save(&self.out, &format!("{}-ratio", comparison.name), comparison)?;
        }
        println!("{}\n\n{}", report::table(&all), report::comparisons(&comparisons));
        Ok(())
    }

    /// The floor is a row too: that of the first capture, the shortest frames.
    fn floor(&self, floor: Floor) -> anyhow::Result<Figures> {
        let figures = Figures {
            name: "floor".to_owned(),
            mpps: floor.megahertz / floor.cycles,
            cycles_total: floor.cycles,
            cycles_floor: floor.cycles,
            cycles_forwarding: 0.0,
            packets: floor.packets,
            left: floor.packets,
            checked: None,
            bar: None,
            copies: None,
            cycles_per_copy: None,
        };
        report::save(&self.out, "floor", &figures)?;
        Ok(figures)
    }

    /// Two workers on two ports against one on both, and testpmd likewise.
    fn workers(&self, folder: &Path, memory: &[String]) -> anyhow::Result<Comparison> {
        let captures = write_captures(folder, by_name(OF_WORKERS)?)?;
        let both: Vec<PathBuf> = captures.iter().chain(&captures).cloned().collect();
        let seconds = self.time.as_secs().to_string();
        let (mut best, mut testpmd) = (0.0_f64, 0.0_f64);
        for _ in 0..REPEATED {
            let floor = |cores| floor::measure(&both, cores, memory, BURST, self.time);
            // Of each core, per packet of all.
            let cycles = (floor(1)?.cycles, floor(2)?.cycles);
            testpmd = testpmd.max(2.0 * cycles.0 / cycles.1);
            let rate = |workers: &str| -> anyhow::Result<f64> {
                let measured: Measured = in_child(&["twice", OF_WORKERS, workers, &seconds], &captures)?;
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                Ok(measured.packets as f64 / measured.cycles * measured.hertz / 1e6)
            };
            let (one, two) = (rate("1")?, rate("2")?);
            eprintln!(
                "pe-bench: {OF_WORKERS} on two ports: {one:.1} and {two:.1} Mpps; testpmd {:.1} and {:.1} cycles",
                cycles.0, cycles.1
            );
            best = best.max(two / one);
        }
        Ok(Comparison {
            name: WORKERS.to_owned(),
            what: format!("packets of two workers on two ports against one on both, {OF_WORKERS}"),
            ratio: best,
            bar: WORKERS_BAR,
            met: best >= WORKERS_BAR,
            testpmd: Some(testpmd),
        })
    }
}

/// EAL's arguments for memory, of testpmd.
fn memory(huge: bool) -> Vec<String> {
    let amount = engine::MEMORY.to_string();
    let arguments: &[&str] = if huge {
        &["--in-memory", "-m", &amount]
    } else {
        // Which EAL 22.11 refuses together with --in-memory.
        &["--no-shconf", "--no-huge", "-m", &amount]
    };
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

fn write_captures(folder: &Path, scenario: Scenario) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for (input, frames) in scenario.frames().into_iter().enumerate() {
        let path = folder.join(format!("{}-{input}.pcap", scenario.name));
        pcap::write(&path, frames).with_context(|| format!("cannot write {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

/// A scenario, or which there are.
///
/// # Errors
/// When it does not exist.
pub(crate) fn by_name(name: &str) -> anyhow::Result<Scenario> {
    Scenario::by_name(name)
        .with_context(|| format!("there is no scenario \"{name}\"; `pe-bench list` names them"))
}

fn figures(scenario: Scenario, measured: Measured, floor: f64, machine: f64, checked: Checked) -> Figures {
    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
    let cycles_total = measured.cycles / measured.packets as f64;
    let cycles_forwarding = cycles_total - floor;
    Figures {
        name: scenario.name.to_owned(),
        mpps: measured.hertz / cycles_total / 1e6,
        cycles_total,
        cycles_floor: floor,
        cycles_forwarding,
        packets: measured.packets,
        left: measured.left,
        checked: Some(checked),
        bar: scenario.bar.map(|bar| Bar::hold(bar, machine, cycles_forwarding)),
        copies: scenario.floods().then(|| scenario.copies()),
        cycles_per_copy: scenario.floods().then(|| cycles_total / f64::from(scenario.copies())),
    }
}

/// The sum of what the parts have, each by its share; nothing when one is missing.
fn weighted(parts: &[(&'static str, f64)], values: &BTreeMap<&str, f64>) -> Option<f64> {
    parts.iter().map(|(name, share)| Some(values.get(name)? * share)).sum()
}

/// Forwarding of a scenario that is made of others against the weighted sum of theirs.
fn mixture(whole: Scenario, all: &[Figures]) -> Option<Comparison> {
    let by_name: BTreeMap<&str, f64> =
        all.iter().map(|figures| (figures.name.as_str(), figures.cycles_forwarding)).collect();
    let parts = whole.parts();
    if parts.is_empty() {
        return None;
    }
    let ratio = by_name.get(whole.name)? / weighted(&parts, &by_name)?;
    Some(Comparison {
        name: whole.name.to_owned(),
        what: "cycles of forwarding against the weighted sum of its parts".to_owned(),
        ratio,
        bar: MIXED_BAR,
        met: ratio <= MIXED_BAR,
        testpmd: None,
    })
}

fn in_child<T: DeserializeOwned>(arguments: &[&str], captures: &[PathBuf]) -> anyhow::Result<T> {
    let program = std::env::current_exe().context("cannot find my own program")?;
    let output = Command::new(program)
        .args(arguments)
        .args(captures)
        .output()
        .context("cannot start a process for the measurement")?;
    if !output.status.success() {
        bail!("{}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    // DPDK's drivers print as they please; the figures are the last line.
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().context("the measurement printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("cannot read figures from {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weighted_sum_needs_all_parts() {
        let parts = [("a", 0.25), ("b", 0.75)];
        assert_eq!(weighted(&parts, &BTreeMap::from([("a", 4.0), ("b", 8.0)])), Some(7.0));
        assert_eq!(weighted(&parts, &BTreeMap::from([("a", 4.0)])), None);
    }
}
