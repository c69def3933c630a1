//! What tables cost the real pe-dataplane: memory, time to take them, time to start with many VNIs.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataplane_api::v1::path::Kind;
use dataplane_api::v1::{
    AdjacentPath, FibBatch, L2VniSpec, L3VniSpec, NetdevPort, NextHopGroup, PortSpec, Route4, Route6,
    TopologySpec, VrfSpec, VxlanPath, port_spec,
};
use forwarding::fib::Prefix;
use forwarding::fib::sample::{self, Random};
use serde::Serialize;

use super::rig::{self, Alone, PEER};
use super::session::{Session, encode, octets};
use crate::lab::netns;
use crate::traffic::{Sniffer, Way, frames};
use crate::wait::{LONG, until};
use crate::{Error, Result};

const IPV4: usize = 1_000_000;
const IPV6: usize = 250_000;
const VRFS: u32 = 1_000;
const ROUTES_PER_VRF: usize = 300;
const VNIS: u32 = 1_000;
/// Next-hop groups of a full table.
const GROUPS: u32 = 256;
/// Routes of one batch, as frr-bridge sends them.
const BATCH: usize = 4096;
/// A process is left alone for so long before its memory is read.
const SETTLE: Duration = Duration::from_millis(300);

const VTEP: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 1);
const REMOTE: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 9);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// A full table in one VRF.
    pub full: Full,
    /// Many VRFs.
    pub vrfs: Vrfs,
    /// The start with many VNIs.
    pub start: Start,
}

/// 1 000 000 routes of IPv4 and 250 000 of IPv6 in one VRF.
#[derive(Clone, Debug, Serialize)]
pub struct Full {
    /// Growth of the process's resident memory, bytes.
    pub resident_bytes: u64,
    /// Taken per second, of both families, in no order.
    pub routes_per_second: f64,
    /// The same by address, as a routing daemon walks its table.
    pub routes_per_second_sorted: f64,
}

/// VRFs without and with routes.
#[derive(Clone, Debug, Serialize)]
pub struct Vrfs {
    /// How many.
    pub vrfs: u32,
    /// Routes of each, in the end.
    pub routes_each: usize,
    /// Growth of the process's resident memory for one without routes, bytes.
    pub empty_vrf_bytes: u64,
    /// And for all of them with their routes, bytes.
    pub resident_bytes: u64,
}

/// From the start of the process until it forwards.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// L3VNIs and L2VNIs, half of each.
    pub vnis: u32,
    /// What EAL's own start took.
    pub eal_seconds: f64,
    /// Until the socket answered.
    pub socket_seconds: f64,
    /// Until the topology was applied.
    pub applied_seconds: f64,
    /// Until the first packet had gone through one of the VNIs.
    pub first_packet_seconds: f64,
    /// The same less EAL's own start.
    pub beyond_eal_seconds: f64,
}

/// Measures with the pe-dataplane in `binaries`, whose logs go to `logs`.
///
/// # Errors
/// When anything does not come up.
pub fn tables(binaries: &Path, logs: &Path) -> Result<Report> {
    let full = full()?;
    let mut sorted = full.clone();
    sorted.ipv4.sort_unstable();
    sorted.ipv6.sort_unstable();
    let (routes_per_second, resident_bytes) =
        rig::with_dataplane(binaries, logs, |alone| load(alone, &full))?;
    let (routes_per_second_sorted, _) = rig::with_dataplane(binaries, logs, |alone| load(alone, &sorted))?;
    let vrfs = rig::with_dataplane(binaries, logs, many_vrfs)?;
    let start = rig::with_dataplane(binaries, logs, start)?;
    Ok(Report { full: Full { resident_bytes, routes_per_second, routes_per_second_sorted }, vrfs, start })
}

#[derive(Clone, Debug)]
struct Table {
    ipv4: Vec<Prefix<u32>>,
    ipv6: Vec<Prefix<u128>>,
}

fn full() -> Result<Table> {
    let table = Table { ipv4: sample::ipv4(IPV4, 1), ipv6: sample::ipv6(IPV6, 1) };
    match (table.ipv4.len(), table.ipv6.len()) {
        (IPV4, IPV6) => Ok(table),
        (v4, v6) => Err(Error::unexpected(format!("a table of {v4} and {v6} routes"))),
    }
}

impl Table {
    /// As batches, to VRF number `vrf`.
    fn batches(&self, vrf: u32) -> Vec<Bytes> {
        let mut random = Random::new(2);
        let mut group = || 1 + random.below(GROUPS);
        let v4 = self.ipv4.chunks(BATCH).map(|routes| FibBatch {
            routes4: routes
                .iter()
                .map(|prefix| Route4 {
                    vrf,
                    address: prefix.address(),
                    length: prefix.length().into(),
                    group: group(),
                })
                .collect(),
            ..FibBatch::default()
        });
        let mut batches: Vec<_> = v4.map(encode).collect();
        let v6 = self.ipv6.chunks(BATCH).map(|routes| FibBatch {
            routes6: routes.iter().map(|&prefix| route6(vrf, prefix, group())).collect(),
            ..FibBatch::default()
        });
        batches.extend(v6.map(encode));
        batches
    }
}

