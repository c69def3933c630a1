//! The engine against a slow and plain one that never parses: it knows from which fields a frame was built, and builds the
//! one that should come out.

use std::net::IpAddr;

use forwarding::{Buffer, Mac, Packet, Path, PortId, Reason, Verdict, Vni, VrfId, WeightedPath};
use ipnet::IpNet;
use proptest::prelude::*;

use crate::frames::{Ip, Outer, ethernet, ethertype, frame, ip_header, packet, vxlan};
use crate::lab::{Lab, Route, Tenant, ip, mac, set_route};

/// A frame in terms of its fields.
#[derive(Clone, Debug)]
struct Spec {
    /// Index of the port it comes in by.
    port: usize,
    destination: Destination,
    ip: Ip,
    outer: Option<Outer>,
    /// Behind the IP packet.
    padding: usize,
    bad_checksum: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Router,
    Other,
    Broadcast,
}

const SOURCE: Mac = Mac::new([2, 0, 0, 0, 0, 0x77]);

impl Spec {
    fn bytes(&self, lab: &Lab) -> Vec<u8> {
        let destination = match self.destination {
            Destination::Router => lab.ports[self.port].mac,
            Destination::Other => mac(0x99),
            Destination::Broadcast => Mac::new([0xff; 6]),
        };
        let mut bytes = match &self.outer {
            Some(outer) => vxlan(destination, SOURCE, outer, &self.ip),
            None => frame(destination, SOURCE, &self.ip),
        };
        if self.bad_checksum && bytes[12..14] == [8, 0] {
            bytes[24] ^= 0x10;
        }
        bytes.resize(bytes.len() + self.padding, 0);
        bytes
    }
}

/// The port, the frame and whether it is in a tunnel of ours, or why not.
type Expected = Result<(PortId, Vec<u8>, bool), Reason>;

fn expected(lab: &Lab, spec: &Spec) -> Expected {
    let port = &lab.ports[spec.port];
    if spec.destination == Destination::Other {
        return Err(Reason::NotOurMac);
    }
    let outermost = spec.outer.as_ref().map_or(&spec.ip, |outer| &outer.ip);
    if spec.bad_checksum && outermost.source.is_ipv4() {
        return Err(Reason::BadChecksum);
    }
    check_addresses(outermost)?;
    if spec.destination == Destination::Broadcast {
        return Err(Reason::Multicast);
    }
    let is_own = |address| lab.tenants.iter().any(|tenant| tenant.own == address);
    let Some(outer) = &spec.outer else {
        if port.vrf == VrfId::DEFAULT
            && spec.ip.protocol == 17
            && is_own(spec.ip.destination)
            && spec.ip.fragment
        {
            return Err(Reason::OuterFragment);
        }
        return route(lab, port.vrf, &spec.ip, spec.ip.tos, &spec.ip.body());
    };
    if port.vrf != VrfId::DEFAULT || !is_own(outer.ip.destination) {
        // Between others: a packet like any.
        let body = outer.body(ethertype(spec.ip.destination), &spec.ip.bytes());
        return route(lab, port.vrf, &outer.ip, outer.ip.tos, &body);
    }
    if outer.flags & 8 == 0 {
        return Err(Reason::MalformedVxlan);
    }
    let tenant = lab.tenants.iter().find(|tenant| {
        tenant.vni == outer.vni && tenant.own == outer.ip.destination && tenant.udp_port == outer.ip.ports.1
    });
    let tenant = tenant.ok_or(Reason::UnknownVni)?;
    if outer.ip.source != tenant.peer {
        return Err(Reason::UnknownVtep);
    }
    if outer.inner_destination != tenant.router_mac {
        return Err(Reason::NotRouterMac);
    }
    check_addresses(&spec.ip)?;
    // RFC 6040 section 4.2.
    let tos = match (spec.ip.tos & 3, outer.ip.tos & 3) {
        (0, 3) => return Err(Reason::EcnNotCapable),
        (0, _) => spec.ip.tos,
        (_, 3) => spec.ip.tos | 3,
        (2, 1) => spec.ip.tos & !3 | 1,
        _ => spec.ip.tos,
    };
    route(lab, tenant.vrf, &spec.ip, tos, &spec.ip.body())
}

