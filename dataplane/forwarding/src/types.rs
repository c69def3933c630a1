//! Checked values: made once, relied on ever after.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Why a value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// RFC 7348 section 5: a VNI has 24 bits. 0 is refused as FRR refuses it.
    #[error("VNI {0} is not in 1..=16777215")]
    Vni(u32),
    /// A MAC that cannot be a station's: all zero, or a group address.
    #[error("MAC {0} is not a unicast address")]
    MacNotUnicast(Mac),
    /// Not six bytes.
    #[error("a MAC has 6 bytes, not {0}")]
    MacLength(usize),
    /// Not six hexadecimal bytes with colons.
    #[error("not a MAC address; write it as aa:bb:cc:00:00:01")]
    MacText,
    /// Neither 4 nor 16 bytes.
    #[error("an IP address has 4 or 16 bytes, not {0}")]
    AddressLength(usize),
}

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Any six bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// A station's address: neither zero nor a group's.
    pub fn unicast(bytes: [u8; 6]) -> Result<Self, InvalidValue> {
        let mac = Self(bytes);
        if mac.is_unicast() { Ok(mac) } else { Err(InvalidValue::MacNotUnicast(mac)) }
    }

    /// The six bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether a station may have it.
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.bits() != 0
    }

    /// As a number, the first byte uppermost.
    pub(crate) const fn bits(self) -> u64 {
        let b = self.0;
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// The lower 48 bits of `bits`.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        let b = bits.to_be_bytes();
        Self([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl TryFrom<&[u8]> for Mac {
    type Error = InvalidValue;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidValue> {
        bytes.try_into().map(Self).map_err(|_| InvalidValue::MacLength(bytes.len()))
    }
}

impl FromStr for Mac {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(InvalidValue::MacText)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(InvalidValue::MacText);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| InvalidValue::MacText)?;
        }
        if parts.next().is_some() { Err(InvalidValue::MacText) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A VXLAN network identifier, 1 to 16777215.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The largest.
    pub const MAX: u32 = (1 << 24) - 1;

    /// Refuses 0 and what does not fit into 24 bits.
    pub const fn new(value: u32) -> Result<Self, InvalidValue> {
        if value == 0 || value > Self::MAX { Err(InvalidValue::Vni(value)) } else { Ok(Self(value)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = InvalidValue;

    fn try_from(value: u32) -> Result<Self, InvalidValue> {
        Self::new(value)
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A port of the dataplane, numbered by [`Control::port_add`](crate::Control::port_add).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A VRF, numbered by [`Control::vrf_add`](crate::Control::vrf_add); 0 is the default one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VrfId(pub u32);

impl VrfId {
    /// The default VRF: the underlay's. It exists always.
    pub const DEFAULT: Self = Self(0);
}

impl fmt::Display for VrfId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An IP address from its bytes in network order, 4 or 16 of them.
pub fn address_from_bytes(bytes: &[u8]) -> Result<IpAddr, InvalidValue> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(Ipv4Addr::from(v4).into())
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(Ipv6Addr::from(v6).into())
    } else {
        Err(InvalidValue::AddressLength(bytes.len()))
    }
}

/// Both families in one number: IPv4 as ::ffff:a.b.c.d, which never travels in an IPv6 header (RFC 4291 2.5.5.2; such
/// packets are dropped as martians before anything is looked up).
pub(crate) fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4_bits(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

pub(crate) const fn v4_bits(address: u32) -> u128 {
    0xffff_0000_0000 | address as u128
}

pub(crate) fn address_from_bits(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vni_bounds() {
        assert_eq!(Vni::new(0), Err(InvalidValue::Vni(0)));
        assert_eq!(Vni::new(1 << 24), Err(InvalidValue::Vni(1 << 24)));
        assert_eq!(Vni::new(Vni::MAX).map(Vni::get), Ok(Vni::MAX));
    }

    #[test]
    fn mac_text_both_ways() {
        let mac: Mac = "aa:bb:cc:00:01:2f".parse().unwrap();
        assert_eq!(mac.to_string(), "aa:bb:cc:00:01:2f");
        assert_eq!(Mac::from_bits(mac.bits()), mac);
        for bad in ["", "aa:bb:cc:00:01", "aa:bb:cc:00:01:2f:3", "aa:bb:cc:00:01:+f", "aa:bb:cc:00:01:123"] {
            assert_eq!(bad.parse::<Mac>(), Err(InvalidValue::MacText), "{bad}");
        }
    }

    #[test]
    fn only_stations_are_unicast() {
        assert!(Mac::unicast([0; 6]).is_err());
        assert!(Mac::unicast([1, 0, 0, 0, 0, 1]).is_err());
        assert!(Mac::unicast([2, 0, 0, 0, 0, 1]).is_ok());
    }

    #[test]
    fn addresses_survive_their_bits() {
        for text in ["10.0.0.1", "255.255.255.255", "2001:db8::1", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_from_bits(address_bits(address)), address);
        }
    }
}
