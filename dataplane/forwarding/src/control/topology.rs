//! Ports, VRFs, VTEP addresses and VNIs.

use std::net::IpAddr;

use super::{Control, Dependency, Retired};
use crate::counters::{PortCounters, VrfCounters};
use crate::error::Error;
use crate::fib::TableId;
use crate::tables::{NodeView, PortRole, PortView, VniView};
use crate::types::{Mac, PortId, Vni, VrfId, address_bits};

/// RFC 791: every internet module must forward 68 bytes unfragmented.
pub(super) const SMALLEST_MTU: u16 = 68;
/// IANA's port of VXLAN.
pub(super) const VXLAN_PORT: u16 = 4789;

/// What a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// For explanations; nothing depends on it.
    pub name: String,
    /// What it is part of.
    pub attachment: Attachment,
    /// The router's MAC on it; of a bridged port, its device's.
    pub mac: Mac,
    /// The largest IP packet it carries, bytes, 68 to 65535.
    pub mtu: u16,
}

/// What a port is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The VRF in which what it receives is looked up.
    Routed(VrfId),
    /// A bridge domain.
    Bridged(BridgePort),
}

/// A port's place in a bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgePort {
    /// The domain's L2VNI.
    pub vni: Vni,
    /// Most MACs that are learned on it.
    pub mac_limit: u32,
    /// Broadcast, multicast and unknown unicast frames that it may send in, per second and worker that polls it.
    pub flood_rate: u32,
}

impl BridgePort {
    /// A port of a domain with the usual limits.
    pub const fn new(vni: Vni) -> Self {
        Self { vni, mac_limit: 8192, flood_rate: 10_000 }
    }
}

/// What an L3VNI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VniConfig {
    /// The VRF of its inner packets, not the default one.
    pub vrf: VrfId,
    /// Which of this node's VTEP addresses it uses.
    pub vtep: IpAddr,
    /// Outer UDP destination port; 0 is 4789.
    pub udp_port: u16,
    /// Our router MAC: the inner destination of what we accept, the inner source of what we send.
    pub router_mac: Mac,
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) config: PortConfig,
    /// The domain whose router interface it is.
    pub(super) svi: Option<Vni>,
    /// MACs learned on it.
    pub(super) macs: u32,
}

