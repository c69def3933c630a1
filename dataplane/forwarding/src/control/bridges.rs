//! Bridge domains: L2VNIs, the router's interface in them, and the lists of who gets what is flooded.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;

use super::topology::{Port, SMALLEST_MTU, VXLAN_PORT, is_unicast};
use super::tunnels::TunnelSpec;
use super::{Attachment, Control, Retired};
use crate::PortConfig;
use crate::counters::BridgeCounters;
use crate::error::Error;
use crate::headers::nd;
use crate::tables::bridge::{BridgeView, FLOOD_CHUNK_LOG2, FloodBlock, FloodTarget, SMALLEST_FLOOD_LOG2};
use crate::tables::{PortRole, PortView, VniView};
use crate::types::{Mac, PortId, Vni, VrfId, address_bits, address_from_bits};

/// What an L2VNI is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The VRF that routes for it, not the default one; none in a plain layer 2 overlay.
    pub vrf: Option<VrfId>,
    /// Which of this node's VTEP addresses it uses.
    pub vtep: IpAddr,
    /// Outer UDP destination port; 0 is 4789.
    pub udp_port: u16,
    /// The router's MAC in it, the same on all nodes; in a plain overlay only the source of probes.
    pub mac: Mac,
    /// The router's addresses in it, with their subnets; none without a VRF.
    pub gateways: Vec<IpNet>,
    /// Largest IP packet the router sends in it, bytes.
    pub mtu: u16,
    /// Most MACs that are learned on its ports together.
    pub mac_limit: u32,
    /// How long a MAC or an address on a port is kept that is not seen.
    pub aging: Duration,
    /// Whether MACs are learned from packets of the flood list's VTEPs.
    pub learn_from_vteps: bool,
}

#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) config: BridgeConfig,
    pub(super) slot: u32,
    pub(super) svi: PortId,
    vni_slot: u32,
    /// The VTEPs of the flood list, as they were stated, with the tunnel to each.
    pub(super) flood: Vec<(u128, u32)>,
    /// The session that stated the list.
    pub(super) flood_session: u64,
    block: Option<(u32, u32)>,
    gateways: Vec<(u128, u32)>,
    /// MACs learned on its ports.
    pub(super) macs: u32,
    pub(super) learned: u64,
    pub(super) moved: u64,
    /// When its MACs are looked at again.
    pub(super) scan: Duration,
    /// Cells that an earlier domain with the same slot left.
    baseline: BridgeCounters,
}

impl Control {
    /// Adds or changes an L2VNI; the number of the router's interface in it, which neighbours and paths name.
    ///
    /// Its ports, MACs and flood list stay as they are. A domain that changes its VRF changes the interface's.
    pub fn bridge_set(&mut self, vni: Vni, config: BridgeConfig) -> Result<PortId, Error> {
        let udp_port = if config.udp_port == 0 { VXLAN_PORT } else { config.udp_port };
        let config = BridgeConfig { udp_port, ..config };
        if let Some(bridge) = self.bridges.get(&vni)
            && bridge.config == config
        {
            return Ok(bridge.svi);
        }
        self.check_bridge(vni, &config)?;
        match self.bridges.contains_key(&vni) {
            true => self.bridge_change(vni, config),
            false => self.bridge_add(vni, config),
        }
    }

    fn check_bridge(&self, vni: Vni, config: &BridgeConfig) -> Result<(), Error> {
        if self.vnis.contains_key(&vni) {
            return Err(Error::VniKind(vni));
        }
        match config.vrf {
            Some(VrfId::DEFAULT) => return Err(Error::VniInDefaultVrf(vni)),
            Some(vrf) if !self.vrfs.contains_key(&vrf) => return Err(Error::UnknownVrf(vrf)),
            None if !config.gateways.is_empty() => return Err(Error::GatewayWithoutVrf(vni)),
            _ => {}
        }
        if let Some(gateway) = config.gateways.iter().find(|gateway| !is_unicast(gateway.addr())) {
            return Err(Error::NotUnicast(gateway.addr()));
        }
        if !config.mac.is_unicast() {
            Err(Error::MacNotUnicast(config.mac))
        } else if config.mtu < SMALLEST_MTU {
            Err(Error::MtuTooSmall(config.mtu))
        } else {
            Ok(())
        }
    }

