use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The kinds of object there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// A file as a whole, or what is in it beside objects.
    File,
    /// The node's own configuration.
    NodeConfig,
    /// The node's connection to the fabric.
    Underlay,
    /// A VRF carried by EVPN type-5 routes.
    #[serde(rename = "L3VNI")]
    L3Vni,
    /// A bridge domain carried by EVPN.
    #[serde(rename = "L2VNI")]
    L2Vni,
    /// A VRF carried by SRv6.
    #[serde(rename = "L3VPN")]
    L3Vpn,
    /// A host session in the default VRF.
    L3Passthrough,
    /// A piece of FRR configuration taken as it is.
    #[serde(rename = "RawFRRConfig")]
    RawFrrConfig,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::NodeConfig => "NodeConfig",
            Self::Underlay => "Underlay",
            Self::L3Vni => "L3VNI",
            Self::L2Vni => "L2VNI",
            Self::L3Vpn => "L3VPN",
            Self::L3Passthrough => "L3Passthrough",
            Self::RawFrrConfig => "RawFRRConfig",
        })
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name, or its place in the file where it has none, e.g. `underlays[0]`.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "{}", self.kind)
        } else {
            write!(f, "{} {}", self.kind, self.name)
        }
    }
}

/// Where an object was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// Lines of the object's values, by field path such as `neighbors[0].asn`; the empty path is the object itself.
    pub lines: BTreeMap<String, u64>,
}

impl Source {
    /// The line of `field`, or of the nearest value around it that has one.
    #[must_use]
    pub fn line(&self, field: &str) -> Option<u64> {
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            if path.is_empty() {
                return None;
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }
}

/// An object and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<T> {
    /// Which one it is.
    pub id: ObjectRef,
    /// Where it was read.
    pub source: Source,
    /// What it says.
    pub spec: T,
}

impl<T> Object<T> {
    /// A failure of this object.
    #[must_use]
    pub fn fails(&self, reason: Reason, error: FieldError) -> Failure {
        Failure {
            line: self.source.line(&error.field),
            file: self.source.file.clone(),
            object: self.id.clone(),
            field: error.field,
            reason,
            message: error.message,
        }
    }

    /// The same object with another content.
    #[must_use]
    pub fn with<U>(&self, spec: U) -> Object<U> {
        Object { id: self.id.clone(), source: self.source.clone(), spec }
    }
}

/// What is wrong with one field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, e.g. `hostSession.localCIDR.ipv4`; empty when it is about the object as a whole.
    pub field: String,
    /// What is wrong and what to do, in lower case.
    pub message: String,
}

impl FieldError {
    /// An error of `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why an object is not in force. The first four are the API's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// It breaks a rule of its own, or conflicts with another object.
    ValidationFailed,
    /// Something that it needs failed.
    DependencyFailed,
    /// FRR did not take it.
    FrrConfigurationFailed,
    /// The dataplane could not set it up.
    OverlayAttachmentFailed,
    /// It is well-formed, but this release, or the FRR it works with, does not carry it.
    NotSupported,
}

/// One object, or one field of it, that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Failure {
    /// The file it was read from.
    pub file: PathBuf,
    /// Line of the field in the file, counted from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Which object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Path of the field; empty when it is about the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The kind of failure.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.object.kind != Kind::File {
            write!(f, ": {}", self.object)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A Kubernetes label selector. Without a cluster there are no labels to match, so only the empty one is of use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels the node must have.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    #[serde(default)]
    pub match_expressions: Vec<serde_json::Value>,
}

impl LabelSelector {
    /// It selects every node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}
