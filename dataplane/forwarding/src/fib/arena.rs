//! What readers and the writer share, and the writer's side of its blocks.

use super::buddy::{Block, Buddy};
use super::memory::{Region, Zeroed};
use super::{Capacity, FibError, NextHopIndex, TableId};
use crate::reclaim::{Domain, Limbo};
use sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// The same names from `std`, or from loom when its model checker runs the FIB.
pub(super) mod sync {
    pub(in crate::fib) use std::sync::atomic::Ordering;

    #[cfg(loom)]
    pub(in crate::fib) use loom::sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    };
    #[cfg(not(loom))]
    pub(in crate::fib) use std::sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    };
}

/// Bits of the largest direct table; such tables come from the upper half of the words.
pub(super) const LARGE_BITS: u32 = 18;

/// What one 32-bit word of a direct table or of a leaf array says: a node's index, or with the top bit a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Word(pub(super) u32);

impl Word {
    const LEAF: u32 = 1 << 31;

    pub(super) fn leaf(next_hop: NextHopIndex) -> Self {
        Self(Self::LEAF | next_hop.0)
    }

    pub(super) fn node(index: u32) -> Self {
        Self(index)
    }

    #[inline(always)]
    pub(super) fn is_node(self) -> bool {
        self.0 & Self::LEAF == 0
    }

    /// Of a leaf.
    #[inline(always)]
    pub(super) fn next_hop(self) -> NextHopIndex {
        NextHopIndex(self.0 & !Self::LEAF)
    }
}

/// A reader's node: half a cache line. Once it is reachable only the pointer to its children changes.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub(super) struct Node {
    /// Bit `s`: slot `s` has a child; children lie in the order of their slots.
    pub(super) vector: AtomicU64,
    /// Bit `s`: a run of equal leaves begins at slot `s`; slots with a child do not interrupt a run.
    pub(super) leafvec: AtomicU64,
    /// Index of the first child.
    pub(super) children: AtomicU32,
    /// Index of the first leaf's word. Where leaves change but their runs do not, the words themselves are overwritten.
    pub(super) leaves: AtomicU32,
}

// SAFETY: atomics only; zero is a valid value of each.
unsafe impl Zeroed for Node {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU32 {}

/// Where a table begins. All zero is the table without routes.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub(super) struct Root {
    /// See [`Direct`].
    pub(super) direct: AtomicU64,
    /// The default route's next hop, inverted within 31 bits, so that zero is none.
    default: AtomicU32,
}

// SAFETY: as above.
unsafe impl Zeroed for Root {}

impl Root {
    #[inline(always)]
    pub(super) fn default_route(&self) -> NextHopIndex {
        // Acquire: as of a leaf, what the index means to the pipeline was published before it came here.
        NextHopIndex(self.default.load(Ordering::Acquire) ^ NextHopIndex::MISS.0)
    }

    /// Release: see [`default_route`](Self::default_route).
    pub(super) fn set_default_route(&self, next_hop: NextHopIndex) {
        self.default.store(next_hop.0 ^ NextHopIndex::MISS.0, Ordering::Release);
    }
}

/// A direct table: index of its first word, and its number of bits (6, 12 or 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direct {
    pub(super) first: u32,
    pub(super) bits: u32,
}

impl Direct {
    /// The words that are all misses, at the beginning of the words: what a table without routes has.
    pub(super) const EMPTY: Self = Self { first: 0, bits: 6 };

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    pub(super) fn unpack(packed: u64) -> Self {
        Self { first: packed as u32, bits: (packed >> 32) as u32 + 6 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.first) | u64::from(self.bits - 6) << 32
    }
}

/// The memory that readers look at.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) nodes: Region<Node>,
    pub(super) words: Region<AtomicU32>,
    pub(super) roots: Region<Root>,
}

/// A node by value, on the writer's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeValue {
    pub(super) vector: u64,
    pub(super) leafvec: u64,
    pub(super) children: u32,
    pub(super) leaves: u32,
}

impl NodeValue {
    pub(super) fn children_block(&self) -> Block {
        Block { start: self.children, len: self.vector.count_ones() }
    }