fn route6(vrf: u32, prefix: Prefix<u128>, group: u32) -> Route6 {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of an address")]
    let (high, low) = ((prefix.address() >> 64) as u64, prefix.address() as u64);
    Route6 { vrf, high, low, length: prefix.length().into(), group }
}

/// Groups that lead to gateways on a port.
fn groups(port: u32) -> Bytes {
    let group = |id: u32| NextHopGroup {
        id,
        paths: vec![path(Kind::Adjacent(AdjacentPath {
            port,
            address: octets(Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(192, 0, 3, 0)) + id)),
        }))],
    };
    encode(FibBatch { groups: (1..=GROUPS).map(group).collect(), ..FibBatch::default() })
}

const fn path(kind: Kind) -> dataplane_api::v1::Path {
    dataplane_api::v1::Path { weight: 1, kind: Some(kind) }
}

/// Routes per second, and bytes of memory for them.
fn load(alone: &mut Alone, table: &Table) -> Result<(f64, u64)> {
    alone.start()?;
    let client = alone.client()?;
    client.apply(&topology(vec![VrfSpec { name: "load".into() }]))?;
    let state = client.topology()?;
    let vrf = state.vrfs.iter().find(|vrf| vrf.id != 0).map(|vrf| vrf.id);
    let vrf = vrf.ok_or_else(|| Error::unexpected("there is no VRF"))?;
    let mut session = Session::open(alone.socket())?;
    session.send(&[groups(alone.port(&client, rig::UPLINK)?.id)])?;
    let batches = table.batches(vrf);
    std::thread::sleep(SETTLE);
    let before = alone.resident()?;
    let start = Instant::now();
    session.send(&batches)?;
    let seconds = start.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let bytes = alone.resident()?.saturating_sub(before);
    let counts =
        client.topology()?.vrfs.iter().find(|state| state.id == vrf).map(|s| (s.routes_v4, s.routes_v6));
    if counts != Some((IPV4 as u64, IPV6 as u64)) {
        return Err(Error::unexpected(format!("{counts:?} routes are there")));
    }
    #[expect(clippy::cast_precision_loss, reason = "a million or so")]
    let routes = (IPV4 + IPV6) as f64;
    Ok((routes / seconds, bytes))
}

fn many_vrfs(alone: &mut Alone) -> Result<Vrfs> {
    alone.start()?;
    let client = alone.client()?;
    client.apply(&topology(Vec::new()))?;
    std::thread::sleep(SETTLE);
    let before = alone.resident()?;
    let vrfs = (0..VRFS).map(|number| VrfSpec { name: format!("vrf{number}") });
    client.apply(&topology(vrfs.collect()))?;
    std::thread::sleep(SETTLE);
    let empty = alone.resident()?.saturating_sub(before);
    let ids: Vec<u32> = client.topology()?.vrfs.iter().map(|vrf| vrf.id).filter(|&id| id != 0).collect();
    let mut session = Session::open(alone.socket())?;
    session.send(&[groups(alone.port(&client, rig::UPLINK)?.id)])?;
    for (&vrf, seed) in ids.iter().zip(4..) {
        let table = Table { ipv4: sample::ipv4(ROUTES_PER_VRF, seed), ipv6: Vec::new() };
        session.send(&table.batches(vrf))?;
    }
    std::thread::sleep(SETTLE);
    let resident_bytes = alone.resident()?.saturating_sub(before);
    Ok(Vrfs {
        vrfs: VRFS,
        routes_each: ROUTES_PER_VRF,
        empty_vrf_bytes: empty / u64::from(VRFS),
        resident_bytes,
    })
}

/// The underlay's port, and what is given.
fn topology(vrfs: Vec<VrfSpec>) -> TopologySpec {
    TopologySpec { ports: vec![netdev(rig::UPLINK, "")], vrfs, ..TopologySpec::default() }
}

fn netdev(name: &str, vrf: &str) -> PortSpec {
    PortSpec {
        name: name.into(),
        vrf: vrf.into(),
        kind: Some(port_spec::Kind::Netdev(NetdevPort { interface: name.into() })),
        ..PortSpec::default()
    }
}

