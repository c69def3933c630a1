use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// Longest name Linux gives a network device, bytes (IFNAMSIZ less its terminator).
const MAX_DEVICE_NAME: usize = 15;

/// A name, address or route target that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: {rule}")]
pub struct NameError {
    pub(super) what: &'static str,
    pub(super) value: String,
    pub(super) rule: &'static str,
}

/// Implements `Deserialize` by the type's own `FromStr`, and `Display`.
macro_rules! deserialize_from_str {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

pub(super) use deserialize_from_str;

deserialize_from_str!(BridgeName, InterfaceName, ObjectName, PciAddress, RouteTarget, VrfName);

/// Name of a Linux network device: 1 to 15 characters, a letter first, then letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for InterfaceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        device_name(text, "interface name", "._-")?;
        Ok(Self(text.to_owned()))
    }
}

/// Name of a VRF, which is also its Linux device's: 1 to 15 characters, a letter first, then letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VrfName(String);

impl VrfName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for VrfName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        device_name(text, "VRF name", "_-")?;
        Ok(Self(text.to_owned()))
    }
}

/// Name of a bridge of the host: 1 to 15 characters, a letter first, then letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeName(String);

impl BridgeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for BridgeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        device_name(text, "bridge name", "_-")?;
        Ok(Self(text.to_owned()))
    }
}

/// Name of an object, not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ObjectName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError {
                what: "name of an object",
                value: String::new(),
                rule: "it must not be empty",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

fn device_name(text: &str, what: &'static str, punctuation: &str) -> Result<(), NameError> {
    let error = |rule| Err(NameError { what, value: text.to_owned(), rule });
    if text.is_empty() || text.len() > MAX_DEVICE_NAME {
        return error("it must have 1 to 15 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return error("it must begin with a letter");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c)) {
        return error("only letters, digits and - _ (and . for an interface) are allowed");
    }
    Ok(())
}

/// Address of a PCI function, `domain:bus:device.function` in hexadecimal, e.g. `0000:3b:02.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress(String);

impl PciAddress {
    /// The address as text, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for PciAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let well_formed = text.is_ascii()
            && text.len() == 12
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b':',
                10 => byte == b'.',
                11 => (b'0'..=b'7').contains(&byte),
                _ => byte.is_ascii_hexdigit(),
            });
        if !well_formed {
            return Err(NameError {
                what: "PCI address",
                value: text.to_owned(),
                rule: "it must be domain:bus:device.function, such as 0000:3b:02.1",
            });
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// A BGP route target (RFC 4360 section 4, RFC 5668): `ASN:NUMBER` or `A.B.C.D:NUMBER`, in the form FRR prints.
///
/// A two-byte ASN leaves four bytes for the number, a four-byte ASN or an address two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTarget(String);

impl RouteTarget {
    /// The route target as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for RouteTarget {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |rule| NameError { what: "route target", value: text.to_owned(), rule };
        let form = || error("it must be ASN:NUMBER or A.B.C.D:NUMBER");
        let (administrator, number) = text.split_once(':').ok_or_else(form)?;
        let decimal = |part: &str| -> Option<u32> {
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
        };
        let number = decimal(number).ok_or_else(form)?;
        if let Ok(address) = administrator.parse::<std::net::Ipv4Addr>() {
            if number > u32::from(u16::MAX) {
                return Err(error("after an address the number is at most 65535"));
            }
            return Ok(Self(format!("{address}:{number}")));
        }
        let asn = decimal(administrator).ok_or_else(form)?;
        if asn > u32::from(u16::MAX) && number > u32::from(u16::MAX) {
            return Err(error("after an ASN above 65535 the number is at most 65535"));
        }
        Ok(Self(format!("{asn}:{number}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok<T: std::str::FromStr<Err = NameError> + fmt::Display>(text: &str) -> String {
        text.parse::<T>().unwrap_or_else(|error| panic!("{error}")).to_string()
    }

    fn err<T: std::str::FromStr<Err = NameError> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().to_string()
    }

    #[test]
    fn device_names() {
        for good in ["e", "toswitch1", "eth0.100", "a_b-c", "abcdefghijklmno"] {
            assert_eq!(ok::<InterfaceName>(good), good);
        }
        for bad in ["", "abcdefghijklmnop", "1eth", "-e", "e/1", "e 1", "e:1", "é", ".", "..", "eth0\n"] {
            err::<InterfaceName>(bad);
        }
        assert!(err::<VrfName>("a.b").contains("\"a.b\" is no VRF name"));
        assert_eq!(ok::<VrfName>("red-1_x"), "red-1_x");
        assert_eq!(ok::<BridgeName>("br-tenant_1"), "br-tenant_1");
        assert!(err::<BridgeName>("br.1").contains("\"br.1\" is no bridge name"));
        assert_eq!(ok::<ObjectName>("any name at all"), "any name at all");
        err::<ObjectName>("");
    }

    #[test]
    fn pci_addresses() {
        assert_eq!(ok::<PciAddress>("0000:3B:02.1"), "0000:3b:02.1");
        for bad in
            ["", "3b:02.1", "0000:3b:02.8", "0000:3b:02,1", "0000:3g:02.1", "0000:3b:02.11", "0000:3b:0é.1"]
        {
            err::<PciAddress>(bad);
        }
    }

    #[test]
    fn route_targets() {
        for (text, printed) in [
            ("64514:100", "64514:100"),
            ("65535:4294967295", "65535:4294967295"),
            ("65536:65535", "65536:65535"),
            ("4294967295:1", "4294967295:1"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("0064514:0100", "64514:100"),
        ] {
            assert_eq!(ok::<RouteTarget>(text), printed);
        }
        for bad in [
            "",
            "64514",
            "64514:",
            ":1",
            "65536:65536",
            "10.0.0.1:65536",
            "4294967296:1",
            "1:4294967296",
            "a:1",
            "1:1:1",
            "+1:1",
            "1: 1",
            "fd00::1:1",
            "10.0.0:1",
        ] {
            err::<RouteTarget>(bad);
        }
    }
}
