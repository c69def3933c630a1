//! Which units of an arena are free: a buddy allocator.
//!
//! The arrays of a trie have 1 to 126 elements and change size with every update. A list per size would strand what was
//! freed in one size when the next size is wanted; here what is freed coalesces with its free neighbour. Blocks are powers
//! of two. Giving the rest of a block to others at once looks thriftier and is not: the small blocks that move in keep the
//! large one from coalescing (measured on a million routes: four times the nodes in use instead of 1.2 times).

/// Units `start..start + len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// The free units of an arena of `limit` units.
#[derive(Debug)]
pub(super) struct Buddy {
    /// By order: blocks of `1 << order` units, by their number.
    free: Vec<BitSet>,
    /// Bit `order` is set while `free[order]` is not empty.
    orders: u32,
    /// Units that were ever handed out; none beyond is in `free`.
    end: u32,
    limit: u32,
    used: u32,
}

impl Buddy {
    /// For blocks of up to `1 << max_order` units out of units 0 to `limit` (at most 2^31).
    pub(super) fn new(max_order: u32, limit: u32) -> Self {
        Self {
            free: (0..=max_order).map(|_| BitSet::default()).collect(),
            orders: 0,
            end: 0,
            limit: limit.min(1 << 31),
            used: 0,
        }
    }

    /// A block of `len` units (1 to the largest), with room for the next power of two, at the lowest free place of the
    /// best-fitting size; `None` when the arena is full.
    pub(super) fn allocate(&mut self, len: u32) -> Option<Block> {
        let order = len.next_power_of_two().trailing_zeros();
        let size = 1_u32.checked_shl(order)?;
        let fitting = self.orders & !(size - 1);
        let start = if fitting == 0 {
            let start = self.end.next_multiple_of(size);
            let gap = self.end..start;
            self.end = start.checked_add(size).filter(|&end| end <= self.limit)?;
            self.release(gap.start, gap.end);
            start
        } else {
            let order = fitting.trailing_zeros();
            let start = self.take_first(order)? << order;
            self.release(start + size, start + (1 << order));
            start
        };
        self.used += size;
        Some(Block { start, len })
    }

    /// Takes back what a block does not need any more when it shrinks to `len` units, at least one.
    pub(super) fn trim(&mut self, block: Block, len: u32) {
        let (had, has) = (block.len.next_power_of_two(), len.next_power_of_two());
        self.used -= had - has;
        self.release(block.start + has, block.start + had);
    }

    /// Takes back a block.
    pub(super) fn free(&mut self, block: Block) {
        let size = block.len.next_power_of_two();
        self.used -= size;
        self.release(block.start, block.start + size);
    }

    /// Units in use.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Units that have been in use at some time: what may be backed by memory.
    pub(super) fn touched(&self) -> u32 {
        self.end
    }

    /// Frees `low..high` as the largest aligned blocks that fit.
    fn release(&mut self, mut low: u32, high: u32) {
        let max = self.max_order();
        while low < high {
            let order = low.trailing_zeros().min((high - low).ilog2()).min(max);
            self.insert(low, order);
            low += 1 << order;
        }
    }

    fn insert(&mut self, start: u32, mut order: u32) {
        let mut number = start >> order;
        while order < self.max_order() && self.remove(order, number ^ 1) {
            number >>= 1;
            order += 1;
        }
        self.free[order as usize].insert(number);
        self.orders |= 1 << order;
    }

    fn remove(&mut self, order: u32, number: u32) -> bool {
        let set = &mut self.free[order as usize];
        let removed = set.remove(number);
        if removed && set.is_empty() {
            self.orders &= !(1 << order);
        }
        removed
    }

    fn take_first(&mut self, order: u32) -> Option<u32> {
        let number = self.free[order as usize].first()?;
        self.remove(order, number);
        Some(number)
    }

    #[expect(clippy::cast_possible_truncation, reason = "orders are fewer than 32")]
    fn max_order(&self) -> u32 {
        self.free.len() as u32 - 1
    }
}

