//! Neighbour discovery (RFC 4861): solicitations and advertisements.

use super::{ETHERNET, ETHERTYPE_IPV6, ICMPV6, IPV6, be16};
use crate::checksum;
use crate::packet::Packet;
use crate::types::Mac;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Type to target address.
const MESSAGE: usize = 24;
/// A link-layer address option of Ethernet's.
const OPTION: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Router, solicited, override.
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// A neighbour solicitation or advertisement that passed the checks of RFC 4861 section 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NdView {
    pub(crate) is_solicitation: bool,
    pub(crate) source: u128,
    pub(crate) target: u128,
    /// Source link-layer address of a solicitation, target link-layer address of an advertisement; as [`Mac::bits`].
    pub(crate) link_layer: Option<u64>,
}

impl NdView {
    /// From an IPv6 header on; `None` when it is neither, or not valid.
    pub(crate) fn new(packet: &[u8]) -> Option<Self> {
        let header: &[u8; IPV6] = packet.first_chunk()?;
        // Only from the link: nobody's router has lowered the hop limit.
        if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != 255 {
            return None;
        }
        let length = usize::from(be16(header, 4)?);
        let message = packet.get(IPV6..IPV6 + length)?;
        let kind = *message.first()?;
        if !matches!(kind, SOLICITATION | ADVERTISEMENT) || message.len() < MESSAGE || message[1] != 0 {
            return None;
        }
        if checksum::fold(pseudo_header(header, length) + checksum::sum(message)) != 0xffff {
            return None;
        }
        let address = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u128::from_be_bytes(*bytes));
        let target = address(&message[8..])?;
        let wanted = if kind == SOLICITATION { SOURCE_LINK_LAYER } else { TARGET_LINK_LAYER };
        let mut link_layer = None;
        let mut options = &message[MESSAGE..];
        while let [option, units, ..] = *options {
            let size = usize::from(units) * 8;
            if size == 0 || size > options.len() {
                return None;
            }
            if option == wanted && size == OPTION {
                link_layer = address_bits(options);
            }
            options = &options[size..];
        }
        let is_group = target >> 120 == 0xff;
        (options.is_empty() && !is_group && target != 0).then_some(Self {
            is_solicitation: kind == SOLICITATION,
            source: address(&header[8..])?,
            target,
            link_layer,
        })
    }
}

fn address_bits(option: &[u8]) -> Option<u64> {
    Some(u64::from(be16(option, 2)?) << 32 | u64::from(super::be32(option, 4)?))
}

/// The sum of RFC 8200 section 8.1's pseudo header.
fn pseudo_header(header: &[u8; IPV6], length: usize) -> u32 {
    checksum::sum(&header[8..40]) + u32::try_from(length).unwrap_or(u32::MAX) + u32::from(ICMPV6)
}

/// Makes a solicitation with a source link-layer address its own answer: `mac` has the address that was asked for.
/// False, and nothing changed, when there is no such option's room.
pub(crate) fn answer<P: Packet>(packet: &mut P, mac: Mac, is_router: bool) -> bool {
    const WHOLE: usize = ETHERNET + IPV6 + MESSAGE + OPTION;
    if packet.data().len() < WHOLE {
        return false;
    }
    packet.truncate(WHOLE);
    let Some(frame) = packet.data_mut().first_chunk_mut::<WHOLE>() else { return false };
    let asker_mac: [u8; 6] = std::array::from_fn(|i| frame[6 + i]);
    let asker: [u8; 16] = std::array::from_fn(|i| frame[ETHERNET + 8 + i]);
    let target: [u8; 16] = std::array::from_fn(|i| frame[ETHERNET + IPV6 + 8 + i]);
    let flags = FLAG_SOLICITED | FLAG_OVERRIDE | if is_router { FLAG_ROUTER } else { 0 };
    let answer = advertisement(mac, target, asker_mac, asker, flags);
    frame.copy_from_slice(&answer);
    true
}

