//! What a run found: a JSON file per scenario, and a table.

use std::{fs, io, path::Path};

use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

/// One scenario's figures.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figures {
    pub(crate) name: String,
    /// Millions of packets per second, one worker.
    pub(crate) mpps: f64,
    /// TSC cycles per packet: receive, forward, transmit, loop.
    pub(crate) cycles_total: f64,
    /// Of these what forwarding took: total less testpmd's in io mode with the same frames and ports.
    pub(crate) cycles_forwarding: f64,
    /// Packets that were measured.
    pub(crate) packets: u64,
    /// Of flooding: copies that leave for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) copies: Option<u16>,
    /// And the share of the total that each of them has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cycles_per_copy: Option<f64>,
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

/// The figures as a table for people.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["scenario", "Mpps", "cycles/packet", "of these forwarding", "per copy", "packets"]);
    for figures in all {
        table.add_row([
            figures.name.clone(),
            format!("{:.2}", figures.mpps),
            format!("{:.0}", figures.cycles_total),
            format!("{:.0}", figures.cycles_forwarding),
            figures.cycles_per_copy.map_or_else(String::new, |cycles| format!("{cycles:.0}")),
            figures.packets.to_string(),
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
}
