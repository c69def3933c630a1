//! A hash table of (scope, IP address) that is read while it is written: neighbours by port, VTEPs by VNI.
//!
//! Open addressing over 32-bit entries, so that an ordinary lookup touches one cache line of them and the 32 bytes of its
//! record. A record's key does not change between being linked and being retired; its value is one word that may be
//! stored at any time.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::chunked::{Chunked, Slots};

/// An entry: 8 bits of the hash over the record's index plus one. 0 is empty.
const TOMBSTONE: u32 = u32::MAX;
const INDEX_MASK: u32 = 0x00ff_ffff;
/// Records, less than what 24 bits hold so that no entry looks like a tombstone.
const LIMIT: u32 = 1 << 20;
/// Entries looked at before a lookup gives up; an insertion that would need more makes the table grow.
const PROBES: u32 = 64;
const SMALLEST: u32 = 6;
const LARGEST: u32 = 22;

/// What is found.
#[derive(Default)]
#[repr(align(32))]
pub(crate) struct Record {
    scope: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    /// The owner's word.
    pub(crate) value: AtomicU64,
}

impl Record {
    #[inline(always)]
    fn is(&self, scope: u32, address: u128) -> bool {
        let (high, low) = halves(address);
        self.low.load(Ordering::Relaxed) == low
            && self.high.load(Ordering::Relaxed) == high
            && self.scope.load(Ordering::Relaxed) == u64::from(scope)
    }

