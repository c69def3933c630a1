use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::reclaim::Domain;

/// Keys that make prefixes meet: few values in every part of the address, all over its width.
trait TestKey: Key {
    fn strategy() -> BoxedStrategy<Self>;
    fn last_of(prefix: Prefix<Self>) -> Self;
}

impl TestKey for u32 {
    fn strategy() -> BoxedStrategy<Self> {
        prop_oneof![
            4 => prop::array::uniform4(prop_oneof![Just(0_u8), Just(10), Just(0x80), Just(255), 0_u8..8]).prop_map(Self::from_be_bytes),
            1 => any::<Self>(),
        ]
        .boxed()
    }

    fn last_of(prefix: Prefix<Self>) -> Self {
        prefix.address() | !Self::MAX.masked(prefix.length().into())
    }
}

impl TestKey for u128 {
    fn strategy() -> BoxedStrategy<Self> {
        let part = prop_oneof![Just(0_u16), Just(0x2001), Just(0xffff), 0_u16..4];
        prop_oneof![
            4 => prop::array::uniform8(part).prop_map(|parts| parts.iter().fold(0, |key, &part| key << 16 | Self::from(part))),
            1 => any::<Self>(),
        ]
        .boxed()
    }

    fn last_of(prefix: Prefix<Self>) -> Self {
        prefix.address() | !Self::MAX.masked(prefix.length().into())
    }
}

fn prefix_strategy<K: TestKey>() -> impl Strategy<Value = Prefix<K>> {
    let bits = u8::try_from(K::BITS).unwrap();
    let length = prop_oneof![8 => 0..=bits, 1 => Just(0), 2 => Just(bits), 2 => Just(6_u8), 2 => Just(12), 2 => Just(18), 4 => 16_u8..=32];
    (K::strategy(), length).prop_map(|(key, length)| Prefix::containing(key, length))
}

fn next_hop(index: u32) -> NextHopIndex {
    NextHopIndex::new(index).unwrap()
}

#[derive(Clone, Debug)]
enum Step<K: Key> {
    Insert(Prefix<K>, u32),
    Remove(Prefix<K>),
    /// Of what there is, by number.
    RemoveExisting(prop::sample::Index),
    /// `None` removes.
    Extend(Vec<(Prefix<K>, Option<u32>)>),
    /// Every other route from here on, in one batch.
    RemoveHalf(prop::sample::Index),
    Reclaim,
}

fn step<K: TestKey>() -> impl Strategy<Value = Step<K>> {
    // Few next hops, so that neighbouring leaves often become equal and runs merge.
    let insert = || (prefix_strategy(), 0_u32..5);
    prop_oneof![
        10 => insert().prop_map(|(prefix, next_hop)| Step::Insert(prefix, next_hop)),
        2 => prefix_strategy().prop_map(Step::Remove),
        5 => any::<prop::sample::Index>().prop_map(Step::RemoveExisting),
        2 => prop::collection::vec((prefix_strategy(), prop::option::weighted(0.6, 0_u32..5)), 0..100).prop_map(Step::Extend),
        1 => any::<prop::sample::Index>().prop_map(Step::RemoveHalf),
        1 => Just(Step::Reclaim),
    ]
}

/// The slow way: the longest of all prefixes that contain the key.
fn oracle<K: Key>(routes: &BTreeMap<Prefix<K>, u32>, key: K) -> Option<(Prefix<K>, u32)> {
    let matching = routes.iter().filter(|(prefix, _)| prefix.contains(key));
    matching.max_by_key(|(prefix, _)| prefix.length()).map(|(&prefix, &next_hop)| (prefix, next_hop))
}

