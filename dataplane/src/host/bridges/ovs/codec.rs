//! The stream between us and ovsdb-server: JSON objects one after the other, without lengths or separators (RFC 7047
//! section 4).

use serde_json::Value;

/// Longest message. ovsdb-server sends whole tables in one.
const MAX_MESSAGE: usize = 64 << 20;

/// The stream makes no sense any more.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Something else than an object.
    #[error("a message begins with byte {byte:#04x}")]
    NoObject {
        /// Its first byte.
        byte: u8,
    },
    /// More than anybody should send.
    #[error("a message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Balanced, but not JSON.
    #[error("a message is not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Cuts a stream of bytes into messages. Looks at every byte once, however it is cut.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// Bytes looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete message.
    ///
    /// # Errors
    /// When the stream makes no sense; it is of no use any more then.
    pub fn next_message(&mut self) -> Result<Option<Value>, CodecError> {
        while let Some(&byte) = self.bytes.get(self.seen) {
            self.seen += 1;
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {}
                    b'{' => self.depth = 1,
                    byte => return Err(CodecError::NoObject { byte }),
                }
                continue;
            }
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                let message = self.bytes.drain(..self.seen).collect::<Vec<_>>();
                self.seen = 0;
                return Ok(Some(serde_json::from_slice(&message)?));
            }
        }
        if self.bytes.len() > MAX_MESSAGE { Err(CodecError::TooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            r#"["{}\[\]\\]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            messages in prop::collection::vec(values(), 0..6),
            blanks in prop::sample::select(vec!["", " ", "\r\n"]),
            sizes in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let messages: Vec<Value> = messages.into_iter().map(|value| json!({ "v": value })).collect();
            let stream: String = messages.iter().map(|message| format!("{message}{blanks}")).collect();
            let mut framer = Framer::default();
            let mut found = Vec::new();
            let mut rest = stream.as_bytes();
            for &size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at(size.min(rest.len()));
                framer.push(head);
                while let Some(message) = framer.next_message().unwrap() {
                    found.push(message);
                }
                rest = tail;
            }
            prop_assert_eq!(found, messages);
        }

        #[test]
        fn garbage_is_an_error_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Ok(Some(message)) = framer.next_message() {
                prop_assert!(message.is_object());
            }
        }
    }
}
