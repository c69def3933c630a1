//! The one writer of a family's tables.

use super::arena::sync::{Arc, Ordering};
use super::arena::{Arena, Direct};
use super::key::{Key, Prefix};
use super::lookup::FibReader;
use super::rib::{Iter, Rib, place};
use super::trie::{Trie, same_node};
use super::{FibError, NextHopIndex, TableId};
use crate::reclaim::Domain;

/// Address space to reserve for a family's tables, as powers of two. Only what is used takes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Trie nodes, of 32 bytes: 4 to 30.
    pub nodes_log2: u32,
    /// Words of direct tables and leaves, of 4 bytes: 9 to 31. The upper half is for direct tables of 2^18.
    pub words_log2: u32,
    /// Tables: 0 to 20.
    pub tables_log2: u32,
}

impl Capacity {
    fn clamped(self) -> Self {
        Self {
            nodes_log2: self.nodes_log2.clamp(4, 30),
            words_log2: self.words_log2.clamp(9, 31),
            tables_log2: self.tables_log2.min(20),
        }
    }
}

impl Default for Capacity {
    /// 16 M nodes (a million Internet routes take some 250 000), 128 M words, 512 tables of more than 16 384 routes at
    /// their fastest, 65 536 tables: 1.5 GiB of address space.
    fn default() -> Self {
        if cfg!(any(loom, miri)) {
            Self { nodes_log2: 12, words_log2: 14, tables_log2: 4 }
        } else {
            Self { nodes_log2: 24, words_log2: 28, tables_log2: 16 }
        }
    }
}

/// What the tables of a family take, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the readers' arenas have grown to.
    pub readers: usize,
    /// Of `readers`: what holds something now.
    pub readers_used: usize,
    /// The writer's trie of prefixes.
    pub rib: usize,
    /// Of `rib`: what holds something now.
    pub rib_used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Table {
    /// Of its trie in the rib.
    root: u32,
    direct: Direct,
    /// What the direct table's size was asked to be; it may be smaller when there are too many large ones.
    wanted_bits: u32,
    /// Prefixes without the default route.
    len: usize,
    default_route: Option<NextHopIndex>,
    /// The readers' trie is behind the rib, for want of memory.
    stale: bool,
}

/// Sizes of the direct table: bits, grow beyond so many prefixes, shrink below so many.
const SIZES: [(u32, usize, usize); 3] = [(6, 512, 0), (12, 16_384, 256), (18, usize::MAX, 8_192)];

/// A batch of more than this part of its table is taken over by building the trie anew.
const REBUILD_SHARE: usize = 4;

/// The depth of the node that holds a prefix; the default route has none.
fn depth<K: Key>(prefix: Prefix<K>) -> Option<u32> {
    (prefix.length() > 0).then(|| place(prefix).0)
}

/// The direct table's bits for `len` prefixes, coming from `bits`.
fn wanted_bits(len: usize, bits: u32) -> u32 {
    if len == 0 {
        return 0;
    }
    let grown = SIZES.iter().find(|&&(_, most, _)| len <= most).map_or(18, |&(bits, ..)| bits);
    let stays = SIZES.iter().any(|&(size, _, least)| size == bits && len >= least);
    if grown < bits && stays { bits } else { grown }
}

/// The writer's side of all tables of one family: `u32` for IPv4, `u128` for IPv6. Readers follow every change at once.
///
/// A change takes about a microsecond, whatever the size of the table, unless its prefix is so short that it covers many
/// entries. When a table outgrows its direct table, or shrinks below it, one change rebuilds the table.
#[derive(Debug)]
pub struct FibControl<K> {
    arena: Arena,
    rib: Rib,
    tables: Vec<Option<Table>>,
    max_tables: usize,
    stale: Vec<TableId>,
    family: std::marker::PhantomData<fn(K)>,
}

impl<K: Key> FibControl<K> {
    /// No tables yet. `domain` is the one the readers' threads are registered in.
    ///
    /// Fails when the address space cannot be reserved.
    pub fn new(domain: &Domain) -> Result<Self, FibError> {
        Self::with_capacity(domain, Capacity::default())
    }

