//! The FIB itself under loom: every interleaving, and every value that the memory model lets a reader's loads return.

use loom::thread;

use super::*;
use crate::reclaim::Domain;

const CAPACITY: Capacity = Capacity { nodes_log2: 4, words_log2: 9, tables_log2: 0 };

fn next_hop(index: u32) -> NextHopIndex {
    NextHopIndex::new(index).unwrap()
}

/// A table with `routes`; a reader looks `key` up twice, with a quiescent state between, while the writer carries out
/// `change`. Every answer must be `old` or `new`, and never old after new.
fn model(
    routes: &'static [(u32, u8, u32)],
    change: impl Fn(&mut FibControl<u32>, TableId) + Send + Sync + 'static,
    key: u32,
    old: Option<u32>,
    new: Option<u32>,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(move || {
        let domain = Domain::new();
        let mut fib = FibControl::<u32>::with_capacity(&domain, CAPACITY).unwrap();
        let table = fib.table_add().unwrap();
        for &(address, length, index) in routes {
            fib.insert(table, Prefix::new(address, length).unwrap(), next_hop(index)).unwrap();
        }
        let (reader, mut handle) = (fib.reader(), domain.register());
        let reading = thread::spawn(move || {
            let mut seen_new = false;
            for _ in 0..2 {
                let found = reader.lookup(table, key);
                let found = (!found.is_miss()).then_some(found.index());
                assert!(
                    found == new || (found == old && !seen_new),
                    "{found:?}, {old:?} or {new:?} expected"
                );
                seen_new = found == new;
                handle.quiescent();
            }
        });
        change(&mut fib, table);
        fib.reclaim();
        reading.join().unwrap();
    });
}

fn insert(fib: &mut FibControl<u32>, table: TableId, address: u32, length: u8, index: u32) {
    fib.insert(table, Prefix::new(address, length).unwrap(), next_hop(index)).unwrap();
}

fn remove(fib: &mut FibControl<u32>, table: TableId, address: u32, length: u8) {
    fib.remove(table, Prefix::new(address, length).unwrap()).unwrap();
}

#[test]
fn loom_first_route_of_a_table() {
    model(&[], |fib, table| insert(fib, table, 0x0a00_0000, 8, 1), 0x0a00_0001, None, Some(1));
}

#[test]
fn loom_other_leaves_of_a_node() {
    model(
        &[(0x0a00_0000, 8, 1)],
        |fib, table| insert(fib, table, 0x0a00_0000, 8, 2),
        0x0a00_0001,
        Some(1),
        Some(2),
    );
}

/// The node is replaced together with its siblings, by its parent's pointer.
#[test]
fn loom_siblings_are_replaced() {
    model(
        &[(0x0a01_0000, 16, 2)],
        |fib, table| insert(fib, table, 0x0a01_8000, 17, 3),
        0x0a01_8001,
        Some(2),
        Some(3),
    );
}

/// The node that was replaced is taken again at once, for another prefix: a reader must not be looking at it.
#[test]
fn loom_reuse_of_freed_blocks() {
    model(
        &[(0x0a01_0000, 16, 2)],
        |fib, table| {
            insert(fib, table, 0x0a01_8000, 17, 3);
            fib.reclaim();
            insert(fib, table, 0xc001_0000, 16, 4);
        },
        0x0a01_8001,
        Some(2),
        Some(3),
    );
}

#[test]
fn loom_longer_prefix_comes() {
    model(
        &[(0x0a00_0000, 8, 1)],
        |fib, table| insert(fib, table, 0x0a01_0000, 16, 2),
        0x0a01_0001,
        Some(1),
        Some(2),
    );
}

#[test]
fn loom_longer_prefix_goes() {
    model(
        &[(0x0a00_0000, 8, 1), (0x0a01_0000, 16, 2)],
        |fib, table| remove(fib, table, 0x0a01_0000, 16),
        0x0a01_0001,
        Some(2),
        Some(1),
    );
}

#[test]
fn loom_table_goes() {
    model(&[(0x0a00_0000, 8, 1)], |fib, table| fib.table_remove(table).unwrap(), 0x0a00_0001, Some(1), None);
}
