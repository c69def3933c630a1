//! Routing: between ports, into tunnels of an L3VNI, and out of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use forwarding::fib::sample::{self, Random, RandomKey};
use forwarding::fib::{Key, Prefix};
use forwarding::{Attachment, Control, Mac, PortConfig, Vni, VniConfig, VrfId};

use super::expected::{Expected, Routes};
use super::{Groups, MTU, NEXT_HOPS, Ports, SEED};
use crate::traffic::{self, TTL};

/// What is routed where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// IPv4 with so many routes.
    Ipv4(usize),
    /// IPv6 with so many routes.
    Ipv6(usize),
    /// IPv4 into VXLAN, with so many routes.
    Encapsulate(usize),
    /// VXLAN to routed IPv4.
    Decapsulate,
}

/// The routes of a table: one for everything, or a list like the Internet's.
pub(super) fn ipv4_routes(count: usize) -> Vec<Prefix<u32>> {
    if count == 1 { vec![Prefix::containing(0, 0)] } else { sample::ipv4(count, SEED) }
}

/// Likewise of IPv6.
pub(super) fn ipv6_routes(count: usize) -> Vec<Prefix<u128>> {
    if count == 1 { vec![Prefix::containing(0, 0)] } else { sample::ipv6(count, SEED) }
}

/// A destination for every flow: anywhere, or in one of many routes.
pub(super) fn ipv4_destinations(routes: &[Prefix<u32>]) -> Vec<Ipv4Addr> {
    let mut random = Random::new(SEED);
    if routes.len() == 1 {
        return traffic::any_ipv4(&mut random);
    }
    within(routes, &mut random, |bits| {
        let address = Ipv4Addr::from(bits);
        // What a router drops or hands over, whatever the table says.
        let special = address.is_loopback() || address.is_link_local() || address.is_multicast();
        (!special && (1..240).contains(&address.octets()[0])).then_some(address)
    })
}