    /// As [`new`](Self::new), with less or more address space; values out of range are clamped.
    pub fn with_capacity(domain: &Domain, capacity: Capacity) -> Result<Self, FibError> {
        let capacity = capacity.clamped();
        Ok(Self {
            arena: Arena::new(domain, capacity)?,
            rib: Rib::new(),
            tables: Vec::new(),
            max_tables: 1 << capacity.tables_log2,
            stale: Vec::new(),
            family: std::marker::PhantomData,
        })
    }

    /// A reader of all tables, present and future.
    pub fn reader(&self) -> FibReader<K> {
        FibReader::new(Arc::clone(&self.arena.shared))
    }

    /// A new table without routes. It takes a few dozen bytes.
    pub fn table_add(&mut self) -> Result<TableId, FibError> {
        if self.arena.free_tables.is_empty() {
            self.arena.reclaim();
        }
        let id = match self.arena.free_tables.pop() {
            Some(id) => id,
            None if self.tables.len() < self.max_tables => {
                #[expect(clippy::cast_possible_truncation, reason = "at most 2^20 tables")]
                let id = TableId(self.tables.len() as u32);
                self.tables.push(None);
                id
            }
            None => return Err(FibError::Full { what: "tables" }),
        };
        let root = match self.rib.add_root() {
            Ok(root) => root,
            Err(error) => {
                self.arena.free_tables.push(id);
                return Err(error);
            }
        };
        self.tables[id.0 as usize] = Some(Table {
            root,
            direct: Direct::EMPTY,
            wanted_bits: 0,
            len: 0,
            default_route: None,
            stale: false,
        });
        Ok(id)
    }

    /// Removes a table with all its routes.
    pub fn table_remove(&mut self, table: TableId) -> Result<(), FibError> {
        let state = self.table(table)?;
        self.tables[table.0 as usize] = None;
        let root = self.arena.shared.roots.at(table.0);
        root.set_default_route(NextHopIndex::MISS);
        root.direct.store(Direct::EMPTY.pack(), Ordering::Release);
        Trie { arena: &mut self.arena, rib: &self.rib }.doom_table(state.direct);
        self.arena.doom_table(table);
        self.arena.commit();
        self.rib.remove_root(state.root);
        Ok(())
    }