    fn key(&self) -> (u32, u128) {
        let high = u128::from(self.high.load(Ordering::Relaxed));
        let low = u128::from(self.low.load(Ordering::Relaxed));
        let scope = u32::try_from(self.scope.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        (scope, high << 64 | low)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
const fn halves(address: u128) -> (u64, u64) {
    ((address >> 64) as u64, address as u64)
}

/// The readers' side.
pub(crate) struct AddressTable {
    /// By size: one array per power of two, made when the table first grows to it and kept.
    arrays: [OnceLock<Box<[AtomicU32]>>; LARGEST as usize + 1],
    log2: AtomicU32,
    records: Chunked<Record, 8>,
}

impl AddressTable {
    fn new() -> Self {
        let arrays = [const { OnceLock::new() }; LARGEST as usize + 1];
        Self { arrays, log2: AtomicU32::new(SMALLEST), records: Chunked::new(LIMIT) }
    }

    /// The record of an index from the writer.
    #[inline(always)]
    pub(crate) fn record(&self, index: u32) -> Option<&Record> {
        self.records.get(index)
    }

    /// The record of a key.
    #[inline(always)]
    pub(crate) fn find(&self, scope: u32, address: u128) -> Option<&Record> {
        // Acquire: the array was filled before its size was published.
        let array = self.array(self.log2.load(Ordering::Acquire))?;
        let hash = hash(scope, address);
        for place in places(hash, array.len()) {
            // Acquire: the record's key was written before its entry.
            let entry = array.get(place)?.load(Ordering::Acquire);
            if entry == 0 {
                return None;
            }
            if entry >> 24 == hash.tag
                && entry != TOMBSTONE
                && let Some(record) = self.records.get((entry & INDEX_MASK).wrapping_sub(1))
                && record.is(scope, address)
            {
                return Some(record);
            }
        }
        None
    }

    #[inline(always)]
    fn array(&self, log2: u32) -> Option<&[AtomicU32]> {
        self.arrays.get(log2 as usize)?.get().map(|array| &**array)
    }
}

#[derive(Clone, Copy)]
struct Hash {
    start: usize,
    tag: u32,
}

#[inline(always)]
fn hash(scope: u32, address: u128) -> Hash {
    let (high, low) = halves(address);
    let mixed = crate::hash::mix(
        low ^ 0x9e37_79b9_7f4a_7c15,
        high.rotate_left(17) ^ u64::from(scope) ^ 0xd6e8_feb8_6659_fd93,
    );
    // The tag avoids 0xff, which belongs to tombstones.
    #[expect(clippy::cast_possible_truncation, reason = "hash bits")]
    Hash { start: mixed as usize, tag: ((mixed >> 56) as u32) & 0x7f }
}

#[inline(always)]
fn places(hash: Hash, len: usize) -> impl Iterator<Item = usize> {
    (0..PROBES as usize).map(move |probe| hash.start.wrapping_add(probe) & (len - 1))
}

/// The one writer.
pub(crate) struct AddressTableWriter {
    table: Arc<AddressTable>,
    slots: Slots,
    log2: u32,
    /// Entries that are not empty: records and tombstones.
    filled: u32,
}

impl AddressTableWriter {
    pub(crate) fn new() -> Self {
        let table = Arc::new(AddressTable::new());
        make_array(&table, SMALLEST);
        Self { table, slots: Slots::new(LIMIT), log2: SMALLEST, filled: 0 }
    }

    pub(crate) fn table(&self) -> &Arc<AddressTable> {
        &self.table
    }

    /// Links a key that is not in the table and returns its record's index; `None` when the table is full.
    pub(crate) fn insert(&mut self, scope: u32, address: u128, value: u64) -> Option<u32> {
        let slot = self.slots.take()?;
        let record = self.table.records.get_or_make(slot)?;
        let (high, low) = halves(address);
        record.scope.store(scope.into(), Ordering::Relaxed);
        record.high.store(high, Ordering::Relaxed);
        record.low.store(low, Ordering::Relaxed);
        record.value.store(value, Ordering::Relaxed);
        while self.filled >= 1 << (self.log2 - 1) || !self.link(self.log2, slot) {
            if !self.grow() {
                self.slots.give(slot);
                return None;
            }
        }
        Some(slot)
    }

    /// Stores a record's value: one word, seen by readers at once.
    pub(crate) fn set(&self, index: u32, value: u64) {
        if let Some(record) = self.table.record(index) {
            record.value.store(value, Ordering::Release);
        }
    }

    /// Unlinks a record. Its index must go to [`release`](Self::release) when the readers have passed.
    pub(crate) fn remove(&mut self, index: u32) {
        let Some((record, array)) = self.table.record(index).zip(self.table.array(self.log2)) else { return };
        let (scope, address) = record.key();
        let hash = hash(scope, address);
        let entry = hash.tag << 24 | (index + 1);
        let Some(place) =
            places(hash, array.len()).find(|&place| array[place].load(Ordering::Relaxed) == entry)
        else {
            return;
        };
        array[place].store(TOMBSTONE, Ordering::Release);
        // Tombstones just before an empty entry lead a search nowhere.
        let mask = array.len() - 1;
        let mut last = place;
        while array[last].load(Ordering::Relaxed) == TOMBSTONE
            && array[(last + 1) & mask].load(Ordering::Relaxed) == 0
        {
            array[last].store(0, Ordering::Release);
            self.filled -= 1;
            last = last.wrapping_sub(1) & mask;
        }
    }

    /// Gives back an index that was removed, when no reader can hold it any more.
    pub(crate) fn release(&mut self, index: u32) {
        self.slots.give(index);
    }

    /// Enters a record's index into an array; false when no place was near enough.
    fn link(&mut self, log2: u32, index: u32) -> bool {
        let Some((record, array)) = self.table.record(index).zip(self.table.array(log2)) else {
            return false;
        };
        let (scope, address) = record.key();
        let hash = hash(scope, address);
        for place in places(hash, array.len()) {
            let old = array[place].load(Ordering::Relaxed);
            if old == 0 || old == TOMBSTONE {
                array[place].store(hash.tag << 24 | (index + 1), Ordering::Release);
                self.filled += u32::from(old == 0);
                return true;
            }
        }
        false
    }

    /// Copies all entries into an array of twice the size and makes that the table. Readers that still look at the smaller
    /// one find what was there.
    fn grow(&mut self) -> bool {
        let mut log2 = self.log2 + 1;
        'sizes: while log2 <= LARGEST {
            make_array(&self.table, log2);
            let table = Arc::clone(&self.table);
            let Some(old) = table.array(self.log2) else { return false };
            self.filled = 0;
            for entry in old {
                let entry = entry.load(Ordering::Relaxed);
                if entry != 0 && entry != TOMBSTONE && !self.link(log2, (entry & INDEX_MASK) - 1) {
                    log2 += 1;
                    continue 'sizes;
                }
            }
            self.log2 = log2;
            self.table.log2.store(log2, Ordering::Release);
            return true;
        }
        false
    }
}

fn make_array(table: &AddressTable, log2: u32) {
    if let Some(array) = table.arrays.get(log2 as usize) {
        array.get_or_init(|| (0..1_u32 << log2).map(|_| AtomicU32::new(0)).collect());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..4, 0_u128..40), 0..600)) {
            let mut writer = AddressTableWriter::new();
            let mut map = HashMap::new();
            for (step, (add, scope, address)) in steps.into_iter().enumerate() {
                let value = step as u64;
                match (add, map.get(&(scope, address)).copied()) {
                    (true, Some((index, _))) => {
                        writer.set(index, value);
                        map.insert((scope, address), (index, value));
                    }
                    (true, None) => {
                        let index = writer.insert(scope, address, value).unwrap();
                        map.insert((scope, address), (index, value));
                    }
                    (false, Some((index, _))) => {
                        writer.remove(index);
                        writer.release(index);
                        map.remove(&(scope, address));
                    }
                    (false, None) => {}
                }
                for scope in 0..4 {
                    for address in 0..40 {
                        let found = writer.table().find(scope, address);
                        let found = found.map(|record| record.value.load(Ordering::Relaxed));
                        prop_assert_eq!(found, map.get(&(scope, address)).map(|(_, value)| *value));
                    }
                }
            }
        }
    }

    #[test]
    fn grows_to_a_hundred_thousand_and_empties() {
        let mut writer = AddressTableWriter::new();
        let indices: Vec<_> =
            (0..100_000).map(|i| writer.insert(i % 7, (i * 3).into(), i.into()).unwrap()).collect();
        for i in 0..100_000 {
            let record = writer.table().find(i % 7, (i * 3).into()).unwrap();
            assert_eq!(record.value.load(Ordering::Relaxed), u64::from(i));
        }
        indices.iter().for_each(|&index| writer.remove(index));
        assert_eq!(writer.filled, 0, "no tombstones stay in an empty table");
        assert!(writer.table().find(0, 0).is_none());
    }
}
