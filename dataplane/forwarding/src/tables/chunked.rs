//! Arrays that grow while they are read: an entry never moves, and the memory follows the largest index used.

use std::collections::VecDeque;
use std::sync::OnceLock;

/// Chunks of `2^BITS` entries, made when first needed by the one writer.
pub(crate) struct Chunked<T, const BITS: u32> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default, const BITS: u32> Chunked<T, BITS> {
    /// Room for `capacity` entries, rounded up to whole chunks; costs 16 bytes a chunk until they are used.
    pub(crate) fn new(capacity: u32) -> Self {
        let chunks = (0..capacity.div_ceil(1 << BITS)).map(|_| OnceLock::new()).collect();
        Self { chunks }
    }

    /// The entry, if its chunk was made.
    #[inline(always)]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get(Self::chunk(index))?.get()?.get(Self::place(index))
    }

    /// The entry, its chunk being made if it was not there; `None` beyond the capacity.
    pub(crate) fn get_or_make(&self, index: u32) -> Option<&T> {
        let chunk = self.chunks.get(Self::chunk(index))?;
        chunk.get_or_init(|| (0..1_u32 << BITS).map(|_| T::default()).collect()).get(Self::place(index))
    }

    #[inline(always)]
    const fn chunk(index: u32) -> usize {
        (index >> BITS) as usize
    }

    #[inline(always)]
    const fn place(index: u32) -> usize {
        (index & ((1 << BITS) - 1)) as usize
    }
}

/// Numbers below a limit, the writer's side of a [`Chunked`]: which entries are in use.
#[derive(Debug)]
pub(crate) struct Slots {
    next: u32,
    limit: u32,
    /// In the order they were given back.
    free: VecDeque<u32>,
    /// So many wait before the first of them is used again.
    rest: usize,
}

impl Slots {
    pub(crate) const fn new(limit: u32) -> Self {
        Self { next: 0, limit, free: VecDeque::new(), rest: 0 }
    }

    /// The same, for numbers that others see: one that was given back rests until `rest` others were, so that who missed
    /// its end does not take the next thing of that number for the same one.
    pub(crate) fn with_rest(limit: u32, rest: usize) -> Self {
        Self { rest, ..Self::new(limit) }
    }

    /// A free number; `None` when all are in use.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.free.len() > self.rest || self.next >= self.limit {
            return self.free.pop_front();
        }
        let slot = self.next;
        self.next += 1;
        Some(slot)
    }

    /// Gives back a number from [`take`](Self::take), when no reader can hold it any more.
    pub(crate) fn give(&mut self, slot: u32) {
        self.free.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_before_it_is_used_again_and_none_is_lost() {
        let mut slots = Slots::with_rest(6, 2);
        let taken: Vec<_> = std::iter::from_fn(|| slots.take()).take(3).collect();
        assert_eq!(taken, [0, 1, 2]);
        slots.give(1);
        slots.give(0);
        assert_eq!(slots.take(), Some(3));
        slots.give(3);
        assert_eq!(slots.take(), Some(1), "the longest at rest");
        let rest: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(rest, [4, 5, 0, 3]);
    }
}
