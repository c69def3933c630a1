//! The forwarding information base: longest-prefix match of both families, for many tables at once.
//!
//! Workers read a poptrie (Asai and Ohara, "Poptrie: A Compressed Trie with Population Count for Fast and Scalable
//! Software IP Routing Table Lookup", SIGCOMM 2015): a direct table of 2^6, 2^12 or 2^18 entries, as the table's size
//! deserves, and below it nodes of 64 slots, compressed by population counts. [`FibControl`] is its one writer; every
//! [`FibReader`] may look up at any time and never waits.
//!
//! How a change becomes visible: everything new is written to free blocks of the arenas first, then one release store of
//! one 32-bit word (a direct table's entry, a node's pointer to its children, a leaf) makes it reachable. What a reader
//! loads with acquire is therefore complete. A node's bit vectors never change once it is reachable, so that arrays of
//! children that succeed each other have the same shape, and leaves may be overwritten. A node whose vectors must change
//! is replaced together with its siblings by their parent's pointer. Blocks that became unreachable wait in
//! [`reclaim`](crate::reclaim) until the readers have passed.
//!
//! A key is looked up either before or after a change, never in between; a change of one prefix becomes visible to
//! different keys at slightly different times if it covers more than one entry of the direct table.
//!
//! The writer keeps its own trie of all prefixes (`rib`) and not a general-purpose one: its nodes are the workers' nodes
//! with the prefixes instead of their expansion, so that an update recomputes exactly one node (and those below that
//! inherit from it), and it takes 14 bytes per route of an Internet-sized IPv4 table.
//!
//! Default routes are not expanded into the trie but stand beside the direct table, so that replacing one in a full table
//! is one store.

mod arena;
mod buddy;
mod control;
mod key;
mod lookup;
mod memory;
mod rib;
pub mod sample;
mod trie;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use control::{Capacity, FibControl, Memory, Routes};
pub use key::{Key, Prefix};
pub use lookup::FibReader;

/// What a prefix leads to: an index that the FIB stores and returns, and does not interpret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NextHopIndex(u32);

impl NextHopIndex {
    /// No prefix matches.
    pub const MISS: Self = Self(0x7fff_ffff);

    /// The index, 0 to 2^31-2; `None` beyond.
    pub const fn new(index: u32) -> Option<Self> {
        if index < Self::MISS.0 { Some(Self(index)) } else { None }
    }

    /// The index, or 2^31-1 for [`MISS`](Self::MISS).
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Whether no prefix matched.
    #[inline]
    pub const fn is_miss(self) -> bool {
        self.0 == Self::MISS.0
    }
}

/// One table (one VRF) of one [`FibControl`].
///
/// The identifier of a removed table answers every lookup with [`NextHopIndex::MISS`] until all readers have passed a
/// quiescent state; then it may be given to a new table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TableId(u32);

impl TableId {
    /// A small number, for tables indexed by it.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// From [`index`](Self::index).
    pub(crate) const fn from_index(index: u32) -> Self {
        Self(index)
    }
}

/// Why the FIB refused.
#[derive(Debug, thiserror::Error)]
pub enum FibError {
    /// The address space for the arenas could not be reserved.
    #[error("reserving {bytes} bytes of address space for the FIB failed (is RLIMIT_AS set?)")]
    Reserve {
        /// How much was asked for.
        bytes: usize,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No such table.
    #[error("the FIB has no table {}", .0.0)]
    NoTable(TableId),
    /// An arena is full. A route refused with "routes" was not taken; with anything else it was, and becomes visible by a
    /// later [`FibControl::reclaim`] once memory is free.
    #[error("the FIB's memory for {what} is full; remove routes or raise its capacity")]
    Full {
        /// Which arena.
        what: &'static str,
    },
}
