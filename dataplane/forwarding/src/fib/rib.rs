//! The writer's own table: every prefix with its next hop, as a multibit trie of the workers' stride.
//!
//! A node decides on six bits and holds the prefixes that end after one to six of them. Each has a number, that of a binary
//! heap: the prefix of `l` bits with value `v` is number `(1 << l) | v`, so its parent is half its number and the longest
//! match of a slot is the highest number among its six ancestors. A node of the workers' trie corresponds to exactly one
//! node here and has the same children, which is what makes one update touch one node.
//!
//! Most nodes hold a handful of prefixes, or nothing but one child on the way down a long IPv6 prefix. So a node is not two
//! bit vectors but a list of what there is, in one block of 32-bit words: counts and the first two keys, one byte each
//! (prefixes' numbers, then children's slots, both ascending), in the first; further keys four to a word; then the prefixes'
//! next hops and the children's places in the order of their keys. A node with one child takes two words.

use super::buddy::{Block, Buddy};
use super::key::{Key, Prefix, STRIDE};
use super::{FibError, NextHopIndex};

/// Largest node: 126 prefixes and 64 children take 238 words.
const MAX_ORDER: u32 = 8;
/// Words, far beyond what is planned for: 2 GiB of them.
const LIMIT: u32 = 1 << 29;
/// Nodes on the longest path: 128 bits, six at a time.
const MAX_DEPTH: usize = 22;

/// The number of a prefix within its node: 2 to 127.
pub(super) type Heap = u32;

/// What counts a prefix in a node's first word.
const PREFIX: u32 = 1;
/// What counts a child there.
const CHILD: u32 = 1 << 7;
/// Both counts.
const COUNTS: u32 = (1 << 14) - 1;
/// Where keys begin, in bytes.
const FIRST_KEY: u32 = 2;

/// Words before the values of a node with so many entries.
const fn lead(entries: u32) -> u32 {
    (entries + FIRST_KEY).div_ceil(4)
}

/// A node, as its first word describes it. Entries are its prefixes, then its children.
#[derive(Clone, Copy, Debug)]
struct Node {
    at: u32,
    prefixes: u32,
    children: u32,
}

impl Node {
    const fn entries(self) -> u32 {
        self.prefixes + self.children
    }

    /// Where its values begin.
    const fn values(self) -> u32 {
        self.at + lead(self.entries())
    }

    const fn block(self) -> Block {
        Block { start: self.at, len: lead(self.entries()) + self.entries() }
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
    words: Vec<u32>,
    units: Buddy,
}

impl Rib {
    pub(super) fn new() -> Self {
        Self { words: Vec::new(), units: Buddy::new(MAX_ORDER, LIMIT) }
    }

    /// Bytes that it has grown to.
    pub(super) fn memory_bytes(&self) -> usize {
        self.units.touched() as usize * size_of::<u32>()
    }

    /// Bytes of it in use.
    pub(super) fn used_bytes(&self) -> usize {
        self.units.used() as usize * size_of::<u32>()
    }

    /// The root of a new trie.
    pub(super) fn add_root(&mut self) -> Result<u32, FibError> {
        let root = self.allocate(lead(0))?;
        self.words[root as usize] = 0;
        Ok(root)
    }

    /// Frees a trie, or a part of one.
    pub(super) fn remove_root(&mut self, root: u32) {
        let node = self.node(root);
        for index in node.prefixes..node.entries() {
            self.remove_root(self.value(node, index));
        }
        self.units.free(node.block());
    }

    pub(super) fn child(&self, at: u32, slot: u32) -> Option<u32> {
        let node = self.node(at);
        self.find_child(node, slot).ok().map(|index| self.value(node, index))
    }

    /// Bit `s` is set when slot `s` of a node has a child.
    pub(super) fn children(&self, at: u32) -> u64 {
        let node = self.node(at);
        (node.prefixes..node.entries()).fold(0, |set, index| set | 1 << self.key(node, index))
    }

    /// The slots of a node that some prefix of it longer than `bits` covers.
    pub(super) fn covered(&self, at: u32, bits: u32) -> u64 {
        let node = self.node(at);
        let heaps = (0..node.prefixes).rev().map(|index| self.key(node, index));
        heaps.take_while(|&heap| heap >= 2 << bits).fold(0, |slots, heap| slots | slots_of(heap))
    }

    /// The value of the longest prefix of the node that covers `slot`.
    pub(super) fn best(&self, at: u32, slot: u32) -> Option<NextHopIndex> {
        self.longest(self.node(at), slot).map(|(_, next_hop)| next_hop)
    }

