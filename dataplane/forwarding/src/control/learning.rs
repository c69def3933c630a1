//! What the workers saw in bridge domains becomes MACs and hosts.

use std::net::IpAddr;
use std::time::Duration;

use super::Control;
use super::macs::MacAt;
use crate::learn::{Origin, Report};
use crate::types::{Mac, PortId, Vni, address_from_bits};

/// Something that was learned on a port of this node, or is no longer so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// A MAC.
    Mac {
        /// The L2VNI.
        vni: Vni,
        /// The MAC.
        mac: Mac,
        /// Where it is; `None` when it is on none any more.
        port: Option<PortId>,
    },
    /// A host's IP address.
    Host {
        /// The L2VNI.
        vni: Vni,
        /// The address.
        address: IpAddr,
        /// The MAC that has it.
        mac: Mac,
        /// It is no longer there.
        gone: bool,
    },
}

/// An address of a host on a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) mac: u64,
    /// When it last said that it has it.
    pub(super) seen: Duration,
    /// When it was last asked.
    pub(super) asked: Duration,
}

/// Addresses that one MAC may have.
const HOSTS_PER_MAC: usize = 64;

impl Control {
    /// Takes in what workers reported. `None` of their reports waits when this returns.
    pub(super) fn take_reports(&mut self) {
        // As many as wait now: a flood of new ones must not keep everything else waiting.
        for _ in 0..crate::learn::REPORTS {
            let Ok(report) = self.reports.try_recv() else { return };
            match report {
                Report::Mac { bridge, mac, origin } => {
                    if let Some(vni) = self.vni_of(bridge) {
                        self.saw_mac(vni, mac, origin);
                    }
                }
                Report::Neighbor { bridge, port, address, mac } => {
                    if let Some(vni) = self.vni_of(bridge) {
                        self.saw_host(vni, port, address, mac);
                    }
                }
            }
        }
    }

    pub(super) fn vni_of(&self, slot: u32) -> Option<Vni> {
        self.bridges.iter().find(|(_, bridge)| bridge.slot == slot).map(|(&vni, _)| vni)
    }

    /// What was learned or forgotten since this was last called, in order.
    pub fn take_learned(&mut self) -> Vec<Learned> {
        std::mem::take(&mut self.learned)
    }

    /// All that is learned now: MACs, then hosts.
    pub fn learned(&self) -> impl Iterator<Item = Learned> {
        let macs = self.macs.iter().filter_map(|(&(vni, mac), state)| match state.place {
            MacAt::Port(port) => Some(Learned::Mac { vni, mac: Mac::from_bits(mac), port: Some(port) }),
            _ => None,
        });
        let hosts = self.hosts.iter().map(|(&(vni, address), host)| Learned::Host {
            vni,
            address: address_from_bits(address),
            mac: Mac::from_bits(host.mac),
            gone: false,
        });
        macs.chain(hosts)
    }

    fn saw_mac(&mut self, vni: Vni, mac: u64, origin: Origin) {
        let known = self.macs.get(&(vni, mac)).map(|state| state.place);
        match origin {
            Origin::Port(port) => {
                // The port may have left the domain since.
                let is_of = |bridge: super::BridgePort| bridge.vni == vni;
                if !self.ports.get(&port).and_then(super::topology::Port::bridge).is_some_and(is_of)
                    || known == Some(MacAt::Port(port))
                    || matches!(known, Some(MacAt::Vtep { sticky: true, .. }))
                    || self.is_full(port)
                {
                    return;
                }
                let moved = known.is_some();
                if self.mac_place(vni, mac, MacAt::Port(port))
                    && let Some(bridge) = self.bridges.get_mut(&vni)
                {
                    let count = if moved { &mut bridge.moved } else { &mut bridge.learned };
                    *count += 1;
                }
            }
            Origin::Vtep(vtep) => {
                let Some(bridge) = self.bridges.get(&vni) else { return };
                // What the control plane says, and what is on a port, is better known; and only of VTEPs that are asked.
                let better = matches!(known, Some(MacAt::Port(_) | MacAt::Vtep { .. }));
                if better || !bridge.flood.iter().any(|&(of, _)| of == vtep) {
                    return;
                }
                if known == Some(MacAt::Heard { vtep }) {
                    if let Some(state) = self.macs.get_mut(&(vni, mac)) {
                        state.seen = self.now;
                    }
                } else if known.is_some() || self.heard_count(vni) < self.mac_limit(vni) {
                    self.mac_place(vni, mac, MacAt::Heard { vtep });
                }
            }
        }
    }

