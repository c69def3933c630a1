//! The scenarios: what is in the tables, what enters, and what must leave.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;
use forwarding::{Control, Mac, Path, PortConfig, PortId, Vni, WeightedPath};

use crate::traffic;

pub(crate) mod bridge;
mod expected;
mod mixed;
mod routed;

use bridge::Domain;
pub(crate) use expected::Expected;
use mixed::Mixed;

/// Every run has the same tables and traffic.
pub(crate) const SEED: u64 = 2026;
/// Routes of a full table.
pub(crate) const FULL_IPV4: usize = 1_000_000;
pub(crate) const FULL_IPV6: usize = 250_000;
const MANY_MACS: u32 = 10_000;
/// Gateways, and groups, that a full table's routes are spread over.
const NEXT_HOPS: u8 = 64;
pub(crate) const MTU: u16 = 1500;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scenario {
    /// The name of its file.
    pub(crate) name: &'static str,
    kind: Kind,
    /// Cycles per packet of forwarding, at most, on the machine that the bars were set for: see
    /// [`report`](crate::report).
    pub(crate) bar: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Routed(routed::Way),
    /// Through a bridge domain.
    Bridge(Domain),
    Mixed(Mixed),
}

const fn routed(name: &'static str, way: routed::Way, bar: f64) -> Scenario {
    Scenario { name, kind: Kind::Routed(way), bar: Some(bar) }
}

const fn bridged(name: &'static str, way: bridge::Way, macs: u32, bar: f64) -> Scenario {
    Scenario { name, kind: Kind::Bridge(Domain::new(way, macs)), bar: Some(bar) }
}

const fn flooded(name: &'static str, vteps: u16) -> Scenario {
    Scenario { name, kind: Kind::Bridge(Domain::flood(vteps)), bar: None }
}

/// All of them, in the order of the table.
pub(crate) const ALL: &[Scenario] = &[
    routed("ipv4-1route", routed::Way::Ipv4(1), 65.0),
    routed("ipv4-1m", routed::Way::Ipv4(FULL_IPV4), 110.0),
    routed("ipv6-1route", routed::Way::Ipv6(1), 65.0),
    routed("ipv6-250k", routed::Way::Ipv6(FULL_IPV6), 150.0),
    routed("l3vni-encap-1route", routed::Way::Encapsulate(1), 110.0),
    routed("l3vni-encap-1m", routed::Way::Encapsulate(FULL_IPV4), 160.0),
    routed("l3vni-decap", routed::Way::Decapsulate, 120.0),
    bridged("l2-1mac", bridge::Way::Local, 1, 75.0),
    bridged("l2-10kmac", bridge::Way::Local, MANY_MACS, 110.0),
    bridged("l2vni-encap", bridge::Way::Encapsulate, 1, 120.0),
    bridged("l2vni-encap-10kmac", bridge::Way::Encapsulate, MANY_MACS, 120.0),
    bridged("l2vni-decap", bridge::Way::Decapsulate, 1, 130.0),
    bridged("l2vni-decap-10kmac", bridge::Way::Decapsulate, MANY_MACS, 130.0),
    flooded("bum-1", 1),
    flooded("bum-16", 16),
    flooded("bum-256", 256),
    Scenario { name: "mixed", kind: Kind::Mixed(Mixed), bar: None },
];

/// The engine's ports in a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) inputs: Vec<PortId>,
    pub(crate) outputs: Vec<PortId>,
}

impl Ports {
    /// Other inputs of the same kind, and the same outputs.
    ///
    /// # Errors
    /// When the engine refuses.
    pub(crate) fn with_more_inputs(&self, control: &mut Control) -> anyhow::Result<Self> {
        let mut inputs = Vec::new();
        for &input in &self.inputs {
            let config = control.port(input).context("a port is missing")?.clone();
            inputs.push(control.port_add(PortConfig { name: format!("{}-again", config.name), ..config })?);
        }
        Ok(Self { inputs, outputs: self.outputs.clone() })
    }
}

impl Scenario {
    /// By its name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        ALL.iter().find(|scenario| scenario.name == name).copied()
    }

    /// The frames that enter, by input: one of each flow.
    pub(crate) fn frames(self) -> Vec<Vec<Vec<u8>>> {
        match self.kind {
            Kind::Routed(way) => vec![way.frames()],
            Kind::Bridge(domain) => vec![domain.frames()],
            Kind::Mixed(mixed) => mixed.frames(),
        }
    }

    /// What must leave for each of [`frames`](Self::frames), in the order in which it is sent.
    pub(crate) fn expected(self) -> Vec<Vec<Vec<Expected>>> {
        let one_each = |expected: Vec<Expected>| expected.into_iter().map(|frame| vec![frame]).collect();
        match self.kind {
            Kind::Routed(way) => vec![one_each(way.expected())],
            Kind::Bridge(domain) => vec![domain.expected()],
            Kind::Mixed(mixed) => mixed.expected().into_iter().map(one_each).collect(),
        }
    }

    /// How many frames leave for one that enters.
    pub(crate) fn copies(self) -> u16 {
        match self.kind {
            Kind::Bridge(domain) => domain.copies(),
            Kind::Routed(_) | Kind::Mixed(_) => 1,
        }
    }

    /// Whether frames are flooded.
    pub(crate) const fn floods(self) -> bool {
        matches!(self.kind, Kind::Bridge(Domain { way: bridge::Way::Flood, .. }))
    }

    /// The scenarios that it is made of, each with its share of the packets; none of one that is simple.
    pub(crate) fn parts(self) -> Vec<(&'static str, f64)> {
        match self.kind {
            Kind::Mixed(mixed) => mixed.parts(),
            Kind::Routed(_) | Kind::Bridge(_) => Vec::new(),
        }
    }

    /// Fills the tables.
    ///
    /// # Errors
    /// When the engine refuses, which is a mistake of the scenario's.
    pub(crate) fn set_up(self, control: &mut Control) -> anyhow::Result<Ports> {
        match self.kind {
            Kind::Routed(way) => way.set_up(control),
            Kind::Bridge(domain) => domain.set_up(control),
            Kind::Mixed(mixed) => mixed.set_up(control),
        }
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
        self.control.neighbor_set(port, gateway, Mac::new(traffic::next_hop_mac(index)))?;
        self.group(Path::Adjacent { port, gateway })
    }

    fn tunnel(&mut self, vni: Vni, index: u8) -> anyhow::Result<u32> {
        let vtep = traffic::remote_vtep(index).into();
        let router_mac = Some(Mac::new(traffic::remote_router_mac(index)));
        self.group(Path::Vxlan { vni, vtep, router_mac })
    }

    fn group(&mut self, path: Path) -> anyhow::Result<u32> {
        let id = self.next;
        self.next += 1;
        self.control.group_set(id, &[WeightedPath { weight: 1, path }])?;
        Ok(id)
    }
}
