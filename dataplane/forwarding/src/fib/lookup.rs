//! The readers' side: longest-prefix match, one key or a burst of them.

use super::arena::sync::{Arc, Ordering};
use super::arena::{Direct, Node, Shared, Word};
use super::key::{Key, STRIDE};
use super::{NextHopIndex, TableId};

/// Keys that travel down the trie together: enough to hide the memory's latency, few enough for their lines to stay in
/// the first-level cache.
const GROUP: usize = 64;

/// A view of all tables of one family. Cheap to clone; every worker has its own.
///
/// Lookups are always memory-safe. For their answers to be right, the thread must be registered and online in the
/// [`Domain`](crate::reclaim::Domain) of the [`FibControl`](super::FibControl), and not call
/// [`quiescent`](crate::reclaim::ReaderHandle::quiescent) during a lookup (which its `&mut` prevents on the same thread).
#[derive(Debug)]
pub struct FibReader<K> {
    shared: Arc<Shared>,
    fast: bool,
    family: std::marker::PhantomData<fn(K)>,
}

impl<K> Clone for FibReader<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), ..*self }
    }
}

impl<K: Key> FibReader<K> {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, fast: bit_counting_instructions(), family: std::marker::PhantomData }
    }

    /// The longest match of one key.
    pub fn lookup(&self, table: TableId, key: K) -> NextHopIndex {
        let mut out = [NextHopIndex::MISS];
        self.lookup_burst(&[table], &[key], &mut out);
        out[0]
    }

    /// The longest match of each key in its own table; [`NextHopIndex::MISS`] where there is none.
    ///
    /// The slices should be of equal length; of unequal ones as many leading elements are treated as the shortest has.
    /// The keys of a burst go down the trie level by level, each level's memory being fetched ahead for all of them.
    #[inline]
    pub fn lookup_burst(&self, tables: &[TableId], keys: &[K], out: &mut [NextHopIndex]) {
        let groups = tables.chunks(GROUP).zip(keys.chunks(GROUP)).zip(out.chunks_mut(GROUP));
        for ((tables, keys), out) in groups {
            #[cfg(target_arch = "x86_64")]
            if self.fast {
                // SAFETY: the processor has these instructions, see `bit_counting_instructions`.
                unsafe { group_with_bit_counting(&self.shared, tables, keys, out) };
                continue;
            }
            group(&self.shared, tables, keys, out);
        }
    }
}

/// Whether the processor counts bits in one instruction. The compiler may not assume so on x86-64, and a poptrie without
/// takes twice as long.
fn bit_counting_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("popcnt")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt,bmi1,bmi2")]
fn group_with_bit_counting<K: Key>(
    shared: &Shared,
    tables: &[TableId],
    keys: &[K],
    out: &mut [NextHopIndex],
) {
    group(shared, tables, keys, out);
}

/// Up to [`GROUP`] keys.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "positions within a group")]
fn group<K: Key>(shared: &Shared, tables: &[TableId], keys: &[K], out: &mut [NextHopIndex]) {
    let count = tables.len().min(keys.len()).min(out.len()).min(GROUP);
    let (tables, keys, out) = (&tables[..count], &keys[..count], &mut out[..count]);
    // Of each key: the index of the word or node to be read next, and the bits decided so far.
    let mut next = [0_u32; GROUP];
    let mut offset = [0_u32; GROUP];

    for i in 0..count {
        // Acquire: the direct table's words were written before.
        let direct = Direct::unpack(shared.roots.at(tables[i].0).direct.load(Ordering::Acquire));
        next[i] = direct.first + top(keys[i], direct.bits);
        offset[i] = direct.bits;
        prefetch(shared.words.at(next[i]));
    }

    // The keys that reached a node. Membership costs no branch: every position is written, and kept if it counts.
    let mut below = [0_u8; GROUP];
    let mut below_count = 0;
    for (i, next) in next[..count].iter_mut().enumerate() {
        // Acquire: so was the node.
        let word = Word(shared.words.at(*next).load(Ordering::Acquire));
        *next = word.0;
        below[below_count % GROUP] = i as u8;
        below_count += usize::from(word.is_node());
    }
    let below = &below[..below_count];
    for &i in below {
        prefetch(shared.nodes.at(next[usize::from(i) % GROUP]));
    }

    let mut active = [0_u8; GROUP];
    active[..below_count].copy_from_slice(below);
    let mut active_count = below_count;
    // A path is never longer than the key; the bound holds even for a reader that breaks the rules of reclamation.
    for _ in 0..=K::BITS / STRIDE {
        if active_count == 0 {
            break;
        }
        let mut kept = 0;
        for position in 0..active_count {
            let i = usize::from(active[position]) % GROUP;
            let (index, is_node) = step(shared.nodes.at(next[i]), keys[i % count].slot(offset[i]));
            next[i] = index;
            offset[i] += STRIDE;
            if is_node {
                prefetch(shared.nodes.at(index));
            } else {
                prefetch(shared.words.at(index));
            }
            active[kept] = i as u8;
            kept += usize::from(is_node);
        }
        active_count = kept;
    }

    for &i in below {
        let i = usize::from(i) % GROUP;
        // Acquire is not needed for the word itself, which was written before the node or pointer that led here; it orders
        // what the pipeline published before it handed the index to the writer.
        next[i] = shared.words.at(next[i]).load(Ordering::Acquire);
    }
    for i in 0..count {
        let found = Word(next[i]).next_hop();
        out[i] = if found.is_miss() { shared.roots.at(tables[i].0).default_route() } else { found };
    }
}

/// The leading `bits` (6, 12 or 18) of a key.
#[inline(always)]
fn top<K: Key>(key: K, bits: u32) -> u32 {
    let eighteen = key.slot(0) << 12 | key.slot(6) << 6 | key.slot(12);
    eighteen >> (18 - bits)
}

/// One level down: the index of a child node (true) or of the leaf's word (false).
#[inline(always)]
fn step(node: &Node, slot: u32) -> (u32, bool) {
    // The vectors and the leaves' place do not change while the node is reachable.
    let vector = node.vector.load(Ordering::Relaxed);
    let leafvec = node.leafvec.load(Ordering::Relaxed);
    let leaves = node.leaves.load(Ordering::Relaxed);
    // Acquire: the children were written before the pointer.
    let children = node.children.load(Ordering::Acquire);
    let is_node = vector >> slot & 1 == 1;
    let (set, first) = if is_node { (vector, children) } else { (leafvec, leaves) };
    // Bits up to and including the slot's: at least one.
    let before = (set & (2_u64 << slot).wrapping_sub(1)).count_ones();
    (first.wrapping_add(before).wrapping_sub(1), is_node)
}

#[inline(always)]
fn prefetch<T>(at: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no effect but on caches, and the reference is valid anyway.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(at).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}