    /// What each slot of a node resolves to, without its children: `inherited` where no prefix of the node covers it.
    pub(super) fn slots(&self, at: u32, inherited: NextHopIndex) -> [NextHopIndex; 64] {
        let node = self.node(at);
        let mut slots = [inherited; 64];
        // Ascending heap numbers are ascending lengths: longer prefixes overwrite shorter ones.
        for index in 0..node.prefixes {
            let heap = self.key(node, index);
            let free = STRIDE - heap.ilog2();
            let first = ((heap << free) & 63) as usize;
            slots[first..first + (1 << free)].fill(NextHopIndex(self.value(node, index)));
        }
        slots
    }

    /// Sets a prefix of length 1 or more and returns what it had.
    pub(super) fn insert<K: Key>(
        &mut self,
        root: &mut u32,
        prefix: Prefix<K>,
        next_hop: NextHopIndex,
    ) -> Result<Option<NextHopIndex>, FibError> {
        let (depth, heap) = place(prefix);
        // The word that says where the node is; none of the root.
        let mut link = None;
        let mut node = self.node(*root);
        for level in 0..depth {
            let slot = prefix.address().slot(level * STRIDE);
            match self.find_child(node, slot) {
                Ok(index) => {
                    let word = node.values() + index;
                    link = Some(word);
                    node = self.node(self.words[word as usize]);
                }
                Err(index) => {
                    let child = self.chain(prefix, level + 1, next_hop)?;
                    let grown = self.grow(node, index, CHILD, slot, child);
                    if grown.is_err() {
                        self.remove_root(child);
                    }
                    self.relink(root, link, grown?);
                    return Ok(None);
                }
            }
        }
        match self.find_prefix(node, heap) {
            Ok(index) => {
                let value = &mut self.words[(node.values() + index) as usize];
                Ok(Some(NextHopIndex(std::mem::replace(value, next_hop.0))))
            }
            Err(index) => {
                let grown = self.grow(node, index, PREFIX, heap, next_hop.0)?;
                self.relink(root, link, grown);
                Ok(None)
            }
        }
    }

    /// Removes a prefix of length 1 or more and returns what it had.
    pub(super) fn remove<K: Key>(&mut self, root: u32, prefix: Prefix<K>) -> Option<NextHopIndex> {
        let (depth, heap) = place(prefix);
        // Places of the nodes above, and which of their entries led on.
        let mut path = [(0, 0); MAX_DEPTH];
        let mut node = self.node(root);
        for (level, step) in (0..depth).zip(&mut path) {
            let index = self.find_child(node, prefix.address().slot(level * STRIDE)).ok()?;
            *step = (node.at, index);
            node = self.node(self.value(node, index));
        }
        let index = self.find_prefix(node, heap).ok()?;
        let old = NextHopIndex(self.value(node, index));
        self.shrink(node, index, PREFIX);
        for &(above, index) in path[..depth as usize].iter().rev() {
            let below = self.node(node.at);
            if below.entries() > 0 {
                break;
            }
            self.units.free(below.block());
            node = self.node(above);
            self.shrink(node, index, CHILD);
        }
        Some(old)
    }

    /// The value of exactly this prefix, of length 1 or more.
    pub(super) fn exact<K: Key>(&self, root: u32, prefix: Prefix<K>) -> Option<NextHopIndex> {
        let (depth, heap) = place(prefix);
        let at =
            (0..depth).try_fold(root, |at, level| self.child(at, prefix.address().slot(level * STRIDE)))?;
        let node = self.node(at);
        self.find_prefix(node, heap).ok().map(|index| NextHopIndex(self.value(node, index)))
    }