fn check_addresses(ip: &Ip) -> Result<(), Reason> {
    let is_link_local = |address| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let is_bgp = ip.protocol == 6 && ip.ports.1 == 179;
    if ip.source.is_loopback() {
        Err(Reason::MartianSource)
    } else if ip.destination.is_multicast() {
        Err(if is_bgp { Reason::LinkControl } else { Reason::Multicast })
    } else if ip.destination.is_loopback() {
        Err(Reason::MartianDestination)
    } else if is_link_local(ip.source) || is_link_local(ip.destination) {
        Err(if is_bgp { Reason::LinkControl } else { Reason::LinkLocal })
    } else {
        Ok(())
    }
}

fn lookup(lab: &Lab, vrf: VrfId, address: IpAddr) -> Option<Path> {
    let matching = lab.routes.iter().filter(|route| route.vrf == vrf && route.prefix.contains(&address));
    matching.max_by_key(|route| route.prefix.prefix_len()).map(|route| route.path)
}

fn neighbor(lab: &Lab, path: &Path, destination: IpAddr) -> Result<(PortId, Mac), Reason> {
    let (port, address) = match *path {
        Path::Adjacent { port, gateway } => (port, gateway),
        Path::Connected { port } => (port, destination),
        _ => return Err(Reason::UnresolvedVtep),
    };
    let found = lab.neighbors.iter().find(|neighbor| (neighbor.0, neighbor.1) == (port, address));
    found.map(|&(port, _, mac)| (port, mac)).ok_or(Reason::UnresolvedNeighbor)
}

fn route(lab: &Lab, vrf: VrfId, ip: &Ip, tos: u8, body: &[u8]) -> Expected {
    let path = lookup(lab, vrf, ip.destination).ok_or(Reason::NoRoute)?;
    match path {
        Path::Local if ip.ports.1 == 179 && ip.protocol == 6 => return Err(Reason::LocalControl),
        Path::Local => return Err(Reason::Local),
        Path::Drop => return Err(Reason::Blackhole),
        _ if ip.ttl <= 1 => return Err(Reason::TtlExpired),
        Path::Vxlan { router_mac: None, .. } => return Err(Reason::UnresolvedRouterMac),
        _ => {}
    }
    let forwarded = Ip { ttl: ip.ttl - 1, tos, ..ip.clone() };
    let tenant = |tenant: &&Tenant| tenant.vrf == vrf;
    let (port, next, outer) = match path {
        Path::Vxlan { vtep, .. } => {
            let tenant = lab.tenants.iter().find(tenant).unwrap();
            let underlay = lookup(lab, VrfId::DEFAULT, vtep).ok_or(Reason::UnresolvedVtep)?;
            let (port, next) = neighbor(lab, &underlay, vtep)?;
            let outer = Outer {
                ip: Ip {
                    source: tenant.own,
                    destination: tenant.peer,
                    tos,
                    ports: (0, tenant.udp_port),
                    ttl: 64,
                    protocol: 17,
                    payload: 0,
                    df: true,
                    fragment: false,
                },
                vni: tenant.vni,
                flags: 8,
                inner_destination: tenant.remote_router_mac,
                inner_source: tenant.router_mac,
                inner_padding: 0,
            };
            (port, next, Some(outer))
        }
        path => {
            let (port, next) = neighbor(lab, &path, ip.destination)?;
            (port, next, None)
        }
    };
    let port = lab.ports.iter().find(|candidate| candidate.id == port).unwrap();
    let (kind, inner) = (ethertype(ip.destination), packet(&forwarded, body));
    let bytes = match &outer {
        None => ethernet(next, port.mac, kind, &inner),
        Some(outer) => {
            let body = outer.body(kind, &inner);
            ethernet(next, port.mac, ethertype(outer.ip.destination), &packet(&outer.ip, &body))
        }
    };
    if bytes.len() - 14 > port.mtu.into() {
        return Err(Reason::TooBig);
    }
    Ok((port.id, bytes, outer.is_some()))
}

