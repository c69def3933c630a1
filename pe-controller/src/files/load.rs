use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::tree::{Tree, parse};
use crate::model::{
    Failure, FieldError, Kind, L2VniSpec, L3PassthroughSpec, L3VniSpec, L3VpnSpec, NodeConfig, Object,
    ObjectRef, RawFrrConfigSpec, Reason, Source, UnderlaySpec,
};

/// All well-formed objects of some files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Underlays, of which a node takes one.
    pub underlays: Vec<Object<UnderlaySpec>>,
    /// L3VNIs.
    pub l3vnis: Vec<Object<L3VniSpec>>,
    /// Raw FRR configuration.
    pub raw: Vec<Object<RawFrrConfigSpec>>,
    /// L2VNIs.
    pub l2vnis: Vec<Object<L2VniSpec>>,
    /// L3VPNs.
    pub l3vpns: Vec<Object<L3VpnSpec>>,
    /// Sessions in the default VRF.
    pub passthroughs: Vec<Object<L3PassthroughSpec>>,
}

impl Objects {
    /// Adds the objects of `other` behind these.
    pub fn append(&mut self, mut other: Self) {
        self.underlays.append(&mut other.underlays);
        self.l3vnis.append(&mut other.l3vnis);
        self.raw.append(&mut other.raw);
        self.l2vnis.append(&mut other.l2vnis);
        self.l3vpns.append(&mut other.l3vpns);
        self.passthroughs.append(&mut other.passthroughs);
    }
}

/// What one file holds: its objects, and what is wrong with the rest of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The well-formed objects.
    pub objects: Objects,
    /// One per object that is not, or one for the file.
    pub failures: Vec<Failure>,
}

/// Reads the objects of one `openpe_*.yaml`, whose content is `text`. Every bad object is a failure of its own.
///
/// # Errors
/// When the file as a whole cannot be read: then nothing is known of its objects.
pub fn objects(file: &FilePath, text: &str) -> Result<Loaded, Box<Failure>> {
    let tree = parse(text).map_err(|error| whole(file, error.line, error.message))?;
    let mut sections = match tree.value.clone() {
        Value::Null => serde_json::Map::new(),
        Value::Object(sections) => sections,
        _ => {
            return Err(whole(
                file,
                Some(1),
                "expected a mapping with lists such as underlays and l3vnis".to_owned(),
            ));
        }
    };
    let mut reader = Reader { file, tree: &tree, failures: Vec::new() };
    let objects = Objects {
        underlays: reader.list(Kind::Underlay, "underlays", sections.remove("underlays")),
        l3vnis: reader.list(Kind::L3Vni, "l3vnis", sections.remove("l3vnis")),
        raw: reader.list(Kind::RawFrrConfig, "rawfrrconfigs", sections.remove("rawfrrconfigs")),
        l2vnis: reader.list(Kind::L2Vni, "l2vnis", sections.remove("l2vnis")),
        l3vpns: reader.list(Kind::L3Vpn, "l3vpns", sections.remove("l3vpns")),
        passthroughs: reader.single(Kind::L3Passthrough, "bgppassthrough", sections.remove("bgppassthrough")),
    };
    for key in sections.keys() {
        let message = format!(
            "unknown section {key:?}: expected underlays, l3vnis, rawfrrconfigs, l2vnis, l3vpns or bgppassthrough"
        );
        reader.failures.push(*whole(file, tree.lines.get(key).copied(), message));
    }
    Ok(Loaded { objects, failures: reader.failures })
}

/// Reads `node-config.yaml`, whose content is `text`.
///
/// # Errors
/// When it is not what such a file holds.
pub fn node_config(file: &FilePath, text: &str) -> Result<Object<NodeConfig>, Box<Failure>> {
    let tree = parse(text).map_err(|error| whole(file, error.line, error.message))?;
    let source = Source { file: file.to_owned(), lines: tree.lines };
    let object = Object { id: ObjectRef { kind: Kind::NodeConfig, name: String::new() }, source, spec: () };
    let value = if tree.value.is_null() { Value::Object(serde_json::Map::new()) } else { tree.value };
    match typed(value) {
        Ok(spec) => Ok(object.with(spec)),
        Err(error) => Err(Box::new(object.fails(Reason::ValidationFailed, error))),
    }
}

