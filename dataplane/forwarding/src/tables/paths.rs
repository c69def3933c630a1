//! Path words and group words: how a route's paths are written down for workers.

use std::sync::atomic::Ordering;

use super::{Tables, low};
use crate::hash::FlowHash;
use crate::reason::Reason;
use crate::types::PortId;

/// Groups of several paths have 2^5 to 2^10 buckets, aligned to their size, within one chunk.
pub(crate) const BUCKET_CHUNK_LOG2: u32 = 12;
pub(crate) const SMALLEST_GROUP_LOG2: u32 = 5;
pub(crate) const LARGEST_GROUP_LOG2: u32 = 10;

/// One path: 3 bits of kind, 29 of index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathWord(pub(crate) u32);

const INDEX_BITS: u32 = 29;

/// What a path word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    /// By a record of the neighbour table.
    Adjacent(u32),
    /// By a tunnel record.
    Tunnel(u32),
    /// The destination itself is the neighbour on this port.
    Connected(PortId),
    /// Ours.
    Local,
    /// Not forwarded, for a reason.
    Decline(Reason),
}

impl PathWord {
    pub(crate) fn new(kind: PathKind) -> Self {
        let (kind, index) = match kind {
            PathKind::Adjacent(record) => (1, record),
            PathKind::Tunnel(record) => (2, record),
            PathKind::Connected(port) => (3, port.0.into()),
            PathKind::Local => (4, 0),
            #[expect(clippy::cast_possible_truncation, reason = "some forty reasons")]
            PathKind::Decline(reason) => (5, reason.index() as u32),
        };
        Self(kind << INDEX_BITS | index & ((1 << INDEX_BITS) - 1))
    }

    /// Whether it is [`PathKind::Adjacent`].
    #[inline(always)]
    pub(crate) const fn is_neighbor(self) -> bool {
        self.0 >> INDEX_BITS == 1
    }

    /// Whether it is [`PathKind::Tunnel`].
    #[inline(always)]
    pub(crate) const fn is_tunnel(self) -> bool {
        self.0 >> INDEX_BITS == 2
    }

    #[inline(always)]
    pub(crate) fn kind(self) -> PathKind {
        let index = self.0 & ((1 << INDEX_BITS) - 1);
        match self.0 >> INDEX_BITS {
            1 => PathKind::Adjacent(index),
            2 => PathKind::Tunnel(index),
            #[expect(clippy::cast_possible_truncation, reason = "written from 16 bits")]
            3 => PathKind::Connected(PortId(index as u16)),
            4 => PathKind::Local,
            5 => PathKind::Decline(Reason::from_index(index).unwrap_or(Reason::NoNextHop)),
            _ => PathKind::Decline(Reason::NoNextHop),
        }
    }
}

/// A group: one path word, or where its buckets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupWord(pub(crate) u64);

const MANY: u64 = 1 << 63;

impl GroupWord {
    pub(crate) const fn single(path: PathWord) -> Self {
        Self(path.0 as u64)
    }

    pub(crate) const fn buckets(base: u32, log2: u32) -> Self {
        Self(MANY | (log2 as u64) << 32 | base as u64)
    }
}

/// What a group word says.
pub(crate) enum Group {
    Path(PathWord),
    Buckets { base: u32, log2: u32 },
}

impl Tables {
    /// The path of a group for a hash.
    #[inline(always)]
    pub(crate) fn select(&self, group: u32, hash: u32) -> PathWord {
        // Acquire: buckets, neighbour and tunnel records were written before.
        let word = self.groups.get(group).map_or(0, |word| word.load(Ordering::Acquire));
        if word & MANY == 0 {
            return PathWord(low(word));
        }
        self.bucket(low(word), low(word >> 32), hash)
    }

    /// The path of a group, and the packet's hash if that had to be asked for. Of an index that is none it is no path.
    #[inline(always)]
    pub(crate) fn path(&self, group: u32, hash: impl Fn() -> FlowHash) -> (PathWord, Option<FlowHash>) {
        let word = self.groups.get(group).map_or(0, |word| word.load(Ordering::Acquire));
        if word & MANY == 0 {
            return (PathWord(low(word)), None);
        }
        let hash = hash();
        (self.bucket(low(word), low(word >> 32), hash.overlay()), Some(hash))
    }

    /// The path for a hash of a group of `1 << log2` buckets.
    #[inline(always)]
    pub(crate) fn bucket(&self, base: u32, log2: u32, hash: u32) -> PathWord {
        let bucket = base + (hash >> (32 - (log2 & 0x1f)));
        PathWord(self.buckets.get(bucket).map_or(0, |path| path.load(Ordering::Relaxed)))
    }

    /// A group, without choosing one of its paths.
    pub(crate) fn group(&self, group: u32) -> Group {
        let word = self.groups.get(group).map_or(0, |word| word.load(Ordering::Acquire));
        if word & MANY == 0 {
            Group::Path(PathWord(low(word)))
        } else {
            Group::Buckets { base: low(word), log2: low(word >> 32) & 0x1f }
        }
    }
}