    /// The tables there are, ascending.
    pub fn tables(&self) -> impl Iterator<Item = TableId> + '_ {
        (0..).zip(&self.tables).filter(|(_, table)| table.is_some()).map(|(id, _)| TableId(id))
    }

    /// Sets a route and returns what the prefix led to before. [`NextHopIndex::MISS`] removes it.
    pub fn insert(
        &mut self,
        table: TableId,
        prefix: Prefix<K>,
        next_hop: NextHopIndex,
    ) -> Result<Option<NextHopIndex>, FibError> {
        if next_hop.is_miss() {
            return self.remove(table, prefix);
        }
        let old = self.insert_rib(table, prefix, next_hop)?;
        if old != Some(next_hop) && prefix.length() > 0 {
            self.follow(table, &[prefix])?;
        }
        Ok(old)
    }

    /// Removes a route and returns what it led to.
    pub fn remove(&mut self, table: TableId, prefix: Prefix<K>) -> Result<Option<NextHopIndex>, FibError> {
        let old = self.remove_rib(table, prefix)?;
        if old.is_some() && prefix.length() > 0 {
            self.follow(table, &[prefix])?;
        }
        Ok(old)
    }

    /// Sets many routes. Faster than one by one, the more so the closer they lie together; when they are many compared to
    /// what the table has they become visible together. What is refused is left out, and the last refusal returned.
    pub fn extend(
        &mut self,
        table: TableId,
        routes: impl IntoIterator<Item = (Prefix<K>, NextHopIndex)>,
    ) -> Result<(), FibError> {
        let mut refused = Ok(());
        let mut routes: Vec<_> = routes.into_iter().collect();
        self.change(table, &mut routes, |_, result| {
            if let Err(error) = result {
                refused = Err(error);
            }
        })?;
        refused
    }

    /// Sets many routes ([`NextHopIndex::MISS`] removes), of one prefix the last, and says of each what its prefix led to
    /// before, or that it was refused. They are sorted for it: by length, six bits at a time, and address, which brings those
    /// together that share nodes.
    ///
    /// Fails when there is no such table, or as [`insert`](Self::insert) does when what was taken cannot be published yet.
    pub fn change(
        &mut self,
        table: TableId,
        routes: &mut [(Prefix<K>, NextHopIndex)],
        mut taken: impl FnMut((Prefix<K>, NextHopIndex), Result<Option<NextHopIndex>, FibError>),
    ) -> Result<(), FibError> {
        let before = self.table(table)?.len;
        // Stable: the last one of a prefix stays the last.
        routes.sort_by_key(|&(prefix, _)| (depth(prefix), prefix));
        let mut changed: Vec<Prefix<K>> = Vec::with_capacity(routes.len());
        for &mut (prefix, next_hop) in routes {
            let result = if next_hop.is_miss() {
                self.remove_rib(table, prefix)
            } else {
                self.insert_rib(table, prefix, next_hop)
            };
            let new = (!next_hop.is_miss()).then_some(next_hop);
            if prefix.length() > 0 && result.as_ref().is_ok_and(|&old| old != new) {
                changed.push(prefix);
            }
            taken((prefix, next_hop), result);
        }
        // A node is cheaper to build than to update, and is built once for all its routes.
        if changed.len() > 64 && changed.len() > before / REBUILD_SHARE {
            return self.rebuild(table);
        }
        for prefixes in changed.chunk_by(same_node) {
            if self.follow(table, prefixes).is_err() {
                // It is to be built anew, whatever the others are.
                return self.rebuild(table);
            }
        }
        Ok(())
    }

    /// Whether readers have all that was taken: false between a change that could not be published for want of memory and the
    /// [`reclaim`](Self::reclaim) that does.
    pub const fn is_published(&self) -> bool {
        self.stale.is_empty()
    }

    /// What exactly this prefix leads to.
    pub fn get(&self, table: TableId, prefix: Prefix<K>) -> Option<NextHopIndex> {
        let state = self.table(table).ok()?;
        if prefix.length() == 0 { state.default_route } else { self.rib.exact(state.root, prefix) }
    }

    /// The longest match of a key, with the prefix that matched.
    pub fn lookup(&self, table: TableId, key: K) -> Option<(Prefix<K>, NextHopIndex)> {
        let state = self.table(table).ok()?;
        let default_route = || state.default_route.map(|next_hop| (Prefix::containing(key, 0), next_hop));
        self.rib.longest_match(state.root, key).or_else(default_route)
    }

    /// The routes of a table by address, shorter prefixes first.
    pub fn iter(&self, table: TableId) -> Routes<'_, K> {
        self.iter_after(table, None)
    }

    /// The routes of a table that come after a prefix, in the order of [`iter`](Self::iter), whether there is a route to it or
    /// not: for those who do a part at a time.
    pub fn iter_after(&self, table: TableId, after: Option<Prefix<K>>) -> Routes<'_, K> {
        let Ok(state) = self.table(table) else { return Routes { default_route: None, rest: None } };
        let default_route = state.default_route.filter(|_| after.is_none());
        Routes {
            default_route: default_route.map(|next_hop| (Prefix::containing(K::default(), 0), next_hop)),
            rest: Some(self.rib.iter(state.root, after.filter(|prefix| prefix.length() > 0))),
        }
    }

    /// The number of routes of a table.
    pub fn len(&self, table: TableId) -> usize {
        self.table(table).map_or(0, |state| state.len + usize::from(state.default_route.is_some()))
    }

    /// Whether a table has no routes.
    pub fn is_empty(&self, table: TableId) -> bool {
        self.len(table) == 0
    }

    /// What all tables together take.
    pub fn memory(&self) -> Memory {
        Memory {
            readers: self.arena.memory_bytes(),
            readers_used: self.arena.used_bytes(),
            rib: self.rib.memory_bytes(),
            rib_used: self.rib.used_bytes(),
        }
    }

    /// What all tables together take, readers' and writer's side, bytes.
    pub fn memory_bytes(&self) -> usize {
        let memory = self.memory();
        memory.readers + memory.rib
    }

    /// Makes memory that readers have left usable again, and publishes what could not be for want of it. Changes do this
    /// by themselves now and then; to be called when there are none. Never blocks.
    pub fn reclaim(&mut self) {
        self.arena.reclaim();
        for table in std::mem::take(&mut self.stale) {
            // What fails again has put itself back on the list.
            let _ = self.rebuild(table);
        }
    }

    fn insert_rib(
        &mut self,
        table: TableId,
        prefix: Prefix<K>,
        next_hop: NextHopIndex,
    ) -> Result<Option<NextHopIndex>, FibError> {
        let Some(Some(state)) = self.tables.get_mut(table.0 as usize) else {
            return Err(FibError::NoTable(table));
        };
        if prefix.length() == 0 {
            self.arena.shared.roots.at(table.0).set_default_route(next_hop);
            return Ok(state.default_route.replace(next_hop));
        }
        let old = self.rib.insert(&mut state.root, prefix, next_hop)?;
        state.len += usize::from(old.is_none());
        Ok(old)
    }

    fn remove_rib(&mut self, table: TableId, prefix: Prefix<K>) -> Result<Option<NextHopIndex>, FibError> {
        let Some(Some(state)) = self.tables.get_mut(table.0 as usize) else {
            return Err(FibError::NoTable(table));
        };
        if prefix.length() == 0 {
            self.arena.shared.roots.at(table.0).set_default_route(NextHopIndex::MISS);
            return Ok(state.default_route.take());
        }
        let old = self.rib.remove(state.root, prefix);
        state.len -= usize::from(old.is_some());
        Ok(old)
    }

    /// Brings the readers' trie up to the rib after a change of `prefixes`, which are of one node.
    fn follow(&mut self, table: TableId, prefixes: &[Prefix<K>]) -> Result<(), FibError> {
        let state = self.table(table)?;
        if state.stale || state.wanted_bits != wanted_bits(state.len, state.wanted_bits) {
            return self.rebuild(table);
        }
        let result =
            Trie { arena: &mut self.arena, rib: &self.rib }.update(state.root, state.direct, prefixes);
        if result.is_err() {
            self.fall_behind(table);
        }
        result
    }

    fn rebuild(&mut self, table: TableId) -> Result<(), FibError> {
        let mut state = self.table(table)?;
        state.wanted_bits = wanted_bits(state.len, state.wanted_bits);
        let mut trie = Trie { arena: &mut self.arena, rib: &self.rib };
        match trie.rebuild(table, state.root, state.direct, state.wanted_bits) {
            Ok(direct) => {
                self.tables[table.0 as usize] = Some(Table { direct, stale: false, ..state });
                Ok(())
            }
            Err(error) => {
                self.fall_behind(table);
                Err(error)
            }
        }
    }

    fn fall_behind(&mut self, table: TableId) {
        self.arena.roll_back();
        if let Some(Some(state)) = self.tables.get_mut(table.0 as usize) {
            state.stale = true;
        }
        if !self.stale.contains(&table) {
            self.stale.push(table);
        }
    }

    fn table(&self, table: TableId) -> Result<Table, FibError> {
        self.tables.get(table.0 as usize).copied().flatten().ok_or(FibError::NoTable(table))
    }
}

/// See [`FibControl::iter`].
pub struct Routes<'a, K> {
    default_route: Option<(Prefix<K>, NextHopIndex)>,
    rest: Option<Iter<'a, K>>,
}

impl<K: Key> Iterator for Routes<'_, K> {
    type Item = (Prefix<K>, NextHopIndex);

    fn next(&mut self) -> Option<Self::Item> {
        self.default_route.take().or_else(|| self.rest.as_mut()?.next())
    }
}
