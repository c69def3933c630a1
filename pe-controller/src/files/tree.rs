use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use serde_saphyr::Spanned;

/// Largest file that is read, bytes.
pub(crate) const MAX_FILE_BYTES: usize = 4 << 20;

/// Deepest nesting that is read; the objects need 8. Parsing takes some 40 KiB of stack per level.
const MAX_DEPTH: usize = 24;

/// The text is not YAML, or more of it than is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Line, counted from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
}

/// A YAML document as plain values, and the lines they stand in.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// The values.
    pub value: Value,
    /// Line of each value, by its path, e.g. `l3vnis[0].vni`.
    pub lines: BTreeMap<String, u64>,
}

/// Parses one YAML document.
///
/// # Errors
/// When it is not YAML, nests deeper than 24, repeats a key, or is larger than 4 MiB.
pub fn parse(text: &str) -> Result<Tree, YamlError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(YamlError { line: None, message: format!("larger than {MAX_FILE_BYTES} bytes") });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        with_snippet: false,
    };
    let node: Spanned<Node> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError {
            line: error.location().map(|location| location.line()),
            message: format!("not valid YAML: {error}"),
        })?;
    let mut lines = BTreeMap::new();
    let value = flatten(node, String::new(), &mut lines);
    Ok(Tree { value, lines })
}

enum Node {
    Scalar(Value),
    Sequence(Vec<Spanned<Self>>),
    Mapping(Vec<(String, Spanned<Self>)>),
}

fn flatten(node: Spanned<Node>, path: String, lines: &mut BTreeMap<String, u64>) -> Value {
    let line = node.referenced.line();
    let value = match node.value {
        Node::Scalar(value) => value,
        Node::Sequence(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| flatten(item, format!("{path}[{index}]"), lines))
            .collect(),
        Node::Mapping(entries) => entries
            .into_iter()
            .map(|(key, item)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                (key, flatten(item, path, lines))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
    };
    if line > 0 {
        lines.insert(path, line);
    }
    value
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Sequence(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_and_their_lines() {
        let tree = parse("a:\n  - b: 1\n    c: [x, 'y']\n\nd: {e: null, f: 1.5, g: true}\n").unwrap();
        assert_eq!(
            tree.value,
            json!({"a": [{"b": 1, "c": ["x", "y"]}], "d": {"e": null, "f": 1.5, "g": true}})
        );
        for (path, line) in [("a[0].b", 2), ("a[0].c", 3), ("a[0].c[1]", 3), ("d.g", 5)] {
            assert_eq!(tree.lines.get(path), Some(&line), "{path}");
        }
    }

    #[test]
    fn addresses_and_areas_stay_text() {
        let tree = parse("- 10.0.0.1\n- fd00::1\n- 10.0.0.0/24\n- 64514:100\n- 49.0001.0002.0003.0004.00\n")
            .unwrap();
        for value in tree.value.as_array().unwrap() {
            assert!(value.is_string(), "{value}");
        }
    }

    #[test]
    fn anchors_are_followed() {
        let tree = parse("base: &b {x: 1}\nuse: *b\n").unwrap();
        assert_eq!(tree.value, json!({"base": {"x": 1}, "use": {"x": 1}}));
    }

    #[test]
    fn an_empty_file_is_nothing() {
        assert_eq!(parse("").unwrap().value, Value::Null);
        assert_eq!(parse("# only a comment\n").unwrap().value, Value::Null);
    }

    #[test]
    fn what_is_not_yaml_names_its_line() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.line.is_some_and(|line| line >= 2), "{error:?}");
        assert!(error.message.starts_with("not valid YAML"), "{error}");
    }

    #[test]
    fn repeated_keys_depth_and_size_are_refused() {
        parse("a: 1\na: 2\n").unwrap_err();
        parse(&"[".repeat(5000)).unwrap_err();
        parse(&format!("{}1{}", "[".repeat(200), "]".repeat(200))).unwrap_err();
        parse(&"#".repeat(MAX_FILE_BYTES + 1)).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC*|[-a:\\[\\]{}&*!|>'\"#,\n 0-9]{0,200}") {
            let _ = parse(&text);
        }
    }
}
