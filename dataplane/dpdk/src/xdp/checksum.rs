//! Checksums that a sender on the same machine has left to its interface.
//!
//! Between veths, TAPs or macvlans the kernel passes a TCP or UDP packet with only the sum of the pseudo header in its checksum field
//! (`CHECKSUM_PARTIAL`) and a note beside the packet, which XDP does not hand on (and DPDK's packet-socket driver neither). Such a
//! packet can be told all the same: its field has exactly that sum, and its checksum is wrong. A packet whose checksum is right has
//! that value once in 65 536, and then the whole sum says so. What came over a real link is complete, or was damaged there and
//! has that value by chance, once in 65 536 damaged ones.

use std::sync::atomic::{AtomicU64, Ordering};

const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
const VXLAN: usize = 8;
const UDP_HEADER: usize = 8;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// IANA's port of VXLAN, RFC 7348 section 5.
const VXLAN_PORT: u16 = 4789;
/// The most ports of VXLAN that are known.
const MOST_PORTS: usize = 4;

/// VXLAN's UDP ports, of 16 bits each. One set per process, as of a node's VXLAN devices.
static VXLAN_PORTS: AtomicU64 = AtomicU64::new(packed([VXLAN_PORT; MOST_PORTS]));

/// Says by which UDP ports VXLAN comes, of which the first four count; IANA's takes the place of any that are missing. Inside VXLAN
/// the checksums of received packets are completed too, where a sender on this machine has left them to its interface.
pub fn set_vxlan_ports(ports: impl IntoIterator<Item = u16>) {
    let mut all = [VXLAN_PORT; MOST_PORTS];
    for (held, port) in all.iter_mut().zip(ports) {
        *held = port;
    }
    VXLAN_PORTS.store(packed(all), Ordering::Relaxed);
}

const fn packed([a, b, c, d]: [u16; MOST_PORTS]) -> u64 {
    a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
}

/// Whether `port` is one of those packed.
fn is_among(ports: u64, port: u16) -> bool {
    (0..MOST_PORTS).any(|place| (ports >> (16 * place)) & 0xffff == u64::from(port))
}

/// Completes the checksum of the TCP or UDP packet in a frame, where it is to be completed: of the innermost one in VXLAN. Others are left
/// as they are: fragments, extension headers of IPv6 and what is cut short have no partial checksums.
#[inline]
pub(crate) fn complete(frame: &mut [u8]) {
    complete_inside(frame, Some(VXLAN_PORTS.load(Ordering::Relaxed)));
}