    /// The longest prefix of length 1 or more that holds `key`.
    pub(super) fn longest_match<K: Key>(&self, root: u32, key: K) -> Option<(Prefix<K>, NextHopIndex)> {
        let mut best = None;
        let (mut at, mut offset) = (root, 0);
        loop {
            let slot = key.slot(offset);
            if let Some((heap, next_hop)) = self.longest(self.node(at), slot) {
                best = Some((offset + heap.ilog2(), next_hop));
            }
            offset += STRIDE;
            match self.child(at, slot) {
                Some(child) => at = child,
                None => break,
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a key has at most 128 bits")]
        best.map(|(length, next_hop)| (Prefix::containing(key, length as u8), next_hop))
    }

    /// The prefixes of length 1 or more, by address, shorter ones first: all, or those that come after one of these.
    pub(super) fn iter<K: Key>(&self, root: u32, after: Option<Prefix<K>>) -> Iter<'_, K> {
        let mut iter = Iter { rib: self, path: Vec::new(), after };
        let (mut at, mut address) = (root, K::default());
        if let Some(after) = after {
            let (depth, _) = place(after);
            for level in 0..depth {
                let slot = after.address().slot(level * STRIDE);
                let mut frame = Frame::new(self, at, address);
                // What is in this slot comes before, but for what is below it.
                frame.slots &= u64::MAX.checked_shl(slot + 1).unwrap_or(0);
                iter.path.push(frame);
                match self.child(at, slot) {
                    Some(child) => at = child,
                    None => return iter,
                }
                address = address.with_slot(level * STRIDE, slot);
            }
            let mut frame = Frame::new(self, at, address);
            frame.slots &= u64::MAX << after.address().slot(depth * STRIDE);
            iter.path.push(frame);
        } else {
            iter.path.push(Frame::new(self, at, address));
        }
        iter
    }

    fn node(&self, at: u32) -> Node {
        let word = self.words[at as usize];
        Node { at, prefixes: word % CHILD, children: (word & COUNTS) / CHILD }
    }

    fn key(&self, node: Node, index: u32) -> u32 {
        let byte = index + FIRST_KEY;
        self.words[(node.at + byte / 4) as usize] >> (byte % 4 * 8) & 0xff
    }

    fn value(&self, node: Node, index: u32) -> u32 {
        self.words[(node.values() + index) as usize]
    }

    /// The entry of a prefix, or where it would be.
    fn find_prefix(&self, node: Node, heap: Heap) -> Result<u32, u32> {
        self.find(node, 0..node.prefixes, heap)
    }

    /// The entry of a child, or where it would be.
    fn find_child(&self, node: Node, slot: u32) -> Result<u32, u32> {
        self.find(node, node.prefixes..node.entries(), slot)
    }

    fn find(&self, node: Node, range: std::ops::Range<u32>, key: u32) -> Result<u32, u32> {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(node, middle).cmp(&key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The longest prefix of a node that covers `slot`.
    fn longest(&self, node: Node, slot: u32) -> Option<(Heap, NextHopIndex)> {
        let leaf = 64 | slot;
        (0..node.prefixes).rev().find_map(|index| {
            let heap = self.key(node, index);
            (leaf >> (STRIDE - heap.ilog2()) == heap).then(|| (heap, NextHopIndex(self.value(node, index))))
        })
    }

    /// A part of a trie that holds one prefix, from its node at `level` on.
    fn chain<K: Key>(
        &mut self,
        prefix: Prefix<K>,
        level: u32,
        next_hop: NextHopIndex,
    ) -> Result<u32, FibError> {
        let (depth, heap) = place(prefix);
        let mut at = self.single(PREFIX, heap, next_hop.0)?;
        for level in (level..depth).rev() {
            match self.single(CHILD, prefix.address().slot(level * STRIDE), at) {
                Ok(above) => at = above,
                Err(error) => {
                    self.remove_root(at);
                    return Err(error);
                }
            }
        }
        Ok(at)
    }

    /// A node with one entry.
    fn single(&mut self, count: u32, key: u32, value: u32) -> Result<u32, FibError> {
        let at = self.allocate(lead(1) + 1)?;
        self.words[at as usize] = count | key << (8 * FIRST_KEY);
        self.words[(at + lead(1)) as usize] = value;
        Ok(at)
    }

    /// Gives a node an entry more, at `index`, and says where the node is now.
    fn grow(&mut self, node: Node, index: u32, count: u32, key: u32, value: u32) -> Result<u32, FibError> {
        let (old, entries) = (node.block(), node.entries());
        let len = lead(entries + 1) + entries + 1;
        let moves = len.next_power_of_two() != old.len.next_power_of_two();
        let at = if moves { self.allocate(len)? } else { node.at };
        // The upper ones first: the lower ones may go where they are.
        let (from, to) = (node.values() as usize, (at + lead(entries + 1)) as usize);
        let (index, entries) = (index as usize, entries as usize);
        self.words.copy_within(from + index..from + entries, to + index + 1);
        self.words.copy_within(from..from + index, to);
        self.words[to + index] = value;
        let (first, keys) = (at as usize, to - at as usize);
        if moves {
            self.words.copy_within(node.at as usize..from, first);
            self.units.free(old);
        }
        let byte = index + FIRST_KEY as usize;
        let keys = &mut self.words[first..first + keys];
        for word in (byte / 4 + 1..keys.len()).rev() {
            keys[word] = keys[word] << 8 | keys[word - 1] >> 24;
        }
        let (word, shift) = (byte / 4, byte % 4 * 8);
        let below = (1 << shift) - 1;
        keys[word] = keys[word] & below | key << shift | (keys[word] & !below) << 8;
        keys[0] += count;
        Ok(at)
    }

    /// Takes an entry from a node, which stays where it is.
    fn shrink(&mut self, node: Node, index: u32, count: u32) {
        let (old, entries) = (node.block(), node.entries());
        let (first, from) = (node.at as usize, node.values() as usize);
        let byte = (index + FIRST_KEY) as usize;
        let keys = &mut self.words[first..from];
        let (word, shift) = (byte / 4, byte % 4 * 8);
        let below = (1 << shift) - 1;
        keys[word] = keys[word] & below | (keys[word] >> 8) & !below;
        for word in word + 1..keys.len() {
            keys[word - 1] |= keys[word] << 24;
            keys[word] >>= 8;
        }
        keys[0] -= count;
        // The lower ones first: the upper ones may go where they are.
        let to = (node.at + lead(entries - 1)) as usize;
        let (index, entries) = (index as usize, entries as usize);
        self.words.copy_within(from..from + index, to);
        self.words.copy_within(from + index + 1..from + entries, to + index);
        self.units.trim(old, self.node(node.at).block().len);
    }

    fn relink(&mut self, root: &mut u32, link: Option<u32>, at: u32) {
        match link {
            Some(word) => self.words[word as usize] = at,
            None => *root = at,
        }
    }

    fn allocate(&mut self, len: u32) -> Result<u32, FibError> {
        let block = self.units.allocate(len).ok_or(FibError::Full { what: "routes" })?;
        let end = self.units.touched() as usize;
        if self.words.len() < end {
            self.words.resize(end, 0);
        }
        Ok(block.start)
    }
}

/// See [`Rib::iter`].
pub(super) struct Iter<'a, K> {
    rib: &'a Rib,
    path: Vec<Frame<K>>,
    /// What comes after it is wanted.
    after: Option<Prefix<K>>,
}

struct Frame<K> {
    node: Node,
    address: K,
    /// By heap number.
    prefixes: u128,
    children: u64,
    /// Where something begins that is yet to come.
    slots: u64,
    /// In the first of these: 1 to 6 are the prefixes of that many bits that begin there, 7 is its child.
    step: u32,
}

impl<K: Key> Frame<K> {
    fn new(rib: &Rib, at: u32, address: K) -> Self {
        let node = rib.node(at);
        let children = rib.children(at);
        let heaps = || (0..node.prefixes).map(|index| rib.key(node, index));
        let starts =
            heaps().fold(children, |slots, heap| slots | slots_of(heap) & slots_of(heap).wrapping_neg());
        let prefixes = heaps().fold(0, |set, heap| set | 1 << heap);
        Self { node, address, prefixes, children, slots: starts, step: 0 }
    }
}

impl<K: Key> Iterator for Iter<'_, K> {
    type Item = (Prefix<K>, NextHopIndex);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            #[expect(clippy::cast_possible_truncation, reason = "a path has at most 22 nodes")]
            let offset = (self.path.len() as u32).checked_sub(1)? * STRIDE;
            let frame = self.path.last_mut()?;
            if frame.slots == 0 {
                self.path.pop();
                continue;
            }
            let slot = frame.slots.trailing_zeros();
            frame.step += 1;
            let bits = frame.step;
            if bits > STRIDE {
                frame.slots &= frame.slots - 1;
                frame.step = 0;
                if frame.children >> slot & 1 == 1 {
                    let index = frame.node.prefixes + rank(frame.children, slot);
                    let (at, address) =
                        (self.rib.value(frame.node, index), frame.address.with_slot(offset, slot));
                    self.path.push(Frame::new(self.rib, at, address));
                }
                continue;
            }
            let free = STRIDE - bits;
            let heap = 1 << bits | slot >> free;
            if slot.trailing_zeros() >= free && frame.prefixes >> heap & 1 == 1 {
                #[expect(clippy::cast_possible_truncation, reason = "a key has at most 128 bits")]
                let prefix = Prefix::containing(frame.address.with_slot(offset, slot), (offset + bits) as u8);
                if self.after.is_some_and(|after| prefix <= after) {
                    continue;
                }
                let index = (frame.prefixes & ((1 << heap) - 1)).count_ones();
                return Some((prefix, NextHopIndex(self.rib.value(frame.node, index))));
            }
        }
    }
}
