//! Who is where in the bridge domains.
//!
//! L2VNI 110 is 192.171.24.0/24 and fd00:10:245:1::/64, 120 is 192.171.25.0/24 and fd00:10:245:2::/64, both routed in VRF red by an
//! anycast gateway .1 and ::1; 130 is 192.171.26.0/24 and fd00:10:245:3::/64 without a router. Station number i behind PE p ends in
//! the digits p and i: .11 and ::11 are the first one of n1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::plan::{KERNEL_PE, RED, Vrf, pe_netns};
use super::ovs;
use crate::traffic::packet::Mac;

/// The largest IP packet that VXLAN over IPv4 carries on an underlay of 1500 bytes.
pub const MTU: usize = 1450;
/// The same over IPv6.
pub const MTU_OVER_V6: usize = 1430;

/// A bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Vni {
    /// The object's name.
    pub name: &'static str,
    /// Its number on the wire.
    pub vni: u32,
    /// The VRF that routes for it.
    pub vrf: Option<Vrf>,
    /// The subnets' number, from 1 on.
    pub subnet: u8,
    /// How many stations there are behind each of n1, n2 and kpe.
    pub stations: [u8; 3],
    /// The MTU of its stations, bytes: what its VTEPs carry.
    pub mtu: usize,
}

/// The first of two that VRF red routes between.
pub const FRONT: L2Vni =
    L2Vni { name: "front", vni: 110, vrf: Some(RED), subnet: 1, stations: [2, 2, 1], mtu: MTU };
/// The second.
pub const BACK: L2Vni =
    L2Vni { name: "back", vni: 120, vrf: Some(RED), subnet: 2, stations: [1, 1, 1], mtu: MTU };
/// One that nobody routes for.
pub const ISLAND: L2Vni =
    L2Vni { name: "island", vni: 130, vrf: None, subnet: 3, stations: [1, 1, 1], mtu: MTU };
/// Those of the standing lab.
pub const L2VNIS: [L2Vni; 3] = [FRONT, BACK, ISLAND];

impl L2Vni {
    /// The router's address in it, were there a router.
    pub fn gateway_v4(self) -> Ipv4Addr {
        self.v4(1)
    }

    /// Likewise.
    pub fn gateway_v6(self) -> Ipv6Addr {
        self.v6(1)
    }

    /// Both.
    pub fn gateways(self) -> [IpAddr; 2] {
        [self.gateway_v4().into(), self.gateway_v6().into()]
    }

    /// The router's MAC, the same on all PEs: 00:f3 and the VNI plus one.
    pub fn gateway_mac(self) -> Mac {
        let [a, b, c, d] = (self.vni + 1).to_be_bytes();
        [0, 0xf3, a, b, c, d]
    }

    /// An address of its IPv4 subnet.
    pub fn v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 171, 23 + self.subnet, host)
    }

    /// An address of its IPv6 subnet.
    pub fn v6(self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0x245, u16::from(self.subnet), 0, 0, 0, host)
    }

    /// A station.
    pub fn station(self, pe: u8, number: u8) -> Station {
        Station { pe, l2vni: self, number }
    }

    /// All of its stations in the standing lab.
    pub fn all_stations(self) -> Vec<Station> {
        [1, 2, KERNEL_PE]
            .into_iter()
            .zip(self.stations)
            .flat_map(|(pe, count)| (1..=count).map(move |number| self.station(pe, number)))
            .collect()
    }

    /// How the host's side is attached on a node of ours.
    pub fn attachment(self, pe: u8) -> Attachment {
        let managed = format!("br-hs-{}", self.vni);
        match (self.vni, pe) {
            (110, 2) if ovs::is_there() => Attachment::Ovs(managed),
            (110, 2) => Attachment::External("br-front".into()),
            (120, 2) => Attachment::External("br-tenant".into()),
            (130, 1) => Attachment::Bare,
            _ => Attachment::Managed(managed),
        }
    }
}

/// What the host does with its end of an L2VNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A Linux bridge that we make.
    Managed(String),
    /// A Linux bridge that is there already.
    External(String),
    /// A bridge of Open vSwitch that we make.
    Ovs(String),
    /// Nothing: somebody moves the interface into a workload's namespace.
    Bare,
}

/// A host in a bridge domain: a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The PE it is behind.
    pub pe: u8,
    /// Its bridge domain.
    pub l2vni: L2Vni,
    /// Which of those there.
    pub number: u8,
}

impl Station {
    /// Its network namespace.
    pub fn name(self) -> String {
        format!("{}-{}-{}", pe_netns(self.pe), self.l2vni.vni, self.number)
    }

    /// Its interface.
    pub fn device(self) -> String {
        if self.pe != KERNEL_PE && self.l2vni.attachment(self.pe) == Attachment::Bare {
            return host_end(self.l2vni.vni);
        }
        "eth0".into()
    }

    /// The PE's end of its link, or the node's.
    pub fn port(self) -> String {
        format!("s-{}-{}", self.l2vni.vni, self.number)
    }

    fn host(self) -> u8 {
        10 * self.pe + self.number
    }

    /// Its address.
    pub fn v4(self) -> Ipv4Addr {
        self.l2vni.v4(self.host())
    }

    /// Likewise, with the same digits.
    pub fn v6(self) -> Ipv6Addr {
        self.l2vni.v6(0x10 * u16::from(self.pe) + u16::from(self.number))
    }

    /// Both.
    pub fn addresses(self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    /// Its own address of the family of `other`.
    pub fn like(self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4().into() } else { self.v6().into() }
    }

    /// Its MAC.
    pub fn mac(self) -> Mac {
        let [.., high, low] = self.l2vni.vni.to_be_bytes();
        [2, high, low, 0, self.pe, self.number]
    }
}

/// The host's end of an L2VNI.
pub fn host_end(vni: u32) -> String {
    format!("host-e-{vni}")
}

/// Ordered pairs of an L2VNI's stations on different PEs, and those on the same.
pub fn pairs(l2vni: L2Vni) -> Vec<(Station, Station)> {
    let all = l2vni.all_stations();
    all.iter().flat_map(|from| all.iter().filter(move |to| *to != from).map(move |to| (*from, *to))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_macs_are_those_of_a_mixed_cluster() {
        assert_eq!(FRONT.gateway_mac(), [0x00, 0xf3, 0x00, 0x00, 0x00, 0x6f]);
    }

    #[test]
    fn stations_differ_in_name_mac_and_addresses() {
        let all: Vec<Station> = L2VNIS.into_iter().flat_map(L2Vni::all_stations).collect();
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(one.name(), other.name());
                assert_ne!(one.mac(), other.mac());
                assert!(one.addresses().iter().all(|address| !other.addresses().contains(address)));
            }
        }
        assert_eq!(FRONT.station(1, 1).v6().to_string(), "fd00:10:245:1::11");
    }
}
