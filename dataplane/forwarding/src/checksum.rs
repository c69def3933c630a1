//! The Internet checksum (RFC 1071) and its update (RFC 1624).

/// The sum of the 16-bit words of `bytes`, not folded; an odd last byte counts as the upper half of a word.
#[inline(always)]
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(2);
    let mut sum = 0_u32;
    for word in &mut words {
        sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        sum += u32::from(*last) << 8;
    }
    sum
}

/// One's complement addition's carries folded in.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
pub(crate) const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// The sum of the 16-bit words of `bytes`, folded: for long ones, many words at once. Its bytes come in memory's order
/// (RFC 1071 section 2 B), so neither side of a sum may start at an odd place.
#[inline]
pub(crate) fn sum_wide(bytes: &[u8]) -> u16 {
    let mut total = 0_u64;
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for word in block.chunks_exact(4) {
            // Less than 2^32 each: 2^32 of them fit.
            total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut words = blocks.remainder().chunks_exact(2);
    for word in &mut words {
        total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u16::from_be(fold_wide(total))
}

/// The same for a sum of any length.
#[inline(always)]
pub(crate) const fn fold_wide(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    #[expect(clippy::cast_possible_truncation, reason = "folded")]
    let sum = sum as u32;
    fold(sum)
}

/// The sum of the pseudo header of TCP or UDP (RFC 9293 section 3.1, RFC 8200 section 8.1): both addresses, the protocol and
/// the length of header and payload.
#[inline]
pub(crate) fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    u64::from(sum_wide(addresses)) + u64::from(protocol) + length as u64
}

/// The checksum that TCP or UDP has with this sum. Never zero: to UDP that means there is none (RFC 768), and elsewhere
/// both zeros of one's complement are right.
#[inline(always)]
pub(crate) const fn transport(sum: u16) -> u16 {
    if sum == 0xffff { 0xffff } else { !sum }
}

/// The checksum after one of the words it covers changed (RFC 1624, equation 3).
#[inline(always)]
pub(crate) const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u32 + !old as u32 + new as u32)
}

/// Whether an IPv4 header of 20 bytes sums up to nothing.
#[inline(always)]
pub(crate) fn header_is_right(header: &[u8; 20]) -> bool {
    // The same in any byte order (RFC 1071 section 2 B), so wide words do.
    let mut total = 0_u64;
    for word in header.chunks_exact(4) {
        total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff_ffff) + (total >> 32);
    #[expect(clippy::cast_possible_truncation, reason = "folded")]
    let total = total as u32;
    fold(total) == 0xffff
}

/// Whether a sum of words of up to 32 bits, in any byte order and not zero itself, is one's complement's zero.
#[inline(always)]
pub(crate) const fn is_zero(sum: u64) -> bool {
    // 2^16 is 1 modulo 2^16 - 1, so folding changes nothing of the remainder; the compiler makes this one multiplication.
    sum.is_multiple_of(0xffff)
}

/// What an IPv4 header has from its TTL on, four bytes with the first lowermost, when the TTL is one less; it must not be zero.
#[inline(always)]
pub(crate) const fn one_hop_less(word: u32) -> u32 {
    // The TTL is the upper byte of a word that falls by 256; the sum's complement rises by as much, which is 1 in this byte
    // order (RFC 1071 section 2 B), and a carry comes back in. Of the two zeros that leaves the one that sums give.
    let checksum = (word >> 16) + 1;
    let checksum = checksum + ((checksum + 1) >> 16);
    ((word & 0xffff) - 1) | (checksum << 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn long_sums_agree_with_narrow_ones(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(sum_wide(&bytes), fold(sum(&bytes)));
        }

        #[test]
        fn wide_words_agree_with_narrow_ones(header: [u8; 20]) {
            prop_assert_eq!(header_is_right(&header), fold(sum(&header)) == 0xffff);
            let words = header.chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())));
            prop_assert_eq!(is_zero(words.sum()), header_is_right(&header) || header == [0; 20]);
        }

        #[test]
        fn a_hop_less_is_an_update(ttl in 1_u8.., protocol: u8, checksum: u16) {
            let [high, low] = checksum.to_be_bytes();
            let less = one_hop_less(u32::from_le_bytes([ttl, protocol, high, low])).to_le_bytes();
            let wanted = update(checksum, u16::from_be_bytes([ttl, protocol]), u16::from_be_bytes([ttl - 1, protocol]));
            prop_assert_eq!((less[0], less[1]), (ttl - 1, protocol));
            prop_assert_eq!(u16::from_be_bytes([less[2], less[3]]), wanted);
        }

        #[test]
        fn an_updated_checksum_is_a_computed_one(mut header: [u8; 20], word in 0_usize..9, new: u16) {
            let word = if word >= 5 { word + 1 } else { word };
            header[10..12].fill(0);
            let before = !fold(sum(&header));
            let old = u16::from_be_bytes([header[word * 2], header[word * 2 + 1]]);
            header[word * 2..word * 2 + 2].copy_from_slice(&new.to_be_bytes());
            header[10..12].copy_from_slice(&update(before, old, new).to_be_bytes());
            // Both zeros of one's complement verify; an all-zero header is the one case where they differ.
            prop_assert!(fold(sum(&header)) == 0xffff || header.iter().all(|&byte| byte == 0));
        }
    }
}
