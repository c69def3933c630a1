use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::load::{Loaded, Objects, node_config, objects};
use super::tree::MAX_FILE_BYTES;
use crate::model::{Failure, Kind, NodeConfig, Object, ObjectRef, Reason};

/// The configuration directory: `node-config.yaml`, and `openpe_*.yaml` in `configs`.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    /// The last good reading of each file. While a file cannot be read, for instance because an editor has written half
    /// of it, its objects stay.
    good: BTreeMap<PathBuf, Loaded>,
    good_node: Option<Object<NodeConfig>>,
}

/// One reading of the directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The well-formed objects of all files, in the order of the files' names.
    pub objects: Objects,
    /// Which node this is; none while `node-config.yaml` was never readable.
    pub node: Option<Object<NodeConfig>>,
    /// What is wrong with the files and the other objects.
    pub failures: Vec<Failure>,
}

impl Directory {
    /// The directory at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), good: BTreeMap::new(), good_node: None }
    }

    /// The directories whose changes matter.
    #[must_use]
    pub fn watched(&self) -> [PathBuf; 2] {
        [self.root.clone(), self.root.join("configs")]
    }

    /// Reads all files.
    pub fn read(&mut self) -> Reading {
        let mut failures = Vec::new();
        let path = self.root.join("node-config.yaml");
        match read_text(&path).and_then(|text| node_config(&path, &text)) {
            Ok(node) => self.good_node = Some(node),
            Err(failure) => failures.push(*failure),
        }
        let files = match config_files(&self.root.join("configs")) {
            Ok(files) => {
                self.good.retain(|path, _| files.contains(path));
                files
            }
            Err(failure) => {
                failures.push(*failure);
                self.good.keys().cloned().collect()
            }
        };
        let mut all = Objects::default();
        for path in files {
            match read_text(&path).and_then(|text| objects(&path, &text)) {
                Ok(loaded) => {
                    self.good.insert(path.clone(), loaded);
                }
                Err(mut failure) => {
                    if self.good.contains_key(&path) {
                        failure.message.push_str("; its objects stay as they were");
                    }
                    failures.push(*failure);
                }
            }
            if let Some(loaded) = self.good.get(&path) {
                all.append(loaded.objects.clone());
                failures.extend(loaded.failures.iter().cloned());
            }
        }
        Reading { objects: all, node: self.good_node.clone(), failures }
    }
}

/// The `openpe_*.yaml` of a directory, by name.
fn config_files(directory: &Path) -> Result<Vec<PathBuf>, Box<Failure>> {
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("openpe_") && (name.ends_with(".yaml") || name.ends_with(".yml"))
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    Ok(files)
}

/// Reads a file of at most 4 MiB.
///
/// # Errors
/// When it cannot be read, or is larger, or is not text.
pub fn read_text(path: &Path) -> Result<String, Box<Failure>> {
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(unreadable(path, &io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes"))));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Box<Failure> {
    Box::new(Failure {
        file: path.to_owned(),
        line: None,
        object: ObjectRef { kind: Kind::File, name: path.display().to_string() },
        field: String::new(),
        reason: Reason::ValidationFailed,
        message: format!("cannot be read: {error}"),
    })
}