impl Port {
    pub(super) const fn bridge(&self) -> Option<BridgePort> {
        match self.config.attachment {
            Attachment::Bridged(port) => Some(port),
            Attachment::Routed(_) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Vrf {
    pub(super) name: String,
    pub(super) tables: (TableId, TableId),
}

#[derive(Debug)]
pub(super) struct VniState {
    pub(super) config: VniConfig,
    slot: u32,
}

impl Control {
    /// A new port.
    pub fn port_add(&mut self, config: PortConfig) -> Result<PortId, Error> {
        self.check_port(&config)?;
        let port = self.port_number()?;
        self.publish_port(port, config)?;
        Ok(port)
    }

    /// A number for a port, with room for its counters.
    pub(super) fn port_number(&mut self) -> Result<PortId, Error> {
        let slot = self.port_slots.take().or_else(|| {
            self.reclaim_slots();
            self.port_slots.take()
        });
        let port = slot.and_then(|slot| u16::try_from(slot).ok()).map(PortId).ok_or(Error::Full("port"))?;
        self.workers.iter().for_each(|worker| worker.make_port(port));
        let mut baseline = PortCounters::default();
        self.workers.iter().filter_map(|worker| worker.port(port)).for_each(|cells| baseline.add(cells));
        self.port_baselines.insert(port, baseline);
        Ok(port)
    }

    /// Changes a port. One that leaves a bridge domain, or comes into another, forgets its MACs.
    pub fn port_set(&mut self, port: PortId, config: PortConfig) -> Result<(), Error> {
        self.own_port(port)?;
        self.check_port(&config)?;
        self.publish_port(port, config)
    }

    /// Removes a port with its neighbours and MACs. Paths over it are dead from now on, even if another port gets its
    /// number.
    pub fn port_remove(&mut self, port: PortId) -> Result<(), Error> {
        let vni = self.own_port(port)?.bridge().map(|bridge| bridge.vni);
        self.port_flush(port);
        self.port_forget(port);
        if let Some(vni) = vni {
            self.flood_publish(vni);
        }
        Ok(())
    }

    pub(super) fn port_forget(&mut self, port: PortId) {
        self.ports.remove(&port);
        self.tables.set_port(port, None);
        self.rebuild_dependents(Dependency::Port(port));
        self.neighbors_remove_of(port);
        self.port_baselines.remove(&port);
        self.retire(Retired::Port(port.0.into()));
    }

    /// A port that was added, not made with a bridge domain.
    fn own_port(&self, port: PortId) -> Result<&Port, Error> {
        self.ports.get(&port).filter(|state| state.svi.is_none()).ok_or(Error::UnknownPort(port))
    }

    /// What a port is.
    pub fn port(&self, port: PortId) -> Option<&PortConfig> {
        self.own_port(port).ok().map(|port| &port.config)
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortConfig)> {
        self.ports.iter().filter(|(_, port)| port.svi.is_none()).map(|(&id, port)| (id, &port.config))
    }

    fn check_port(&self, config: &PortConfig) -> Result<(), Error> {
        match config.attachment {
            Attachment::Routed(vrf) if !self.vrfs.contains_key(&vrf) => return Err(Error::UnknownVrf(vrf)),
            Attachment::Bridged(BridgePort { vni, .. }) if !self.bridges.contains_key(&vni) => {
                return Err(Error::UnknownVni(vni));
            }
            _ => {}
        }
        if !config.mac.is_unicast() {
            Err(Error::MacNotUnicast(config.mac))
        } else if config.mtu < SMALLEST_MTU {
            Err(Error::MtuTooSmall(config.mtu))
        } else {
            Ok(())
        }
    }

    fn publish_port(&mut self, port: PortId, config: PortConfig) -> Result<(), Error> {
        let (vrf, role) = match config.attachment {
            Attachment::Routed(vrf) => (vrf, PortRole::Routed),
            Attachment::Bridged(BridgePort { vni, flood_rate, .. }) => {
                let bridge = self.bridges.get(&vni).ok_or(Error::UnknownVni(vni))?.slot;
                (VrfId::DEFAULT, PortRole::Bridged { bridge, flood_rate })
            }
        };
        let view = PortView { mac: config.mac, mtu: config.mtu, vrf, role };
        let before = self.ports.get(&port).and_then(Port::bridge).map(|bridge| bridge.vni);
        let after = match config.attachment {
            Attachment::Routed(_) => None,
            Attachment::Bridged(bridge) => Some(bridge.vni),
        };
        if before != after {
            self.port_flush(port);
            // As a routed port it had neighbours.
            self.neighbors_remove_of(port);
        }
        self.tables.set_port(port, Some(view)).ok_or(Error::Full("port"))?;
        let macs = self.ports.get(&port).map_or(0, |port| port.macs);
        self.ports.insert(port, Port { config, svi: None, macs });
        self.judge_full(port);
        if before != after {
            before.into_iter().chain(after).for_each(|vni| self.flood_publish(vni));
        }
        Ok(())
    }

    /// A new VRF without routes.
    pub fn vrf_add(&mut self, name: impl Into<String>) -> Result<VrfId, Error> {
        let slot = self.vrf_slots.take().or_else(|| {
            self.reclaim_slots();
            self.vrf_slots.take()
        });
        let vrf = VrfId(slot.ok_or(Error::Full("VRF"))?);
        let tables = self.fib4.table_add().and_then(|v4| Ok((v4, self.fib6.table_add()?)));
        let Ok(tables) = tables else {
            self.vrf_slots.give(vrf.0);
            return Err(Error::Full("VRF"));
        };
        self.install_vrf(vrf, name.into(), tables);
        Ok(vrf)
    }

    pub(super) fn install_vrf(&mut self, vrf: VrfId, name: String, tables: (TableId, TableId)) {
        self.workers.iter().for_each(|worker| worker.make_vrf(vrf));
        let mut baseline = VrfCounters::default();
        self.workers.iter().filter_map(|worker| worker.vrf(vrf)).for_each(|cells| baseline.add(cells));
        self.vrf_baselines.insert(vrf, baseline);
        self.tables.set_vrf(vrf, Some(tables));
        self.vrfs.insert(vrf, Vrf { name, tables });
    }

    /// Removes a VRF with its routes. Its ports and VNIs must be gone or moved.
    pub fn vrf_remove(&mut self, vrf: VrfId) -> Result<(), Error> {
        if vrf == VrfId::DEFAULT {
            return Err(Error::DefaultVrf);
        }
        let tables = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        let used = |port: &&Port| port.config.attachment == Attachment::Routed(vrf);
        if let Some(port) = self.ports.values().find(used) {
            return Err(Error::VrfInUse { vrf, user: format!("port {}", port.config.name) });
        }
        if let Some((vni, _)) = self.vnis().find(|(_, config)| config.vrf == vrf) {
            return Err(Error::VrfInUse { vrf, user: format!("VNI {vni}") });
        }
        self.routes_forget(tables);
        self.tables.set_vrf(vrf, None);
        self.vrfs.remove(&vrf);
        self.vrf_baselines.remove(&vrf);
        self.retire(Retired::Vrf(vrf.0));
        Ok(())
    }

    /// All VRFs with their names, the default one first.
    pub fn vrfs(&self) -> impl Iterator<Item = (VrfId, &str)> {
        self.vrfs.iter().map(|(&id, vrf)| (id, vrf.name.as_str()))
    }

    /// A VRF's number of routes, IPv4's and IPv6's.
    pub fn route_counts(&self, vrf: VrfId) -> Result<(usize, usize), Error> {
        let (v4, v6) = self.vrf_tables(vrf).ok_or(Error::UnknownVrf(vrf))?;
        Ok((self.fib4.len(v4), self.fib6.len(v6)))
    }

    /// This node's VTEP addresses, at most one per family. VNIs that use one which is no longer there receive nothing.
    pub fn vtep_addresses_set(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let mut node = NodeView { v4: None, v6: None, ..self.node };
        let mut first = [None; 2];
        for &address in addresses {
            if !is_unicast(address) {
                return Err(Error::NotUnicast(address));
            }
            let place = &mut first[usize::from(address.is_ipv6())];
            if let Some(other) = place.replace(address) {
                return Err(Error::TwoVteps(other, address));
            }
            match address {
                IpAddr::V4(v4) => node.v4 = Some(v4.to_bits()),
                IpAddr::V6(v6) => node.v6 = Some(v6.to_bits()),
            }
        }
        self.publish_node(node)?;
        self.vtep_addresses = addresses.to_vec();
        Ok(())
    }

    /// This node's VTEP addresses.
    pub fn vtep_addresses(&self) -> &[IpAddr] {
        &self.vtep_addresses
    }

    /// Adds or changes an L3VNI. Routes that leave by it follow at once.
    pub fn vni_set(&mut self, vni: Vni, config: VniConfig) -> Result<(), Error> {
        let config =
            VniConfig { udp_port: if config.udp_port == 0 { VXLAN_PORT } else { config.udp_port }, ..config };
        if self.vnis.get(&vni).is_some_and(|state| state.config == config) {
            return Ok(());
        }
        if self.bridges.contains_key(&vni) {
            return Err(Error::VniKind(vni));
        }
        if config.vrf == VrfId::DEFAULT {
            return Err(Error::VniInDefaultVrf(vni));
        }
        if !self.vrfs.contains_key(&config.vrf) {
            return Err(Error::UnknownVrf(config.vrf));
        }
        if !config.router_mac.is_unicast() {
            return Err(Error::MacNotUnicast(config.router_mac));
        }
        let view = VniView {
            router_mac: config.router_mac,
            udp_port: config.udp_port,
            own: address_bits(config.vtep),
            vrf: config.vrf,
            bridge: None,
        };
        let slot = self.vni_publish(vni, config.vtep, view)?;
        if let Some(old) = self.vnis.insert(vni, VniState { config, slot }) {
            self.retire(Retired::Vni(old.slot));
        }
        self.rebuild_dependents(Dependency::Vni(vni));
        Ok(())
    }

    /// Makes a VNI lead to a new record; the record's slot.
    pub(super) fn vni_publish(&mut self, vni: Vni, vtep: IpAddr, view: VniView) -> Result<u32, Error> {
        if !self.vtep_addresses.contains(&vtep) {
            return Err(Error::NotOurVtep { vni, address: vtep });
        }
        let udp_ports = self.udp_ports_with(vni, Some(view.udp_port))?;
        let slot = self.vni_slots.take().or_else(|| {
            self.reclaim_slots();
            self.vni_slots.take()
        });
        let slot = slot.ok_or(Error::Full("VNI"))?;
        if let Err(error) = self.publish_node(NodeView { udp_ports, ..self.node }) {
            self.vni_slots.give(slot);
            return Err(error);
        }
        let linked = self.tables.write_vni(slot, &view);
        if linked.and_then(|()| self.tables.link_vni(vni.get(), Some(slot))).is_none() {
            self.vni_slots.give(slot);
            return Err(Error::Full("VNI"));
        }
        Ok(slot)
    }

    /// Makes a VNI that leads to a record lead nowhere.
    pub(super) fn vni_unpublish(&mut self, vni: Vni, slot: u32) -> Result<(), Error> {
        self.tables.link_vni(vni.get(), None);
        self.retire(Retired::Vni(slot));
        let udp_ports = self.udp_ports_with(vni, None)?;
        self.publish_node(NodeView { udp_ports, ..self.node })
    }

    /// Removes an L3VNI. Routes that leave by it hand their packets over until it returns.
    pub fn vni_remove(&mut self, vni: Vni) -> Result<(), Error> {
        let state = self.vnis.remove(&vni).ok_or(Error::UnknownVni(vni))?;
        self.vni_unpublish(vni, state.slot)?;
        self.rebuild_dependents(Dependency::Vni(vni));
        Ok(())
    }

    /// All L3VNIs.
    pub fn vnis(&self) -> impl Iterator<Item = (Vni, &VniConfig)> {
        self.vnis.iter().map(|(&vni, state)| (vni, &state.config))
    }

    /// The different UDP ports when `vni` has `port`.
    fn udp_ports_with(&self, vni: Vni, port: Option<u16>) -> Result<[u16; 4], Error> {
        let routed = self.vnis.iter().map(|(other, state)| (other, state.config.udp_port));
        let bridged = self.bridges.iter().map(|(other, bridge)| (other, bridge.config.udp_port));
        let others = routed.chain(bridged).filter(|(other, _)| **other != vni).map(|(_, port)| port);
        let mut ports = [0; 4];
        for port in others.chain(port) {
            if !ports.contains(&port) {
                *ports.iter_mut().find(|slot| **slot == 0).ok_or(Error::TooManyUdpPorts(port))? = port;
            }
        }
        Ok(ports)
    }

    fn publish_node(&mut self, node: NodeView) -> Result<(), Error> {
        if node == self.node {
            return Ok(());
        }
        let slot = self.node_slots.take().or_else(|| {
            self.reclaim_slots();
            self.node_slots.take()
        });
        let slot = slot.ok_or(Error::Full("change of the VTEP addresses; a worker is stuck"))?;
        self.tables.set_node(slot, node).ok_or(Error::Full("VTEP address"))?;
        let old = std::mem::replace(&mut self.node_slot, slot);
        self.retire(Retired::Node(old));
        self.node = node;
        Ok(())
    }
}

/// Whether a host may have it.
pub(super) fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && match address {
            IpAddr::V4(v4) => !v4.is_broadcast(),
            IpAddr::V6(_) => true,
        }
}