fn addresses(v4: bool) -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let (sources, destinations): (&[&str], &[&str]) = if v4 {
        (
            &["10.1.0.9", "10.1.0.9", "10.2.0.1", "172.16.0.1", "127.0.0.1", "169.254.1.1"],
            &[
                "10.1.0.9",
                "10.1.0.10",
                "10.1.0.1",
                "10.2.0.1",
                "10.2.255.255",
                "10.2.7.7",
                "10.3.0.1",
                "10.100.0.1",
                "10.101.0.1",
                "10.102.0.1",
                "192.0.2.1",
                "192.0.2.2",
                "8.8.8.8",
                "224.0.0.9",
                "127.0.0.1",
            ],
        )
    } else {
        (
            &["2001:db8:1::9", "2001:db8:1::9", "2001:db8:2::1", "::1", "fe80::9"],
            &[
                "2001:db8:1::9",
                "2001:db8:1::8",
                "2001:db8:1::1",
                "2001:db8:2::1",
                "2001:db8:2:ff::",
                "2001:db8:100::1",
                "2001:db8:ffff::1",
                "2001:db8:ffff::2",
                "2001:db8:9::",
                "ff02::9",
                "fe80::8",
            ],
        )
    };
    (prop::sample::select(sources), prop::sample::select(destinations)).prop_map(|(s, d)| (ip(s), ip(d)))
}

fn ips() -> impl Strategy<Value = Ip> {
    let ttl = prop_oneof![Just(64), Just(2), Just(1), Just(0), any::<u8>()];
    let size = prop_oneof![Just(0_usize), 0..60_usize, 1290..1480_usize, 8000..9000_usize];
    let ports = (any::<u16>(), prop_oneof![Just(80), Just(179)]);
    let protocol = prop_oneof![Just(17_u8), Just(6)];
    (any::<bool>().prop_flat_map(addresses), ttl, any::<u8>(), protocol, ports, size, any::<bool>(), 0..8_u8)
        .prop_map(|((source, destination), ttl, tos, protocol, ports, payload, df, fragment)| Ip {
            source,
            destination,
            ttl,
            tos,
            protocol,
            // Not a control port by chance.
            ports: (ports.0 | 0x8000, ports.1),
            payload,
            df,
            fragment: fragment == 0 && source.is_ipv4() && ports.1 != 179,
        })
}

fn outers() -> impl Strategy<Value = Outer> {
    let wrong = || 0..12_u8;
    (any::<bool>(), any::<u8>(), any::<u16>(), wrong(), wrong(), wrong(), wrong(), wrong(), 0..30_usize)
        .prop_map(|(v4, tos, port, vtep, own, vni, flags, inner, inner_padding)| {
            let (own_address, peer, right_vni, udp_port, router) = if v4 {
                ("192.0.2.1", "192.0.2.2", 100, 4789, 0x20)
            } else {
                ("2001:db8:ffff::1", "2001:db8:ffff::2", 200, 4790, 0x30)
            };
            let (stranger, elsewhere) =
                if v4 { ("192.0.2.3", "192.0.2.77") } else { ("2001:db8:ffff::3", "2001:db8:ffff::77") };
            let source = if vtep == 0 { stranger } else { peer };
            let destination = if own == 0 { elsewhere } else { own_address };
            Outer {
                ip: Ip { tos, ports: (port, udp_port), payload: 0, ..Ip::new(source, destination) },
                vni: match vni {
                    0 => 300,
                    1 => 300 - right_vni,
                    _ => right_vni,
                },
                flags: if flags == 0 { 0xf7 } else { 0x08 },
                inner_destination: if inner == 0 { mac(0x99) } else { mac(router) },
                inner_source: mac(0x66),
                inner_padding,
            }
        })
}

