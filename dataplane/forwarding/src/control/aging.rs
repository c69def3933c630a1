//! Who is not seen for long is asked, then forgotten.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Control;
use super::macs::MacAt;
use crate::headers::{arp, nd};
use crate::tables::bridge::MacWord;
use crate::types::{Mac, PortId, Vni, address_from_bits};

/// A host that answers nobody is asked this often in the second half of the ageing time.
const PROBES: u32 = 4;
/// But no faster than this.
const FASTEST: Duration = Duration::from_millis(250);

/// A frame that asks a host whether it is still there, to be sent by a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The port.
    pub port: PortId,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
}

impl Control {
    /// Takes in what workers reported, ages what was not seen, and says what is to be sent. `now` is any clock that never
    /// goes back. To be called soon after a worker [reported](crate::Worker::take_reported), and some times per second.
    pub fn upkeep(&mut self, now: Duration) -> Vec<Probe> {
        self.now = self.now.max(now);
        self.take_reports();
        let due: Vec<Vni> =
            self.bridges.iter().filter(|(_, bridge)| bridge.scan <= self.now).map(|(&vni, _)| vni).collect();
        let mut probes = Vec::new();
        for vni in due {
            self.age(vni, &mut probes);
        }
        probes
    }

    fn age(&mut self, vni: Vni, probes: &mut Vec<Probe>) {
        let now = self.now;
        let Some(bridge) = self.bridges.get_mut(&vni) else { return };
        let aging = bridge.config.aging;
        bridge.scan = now + (aging / (2 * PROBES)).max(FASTEST);

        self.age_hosts(vni, aging, probes);
        let mut gone = Vec::new();
        for (&(_, mac), state) in self.macs.range_mut((vni, 0)..=(vni, u64::MAX)) {
            match state.place {
                MacAt::Port(_) => {
                    let record = self.tables.macs.record(state.record());
                    let seen = record.is_some_and(|record| {
                        MacWord(record.value.fetch_and(!MacWord::SEEN, Ordering::Relaxed)).is_seen()
                    });
                    if seen {
                        state.seen = now;
                    }
                }
                MacAt::Heard { .. } => {}
                MacAt::Vtep { .. } => continue,
            }
            if now.saturating_sub(state.seen) >= aging {
                gone.push(mac);
            }
        }
        // A host that answers for an address is there, though it sends nothing else.
        gone.retain(|&mac| self.hosts_of(vni, mac).next().is_none());
        gone.into_iter().for_each(|mac| self.mac_forget(vni, mac));
    }

    fn age_hosts(&mut self, vni: Vni, aging: Duration, probes: &mut Vec<Probe>) {
        let now = self.now;
        let mut gone = Vec::new();
        let mut asked = Vec::new();
        for (&(_, address), host) in self.hosts.range_mut((vni, 0)..=(vni, u128::MAX)) {
            let idle = now.saturating_sub(host.seen);
            if idle >= aging {
                gone.push(address);
            } else if idle >= aging / 2
                && now.saturating_sub(host.asked) >= (aging / (2 * PROBES)).max(FASTEST)
            {
                host.asked = now;
                asked.push((address, host.mac));
            }
        }
        gone.into_iter().for_each(|address| self.host_forget(vni, address));
        for (address, mac) in asked {
            if let Some(MacAt::Port(port)) = self.macs.get(&(vni, mac)).map(|state| state.place) {
                probes.push(Probe {
                    port,
                    frame: self.probe(vni, address_from_bits(address), Mac::from_bits(mac)),
                });
            }
        }
    }

    /// Asks one host, from the router's address in its subnet where there is one.
    fn probe(&self, vni: Vni, address: IpAddr, to: Mac) -> Vec<u8> {
        let config = self.bridges.get(&vni).map(|bridge| &bridge.config);
        let from = config.map_or(to, |config| config.mac);
        match address {
            IpAddr::V4(target) => {
                let gateways = config.into_iter().flat_map(|config| &config.gateways);
                let source = gateways.filter(|gateway| gateway.contains(&address)).find_map(|gateway| {
                    match gateway.addr() {
                        IpAddr::V4(source) => Some(source.to_bits()),
                        IpAddr::V6(_) => None,
                    }
                });
                arp::request(from, source.unwrap_or(0), to, target.to_bits())
            }
            // The answer comes to the MAC of the option, whoever has the address.
            IpAddr::V6(target) => nd::solicitation(from, nd::link_local(from), to, target.to_bits()),
        }
    }
}