    fn heard_count(&self, vni: Vni) -> usize {
        let of = self.macs.range((vni, 0)..=(vni, u64::MAX));
        of.filter(|(_, state)| matches!(state.place, MacAt::Heard { .. })).count()
    }

    fn mac_limit(&self, vni: Vni) -> usize {
        self.bridges.get(&vni).map_or(0, |bridge| bridge.config.mac_limit as usize)
    }

    fn saw_host(&mut self, vni: Vni, port: PortId, address: u128, mac: u64) {
        // Its MAC's report came first, unless it was refused.
        if self.macs.get(&(vni, mac)).map(|state| state.place) != Some(MacAt::Port(port))
            || !self.is_believable(vni, address)
        {
            return;
        }
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(&(vni, address))
            && host.mac == mac
        {
            host.seen = now;
            return;
        }
        if self.hosts_of(vni, mac).count() >= HOSTS_PER_MAC {
            return;
        }
        if let Some(old) = self.hosts.insert((vni, address), Host { mac, seen: now, asked: now }) {
            self.host_macs.remove(&(vni, old.mac, address));
        }
        self.host_macs.insert((vni, mac, address));
        self.learned.push(Learned::Host {
            vni,
            address: address_from_bits(address),
            mac: Mac::from_bits(mac),
            gone: false,
        });
    }

    /// An address that a host of the domain may have: of its subnets, where it has any, or link-local of IPv6.
    fn is_believable(&self, vni: Vni, address: u128) -> bool {
        let Some(bridge) = self.bridges.get(&vni) else { return false };
        let address = address_from_bits(address);
        if !super::topology::is_unicast(address) || address.is_loopback() {
            return false;
        }
        let gateways = &bridge.config.gateways;
        if gateways.iter().any(|gateway| gateway.addr() == address) {
            return false;
        }
        match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => true,
            _ => gateways.is_empty() || gateways.iter().any(|gateway| gateway.contains(&address)),
        }
    }

    /// The addresses of a host.
    pub(super) fn hosts_of(&self, vni: Vni, mac: u64) -> impl Iterator<Item = u128> {
        self.host_macs.range((vni, mac, 0)..=(vni, mac, u128::MAX)).map(|&(_, _, address)| address)
    }

    /// The addresses of a MAC, for operators.
    pub fn host_addresses(&self, vni: Vni, mac: Mac) -> impl Iterator<Item = IpAddr> {
        self.hosts_of(vni, mac.bits()).map(address_from_bits)
    }

    pub(super) fn host_forget(&mut self, vni: Vni, address: u128) {
        if let Some(host) = self.hosts.remove(&(vni, address)) {
            self.host_macs.remove(&(vni, host.mac, address));
            self.learned.push(Learned::Host {
                vni,
                address: address_from_bits(address),
                mac: Mac::from_bits(host.mac),
                gone: true,
            });
        }
    }

    /// Somebody else has an address of ours.
    pub(super) fn host_contradicted(&mut self, vni: Vni, address: u128, mac: u64) {
        if self.hosts.get(&(vni, address)).is_some_and(|host| host.mac != mac) {
            self.host_forget(vni, address);
        }
    }

    pub(super) fn hosts_forget_of(&mut self, vni: Vni, mac: u64) {
        let addresses: Vec<u128> = self.hosts_of(vni, mac).collect();
        addresses.into_iter().for_each(|address| self.host_forget(vni, address));
    }
}