    pub(super) fn leaves_block(&self) -> Block {
        Block { start: self.leaves, len: self.leafvec.count_ones() }
    }
}

/// What waits for the readers.
#[derive(Clone, Copy, Debug)]
enum Garbage {
    Nodes(Block),
    Words(Block),
    Large(Block),
    Table(TableId),
}

/// The arenas as the writer sees them. An operation takes blocks, fills them, publishes, and then commits; until then
/// it can be rolled back.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) shared: Arc<Shared>,
    domain: Domain,
    nodes: Buddy,
    words: Buddy,
    large: Buddy,
    large_first: u32,
    limbo: Limbo<Garbage>,
    /// Taken by the operation in progress, not yet reachable.
    fresh: Vec<Garbage>,
    /// Unreachable once the operation in progress has published.
    doomed: Vec<Garbage>,
    /// Identifiers of removed tables that no reader uses any more.
    pub(super) free_tables: Vec<TableId>,
}

/// Retired blocks that make the writer look at the readers by itself.
const RECLAIM_EVERY: usize = 256;

impl Arena {
    pub(super) fn new(domain: &Domain, capacity: Capacity) -> Result<Self, FibError> {
        let shared = Shared {
            nodes: Region::new(capacity.nodes_log2)?,
            words: Region::new(capacity.words_log2)?,
            roots: Region::new(capacity.tables_log2)?,
        };
        let half = 1 << (capacity.words_log2 - 1);
        let mut arena = Self {
            shared: Arc::new(shared),
            domain: domain.clone(),
            nodes: Buddy::new(6, 1 << capacity.nodes_log2),
            words: Buddy::new(12, half),
            large: Buddy::new(0, half >> LARGE_BITS),
            large_first: half,
            limbo: Limbo::new(),
            fresh: Vec::new(),
            doomed: Vec::new(),
            free_tables: Vec::new(),
        };
        let empty = arena.allocate_words(64)?;
        for index in empty.start..empty.start + empty.len {
            arena.set_word(index, Word::leaf(NextHopIndex::MISS));
        }
        arena.fresh.clear();
        Ok(arena)
    }

    /// Bytes that readers may touch.
    pub(super) fn memory_bytes(&self) -> usize {
        self.nodes.touched() as usize * size_of::<Node>()
            + self.words.touched() as usize * size_of::<u32>()
            + ((self.large.touched() as usize) << LARGE_BITS) * size_of::<u32>()
    }

    /// Bytes of it that hold something, reachable or not yet reclaimed.
    pub(super) fn used_bytes(&self) -> usize {
        self.nodes.used() as usize * size_of::<Node>()
            + self.words.used() as usize * size_of::<u32>()
            + ((self.large.used() as usize) << LARGE_BITS) * size_of::<u32>()
    }

    pub(super) fn allocate_nodes(&mut self, len: u32) -> Result<Block, FibError> {
        let block = match self.nodes.allocate(len) {
            Some(block) => block,
            None => self.retry(|arena| arena.nodes.allocate(len), "trie nodes")?,
        };
        self.fresh.push(Garbage::Nodes(block));
        Ok(block)
    }

    pub(super) fn allocate_words(&mut self, len: u32) -> Result<Block, FibError> {
        let block = match self.words.allocate(len) {
            Some(block) => block,
            None => self.retry(|arena| arena.words.allocate(len), "leaves")?,
        };
        self.fresh.push(Garbage::Words(block));
        Ok(block)
    }

    /// Words for a direct table. When there is none of 2^18 left, one of 2^12 does its job more slowly.
    pub(super) fn allocate_direct(&mut self, bits: u32) -> Result<Direct, FibError> {
        if bits == LARGE_BITS
            && let Some(block) = self.large.allocate(1)
        {
            self.fresh.push(Garbage::Large(block));
            return Ok(Direct { first: self.large_first + (block.start << LARGE_BITS), bits });
        }
        let bits = bits.min(12);
        Ok(Direct { first: self.allocate_words(1 << bits)?.start, bits })
    }