/// With VXLAN's ports, where it may come.
fn complete_inside(frame: &mut [u8], vxlan: Option<u64>) {
    let Some(segment) = Segment::find(frame) else { return };
    let Some(payload) = frame.get_mut(segment.start..segment.end) else { return };
    if segment.protocol == UDP
        && let Some(ports) = vxlan
        && word(payload, 2).is_some_and(|port| is_among(ports, port))
        && let Some(inner) = payload.get_mut(UDP_HEADER + VXLAN..)
    {
        // First: the outer checksum is none (RFC 7348), or the inner one is incomplete and the outer counts it as if complete
        // (LCO), or the outer one is incomplete.
        complete_inside(inner, None);
    }
    let at = if segment.protocol == TCP { 16 } else { 6 };
    if word(payload, at) != Some(segment.pseudo_sum) || segment.protocol == UDP && segment.pseudo_sum == 0 {
        return;
    }
    // The field stands for the pseudo header, so this is the sum over all but the checksum.
    let sum = fold(sum_of(payload));
    // A right checksum makes the sum of pseudo header and packet all ones (RFC 1071).
    if fold(u64::from(sum) + u64::from(segment.pseudo_sum)) == 0xffff {
        return;
    }
    // RFC 768: zero would mean none.
    let checksum = if sum == 0xffff { 0xffff } else { !sum };
    if let Some(field) = payload.get_mut(at..at + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A TCP or UDP packet in a frame.
struct Segment {
    start: usize,
    end: usize,
    protocol: u8,
    /// Of its pseudo header, folded.
    pseudo_sum: u16,
}

impl Segment {
    #[inline]
    fn find(frame: &[u8]) -> Option<Self> {
        let mut start = ETHERNET;
        let mut kind = word(frame, 12)?;
        if kind == 0x8100 || kind == 0x88a8 {
            kind = word(frame, start + 2)?;
            start += VLAN_TAG;
        }
        match kind {
            0x0800 => Self::in_ipv4(frame, start),
            0x86dd => Self::in_ipv6(frame, start),
            _ => None,
        }
    }

    fn in_ipv4(frame: &[u8], start: usize) -> Option<Self> {
        let header = frame.get(start..start + 20)?;
        let length = usize::from(header[0] & 0xf) * 4;
        let fragment = word(header, 6)? & 0x3fff != 0;
        if header[0] >> 4 != 4 || length < 20 || fragment {
            return None;
        }
        let total = usize::from(word(header, 2)?);
        Self::with(frame, start + length, start + total, header[9], sum_of(&header[12..20]))
    }

    fn in_ipv6(frame: &[u8], start: usize) -> Option<Self> {
        let header = frame.get(start..start + 40)?;
        let first = start + 40;
        Self::with(frame, first, first + usize::from(word(header, 4)?), header[6], sum_of(&header[8..40]))
    }

    #[inline]
    fn with(frame: &[u8], start: usize, end: usize, protocol: u8, addresses: u64) -> Option<Self> {
        let known = protocol == TCP || protocol == UDP;
        let length = end.checked_sub(start)?;
        if !known || end > frame.len() {
            return None;
        }
        let pseudo_sum = fold(addresses + u64::from(protocol) + length as u64);
        Some(Self { start, end, protocol, pseudo_sum })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The sum of 16-bit words, RFC 1071, not folded.
fn sum_of(bytes: &[u8]) -> u64 {
    // Words of 32 bits, whose halves folding adds up.
    let mut words = bytes.chunks_exact(4);
    let sum: u64 =
        words.by_ref().map(|word| u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))).sum();
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

/// Adds up the 16-bit words of a sum until one is left.
fn fold(sum: u64) -> u16 {
    let mut sum = (sum & 0xffff_ffff) + (sum >> 32);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the loop has left 16 bits")]
    let folded = sum as u16;
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The checksum of bytes, word by word.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    fn short(length: usize) -> [u8; 2] {
        u16::try_from(length).unwrap().to_be_bytes()
    }

    #[derive(Debug, Clone)]
    struct Packet {
        v6: bool,
        tcp: bool,
        tag: bool,
        addresses: [u8; 32],
        payload: Vec<u8>,
    }

    impl Packet {
        fn pseudo(&self, length: usize) -> Vec<u8> {
            let addresses = if self.v6 { &self.addresses[..] } else { &self.addresses[..8] };
            let protocol = if self.tcp { TCP } else { UDP };
            [addresses, &[0, 0], &short(length), &[0, 0, 0, protocol]].concat()
        }

        /// With a complete checksum, or the sum of the pseudo header in its place.
        fn frame(&self, complete: bool) -> Vec<u8> {
            let header = if self.tcp { 20 } else { 8 };
            let mut segment = vec![0x11; header];
            segment.extend(&self.payload);
            let at = if self.tcp { 16 } else { 6 };
            segment[at..at + 2].fill(0);
            let pseudo = self.pseudo(segment.len());
            let field = if complete {
                let sum = slow(&[&pseudo[..], &segment].concat());
                if sum == 0xffff { 0xffff } else { !sum }
            } else {
                slow(&pseudo)
            };
            segment[at..at + 2].copy_from_slice(&field.to_be_bytes());
            let protocol = if self.tcp { TCP } else { UDP };
            let mut frame = vec![2; 12];
            if self.tag {
                frame.extend([0x81, 0, 0, 7]);
            }
            if self.v6 {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(short(segment.len()));
                frame.extend([protocol, 64]);
                frame.extend(self.addresses);
            } else {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend(short(20 + segment.len()));
                frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend(&self.addresses[..8]);
            }
            frame.extend(segment);
            // Ethernet's padding does not count.
            frame.extend([0xee; 3]);
            frame
        }
    }

    fn packets() -> impl Strategy<Value = Packet> {
        let payload = proptest::collection::vec(any::<u8>(), 0..200);
        (any::<(bool, bool, bool)>(), any::<[u8; 32]>(), payload)
            .prop_map(|((v6, tcp, tag), addresses, payload)| Packet { v6, tcp, tag, addresses, payload })
    }

    fn in_vxlan(inner: &[u8], port: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let length = 8 + 8 + inner.len();
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(short(20 + length));
        frame.extend([0, 0, 0, 0, 64, UDP, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        frame.extend([0xc0, 1]);
        frame.extend(port.to_be_bytes());
        frame.extend(short(length));
        frame.extend([0, 0, 8, 0, 0, 0, 0, 0, 1, 0]);
        frame.extend(inner);
        frame
    }

    proptest! {
        #[test]
        fn partial_ones_are_completed_and_complete_ones_left(packet in packets(), tunnel in any::<bool>()) {
            let wrap = |frame: Vec<u8>| if tunnel { in_vxlan(&frame, VXLAN_PORT) } else { frame };
            let wanted = wrap(packet.frame(true));
            let mut partial = wrap(packet.frame(false));
            complete(&mut partial);
            prop_assert_eq!(&partial, &wanted);
            complete(&mut partial);
            prop_assert_eq!(&partial, &wanted);
        }

        #[test]
        fn vxlan_comes_by_the_ports_that_are_said(
            packet in packets(),
            ports in any::<[u16; MOST_PORTS]>(),
            other in any::<u16>(),
        ) {
            for port in ports.into_iter().chain([other]) {
                let [partial, whole] = [false, true].map(|complete| in_vxlan(&packet.frame(complete), port));
                let mut frame = partial.clone();
                complete_inside(&mut frame, Some(packed(ports)));
                prop_assert_eq!(frame, if ports.contains(&port) { whole } else { partial });
            }
        }

        #[test]
        fn a_wrong_checksum_stays_wrong(packet in packets(), error in 1_u16..) {
            let mut frame = packet.frame(true);
            let at = frame.len() - 3 - packet.payload.len() - if packet.tcp { 4 } else { 2 };
            let wrong = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(error);
            frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
            let mut after = frame.clone();
            complete(&mut after);
            // The one wrong value that means something.
            let pseudo = slow(&packet.pseudo(packet.payload.len() + if packet.tcp { 20 } else { 8 }));
            prop_assert_eq!(after == frame, wrong != pseudo);
        }

        #[test]
        fn anything_may_come(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_usize..3) {
            let kinds: [&[u8]; 3] = [&[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x81, 0]];
            if let Some(place) = bytes.get_mut(12..12 + kinds[kind].len()) {
                place.copy_from_slice(kinds[kind]);
            }
            complete(&mut bytes);
        }
    }
}