/// Everything the FIB says about one table, against the oracle, at the borders of every prefix and at `probes`.
fn check<K: TestKey>(
    fib: &FibControl<K>,
    reader: &FibReader<K>,
    table: TableId,
    routes: &BTreeMap<Prefix<K>, u32>,
    probes: &[K],
) {
    assert_eq!(fib.len(table), routes.len());
    let listed: Vec<_> = fib.iter(table).map(|(prefix, next_hop)| (prefix, next_hop.index())).collect();
    assert_eq!(listed, routes.iter().map(|(&prefix, &next_hop)| (prefix, next_hop)).collect::<Vec<_>>());
    for after in probes.iter().map(|&key| Prefix::containing(key, 24)).chain(routes.keys().copied()) {
        let next = fib.iter_after(table, Some(after)).next().map(|(prefix, _)| prefix);
        let expected = routes.keys().find(|&&prefix| prefix > after);
        assert_eq!(next.as_ref(), expected, "after {after}");
    }
    let borders = routes.keys().flat_map(|&prefix| [prefix.address(), K::last_of(prefix)]);
    let keys: Vec<K> = borders.chain(probes.iter().copied()).collect();
    let mut out = vec![next_hop(99); keys.len()];
    reader.lookup_burst(&vec![table; keys.len()], &keys, &mut out);
    for (&key, &found) in keys.iter().zip(&out) {
        let expected = oracle(routes, key);
        assert_eq!(found.is_miss(), expected.is_none(), "lookup of {key:x?}");
        assert_eq!(
            (!found.is_miss()).then_some(found.index()),
            expected.map(|(_, next_hop)| next_hop),
            "{key:x?}"
        );
        assert_eq!(fib.lookup(table, key).map(|(prefix, next_hop)| (prefix, next_hop.index())), expected);
    }
}

fn run<K: TestKey>(steps: Vec<(bool, Step<K>)>, probes: &[K]) {
    let domain = Domain::new();
    let mut handle = domain.register();
    let mut fib = FibControl::<K>::new(&domain).unwrap();
    let reader = fib.reader();
    let tables = [fib.table_add().unwrap(), fib.table_add().unwrap()];
    let mut routes = [BTreeMap::new(), BTreeMap::new()];
    for (second, step) in steps {
        let which = usize::from(second);
        let (table, routes) = (tables[which], &mut routes[which]);
        match step {
            Step::Insert(prefix, value) => {
                let old = fib.insert(table, prefix, next_hop(value)).unwrap();
                assert_eq!(old.map(NextHopIndex::index), routes.insert(prefix, value));
                assert_eq!(fib.get(table, prefix), Some(next_hop(value)));
            }
            Step::Remove(prefix) => {
                let old = fib.remove(table, prefix).unwrap();
                assert_eq!(old.map(NextHopIndex::index), routes.remove(&prefix));
                assert_eq!(fib.get(table, prefix), None);
            }
            Step::RemoveExisting(index) => {
                if let Some(&prefix) =
                    (!routes.is_empty()).then(|| routes.keys().nth(index.index(routes.len()))).flatten()
                {
                    assert_eq!(
                        fib.remove(table, prefix).unwrap().map(NextHopIndex::index),
                        routes.remove(&prefix)
                    );
                }
            }
            Step::Extend(more) => {
                let value = |value: Option<u32>| value.map_or(NextHopIndex::MISS, next_hop);
                fib.extend(table, more.iter().map(|&(prefix, new)| (prefix, value(new)))).unwrap();
                for (prefix, new) in more {
                    match new {
                        Some(new) => routes.insert(prefix, new),
                        None => routes.remove(&prefix),
                    };
                }
            }
            Step::RemoveHalf(from) if !routes.is_empty() => {
                let from = from.index(routes.len());
                let gone: Vec<_> = routes.keys().copied().skip(from).step_by(2).collect();
                fib.extend(table, gone.iter().map(|&prefix| (prefix, NextHopIndex::MISS))).unwrap();
                routes.retain(|prefix, _| !gone.contains(prefix));
            }
            Step::RemoveHalf(_) => {}
            Step::Reclaim => {
                handle.quiescent();
                fib.reclaim();
            }
        }
        check(&fib, &reader, table, routes, probes);
    }
    for (table, routes) in tables.into_iter().zip(&routes) {
        check(&fib, &reader, table, routes, probes);
    }
    for table in tables {
        fib.table_remove(table).unwrap();
        assert!(probes.iter().all(|&key| reader.lookup(table, key).is_miss()));
    }
    drop(handle);
    fib.reclaim();
    assert_eq!(fib.memory().readers_used, 64 * 4, "only the common empty direct table is left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 150 }))]

    #[test]
    fn ipv4_matches_the_oracle(
        steps in prop::collection::vec((any::<bool>(), step::<u32>()), 1..60),
        probes in prop::collection::vec(u32::strategy(), 20),
    ) {
        run(steps, &probes);
    }

    #[test]
    fn ipv6_matches_the_oracle(
        steps in prop::collection::vec((any::<bool>(), step::<u128>()), 1..60),
        probes in prop::collection::vec(u128::strategy(), 20),
    ) {
        run(steps, &probes);
    }
}

/// A small generator: SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u32 {
        u32::try_from(self.next() % limit).unwrap()
    }
}