fn advertisement(
    from: Mac,
    target: [u8; 16],
    to: [u8; 6],
    destination: [u8; 16],
    flags: u8,
) -> [u8; ETHERNET + IPV6 + MESSAGE + OPTION] {
    let mut message = [0; MESSAGE + OPTION];
    message[0] = ADVERTISEMENT;
    message[4] = flags;
    message[8..24].copy_from_slice(&target);
    message[24..26].copy_from_slice(&[TARGET_LINK_LAYER, 1]);
    message[26..].copy_from_slice(&from.octets());
    frame(from, target, to, destination, message)
}

/// A solicitation to one station, which is asked whether it still has `target`.
pub(crate) fn solicitation(from: Mac, source: u128, to: Mac, target: u128) -> Vec<u8> {
    let mut message = [0; MESSAGE + OPTION];
    message[0] = SOLICITATION;
    message[8..24].copy_from_slice(&target.to_be_bytes());
    message[24..26].copy_from_slice(&[SOURCE_LINK_LAYER, 1]);
    message[26..].copy_from_slice(&from.octets());
    frame(from, source.to_be_bytes(), to.octets(), target.to_be_bytes(), message).to_vec()
}

fn frame(
    from: Mac,
    source: [u8; 16],
    to: [u8; 6],
    destination: [u8; 16],
    mut message: [u8; MESSAGE + OPTION],
) -> [u8; ETHERNET + IPV6 + MESSAGE + OPTION] {
    let mut header = [0; IPV6];
    header[0] = 0x60;
    #[expect(clippy::cast_possible_truncation, reason = "32")]
    let length = message.len() as u8;
    header[5] = length;
    header[6] = ICMPV6;
    header[7] = 255;
    header[8..24].copy_from_slice(&source);
    header[24..].copy_from_slice(&destination);
    let sum = !checksum::fold(pseudo_header(&header, message.len()) + checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [0; ETHERNET + IPV6 + MESSAGE + OPTION];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from.octets());
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
    frame[ETHERNET..ETHERNET + IPV6].copy_from_slice(&header);
    frame[ETHERNET + IPV6..].copy_from_slice(&message);
    frame
}

/// The link-local address of a MAC (RFC 4291 appendix A).
pub(crate) const fn link_local(mac: Mac) -> u128 {
    let [a, b, c, d, e, f] = mac.octets();
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    0xfe80 << 112 | id as u128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Buffer;

    const HOST: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
    const SOURCE: u128 = 0xfd00 << 112 | 1;
    const TARGET: u128 = 0xfd00 << 112 | 2;

    #[test]
    fn a_solicitation_becomes_its_answer() {
        let mut packet = Buffer::new(&solicitation(HOST, SOURCE, OTHER, TARGET));
        let view = NdView::new(&packet.data()[ETHERNET..]).unwrap();
        let expected =
            NdView { is_solicitation: true, source: SOURCE, target: TARGET, link_layer: Some(HOST.bits()) };
        assert_eq!(view, expected);
        assert!(answer(&mut packet, OTHER, true));
        let view = NdView::new(&packet.data()[ETHERNET..]).unwrap();
        let expected =
            NdView { is_solicitation: false, source: TARGET, target: TARGET, link_layer: Some(OTHER.bits()) };
        assert_eq!(view, expected);
        assert_eq!(packet.data()[..6], HOST.octets());
        assert_eq!(packet.data()[ETHERNET + IPV6 + 4], 0xe0);
    }

    #[test]
    fn what_is_not_valid_is_none() {
        let frame = solicitation(HOST, SOURCE, OTHER, TARGET);
        let packet = &frame[ETHERNET..];
        for length in 0..packet.len() {
            assert_eq!(NdView::new(&packet[..length]), None, "{length} bytes");
        }
        // Version, payload length, protocol, hop limit, type, checksum, target, option's length.
        for at in [0, 5, 6, 7, IPV6, IPV6 + 2, IPV6 + 20, IPV6 + 25] {
            let mut packet = packet.to_vec();
            packet[at] ^= 0x11;
            assert_eq!(NdView::new(&packet), None, "byte {at}");
        }
    }

    #[test]
    fn link_local_addresses() {
        let address = std::net::Ipv6Addr::from_bits(link_local(Mac::new([0, 0xf3, 0, 0, 0, 0x6f])));
        assert_eq!(address.to_string(), "fe80::2f3:ff:fe00:6f");
    }
}
