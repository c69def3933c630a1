//! How long the tables take to change while a worker forwards: one route of a full table, and the next hop of all its routes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{hint, thread};

use anyhow::{Context, ensure};
use forwarding::fib::Prefix;
use forwarding::fib::sample::{self, Random};
use forwarding::{
    Attachment, Control, Mac, Packet, Path, PortConfig, PortId, Reason, Verdict, VrfId, WeightedPath, Worker,
};
use serde::Serialize;

use crate::engine::BURST;
use crate::memory::Slot;
use crate::scenario::{FULL_IPV4, FULL_IPV6, MTU, SEED};
use crate::traffic::{self, TTL};

/// Groups that the routes are spread over, one by one.
const GROUPS: u32 = 64;
/// The group of all routes.
const SHARED: u32 = 1000;
const ROUTE_CHANGES: usize = 200_000;
/// The control side gives back what nobody uses any more after so many, as pe-dataplane does after a batch.
const RECLAIMED_AFTER: usize = 64;
const NEXT_HOP_CHANGES: usize = 400;
/// From one change of the next hop to the following: time for packets that are late.
const PAUSE: Duration = Duration::from_millis(5);
/// A worker forwards within this time, on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// One IPv4 route of 1 000 000 gets another next hop.
    route4: Times,
    /// One IPv6 route of 250 000.
    route6: Times,
    /// The one next hop of 1 000 000 routes changes, until the call returns.
    next_hop: Times,
    /// The same until the worker is done with the last packet that goes to the old one.
    last_packet: Times,
    /// Packets that the worker forwarded meanwhile, none of them anywhere else.
    packets: u64,
}

/// Nanoseconds of many changes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Times {
    changes: usize,
    mean: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

impl Times {
    fn of(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        let at =
            |permille: usize| all.get((all.len().saturating_sub(1)) * permille / 1000).copied().unwrap_or(0);
        let mean = all.iter().sum::<u64>() / u64::try_from(all.len().max(1)).unwrap_or(1);
        Self { changes: all.len(), mean, p50: at(500), p99: at(990), max: at(1000) }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

struct Node {
    control: Control,
    input: PortId,
    output: PortId,
}

impl Node {
    fn new() -> anyhow::Result<Self> {
        let mut control = Control::new().context("cannot make the tables")?;
        let mut port = |name: &str, mac| {
            let attachment = Attachment::Routed(VrfId::DEFAULT);
            control.port_add(PortConfig { name: name.to_owned(), attachment, mac: Mac::new(mac), mtu: MTU })
        };
        let input = port("input", traffic::OUR_MAC)?;
        let output = port("output", traffic::OUTPUT_MAC)?;
        control.session_begin();
        let mut node = Self { control, input, output };
        for group in 0..GROUPS {
            node.point(group + 1, u8::try_from(group)?)?;
        }
        node.point(SHARED, 0)?;
        Ok(node)
    }

    fn gateway(index: u8) -> std::net::IpAddr {
        std::net::Ipv4Addr::new(192, 0, 2, index).into()
    }

    /// A group's one next hop.
    fn point(&mut self, group: u32, index: u8) -> anyhow::Result<()> {
        let (port, gateway) = (self.output, Self::gateway(index));
        self.control.neighbor_set(port, gateway, Mac::new(traffic::next_hop_mac(index)))?;
        let path = Path::Adjacent { port, gateway };
        Ok(self.control.group_set(group, &[WeightedPath { weight: 1, path }])?)
    }

    fn fill<K: Copy>(
        &mut self,
        prefixes: &[Prefix<K>],
        group: impl Fn(usize) -> u32,
        set: impl Fn(&mut Control, Prefix<K>, u32) -> Result<(), forwarding::Error>,
    ) -> anyhow::Result<()> {
        for (index, &prefix) in prefixes.iter().enumerate() {
            set(&mut self.control, prefix, group(index))?;
        }
        Ok(())
    }
}

fn set4(control: &mut Control, prefix: Prefix<u32>, group: u32) -> Result<(), forwarding::Error> {
    control.route4(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)
}

fn set6(control: &mut Control, prefix: Prefix<u128>, group: u32) -> Result<(), forwarding::Error> {
    control.route6(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)
}

fn group_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(0) % GROUPS + 1
}

/// What the worker says of itself.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    packets: AtomicU64,
    /// Rounds through all flows.
    rounds: AtomicU64,
    /// Packets that went to neither next hop, or nowhere.
    astray: AtomicU64,
    /// By next hop, when the last burst was done that had a packet to it: nanoseconds since the start.
    last: [AtomicU64; 2],
}

