//! Cutting large frames into what they stand for.

use super::{Kind, MOST_DATAGRAMS, Offload, UDP_HEADER, VirtioHeader};
use crate::checksum;
use crate::headers::{ETHERNET, Family, IPV4, IPV6, TCP, UDP, be16, be32};

/// TCP's flags, in its byte 13.
pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const CWR: u8 = 0x80;

/// The longest frame of a train: its IP packet's length has 16 bits.
const LONGEST_TRAIN: usize = ETHERNET + u16::MAX as usize;

/// The packets that a large frame stands for.
///
/// It may have been put into a tunnel: what is in front of it then goes in front of each packet, with its lengths.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// All in front of the payload.
    headers: &'a [u8],
    payload: &'a [u8],
    kind: Kind,
    size: usize,
    /// Where the IP header of what is cut starts, and the transport header.
    l3: usize,
    l4: usize,
}

/// Packets of a large frame in a tunnel over UDP, as one frame that a kernel cuts: what they have in common in front, and
/// from the tunnel's own header on one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Train {
    /// For the kernel.
    pub virtio: VirtioHeader,
    /// Bytes of the frame.
    pub length: usize,
    /// How many packets.
    pub count: usize,
}

impl<'a> Segments<'a> {
    /// Of a large frame; nothing of another, or of one whose headers are not there any more.
    pub fn new(frame: &'a [u8], offload: Offload) -> Option<Self> {
        let large = offload.large?;
        let l4 = usize::from(offload.checksum_start);
        let l3 = l4.checked_sub(large.network.into())?;
        let (headers, payload) = frame.split_at_checked(offload.payload(large))?;
        let size = usize::from(large.size);
        let is_sound = l3 >= ETHERNET && size > 0 && !payload.is_empty();
        is_sound.then_some(Self { headers, payload, kind: large.kind, size, l3, l4 })
    }

