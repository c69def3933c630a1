use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A whole number from `MIN` to `MAX`, both included: the schema's `minimum` and `maximum` as a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Int<const MIN: u32, const MAX: u32>(u32);

/// An autonomous system number, 1 to 2^32-1 (RFC 6793).
pub type Asn = Int<1, { u32::MAX }>;

/// A VXLAN network identifier, 1 to 2^24-1 (RFC 7348; 0 is left unused as in the API).
pub type Vni = Int<1, 16_777_215>;

impl<const MIN: u32, const MAX: u32> Int<MIN, MAX> {
    /// Takes `value` when it is within the limits.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        (MIN..=MAX).contains(&value).then_some(Self(value))
    }

    /// The constant `N`, checked by the compiler.
    #[must_use]
    pub const fn constant<const N: u32>() -> Self {
        const { assert!(MIN <= N && N <= MAX) };
        Self(N)
    }

    /// The number.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Int<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Int<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(IntVisitor)
    }
}

struct IntVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> IntVisitor<MIN, MAX> {
    fn checked<E: de::Error>(value: impl TryInto<u32> + fmt::Display + Copy) -> Result<Int<MIN, MAX>, E> {
        value
            .try_into()
            .ok()
            .and_then(Int::new)
            .ok_or_else(|| E::custom(format_args!("{value} is out of range: allowed are {MIN} to {MAX}")))
    }
}

impl<const MIN: u32, const MAX: u32> de::Visitor<'_> for IntVisitor<MIN, MAX> {
    type Value = Int<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Self::checked(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Self::checked(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_included() {
        for (value, good) in [(0, false), (1, true), (16_777_215, true), (16_777_216, false)] {
            assert_eq!(Vni::new(value).is_some(), good, "{value}");
        }
    }

    #[test]
    fn what_is_not_a_number_in_range_is_said() {
        let error = |json: &str| serde_json::from_str::<Vni>(json).unwrap_err().to_string();
        assert!(error("0").contains("0 is out of range: allowed are 1 to 16777215"));
        assert!(error("-1").contains("-1 is out of range"));
        assert!(error("99999999999").contains("99999999999 is out of range"));
        assert!(error("\"100\"").contains("expected a whole number from 1 to 16777215"));
        assert!(error("1.5").contains("expected a whole number"));
    }
}