/// How many buckets each of the weighted paths gets, `1 << log2` in all, and `log2`.
///
/// By the largest remainder, but at least one each; the table is big enough that a share is off by less than a
/// sixteenth of a mean path's.
pub(crate) fn shares(weights: &[u32]) -> (Vec<u32>, u32) {
    let count = u32::try_from(weights.len()).unwrap_or(u32::MAX);
    let log2 = (count.saturating_mul(16))
        .next_power_of_two()
        .trailing_zeros()
        .clamp(SMALLEST_GROUP_LOG2, LARGEST_GROUP_LOG2);
    let total: u64 = weights.iter().map(|&weight| u64::from(weight.max(1))).sum();
    let size = 1_u64 << log2;
    let mut shares: Vec<u32> =
        weights.iter().map(|&weight| low(u64::from(weight.max(1)) * size / total.max(1)).max(1)).collect();
    let remainder = |index: usize| u64::from(weights[index].max(1)) * size % total.max(1);
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(remainder(index)));
    let mut given: u64 = shares.iter().map(|&share| u64::from(share)).sum();
    for &index in order.iter().cycle().take(weights.len() * 2) {
        if given >= size {
            break;
        }
        shares[index] += 1;
        given += 1;
    }
    while given > size
        && let Some(largest) = shares.iter_mut().max()
        && *largest > 1
    {
        *largest -= 1;
        given -= 1;
    }
    (shares, log2)
}

/// Fills the buckets of a group so that flows stay where they are as far as the new shares allow: `old` is what the
/// buckets held, `paths` what they may hold and how often.
pub(crate) fn fill(old: &[PathWord], paths: &[(PathWord, u32)], size: usize) -> Vec<PathWord> {
    let mut left: Vec<(PathWord, u32)> = paths.to_vec();
    let mut buckets: Vec<Option<PathWord>> = (0..size)
        .map(|index| {
            // A table of another size is stretched or shrunk: the hash's upper bits choose.
            let before = *old.get(index * old.len() / size.max(1))?;
            let share = left.iter_mut().find(|(path, share)| *path == before && *share > 0)?;
            share.1 -= 1;
            Some(before)
        })
        .collect();
    // What is free goes round the paths, so that neighbouring hashes differ.
    let mut next = 0;
    for bucket in buckets.iter_mut().filter(|bucket| bucket.is_none()) {
        for _ in 0..left.len() {
            let (path, share) = &mut left[next];
            next = (next + 1) % paths.len().max(1);
            if *share > 0 {
                *share -= 1;
                *bucket = Some(*path);
                break;
            }
        }
    }
    let fallback = paths.first().map(|(path, _)| *path).unwrap_or_default();
    buckets.into_iter().map(|bucket| bucket.unwrap_or(fallback)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn path_words_survive(index in 0_u32..1 << 29, port: u16, reason in 0..Reason::COUNT) {
            let kinds = [
                PathKind::Adjacent(index),
                PathKind::Tunnel(index),
                PathKind::Connected(PortId(port)),
                PathKind::Local,
                PathKind::Decline(Reason::ALL[reason]),
            ];
            for kind in kinds {
                prop_assert_eq!(PathWord::new(kind).kind(), kind);
            }
        }

        #[test]
        fn shares_add_up(weights in prop::collection::vec(0_u32..1000, 1..=64)) {
            let (shares, log2) = shares(&weights);
            prop_assert!(shares.iter().all(|&share| share > 0));
            prop_assert_eq!(shares.iter().sum::<u32>(), 1 << log2);
        }

        #[test]
        fn equal_weights_differ_by_one_bucket_at_most(count in 1_usize..=64, weight in 1..u32::MAX) {
            let (shares, _) = shares(&vec![weight; count]);
            let (low, high) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(high - low <= 1, "{:?}", shares);
        }

        /// Taking one path away moves that path's flows and no others.
        #[test]
        fn the_flows_of_remaining_paths_stay(count in 2_u32..=16, gone in 0_u32..16) {
            let words: Vec<_> = (0..count).map(|i| PathWord::new(PathKind::Adjacent(i))).collect();
            let (all, log2) = shares(&vec![1; words.len()]);
            let size = 1 << log2;
            let before = fill(&[], &words.iter().copied().zip(all).collect::<Vec<_>>(), size);
            let gone = words[(gone % count) as usize];
            let rest: Vec<_> = words.iter().copied().filter(|&word| word != gone).collect();
            let (fewer, log2) = shares(&vec![1; rest.len()]);
            let after = fill(&before, &rest.into_iter().zip(fewer).collect::<Vec<_>>(), 1 << log2);
            prop_assume!(after.len() == before.len());
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before == after || *before == gone);
            }
        }
    }
}
