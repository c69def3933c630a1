//! Arrays that grow while they are read: an entry never moves, and the memory follows the largest index used.

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
    free: Vec<u32>,
}

impl Slots {
    pub(crate) const fn new(limit: u32) -> Self {
        Self { next: 0, limit, free: Vec::new() }
    }

    /// A free number; `None` when all are in use.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = self.next;
        if slot >= self.limit {
            return None;
        }
        self.next += 1;
        Some(slot)
    }

    /// Gives back a number from [`take`](Self::take), when no reader can hold it any more.
    pub(crate) fn give(&mut self, slot: u32) {
        self.free.push(slot);
    }
}
