//! Addresses of the interface, in the text people know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Network-order bytes of an address of either family.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An IPv4 or IPv6 address from its 4 or 16 bytes; anything else shows as hexadecimal, nothing as nothing.
pub(crate) fn address(bytes: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        Ipv4Addr::from(octets).to_string()
    } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        Ipv6Addr::from(octets).to_string()
    } else {
        hex(bytes, "")
    }
}

/// Colon-separated hexadecimal, as MACs are written.
pub(crate) fn mac(bytes: &[u8]) -> String {
    hex(bytes, ":")
}

/// Six bytes of colon-separated hexadecimal.
///
/// # Errors
/// With how to write it, when it is something else.
pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let byte = |part: &str| match part.len() {
        1 | 2 if part.bytes().all(|digit| digit.is_ascii_hexdigit()) => u8::from_str_radix(part, 16).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "expected a MAC address, as aa:bb:cc:00:00:01".to_owned())
}

/// Two hexadecimal digits a byte.
pub(crate) fn hex(bytes: &[u8], separator: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in ["0.0.0.0", "192.168.11.3", "::", "fd00:64::1"] {
            let parsed: IpAddr = text.parse().expect("an address");
            assert_eq!(address(&octets(parsed)), text);
        }
    }

    #[test]
    fn macs_read_back() {
        let octets = [2, 0, 0xab, 0, 0, 0xff];
        assert_eq!(parse_mac(&mac(&octets)), Ok(octets));
        assert_eq!(parse_mac("2:0:AB:0:0:ff"), Ok(octets));
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:+1", "02:00:00:00:00:100"] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_of_another_length_show_as_they_are() {
        assert_eq!(address(&[1, 2, 3]), "010203");
        assert_eq!(address(&[]), "");
        assert_eq!(mac(&[2, 0, 0, 0, 0, 255]), "02:00:00:00:00:ff");
    }
}
