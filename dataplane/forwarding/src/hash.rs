//! The flow hash: which of equal paths a flow takes, and its outer UDP source port.

/// Folds the product of two words: every bit of either reaches every bit of the result's middle.
#[inline(always)]
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    {
        (product >> 64) as u64 ^ product as u64
    }
}

/// A flow's hash, from which independent numbers are drawn.
///
/// Independent because one choice must not decide the next: the flows that were sent to a VTEP because of their hash
/// must still spread over all underlay paths to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlowHash(u64);

#[expect(clippy::cast_possible_truncation, reason = "hash bits")]
impl FlowHash {
    /// From addresses, ports (zero for fragments and protocols without) and protocol.
    #[inline(always)]
    pub(crate) const fn v4(source: u32, destination: u32, ports: u32, protocol: u8) -> Self {
        let addresses = (source as u64) << 32 | destination as u64;
        Self(mix(
            addresses ^ 0xa076_1d64_78bd_642f,
            (ports as u64) << 8 ^ protocol as u64 ^ 0xe703_7ed1_a0b4_28db,
        ))
    }

    /// The same of IPv6. The flow label is left out: hosts change it when they suspect the path.
    #[inline(always)]
    pub(crate) const fn v6(source: u128, destination: u128, ports: u32, protocol: u8) -> Self {
        let a = mix((source >> 64) as u64 ^ 0xa076_1d64_78bd_642f, source as u64 ^ 0xe703_7ed1_a0b4_28db);
        let b = mix(
            (destination >> 64) as u64 ^ 0x8ebc_6af0_9c88_c6e3,
            destination as u64 ^ 0x5899_65cc_7537_4cc3,
        );
        Self(mix(a ^ (ports as u64) << 8 ^ protocol as u64, b ^ 0x1d8e_4e27_c47d_124f))
    }

    /// From the addresses of a frame that is not IP.
    #[inline(always)]
    pub(crate) const fn of_macs(header: &[u8; 14], ethertype: u16) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
        let low = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let high = u64::from_be_bytes([i, j, k, l, 0, 0, 0, 0]);
        Self(mix(low ^ 0xa076_1d64_78bd_642f, high ^ ethertype as u64 ^ 0xe703_7ed1_a0b4_28db))
    }

    /// From a NIC's 32 bits.
    #[inline(always)]
    pub(crate) const fn from_nic(hash: u32) -> Self {
        Self(mix(hash as u64 ^ 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db))
    }

    /// For the choice among a route's paths.
    #[inline(always)]
    pub(crate) const fn overlay(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// For the choice among the underlay's paths to a VTEP.
    #[inline(always)]
    pub(crate) const fn underlay(self) -> u32 {
        self.0 as u32
    }

    /// An outer UDP source port, 49152 to 65535 (RFC 7348 section 5 recommends the dynamic range).
    #[inline(always)]
    pub(crate) const fn source_port(self) -> u16 {
        0xc000 | ((self.0 >> 8) as u16 & 0x3fff)
    }
}