/// Forwards the same flows again and again until it is told to stop. `sorts` looks at every packet, and at the clock.
fn forward(worker: &mut Worker, input: PortId, frames: &[Vec<u8>], seen: &Seen, start: Instant, sorts: bool) {
    let mut slots = vec![Slot::new(); BURST];
    let mut verdicts = [Verdict::Drop(Reason::PortDown); BURST];
    while !seen.stop.load(Ordering::Relaxed) {
        for burst in frames.chunks_exact(BURST) {
            for (slot, frame) in slots.iter_mut().zip(burst) {
                slot.fill(frame);
            }
            worker.process(input, &mut slots, &mut verdicts);
            worker.quiescent();
            let mut to = [0_u64; 2];
            for (slot, verdict) in slots.iter().zip(&verdicts) {
                // The two next hops that all routes change between are told apart by their MACs.
                let is_to = |index: &u8| slot.data().starts_with(&traffic::next_hop_mac(*index));
                let known = [0, 1].into_iter().find(is_to);
                match (verdict, known) {
                    (Verdict::Transmit(_), Some(index)) if sorts => to[usize::from(index)] += 1,
                    (Verdict::Transmit(_), _) if !sorts => {}
                    _ => _ = seen.astray.fetch_add(1, Ordering::Relaxed),
                }
            }
            let now = if sorts { nanoseconds(start.elapsed()) } else { 0 };
            for (last, count) in seen.last.iter().zip(to) {
                if count > 0 {
                    last.store(now, Ordering::Release);
                }
            }
            seen.packets.fetch_add(BURST as u64, Ordering::Relaxed);
        }
        seen.rounds.fetch_add(1, Ordering::Release);
    }
}

/// Runs `change` while a worker forwards. `sorts` is for when all packets have one of the two next hops.
fn while_forwarding<T>(
    node: &mut Node,
    frames: &[Vec<u8>],
    sorts: bool,
    change: impl FnOnce(&mut Node, &Seen, Instant) -> anyhow::Result<T>,
) -> anyhow::Result<(T, u64)> {
    let (seen, start) = (Seen::default(), Instant::now());
    let mut worker = node.control.worker();
    let input = node.input;
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            forward(&mut worker, input, frames, &seen, start, sorts);
            worker.offline();
        });
        while seen.rounds.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let result = change(node, &seen, start);
        seen.stop.store(true, Ordering::Relaxed);
        let ended = running.join();
        ensure!(ended.is_ok(), "the worker's thread has ended");
        let astray = seen.astray.load(Ordering::Relaxed);
        ensure!(astray == 0, "{astray} packets went astray while tables changed");
        Ok((result?, seen.packets.load(Ordering::Relaxed)))
    })
}

/// Routes chosen at random get another next hop, one by one.
fn route_changes<K: Copy>(
    node: &mut Node,
    prefixes: &[Prefix<K>],
    set: impl Fn(&mut Control, Prefix<K>, u32) -> Result<(), forwarding::Error>,
) -> anyhow::Result<Times> {
    let count = u32::try_from(prefixes.len()).context("too many routes")?;
    let mut random = Random::new(SEED);
    let mut all = Vec::with_capacity(ROUTE_CHANGES);
    for change in 0..ROUTE_CHANGES {
        let (prefix, group) = (prefixes[random.below(count) as usize], random.below(GROUPS) + 1);
        let start = Instant::now();
        set(&mut node.control, prefix, group)?;
        if change % RECLAIMED_AFTER == 0 {
            node.control.reclaim();
        }
        all.push(nanoseconds(start.elapsed()));
    }
    Ok(Times::of(all))
}

/// The next hop of all routes changes to and fro: how long that takes, and how long packets still go to the old one.
fn next_hop_changes(node: &mut Node, seen: &Seen, start: Instant) -> anyhow::Result<(Times, Times)> {
    let (mut calls, mut packets) = (Vec::new(), Vec::new());
    for change in 1..=NEXT_HOP_CHANGES {
        let new = change % 2;
        let began = nanoseconds(start.elapsed());
        node.point(SHARED, u8::try_from(new)?)?;
        let done = nanoseconds(start.elapsed());
        // Spinning: a sleep would leave the CPU in a state that the next change pays for. The worker may have been kept from
        // its CPU just now.
        let at = |index: usize| seen.last[index].load(Ordering::Acquire);
        let since = |time: u64| start.elapsed().saturating_sub(Duration::from_nanos(time));
        while since(done) < PAUSE || at(new) <= done {
            ensure!(since(done) < PATIENCE, "no packet went to the new next hop");
            hint::spin_loop();
        }
        let old = at(1 - new);
        calls.push(done - began);
        packets.push(old.max(done) - began);
    }
    Ok((Times::of(calls), Times::of(packets)))
}

/// Measures all of it.
///
/// # Errors
/// When the tables cannot be made, or packets go astray.
pub(crate) fn measure() -> anyhow::Result<Report> {
    let (ipv4, ipv6) = (sample::ipv4(FULL_IPV4, SEED), sample::ipv6(FULL_IPV6, SEED));
    let mut random = Random::new(SEED);
    let frames: Vec<Vec<u8>> = traffic::any_ipv4(&mut random)
        .into_iter()
        .enumerate()
        .map(|(index, destination)| traffic::to_us(&traffic::flow_v4(index, destination, TTL)))
        .collect();

    let mut node = Node::new()?;
    // What is in none of the routes is forwarded, too.
    set4(&mut node.control, Prefix::containing(0, 0), SHARED)?;
    node.fill(&ipv4, group_of, set4)?;
    node.fill(&ipv6, group_of, set6)?;
    let ((route4, route6), first) = while_forwarding(&mut node, &frames, false, |node, _, _| {
        Ok((route_changes(node, &ipv4, set4)?, route_changes(node, &ipv6, set6)?))
    })?;

    node.fill(&ipv4, |_| SHARED, set4)?;
    let ((next_hop, last_packet), second) = while_forwarding(&mut node, &frames, true, next_hop_changes)?;
    Ok(Report { route4, route6, next_hop, last_packet, packets: first + second })
}