/// Through all sizes of the direct table and back, against a general-purpose trie.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn direct_table_grows_and_shrinks() {
    use prefix_trie::PrefixMap;

    let domain = Domain::new();
    let mut fib = FibControl::<u32>::new(&domain).unwrap();
    let (table, reader) = (fib.table_add().unwrap(), fib.reader());
    let mut oracle = PrefixMap::<ipnet::Ipv4Net, u32>::new();
    let net = |prefix: Prefix<u32>| ipnet::Ipv4Net::new(prefix.address().into(), prefix.length()).unwrap();
    let mut random = Random(1);
    let mut prefixes = Vec::new();
    let compare = |fib: &FibControl<u32>, oracle: &PrefixMap<ipnet::Ipv4Net, u32>, random: &mut Random| {
        assert_eq!(fib.len(table), oracle.len());
        for _ in 0..2_000 {
            let key = random.below(1 << 32);
            let expected = oracle.get_lpm(&ipnet::Ipv4Net::new(key.into(), 32).unwrap());
            let expected = expected.map(|(net, &next_hop)| (net, next_hop));
            let found = fib.lookup(table, key).map(|(prefix, next_hop)| (net(prefix), next_hop.index()));
            assert_eq!(found, expected);
            let next_hop = reader.lookup(table, key);
            assert_eq!(
                (!next_hop.is_miss()).then_some(next_hop.index()),
                expected.map(|(_, next_hop)| next_hop)
            );
        }
    };
    while prefixes.len() < 40_000 {
        let length = u8::try_from(
            [1, 7, 8, 12, 14, 16, 18, 19, 22, 24, 24, 24, 25, 30, 32][random.below(15) as usize],
        )
        .unwrap();
        let prefix = Prefix::containing(random.below(1 << 32), length);
        let value = random.below(1 << 20);
        fib.insert(table, prefix, next_hop(value)).unwrap();
        if oracle.insert(net(prefix), value).is_none() {
            prefixes.push(prefix);
        }
        if prefixes.len().is_multiple_of(1 << 12) {
            compare(&fib, &oracle, &mut random);
        }
    }
    while !prefixes.is_empty() {
        let prefix = prefixes.swap_remove(random.below(prefixes.len() as u64) as usize);
        assert_eq!(fib.remove(table, prefix).unwrap().map(NextHopIndex::index), oracle.remove(&net(prefix)));
        if prefixes.len().is_multiple_of(1 << 12) {
            compare(&fib, &oracle, &mut random);
        }
    }
    fib.reclaim();
    assert_eq!(fib.memory().readers_used, 64 * 4);
}