/// Half of the VNIs with a VRF each, half without.
fn many_vnis() -> TopologySpec {
    let mac = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        Bytes::copy_from_slice(&[2, 0, 1, a, b, c])
    };
    let routed = 1..=VNIS / 2;
    TopologySpec {
        ports: vec![netdev(rig::UPLINK, ""), netdev(rig::TENANT, &format!("vrf{}", VNIS / 2))],
        vrfs: routed.clone().map(|number| VrfSpec { name: format!("vrf{number}") }).collect(),
        l3vnis: routed
            .map(|vni| L3VniSpec {
                vni,
                vrf: format!("vrf{vni}"),
                vtep_address: octets(VTEP),
                router_mac: mac(vni),
                ..L3VniSpec::default()
            })
            .collect(),
        vtep_addresses: vec![octets(VTEP)],
        l2vnis: (VNIS / 2 + 1..=VNIS)
            .map(|vni| L2VniSpec { vni, vtep_address: octets(VTEP), mac: mac(vni), ..L2VniSpec::default() })
            .collect(),
    }
}

fn start(alone: &mut Alone) -> Result<Start> {
    let spec = many_vnis();
    let arrived = Sniffer::start(PEER, rig::UPLINK_PEER, Way::In, |frame| {
        // UDP to the port of VXLAN.
        (frame.get(23) == Some(&17) && frame.get(36..38) == Some(&4789_u16.to_be_bytes()[..]))
            .then(Instant::now)
    })?;
    let done = AtomicBool::new(false);
    let started = Instant::now();
    let (socket, applied) = std::thread::scope(|scope| {
        scope.spawn(|| speak(&done));
        let measured = (|| {
            alone.start()?;
            let client = alone.client()?;
            let socket = started.elapsed();
            client.apply(&spec)?;
            let applied = started.elapsed();
            let state = client.topology()?;
            let vrf = format!("vrf{}", VNIS / 2);
            let vrf =
                state.vrfs.iter().find(|state| state.spec.as_ref().is_some_and(|spec| spec.name == vrf));
            let vrf = vrf.map(|vrf| vrf.id).ok_or_else(|| Error::unexpected("the last VRF is not there"))?;
            let port = alone.port(&client, rig::UPLINK)?.id;
            Session::open(alone.socket())?.send(&[first_routes(port, vrf)])?;
            until(LONG, "a packet in a tunnel", || match arrived.count() {
                0 => Err(Error::unexpected("there was none")),
                _ => Ok(()),
            })?;
            Ok((socket, applied))
        })();
        done.store(true, Ordering::Relaxed);
        measured
    })?;
    let first = arrived.stop()?.first().copied();
    let first = first.ok_or_else(|| Error::unexpected("no packet"))?.saturating_duration_since(started);
    let eal = alone.eal_start()?;
    Ok(Start {
        vnis: VNIS,
        eal_seconds: eal.as_secs_f64(),
        socket_seconds: socket.as_secs_f64(),
        applied_seconds: applied.as_secs_f64(),
        first_packet_seconds: first.as_secs_f64(),
        beyond_eal_seconds: first.saturating_sub(eal).as_secs_f64(),
    })
}

/// The way of a packet from the tenant: by a tunnel to a VTEP behind the gateway.
fn first_routes(port: u32, vrf: u32) -> Bytes {
    let group = |id, kind| NextHopGroup { id, paths: vec![path(kind)] };
    encode(FibBatch {
        groups: vec![
            group(1, Kind::Adjacent(AdjacentPath { port, address: octets(GATEWAY) })),
            group(
                2,
                Kind::Vxlan(VxlanPath {
                    vni: VNIS / 2,
                    vtep: octets(REMOTE),
                    router_mac: Bytes::from_static(&[2, 0, 0, 0, 0, 0xbb]),
                }),
            ),
        ],
        neighbors: vec![dataplane_api::v1::Neighbor {
            port,
            address: octets(GATEWAY),
            mac: Bytes::from_static(&GATEWAY_MAC),
        }],
        routes4: vec![
            Route4 { vrf: 0, address: REMOTE.to_bits(), length: 32, group: 1 },
            Route4 { vrf, address: u32::from(Ipv4Addr::new(10, 9, 0, 0)), length: 16, group: 2 },
        ],
        ..FibBatch::default()
    })
}

/// The tenant sends to 10.9.0.1 until `done`, whether anybody listens or not.
fn speak(done: &AtomicBool) -> Result<()> {
    netns::within(PEER, || {
        while !done.load(Ordering::Relaxed) {
            // Refused while the other end is on its way to another namespace.
            let _ = frames::send(rig::TENANT_PEER, [packet()].into_iter());
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    })
}

/// A UDP packet from 10.1.0.1 to 10.9.0.1, to the MAC of the tenant's port.
fn packet() -> Vec<u8> {
    let mut frame = [&rig::TENANT_MAC[..], &[2, 0, 0, 0, 0, 1], &[8, 0]].concat();
    let mut header = [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 9, 0, 1];
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let [high, low] = (!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0)).to_be_bytes();
    (header[10], header[11]) = (high, low);
    frame.extend(header);
    // UDP, from port 1 to port 2, without a checksum.
    frame.extend([0, 1, 0, 2, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}
