//! Everything at once, in random order.
//!
//! A burst comes from one port, so there are two: one of the underlay, whose bursts mix IPv4 and IPv6 routing in full
//! tables, encapsulation, and decapsulation of an L3VNI and of an L2VNI; and one of a bridge domain, whose bursts mix
//! bridging between ports and encapsulation. The worker takes turns between them.

use forwarding::fib::sample::Random;
use forwarding::{Attachment, Control, Mac, PortConfig, VrfId};

use super::bridge;
use super::expected::{Expected, Routes};
use super::routed::{
    encapsulated, forwarded, from_l3vni, ipv4_destinations, ipv4_routes, ipv6_destinations, ipv6_routes,
    l3vni, spread_next_hop, spread_vtep, vtep_routes, way_back,
};
use super::{FULL_IPV4, FULL_IPV6, Groups, MANY_MACS, MTU, NEXT_HOPS, Ports, SEED};
use crate::traffic::{self, TTL};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mixed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Ipv4,
    Ipv6,
    Encapsulate,
    Decapsulate,
    L2Decapsulate,
    L2Local,
    L2Encapsulate,
}

/// By input.
const PARTS: [&[Part]; 2] = [
    &[Part::Ipv4, Part::Ipv6, Part::Encapsulate, Part::Decapsulate, Part::L2Decapsulate],
    &[Part::L2Local, Part::L2Encapsulate],
];

/// The outputs: of the default VRF, of VRF red, and of the domain.
const UNDERLAY: usize = 0;
const RED: usize = 1;
const DOMAIN: usize = 2;

impl Part {
    /// The scenario that has nothing else.
    const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4-1m",
            Self::Ipv6 => "ipv6-250k",
            Self::Encapsulate => "l3vni-encap-1m",
            Self::Decapsulate => "l3vni-decap",
            Self::L2Decapsulate => "l2vni-decap-10kmac",
            Self::L2Local => "l2-10kmac",
            Self::L2Encapsulate => "l2vni-encap-10kmac",
        }
    }
}

/// Hosts of the domain on its output port, and behind VTEPs.
const fn local_mac(index: u32) -> [u8; 6] {
    traffic::host_mac(index % MANY_MACS)
}

const fn remote_mac(index: u32) -> [u8; 6] {
    traffic::host_mac(MANY_MACS + index % MANY_MACS)
}

/// Which part each flow of an input belongs to.
fn order(input: usize) -> Vec<Part> {
    let parts = PARTS[input];
    let mut random = Random::new(SEED + 1 + input as u64);
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    (0..traffic::FLOWS).map(|_| parts[random.below(count) as usize]).collect()
}

/// Routes that lead to a next hop and those that lead into a tunnel take turns in the one table.
const fn is_tunnel(route: usize) -> bool {
    route % 2 == 1
}

impl Mixed {
    /// What enters and what must leave, by input and flow.
    fn flows(self) -> Vec<Vec<(Vec<u8>, Expected)>> {
        let (list4, list6) = (ipv4_routes(FULL_IPV4), ipv6_routes(FULL_IPV6));
        let (destinations4, destinations6) = (ipv4_destinations(&list4), ipv6_destinations(&list6));
        let (table4, table6) = (Routes::new(list4), Routes::new(list6));
        let (through, past): (Vec<_>, Vec<_>) = destinations4
            .iter()
            .map(|&destination| {
                (destination, table4.longest_match(destination.to_bits()).expect("every flow has a route"))
            })
            .partition(|&(_, route)| is_tunnel(route));
        let (mut through, mut past) = (through.into_iter(), past.into_iter());
        let mut flow = |index: usize, part: Part| {
            let number = u32::try_from(index).expect("few flows");
            let v4 = |destination, ttl| traffic::flow_v4(index, destination, ttl);
            match part {
                Part::Ipv4 | Part::Encapsulate => {
                    let tunnel = part == Part::Encapsulate;
                    let next = if tunnel { through.next() } else { past.next() };
                    let (destination, route) = next.expect("there are enough");
                    let after = v4(destination, TTL - 1);
                    let expected = if tunnel {
                        encapsulated(UNDERLAY, spread_vtep(route), &after)
                    } else {
                        forwarded(UNDERLAY, spread_next_hop(route), &after)
                    };
                    (traffic::to_us(&v4(destination, TTL)), expected)
                }
                Part::Ipv6 => {
                    let destination = destinations6[index];
                    let route = table6.longest_match(destination.to_bits()).expect("every flow has a route");
                    let after = traffic::flow_v6(index, destination, TTL - 1);
                    let before = traffic::flow_v6(index, destination, TTL);
                    (traffic::to_us(&before), forwarded(UNDERLAY, spread_next_hop(route), &after))
                }
                Part::Decapsulate => {
                    let destination = destinations4[index];
                    (from_l3vni(index, destination), forwarded(RED, 0, &v4(destination, TTL - 1)))
                }
                Part::L2Decapsulate => {
                    let frame = traffic::bridged(local_mac(number), number);
                    let vtep = spread_vtep(index);
                    let enters = traffic::through_tunnel(vtep, traffic::L2VNI, index, &frame);
                    (enters, Expected::plain(DOMAIN, frame))
                }
                Part::L2Local => {
                    let frame = traffic::bridged(local_mac(number), number);
                    (frame.clone(), Expected::plain(DOMAIN, frame))
                }
                Part::L2Encapsulate => {
                    let frame = traffic::bridged(remote_mac(number), number);
                    let vtep = spread_vtep((number % MANY_MACS) as usize);
                    (frame.clone(), Expected::tunnelled(UNDERLAY, vtep, traffic::L2VNI, frame))
                }
            }
        };
        let mut by_input = Vec::new();
        for input in 0..PARTS.len() {
            by_input
                .push(order(input).into_iter().enumerate().map(|(index, part)| flow(index, part)).collect());
        }
        by_input
    }