/// Levels of a [`BitSet`]: 64^6 exceeds 2^31.
const LEVELS: usize = 6;

/// A set of numbers below 2^31 with its smallest member at hand: each level's bit says whether the 64 bits below it hold
/// any.
#[derive(Debug, Default)]
struct BitSet {
    levels: [Vec<u64>; LEVELS],
}

impl BitSet {
    fn insert(&mut self, number: u32) {
        let mut number = number as usize;
        for level in &mut self.levels {
            let (word, bit) = (number / 64, number % 64);
            if level.len() <= word {
                level.resize(word + 1, 0);
            }
            let before = level[word];
            level[word] |= 1 << bit;
            if before != 0 {
                break;
            }
            number = word;
        }
    }

    fn remove(&mut self, number: u32) -> bool {
        let mut number = number as usize;
        let held =
            |level: &Vec<u64>| level.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1);
        if !self.levels.first().is_some_and(held) {
            return false;
        }
        for level in &mut self.levels {
            let (word, bit) = (number / 64, number % 64);
            level[word] &= !(1 << bit);
            if level[word] != 0 {
                break;
            }
            number = word;
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.levels[LEVELS - 1].first().is_none_or(|&word| word == 0)
    }

    fn first(&self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let number = self
            .levels
            .iter()
            .rev()
            .fold(0, |number, level| number * 64 + level[number].trailing_zeros() as usize);
        u32::try_from(number).ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_freed_coalesces() {
        let mut buddy = Buddy::new(6, 64);
        let sizes = [5; 4].into_iter().chain([1; 16]).chain([2; 8]);
        let blocks: Vec<_> = sizes.map(|len| buddy.allocate(len).unwrap()).collect();
        assert_eq!(buddy.used(), 64);
        assert!(buddy.allocate(1).is_none());
        blocks.into_iter().for_each(|block| buddy.free(block));
        assert_eq!(buddy.allocate(64), Some(Block { start: 0, len: 64 }), "all of it has coalesced");
        assert!(buddy.allocate(1).is_none());
    }

    proptest! {
        /// Whatever is asked for and given back, no two blocks overlap, and in the end all is one again.
        #[test]
        fn blocks_never_overlap(steps in prop::collection::vec((1_u32..=64, 0..3, any::<prop::sample::Index>()), 1..300)) {
            const LIMIT: u32 = 1 << 10;
            let mut buddy = Buddy::new(6, LIMIT);
            let mut held = Vec::<Block>::new();
            for (len, step, which) in steps {
                if step == 0 && !held.is_empty() {
                    buddy.free(held.swap_remove(which.index(held.len())));
                } else if step == 1 && !held.is_empty() {
                    let index = which.index(held.len());
                    let block = held[index];
                    held[index].len = len.min(block.len);
                    buddy.trim(block, held[index].len);
                } else if let Some(block) = buddy.allocate(len) {
                    prop_assert_eq!(block.len, len);
                    prop_assert!(block.start + len <= LIMIT);
                    held.push(block);
                } else {
                    prop_assert!(buddy.used() + 64 > LIMIT / 4, "{} of {LIMIT} used, and full", buddy.used());
                }
                let room = |block: &Block| block.len.next_power_of_two();
                prop_assert_eq!(buddy.used(), held.iter().map(room).sum::<u32>());
                let mut sorted = held.clone();
                sorted.sort_unstable_by_key(|block| block.start);
                for pair in sorted.windows(2) {
                    prop_assert!(pair[0].start + room(&pair[0]) <= pair[1].start, "{pair:?}");
                }
            }
            held.into_iter().for_each(|block| buddy.free(block));
            let touched = buddy.touched();
            for _ in 0..touched / 64 {
                prop_assert!(buddy.allocate(64).is_some());
            }
            prop_assert_eq!(buddy.touched(), touched);
        }
    }
}
