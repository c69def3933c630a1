//! Large frames: what a sender left to its device, checksums and segmentation, is done late, or not at all.
//!
//! A host's TAP hands over TCP and UDP in frames of up to 64 KiB that stand for many packets (generic segmentation
//! offload, GSO) and without a checksum. Such a frame goes through the engine as one packet; an [`Offload`] says what is
//! left to do. Out of a TAP it goes as it is, [the rest described](VirtioHeader) to the kernel; anywhere else it is
//! [cut](Segments) where it leaves. The other way round, packets of one flow that leave by a TAP are
//! [put together](Coalescer) (GRO).

mod coalesce;
mod segment;
mod virtio;

#[cfg(test)]
mod tests;

pub use coalesce::{Coalescer, Head, Run};
pub use segment::{Segments, Train};
pub use virtio::VirtioHeader;

use crate::checksum;
use crate::headers::{ETHERNET, Family, IPV4, IPV6, TCP, UDP, be16};

/// Where TCP and UDP have their checksum, bytes into their header.
const TCP_CHECKSUM: u8 = 16;
const UDP_CHECKSUM: u8 = 6;
/// TCP's and UDP's shortest header, bytes.
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// The least that the kernel lets TCP segment to (its `TCP_MIN_GSO_SIZE`), bytes.
const SMALLEST_SEGMENT: u16 = 8;
/// The most datagrams that the kernel puts into one frame (its `UDP_MAX_SEGMENTS`).
const MOST_DATAGRAMS: usize = 128;

/// What is left to do for a frame before it may be sent on a wire. Positions count from the frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Where what the checksum covers begins: the transport header. It goes to the frame's end.
    checksum_start: u16,
    /// Where the checksum is from there; it holds the sum of the pseudo header.
    checksum_offset: u8,
    large: Option<Large>,
}

/// What is to be known of a frame that stands for many packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Large {
    kind: Kind,
    /// Payload of every packet but the last, bytes; at least 1.
    size: u16,
    /// Length of the IP header with its extensions, bytes.
    network: u8,
    /// Length of the transport header, bytes.
    transport: u8,
}

/// How a large frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    TcpV4,
    TcpV6,
    Udp,
}

/// A frame that asks for what makes no sense, or for what was not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame from a host asks for a checksum or segmentation that does not fit its headers")]
pub struct BadOffload;

impl Offload {
    /// The word that [`from_word`](Self::from_word) understands, of a frame that starts `base` bytes into its buffer. It
    /// stays right while the frame grows and shrinks at its front.
    pub const fn to_word(self, base: usize) -> u64 {
        // A buffer has no more than 2^16 bytes.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let start = (self.checksum_start as usize + base) as u16;
        let (kind, size, network, transport) = match self.large {
            None => (0, 0, 0, 0),
            Some(large) => (large.kind as u8 + 1, large.size, large.network, large.transport),
        };
        start as u64
            | (size as u64) << 16
            | (self.checksum_offset as u64) << 32
            | (kind as u64) << 40
            | (network as u64) << 48
            | (transport as u64) << 56
    }

    /// What the word of a frame that starts `base` bytes into its buffer says. Nothing when the headers that it is about
    /// have been taken off.
    #[expect(clippy::cast_possible_truncation, reason = "each is as wide as its part of the word")]
    pub const fn from_word(word: u64, base: usize) -> Option<Self> {
        let Some(checksum_start) = (word as u16 as usize).checked_sub(base) else { return None };
        let kind = match (word >> 40) as u8 {
            0 => None,
            1 => Some(Kind::TcpV4),
            2 => Some(Kind::TcpV6),
            _ => Some(Kind::Udp),
        };
        let network = (word >> 48) as u8;
        let large = match kind {
            Some(_) if (network as usize) > checksum_start => return None,
            Some(kind) => {
                Some(Large { kind, size: (word >> 16) as u16, network, transport: (word >> 56) as u8 })
            }
            None => None,
        };
        Some(Self { checksum_start: checksum_start as u16, checksum_offset: (word >> 32) as u8, large })
    }

    /// Whether the frame stands for many packets.
    pub const fn is_large(self) -> bool {
        self.large.is_some()
    }

    /// Whether a kernel takes the frame with [what is left to do](VirtioHeader). It does not understand a large one in a
    /// tunnel, of which the IP header is not right behind the Ethernet header: to it the tunnel's UDP is what is to be cut.
    pub const fn may_stay_large(self) -> bool {
        match self.large {
            None => true,
            Some(large) => self.checksum_start as usize == ETHERNET + large.network as usize,
        }
    }

    /// Whether the frame stands for many UDP datagrams.
    pub const fn is_datagrams(self) -> bool {
        matches!(self.large, Some(Large { kind: Kind::Udp, .. }))
    }

    /// Length of the longest IP packet that a large frame is cut into, of which the IP header starts `l3` bytes into it.
    /// Nothing of a frame that is not large, or that has no such header there.
    pub fn segment_length(self, l3: usize) -> Option<usize> {
        let large = self.large?;
        let header = usize::from(self.checksum_start).checked_sub(l3)?;
        let all = header + usize::from(large.transport) + usize::from(large.size);
        (header == usize::from(large.network)).then_some(all)
    }

