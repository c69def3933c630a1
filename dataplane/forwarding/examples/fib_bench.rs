//! How fast and how large the FIB is: lookups, updates and bytes per route.
//!
//! `fib_bench [--json PATH] [--ipv4 ROUTES] [--ipv6 ROUTES]` prints a table, and with `--json` puts the figures under the
//! key `fib` of the object in PATH, leaving its other keys as they are. Per scenario (`ipv4-1route`, `ipv4-1m`,
//! `ipv6-250k`):
//!
//! - `routes`: in the table;
//! - `lookups_per_second`: of one thread, in bursts of 32: `uniform` over the address space (IPv6: the allocated one),
//!   `in_table` over the addresses of random routes, `hot_16k` over 16 384 addresses again and again;
//! - `load_one_by_one`, `load_extend`: routes per second into an empty table;
//! - `updates_per_second`: a random route gets another next hop, or goes and comes back; `update_ns_p50`, `_p99`, `_max`;
//! - `readers_bytes`: the memory that workers look at, `rib_bytes` the writer's, `bytes_per_route` both over the routes;
//!   with `_used_` the part that holds something.
//!
//! `vrfs-1000x300` has `bytes_per_vrf` and `empty_vrf_bytes` in its place.

use std::hint::black_box;
use std::time::{Duration, Instant};

use forwarding::fib::sample::{self, Random, RandomKey};
use forwarding::fib::{FibControl, FibReader, Key, NextHopIndex, Prefix, TableId};
use forwarding::reclaim::Domain;
use serde_json::{Map, Value, json};

const BURST: usize = 32;
const NEXT_HOPS: u32 = 256;
/// The best of so many rounds counts: others on the machine make a round slower, nothing makes it faster.
const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_millis(100);

fn main() {
    let (mut json_path, mut ipv4, mut ipv6) = (None, 1_000_000, 250_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| panic!("{flag} takes a value"));
        match flag.as_str() {
            "--json" => json_path = Some(value),
            "--ipv4" => ipv4 = value.parse().expect("--ipv4 takes a number of routes"),
            "--ipv6" => ipv6 = value.parse().expect("--ipv6 takes a number of routes"),
            _ => panic!("unknown flag {flag}"),
        }
    }
    let mut results = Map::new();
    let any_ipv4 = Prefix::containing(0_u32, 0);
    let any_ipv6 = Prefix::containing(0x2000_u128 << 112, 3);
    results.insert("ipv4-1route".into(), measure(&[Prefix::containing(0x0a00_0000, 8)], any_ipv4));
    results.insert("ipv4-1m".into(), measure(&sample::ipv4(ipv4, 1), any_ipv4));
    results.insert("ipv6-250k".into(), measure(&sample::ipv6(ipv6, 1), any_ipv6));
    results.insert("vrfs-1000x300".into(), many_tables());
    for (name, figures) in &results {
        println!("{name}\n{figures:#}");
    }
    if let Some(path) = json_path {
        let before = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
        let mut object: Map<String, Value> = before.unwrap_or_default();
        object.insert("fib".into(), results.into());
        std::fs::write(&path, format!("{:#}\n", Value::from(object))).expect("the JSON file can be written");
    }
}

fn next_hop(random: &mut Random) -> NextHopIndex {
    NextHopIndex::new(random.below(NEXT_HOPS)).expect("a small index")
}

