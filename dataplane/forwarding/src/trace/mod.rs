//! Which packets an operator wants to see: an expression over the headers of a frame as it was received, and over what
//! became of it.

mod headers;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use self::headers::{Headers, Layer};
pub use self::parse::FilterError;
use crate::headers::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::reason::{Reason, Verdict};
use crate::types::{Mac, PortId, Vni};

/// What names of an expression mean on this node now.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Ports by name.
    pub ports: BTreeMap<String, PortId>,
    /// The L2VNI of each bridged port.
    pub domains: BTreeMap<PortId, Vni>,
    /// The UDP ports of VXLAN.
    pub udp_ports: Vec<u16>,
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Filter {
    test: Test,
    domains: BTreeMap<PortId, Vni>,
    udp_ports: Vec<u16>,
}

impl Filter {
    /// Parses an expression; one without words matches everything.
    ///
    /// # Errors
    /// With the place that is not understood, and what was expected there.
    pub fn parse(text: &str, scope: &Scope) -> Result<Self, FilterError> {
        let test = parse::parse(text, &scope.ports)?;
        Ok(Self { test, domains: scope.domains.clone(), udp_ports: scope.udp_ports.clone() })
    }

    /// Whether a frame that came in by `port` matches, or will once it is known what became of it.
    pub fn may_match(&self, port: PortId, frame: &[u8]) -> bool {
        self.evaluate(port, frame, None) != Some(false)
    }

    /// Whether it matches, as it was received, with what became of it.
    pub fn matches(&self, port: PortId, frame: &[u8], verdict: Verdict) -> bool {
        self.evaluate(port, frame, Some(verdict)) == Some(true)
    }

    fn evaluate(&self, port: PortId, frame: &[u8], verdict: Option<Verdict>) -> Option<bool> {
        let headers = Headers::read(frame, &self.udp_ports);
        let domain = self.domains.get(&port).map(|vni| vni.get());
        self.test.evaluate(&Caught { port, domain, headers: &headers, verdict })
    }
}

/// What a test looks at.
struct Caught<'a> {
    port: PortId,
    domain: Option<u32>,
    headers: &'a Headers,
    /// Before it is known, the tests for it have no answer.
    verdict: Option<Verdict>,
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
    Either,
}

impl End {
    fn any<T: Copy>(self, source: Option<T>, destination: Option<T>, is: impl Fn(T) -> bool) -> bool {
        let source = self != Self::Destination && source.is_some_and(&is);
        source || (self != Self::Source && destination.is_some_and(&is))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Of the IP header.
    Number(u8),
    Ip4,
    Ip6,
    Arp,
    Nd,
    Vxlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Transmit,
    Replicate,
    HandOver,
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// All of them; of none, everything matches.
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Port(PortId),
    Vni(u32),
    Mac(End, Mac),
    Net(End, IpNet),
    Protocol(Protocol),
    TransportPort(End, u16),
    Verdict(Outcome),
    Reason(Reason),
}

impl Test {
    /// Three-valued: `None` while it depends on a verdict that is not known.
    fn evaluate(&self, caught: &Caught<'_>) -> Option<bool> {
        let headers = caught.headers;
        Some(match self {
            Self::All(tests) => return all(tests.iter().map(|test| test.evaluate(caught))),
            Self::Any(tests) => {
                return all(tests.iter().map(|test| test.evaluate(caught).map(|is| !is))).map(|none| !none);
            }
            Self::Not(test) => return test.evaluate(caught).map(|is| !is),
            Self::Port(port) => caught.port == *port,
            Self::Vni(vni) => headers.vni == Some(*vni) || caught.domain == Some(*vni),
            Self::Mac(end, mac) => headers
                .layers()
                .any(|layer| end.any(layer.source_mac, layer.destination_mac, |is| is == *mac)),
            Self::Net(end, net) => headers.layers().any(|layer| {
                let is = |address: IpAddr| net.contains(&address);
                end.any(layer.source, layer.destination, is) || end.any(None, layer.target, is)
            }),
            Self::Protocol(protocol) => protocol.is_of(headers),
            Self::TransportPort(end, port) => headers.layers().any(|layer| {
                let (source, destination) = layer.ports.unzip();
                end.any(source, destination, |is| is == *port)
            }),
            Self::Verdict(outcome) => {
                *outcome
                    == match caught.verdict? {
                        Verdict::Transmit(_) => Outcome::Transmit,
                        Verdict::Replicate => Outcome::Replicate,
                        Verdict::HandOver(_) => Outcome::HandOver,
                        Verdict::Drop(_) => Outcome::Drop,
                    }
            }
            Self::Reason(reason) => match caught.verdict? {
                Verdict::HandOver(is) | Verdict::Drop(is) => is == *reason,
                Verdict::Transmit(_) | Verdict::Replicate => false,
            },
        })
    }
}

/// False as soon as one is, unknown when one of the others is.
fn all(values: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for value in values {
        match value {
            Some(false) => return Some(false),
            Some(true) => {}
            None => all = None,
        }
    }
    all
}

impl Protocol {
    fn is_of(self, headers: &Headers) -> bool {
        let any = |is: &dyn Fn(&Layer) -> bool| headers.layers().any(is);
        match self {
            Self::Number(number) => any(&|layer| layer.protocol == Some(number)),
            Self::Ip4 => any(&|layer| layer.ethertype == Some(ETHERTYPE_IPV4)),
            Self::Ip6 => any(&|layer| layer.ethertype == Some(ETHERTYPE_IPV6)),
            Self::Arp => any(&|layer| layer.ethertype == Some(ETHERTYPE_ARP)),
            Self::Nd => any(&|layer| layer.is_nd),
            Self::Vxlan => headers.vni.is_some(),
        }
    }
}
