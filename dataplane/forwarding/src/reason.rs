//! Why a packet was not forwarded: every drop and every hand-over has a name.

use std::fmt;

use crate::types::PortId;

/// What becomes of a packet that is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It ends here.
    Drop,
    /// It goes to the kernel as it was received.
    HandOver,
}

/// A hand-over's class: what shares one policer. A flood of one cannot starve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// BGP, BFD, OSPF, IS-IS and the like.
    Control,
    /// ARP and neighbour discovery.
    Neighbor,
    /// The next hop is not known yet; the kernel finds it.
    Resolve,
    /// The kernel answers with an ICMP error.
    Error,
    /// Everything else.
    Other,
}

impl Class {
    /// All of them, the most important first.
    pub const ALL: [Self; 5] = [Self::Control, Self::Neighbor, Self::Resolve, Self::Error, Self::Other];

    /// The name in counters and in flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Neighbor => "neighbor",
            Self::Resolve => "resolve",
            Self::Error => "error",
            Self::Other => "other",
        }
    }

    /// A dense number below `ALL.len()`.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Declares the enum and its tables in one place, so that no reason can be without a name or a kind.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $kind:expr;)*) => {
        /// Why a packet was handed over or dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them; [`index`](Self::index) is the place in it.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in counters: lower case with hyphens.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The class of a hand-over; none of a drop.
            pub const fn class(self) -> Option<Class> {
                match self { $(Self::$variant => $kind,)* }
            }
        }
    };
}

const DROP: Option<Class> = None;
const CONTROL: Option<Class> = Some(Class::Control);
const NEIGHBOR: Option<Class> = Some(Class::Neighbor);
const RESOLVE: Option<Class> = Some(Class::Resolve);
const ERROR: Option<Class> = Some(Class::Error);
const OTHER: Option<Class> = Some(Class::Other);

