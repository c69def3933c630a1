//! ARP for IPv4 over Ethernet (RFC 826).

use super::{ETHERNET, ETHERTYPE_ARP, be16, be32};
use crate::types::Mac;

/// Hardware and protocol types and lengths: Ethernet, IPv4, 6, 4.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP: usize = 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArpView {
    pub(crate) is_request: bool,
    /// As [`Mac::bits`] has it.
    pub(crate) sender_mac: u64,
    pub(crate) sender: u32,
    pub(crate) target: u32,
}

impl ArpView {
    /// From what follows the Ethernet header; `None` when it is not a request or reply of this kind.
    pub(crate) fn new(packet: &[u8]) -> Option<Self> {
        if packet.get(..6)? != FIXED {
            return None;
        }
        let operation = be16(packet, 6)?;
        if !matches!(operation, REQUEST | REPLY) {
            return None;
        }
        Some(Self {
            is_request: operation == REQUEST,
            sender_mac: u64::from(be16(packet, 8)?) << 32 | u64::from(be32(packet, 10)?),
            sender: be32(packet, 14)?,
            target: be32(packet, 24)?,
        })
    }
}

/// Makes a request its own answer: `mac` has the address that was asked for. False, and nothing changed, when the frame is
/// too short.
pub(crate) fn answer(frame: &mut [u8], mac: Mac) -> bool {
    let Some(frame) = frame.first_chunk_mut::<{ ETHERNET + ARP }>() else { return false };
    let (ethernet, arp) = frame.split_at_mut(ETHERNET);
    let asker: [u8; 10] = std::array::from_fn(|i| arp[8 + i]);
    let asked: [u8; 4] = std::array::from_fn(|i| arp[24 + i]);
    ethernet[..6].copy_from_slice(&asker[..6]);
    ethernet[6..12].copy_from_slice(&mac.octets());
    arp[6..8].copy_from_slice(&REPLY.to_be_bytes());
    arp[8..14].copy_from_slice(&mac.octets());
    arp[14..18].copy_from_slice(&asked);
    arp[18..28].copy_from_slice(&asker);
    true
}

/// A request to one station, which is asked whether it still has `target`. From 0.0.0.0 it is a probe (RFC 5227 section 2.1.1).
pub(crate) fn request(from: Mac, source: u32, to: Mac, target: u32) -> Vec<u8> {
    let mut frame = Vec::with_capacity(60);
    frame.extend(to.octets());
    frame.extend(from.octets());
    frame.extend(ETHERTYPE_ARP.to_be_bytes());
    frame.extend(FIXED);
    frame.extend(REQUEST.to_be_bytes());
    frame.extend(from.octets());
    frame.extend(source.to_be_bytes());
    frame.extend([0; 6]);
    frame.extend(target.to_be_bytes());
    frame.resize(60, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_request_becomes_its_answer() {
        let mut frame = request(HOST, 0x0a00_0001, Mac::new([0xff; 6]), 0x0a00_0002);
        let view = ArpView::new(&frame[ETHERNET..]).unwrap();
        let expected =
            ArpView { is_request: true, sender_mac: HOST.bits(), sender: 0x0a00_0001, target: 0x0a00_0002 };
        assert_eq!(view, expected);
        assert!(answer(&mut frame, OTHER));
        let view = ArpView::new(&frame[ETHERNET..]).unwrap();
        let expected =
            ArpView { is_request: false, sender_mac: OTHER.bits(), sender: 0x0a00_0002, target: 0x0a00_0001 };
        assert_eq!(view, expected);
        assert_eq!(frame[..6], HOST.octets());
        assert_eq!(frame[6..12], OTHER.octets());
        assert_eq!(frame[ETHERNET + 18..ETHERNET + 24], HOST.octets());
    }

    #[test]
    fn nothing_else_is_one() {
        let frame = request(HOST, 1, OTHER, 2);
        for (at, value) in [(1, 6), (3, 1), (4, 8), (5, 16), (7, 3)] {
            let mut packet = frame[ETHERNET..].to_vec();
            packet[at] = value;
            assert_eq!(ArpView::new(&packet), None, "byte {at}");
        }
        for length in 0..ARP {
            assert_eq!(ArpView::new(&frame[ETHERNET..ETHERNET + length]), None, "{length} bytes");
        }
    }
}
