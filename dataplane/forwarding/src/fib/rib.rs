//! The writer's own table: every prefix with its next hop, as a multibit trie of the workers' stride.
//!
//! A node decides on six bits and holds the prefixes that end after one to six of them as bits of a binary heap: the
//! prefix of `l` bits with value `v` is bit `(1 << l) | v`, so its parent is half its number and the longest match of a
//! slot is the highest bit among its six ancestors. A node of the workers' trie corresponds to exactly one node here and
//! has the same children, which is what makes one update touch one node. Values lie packed, 4 bytes per prefix.

use super::buddy::{Block, Buddy};
use super::key::{Key, Prefix, STRIDE};
use super::{FibError, NextHopIndex};

/// Largest array: the prefixes of a node fit 126 bits, its children 64.
const MAX_ORDER: u32 = 7;
/// Units of an arena, far beyond what is planned for: 2^26 nodes of 32 bytes.
const LIMIT: u32 = 1 << 26;

/// The number of a prefix within its node: 2 to 127.
pub(super) type Heap = u32;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RibNode {
    /// Bit `h` is set when the prefix with heap number `h` is present.
    prefixes: u128,
    /// Bit `s` is set when slot `s` has a child.
    children: u64,
    first_child: u32,
    first_value: u32,
}

impl RibNode {
    pub(super) fn children(&self) -> u64 {
        self.children
    }

    fn child(&self, slot: u32) -> Option<u32> {
        (self.children >> slot & 1 == 1).then(|| self.first_child + rank(self.children, slot))
    }

    fn value_at(&self, heap: Heap) -> u32 {
        self.first_value + (self.prefixes & ((1 << heap) - 1)).count_ones()
    }

    fn children_block(&self) -> Block {
        Block { start: self.first_child, len: self.children.count_ones() }
    }

    fn values_block(&self) -> Block {
        Block { start: self.first_value, len: self.prefixes.count_ones() }
    }

    fn is_empty(&self) -> bool {
        self.prefixes == 0 && self.children == 0
    }

    /// The longest prefix that covers `slot`.
    fn longest(&self, slot: u32) -> Option<Heap> {
        let leaf = 64 | slot;
        let ancestors = (0..STRIDE).fold(0_u128, |set, up| set | 1 << (leaf >> up));
        (self.prefixes & ancestors).checked_ilog2()
    }

    /// The slots that some prefix longer than `bits` covers.
    pub(super) fn covered(&self, bits: u32) -> u64 {
        let mut longer = self.prefixes & u128::MAX.checked_shl(1 << (bits + 1)).unwrap_or(0);
        let mut slots = 0;
        while longer != 0 {
            let heap = longer.trailing_zeros();
            slots |= slots_of(heap);
            longer &= longer - 1;
        }
        slots
    }
}

/// How many bits of `set` are below `bit`.
pub(super) fn rank(set: u64, bit: u32) -> u32 {
    (set & ((1 << bit) - 1)).count_ones()
}

/// The slots of a prefix, as bits.
pub(super) fn slots_of(heap: Heap) -> u64 {
    let bits = heap.ilog2();
    let free = STRIDE - bits;
    let width = 1_u32 << free;
    let first = (heap << free) & 63;
    (u64::MAX >> (64 - width)) << first
}

/// The depth of the node that holds a prefix of `length` (not zero), and the prefix's heap number there.
pub(super) fn place<K: Key>(prefix: Prefix<K>) -> (u32, Heap) {
    let length = u32::from(prefix.length());
    let depth = (length - 1) / STRIDE;
    let bits = length - depth * STRIDE;
    (depth, 1 << bits | prefix.address().slot(depth * STRIDE) >> (STRIDE - bits))
}

/// All prefixes of all tables of one family, but for the default routes, which the tables hold themselves.
#[derive(Debug)]
pub(super) struct Rib {
    nodes: Vec<RibNode>,
    node_units: Buddy,
    values: Vec<u32>,
    value_units: Buddy,
}

