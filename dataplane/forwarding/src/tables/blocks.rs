//! Blocks of a power of two within a [`Chunked`](super::chunked::Chunked) array, the writer's side: which are in use.

/// Hands out aligned blocks. A block never crosses a chunk.
#[derive(Debug)]
pub(crate) struct Blocks {
    next: u32,
    limit: u32,
    chunk_log2: u32,
    /// By the logarithm of their size.
    free: Vec<Vec<u32>>,
}

impl Blocks {
    /// Blocks of up to `2^chunk_log2` below `limit`.
    pub(crate) fn new(limit: u32, chunk_log2: u32) -> Self {
        Self { next: 0, limit, chunk_log2, free: (0..=chunk_log2).map(|_| Vec::new()).collect() }
    }

    /// The start of a block of `2^log2`; `None` when there is no room.
    pub(crate) fn take(&mut self, log2: u32) -> Option<u32> {
        let free = self.free.get_mut(log2 as usize)?;
        if let Some(base) = free.pop() {
            return Some(base);
        }
        // A whole chunk of one size at a time, so that blocks stay aligned.
        let (base, chunk) = (self.next, 1 << self.chunk_log2);
        if base + chunk > self.limit {
            return None;
        }
        self.next += chunk;
        free.extend((base..self.next).step_by(1 << log2).skip(1));
        Some(base)
    }

    /// Gives a block back, when no reader can hold it any more.
    pub(crate) fn give(&mut self, base: u32, log2: u32) {
        if let Some(free) = self.free.get_mut(log2 as usize) {
            free.push(base);
        }
    }
}
