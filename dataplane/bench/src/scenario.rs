//! The scenarios: what is in the tables, and what enters.

use std::net::{IpAddr, Ipv4Addr};

use forwarding::fib::sample::{self, Random, RandomKey};
use forwarding::fib::{Key, Prefix};
use forwarding::{Attachment, Control, Mac, Path, PortConfig, PortId, Vni, VniConfig, VrfId, WeightedPath};

use crate::traffic;

/// Every run has the same tables and traffic.
const SEED: u64 = 2026;
const FULL_IPV4: usize = 1_000_000;
const FULL_IPV6: usize = 250_000;
/// Gateways, and groups, that a full table's routes are spread over.
const NEXT_HOPS: u8 = 64;
const MTU: u16 = 1500;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// The name of its file.
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// IPv4 routing with so many routes.
    Ipv4(usize),
    /// IPv6 routing with so many routes.
    Ipv6(usize),
    /// IPv4 into VXLAN, with so many routes.
    Encapsulate(usize),
    /// VXLAN to routed IPv4.
    Decapsulate,
}

/// All of them, in the order of the table.
pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "ipv4-1route", kind: Kind::Ipv4(1) },
    Scenario { name: "ipv4-1m", kind: Kind::Ipv4(FULL_IPV4) },
    Scenario { name: "ipv6-1route", kind: Kind::Ipv6(1) },
    Scenario { name: "ipv6-250k", kind: Kind::Ipv6(FULL_IPV6) },
    Scenario { name: "l3vni-encap-1route", kind: Kind::Encapsulate(1) },
    Scenario { name: "l3vni-encap-1m", kind: Kind::Encapsulate(FULL_IPV4) },
    Scenario { name: "l3vni-decap", kind: Kind::Decapsulate },
];

/// The engine's ports in a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) input: PortId,
    pub(crate) output: PortId,
}