impl Rib {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            node_units: Buddy::new(MAX_ORDER, LIMIT),
            values: Vec::new(),
            value_units: Buddy::new(MAX_ORDER, LIMIT),
        }
    }

    /// Bytes that it has grown to.
    pub(super) fn memory_bytes(&self) -> usize {
        bytes(self.node_units.touched(), self.value_units.touched())
    }

    /// Bytes of it in use.
    pub(super) fn used_bytes(&self) -> usize {
        bytes(self.node_units.used(), self.value_units.used())
    }

    /// The root of a new trie; it does not move.
    pub(super) fn add_root(&mut self) -> Result<u32, FibError> {
        Ok(self.allocate_nodes(1)?.start)
    }

    /// Frees a trie.
    pub(super) fn remove_root(&mut self, root: u32) {
        self.clear(root);
        self.node_units.free(Block { start: root, len: 1 });
    }

    fn clear(&mut self, at: u32) {
        let node = std::mem::take(&mut self.nodes[at as usize]);
        for child in node.first_child..node.first_child + node.children.count_ones() {
            self.clear(child);
        }
        self.free_children(&node);
        self.free_values(&node);
    }

    pub(super) fn node(&self, at: u32) -> RibNode {
        self.nodes[at as usize]
    }

    pub(super) fn child(&self, at: u32, slot: u32) -> Option<u32> {
        self.nodes[at as usize].child(slot)
    }

    /// The value of the longest prefix of the node that covers `slot`.
    pub(super) fn best(&self, at: u32, slot: u32) -> Option<NextHopIndex> {
        let node = &self.nodes[at as usize];
        node.longest(slot).map(|heap| NextHopIndex(self.values[node.value_at(heap) as usize]))
    }

    /// What each slot of a node resolves to, without its children: `inherited` where no prefix of the node covers it.
    pub(super) fn slots(&self, at: u32, inherited: NextHopIndex) -> [NextHopIndex; 64] {
        let node = &self.nodes[at as usize];
        let mut slots = [inherited; 64];
        let mut left = node.prefixes;
        let mut value = node.first_value as usize;
        // Ascending heap numbers are ascending lengths: longer prefixes overwrite shorter ones.
        while left != 0 {
            let heap = left.trailing_zeros();
            left &= left - 1;
            let free = STRIDE - heap.ilog2();
            let first = ((heap << free) & 63) as usize;
            slots[first..first + (1 << free)].fill(NextHopIndex(self.values[value]));
            value += 1;
        }
        slots
    }

    /// Sets a prefix of length 1 or more and returns what it had.
    pub(super) fn insert<K: Key>(
        &mut self,
        root: u32,
        prefix: Prefix<K>,
        next_hop: NextHopIndex,
    ) -> Result<Option<NextHopIndex>, FibError> {
        let (depth, heap) = place(prefix);
        let mut at = root;
        for level in 0..depth {
            let slot = prefix.address().slot(level * STRIDE);
            at = match self.child(at, slot) {
                Some(child) => child,
                None => match self.add_child(at, slot) {
                    Ok(child) => child,
                    Err(error) => {
                        self.prune(root, prefix.address(), level);
                        return Err(error);
                    }
                },
            };
        }
        let node = self.nodes[at as usize];
        let position = node.value_at(heap);
        if node.prefixes >> heap & 1 == 1 {
            let old = std::mem::replace(&mut self.values[position as usize], next_hop.0);
            return Ok(Some(NextHopIndex(old)));
        }
        let first = match self.grow_values(&node) {
            Ok(first) => first,
            Err(error) => {
                self.prune(root, prefix.address(), depth);
                return Err(error);
            }
        };
        let at_value = (first + position - node.first_value) as usize;
        let end = (first + node.prefixes.count_ones()) as usize;
        self.values.copy_within(at_value..end, at_value + 1);
        self.values[at_value] = next_hop.0;
        let node = &mut self.nodes[at as usize];
        node.prefixes |= 1 << heap;
        node.first_value = first;
        Ok(None)
    }

    /// Removes a prefix of length 1 or more and returns what it had.
    pub(super) fn remove<K: Key>(&mut self, root: u32, prefix: Prefix<K>) -> Option<NextHopIndex> {
        let (depth, heap) = place(prefix);
        let at = self.descend(root, prefix.address(), depth)?;
        let node = self.nodes[at as usize];
        if node.prefixes >> heap & 1 == 0 {
            return None;
        }
        let position = node.value_at(heap);
        let old = NextHopIndex(self.values[position as usize]);
        let node = &mut self.nodes[at as usize];
        node.prefixes &= !(1 << heap);
        let left = node.values_block();
        self.values.copy_within(position as usize + 1..left.range().end + 1, position as usize);
        self.value_units.shrink(left);
        self.prune(root, prefix.address(), depth);
        Some(old)
    }

    /// The value of exactly this prefix, of length 1 or more.
    pub(super) fn exact<K: Key>(&self, root: u32, prefix: Prefix<K>) -> Option<NextHopIndex> {
        let (depth, heap) = place(prefix);
        let node = &self.nodes[self.descend(root, prefix.address(), depth)? as usize];
        (node.prefixes >> heap & 1 == 1).then(|| NextHopIndex(self.values[node.value_at(heap) as usize]))
    }

    /// The longest prefix of length 1 or more that holds `key`.
    pub(super) fn longest_match<K: Key>(&self, root: u32, key: K) -> Option<(Prefix<K>, NextHopIndex)> {
        let mut best = None;
        let (mut at, mut offset) = (root, 0);
        loop {
            let node = &self.nodes[at as usize];
            let slot = key.slot(offset);
            if let Some(heap) = node.longest(slot) {
                best = Some((offset + heap.ilog2(), self.values[node.value_at(heap) as usize]));
            }
            offset += STRIDE;
            match node.child(slot) {
                Some(child) => at = child,
                None => break,
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a key has at most 128 bits")]
        best.map(|(length, value)| (Prefix::containing(key, length as u8), NextHopIndex(value)))
    }

    /// All prefixes of length 1 or more, by address, shorter ones first.
    pub(super) fn iter<K: Key>(&self, root: u32) -> Iter<'_, K> {
        Iter { rib: self, path: vec![Frame { at: root, address: K::default(), cursor: 0 }] }
    }

    fn descend<K: Key>(&self, root: u32, key: K, depth: u32) -> Option<u32> {
        (0..depth).try_fold(root, |at, level| self.child(at, key.slot(level * STRIDE)))
    }

    /// Removes the nodes on the way to `key` that hold nothing any more, from `depth` upwards.
    fn prune<K: Key>(&mut self, root: u32, key: K, depth: u32) {
        for level in (0..depth).rev() {
            let slot = key.slot(level * STRIDE);
            let Some(parent) = self.descend(root, key, level) else { continue };
            let Some(child) = self.child(parent, slot) else { continue };
            if !self.nodes[child as usize].is_empty() {
                break;
            }
            let node = &mut self.nodes[parent as usize];
            node.children &= !(1 << slot);
            let left = node.children_block();
            self.nodes.copy_within(child as usize + 1..left.range().end + 1, child as usize);
            self.node_units.shrink(left);
        }
    }

    fn add_child(&mut self, at: u32, slot: u32) -> Result<u32, FibError> {
        let node = self.nodes[at as usize];
        let first = self.grow_children(&node)?;
        let child = first + rank(node.children, slot);
        let end = (first + node.children.count_ones()) as usize;
        self.nodes.copy_within(child as usize..end, child as usize + 1);
        self.nodes[child as usize] = RibNode::default();
        let node = &mut self.nodes[at as usize];
        node.children |= 1 << slot;
        node.first_child = first;
        Ok(child)
    }

    /// Makes room for one more child behind a node's children, which may move, and returns where they begin.
    fn grow_children(&mut self, node: &RibNode) -> Result<u32, FibError> {
        let block = node.children_block();
        if block.len > 0 && Buddy::extend(block) {
            return Ok(block.start);
        }
        let new = self.allocate_nodes(block.len + 1)?;
        self.nodes.copy_within(block.range(), new.start as usize);
        self.free_children(node);
        Ok(new.start)
    }

    /// As [`grow_children`](Self::grow_children), of a node's values.
    fn grow_values(&mut self, node: &RibNode) -> Result<u32, FibError> {
        let block = node.values_block();
        if block.len > 0 && Buddy::extend(block) {
            return Ok(block.start);
        }
        let new = self.allocate_values(block.len + 1)?;
        self.values.copy_within(block.range(), new.start as usize);
        self.free_values(node);
        Ok(new.start)
    }

    fn allocate_nodes(&mut self, len: u32) -> Result<Block, FibError> {
        let block = self.node_units.allocate(len).ok_or(FibError::Full { what: "routes" })?;
        let end = self.node_units.touched() as usize;
        if self.nodes.len() < end {
            self.nodes.resize(end, RibNode::default());
        }
        if len == 1 {
            self.nodes[block.start as usize] = RibNode::default();
        }
        Ok(block)
    }

    fn allocate_values(&mut self, len: u32) -> Result<Block, FibError> {
        let block = self.value_units.allocate(len).ok_or(FibError::Full { what: "routes" })?;
        let end = self.value_units.touched() as usize;
        if self.values.len() < end {
            self.values.resize(end, 0);
        }
        Ok(block)
    }

    fn free_children(&mut self, node: &RibNode) {
        if node.children != 0 {
            self.node_units.free(node.children_block());
        }
    }

    fn free_values(&mut self, node: &RibNode) {
        if node.prefixes != 0 {
            self.value_units.free(node.values_block());
        }
    }
}

