//! The short way to see that a packet is an ordinary one.
//!
//! What these functions accept, [`IpView`](crate::headers::IpView) accepts with the same fields: no options, whole, with a
//! right checksum, between unicast addresses that are routed. Whatever else there is, and a few ordinary packets besides, is
//! for the long way to name; that decision costs one branch here.

use crate::checksum;
use crate::headers::{ETHERNET, IPV4, IPV6, UDP};

/// An ordinary IP packet's fields.
#[derive(Clone, Copy)]
pub(super) struct Ordinary<A> {
    pub(super) source: A,
    pub(super) destination: A,
    /// Header and payload, bytes.
    pub(super) length: u16,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    pub(super) is_udp: bool,
    /// Of IPv4.
    pub(super) is_fragment: bool,
}

/// EtherType and the first header byte of IPv4 without options, in the order of the wire.
const IPV4_PLAIN: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
/// EtherType and version of IPv6, likewise.
const IPV6_PLAIN: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);
const MAC: u64 = (1 << 48) - 1;

/// What stands where an Ethernet header should: the destination, and the four bytes from the EtherType on.
#[derive(Clone, Copy)]
pub(super) struct Start {
    destination: u64,
    kind: u32,
}

/// A MAC as a little-endian number, as [`Start`] has it.
#[inline(always)]
pub(super) const fn wire_mac(bits: u64) -> u64 {
    bits.swap_bytes() >> 16
}

impl Start {
    /// Of at least 16 bytes.
    #[inline(always)]
    pub(super) fn new(frame: &[u8; ETHERNET + 2]) -> Self {
        Self { destination: word(frame, 0) & MAC, kind: half(frame, 12) }
    }

    /// Whether the destination is `mac`, as [`wire_mac`] has it.
    #[inline(always)]
    pub(super) const fn is_to(self, mac: u64) -> bool {
        self.destination == mac
    }

    #[inline(always)]
    pub(super) const fn is_ipv4(self) -> bool {
        self.kind & 0x00ff_ffff == IPV4_PLAIN
    }

    #[inline(always)]
    pub(super) const fn is_ipv6(self) -> bool {
        self.kind & 0x00f0_ffff == IPV6_PLAIN
    }
}

/// A packet whose first byte is 0x45.
#[inline(always)]
pub(super) fn v4(packet: &[u8]) -> Option<Ordinary<u32>> {
    let header: &[u8; IPV4] = packet.first_chunk()?;
    let (first, second, third) = (word(header, 0), word(header, 8), half(header, 16));
    let sum =
        (first & 0xffff_ffff) + (first >> 32) + (second & 0xffff_ffff) + (second >> 32) + u64::from(third);
    let length = low16(first >> 16).swap_bytes();
    let (source, destination) = ((second >> 32) as u32, third);
    let fits = usize::from(length) <= packet.len() && usize::from(length) >= IPV4;
    // In the order of the wire the first octet is the lowest byte.
    let special = SPECIAL_V4[(source & 0xff) as usize] | SPECIAL_V4[(destination & 0xff) as usize];
    (fits && checksum::is_zero(sum) && !special).then(|| Ordinary {
        source: source.swap_bytes(),
        destination: destination.swap_bytes(),
        length,
        #[expect(clippy::cast_possible_truncation, reason = "the byte meant")]
        tos: (first >> 8) as u8,
        #[expect(clippy::cast_possible_truncation, reason = "the byte meant")]
        ttl: second as u8,
        is_udp: second >> 8 & 0xff == UDP.into(),
        // The more-fragments flag, or an offset.
        is_fragment: first >> 48 & 0xff3f != 0,
    })
}

/// A packet whose first four bits are 6.
#[inline(always)]
pub(super) fn v6(packet: &[u8]) -> Option<Ordinary<u128>> {
    let header: &[u8; IPV6] = packet.first_chunk()?;
    let first = word(header, 0);
    let payload = low16(first >> 32).swap_bytes();
    let next_header = first >> 48 & 0xff;
    let length = usize::from(payload) + IPV6;
    // The first byte of ::/8, which has the special addresses among ordinary ones, and of fe80::/10 and ff00::/8.
    let special = |byte: u8| byte.wrapping_sub(1) >= 0xfd;
    if length > packet.len() || next_header == 0 || special(header[8]) || special(header[24]) {
        return None;
    }
    let address = |at: usize| {
        u128::from(word(header, at).swap_bytes()) << 64 | u128::from(word(header, at + 8).swap_bytes())
    };
    Some(Ordinary {
        source: address(8),
        destination: address(24),
        length: u16::try_from(length).ok()?,
        tos: header[0] << 4 | header[1] >> 4,
        ttl: header[7],
        is_udp: next_header == UDP.into(),
        is_fragment: false,
    })
}

