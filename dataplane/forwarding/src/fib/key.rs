//! Keys and prefixes of either family.

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bits of a key that one level of the trie decides on.
pub(super) const STRIDE: u32 = 6;

/// A destination address as an integer in host order: `u32` for IPv4, `u128` for IPv6.
pub trait Key: Copy + Ord + Hash + Debug + Default + Send + Sync + private::Sealed + 'static {
    /// Width in bits.
    const BITS: u32;

    /// The six bits from `offset` (less than [`Self::BITS`]), counted from the top; zeros follow the last bit of the key.
    fn slot(self, offset: u32) -> u32;

    /// The key with the six bits from `offset` set to `slot`; they must have been zero.
    fn with_slot(self, offset: u32, slot: u32) -> Self;

    /// The upper `length` bits, the others zero; `length` is at most [`Self::BITS`].
    fn masked(self, length: u32) -> Self;

    /// The upper `length` bits, the others set.
    fn filled(self, length: u32) -> Self;

    /// As text.
    fn format(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

mod private {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u128 {}
}

impl Key for u32 {
    const BITS: Self = Self::BITS;

    #[inline(always)]
    fn slot(self, offset: u32) -> u32 {
        self.wrapping_shl(offset) >> (Self::BITS - STRIDE)
    }

    fn with_slot(self, offset: u32, slot: u32) -> Self {
        self | ((slot << (Self::BITS - STRIDE)) >> offset)
    }

    fn masked(self, length: u32) -> Self {
        self & !Self::MAX.checked_shr(length).unwrap_or(0)
    }

    fn filled(self, length: u32) -> Self {
        self | Self::MAX.checked_shr(length).unwrap_or(0)
    }

    fn format(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv4Addr::from_bits(self), f)
    }
}

impl Key for u128 {
    const BITS: u32 = Self::BITS;

    #[inline(always)]
    fn slot(self, offset: u32) -> u32 {
        (self.wrapping_shl(offset) >> (Self::BITS - STRIDE)) as u32
    }

    fn with_slot(self, offset: u32, slot: u32) -> Self {
        self | ((Self::from(slot) << (Self::BITS - STRIDE)) >> offset)
    }

    fn masked(self, length: u32) -> Self {
        self & !Self::MAX.checked_shr(length).unwrap_or(0)
    }

    fn filled(self, length: u32) -> Self {
        self | Self::MAX.checked_shr(length).unwrap_or(0)
    }

    fn format(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv6Addr::from_bits(self), f)
    }
}

/// A prefix: 0 to [`Key::BITS`] leading bits of a key, the others zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<K> {
    address: K,
    length: u8,
}

impl<K: Key> Prefix<K> {
    /// A prefix from outside: `None` when `length` exceeds [`Key::BITS`] or a bit beyond it is set.
    pub fn new(address: K, length: u8) -> Option<Self> {
        (u32::from(length) <= K::BITS && address.masked(length.into()) == address)
            .then_some(Self { address, length })
    }

    /// The prefix of `length` that holds `address`; lengths above [`Key::BITS`] count as that.
    pub fn containing(address: K, length: u8) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a key has at most 128 bits")]
        let length = length.min(K::BITS as u8);
        Self { address: address.masked(length.into()), length }
    }

    /// The first address of the prefix.
    pub fn address(self) -> K {
        self.address
    }

    /// The last one.
    pub fn last(self) -> K {
        self.address.filled(self.length.into())
    }

    /// The number of leading bits, 0 to [`Key::BITS`].
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` lies within.
    pub fn contains(self, address: K) -> bool {
        address.masked(self.length.into()) == self.address
    }
}

impl<K: Key> fmt::Display for Prefix<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.format(f)?;
        write!(f, "/{}", self.length)
    }
}

impl<K: Key> Debug for Prefix<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
