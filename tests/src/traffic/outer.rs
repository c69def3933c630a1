//! Outer headers of VXLAN as they are on the wire.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{IPV4, IPV6, ethertype};

/// The outer headers of a VXLAN packet, and what is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The sending VTEP.
    pub source: IpAddr,
    /// The receiving VTEP.
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// It is a fragment, or may become one on the way.
    pub fragile: bool,
    /// Names the flow.
    pub source_port: u16,
    /// Of UDP.
    pub checksum: u16,
    /// The network.
    pub vni: u32,
    /// The inner frame.
    pub inner: Vec<u8>,
}

impl Outer {
    /// Reads a frame, if it is VXLAN on port 4789. Later fragments have no UDP header and are not recognised.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        let (source, destination, tos, fragile, protocol, header) = match ethertype(frame)? {
            IPV4 => (
                IpAddr::from(Ipv4Addr::from(*packet.get(12..16)?.first_chunk::<4>()?)),
                IpAddr::from(Ipv4Addr::from(*packet.get(16..20)?.first_chunk::<4>()?)),
                packet[1],
                packet[6] & 0x40 == 0 || packet[6] & 0x3f != 0 || packet[7] != 0,
                packet[9],
                usize::from(packet[0] & 0xf) * 4,
            ),
            IPV6 => (
                IpAddr::from(Ipv6Addr::from(*packet.get(8..24)?.first_chunk::<16>()?)),
                IpAddr::from(Ipv6Addr::from(*packet.get(24..40)?.first_chunk::<16>()?)),
                packet[0] << 4 | packet[1] >> 4,
                packet[6] == 44,
                packet[6],
                40,
            ),
            _ => return None,
        };
        let udp = packet.get(header..)?;
        let half = |at: usize| Some(u16::from_be_bytes(*udp.get(at..at + 2)?.first_chunk::<2>()?));
        if protocol != 17 || half(2)? != 4789 {
            return None;
        }
        let vni = u32::from_be_bytes(*udp.get(12..16)?.first_chunk::<4>()?) >> 8;
        Some(Self {
            source,
            destination,
            tos,
            fragile,
            source_port: half(0)?,
            checksum: half(6)?,
            vni,
            inner: udp.get(16..)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{ethernet, udp4, vxlan};
    use super::*;

    #[test]
    fn a_vxlan_packet_is_read_and_others_are_not() {
        let vteps = [Ipv4Addr::new(100, 65, 0, 1), Ipv4Addr::new(100, 65, 0, 2)];
        let packet = udp4((vteps[0], 50_000), (vteps[1], 4789), 0xb8, &vxlan(110, b"inner"));
        let outer = Outer::read(&ethernet([2; 6], [4; 6], IPV4, &packet)).unwrap();
        assert_eq!((outer.source, outer.destination), (vteps[0].into(), vteps[1].into()));
        assert_eq!((outer.tos, outer.source_port, outer.vni, outer.fragile), (0xb8, 50_000, 110, false));
        assert_eq!(outer.inner, b"inner");
        let other = udp4((vteps[0], 50_000), (vteps[1], 53), 0, b"question");
        assert_eq!(Outer::read(&ethernet([2; 6], [4; 6], IPV4, &other)), None);
    }
}