fn specs() -> impl Strategy<Value = Spec> {
    let destination = prop_oneof![
        20 => Just(Destination::Router),
        1 => Just(Destination::Other),
        1 => Just(Destination::Broadcast)
    ];
    (0..4_usize, destination, ips(), prop::option::of(outers()), 0..20_usize, 0..16_u8).prop_map(
        |(port, destination, ip, outer, padding, checksum)| {
            let port = if outer.is_some() && port > 2 { 0 } else { port };
            Spec { port, destination, ip, outer, padding, bad_checksum: checksum == 0 }
        },
    )
}

/// The UDP source port, which the oracle cannot know.
fn take_source_port(frame: &[u8]) -> Option<u16> {
    let at = if frame[12..14] == [8, 0] { 34 } else { 54 };
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().unwrap()))
}

fn compare(lab: &Lab, spec: &Spec, verdict: Verdict, out: &[u8]) -> Result<(), TestCaseError> {
    match expected(lab, spec) {
        Err(reason) => {
            let got = match verdict {
                Verdict::Transmit(_) | Verdict::Replicate => None,
                Verdict::HandOver(reason) | Verdict::Drop(reason) => Some(reason),
            };
            prop_assert_eq!(got, Some(reason));
            prop_assert_eq!(out, &spec.bytes(lab)[..], "as received");
        }
        Ok((port, mut bytes, tunnelled)) => {
            prop_assert_eq!(verdict, Verdict::Transmit(port));
            if tunnelled {
                let source_port = take_source_port(out).unwrap();
                prop_assert!(source_port >= 49152);
                let at = if out[12..14] == [8, 0] { 34 } else { 54 };
                bytes[at..at + 2].copy_from_slice(&source_port.to_be_bytes());
            }
            prop_assert_eq!(out, &bytes[..]);
        }
    }
    Ok(())
}

/// A route of any length around addresses that the traffic has. `vrf` and `path` choose among what there is.
#[derive(Clone, Debug)]
struct Change {
    vrf: usize,
    prefix: IpNet,
    /// None deletes it.
    path: Option<usize>,
}

fn changes() -> impl Strategy<Value = Change> {
    let v4 = addresses(true).prop_flat_map(|(_, to)| (Just(to), 0..=32_u8));
    let v6 = addresses(false).prop_flat_map(|(_, to)| (Just(to), 0..=128_u8));
    let prefix =
        prop_oneof![v4, v6].prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc());
    let path = prop::option::weighted(0.8, 0..5_usize);
    (0..3_usize, prefix, path).prop_map(|(vrf, prefix, path)| Change { vrf, prefix, path })
}

/// Groups of the lab's routes come first.
const GROUPS: u32 = 1000;