/// Likewise of IPv6.
pub(super) fn ipv6_destinations(routes: &[Prefix<u128>]) -> Vec<Ipv6Addr> {
    let mut random = Random::new(SEED);
    if routes.len() == 1 {
        return traffic::any_ipv6(&mut random);
    }
    within(routes, &mut random, |bits| Some(bits.into()))
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

/// The frame in which flow `index` comes through an L3VNI's tunnel.
pub(super) fn from_l3vni(index: usize, destination: Ipv4Addr) -> Vec<u8> {
    let vtep = spread_vtep(index);
    let packet = traffic::flow_v4(index, destination, TTL);
    let inner = traffic::framed(traffic::OUR_ROUTER_MAC, traffic::remote_router_mac(vtep), &packet);
    traffic::through_tunnel(vtep, traffic::VNI, index, &inner)
}

/// The VTEP that the `index`th of something belongs to.
pub(super) fn spread_vtep(index: usize) -> u8 {
    u8::try_from(index % usize::from(traffic::VTEPS)).expect("taken modulo")
}

/// The next hop of the `index`th of something.
pub(super) fn spread_next_hop(index: usize) -> u8 {
    u8::try_from(index % usize::from(NEXT_HOPS)).expect("taken modulo")
}

/// What a routed packet looks like behind an output's next hop.
pub(super) fn forwarded(output: usize, next_hop: u8, packet: &[u8]) -> Expected {
    Expected::plain(output, traffic::framed(traffic::next_hop_mac(next_hop), traffic::OUTPUT_MAC, packet))
}

/// What a routed packet looks like in the tunnel to a VTEP of the L3VNI.
pub(super) fn encapsulated(output: usize, vtep: u8, packet: &[u8]) -> Expected {
    let inner = traffic::framed(traffic::remote_router_mac(vtep), traffic::OUR_ROUTER_MAC, packet);
    Expected::tunnelled(output, vtep, traffic::VNI, inner)
}

impl Way {
    /// What enters, by flow.
    pub(super) fn frames(self) -> Vec<Vec<u8>> {
        match self {
            Self::Ipv4(routes) | Self::Encapsulate(routes) => (0..)
                .zip(ipv4_destinations(&ipv4_routes(routes)))
                .map(|(index, destination)| traffic::to_us(&traffic::flow_v4(index, destination, TTL)))
                .collect(),
            Self::Ipv6(routes) => (0..)
                .zip(ipv6_destinations(&ipv6_routes(routes)))
                .map(|(index, destination)| traffic::to_us(&traffic::flow_v6(index, destination, TTL)))
                .collect(),
            Self::Decapsulate => (0..)
                .zip(ipv4_destinations(&ipv4_routes(1)))
                .map(|(index, destination)| from_l3vni(index, destination))
                .collect(),
        }
    }

    /// What must leave, by flow.
    pub(super) fn expected(self) -> Vec<Expected> {
        if let Self::Ipv6(routes) = self {
            let list = ipv6_routes(routes);
            let destinations = ipv6_destinations(&list);
            let table = Routes::new(list);
            let packet = |(index, destination): (usize, Ipv6Addr)| {
                let route = table.longest_match(destination.to_bits()).expect("every flow has a route");
                forwarded(0, spread_next_hop(route), &traffic::flow_v6(index, destination, TTL - 1))
            };
            return (0..).zip(destinations).map(packet).collect();
        }
        let routes = match self {
            Self::Ipv4(routes) | Self::Encapsulate(routes) => routes,
            Self::Ipv6(_) | Self::Decapsulate => 1,
        };
        let list = ipv4_routes(routes);
        let destinations = ipv4_destinations(&list);
        let table = Routes::new(list);
        let packet = |(index, destination): (usize, Ipv4Addr)| {
            let route = table.longest_match(destination.to_bits()).expect("every flow has a route");
            let packet = traffic::flow_v4(index, destination, TTL - 1);
            match self {
                Self::Encapsulate(_) => encapsulated(0, spread_vtep(route), &packet),
                _ => forwarded(0, spread_next_hop(route), &packet),
            }
        };
        (0..).zip(destinations).map(packet).collect()
    }

    pub(super) fn set_up(self, control: &mut Control) -> anyhow::Result<Ports> {
        let red = control.vrf_add("red")?;
        let mut port = |name: &str, vrf, mac| {
            control.port_add(PortConfig {
                name: name.to_owned(),
                attachment: Attachment::Routed(vrf),
                mac: Mac::new(mac),
                mtu: MTU,
            })
        };
        let (from, to) = match self {
            Self::Ipv4(_) | Self::Ipv6(_) => (VrfId::DEFAULT, VrfId::DEFAULT),
            Self::Encapsulate(_) => (red, VrfId::DEFAULT),
            Self::Decapsulate => (VrfId::DEFAULT, red),
        };
        let input = port("input", from, traffic::OUR_MAC)?;
        let output = port("output", to, traffic::OUTPUT_MAC)?;
        let vni = l3vni(control, red)?;
        control.session_begin();
        let mut groups = Groups { control, next: 1 };
        let adjacent: Vec<u32> =
            (0..NEXT_HOPS).map(|index| groups.adjacent(output, index)).collect::<anyhow::Result<_>>()?;
        let tunnels: Vec<u32> =
            (0..traffic::VTEPS).map(|index| groups.tunnel(vni, index)).collect::<anyhow::Result<_>>()?;
        match self {
            Self::Ipv4(routes) => {
                for (index, prefix) in ipv4_routes(routes).into_iter().enumerate() {
                    let group = adjacent[usize::from(spread_next_hop(index))];
                    control.route4(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)?;
                }
            }
            Self::Ipv6(routes) => {
                for (index, prefix) in ipv6_routes(routes).into_iter().enumerate() {
                    let group = adjacent[usize::from(spread_next_hop(index))];
                    control.route6(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)?;
                }
            }
            Self::Encapsulate(routes) => {
                vtep_routes(control, &adjacent)?;
                for (index, prefix) in ipv4_routes(routes).into_iter().enumerate() {
                    let group = tunnels[usize::from(spread_vtep(index))];
                    control.route4(red, prefix.address(), prefix.length().into(), group)?;
                }
            }
            Self::Decapsulate => {
                vtep_routes(control, &adjacent)?;
                way_back(control, red, &tunnels)?;
                control.route4(red, 0, 0, adjacent[0])?;
            }
        }
        Ok(Ports { inputs: vec![input], outputs: vec![output] })
    }
}

/// The L3VNI of a VRF.
pub(super) fn l3vni(control: &mut Control, vrf: VrfId) -> anyhow::Result<Vni> {
    let vni = Vni::new(traffic::VNI)?;
    control.vtep_addresses_set(&[traffic::OUR_VTEP.into()])?;
    control.vni_set(
        vni,
        VniConfig {
            vrf,
            vtep: traffic::OUR_VTEP.into(),
            udp_port: traffic::VXLAN_PORT,
            router_mac: Mac::new(traffic::OUR_ROUTER_MAC),
        },
    )?;
    Ok(vni)
}

/// The underlay: every VTEP by a route of its own.
pub(super) fn vtep_routes(control: &mut Control, adjacent: &[u32]) -> anyhow::Result<()> {
    for index in 0..traffic::VTEPS {
        let group = adjacent[usize::from(index) % adjacent.len()];
        control.route4(VrfId::DEFAULT, traffic::remote_vtep(index).to_bits(), 32, group)?;
    }
    Ok(())
}

/// Routes through every tunnel, which make the remote VTEPs known: without, nothing of theirs is accepted.
pub(super) fn way_back(control: &mut Control, vrf: VrfId, tunnels: &[u32]) -> anyhow::Result<()> {
    for (index, &group) in (0..).zip(tunnels) {
        control.route4(vrf, 0x6440_0000 + index, 32, group)?;
    }
    Ok(())
}