reasons! {
    /// Shorter than an Ethernet header.
    Runt, "runt", DROP;
    /// Unicast to another station.
    NotOurMac, "not-our-mac", DROP;
    /// Version, header length or total length contradict each other or the frame.
    MalformedIp, "malformed-ip", DROP;
    /// The IPv4 header checksum is wrong.
    BadChecksum, "bad-checksum", DROP;
    /// A source that no packet may have (RFC 1812 5.3.7, RFC 4291 2.5, 2.7).
    MartianSource, "martian-source", DROP;
    /// A destination that no packet on a wire may have.
    MartianDestination, "martian-destination", DROP;
    /// No route in its VRF.
    NoRoute, "no-route", DROP;
    /// A blackhole, unreachable or prohibit route.
    Blackhole, "blackhole", DROP;
    /// A route whose next hops are all gone.
    NoNextHop, "no-next-hop", DROP;
    /// The port it should leave by is gone.
    NoPort, "no-port", DROP;
    /// Too little room in front of the packet for the outer headers.
    NoHeadroom, "no-headroom", DROP;
    /// VXLAN to us, but not a VXLAN header (RFC 7348 section 5) or too short for one.
    MalformedVxlan, "malformed-vxlan", DROP;
    /// VXLAN to us with a VNI that we do not have.
    UnknownVni, "unknown-vni", DROP;
    /// VXLAN to us from a VTEP that none of the VNI's routes names.
    UnknownVtep, "unknown-vtep", DROP;
    /// The inner destination is not the VNI's router MAC.
    NotRouterMac, "not-router-mac", DROP;
    /// The inner packet is neither IPv4 nor IPv6.
    InnerNotIp, "inner-not-ip", DROP;
    /// Congestion was marked outside on a packet that cannot carry the mark inside (RFC 6040 section 4.2).
    EcnNotCapable, "ecn-not-capable", DROP;
    /// In a bridge domain: from a group or from nobody (IEEE 802 section 8.2.2).
    BadSourceMac, "bad-source-mac", DROP;
    /// In a bridge domain: from the router's own MAC, on a port.
    OwnSourceMac, "own-source-mac", DROP;
    /// In a bridge domain: with an 802.1Q or 802.1ad tag, which no port asked for (RFC 7348 section 6.1).
    BridgeVlan, "bridge-vlan", DROP;
    /// In a bridge domain: to a group that bridges keep to the link (IEEE 802.1Q section 8.6.3).
    ReservedGroup, "reserved-group", DROP;
    /// A host claims the gateway's address.
    GatewaySpoof, "gateway-spoof", DROP;
    /// Broadcast, multicast or unknown unicast over the port's rate.
    FloodLimited, "flood-limited", DROP;
    /// To a MAC on the port that it came from.
    SamePort, "same-port", DROP;
    /// From one VTEP to a MAC behind a VTEP: their own business (RFC 8365 section 8.3.1).
    SplitHorizon, "split-horizon", DROP;
    /// A frame to be bridged, larger than what it should leave by.
    BridgeTooBig, "bridge-too-big", DROP;
    /// The domain of a port, or of a VNI, is gone.
    NoBridge, "no-bridge", DROP;
    /// No buffer for a copy.
    NoBuffer, "no-buffer", DROP;
    /// Longer than any buffer.
    Giant, "giant", DROP;
    /// A host left a checksum or segmentation to us that does not fit its headers or was not offered, or many datagrams of a
    /// tunnel that ends here in one frame.
    BadOffload, "bad-offload", DROP;
    /// The port's transmit queue took no more.
    TxFull, "tx-full", DROP;
    /// The port is unknown or being removed.
    PortDown, "port-down", DROP;

    /// BGP, BFD, OSPF or the like, to an address of ours.
    LocalControl, "local-control", CONTROL;
    /// The same to a link-local or multicast address.
    LinkControl, "link-control", CONTROL;
    /// IS-IS (ISO 10589 over LLC).
    IsIs, "is-is", CONTROL;
    /// ARP.
    Arp, "arp", NEIGHBOR;
    /// IPv6 neighbour discovery (RFC 4861).
    Nd, "nd", NEIGHBOR;
    /// The next hop's MAC is not known.
    UnresolvedNeighbor, "unresolved-neighbor", RESOLVE;
    /// The neighbour's MAC is known, its place in the bridge domain is not.
    UnresolvedMac, "unresolved-mac", RESOLVE;
    /// No usable underlay route to the VTEP.
    UnresolvedVtep, "unresolved-vtep", RESOLVE;
    /// The remote router MAC is not known.
    UnresolvedRouterMac, "unresolved-router-mac", RESOLVE;
    /// The route leaves by a VNI that the topology does not have (yet).
    UnresolvedVni, "unresolved-vni", RESOLVE;
    /// TTL or hop limit is used up here.
    TtlExpired, "ttl-expired", ERROR;
    /// Larger than what it should leave by.
    TooBig, "too-big", ERROR;
    /// To an address of ours.
    Local, "local", OTHER;
    /// To a multicast or broadcast address.
    Multicast, "multicast", OTHER;
    /// From or to a link-local address (RFC 3927, RFC 4291 2.5.6): never routed.
    LinkLocal, "link-local", OTHER;
    /// IPv4 options, or IPv6 hop-by-hop options.
    Options, "options", OTHER;
    /// A fragment of an outer packet to our VTEP address.
    OuterFragment, "outer-fragment", OTHER;
    /// With an 802.1Q or 802.1ad tag.
    Vlan, "vlan", OTHER;
    /// Any other EtherType.
    NotIp, "not-ip", OTHER;
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Dropped or handed over.
    pub const fn kind(self) -> Kind {
        if self.class().is_some() { Kind::HandOver } else { Kind::Drop }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(index).ok()?).copied()
    }

    pub(crate) const fn verdict(self) -> Verdict {
        match self.kind() {
            Kind::Drop => Verdict::Drop(self),
            Kind::HandOver => Verdict::HandOver(self),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the caller is to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Rewritten and ready: send it out of this port.
    Transmit(PortId),
    /// Unchanged: it goes to several places of a bridge domain; [replicate](crate::Worker::replicate) it, then free it.
    Replicate,
    /// Unchanged: give it to the shadow TAP of the port it came in by, subject to its class's policer.
    HandOver(Reason),
    /// Unchanged: free it. Counted already.
    Drop(Reason),
}

impl Verdict {
    /// It goes somewhere, once or several times.
    #[inline(always)]
    pub(crate) const fn is_forwarded(self) -> bool {
        matches!(self, Self::Transmit(_) | Self::Replicate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_kebab_case() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|c| c.is_ascii_lowercase() || c == b'-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
    }

    #[test]
    fn index_is_the_place_in_all() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            assert_eq!(Reason::from_index(u32::try_from(place).unwrap()), Some(*reason));
        }
        assert_eq!(Reason::from_index(u32::MAX), None);
    }
}