impl Change {
    /// Changes tables and the lab's list of what is in them.
    fn apply(&self, lab: &mut Lab) {
        let vrf = if self.vrf == 0 { VrfId::DEFAULT } else { lab.tenants[self.vrf - 1].vrf };
        lab.routes.retain(|route| (route.vrf, route.prefix) != (vrf, self.prefix));
        let Some(path) = self.path else { return set_route(&mut lab.control, vrf, self.prefix, 0) };
        let (port, gateway) = [(0, "203.0.113.1"), (2, "10.1.0.9"), (3, "2001:db8:1::9")][self.vrf];
        let port = lab.ports[port].id;
        // There is no tunnel of the default VRF's.
        let elsewhere = match lab.tenants.get(self.vrf.wrapping_sub(1)) {
            Some(tenant) => Path::Vxlan {
                vni: Vni::new(tenant.vni).unwrap(),
                vtep: tenant.peer,
                router_mac: Some(tenant.remote_router_mac),
            },
            None => Path::Adjacent { port: lab.ports[1].id, gateway: ip("203.0.113.5") },
        };
        let path = [
            Path::Adjacent { port, gateway: ip(gateway) },
            Path::Connected { port },
            elsewhere,
            Path::Local,
            Path::Drop,
        ][path];
        let group = GROUPS + u32::try_from(self.vrf * 5 + self.path.unwrap()).unwrap();
        lab.control.group_set(group, &[WeightedPath { weight: 0, path }]).unwrap();
        set_route(&mut lab.control, vrf, self.prefix, group);
        lab.routes.push(Route { vrf, prefix: self.prefix, path });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Any tables, that change between bursts.
    #[test]
    fn agrees_with_any_tables(
        rounds in prop::collection::vec(
            (prop::collection::vec(changes(), 0..12), prop::collection::vec(specs(), 1..12)),
            1..4,
        ),
    ) {
        let mut lab = Lab::new();
        for (changes, specs) in rounds {
            changes.iter().for_each(|change| change.apply(&mut lab));
            for port in 0..lab.ports.len() {
                let specs: Vec<&Spec> = specs.iter().filter(|spec| spec.port == port).collect();
                let mut packets: Vec<Buffer> = specs.iter().map(|spec| Buffer::new(&spec.bytes(&lab))).collect();
                let mut verdicts = vec![Verdict::Drop(Reason::TxFull); packets.len()];
                lab.worker.process(lab.ports[port].id, &mut packets, &mut verdicts);
                lab.worker.quiescent();
                for ((spec, packet), verdict) in specs.into_iter().zip(&packets).zip(&verdicts) {
                    compare(&lab, spec, *verdict, packet.data())?;
                }
            }
        }
    }

    #[test]
    fn agrees_packet_by_packet(specs in prop::collection::vec(specs(), 1..12)) {
        let mut lab = Lab::new();
        for spec in &specs {
            let (verdict, out) = lab.send(lab.ports[spec.port].id, &spec.bytes(&lab));
            compare(&lab, spec, verdict, &out)?;
        }
    }

    /// In a burst every packet gets what it gets by itself.
    #[test]
    fn bursts_agree(specs in prop::collection::vec(specs(), 1..40), port in 0..4_usize, copies in 1..12_usize) {
        let mut lab = Lab::new();
        let mut specs: Vec<Spec> = specs.into_iter().map(|spec| Spec { port, ..spec }).collect();
        specs.retain(|spec| spec.outer.is_none() || port < 3);
        let specs: Vec<Spec> = specs.iter().cycle().take(specs.len() * copies).cloned().collect();
        let mut packets: Vec<Buffer> = specs.iter().map(|spec| Buffer::new(&spec.bytes(&lab))).collect();
        let mut verdicts = vec![Verdict::Drop(Reason::TxFull); packets.len()];
        lab.worker.process(lab.ports[port].id, &mut packets, &mut verdicts);
        for ((spec, packet), verdict) in specs.iter().zip(&packets).zip(&verdicts) {
            compare(&lab, spec, *verdict, packet.data())?;
        }
        let counters = lab.control.port_counters(lab.ports[port].id).unwrap();
        prop_assert_eq!(counters.rx_packets, specs.len() as u64);
        let ended: u64 = counters.reasons().map(|(_, count)| count).sum();
        prop_assert_eq!(counters.forwarded + ended, specs.len() as u64);
    }
}

/// The oracle itself, on one frame written out by hand.
#[test]
fn the_oracle_builds_what_the_standards_say() {
    let lab = Lab::new();
    let ip = Ip { payload: 0, tos: 0xb9, ..Ip::new("10.1.0.9", "10.2.0.1") };
    let Ok((port, bytes, true)) = route(&lab, lab.tenants[0].vrf, &ip, ip.tos, &ip.body()) else { panic!() };
    assert_eq!(port, lab.ports[1].id);
    let inner = Ip { ttl: 63, ..ip };
    let inner = ethernet(mac(0x21), mac(0x20), ethertype(inner.destination), &inner.bytes());
    let length = u8::try_from(inner.len() + 16).unwrap();
    let udp = [&[0, 0, 0x12, 0xb5, 0, length, 0, 0, 8, 0, 0, 0, 0, 0, 100, 0][..], &inner].concat();
    let outer = Ip { tos: 0xb9, ..Ip::new("192.0.2.1", "192.0.2.2") };
    let packet = [ip_header(&outer, udp.len()), udp].concat();
    assert_eq!(bytes, ethernet(mac(0x42), mac(0x11), 0x0800, &packet));
}