/// By first octet: whether an address may be none that is routed. 169 has others, too.
static SPECIAL_V4: [bool; 256] = {
    let mut special = [false; 256];
    let mut octet = 224;
    while octet < 256 {
        special[octet] = true;
        octet += 1;
    }
    special[0] = true;
    special[127] = true;
    special[169] = true;
    special
};

/// Eight bytes, the first lowermost.
#[inline(always)]
pub(super) fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Four.
#[inline(always)]
pub(super) fn half<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[expect(clippy::cast_possible_truncation, reason = "the bits meant")]
#[inline(always)]
const fn low16(word: u64) -> u16 {
    word as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::headers::{Family, IpView};

    /// Mostly right headers, with a byte or two changed.
    fn packets(v4: bool) -> impl Strategy<Value = Vec<u8>> {
        let size = 0..120_usize;
        (
            prop::collection::vec(any::<u8>(), 160),
            size,
            prop::collection::vec((0..48_usize, any::<u8>()), 0..3),
            any::<bool>(),
        )
            .prop_map(move |(mut bytes, payload, changes, right)| {
                let header = if v4 { IPV4 } else { IPV6 };
                bytes.truncate(header + payload);
                if v4 {
                    bytes[0] = 0x45;
                    bytes[2..4].copy_from_slice(&u16::try_from(IPV4 + payload).unwrap().to_be_bytes());
                } else {
                    bytes[0] = 0x60 | bytes[0] & 0xf;
                    bytes[4..6].copy_from_slice(&u16::try_from(payload).unwrap().to_be_bytes());
                }
                for (at, value) in changes {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value;
                    }
                }
                if v4 && right {
                    bytes[10..12].fill(0);
                    let sum = !checksum::fold(checksum::sum(&bytes[..IPV4]));
                    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
                }
                bytes
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_ordinary_here_is_a_packet_there(packet in packets(true)) {
            let Some(ip) = (if packet[0] == 0x45 { v4(&packet) } else { None }) else { return Ok(()) };
            let view = IpView::new(Family::V4, &packet).unwrap();
            prop_assert_eq!((u128::from(ip.source), u128::from(ip.destination)), (view.source, view.destination));
            prop_assert_eq!((ip.length, ip.tos, ip.ttl), (view.length, view.tos, view.ttl));
            prop_assert_eq!(ip.is_udp, view.transport.protocol == UDP);
            prop_assert_eq!(ip.is_fragment, view.transport.fragment);
        }

        #[test]
        fn likewise_of_ipv6(packet in packets(false)) {
            let Some(ip) = (if packet[0] >> 4 == 6 { v6(&packet) } else { None }) else { return Ok(()) };
            let view = IpView::new(Family::V6, &packet).unwrap();
            prop_assert_eq!((ip.source, ip.destination), (view.source, view.destination));
            prop_assert_eq!((ip.length, ip.tos, ip.ttl), (view.length, view.tos, view.ttl));
            prop_assert_eq!(ip.is_udp, view.transport.protocol == UDP);
            prop_assert_eq!(ip.is_fragment, false);
        }
    }

    /// Otherwise the test above would be about nothing.
    #[test]
    fn ordinary_packets_are_ordinary() {
        let mut packet = [0x45, 0, 0, 20, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let sum = !checksum::fold(checksum::sum(&packet));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        assert!(v4(&packet).is_some_and(|ip| ip.is_udp && !ip.is_fragment && ip.destination == 0x0a00_0002));
        let mut packet = [0; 40];
        (packet[0], packet[6], packet[7], packet[8], packet[24]) = (0x60, 17, 64, 0x20, 0xfd);
        assert!(v6(&packet).is_some_and(|ip| ip.is_udp && ip.length == 40));
    }
}