fn whole(file: &FilePath, line: Option<u64>, message: String) -> Box<Failure> {
    Box::new(Failure {
        file: file.to_owned(),
        line,
        object: ObjectRef { kind: Kind::File, name: file.display().to_string() },
        field: String::new(),
        reason: Reason::ValidationFailed,
        message,
    })
}

struct Reader<'a> {
    file: &'a FilePath,
    tree: &'a Tree,
    failures: Vec<Failure>,
}

impl Reader<'_> {
    fn list<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        section: &str,
        value: Option<Value>,
    ) -> Vec<Object<T>> {
        let items = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                let line = self.tree.lines.get(section).copied();
                self.failures.push(*whole(self.file, line, format!("{section}: expected a list of objects")));
                return Vec::new();
            }
        };
        let mut names = BTreeSet::new();
        let mut objects = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{section}[{index}]");
            let named = matches!(kind, Kind::L3Vni | Kind::L2Vni | Kind::L3Vpn);
            let object = self.object(kind, &path, item, named);
            if let Some(object) = object
                && self.unique(&mut names, &object)
            {
                objects.push(object);
            }
        }
        objects
    }

    fn single<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        section: &str,
        value: Option<Value>,
    ) -> Vec<Object<T>> {
        match value {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => self.object(kind, section, value, false).into_iter().collect(),
        }
    }

    fn unique<T>(&mut self, names: &mut BTreeSet<String>, object: &Object<T>) -> bool {
        let fresh = names.insert(object.id.name.clone());
        if !fresh {
            let error =
                FieldError::new("name", format!("{:?} is the name of an earlier object too", object.id.name));
            self.failures.push(object.fails(Reason::ValidationFailed, error));
        }
        fresh
    }

    /// One object at `path`. Its `name` is not part of the API's spec: it is the object's metadata.
    fn object<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        path: &str,
        value: Value,
        named: bool,
    ) -> Option<Object<T>> {
        let mut object =
            Object { id: ObjectRef { kind, name: path.to_owned() }, source: self.source(path), spec: () };
        let spec = match value {
            Value::Object(mut fields) => match fields.remove("name") {
                Some(Value::String(name)) if !name.is_empty() => {
                    object.id.name = name;
                    Ok(Value::Object(fields))
                }
                Some(_) => Err(FieldError::new("name", "expected text")),
                None if named => Err(FieldError::new("name", "is missing")),
                None => Ok(Value::Object(fields)),
            },
            _ => Err(FieldError::new("", "expected a mapping of fields")),
        };
        match spec.and_then(typed) {
            Ok(spec) => Some(object.with(spec)),
            Err(error) => {
                self.failures.push(object.fails(Reason::ValidationFailed, error));
                None
            }
        }
    }

    fn source(&self, path: &str) -> Source {
        let lines: BTreeMap<_, _> = self
            .tree
            .lines
            .range(path.to_owned()..)
            .take_while(|(key, _)| key.starts_with(path))
            .filter_map(|(key, line)| {
                let rest = &key[path.len()..];
                let field =
                    if rest.is_empty() || rest.starts_with('[') { rest } else { rest.strip_prefix('.')? };
                Some((field.to_owned(), *line))
            })
            .collect();
        Source { file: self.file.to_owned(), lines }
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        let mut message = error.inner().to_string();
        if let Some(Value::String(text)) = at(&value, error.path())
            && !(field.ends_with("password") || field.ends_with("secret"))
            && !message.contains(text.as_str())
        {
            message = format!("{text:?}: {message}");
        }
        FieldError::new(field, message)
    })
}

/// The value at `path`.
fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        _ => None,
    })
}