    fn retry(
        &mut self,
        allocate: impl Fn(&mut Self) -> Option<Block>,
        what: &'static str,
    ) -> Result<Block, FibError> {
        self.reclaim();
        allocate(self).ok_or(FibError::Full { what })
    }

    /// To be retired when the operation in progress commits.
    pub(super) fn doom_nodes(&mut self, block: Block) {
        if block.len > 0 {
            self.doomed.push(Garbage::Nodes(block));
        }
    }

    /// To be retired when the operation in progress commits.
    pub(super) fn doom_words(&mut self, block: Block) {
        if block.len > 0 {
            self.doomed.push(Garbage::Words(block));
        }
    }

    /// To be retired when the operation in progress commits.
    pub(super) fn doom_direct(&mut self, direct: Direct) {
        if direct.bits == LARGE_BITS {
            let start = (direct.first - self.large_first) >> LARGE_BITS;
            self.doomed.push(Garbage::Large(Block { start, len: 1 }));
        } else if direct != Direct::EMPTY {
            self.doomed.push(Garbage::Words(Block { start: direct.first, len: 1 << direct.bits }));
        }
    }

    /// To be given back when the operation in progress commits and the readers have passed.
    pub(super) fn doom_table(&mut self, table: TableId) {
        self.doomed.push(Garbage::Table(table));
    }

    /// What was taken is reachable now, what was doomed is not.
    pub(super) fn commit(&mut self) {
        self.fresh.clear();
        for garbage in self.doomed.drain(..) {
            self.limbo.retire(garbage);
        }
        if self.limbo.unclosed() >= RECLAIM_EVERY {
            self.reclaim();
        }
    }

    /// Gives back what was taken since the last commit; it was never reachable.
    pub(super) fn roll_back(&mut self) {
        self.doomed.clear();
        for garbage in std::mem::take(&mut self.fresh) {
            self.release(garbage);
        }
    }

    /// Reuses what the readers have passed.
    pub(super) fn reclaim(&mut self) {
        let mut limbo = std::mem::take(&mut self.limbo);
        let domain = self.domain.clone();
        limbo.reclaim(&domain, |garbage| self.release(garbage));
        self.limbo = limbo;
    }

    fn release(&mut self, garbage: Garbage) {
        match garbage {
            Garbage::Nodes(block) => self.nodes.free(block),
            Garbage::Words(block) => self.words.free(block),
            Garbage::Large(block) => self.large.free(block),
            Garbage::Table(table) => self.free_tables.push(table),
        }
    }

    pub(super) fn word(&self, index: u32) -> Word {
        Word(self.shared.words.at(index).load(Ordering::Relaxed))
    }

    /// Writes a word that no reader reaches yet.
    pub(super) fn set_word(&self, index: u32, word: Word) {
        self.shared.words.at(index).store(word.0, Ordering::Relaxed);
    }

    /// Replaces a word that readers reach. Release: everything below it was written before.
    pub(super) fn publish_word(&self, index: u32, word: Word) {
        self.shared.words.at(index).store(word.0, Ordering::Release);
    }

    pub(super) fn node(&self, index: u32) -> NodeValue {
        let node = self.shared.nodes.at(index);
        NodeValue {
            vector: node.vector.load(Ordering::Relaxed),
            leafvec: node.leafvec.load(Ordering::Relaxed),
            children: node.children.load(Ordering::Relaxed),
            leaves: node.leaves.load(Ordering::Relaxed),
        }
    }

    /// Writes a node that no reader reaches yet.
    pub(super) fn set_node(&self, index: u32, value: NodeValue) {
        let node = self.shared.nodes.at(index);
        node.vector.store(value.vector, Ordering::Relaxed);
        node.leafvec.store(value.leafvec, Ordering::Relaxed);
        node.children.store(value.children, Ordering::Relaxed);
        node.leaves.store(value.leaves, Ordering::Relaxed);
    }

    /// Gives a reachable node other children of the same shape. Release: they were written before.
    pub(super) fn publish_children(&self, index: u32, children: u32) {
        self.shared.nodes.at(index).children.store(children, Ordering::Release);
    }
}
