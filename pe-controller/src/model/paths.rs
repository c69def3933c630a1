use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, de};

use super::NameError;
use super::names::deserialize_from_str;

/// Longest path of a unix socket, bytes (`sun_path` less its terminator).
const MAX_SOCKET_PATH: usize = 107;

deserialize_from_str!(NetnsPath, OvsSocketPath, SocketPath);

/// Path of a network namespace, e.g. `/run/netns/tenant`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsPath(String);

impl NetnsPath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for NetnsPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !Path::new(text).is_absolute() || text.contains('\0') {
            return Err(NameError {
                what: "network namespace path",
                value: text.to_owned(),
                rule: "it must be an absolute path",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

/// Path of a unix socket, absolute and at most 107 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketPath(String);

impl SocketPath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SocketPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |rule| Err(NameError { what: "socket path", value: text.to_owned(), rule });
        if !Path::new(text).is_absolute() || text.ends_with('/') {
            return error("it must be an absolute path of a socket");
        }
        if text.len() > MAX_SOCKET_PATH {
            return error("it must have at most 107 bytes, which is what the kernel takes");
        }
        // It becomes a device argument of DPDK, where a comma would end it.
        if text.contains(|c: char| c.is_control() || matches!(c, ',' | '"' | '[' | ']')) {
            return error("it must not contain commas, quotes, brackets or control characters");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where ovsdb-server of Open vSwitch listens: a socket's path, with or without `unix:` before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OvsSocketPath(String);

impl OvsSocketPath {
    /// The path alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for OvsSocketPath {
    fn default() -> Self {
        Self("/var/run/openvswitch/db.sock".to_owned())
    }
}

impl std::str::FromStr for OvsSocketPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let path: SocketPath = text.strip_prefix("unix:").unwrap_or(text).parse()?;
        Ok(Self(path.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_absolute() {
        assert_eq!("/run/netns/red".parse::<NetnsPath>().unwrap().as_str(), "/run/netns/red");
        for bad in ["", "red", "./red", "/run\0/netns"] {
            bad.parse::<NetnsPath>().unwrap_err();
        }
    }

    #[test]
    fn sockets_are_absolute_and_short() {
        let longest = format!("/{}", "x".repeat(106));
        assert_eq!(longest.parse::<SocketPath>().unwrap().as_str(), longest);
        let error = format!("{longest}x").parse::<SocketPath>().unwrap_err().to_string();
        assert!(error.contains("at most 107 bytes"), "{error}");
        for bad in ["", "vm1.sock", "/run/", "/run/a,client=1", "/run/a\nb", "/run/a\0"] {
            bad.parse::<SocketPath>().unwrap_err();
        }
    }

    #[test]
    fn the_scheme_of_ovsdb_may_be_left_out() {
        let path = |text: &str| text.parse::<OvsSocketPath>().map(|path| path.to_string());
        assert_eq!(path("unix:/run/ovs/db.sock").unwrap(), "/run/ovs/db.sock");
        assert_eq!(path("/run/ovs/db.sock").unwrap(), "/run/ovs/db.sock");
        assert_eq!(OvsSocketPath::default().as_str(), "/var/run/openvswitch/db.sock");
        path("tcp:127.0.0.1:6640").unwrap_err();
        path("unix:db.sock").unwrap_err();
    }
}
