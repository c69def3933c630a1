//! MACs of bridge domains: on which port they were learned, or behind which VTEP they are.

use std::net::IpAddr;
use std::time::Duration;

use super::bridges::check_vtep;
use super::learning::Learned;
use super::topology::Attachment;
use super::{Control, Retired};
use crate::error::Error;
use crate::tables::bridge::MacWord;
use crate::types::{Mac, PortId, Vni, address_bits, address_from_bits};

#[derive(Debug)]
pub(super) struct MacState {
    /// Its record in the workers' table.
    record: u32,
    pub(super) place: MacAt,
    /// When it was last seen, of what was learned.
    pub(super) seen: Duration,
}

impl MacState {
    pub(super) const fn record(&self) -> u32 {
        self.record
    }

    /// Whether it was stated, and not in this session.
    pub(super) const fn is_of_other_session(&self, session: u64) -> bool {
        matches!(self.place, MacAt::Vtep { session: of, .. } if of != session)
    }
}

/// Where a MAC is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MacAt {
    Port(PortId),
    /// The control plane says so.
    Vtep {
        vtep: u128,
        sticky: bool,
        session: u64,
    },
    /// Its packets came from there.
    Heard {
        vtep: u128,
    },
}

impl MacAt {
    /// Of a remote one.
    pub(super) const fn vtep(self) -> u128 {
        match self {
            Self::Port(_) => 0,
            Self::Vtep { vtep, .. } | Self::Heard { vtep } => vtep,
        }
    }

    const fn is_remote(self) -> bool {
        !matches!(self, Self::Port(_))
    }
}

/// A MAC, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacEntry {
    /// The MAC.
    pub mac: Mac,
    /// Where it is.
    pub kind: MacKind,
    /// Since it was last known to send, of what was learned; as coarse as a quarter of the ageing time.
    pub idle: Duration,
}

/// Where a MAC is, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacKind {
    /// Learned on a port.
    Local(PortId),
    /// Behind a VTEP, as the control plane says.
    Remote {
        /// The VTEP.
        vtep: IpAddr,
        /// It never moves to a port.
        sticky: bool,
    },
    /// Behind a VTEP, as its packets say.
    Heard(IpAddr),
}

impl Control {
    /// States that a MAC of a domain is behind a VTEP. It leaves the port it was learned on.
    pub fn mac_set(&mut self, vni: Vni, mac: Mac, vtep: IpAddr, sticky: bool) -> Result<(), Error> {
        let config = &self.bridges.get(&vni).ok_or(Error::UnknownVni(vni))?.config;
        check_vtep(vni, config, vtep)?;
        if !mac.is_unicast() {
            return Err(Error::MacNotUnicast(mac));
        }
        if mac == config.mac {
            return Err(Error::OwnMac { vni, mac });
        }
        let place = MacAt::Vtep { vtep: address_bits(vtep), sticky, session: self.session };
        if self.mac_place(vni, mac.bits(), place) { Ok(()) } else { Err(Error::Full("MAC")) }
    }

    /// Forgets that a MAC is behind a VTEP. One that has been learned on a port meanwhile stays there; an unknown one is
    /// no error.
    pub fn mac_remove(&mut self, vni: Vni, mac: Mac) {
        let key = (vni, mac.bits());
        if self.macs.get(&key).is_some_and(|state| state.place.is_remote()) {
            self.mac_forget(vni, key.1);
        }
    }

    /// The MACs of a domain, without the router's own.
    pub fn macs(&self, vni: Vni) -> impl Iterator<Item = MacEntry> {
        let of = self.macs.range((vni, 0)..=(vni, u64::MAX));
        of.map(|(&(_, mac), state)| {
            let (kind, idle) = match state.place {
                MacAt::Port(port) => (MacKind::Local(port), self.now.saturating_sub(state.seen)),
                MacAt::Vtep { vtep, sticky, .. } => {
                    (MacKind::Remote { vtep: address_from_bits(vtep), sticky }, Duration::ZERO)
                }
                MacAt::Heard { vtep } => {
                    (MacKind::Heard(address_from_bits(vtep)), self.now.saturating_sub(state.seen))
                }
            };
            MacEntry { mac: Mac::from_bits(mac), kind, idle }
        })
    }

