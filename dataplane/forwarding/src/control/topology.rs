//! Ports, VRFs, VTEP addresses and VNIs.

use std::net::IpAddr;

use super::{Control, Dependency, Retired};
use crate::counters::{PortCounters, VrfCounters};
use crate::error::Error;
use crate::fib::TableId;
use crate::tables::{NodeView, PortView, VniView};
use crate::types::{Mac, PortId, Vni, VrfId, address_bits};

/// RFC 791: every internet module must forward 68 bytes unfragmented.
const SMALLEST_MTU: u16 = 68;
/// IANA's port of VXLAN.
const VXLAN_PORT: u16 = 4789;

/// What a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// For explanations; nothing depends on it.
    pub name: String,
    /// The VRF in which what it receives is looked up.
    pub vrf: VrfId,
    /// The router's MAC on it.
    pub mac: Mac,
    /// The largest IP packet it carries, bytes, 68 to 65535.
    pub mtu: u16,
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
        let slot = self.port_slots.take().or_else(|| {
            self.reclaim_slots();
            self.port_slots.take()
        });
        let port = slot.and_then(|slot| u16::try_from(slot).ok()).map(PortId).ok_or(Error::Full("port"))?;
        self.workers.iter().for_each(|worker| worker.make_port(port));
        let mut baseline = PortCounters::default();
        self.workers.iter().filter_map(|worker| worker.port(port)).for_each(|cells| baseline.add(cells));
        self.port_baselines.insert(port, baseline);
        self.publish_port(port, config)?;
        Ok(port)
    }

    /// Changes a port.
    pub fn port_set(&mut self, port: PortId, config: PortConfig) -> Result<(), Error> {
        if !self.ports.contains_key(&port) {
            return Err(Error::UnknownPort(port));
        }
        self.check_port(&config)?;
        self.publish_port(port, config)
    }

    /// Removes a port with its neighbours. Paths over it are dead from now on, even if another port gets its number.
    pub fn port_remove(&mut self, port: PortId) -> Result<(), Error> {
        self.ports.remove(&port).ok_or(Error::UnknownPort(port))?;
        self.tables.set_port(port, None);
        self.rebuild_dependents(Dependency::Port(port));
        self.neighbors_remove_of(port);
        self.port_baselines.remove(&port);
        self.retire(Retired::Port(port.0.into()));
        Ok(())
    }

    /// What a port is.
    pub fn port(&self, port: PortId) -> Option<&PortConfig> {
        self.ports.get(&port).map(|port| &port.config)
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortConfig)> {
        self.ports.iter().map(|(&id, port)| (id, &port.config))
    }

    fn check_port(&self, config: &PortConfig) -> Result<(), Error> {
        if !self.vrfs.contains_key(&config.vrf) {
            Err(Error::UnknownVrf(config.vrf))
        } else if !config.mac.is_unicast() {
            Err(Error::MacNotUnicast(config.mac))
        } else if config.mtu < SMALLEST_MTU {
            Err(Error::MtuTooSmall(config.mtu))
        } else {
            Ok(())
        }
    }

    fn publish_port(&mut self, port: PortId, config: PortConfig) -> Result<(), Error> {
        let view = PortView { mac: config.mac, mtu: config.mtu, vrf: config.vrf };
        self.tables.set_port(port, Some(view)).ok_or(Error::Full("port"))?;
        self.ports.insert(port, Port { config });
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
        if let Some((_, port)) = self.ports().find(|(_, port)| port.vrf == vrf) {
            return Err(Error::VrfInUse { vrf, user: format!("port {}", port.name) });
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
        if config.vrf == VrfId::DEFAULT {
            return Err(Error::VniInDefaultVrf(vni));
        }
        if !self.vrfs.contains_key(&config.vrf) {
            return Err(Error::UnknownVrf(config.vrf));
        }
        if !self.vtep_addresses.contains(&config.vtep) {
            return Err(Error::NotOurVtep { vni, address: config.vtep });
        }
        if !config.router_mac.is_unicast() {
            return Err(Error::MacNotUnicast(config.router_mac));
        }
        let udp_ports = self.udp_ports_with(vni, Some(config.udp_port))?;
        let slot = self.vni_slots.take().or_else(|| {
            self.reclaim_slots();
            self.vni_slots.take()
        });
        let slot = slot.ok_or(Error::Full("VNI"))?;
        if let Err(error) = self.publish_node(NodeView { udp_ports, ..self.node }) {
            self.vni_slots.give(slot);
            return Err(error);
        }
        let view = VniView {
            router_mac: config.router_mac,
            udp_port: config.udp_port,
            own: address_bits(config.vtep),
            vrf: config.vrf,
        };
        if self
            .tables
            .write_vni(slot, &view)
            .and_then(|()| self.tables.link_vni(vni.get(), Some(slot)))
            .is_none()
        {
            self.vni_slots.give(slot);
            return Err(Error::Full("VNI"));
        }
        if let Some(old) = self.vnis.insert(vni, VniState { config, slot }) {
            self.retire(Retired::Vni(old.slot));
        }
        self.rebuild_dependents(Dependency::Vni(vni));
        Ok(())
    }

    /// Removes an L3VNI. Routes that leave by it hand their packets over until it returns.
    pub fn vni_remove(&mut self, vni: Vni) -> Result<(), Error> {
        let state = self.vnis.remove(&vni).ok_or(Error::UnknownVni(vni))?;
        self.tables.link_vni(vni.get(), None);
        self.retire(Retired::Vni(state.slot));
        let udp_ports = self.udp_ports_with(vni, None)?;
        self.publish_node(NodeView { udp_ports, ..self.node })?;
        self.rebuild_dependents(Dependency::Vni(vni));
        Ok(())
    }

    /// All L3VNIs.
    pub fn vnis(&self) -> impl Iterator<Item = (Vni, &VniConfig)> {
        self.vnis.iter().map(|(&vni, state)| (vni, &state.config))
    }

    /// The different UDP ports when `vni` has `port`.
    fn udp_ports_with(&self, vni: Vni, port: Option<u16>) -> Result<[u16; 4], Error> {
        let others =
            self.vnis.iter().filter(|(other, _)| **other != vni).map(|(_, state)| state.config.udp_port);
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
