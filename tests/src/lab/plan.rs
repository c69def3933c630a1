//! Who is where in the lab: names, numbers and addresses.
//!
//! PEs are numbered 1 (`n1`), 2 (`n2`) and 3 (`kpe`), spines 1 and 2. The link of PE p to spine s is 192.168.(10 s + p).0/24, the
//! PE's end .1 and the spine's .254; likewise fd00:192:(10 s + p)::1 and ::fe. VTEPs are 100.65.0.p and fd00:64::p. Tenants use the same subnets in both VRFs: 10.p.0.0/24 and
//! fd00:10:p::/64 behind PE p.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Number of the kernel PE.
pub const KERNEL_PE: u8 = 3;
/// The AS of our nodes.
pub const NODE_ASN: u32 = 64514;
/// The AS of the hosts behind our nodes.
pub const HOST_ASN: u32 = 64515;
/// The AS of the kernel PE.
pub const KERNEL_PE_ASN: u32 = 64520;
/// Spines by number.
pub const SPINES: [u8; 2] = [1, 2];

/// A tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vrf {
    /// The VRF's name.
    pub name: &'static str,
    /// Its L3VNI.
    pub vni: u32,
    /// Third byte of its host sessions' IPv4 subnet and the IPv6 subnet's third group: they must differ between VRFs.
    pub session: u8,
    /// Second byte of the addresses that only this VRF has.
    pub own: u8,
}

/// The first tenant.
pub const RED: Vrf = Vrf { name: "red", vni: 100, session: 10, own: 101 };
/// The second tenant, with the same subnets.
pub const BLUE: Vrf = Vrf { name: "blue", vni: 200, session: 11, own: 102 };
/// The tenants of the standing lab.
pub const VRFS: [Vrf; 2] = [RED, BLUE];
/// A third one, for the test that adds a VNI to a running node.
pub const GREEN: Vrf = Vrf { name: "green", vni: 300, session: 12, own: 103 };

/// A host: a network namespace behind a PE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The PE it is behind.
    pub pe: u8,
    /// The tenant it belongs to.
    pub vrf: Vrf,
}

impl Host {
    /// Its network namespace.
    pub fn name(self) -> String {
        match self.pe {
            KERNEL_PE => format!("k-{}", self.vrf.name),
            node => format!("n{node}-{}", self.vrf.name),
        }
    }

    /// Its address in the subnet that the other tenant has too.
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.pe, 0, 1)
    }

    /// Likewise.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, u16::from(self.pe), 0, 0, 0, 0, 1)
    }

    /// Both.
    pub fn addresses(self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    /// An address that no other tenant has; hosts behind our nodes announce it too.
    pub fn own_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.vrf.own, self.pe, 1)
    }

    /// Likewise.
    pub fn own_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, u16::from(self.vrf.own), u16::from(self.pe), 0, 0, 0, 0, 1)
    }
}

/// The hosts of a VRF.
pub fn hosts(vrf: Vrf) -> [Host; 3] {
    [1, 2, KERNEL_PE].map(|pe| Host { pe, vrf })
}

/// Ordered pairs of a VRF's hosts.
pub fn pairs(vrf: Vrf) -> Vec<(Host, Host)> {
    let hosts = hosts(vrf);
    hosts
        .iter()
        .flat_map(|from| hosts.iter().filter(move |to| *to != from).map(move |to| (*from, *to)))
        .collect()
}

/// The PE's network namespace in which its NICs start: the node's for ours.
pub fn pe_netns(pe: u8) -> String {
    match pe {
        KERNEL_PE => "kpe".into(),
        node => format!("n{node}"),
    }
}

/// A spine's network namespace.
pub fn spine_netns(spine: u8) -> String {
    format!("spine{spine}")
}

/// A PE's interface to a spine.
pub fn uplink(spine: u8) -> String {
    format!("toswitch{spine}")
}

/// A spine's interface to a PE.
pub fn downlink(pe: u8) -> String {
    format!("to-{}", pe_netns(pe))
}

/// The spine's AS.
pub fn spine_asn(spine: u8) -> u32 {
    64611 + u32::from(spine)
}

/// The PE's address on its link to a spine.
pub fn link_pe(pe: u8, spine: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 10 * spine + pe, 1)
}

/// The spine's address on its link to a PE.
pub fn link_spine(pe: u8, spine: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 10 * spine + pe, 254)
}

/// The same over IPv6: the PE's end.
pub fn link_pe_v6(pe: u8, spine: u8) -> Ipv6Addr {
    link_v6(pe, spine, 1)
}

/// And the spine's.
pub fn link_spine_v6(pe: u8, spine: u8) -> Ipv6Addr {
    link_v6(pe, spine, 0xfe)
}

fn link_v6(pe: u8, spine: u8, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x192, u16::from(10 * spine + pe), 0, 0, 0, 0, last)
}

/// A PE's VTEP.
pub fn vtep(pe: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 65, 0, pe)
}

/// Its VTEP for an IPv6 underlay.
pub fn vtep_v6(pe: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, u16::from(pe))
}

/// The PE's end of a host session, the same on every node.
pub fn session_pe(vrf: Vrf) -> [IpAddr; 2] {
    [Ipv4Addr::new(192, 169, vrf.session, 1).into(), session_v6(vrf, 1).into()]
}

/// The host's end: index + 2, as the PE has taken .1.
pub fn session_host(host: Host) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(192, 169, host.vrf.session, host.pe + 2).into(),
        session_v6(host.vrf, u16::from(host.pe) + 2).into(),
    ]
}

/// The PE's end of the host session in the default VRF.
pub const PASSTHROUGH_PE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 169, 20, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, 1)),
];

/// The host's end of it.
pub fn passthrough_host(pe: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(192, 169, 20, pe + 2).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, u16::from(pe) + 2).into(),
    ]
}

/// An address behind that host.
pub fn passthrough_own(pe: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 200 + pe, 0, 1).into(),
        Ipv6Addr::new(0xfd00, 0x200, u16::from(pe), 0, 0, 0, 0, 1).into(),
    ]
}

/// The prefixes of these addresses, CIDR text.
pub fn passthrough_prefix(pe: u8) -> [String; 2] {
    [format!("10.{}.0.0/24", 200 + pe), format!("fd00:200:{pe}::/64")]
}

fn session_v6(vrf: Vrf, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, u16::from(vrf.session), 0, 0, 0, 0, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_pair_of_a_vrf_is_named_once() {
        let all = pairs(RED);
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|(from, to)| from != to));
    }

    #[test]
    fn host_sessions_of_different_vrfs_do_not_overlap_and_tenants_do() {
        let [red, blue] = [RED, BLUE].map(|vrf| Host { pe: 1, vrf });
        assert_ne!(session_host(red), session_host(blue));
        assert_eq!(red.addresses(), blue.addresses());
        assert_ne!(red.own_v4(), blue.own_v4());
    }
}