    /// Puts a MAC where it is now, whatever was known of it. False when there is no room.
    pub(super) fn mac_place(&mut self, vni: Vni, mac: u64, place: MacAt) -> bool {
        let Some(bridge) = self.bridges.get(&vni) else { return false };
        let slot = bridge.slot;
        let word = match place {
            MacAt::Port(port) => MacWord::port(port),
            MacAt::Vtep { vtep, sticky, .. } => match self.remote_acquire(vni, vtep) {
                Some(tunnel) => MacWord::tunnel(tunnel, sticky),
                None => return false,
            },
            MacAt::Heard { vtep } => match self.remote_acquire(vni, vtep) {
                Some(tunnel) => MacWord::tunnel(tunnel, false),
                None => return false,
            },
        };
        let key = (vni, mac);
        let now = self.now;
        let old = match self.macs.get_mut(&key) {
            Some(state) => {
                let old = std::mem::replace(&mut state.place, place);
                state.seen = now;
                let record = state.record;
                self.mac_table.set(record, word.0);
                Some(old)
            }
            None => {
                let inserted = self.mac_table.insert(slot, mac.into(), word.0).or_else(|| {
                    self.reclaim_slots();
                    self.mac_table.insert(slot, mac.into(), word.0)
                });
                let Some(record) = inserted else {
                    if place.is_remote() {
                        self.remote_release(vni, place.vtep());
                    }
                    return false;
                };
                self.macs.insert(key, MacState { record, place, seen: now });
                None
            }
        };
        // After the new one took hold, so that a tunnel which both use stays.
        if let Some(old) = old {
            self.mac_left(vni, mac, old, place);
        }
        if let MacAt::Port(port) = place {
            self.count_local(vni, port, 1);
            if old != Some(place) {
                self.learned.push(Learned::Mac { vni, mac: Mac::from_bits(mac), port: Some(port) });
            }
        }
        true
    }

    /// Forgets a MAC wherever it is.
    pub(super) fn mac_forget(&mut self, vni: Vni, mac: u64) {
        let Some(state) = self.macs.remove(&(vni, mac)) else { return };
        self.mac_table.remove(state.record);
        self.retire(Retired::Mac(state.record));
        match state.place {
            MacAt::Port(port) => {
                self.hosts_forget_of(vni, mac);
                self.count_local(vni, port, -1);
                self.learned.push(Learned::Mac { vni, mac: Mac::from_bits(mac), port: None });
            }
            remote => self.remote_release(vni, remote.vtep()),
        }
    }

    /// A MAC is no longer where it was.
    fn mac_left(&mut self, vni: Vni, mac: u64, old: MacAt, new: MacAt) {
        match old {
            MacAt::Port(port) => {
                self.count_local(vni, port, -1);
                if new.is_remote() {
                    self.hosts_forget_of(vni, mac);
                    self.learned.push(Learned::Mac { vni, mac: Mac::from_bits(mac), port: None });
                }
            }
            remote => self.remote_release(vni, remote.vtep()),
        }
    }

    pub(super) fn macs_forget_of(&mut self, vni: Vni) {
        let macs: Vec<u64> = self.macs.range((vni, 0)..=(vni, u64::MAX)).map(|(&(_, mac), _)| mac).collect();
        macs.into_iter().for_each(|mac| self.mac_forget(vni, mac));
    }

    /// Forgets the MACs that were learned on a port: its link went down, or it goes.
    pub fn port_flush(&mut self, port: PortId) {
        let Some(vni) =
            self.ports.get(&port).and_then(super::topology::Port::bridge).map(|bridge| bridge.vni)
        else {
            return;
        };
        let of = self.macs.range((vni, 0)..=(vni, u64::MAX));
        let on_port = of.filter(|(_, state)| state.place == MacAt::Port(port)).map(|(&(_, mac), _)| mac);
        let macs: Vec<u64> = on_port.collect();
        macs.into_iter().for_each(|mac| self.mac_forget(vni, mac));
    }

    /// The remote MACs of a domain.
    pub(super) fn remotes_of(&self, vni: Vni) -> Vec<(u64, MacAt)> {
        let of = self.macs.range((vni, 0)..=(vni, u64::MAX));
        of.filter(|(_, state)| state.place.is_remote()).map(|(&(_, mac), state)| (mac, state.place)).collect()
    }

    /// Counts a local MAC of a port and of its domain, and says to the workers whether more are welcome.
    fn count_local(&mut self, vni: Vni, port: PortId, change: i32) {
        if let Some(state) = self.ports.get_mut(&port) {
            state.macs = state.macs.saturating_add_signed(change);
        }
        let Some(bridge) = self.bridges.get_mut(&vni) else { return };
        let was_full = bridge.macs >= bridge.config.mac_limit;
        bridge.macs = bridge.macs.saturating_add_signed(change);
        if was_full != (bridge.macs >= bridge.config.mac_limit) {
            let ports: Vec<PortId> = self.ports_of(vni).map(|(id, _)| id).collect();
            ports.into_iter().for_each(|port| self.judge_full(port));
        } else {
            self.judge_full(port);
        }
    }

    /// Whether a port, or the domain it is in, has as many MACs as it may.
    pub(super) fn is_full(&self, port: PortId) -> bool {
        let Some(state) = self.ports.get(&port) else { return true };
        let Attachment::Bridged(limits) = state.config.attachment else { return false };
        let domain = self.bridges.get(&limits.vni);
        state.macs >= limits.mac_limit || domain.is_none_or(|bridge| bridge.macs >= bridge.config.mac_limit)
    }

    pub(super) fn judge_full(&self, port: PortId) {
        if let Some(record) = self.tables.ports.get(port.0.into()) {
            record.set_full(self.is_full(port));
        }
    }
}
