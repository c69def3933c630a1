//! MACs for devices that have none of their own.

/// Which end of a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The port's.
    Router,
    /// The host's.
    Host,
}

/// A locally administered unicast MAC made from a port's name: the same after every restart, so that no neighbour has
/// to learn it anew.
pub fn mac_of(name: &str, end: End) -> [u8; 6] {
    // FNV-1a: stable across releases of the compiler and the standard library, unlike their hashers.
    let salt: &[u8] = match end {
        End::Router => b"router:",
        End::Host => b"host:",
    };
    let hash = salt.iter().copied().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [_, _, a, b, c, d, e, f] = hash.to_be_bytes();
    // Locally administered, not a group's.
    [(a & 0xfc) | 0x02, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_stable_and_distinct() {
        // Pinned: a change would make every host of an upgraded node learn its gateway anew.
        assert_eq!(mac_of("pe-e-100", End::Router), [0xa6, 0x67, 0xed, 0xa5, 0x33, 0xb9]);
        assert_ne!(mac_of("pe-e-100", End::Router), mac_of("pe-e-100", End::Host));
        assert_ne!(mac_of("pe-e-100", End::Router), mac_of("pe-e-101", End::Router));
        for name in ["", "a", "pe-e-100"] {
            assert_eq!(mac_of(name, End::Host)[0] & 3, 2, "{name}");
        }
    }
}