    fn bridge_add(&mut self, vni: Vni, config: BridgeConfig) -> Result<PortId, Error> {
        let slot = self.bridge_slots.take().or_else(|| {
            self.reclaim_slots();
            self.bridge_slots.take()
        });
        let slot = slot.ok_or(Error::Full("L2VNI"))?;
        let svi = match self.port_number() {
            Ok(svi) => svi,
            Err(error) => {
                self.bridge_slots.give(slot);
                return Err(error);
            }
        };
        self.workers.iter().for_each(|worker| worker.make_bridge(slot));
        let vni_slot = match self.vni_publish(vni, config.vtep, vni_view(&config, slot)) {
            Ok(vni_slot) => vni_slot,
            Err(error) => {
                self.bridge_slots.give(slot);
                self.port_forget(svi);
                return Err(error);
            }
        };
        let mut baseline = BridgeCounters::default();
        self.workers.iter().filter_map(|worker| worker.bridge(slot)).for_each(|cells| baseline.add(cells));
        let bridge = Bridge {
            config,
            slot,
            svi,
            vni_slot,
            flood: Vec::new(),
            flood_session: self.session,
            block: None,
            gateways: Vec::new(),
            macs: 0,
            learned: 0,
            moved: 0,
            scan: self.now,
            baseline,
        };
        self.bridges.insert(vni, bridge);
        self.bridge_publish(vni)?;
        Ok(svi)
    }

    fn bridge_change(&mut self, vni: Vni, config: BridgeConfig) -> Result<PortId, Error> {
        let Some(bridge) = self.bridges.get(&vni) else { return Err(Error::UnknownVni(vni)) };
        let (svi, slot) = (bridge.svi, bridge.slot);
        let old = bridge.config.clone();
        let underlay = (old.vtep, old.udp_port) != (config.vtep, config.udp_port);
        if underlay {
            let vni_slot = self.vni_publish(vni, config.vtep, vni_view(&config, slot))?;
            if let Some(bridge) = self.bridges.get_mut(&vni) {
                let before = std::mem::replace(&mut bridge.vni_slot, vni_slot);
                self.retire(Retired::Vni(before));
            }
            // VTEPs of the other family cannot be reached any more; the others are by new tunnels.
            self.remotes_move(vni, &config);
        }
        if let Some(bridge) = self.bridges.get_mut(&vni) {
            bridge.config = config;
        }
        if old.vrf != self.bridges.get(&vni).and_then(|bridge| bridge.config.vrf) {
            // What was stated of the interface was stated of it in the other VRF.
            self.neighbors_remove_of(svi);
        }
        self.bridge_publish(vni)?;
        Ok(svi)
    }

    /// Writes what workers read of a domain, but for its MACs and flood list.
    fn bridge_publish(&mut self, vni: Vni) -> Result<(), Error> {
        let Some(bridge) = self.bridges.get(&vni) else { return Err(Error::UnknownVni(vni)) };
        let BridgeConfig { vrf, mac, mtu, learn_from_vteps, .. } = bridge.config;
        let (slot, svi) = (bridge.slot, bridge.svi);
        let mut wanted: BTreeSet<u128> =
            bridge.config.gateways.iter().map(|gateway| address_bits(gateway.addr())).collect();
        if bridge.config.gateways.iter().any(|gateway| gateway.addr().is_ipv6()) {
            wanted.insert(nd::link_local(mac));
        }
        let view = BridgeView { slot, mac, mtu, vrf, svi, learns_from_vteps: learn_from_vteps };
        let vrf = vrf.unwrap_or(VrfId::DEFAULT);
        let place = PortView { mac, mtu, vrf, role: PortRole::Svi(slot) };
        self.tables.set_port(svi, Some(place)).ok_or(Error::Full("port"))?;
        self.tables.set_bridge(slot, Some(&view)).ok_or(Error::Full("L2VNI"))?;
        let config =
            PortConfig { name: format!("L2VNI {vni}"), attachment: Attachment::Routed(vrf), mac, mtu };
        self.ports.insert(svi, Port { config, svi: Some(vni), macs: 0 });
        self.gateways_set(vni, &wanted);
        // The router's own MAC may have been learned as somebody else's.
        self.mac_forget(vni, mac.bits());
        Ok(())
    }