    /// How many; at least 1.
    pub const fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size)
    }

    /// Bytes of the frame number `index`, from 0.
    pub fn length(&self, index: usize) -> usize {
        self.headers.len() + self.part(index).len()
    }

    /// Writes the frame number `index` into `out`, which has just its [length](Self::length).
    pub fn write(&self, index: usize, out: &mut [u8]) {
        self.write_behind(0, index, out);
    }

    /// Writes as many of the packets from number `first` on as fit into `out` as a [`Train`]. Nothing when these are not at
    /// least two, or they are in no tunnel over UDP.
    ///
    /// The kernel gives each the outer UDP checksum then, which RFC 7348 section 5 allows.
    pub fn train(&self, first: usize, out: &mut [u8]) -> Option<Train> {
        let front = self.tunnel()?;
        let each = self.length(first).checked_sub(front)?;
        let room = out.len().min(LONGEST_TRAIN).checked_sub(front)?;
        let count = (room / each).min(MOST_DATAGRAMS).min(self.count().saturating_sub(first));
        if count < 2 {
            return None;
        }
        let mut length = front;
        for index in first..first + count {
            let end = length + self.length(index) - front;
            self.write_behind(front, index, out.get_mut(length..end)?);
            length = end;
        }
        let headers = out.get_mut(..front)?;
        headers.copy_from_slice(self.headers.get(..front)?);
        self.outer(headers, length);
        let udp = front - UDP_HEADER;
        let addresses = match Family::of_ethertype(be16(headers, ETHERNET - 2)?)? {
            Family::V4 => headers.get(udp - 8..udp)?,
            Family::V6 => headers.get(udp - 32..udp)?,
        };
        let sum = checksum::pseudo(addresses, UDP, length - udp);
        put(headers, udp + usize::from(super::UDP_CHECKSUM), checksum::fold_wide(sum).into());
        #[expect(clippy::cast_possible_truncation, reason = "both are within a frame of 16-bit length")]
        Some(Train { virtio: VirtioHeader::of_datagrams(udp as u16, each as u16), length, count })
    }

    /// Length of what is in front of a tunnel's own header, if it is one over UDP: Ethernet, IP and UDP.
    fn tunnel(&self) -> Option<usize> {
        let (protocol, header) = match Family::of_ethertype(be16(self.headers, ETHERNET - 2)?)? {
            Family::V4 if self.headers.get(ETHERNET) == Some(&0x45) => {
                (self.headers.get(ETHERNET + 9)?, IPV4)
            }
            Family::V4 => return None,
            Family::V6 => (self.headers.get(ETHERNET + 6)?, IPV6),
        };
        let front = ETHERNET + header + UDP_HEADER;
        (*protocol == UDP && front < self.l3).then_some(front)
    }

    /// Writes a frame without the first `from` bytes of it, which lie in front of the headers that differ.
    fn write_behind(&self, from: usize, index: usize, out: &mut [u8]) {
        let part = self.part(index);
        let length = out.len();
        let Some(own) = self.headers.get(from..) else { return };
        let Some((headers, payload)) = out.split_at_mut_checked(own.len()) else { return };
        let (Some(l3), Some(l4)) = (self.l3.checked_sub(from), self.l4.checked_sub(from)) else { return };
        if payload.len() != part.len() {
            return;
        }
        headers.copy_from_slice(own);
        payload.copy_from_slice(part);
        if from == 0 {
            self.outer(headers, length);
        }
        let Some((front, transport)) = headers.split_at_mut_checked(l4) else { return };
        let Some(ip) = front.get_mut(l3..) else { return };
        if network(ip, length - l3, index).is_none() {
            return;
        }
        let transport_length = length - l4;
        match self.kind {
            Kind::TcpV4 | Kind::TcpV6 => self.tcp(transport, index),
            Kind::Udp => put(transport, 4, transport_length),
        }
        let (protocol, at) = match self.kind {
            Kind::TcpV4 | Kind::TcpV6 => (TCP, usize::from(super::TCP_CHECKSUM)),
            Kind::Udp => (UDP, usize::from(super::UDP_CHECKSUM)),
        };
        // The field has the sum of the whole's pseudo header, of which only the length differs (RFC 1624). The addresses in
        // front would not do: in the final destination's place a routing header has another.
        let Some(partial) = be16(transport, at) else { return };
        put(transport, at, 0);
        let sum = u64::from(partial)
            + u64::from(!self.transport_length())
            + transport_length as u64
            + u64::from(checksum::sum_wide(transport))
            + u64::from(checksum::sum_wide(payload));
        let sum = checksum::fold_wide(sum);
        put(transport, at, if protocol == UDP { checksum::transport(sum) } else { !sum }.into());
    }

    /// Bytes of the whole from its transport header on.
    const fn transport_length(&self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "part of an IP packet")]
        let length = (self.headers.len() + self.payload.len()).saturating_sub(self.l4) as u16;
        length
    }

    fn part(&self, index: usize) -> &'a [u8] {
        let start = index.saturating_mul(self.size).min(self.payload.len());
        let end = start.saturating_add(self.size).min(self.payload.len());
        self.payload.get(start..end).unwrap_or_default()
    }

    fn tcp(&self, header: &mut [u8], index: usize) {
        if let Some(sequence) = be32(header, 4) {
            // Payloads are shorter than 2^16.
            #[expect(clippy::cast_possible_truncation, reason = "see above")]
            let sequence = sequence.wrapping_add((index * self.size) as u32);
            header[4..8].copy_from_slice(&sequence.to_be_bytes());
        }
        if let Some(flags) = header.get_mut(13) {
            if index > 0 {
                // RFC 3168 section 6.1.2: once per window.
                *flags &= !CWR;
            }
            if index + 1 < self.count() {
                *flags &= !(FIN | PSH);
            }
        }
    }

    /// The lengths of the tunnel's headers, if it is in one; its UDP checksum is zero, as RFC 7348 section 5 has it.
    fn outer(&self, frame: &mut [u8], length: usize) {
        let Some(family) = be16(frame, ETHERNET - 2).and_then(Family::of_ethertype) else { return };
        let Some(outer) = frame.get_mut(ETHERNET..self.l3.min(frame.len())) else { return };
        let (protocol, header) = match family {
            Family::V4 if outer.len() >= IPV4 => (outer[9], IPV4),
            Family::V6 if outer.len() >= IPV6 => (outer[6], IPV6),
            _ => return,
        };
        match family {
            Family::V4 => total_length(outer, length - ETHERNET),
            Family::V6 => put(outer, 4, length - ETHERNET - IPV6),
        }
        if protocol == UDP {
            put(outer, header + 4, length - ETHERNET - header);
        }
    }
}

/// Gives an IP header its packet's length, and IPv4 its identification and checksum. Nothing when it is none.
fn network(ip: &mut [u8], length: usize, index: usize) -> Option<()> {
    match ip.first()? >> 4 {
        4 if ip.len() >= IPV4 => {
            #[expect(clippy::cast_possible_truncation, reason = "it wraps around")]
            let identification = be16(ip, 4)?.wrapping_add(index as u16);
            put(ip, 4, identification.into());
            total_length(ip, length);
            Some(())
        }
        6 if ip.len() >= IPV6 => {
            put(ip, 4, length - IPV6);
            Some(())
        }
        _ => None,
    }
}

/// Gives an IPv4 header, which has all of its options, its packet's length and the checksum.
fn total_length(ip: &mut [u8], length: usize) {
    put(ip, 2, length);
    put(ip, 10, 0);
    let header = (usize::from(ip[0] & 0xf) * 4).min(ip.len());
    let checksum = !checksum::sum_wide(&ip[..header]);
    put(ip, 10, checksum.into());
}

/// Writes a word of 16 bits, if there is such a place.
fn put(bytes: &mut [u8], at: usize, value: usize) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        #[expect(clippy::cast_possible_truncation, reason = "no frame is longer")]
        field.copy_from_slice(&(value as u16).to_be_bytes());
    }
}