fn measure<K: Key + RandomKey>(prefixes: &[Prefix<K>], space: Prefix<K>) -> Value {
    let mut random = Random::new(2);
    let routes: Vec<_> = prefixes.iter().map(|&prefix| (prefix, next_hop(&mut random))).collect();
    let domain = Domain::new();

    let extend = {
        let mut fib = FibControl::<K>::new(&domain).expect("address space");
        let table = fib.table_add().expect("a table");
        let start = Instant::now();
        fib.extend(table, routes.iter().copied()).expect("room for the routes");
        per_second(routes.len(), start.elapsed())
    };

    let mut fib = FibControl::<K>::new(&domain).expect("address space");
    let table = fib.table_add().expect("a table");
    let start = Instant::now();
    for &(prefix, next_hop) in &routes {
        fib.insert(table, prefix, next_hop).expect("room for the route");
    }
    let one_by_one = per_second(routes.len(), start.elapsed());
    let memory = fib.memory();

    let reader = fib.reader();
    let in_table = |random: &mut Random| {
        K::random_in(routes[random.below(u32::try_from(routes.len()).expect("routes")) as usize].0, random)
    };
    let uniform: Vec<K> = (0..1 << 21).map(|_| K::random_in(space, &mut random)).collect();
    let known: Vec<K> = (0..1 << 21).map(|_| in_table(&mut random)).collect();
    let lookups = json!({
        "uniform": lookups(&reader, table, &uniform),
        "in_table": lookups(&reader, table, &known),
        "hot_16k": lookups(&reader, table, &known[..1 << 14]),
    });

    let mut times = Vec::new();
    let mut updates = 0;
    for _ in 0..ROUNDS {
        let (start, before) = (Instant::now(), times.len());
        let mut last = start;
        while last - start < ROUND {
            let (prefix, old) = routes[random.below(u32::try_from(routes.len()).expect("routes")) as usize];
            match times.len() % 3 {
                0 => fib.insert(table, prefix, next_hop(&mut random)),
                1 => fib.remove(table, prefix),
                _ => fib.insert(table, prefix, old),
            }
            .expect("room for the route");
            let now = Instant::now();
            times.push(now - last);
            last = now;
        }
        updates = updates.max(per_second(times.len() - before, last - start));
    }
    times.sort_unstable();
    let nanoseconds = |permille: usize| times[(times.len() - 1) * permille / 1_000].as_nanos();
    json!({
        "routes": routes.len(),
        "lookups_per_second": lookups,
        "load_one_by_one": one_by_one,
        "load_extend": extend,
        "updates_per_second": updates,
        "update_ns_p50": nanoseconds(500),
        "update_ns_p99": nanoseconds(990),
        "update_ns_max": nanoseconds(1_000),
        "readers_bytes": memory.readers,
        "readers_used_bytes": memory.readers_used,
        "rib_bytes": memory.rib,
        "rib_used_bytes": memory.rib_used,
        "bytes_per_route": (memory.readers + memory.rib) / routes.len(),
    })
}

fn lookups<K: Key>(reader: &FibReader<K>, table: TableId, keys: &[K]) -> u64 {
    let tables = [table; BURST];
    let mut out = [NextHopIndex::MISS; BURST];
    let mut best = 0;
    let mut bursts = keys.chunks_exact(BURST).cycle();
    for _ in 0..ROUNDS {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < ROUND {
            for keys in bursts.by_ref().take(1_024) {
                reader.lookup_burst(&tables, keys, &mut out);
                black_box(&mut out);
                count += BURST;
            }
        }
        best = best.max(per_second(count, start.elapsed()));
    }
    best
}

fn many_tables() -> Value {
    let domain = Domain::new();
    let mut fib = FibControl::<u32>::new(&domain).expect("address space");
    let mut random = Random::new(3);
    let prefixes = sample::ipv4(300, 4);
    let start = fib.memory_bytes();
    let tables: Vec<_> = (0..1_000).map(|_| fib.table_add().expect("a table")).collect();
    let empty = fib.memory_bytes() - start;
    for &table in &tables {
        for &prefix in &prefixes {
            fib.insert(table, prefix, next_hop(&mut random)).expect("room");
        }
    }
    json!({
        "empty_vrf_bytes": empty / tables.len(),
        "bytes_per_vrf": (fib.memory_bytes() - start) / tables.len(),
    })
}

fn per_second(count: usize, elapsed: Duration) -> u64 {
    let rate = count as u128 * 1_000_000_000 / elapsed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