impl Scenario {
    /// By its name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        ALL.iter().find(|scenario| scenario.name == name).copied()
    }

    /// The frames that enter: one of each flow.
    pub(crate) fn frames(self) -> Vec<Vec<u8>> {
        let mut random = Random::new(SEED);
        match self.kind {
            Kind::Ipv4(1) | Kind::Encapsulate(1) => traffic::to_ipv4(&traffic::any_ipv4(&mut random)),
            Kind::Ipv4(routes) | Kind::Encapsulate(routes) => {
                traffic::to_ipv4(&within(&sample::ipv4(routes, SEED), &mut random, |bits| {
                    let address = Ipv4Addr::from(bits);
                    // What a router drops or hands over, whatever the table says.
                    let special = address.is_loopback() || address.is_link_local() || address.is_multicast();
                    (!special && (1..240).contains(&address.octets()[0])).then_some(address)
                }))
            }
            Kind::Ipv6(1) => traffic::to_ipv6(&traffic::any_ipv6(&mut random)),
            Kind::Ipv6(routes) => {
                traffic::to_ipv6(&within(&sample::ipv6(routes, SEED), &mut random, |bits| Some(bits.into())))
            }
            Kind::Decapsulate => traffic::encapsulated(&traffic::any_ipv4(&mut random)),
        }
    }

    /// Fills the tables.
    ///
    /// # Errors
    /// When the engine refuses, which is a mistake of the scenario's.
    pub(crate) fn set_up(self, control: &mut Control) -> anyhow::Result<Ports> {
        let red = control.vrf_add("red")?;
        let tenant = |of| {
            if matches!(self.kind, Kind::Encapsulate(_)) && of == "input" { red } else { VrfId::DEFAULT }
        };
        let mut port = |name: &str, vrf, mac| {
            control.port_add(PortConfig {
                name: name.to_owned(),
                attachment: Attachment::Routed(vrf),
                mac: Mac::new(mac),
                mtu: MTU,
            })
        };
        let input = port("input", tenant("input"), traffic::OUR_MAC)?;
        let output_vrf = if self.kind == Kind::Decapsulate { red } else { VrfId::DEFAULT };
        let output = port("output", output_vrf, [0x02, 0, 0, 0, 0, 0x03])?;
        let vni = Vni::new(traffic::VNI)?;
        control.vtep_addresses_set(&[traffic::OUR_VTEP.into()])?;
        control.vni_set(
            vni,
            VniConfig {
                vrf: red,
                vtep: traffic::OUR_VTEP.into(),
                udp_port: traffic::VXLAN_PORT,
                router_mac: Mac::new(traffic::OUR_ROUTER_MAC),
            },
        )?;
        control.session_begin();
        let mut groups = Groups { control, next: 1 };
        let adjacent: Vec<u32> =
            (0..NEXT_HOPS).map(|index| groups.adjacent(output, index)).collect::<anyhow::Result<_>>()?;
        let tunnels: Vec<u32> =
            (0..traffic::VTEPS).map(|index| groups.tunnel(vni, index)).collect::<anyhow::Result<_>>()?;
        let spread = |all: &[u32], index: usize| all[index % all.len()];
        match self.kind {
            Kind::Ipv4(1) => control.route4(VrfId::DEFAULT, 0, 0, adjacent[0])?,
            Kind::Ipv6(1) => control.route6(VrfId::DEFAULT, 0, 0, adjacent[0])?,
            Kind::Ipv4(routes) => {
                for (index, prefix) in sample::ipv4(routes, SEED).into_iter().enumerate() {
                    let group = spread(&adjacent, index);
                    control.route4(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)?;
                }
            }
            Kind::Ipv6(routes) => {
                for (index, prefix) in sample::ipv6(routes, SEED).into_iter().enumerate() {
                    let group = spread(&adjacent, index);
                    control.route6(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)?;
                }
            }
            Kind::Encapsulate(routes) => {
                // The underlay: every VTEP by a route of its own.
                for index in 0..traffic::VTEPS {
                    let vtep = traffic::remote_vtep(index).to_bits();
                    control.route4(VrfId::DEFAULT, vtep, 32, spread(&adjacent, usize::from(index)))?;
                }
                if routes == 1 {
                    control.route4(red, 0, 0, tunnels[0])?;
                } else {
                    for (index, prefix) in sample::ipv4(routes, SEED).into_iter().enumerate() {
                        let group = spread(&tunnels, index);
                        control.route4(red, prefix.address(), prefix.length().into(), group)?;
                    }
                }
            }
            Kind::Decapsulate => {
                // The way back makes the remote VTEPs known, without which nothing of theirs is accepted.
                for index in 0..traffic::VTEPS {
                    let vtep = traffic::remote_vtep(index).to_bits();
                    control.route4(VrfId::DEFAULT, vtep, 32, spread(&adjacent, usize::from(index)))?;
                    control.route4(
                        red,
                        0x6440_0000 + u32::from(index),
                        32,
                        spread(&tunnels, usize::from(index)),
                    )?;
                }
                control.route4(red, 0, 0, adjacent[0])?;
            }
        }
        Ok(Ports { input, output })
    }
}

/// Makes next hops and names them.
struct Groups<'a> {
    control: &'a mut Control,
    next: u32,
}

impl Groups<'_> {
    fn adjacent(&mut self, port: PortId, index: u8) -> anyhow::Result<u32> {
        let gateway = IpAddr::from(Ipv4Addr::new(192, 0, 2, index));
        self.control.neighbor_set(port, gateway, Mac::new([0x02, 0, 0, 0, 3, index]))?;
        self.group(Path::Adjacent { port, gateway })
    }

    fn tunnel(&mut self, vni: Vni, index: u8) -> anyhow::Result<u32> {
        let vtep = traffic::remote_vtep(index).into();
        self.group(Path::Vxlan { vni, vtep, router_mac: Some(Mac::new([0x02, 0, 0, 0, 2, index])) })
    }

    fn group(&mut self, path: Path) -> anyhow::Result<u32> {
        let id = self.next;
        self.next += 1;
        self.control.group_set(id, &[WeightedPath { weight: 1, path }])?;
        Ok(id)
    }
}

/// An address in one of the prefixes, for every flow; others are drawn for those that `address` refuses.
fn within<K: RandomKey + Key, A>(
    prefixes: &[Prefix<K>],
    random: &mut Random,
    address: impl Fn(K) -> Option<A>,
) -> Vec<A> {
    let count = u32::try_from(prefixes.len()).unwrap_or(u32::MAX);
    std::iter::repeat_with(|| address(K::random_in(prefixes[random.below(count) as usize], random)))
        .flatten()
        .take(traffic::FLOWS)
        .collect()
}