/// Two routes toggle between two values each; a reader must see one of the two, whatever the moment, while the rest of
/// the table grows, shrinks and is rebuilt around them.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn readers_see_old_or_new() {
    let domain = Domain::new();
    let mut fib = FibControl::<u32>::new(&domain).unwrap();
    let table = fib.table_add().unwrap();
    let covering = Prefix::new(0x0a00_0000, 8).unwrap();
    let host = Prefix::new(0x0a01_0203, 32).unwrap();
    fib.insert(table, covering, next_hop(1)).unwrap();
    fib.insert(table, host, next_hop(3)).unwrap();
    let (done, lookups) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (reader, mut handle) = (fib.reader(), domain.register());
            let (done, lookups) = (&done, &lookups);
            scope.spawn(move || {
                let keys = [0x0a01_0203, 0x0a01_0204, 0x0afe_0000, 0x0b00_0000];
                let mut out = [NextHopIndex::MISS; 4];
                let mut rounds = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    reader.lookup_burst(&[table; 4], &keys, &mut out);
                    assert!(matches!(out[0].index(), 3 | 4), "host route: {}", out[0].index());
                    assert!(matches!(out[1].index(), 1 | 2), "beside the host route: {}", out[1].index());
                    assert!(matches!(out[2].index(), 1 | 2), "covering route: {}", out[2].index());
                    assert!(out[3].is_miss(), "no route: {}", out[3].index());
                    handle.quiescent();
                    rounds += 1;
                    if rounds.is_multiple_of(1_000) {
                        handle.offline();
                        handle.online();
                    }
                }
                lookups.fetch_add(rounds, Ordering::Relaxed);
            });
        }
        let mut random = Random(7);
        let mut others = Vec::new();
        for round in 0..60_000_u32 {
            match random.below(8) {
                0 => drop(fib.insert(table, covering, next_hop(1 + round % 2)).unwrap()),
                1 => drop(fib.insert(table, host, next_hop(3 + round % 2)).unwrap()),
                // Away from what the readers look at, but in the same nodes. More come than go, then the other way.
                step if (step < 6) == (round < 30_000) || others.is_empty() => {
                    let near = [0x0a01_0000 | random.below(256) << 8, 0x0a80_0000, 0xc000_0000]
                        [random.below(3) as usize];
                    let prefix = Prefix::containing(
                        near ^ 0x8000 ^ random.below(1 << 20) << 4,
                        18 + u8::try_from(random.below(15)).unwrap(),
                    );
                    if ![0x0a01_0203, 0x0a01_0204, 0x0afe_0000, 0x0b00_0000]
                        .iter()
                        .any(|&key| prefix.contains(key))
                    {
                        fib.insert(table, prefix, next_hop(100)).unwrap();
                        others.push(prefix);
                    }
                }
                _ => drop(
                    fib.remove(table, others.swap_remove(random.below(others.len() as u64) as usize))
                        .unwrap(),
                ),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(lookups.load(Ordering::Relaxed) > 0);
    fib.table_remove(table).unwrap();
    fib.reclaim();
    assert_eq!(fib.memory().readers_used, 64 * 4);
}

/// A FIB of 64 nodes, with a table in it.
fn tiny(domain: &Domain) -> (FibControl<u32>, FibReader<u32>, TableId) {
    let capacity = Capacity { nodes_log2: 6, words_log2: 11, tables_log2: 1 };
    let mut fib = FibControl::with_capacity(domain, capacity).unwrap();
    let (reader, table) = (fib.reader(), fib.table_add().unwrap());
    (fib, reader, table)
}

#[test]
fn a_full_arena_refuses_and_recovers() {
    let domain = Domain::new();
    let mut stuck = domain.register();
    let (mut fib, reader, table) = tiny(&domain);
    // The reader holds every block that was ever replaced.
    let refused =
        (0..10_000_u32).find(|&i| fib.insert(table, Prefix::new(i << 8, 24).unwrap(), next_hop(i)).is_err());
    let refused = refused.expect("64 nodes hold no 10 000 routes");
    assert!(refused > 4, "{refused} routes only");
    for i in 0..refused {
        assert_eq!(reader.lookup(table, i << 8 | 1), next_hop(i), "a route set before is lost");
    }
    stuck.quiescent();
    fib.reclaim();
    for i in 0..=refused {
        assert_eq!(reader.lookup(table, i << 8 | 1), next_hop(i), "not caught up");
    }
    fib.table_add().unwrap();
    assert!(matches!(fib.table_add(), Err(FibError::Full { what: "tables" })));
}

#[test]
fn a_full_arena_takes_batches_and_publishes_them_later() {
    let domain = Domain::new();
    let mut stuck = domain.register();
    let (mut fib, reader, table) = tiny(&domain);
    let batch = |number: u32| -> Vec<_> {
        (number * 16..number * 16 + 16).map(|i| (Prefix::new(i << 8, 24).unwrap(), next_hop(i))).collect()
    };
    let late = (0..1000_u32).find(|&number| {
        let outcome = fib.change(table, &mut batch(number), |_, result| assert_eq!(result.unwrap(), None));
        assert_eq!(outcome.is_ok(), fib.is_published());
        outcome.is_err()
    });
    let late = late.expect("64 nodes hold no 16 000 routes");
    for i in 0..late * 16 {
        assert_eq!(reader.lookup(table, i << 8 | 1), next_hop(i), "a route set before is lost");
    }
    stuck.quiescent();
    fib.reclaim();
    assert!(fib.is_published());
    for i in 0..late * 16 + 16 {
        assert_eq!(reader.lookup(table, i << 8 | 1), next_hop(i), "not caught up");
    }
}

#[test]
fn the_writer_gives_all_its_memory_back() {
    let domain = Domain::new();
    let mut fib = FibControl::<u32>::new(&domain).unwrap();
    let empty = fib.memory().rib_used;
    let table = fib.table_add().unwrap();
    let mut routes: Vec<_> =
        sample::ipv4(20_000, 1).into_iter().map(|prefix| (prefix, next_hop(1))).collect();
    fib.change(table, &mut routes, |_, _| {}).unwrap();
    assert!(fib.memory().rib_used > empty + 100_000);
    let (one_by_one, together) = routes.split_at_mut(10_000);
    for (prefix, _) in one_by_one {
        fib.remove(table, *prefix).unwrap();
    }
    together.iter_mut().for_each(|(_, next_hop)| *next_hop = NextHopIndex::MISS);
    fib.change(table, together, |_, result| assert_eq!(result.unwrap(), Some(next_hop(1)))).unwrap();
    fib.table_remove(table).unwrap();
    fib.reclaim();
    assert_eq!(fib.memory().rib_used, empty);
}

#[test]
fn identifiers_of_removed_tables_come_back_only_after_the_readers() {
    let domain = Domain::new();
    let mut handle = domain.register();
    let mut fib = FibControl::<u32>::new(&domain).unwrap();
    let reader = fib.reader();
    let removed = fib.table_add().unwrap();
    let all = Prefix::containing(0, 0);
    fib.insert(removed, all, next_hop(1)).unwrap();
    fib.table_remove(removed).unwrap();
    assert!(matches!(fib.insert(removed, all, next_hop(1)), Err(FibError::NoTable(id)) if id == removed));
    let other = fib.table_add().unwrap();
    assert_ne!(other, removed);
    fib.insert(other, all, next_hop(2)).unwrap();
    assert!(reader.lookup(removed, 1).is_miss());
    handle.quiescent();
    fib.reclaim();
    assert_eq!(fib.table_add().unwrap(), removed);
    assert!(reader.lookup(removed, 1).is_miss(), "a new table begins empty");
    assert_eq!(fib.tables().count(), 2);
}

#[test]
fn empty_and_small_tables_are_small() {
    let domain = Domain::new();
    let mut fib = FibControl::<u128>::new(&domain).unwrap();
    let before = fib.memory();
    let tables: Vec<_> = (0..1_000).map(|_| fib.table_add().unwrap()).collect();
    let empty = fib.memory();
    assert_eq!(empty.readers, before.readers);
    assert!((empty.rib - before.rib) / 1_000 < 128, "{empty:?}");
    for &table in &tables {
        fib.insert(table, Prefix::new(0x2001_0db8 << 96, 48).unwrap(), next_hop(1)).unwrap();
    }
    assert!((fib.memory_bytes() - before.readers - before.rib) / 1_000 < 2_048, "{:?}", fib.memory());
}

#[test]
fn prefixes_are_checked() {
    assert!(Prefix::new(0x0a00_0000_u32, 8).is_some());
    assert!(Prefix::new(0x0a00_0001_u32, 8).is_none());
    assert!(Prefix::new(0_u32, 33).is_none());
    assert!(Prefix::new(0_u128, 129).is_none());
    assert!(Prefix::new(u128::MAX, 128).is_some());
    assert_eq!(Prefix::new(0x0a00_0000_u32, 8).unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(Prefix::containing(0x2001_0db8_u128 << 96 | 1, 32).to_string(), "2001:db8::/32");
}

#[test]
fn unequal_slices_and_long_bursts() {
    let domain = Domain::new();
    let mut fib = FibControl::<u32>::new(&domain).unwrap();
    let table = fib.table_add().unwrap();
    let reader = fib.reader();
    for i in 0..256_u32 {
        fib.insert(table, Prefix::new(i << 4, 28).unwrap(), next_hop(i)).unwrap();
    }
    let keys: Vec<u32> = (0..256).map(|i| i << 4 | 5).collect();
    let mut out = vec![NextHopIndex::MISS; 300];
    reader.lookup_burst(&[table; 256], &keys, &mut out);
    for (i, found) in (0..).zip(&out) {
        assert_eq!(found.index(), if i < 256 { i } else { NextHopIndex::MISS.index() });
    }
    let mut short = [NextHopIndex::MISS; 100];
    reader.lookup_burst(&[table; 256], &keys[..70], &mut short);
    assert_eq!(short.iter().filter(|found| !found.is_miss()).count(), 70);
    reader.lookup_burst(&[], &keys, &mut short);
}
