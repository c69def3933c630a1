//! How the readers' trie follows the writer's.
//!
//! All functions here come after the change of the [`Rib`] and make the trie equal to it again, by recomputing only what
//! the change can have touched. New blocks are written first, one store publishes them, then the old ones are retired.

use super::arena::sync::Ordering;
use super::arena::{Arena, Direct, NodeValue, Word};
use super::buddy::Block;
use super::key::{Key, Prefix, STRIDE};
use super::rib::{Rib, place, rank, slots_of};
use super::{FibError, NextHopIndex, TableId};

/// Both sides of one family during an operation.
pub(super) struct Trie<'a> {
    pub(super) arena: &'a mut Arena,
    pub(super) rib: &'a Rib,
}

impl Trie<'_> {
    /// Builds a table's trie anew, with a direct table of 2^`bits` (0 for a table without routes), and replaces `old`.
    pub(super) fn rebuild(
        &mut self,
        table: TableId,
        root: u32,
        old: Direct,
        bits: u32,
    ) -> Result<Direct, FibError> {
        let new = if bits == 0 {
            Direct::EMPTY
        } else {
            let direct = self.arena.allocate_direct(bits)?;
            self.fill(root, NextHopIndex::MISS, direct.first, direct.bits)?;
            direct
        };
        // Release: the direct table and all below it was written before.
        self.arena.shared.roots.at(table.0).direct.store(new.pack(), Ordering::Release);
        self.doom_table(old);
        self.arena.commit();
        Ok(new)
    }

    /// Takes over the change of prefixes (of length 1 or more) that belong to one node, see [`same_node`]. The trie must
    /// be equal to the rib but for these and for changes that are yet to be taken over in the same way.
    pub(super) fn update<K: Key>(
        &mut self,
        root: u32,
        direct: Direct,
        prefixes: &[Prefix<K>],
    ) -> Result<(), FibError> {
        let Some(&prefix) = prefixes.first() else { return Ok(()) };
        let (depth, _) = place(prefix);
        let levels = direct.bits / STRIDE;
        let key = prefix.address();
        let mut at = root;
        let mut inherited = NextHopIndex::MISS;
        // The word of the direct table where the slots under `at` begin.
        let mut first = direct.first;
        for level in 0..depth.min(levels) {
            let slot = key.slot(level * STRIDE);
            inherited = self.rib.best(at, slot).unwrap_or(inherited);
            let below = direct.bits - (level + 1) * STRIDE;
            first += slot << below;
            match self.rib.child(at, slot) {
                Some(child) => at = child,
                // The prefix was the last below this slot.
                None => {
                    let words = 1 << below;
                    for index in first..first + words {
                        self.publish_leaf(index, inherited);
                    }
                    self.arena.commit();
                    return Ok(());
                }
            }
        }
        if depth < levels {
            let affected = self.affected(at, prefixes);
            return self.paint(at, inherited, first, direct.bits - depth * STRIDE, affected);
        }
        self.update_below(at, inherited, first, levels, prefixes)
    }

    /// The part of [`update`](Self::update) below the direct table's entry `word`, whose rib node is `at`.
    fn update_below<K: Key>(
        &mut self,
        mut at: u32,
        mut inherited: NextHopIndex,
        word: u32,
        levels: u32,
        prefixes: &[Prefix<K>],
    ) -> Result<(), FibError> {
        let Some(&prefix) = prefixes.first() else { return Ok(()) };
        let entry = self.arena.word(word);
        if !entry.is_node() {
            let value = self.build(at, inherited)?;
            return self.install(word, value);
        }
        let (depth, _) = place(prefix);
        let mut parent = None;
        let mut index = entry.0;
        let mut level = levels;
        // Down to the prefix's own node, or to where the two tries part: there a child has appeared or is gone.
        let affected = loop {
            if level == depth {
                break self.affected(at, prefixes);
            }
            let node = self.arena.node(index);
            let slot = prefix.address().slot(level * STRIDE);
            let Some(child) = self.rib.child(at, slot) else { break 0 };
            if node.vector >> slot & 1 == 0 {
                break 0;
            }
            inherited = self.rib.best(at, slot).unwrap_or(inherited);
            at = child;
            parent = Some(index);
            index = node.children + rank(node.vector, slot);
            level += 1;
        };
        let old = self.arena.node(index);
        let new = self.refresh(old, at, inherited, affected)?;
        if self.replace_pointers(index, old, new) {
            return Ok(());
        }
        let Some(parent) = parent else {
            self.arena.doom_nodes(Block { start: index, len: 1 });
            return self.install(word, new);
        };
        let siblings = self.arena.node(parent).children_block();
        let copy = self.arena.allocate_nodes(siblings.len)?;
        for i in 0..siblings.len {
            let sibling = siblings.start + i;
            let value = if sibling == index { new } else { self.arena.node(sibling) };
            self.arena.set_node(copy.start + i, value);
        }
        self.arena.publish_children(parent, copy.start);
        self.arena.doom_nodes(siblings);
        self.arena.commit();
        Ok(())
    }

    /// The slots of node `at` that resolve to one of its `prefixes`, or did so before it was removed.
    fn affected<K: Key>(&self, at: u32, prefixes: &[Prefix<K>]) -> u64 {
        prefixes.iter().fold(0, |affected, &prefix| {
            let (_, heap) = place(prefix);
            let bits = heap.ilog2();
            let covered = if bits == STRIDE { 0 } else { self.rib.covered(at, bits) };
            affected | slots_of(heap) & !covered
        })
    }

    /// Writes the entries of an unpublished direct table, `bits` of it, from its `first` word.
    fn fill(&mut self, at: u32, inherited: NextHopIndex, first: u32, bits: u32) -> Result<(), FibError> {
        let slots = self.rib.slots(at, inherited);
        let below = bits - STRIDE;
        for (slot, &next_hop) in (0..64).zip(&slots) {
            let first = first + (slot << below);
            match self.rib.child(at, slot) {
                Some(child) if below == 0 => {
                    let value = self.build(child, next_hop)?;
                    let block = self.arena.allocate_nodes(1)?;
                    self.arena.set_node(block.start, value);
                    self.arena.set_word(first, Word::node(block.start));
                }
                Some(child) => self.fill(child, next_hop, first, below)?,
                None => {
                    for index in first..first + (1 << below) {
                        self.arena.set_word(index, Word::leaf(next_hop));
                    }
                }
            }
        }
        Ok(())
    }

    /// Rewrites the `affected` slots of node `at` in a direct table in use, `bits` of it, from its `first` word.
    fn paint(
        &mut self,
        at: u32,
        inherited: NextHopIndex,
        first: u32,
        bits: u32,
        affected: u64,
    ) -> Result<(), FibError> {
        let slots = self.rib.slots(at, inherited);
        let below = bits - STRIDE;
        for (slot, &next_hop) in (0..64).zip(&slots).filter(|(slot, _)| affected >> slot & 1 == 1) {
            let first = first + (slot << below);
            match self.rib.child(at, slot) {
                Some(child) if below == 0 => self.paint_node(child, next_hop, first)?,
                Some(child) => {
                    let affected = !self.rib.covered(child, 0);
                    self.paint(child, next_hop, first, below, affected)?;
                }
                None => {
                    for index in first..first + (1 << below) {
                        self.publish_leaf(index, next_hop);
                    }
                    self.arena.commit();
                }
            }
        }
        Ok(())
    }

    /// Gives the node below the direct table's entry `word` something else to inherit.
    fn paint_node(&mut self, at: u32, inherited: NextHopIndex, word: u32) -> Result<(), FibError> {
        let uncovered = !self.rib.covered(at, 0);
        let entry = self.arena.word(word);
        if !entry.is_node() {
            let value = self.build(at, inherited)?;
            return self.install(word, value);
        }
        let old = self.arena.node(entry.0);
        let new = self.refresh(old, at, inherited, uncovered)?;
        if !self.replace_pointers(entry.0, old, new) {
            self.arena.doom_nodes(Block { start: entry.0, len: 1 });
            self.install(word, new)?;
        }
        Ok(())
    }

    /// A new node and all below it.
    fn build(&mut self, at: u32, inherited: NextHopIndex) -> Result<NodeValue, FibError> {
        self.refresh(NodeValue::default(), at, inherited, 0)
    }

    /// What node `old` has to become: its children as the rib has them, those in `affected` slots with what they now
    /// inherit, its leaves likewise. Dooms what it replaces.
    fn refresh(
        &mut self,
        old: NodeValue,
        at: u32,
        inherited: NextHopIndex,
        affected: u64,
    ) -> Result<NodeValue, FibError> {
        let slots = self.rib.slots(at, inherited);
        let vector = self.rib.children(at);
        let (leafvec, leaves) = self.refresh_leaves(old, &slots, vector)?;
        if vector == old.vector && affected & vector == 0 {
            return Ok(NodeValue { leafvec, leaves, ..old });
        }
        let mut values = [NodeValue::default(); 64];
        let mut same = vector == old.vector;
        for (value, slot) in values.iter_mut().zip(members(vector)) {
            let inherited = slots[slot as usize];
            *value = if old.vector >> slot & 1 == 0 {
                self.build_child(at, slot, inherited)?
            } else {
                let child = self.arena.node(old.children + rank(old.vector, slot));
                if affected >> slot & 1 == 0 {
                    child
                } else {
                    let refreshed = self.refresh_child(child, at, slot, inherited)?;
                    same &= refreshed == child;
                    refreshed
                }
            };
        }
        if same {
            return Ok(NodeValue { leafvec, leaves, ..old });
        }
        let mut children = 0;
        if vector != 0 {
            children = self.arena.allocate_nodes(vector.count_ones())?.start;
            for ((index, _), &value) in (children..).zip(members(vector)).zip(&values) {
                self.arena.set_node(index, value);
            }
        }
        for slot in members(old.vector & !vector) {
            let child = self.arena.node(old.children + rank(old.vector, slot));
            self.doom_below(child);
        }
        self.arena.doom_nodes(old.children_block());
        Ok(NodeValue { vector, leafvec, children, leaves })
    }

    fn build_child(
        &mut self,
        parent: u32,
        slot: u32,
        inherited: NextHopIndex,
    ) -> Result<NodeValue, FibError> {
        match self.rib.child(parent, slot) {
            Some(at) => self.build(at, inherited),
            None => Ok(NodeValue::default()),
        }
    }

    fn refresh_child(
        &mut self,
        old: NodeValue,
        parent: u32,
        slot: u32,
        inherited: NextHopIndex,
    ) -> Result<NodeValue, FibError> {
        let Some(at) = self.rib.child(parent, slot) else { return Ok(old) };
        match !self.rib.covered(at, 0) {
            0 => Ok(old),
            uncovered => self.refresh(old, at, inherited, uncovered),
        }
    }

    /// The run-length compressed leaves of a node: the old array if it has the same runs.
    fn refresh_leaves(
        &mut self,
        old: NodeValue,
        slots: &[NextHopIndex; 64],
        vector: u64,
    ) -> Result<(u64, u32), FibError> {
        let mut leafvec = 0_u64;
        let mut runs = [NextHopIndex::MISS; 64];
        let mut count = 0;
        for slot in members(!vector) {
            let next_hop = slots[slot as usize];
            if count == 0 || runs[count - 1] != next_hop {
                leafvec |= 1 << slot;
                runs[count] = next_hop;
                count += 1;
            }
        }
        let runs = &runs[..count];
        if leafvec == old.leafvec {
            // Every key has its own leaf before and after, so that leaves may be replaced one by one where they are, even
            // while the node itself is not published yet.
            for (index, &run) in (old.leaves..).zip(runs) {
                let leaf = Word::leaf(run);
                if self.arena.word(index) != leaf {
                    self.arena.publish_word(index, leaf);
                }
            }
            return Ok((leafvec, old.leaves));
        }
        let mut first = 0;
        if leafvec != 0 {
            first = self.arena.allocate_words(leafvec.count_ones())?.start;
            for (index, &run) in (first..).zip(runs) {
                self.arena.set_word(index, Word::leaf(run));
            }
        }
        self.arena.doom_words(old.leaves_block());
        Ok((leafvec, first))
    }

    /// Turns `old` into `new` where it stands, if they are of one shape. Their leaves are the same array then.
    fn replace_pointers(&mut self, index: u32, old: NodeValue, new: NodeValue) -> bool {
        if (new.vector, new.leafvec) != (old.vector, old.leafvec) {
            return false;
        }
        if new.children != old.children {
            self.arena.publish_children(index, new.children);
        }
        self.arena.commit();
        true
    }

    /// Makes `value` the node of a direct table's entry.
    fn install(&mut self, word: u32, value: NodeValue) -> Result<(), FibError> {
        let block = self.arena.allocate_nodes(1)?;
        self.arena.set_node(block.start, value);
        self.arena.publish_word(word, Word::node(block.start));
        self.arena.commit();
        Ok(())
    }

    /// Makes a direct table's entry a leaf. It may have been a node whose last prefix is gone.
    fn publish_leaf(&mut self, word: u32, next_hop: NextHopIndex) {
        let old = self.arena.word(word);
        self.arena.publish_word(word, Word::leaf(next_hop));
        self.doom_entry(old);
    }

    fn doom_entry(&mut self, entry: Word) {
        if entry.is_node() {
            self.doom_below(self.arena.node(entry.0));
            self.arena.doom_nodes(Block { start: entry.0, len: 1 });
        }
    }

    fn doom_below(&mut self, node: NodeValue) {
        let children = node.children_block();
        for index in children.start..children.start + children.len {
            self.doom_below(self.arena.node(index));
        }
        self.arena.doom_nodes(children);
        self.arena.doom_words(node.leaves_block());
    }

    /// Dooms a direct table that was replaced, and all below it.
    pub(super) fn doom_table(&mut self, direct: Direct) {
        if direct == Direct::EMPTY {
            return;
        }
        for index in direct.first..direct.first + (1 << direct.bits) {
            self.doom_entry(self.arena.word(index));
        }
        self.arena.doom_direct(direct);
    }
}

/// Whether two prefixes (of length 1 or more) are held by the same node of the rib.
pub(super) fn same_node<K: Key>(a: &Prefix<K>, b: &Prefix<K>) -> bool {
    let (depth, _) = place(*a);
    let node = |prefix: &Prefix<K>| prefix.address().masked(depth * STRIDE);
    place(*b).0 == depth && node(a) == node(b)
}

/// The bits of a set, ascending.
fn members(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let bit = set.trailing_zeros();
            set &= set - 1;
            bit
        })
    })
}
