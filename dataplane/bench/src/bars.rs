//! What `make bench` found, held against what was set out to be reached.

use std::{fs, path::Path};

use anyhow::Context;
use comfy_table::{Table, presets};
use serde_json::Value;

use crate::report::verdict;
use crate::run::WORKERS;
use crate::scenario;

/// How a figure is shown.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// Shown as KiB.
    Kibibytes,
    /// Bytes, shown as MiB.
    Mebibytes,
    /// Nanoseconds, shown as microseconds.
    Microseconds,
    Seconds,
    PerSecond,
    Ratio,
    Cycles,
    Count,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// One of them, with what was measured, if it was.
#[derive(Clone, Debug)]
struct Bar {
    what: String,
    unit: Unit,
    limit: Limit,
    figure: Option<f64>,
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::Kibibytes => format!("{:.1} KiB", figure / 1024.0),
            Self::Mebibytes => format!("{:.1} MiB", figure / 1_048_576.0),
            Self::Microseconds => format!("{:.1} microseconds", figure / 1000.0),
            Self::Seconds => format!("{figure:.2} s"),
            Self::PerSecond => format!("{figure:.0} per second"),
            Self::Ratio => format!("{figure:.2}"),
            Self::Cycles => format!("{figure:.0} cycles"),
            Self::Count => format!("{figure:.0}"),
        }
    }
}

impl Limit {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtMost(limit) => figure <= limit,
            Self::AtLeast(limit) => figure >= limit,
        }
    }

    fn show(self, unit: Unit) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {}", unit.show(limit)),
            Self::AtLeast(limit) => format!("at least {}", unit.show(limit)),
        }
    }
}

/// Those of the tables: what, where (a JSON pointer, RFC 6901), and how much.
const TABLES: [(&str, &str, Unit, Limit); 16] = {
    use Limit::{AtLeast, AtMost};
    use Unit::{Count, Kibibytes, Mebibytes, Microseconds, PerSecond, Ratio, Seconds};
    const MIB: f64 = 1_048_576.0;
    [
        (
            "resident memory for 1 000 000 IPv4 and 250 000 IPv6 routes in one VRF",
            "/process/full/resident_bytes",
            Mebibytes,
            AtMost(64.0 * MIB),
        ),
        ("an empty VRF", "/process/vrfs/empty_vrf_bytes", Kibibytes, AtMost(65_536.0)),
        ("1 000 VRFs of 300 routes", "/process/vrfs/resident_bytes", Mebibytes, AtMost(32.0 * MIB)),
        (
            "one IPv4 route of a full table changes, mean",
            "/changes/route4/mean",
            Microseconds,
            AtMost(5000.0),
        ),
        ("the same, 99 % of changes", "/changes/route4/p99", Microseconds, AtMost(5000.0)),
        (
            "one IPv6 route of a full table changes, mean",
            "/changes/route6/mean",
            Microseconds,
            AtMost(5000.0),
        ),
        ("the same, 99 % of changes", "/changes/route6/p99", Microseconds, AtMost(5000.0)),
        (
            "next hop of 1 000 000 routes, until the last packet, median",
            "/changes/last_packet/p50",
            Microseconds,
            AtMost(1e6),
        ),
        ("the same, 99 % of changes", "/changes/last_packet/p99", Microseconds, AtMost(1e6)),
        ("routes taken over gRPC, in no order", "/process/full/routes_per_second", PerSecond, AtLeast(1e6)),
        ("the same, by address", "/process/full/routes_per_second_sorted", PerSecond, AtLeast(1e6)),
        ("bgpd to dataplane, against FRR alone", "/bgp/ratio", Ratio, AtMost(1.1)),
        ("datagrams lost meanwhile", "/bgp/probes_lost", Count, AtMost(0.0)),
        ("new MACs to type-2 routes", "/learning_type2/macs_per_second", PerSecond, AtLeast(1e4)),
        ("new MACs to the dataplane's word of them", "/learning/macs_per_second", PerSecond, AtLeast(1e4)),
        (
            "start with 1 000 VNIs to the first packet, beyond EAL's",
            "/process/start/beyond_eal_seconds",
            Seconds,
            AtMost(1.0),
        ),
    ]
};