    pub(super) fn frames(self) -> Vec<Vec<Vec<u8>>> {
        self.flows().into_iter().map(|flows| flows.into_iter().map(|(frame, _)| frame).collect()).collect()
    }

    pub(super) fn expected(self) -> Vec<Vec<Expected>> {
        self.flows()
            .into_iter()
            .map(|flows| flows.into_iter().map(|(_, expected)| expected).collect())
            .collect()
    }

    /// The shares of the scenarios that it is made of. Both inputs have as many packets.
    pub(super) fn parts(self) -> Vec<(&'static str, f64)> {
        let all: Vec<Part> = (0..PARTS.len()).flat_map(order).collect();
        PARTS
            .into_iter()
            .flatten()
            .map(|part| {
                let count = all.iter().filter(|other| *other == part).count();
                #[expect(clippy::cast_precision_loss, reason = "some thousands")]
                (part.name(), count as f64 / all.len() as f64)
            })
            .collect()
    }

    pub(super) fn set_up(self, control: &mut Control) -> anyhow::Result<Ports> {
        let red = control.vrf_add("red")?;
        let l2vni = bridge::add(control)?;
        let mut port = |name: &str, attachment, mac| {
            control.port_add(PortConfig { name: name.to_owned(), attachment, mac: Mac::new(mac), mtu: MTU })
        };
        let domain = Attachment::Bridged(bridge::port(l2vni));
        let underlay = Attachment::Routed(VrfId::DEFAULT);
        let inputs =
            vec![port("input0", underlay, traffic::OUR_MAC)?, port("input1", domain, traffic::OUR_MAC)?];
        let outputs = vec![
            port("output0", underlay, traffic::OUTPUT_MAC)?,
            port("output1", Attachment::Routed(red), traffic::OUTPUT_MAC)?,
            port("output2", domain, traffic::OUTPUT_MAC)?,
        ];
        let l3vni = l3vni(control, red)?;
        control.session_begin();
        let mut groups = Groups { control, next: 1 };
        let adjacent: Vec<u32> = (0..NEXT_HOPS)
            .map(|index| groups.adjacent(outputs[UNDERLAY], index))
            .collect::<anyhow::Result<_>>()?;
        let tunnels: Vec<u32> =
            (0..traffic::VTEPS).map(|index| groups.tunnel(l3vni, index)).collect::<anyhow::Result<_>>()?;
        let in_red = groups.adjacent(outputs[RED], 0)?;
        vtep_routes(control, &adjacent)?;
        way_back(control, red, &tunnels)?;
        control.route4(red, 0, 0, in_red)?;
        for (index, prefix) in ipv4_routes(FULL_IPV4).into_iter().enumerate() {
            let group = if is_tunnel(index) {
                tunnels[usize::from(spread_vtep(index))]
            } else {
                adjacent[usize::from(spread_next_hop(index))]
            };
            control.route4(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)?;
        }
        for (index, prefix) in ipv6_routes(FULL_IPV6).into_iter().enumerate() {
            let group = adjacent[usize::from(spread_next_hop(index))];
            control.route6(VrfId::DEFAULT, prefix.address(), prefix.length().into(), group)?;
        }
        let vteps: Vec<_> = (0..traffic::VTEPS).map(|index| traffic::remote_vtep(index).into()).collect();
        control.flood_set(l2vni, &vteps)?;
        for host in 0..MANY_MACS {
            let vtep = traffic::remote_vtep(spread_vtep(host as usize)).into();
            control.mac_set(l2vni, Mac::new(remote_mac(host)), vtep, false)?;
        }
        bridge::introduce(control, outputs[DOMAIN], (0..MANY_MACS).map(local_mac))?;
        bridge::introduce(control, inputs[1], [traffic::PEER_MAC].into_iter())?;
        Ok(Ports { inputs, outputs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_part_is_a_scenario_and_the_shares_are_a_whole() {
        let parts = Mixed.parts();
        assert!(parts.iter().all(|(name, share)| Scenario::by_name(name).is_some() && *share > 0.05));
        assert!((parts.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