    /// How many packets a frame of `length` bytes stands for; 1 when it is not large.
    pub fn segments(self, length: usize) -> usize {
        match self.large {
            None => 1,
            Some(large) => {
                let payload = length.saturating_sub(self.payload(large));
                payload.div_ceil(usize::from(large.size).max(1)).max(1)
            }
        }
    }

    /// The bytes of all packets together that a frame of `length` bytes stands for.
    pub fn bytes(self, length: usize) -> usize {
        let more = self.segments(length) - 1;
        length + self.large.map_or(0, |large| more * self.payload(large))
    }

    /// Completes the checksum of a frame that is not large. One whose headers are not where they were stays as it is.
    pub fn complete(self, frame: &mut [u8]) {
        let start = usize::from(self.checksum_start);
        let Some(covered) = frame.get_mut(start..) else { return };
        let sum = checksum::sum_wide(covered);
        let at = usize::from(self.checksum_offset);
        if let Some(field) = covered.get_mut(at..at + 2) {
            field.copy_from_slice(&checksum::transport(sum).to_be_bytes());
        }
    }

    /// Where the payload of a large frame begins.
    fn payload(self, large: Large) -> usize {
        usize::from(self.checksum_start) + usize::from(large.transport)
    }

    /// A frame that is not large, with its checksum's place looked at.
    fn plain(start: u16, offset: u16, frame: &[u8]) -> Result<Self, BadOffload> {
        let fits = usize::from(start) + usize::from(offset) + 2 <= frame.len();
        let checksum_offset = u8::try_from(offset).map_err(|_| BadOffload)?;
        if !fits || usize::from(start) < ETHERNET {
            return Err(BadOffload);
        }
        Ok(Self { checksum_start: start, checksum_offset, large: None })
    }

    /// A large one, with its headers looked at.
    fn large(self, kind: Kind, size: u16, frame: &[u8]) -> Result<Self, BadOffload> {
        let start = usize::from(self.checksum_start);
        let (l3, family) = network_header(frame).ok_or(BadOffload)?;
        let network = start.checked_sub(l3).ok_or(BadOffload)?;
        let (protocol, offset) = match kind {
            Kind::TcpV4 | Kind::TcpV6 => (TCP, TCP_CHECKSUM),
            Kind::Udp => (UDP, UDP_CHECKSUM),
        };
        let right_family = match kind {
            Kind::TcpV4 => family == Family::V4,
            Kind::TcpV6 => family == Family::V6,
            Kind::Udp => true,
        };
        let packet = frame.get(l3..).ok_or(BadOffload)?;
        let is_there = match family {
            Family::V4 => is_v4(packet, network, protocol),
            Family::V6 => is_v6(packet, network, protocol),
        };
        let transport = match kind {
            Kind::Udp => UDP_HEADER,
            Kind::TcpV4 | Kind::TcpV6 => usize::from(frame.get(start + 12).ok_or(BadOffload)? >> 4) * 4,
        };
        let smallest = if kind == Kind::Udp { UDP_HEADER } else { TCP_HEADER };
        let payload = frame.len().checked_sub(start + transport).ok_or(BadOffload)?;
        let least = if kind == Kind::Udp { 1 } else { SMALLEST_SEGMENT };
        if !(right_family
            && is_there
            && self.checksum_offset == offset
            && transport >= smallest
            && size >= least)
            || (kind == Kind::Udp && payload.div_ceil(size.into()) > MOST_DATAGRAMS)
        {
            return Err(BadOffload);
        }
        // Nothing to cut.
        if payload == 0 {
            return Ok(self);
        }
        let narrow = |length| u8::try_from(length).map_err(|_| BadOffload);
        let large = Large { kind, size, network: narrow(network)?, transport: narrow(transport)? };
        Ok(Self { large: Some(large), ..self })
    }
}

/// Where a frame's IP header starts, behind tags if there are any, and whose it is.
fn network_header(frame: &[u8]) -> Option<(usize, Family)> {
    const VLAN: u16 = 0x8100;
    const QINQ: u16 = 0x88a8;
    let mut at = ETHERNET - 2;
    for _ in 0..3 {
        match be16(frame, at)? {
            VLAN | QINQ => at += 4,
            ethertype => return Some((at + 2, Family::of_ethertype(ethertype)?)),
        }
    }
    None
}

/// Whether an IPv4 packet that fills `packet` has a header of `length` bytes, followed by the start of `protocol`.
fn is_v4(packet: &[u8], length: usize, protocol: u8) -> bool {
    let Some(header) = packet.first_chunk::<IPV4>() else { return false };
    header[0] >> 4 == 4
        && length >= IPV4
        && usize::from(header[0] & 0xf) * 4 == length
        && usize::from(u16::from_be_bytes([header[2], header[3]])) == packet.len()
        && header[6] & 0x3f == 0
        && header[7] == 0
        && header[9] == protocol
}

/// The same of IPv6 with its extension headers.
fn is_v6(packet: &[u8], length: usize, protocol: u8) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let Some(header) = packet.first_chunk::<IPV6>() else { return false };
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || payload + IPV6 != packet.len() {
        return false;
    }
    let (mut next, mut at) = (header[6], IPV6);
    while at < length && matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
        let Some(&[following, units]) = packet.get(at..).and_then(<[u8]>::first_chunk) else { return false };
        next = following;
        at += (usize::from(units) + 1) * 8;
    }
    at == length && next == protocol
}