/// All there are. Scenarios' have been scaled to this machine, the kernel's rows are what was measured.
fn all(folder: &Path) -> anyhow::Result<Vec<Bar>> {
    let number = |json: &Value, pointer: &str| json.pointer(pointer).and_then(Value::as_f64);
    let mut all = Vec::new();
    let mut add = |what: String, unit, limit, figure| all.push(Bar { what, unit, limit, figure });
    for scenario in scenario::ALL.iter().filter(|scenario| scenario.bar.is_some()) {
        let json = load(folder, &format!("{}.json", scenario.name))?;
        let limit = Limit::AtMost(number(&json, "/bar/scaled").unwrap_or(f64::NAN));
        add(scenario.name.to_owned(), Unit::Cycles, limit, number(&json, "/cycles_forwarding"));
    }
    for name in ["mixed", WORKERS] {
        let json = load(folder, &format!("{name}-ratio.json"))?;
        let what = json.get("what").and_then(Value::as_str).unwrap_or_default();
        let bar = number(&json, "/bar").unwrap_or(f64::NAN);
        let limit = if name == WORKERS { Limit::AtLeast(bar) } else { Limit::AtMost(bar) };
        add(format!("{name}: {what}"), Unit::Ratio, limit, number(&json, "/ratio"));
    }
    let tables = load(folder, "tables.json")?;
    for (what, pointer, unit, limit) in TABLES {
        add(what.to_owned(), unit, limit, number(&tables, pointer));
    }
    let kernel = load(folder, "kernel.json")?;
    let equal = Limit::AtLeast(1.0);
    for row in kernel.get("forwarding").and_then(Value::as_array).into_iter().flatten() {
        let name = row.get("name").and_then(Value::as_str).unwrap_or_default();
        for (backend, ratio) in row.get("ratio").and_then(Value::as_object).into_iter().flatten() {
            let what = format!("{name}, {backend}: packets per CPU against the kernel");
            add(what, Unit::Ratio, equal, ratio.as_f64());
        }
    }
    for (what, pointer) in [("from", "/tcp/ratio/out"), ("to", "/tcp/ratio/back")] {
        let what = format!("TCP {what} the host through VXLAN against the kernel");
        add(what, Unit::Ratio, equal, number(&kernel, pointer));
    }
    Ok(all)
}

/// A JSON file; null when there is none.
fn load(folder: &Path, file: &str) -> anyhow::Result<Value> {
    let path = folder.join(file);
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// All bars with what was measured, as a table. What was not is named, too.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn table(folder: &Path) -> anyhow::Result<String> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["what", "bar", "figure", "verdict"]);
    for bar in all(folder)? {
        table.add_row(match bar.figure {
            Some(figure) => {
                let verdict = verdict(bar.limit.is_met_by(figure)).to_owned();
                [bar.what, bar.limit.show(bar.unit), bar.unit.show(figure), verdict]
            }
            None => [bar.what, String::new(), String::new(), "not measured".to_owned()],
        });
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_held_against_bars_and_missing_ones_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("written");
        write("tables.json", r#"{"bgp": {"ratio": 1.2, "probes_lost": 0}}"#);
        write("ipv4-1m.json", r#"{"cycles_forwarding": 50.0, "bar": {"scaled": 60.0}}"#);
        write("kernel.json", r#"{"forwarding": [{"name": "L3", "ratio": {"af-xdp": 0.9}}]}"#);
        let table = table(folder.path()).expect("readable");
        let row = |what: &str| {
            let row =
                table.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {table}"));
            row.split('|')
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .skip(1)
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(row("bgpd to dataplane"), "at most 1.10; 1.20; missed");
        assert_eq!(row("datagrams lost"), "at most 0; 0; met");
        assert_eq!(row("ipv4-1m"), "at most 60 cycles; 50 cycles; met");
        assert_eq!(row("L3, af-xdp"), "at least 1.00; 0.90; missed");
        assert_eq!(row("ipv6-250k"), "not measured");
        assert_eq!(row("an empty VRF"), "not measured");

        write("kernel.json", "nonsense");
        assert!(super::table(folder.path()).is_err());
    }
}
