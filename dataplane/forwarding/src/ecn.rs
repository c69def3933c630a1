//! Explicit congestion notification through tunnels (RFC 6040).

use crate::reason::Reason;

/// The two ECN bits of a type-of-service or traffic-class byte.
pub(crate) const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const CE: u8 = 0b11;

/// The outer byte of an encapsulated packet: DSCP copied (RFC 2983, uniform model), ECN copied (RFC 6040 section 4.1,
/// normal mode).
#[inline(always)]
pub(crate) const fn encapsulate(inner: u8) -> u8 {
    inner
}

/// The ECN bits of a packet after decapsulation (RFC 6040 section 4.2, figure 4); its DSCP stays what it was inside.
#[inline(always)]
pub(crate) const fn decapsulate(outer: u8, inner: u8) -> Result<u8, Reason> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => Err(Reason::EcnNotCapable),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (_, CE) => Ok(CE),
        (CE, _) => Ok(CE),
        (_, ECT_1) => Ok(ECT_1),
        (inner, _) => Ok(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040 figure 4, row by row: inner; then the result for outer Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn figure_4() {
        const ECT_0: u8 = 0b10;
        const DROP: Result<u8, Reason> = Err(Reason::EcnNotCapable);
        let rows = [
            (NOT_ECT, [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), DROP]),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ];
        for (inner, results) in rows {
            for (outer, result) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(results) {
                assert_eq!(
                    decapsulate(outer | 0xb8, inner | 0x20),
                    result,
                    "inner {inner:02b}, outer {outer:02b}"
                );
            }
        }
    }
}