    fn gateways_set(&mut self, vni: Vni, wanted: &BTreeSet<u128>) {
        let Some(bridge) = self.bridges.get_mut(&vni) else { return };
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut bridge.gateways)
            .into_iter()
            .partition(|(address, _)| wanted.contains(address));
        let slot = bridge.slot;
        let mut gateways = stay;
        for &address in wanted {
            if !gateways.iter().any(|(held, _)| *held == address)
                && let Some(record) = self.gateway_table.insert(slot, address, 1)
            {
                gateways.push((address, record));
            }
            // A host's claim from before.
            self.host_forget(vni, address);
        }
        if let Some(bridge) = self.bridges.get_mut(&vni) {
            bridge.gateways = gateways;
        }
        for (_, record) in go {
            self.gateway_table.remove(record);
            self.retire(Retired::Gateway(record));
        }
    }

    /// Removes an L2VNI with its MACs. Its ports must be gone or moved.
    pub fn bridge_remove(&mut self, vni: Vni) -> Result<(), Error> {
        if !self.bridges.contains_key(&vni) {
            return Err(Error::UnknownVni(vni));
        }
        if let Some((_, port)) = self.ports_of(vni).next() {
            return Err(Error::BridgeInUse { vni, port: port.config.name.clone() });
        }
        self.macs_forget_of(vni);
        self.flood_replace(vni, &[]);
        self.gateways_set(vni, &BTreeSet::new());
        let Some(bridge) = self.bridges.remove(&vni) else { return Err(Error::UnknownVni(vni)) };
        self.tables.set_bridge(bridge.slot, None);
        if let Some((base, log2)) = bridge.block {
            self.retire(Retired::Flood { base, log2 });
        }
        self.port_forget(bridge.svi);
        self.retire(Retired::Bridge(bridge.slot));
        self.vni_unpublish(vni, bridge.vni_slot)
    }

    /// All L2VNIs, each with the number of the router's interface in it.
    pub fn bridges(&self) -> impl Iterator<Item = (Vni, &BridgeConfig, PortId)> {
        self.bridges.iter().map(|(&vni, bridge)| (vni, &bridge.config, bridge.svi))
    }

    /// The ports of a domain, by number.
    pub fn bridge_ports(&self, vni: Vni) -> impl Iterator<Item = (PortId, &PortConfig)> {
        self.ports_of(vni).map(|(id, port)| (id, &port.config))
    }

    pub(super) fn ports_of(&self, vni: Vni) -> impl Iterator<Item = (PortId, &Port)> {
        let is_of = move |port: &Port| port.bridge().is_some_and(|bridge| bridge.vni == vni);
        self.ports.iter().filter(move |(_, port)| is_of(port)).map(|(&id, port)| (id, port))
    }

    /// The VTEPs of a domain's flood list.
    pub fn flood_list(&self, vni: Vni) -> impl Iterator<Item = IpAddr> {
        let flood = self.bridges.get(&vni).map(|bridge| bridge.flood.as_slice()).unwrap_or_default();
        flood.iter().map(|&(vtep, _)| address_from_bits(vtep))
    }

    /// A domain's counters since it was added, all workers together.
    pub fn bridge_counters(&self, vni: Vni) -> Result<BridgeCounters, Error> {
        let bridge = self.bridges.get(&vni).ok_or(Error::UnknownVni(vni))?;
        let mut sum = BridgeCounters::default();
        self.workers.iter().filter_map(|worker| worker.bridge(bridge.slot)).for_each(|cells| sum.add(cells));
        Ok(BridgeCounters { learned: bridge.learned, moved: bridge.moved, ..sum.since(bridge.baseline) })
    }

    /// States a domain's flood list: the VTEPs that get what is flooded, and whose packets are accepted. Those of the other
    /// family than the domain's own VTEP address are refused with the whole list.
    pub fn flood_set(&mut self, vni: Vni, vteps: &[IpAddr]) -> Result<(), Error> {
        let bridge = self.bridges.get(&vni).ok_or(Error::UnknownVni(vni))?;
        vteps.iter().try_for_each(|&vtep| check_vtep(vni, &bridge.config, vtep))?;
        let mut wanted: Vec<u128> = vteps.iter().map(|&vtep| address_bits(vtep)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if !bridge.flood.iter().map(|(vtep, _)| vtep).eq(&wanted) {
            self.flood_replace(vni, &wanted);
        }
        if let Some(bridge) = self.bridges.get_mut(&vni) {
            bridge.flood_session = self.session;
        }
        Ok(())
    }

    pub(super) fn flood_replace(&mut self, vni: Vni, wanted: &[u128]) {
        let Some(bridge) = self.bridges.get_mut(&vni) else { return };
        let old = std::mem::take(&mut bridge.flood);
        let mut flood = Vec::with_capacity(wanted.len());
        for &vtep in wanted {
            if let Some(tunnel) = self.remote_acquire(vni, vtep) {
                flood.push((vtep, tunnel));
            }
        }
        if let Some(bridge) = self.bridges.get_mut(&vni) {
            bridge.flood = flood;
        }
        self.flood_publish(vni);
        // After the new ones took hold, so that what both use stays.
        old.into_iter().for_each(|(vtep, _)| self.remote_release(vni, vtep));
    }

    /// Writes the words of a domain's flood list: its ports and the tunnels to its VTEPs.
    pub(super) fn flood_publish(&mut self, vni: Vni) {
        let Some(bridge) = self.bridges.get(&vni) else { return };
        let ports = self.ports_of(vni).map(|(port, _)| FloodTarget::Port(port));
        let tunnels = bridge.flood.iter().map(|&(_, tunnel)| FloodTarget::Tunnel(tunnel));
        let mut words: Vec<u32> = ports.chain(tunnels).map(FloodTarget::word).collect();
        // More than a block holds are left out: 4096 targets of one frame.
        words.truncate(1 << FLOOD_CHUNK_LOG2);
        let count = u32::try_from(words.len()).unwrap_or(0);
        let log2 = count.next_power_of_two().trailing_zeros().max(SMALLEST_FLOOD_LOG2);
        let slot = bridge.slot;
        let taken = self.floods.take(log2).or_else(|| {
            self.reclaim_slots();
            self.floods.take(log2)
        });
        // Without room the old list stays in force.
        let Some(base) = taken else { return };
        for (at, word) in (base..).zip(words) {
            if let Some(cell) = self.tables.floods.get_or_make(at) {
                cell.store(word, Ordering::Relaxed);
            }
        }
        if let Some(record) = self.tables.bridge_record(slot) {
            record.set_flood(FloodBlock { base, count });
        }
        let old = self.bridges.get_mut(&vni).and_then(|bridge| bridge.block.replace((base, log2)));
        if let Some((base, log2)) = old {
            self.retire(Retired::Flood { base, log2 });
        }
    }

    /// The tunnel to a VTEP of a domain, whose packets are accepted from now on.
    pub(super) fn remote_acquire(&mut self, vni: Vni, vtep: u128) -> Option<u32> {
        let spec = self.tunnel_to(vni, vtep)?;
        let (tunnel, _) = self.tunnel_acquire(spec)?;
        self.peer_acquire(vni, vtep);
        Some(tunnel)
    }

    pub(super) fn remote_release(&mut self, vni: Vni, vtep: u128) {
        if let Some(spec) = self.tunnel_to(vni, vtep) {
            self.tunnel_release(&spec);
            self.peer_release(vni, vtep);
        }
    }

    fn tunnel_to(&self, vni: Vni, vtep: u128) -> Option<TunnelSpec> {
        let config = &self.bridges.get(&vni)?.config;
        Some(TunnelSpec {
            vni,
            own: config.vtep,
            vtep: address_from_bits(vtep),
            udp_port: config.udp_port,
            // The frames bring their own.
            router_mac: Mac::default(),
            remote_router_mac: Mac::default(),
        })
    }

    /// The domain's own VTEP address or UDP port is about to change: everything remote leaves by new tunnels.
    fn remotes_move(&mut self, vni: Vni, config: &BridgeConfig) {
        let flood: Vec<u128> = self
            .bridges
            .get(&vni)
            .map(|bridge| bridge.flood.iter().map(|&(vtep, _)| vtep).collect())
            .unwrap_or_default();
        let remotes = self.remotes_of(vni);
        remotes.iter().for_each(|(mac, _)| self.mac_forget(vni, *mac));
        self.flood_replace(vni, &[]);
        if let Some(bridge) = self.bridges.get_mut(&vni) {
            bridge.config = config.clone();
        }
        let reachable = |vtep: u128| address_from_bits(vtep).is_ipv4() == config.vtep.is_ipv4();
        let flood: Vec<u128> = flood.into_iter().filter(|&vtep| reachable(vtep)).collect();
        self.flood_replace(vni, &flood);
        for (mac, place) in remotes {
            if reachable(place.vtep()) {
                self.mac_place(vni, mac, place);
            }
        }
    }
}

fn vni_view(config: &BridgeConfig, slot: u32) -> VniView {
    VniView {
        router_mac: Mac::default(),
        udp_port: config.udp_port,
        own: address_bits(config.vtep),
        vrf: VrfId::DEFAULT,
        bridge: Some(slot),
    }
}

pub(super) fn check_vtep(vni: Vni, config: &BridgeConfig, vtep: IpAddr) -> Result<(), Error> {
    if !is_unicast(vtep) {
        Err(Error::NotUnicast(vtep))
    } else if vtep.is_ipv4() != config.vtep.is_ipv4() {
        Err(Error::VtepFamily { vni, vtep, own: config.vtep })
    } else {
        Ok(())
    }
}
