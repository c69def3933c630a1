//! Made-up tables that look like the Internet's: for benchmarks and scale tests. The same seed gives the same table.
//!
//! Shares of prefix lengths are those of the global tables of the mid-2020s, rounded. Most long prefixes lie within a
//! shorter one that is announced too, as more-specifics do; the rest lies anywhere in the allocated space.

use std::collections::HashSet;

use super::key::{Key, Prefix};

/// A small deterministic generator: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(limit)) >> 32) as u32
    }
}

/// Prefix lengths and their shares of 10 000.
const IPV4: &[(u8, u32)] = &[
    (24, 5_950),
    (23, 1_000),
    (22, 1_120),
    (21, 520),
    (20, 450),
    (19, 260),
    (18, 140),
    (17, 85),
    (16, 140),
    (15, 20),
    (14, 12),
    (13, 6),
    (12, 3),
    (11, 1),
    (10, 1),
    (9, 1),
    (8, 1),
    (25, 70),
    (28, 50),
    (30, 40),
    (32, 130),
];
const IPV6: &[(u8, u32)] = &[
    (48, 4_650),
    (44, 900),
    (40, 750),
    (36, 350),
    (47, 300),
    (46, 350),
    (45, 200),
    (42, 250),
    (38, 150),
    (34, 100),
    (33, 150),
    (32, 1_150),
    (29, 250),
    (30, 60),
    (28, 40),
    (24, 10),
    (20, 10),
    (56, 120),
    (64, 160),
    (128, 50),
];

/// The registries' IPv6 blocks.
const IPV6_BLOCKS: [u128; 6] = [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00];

/// `count` different IPv4 prefixes within 1.0.0.0 to 223.255.255.255, in no order. At most some ten million exist.
pub fn ipv4(count: usize, seed: u64) -> Vec<Prefix<u32>> {
    make(count, seed, IPV4, 20, |random| (1 << 24) + random.below(223 << 24))
}

/// `count` different IPv6 prefixes within the registries' blocks, in no order.
pub fn ipv6(count: usize, seed: u64) -> Vec<Prefix<u128>> {
    make(count, seed, IPV6, 32, |random| {
        let block = IPV6_BLOCKS[random.below(6) as usize] << 112;
        // The registries allocate /32s from the beginning of their /12s.
        let allocation = u128::from(random.below(1 << 14)) << 96;
        block | allocation | u128::from(random.bits()) << 32 | u128::from(random.bits())
    })
}

/// Keys that can be drawn at random.
pub trait RandomKey: Sized {
    /// A key within the prefix, the bits beyond it at random.
    fn random_in(prefix: Prefix<Self>, random: &mut Random) -> Self;
}

impl RandomKey for u32 {
    fn random_in(prefix: Prefix<Self>, random: &mut Random) -> Self {
        let any = random.below(Self::MAX);
        prefix.address() | (any & !Key::masked(any, prefix.length().into()))
    }
}

impl RandomKey for u128 {
    fn random_in(prefix: Prefix<Self>, random: &mut Random) -> Self {
        let any = Self::from(random.bits()) << 64 | Self::from(random.bits());
        prefix.address() | (any & !Key::masked(any, prefix.length().into()))
    }
}

fn make<K: Key + RandomKey>(
    count: usize,
    seed: u64,
    shares: &[(u8, u32)],
    aggregate: u8,
    mut anywhere: impl FnMut(&mut Random) -> K,
) -> Vec<Prefix<K>> {
    let mut random = Random::new(seed);
    let total = shares.iter().map(|(_, share)| share).sum();
    let mut seen = HashSet::with_capacity(count);
    let mut prefixes = Vec::with_capacity(count);
    let mut aggregates = Vec::new();
    while prefixes.len() < count {
        let mut draw = random.below(total);
        let length = shares.iter().find(|&&(_, share)| match draw.checked_sub(share) {
            Some(rest) => {
                draw = rest;
                false
            }
            None => true,
        });
        let Some(&(length, _)) = length else { continue };
        let within: Option<&Prefix<K>> =
            if length > aggregate && !aggregates.is_empty() && random.below(100) < 60 {
                #[expect(clippy::cast_possible_truncation, reason = "fewer than 2^32 prefixes")]
                aggregates.get(random.below(aggregates.len() as u32) as usize)
            } else {
                None
            };
        let address = match within {
            Some(&prefix) => K::random_in(prefix, &mut random),
            None => anywhere(&mut random),
        };
        let prefix = Prefix::containing(address, length);
        if seen.insert(prefix) {
            if length <= aggregate {
                aggregates.push(prefix);
            }
            prefixes.push(prefix);
        }
    }
    prefixes
}
