//! What a run found: a JSON file per scenario, and tables.

use std::{fs, io, path::Path};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::verify::Checked;

/// What testpmd took per packet, in io mode and cycles, on the machine that the bars were set for: an EPYC of 2.6 GHz.
/// Bars are scaled by what it takes here, so that a faster machine has to do better and a slower one may do worse.
pub(crate) const REFERENCE_FLOOR: f64 = 29.0;

/// One scenario's figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) name: String,
    /// Millions of packets per second, one worker.
    pub(crate) mpps: f64,
    /// TSC cycles per packet: receive, forward, transmit, loop.
    pub(crate) cycles_total: f64,
    /// testpmd's in io mode with the same frames and ports.
    pub(crate) cycles_floor: f64,
    /// What forwarding took: the total less that.
    pub(crate) cycles_forwarding: f64,
    /// Packets that were measured.
    pub(crate) packets: u64,
    /// Frames that left meanwhile, by the sinks' counters.
    pub(crate) left: u64,
    /// Frames that were compared byte by byte before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checked: Option<Checked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bar: Option<Bar>,
    /// Of flooding: copies that leave for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) copies: Option<u16>,
    /// And the share of the total that each of them has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cycles_per_copy: Option<f64>,
}

/// What forwarding may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Bar {
    /// Cycles per packet at most on the machine that it was set for.
    pub(crate) cycles: f64,
    /// The same for this machine.
    pub(crate) scaled: f64,
    pub(crate) met: bool,
}

impl Bar {
    /// Holds `forwarding` against a bar of so many `cycles`, on a machine whose testpmd takes `floor`.
    pub(crate) fn hold(cycles: f64, floor: f64, forwarding: f64) -> Self {
        let scaled = cycles * floor / REFERENCE_FLOOR;
        Self { cycles, scaled, met: forwarding <= scaled }
    }
}

/// Two figures of one run, one divided by the other.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) name: String,
    /// What is divided by what.
    pub(crate) what: String,
    pub(crate) ratio: f64,
    /// The bar, which no machine scales.
    pub(crate) bar: f64,
    pub(crate) met: bool,
    /// The same of testpmd in io mode, where it can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) testpmd: Option<f64>,
}

/// Writes `value` to `folder/name.json`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    text.push('\n');
    fs::write(folder.join(name).with_extension("json"), text)
}

/// Puts `value` under `key` of the object in `file`, which may be missing, and leaves its other keys.
///
/// # Errors
/// When the file holds something else or cannot be written.
pub(crate) fn merge(file: &Path, key: &str, value: serde_json::Value) -> io::Result<()> {
    let mut object: serde_json::Map<_, _> = match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => serde_json::Map::new(),
        Err(error) => return Err(error),
    };
    object.insert(key.to_owned(), value);
    fs::write(file, format!("{:#}\n", serde_json::Value::from(object)))
}

/// In a table.
pub(crate) const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// The figures as a table for people.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "scenario",
        "Mpps",
        "cycles/packet",
        "testpmd io",
        "forwarding",
        "bar here",
        "verdict",
        "per copy",
        "frames compared",
    ]);
    let number = |cycles: f64| format!("{cycles:.0}");
    for figures in all {
        table.add_row([
            figures.name.clone(),
            format!("{:.2}", figures.mpps),
            number(figures.cycles_total),
            number(figures.cycles_floor),
            number(figures.cycles_forwarding),
            figures.bar.map_or_else(String::new, |bar| format!("{:.0} ({:.0})", bar.scaled, bar.cycles)),
            figures.bar.map_or("", |bar| verdict(bar.met)).to_owned(),
            figures.cycles_per_copy.map_or_else(String::new, number),
            figures.checked.map_or_else(String::new, |checked| checked.left.to_string()),
        ]);
    }
    table.to_string()
}

/// The comparisons as a table for people.
pub(crate) fn comparisons(all: &[Comparison]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["comparison", "ratio", "bar", "verdict", "testpmd io"]);
    for comparison in all {
        table.add_row([
            format!("{}: {}", comparison.name, comparison.what),
            format!("{:.2}", comparison.ratio),
            format!("{:.2}", comparison.bar),
            verdict(comparison.met).to_owned(),
            comparison.testpmd.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_keys_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tables.json");
        for (key, value) in [("fib", 1), ("bgp", 2), ("fib", 3)] {
            merge(&file, key, value.into()).expect("merged");
        }
        let merged: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
        assert_eq!(merged, serde_json::json!({ "fib": 3, "bgp": 2 }));
        fs::write(&file, "[]").expect("written");
        assert!(merge(&file, "fib", 1.into()).is_err());
    }

    #[test]
    fn a_faster_machine_has_to_do_better() {
        assert_eq!(Bar::hold(58.0, 14.5, 30.0), Bar { cycles: 58.0, scaled: 29.0, met: false });
        assert!(Bar::hold(58.0, 29.0, 58.0).met);
        assert!(!Bar::hold(58.0, 29.0, 58.1).met);
    }
}
