use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// Longest TCP MD5 key the API takes, characters.
const MAX_PASSWORD: usize = 128;

/// Longest secret of a memif, characters (DPDK's `ETH_MEMIF_SECRET_SIZE`).
const MAX_MEMIF_SECRET: usize = 24;

/// A TCP MD5 key (RFC 2385). It is never shown: not by `Debug`, not in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The key itself, for FRR's configuration and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        secret(deserializer, MAX_PASSWORD).map(Self)
    }
}

/// What both sides of a memif must know. It is never shown: not by `Debug`, not in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct MemifSecret(String);

impl MemifSecret {
    /// The secret itself, for the dataplane and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MemifSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemifSecret(hidden)")
    }
}

impl<'de> Deserialize<'de> for MemifSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secret = secret(deserializer, MAX_MEMIF_SECRET)?;
        // It becomes a device argument of DPDK, where a comma would end it.
        if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-/".contains(&byte)) {
            return Err(de::Error::custom("must consist of letters, digits and . _ + - /"));
        }
        Ok(Self(secret))
    }
}

/// Reads text of 1 to `max` characters without blanks. No error repeats any of it.
fn secret<'de, D: Deserializer<'de>>(deserializer: D, max: usize) -> Result<String, D::Error> {
    // Not `String::deserialize`: its message for a number would quote the secret.
    let value = serde_json::Value::deserialize(deserializer)?;
    let text = value.as_str().ok_or_else(|| de::Error::custom("must be text: put it in quotes"))?;
    let length = text.chars().count();
    if length == 0 || length > max {
        return Err(de::Error::custom(format_args!("must have 1 to {max} characters")));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(de::Error::custom("must not contain blanks or control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_hidden() {
        let error = serde_json::from_str::<Password>("987654321").unwrap_err().to_string();
        assert!(error.contains("must be text") && !error.contains("987654321"), "{error}");
        let error = serde_json::from_str::<Password>("\"se cret\"").unwrap_err().to_string();
        assert!(!error.contains("cret"), "{error}");
        let password = serde_json::from_str::<Password>("\"s3cret\"").unwrap();
        assert_eq!(password.reveal(), "s3cret");
        assert!(!format!("{password:?}").contains("s3cret"));
        serde_json::from_str::<Password>(&format!("\"{}\"", "x".repeat(129))).unwrap_err();
    }

    #[test]
    fn secrets_of_memifs_stay_hidden() {
        for bad in ["\"a,b\"", "12345678", "\"1234567890123456789012345\"", "\"p\u{e4}ss\""] {
            let error = serde_json::from_str::<MemifSecret>(bad).unwrap_err().to_string();
            assert!(!error.contains(bad.trim_matches('"')), "{error}");
        }
        serde_json::from_str::<MemifSecret>("\"\"").unwrap_err();
        let secret = serde_json::from_str::<MemifSecret>("\"s3cret-24-characterslong\"").unwrap();
        assert_eq!(secret.reveal().len(), 24);
        assert!(!format!("{secret:?}").contains("s3cret"));
    }
}