fn bytes(nodes: u32, values: u32) -> usize {
    nodes as usize * size_of::<RibNode>() + values as usize * size_of::<u32>()
}

/// See [`Rib::iter`].
pub(super) struct Iter<'a, K> {
    rib: &'a Rib,
    path: Vec<Frame<K>>,
}

struct Frame<K> {
    at: u32,
    address: K,
    /// `slot * 8 + step`: steps 1 to 6 are the prefixes of that many bits that begin at the slot, step 7 is its child.
    cursor: u32,
}

impl<K: Key> Iterator for Iter<'_, K> {
    type Item = (Prefix<K>, NextHopIndex);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            #[expect(clippy::cast_possible_truncation, reason = "a path has at most 22 nodes")]
            let offset = (self.path.len() as u32).checked_sub(1)? * STRIDE;
            let frame = self.path.last_mut()?;
            let node = &self.rib.nodes[frame.at as usize];
            let (slot, step) = (frame.cursor / 8, frame.cursor % 8);
            if slot == 64 {
                self.path.pop();
                continue;
            }
            frame.cursor += 1;
            match step {
                0 => {}
                7 => {
                    if let Some(at) = node.child(slot) {
                        let address = frame.address.with_slot(offset, slot);
                        self.path.push(Frame { at, address, cursor: 0 });
                    }
                }
                bits => {
                    let free = STRIDE - bits;
                    let heap = 1 << bits | slot >> free;
                    if slot.trailing_zeros() >= free && node.prefixes >> heap & 1 == 1 {
                        #[expect(clippy::cast_possible_truncation, reason = "a key has at most 128 bits")]
                        let prefix =
                            Prefix::containing(frame.address.with_slot(offset, slot), (offset + bits) as u8);
                        return Some((prefix, NextHopIndex(self.rib.values[node.value_at(heap) as usize])));
                    }
                }
            }
        }
    }
}
