//! Bridge domains as workers see them, and the words of their MAC and flood tables.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Station, low};
use crate::types::{Mac, PortId, VrfId};

/// Flood lists are blocks of 2^2 to 2^12 words within one chunk.
pub(crate) const FLOOD_CHUNK_LOG2: u32 = 12;
pub(crate) const SMALLEST_FLOOD_LOG2: u32 = 2;

/// A bridge domain, in one cache line. Its words change one by one; none depends on another.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct BridgeRecord {
    /// The router's MAC and MTU in it; zero when the domain is gone.
    station: AtomicU64,
    /// How many flood words, and where they start.
    flood: AtomicU64,
    /// The VRF that routes for it plus one.
    vrf: AtomicU32,
    svi: AtomicU32,
    learns_from_vteps: AtomicU32,
}

/// A bridge domain as a worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BridgeView {
    pub(crate) slot: u32,
    /// The router's.
    pub(crate) mac: Mac,
    /// Largest IP packet of the router in it, bytes.
    pub(crate) mtu: u16,
    pub(crate) vrf: Option<VrfId>,
    /// The router's interface in it.
    pub(crate) svi: PortId,
    pub(crate) learns_from_vteps: bool,
}

/// Where the words of a flood list are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FloodBlock {
    pub(crate) base: u32,
    pub(crate) count: u32,
}

impl BridgeRecord {
    #[inline(always)]
    pub(crate) fn view(&self, slot: u32) -> Option<BridgeView> {
        let station = Station(self.station.load(Ordering::Acquire));
        if station.is_none() {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "written from 16 bits")]
        Some(BridgeView {
            slot,
            mac: station.mac(),
            mtu: station.number(),
            vrf: self.vrf.load(Ordering::Relaxed).checked_sub(1).map(VrfId),
            svi: PortId(self.svi.load(Ordering::Relaxed) as u16),
            learns_from_vteps: self.learns_from_vteps.load(Ordering::Relaxed) != 0,
        })
    }

    pub(crate) fn set(&self, view: &BridgeView) {
        self.vrf.store(view.vrf.map_or(0, |vrf| vrf.0 + 1), Ordering::Relaxed);
        self.svi.store(view.svi.0.into(), Ordering::Relaxed);
        self.learns_from_vteps.store(view.learns_from_vteps.into(), Ordering::Relaxed);
        self.station.store(Station::new(view.mac, view.mtu).0, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.station.store(0, Ordering::Release);
        self.flood.store(0, Ordering::Release);
    }

    pub(crate) fn flood(&self) -> FloodBlock {
        // Acquire: the block was filled before.
        let word = self.flood.load(Ordering::Acquire);
        FloodBlock { base: low(word), count: low(word >> 32) }
    }

    pub(crate) fn set_flood(&self, block: FloodBlock) {
        self.flood.store(u64::from(block.count) << 32 | u64::from(block.base), Ordering::Release);
    }
}

/// Where a flooded frame goes: a port of the domain, or a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloodTarget {
    Port(PortId),
    Tunnel(u32),
}

const FLOOD_TUNNEL: u32 = 1 << 31;

impl FloodTarget {
    pub(crate) const fn word(self) -> u32 {
        match self {
            Self::Port(port) => port.0 as u32,
            Self::Tunnel(tunnel) => FLOOD_TUNNEL | tunnel,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "written from 16 bits")]
    pub(crate) const fn from_word(word: u32) -> Self {
        if word & FLOOD_TUNNEL != 0 {
            Self::Tunnel(word & !FLOOD_TUNNEL)
        } else {
            Self::Port(PortId(word as u16))
        }
    }
}

/// The value of a MAC's record: where it is, and whether it was seen to send since the control side last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MacWord(pub(crate) u64);

/// What a MAC word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MacPlace {
    /// Nobody knows.
    Unknown,
    /// On a port of the domain.
    Port(PortId),
    /// Behind another VTEP: a tunnel record.
    Tunnel(u32),
}

impl MacWord {
    /// Set by workers.
    pub(crate) const SEEN: u64 = 1 << 63;
    /// It never moves to a port (RFC 7432 section 15.2).
    const STICKY: u64 = 1 << 62;
    const PORT: u64 = 1 << 32;
    const TUNNEL: u64 = 2 << 32;
    const KIND: u64 = 3 << 32;

    pub(crate) const fn port(port: PortId) -> Self {
        Self(Self::PORT | Self::SEEN | port.0 as u64)
    }

    pub(crate) const fn tunnel(tunnel: u32, sticky: bool) -> Self {
        Self(Self::TUNNEL | if sticky { Self::STICKY } else { 0 } | tunnel as u64)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "written from 16 bits")]
    pub(crate) const fn place(self) -> MacPlace {
        match self.0 & Self::KIND {
            Self::PORT => MacPlace::Port(PortId(self.0 as u16)),
            Self::TUNNEL => MacPlace::Tunnel(low(self.0)),
            _ => MacPlace::Unknown,
        }
    }

    #[inline(always)]
    pub(crate) const fn is_seen(self) -> bool {
        self.0 & Self::SEEN != 0
    }

    #[inline(always)]
    pub(crate) const fn is_sticky(self) -> bool {
        self.0 & Self::STICKY != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_survive(port: u16, tunnel in 0_u32..1 << 31, sticky: bool) {
            let port = PortId(port);
            prop_assert_eq!(MacWord::port(port).place(), MacPlace::Port(port));
            prop_assert!(MacWord::port(port).is_seen() && !MacWord::port(port).is_sticky());
            let word = MacWord::tunnel(tunnel, sticky);
            prop_assert_eq!((word.place(), word.is_sticky()), (MacPlace::Tunnel(tunnel), sticky));
            prop_assert!(!word.is_seen());
            for target in [FloodTarget::Port(port), FloodTarget::Tunnel(tunnel)] {
                prop_assert_eq!(FloodTarget::from_word(target.word()), target);
            }
        }
    }

    #[test]
    fn nothing_is_unknown() {
        assert_eq!(MacWord::default().place(), MacPlace::Unknown);
        assert_eq!(BridgeRecord::default().view(0), None);
    }
}
