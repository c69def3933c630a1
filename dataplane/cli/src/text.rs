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
    fn bytes_of_another_length_show_as_they_are() {
        assert_eq!(address(&[1, 2, 3]), "010203");
        assert_eq!(address(&[]), "");
        assert_eq!(mac(&[2, 0, 0, 0, 0, 255]), "02:00:00:00:00:ff");
    }
}
