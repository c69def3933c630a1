use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::model::Failure;

/// How far the objects have got, for an operator: written as JSON whenever it changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Everything is in force.
    pub ready: bool,
    /// FRR's configuration.
    pub frr: Step,
    /// The dataplane's topology.
    pub dataplane: Step,
    /// Objects, or fields of them, that are not in force.
    pub failed_resources: Vec<Failure>,
}

/// How far one step has got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What the files say is in force.
    pub done: bool,
    /// Why it is not; empty when nothing was tried yet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Step {
    /// It is in force.
    #[must_use]
    pub fn done() -> Self {
        Self { done: true, error: String::new() }
    }

    /// It is not, because of `error`.
    #[must_use]
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self { done: false, error: error.to_string() }
    }
}

/// The last status, in the log and in a file.
#[derive(Debug)]
pub(super) struct StatusFile {
    path: Option<PathBuf>,
    last: Option<Status>,
}

impl StatusFile {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, last: None }
    }

    /// Says what has changed since the last time.
    pub(super) fn report(&mut self, mut status: Status) {
        status.failed_resources.sort();
        status.failed_resources.dedup();
        status.ready = status.frr.done && status.dataplane.done && status.failed_resources.is_empty();
        if self.last.as_ref() == Some(&status) {
            return;
        }
        let last = self.last.take().unwrap_or_default();
        for (what, old, new) in [
            ("FRR's configuration", &last.frr, &status.frr),
            ("the dataplane's topology", &last.dataplane, &status.dataplane),
        ] {
            match (old == new, new.done) {
                (true, _) => {}
                (false, false) if new.error.is_empty() => {}
                (false, true) => tracing::info!("{what} is in force"),
                (false, false) => tracing::warn!("{what} is not in force: {}", new.error),
            }
        }
        let old: BTreeSet<&Failure> = last.failed_resources.iter().collect();
        let new: BTreeSet<&Failure> = status.failed_resources.iter().collect();
        for failure in new.difference(&old) {
            tracing::warn!("{failure}");
        }
        for failure in old.difference(&new) {
            tracing::info!("over: {failure}");
        }
        if let Some(path) = &self.path
            && let Err(error) = write(path, &status)
        {
            tracing::warn!("cannot write the status to {}: {error}", path.display());
        }
        self.last = Some(status);
    }
}

fn write(path: &Path, status: &Status) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut text = serde_json::to_string_pretty(status)?;
    text.push('\n');
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}
