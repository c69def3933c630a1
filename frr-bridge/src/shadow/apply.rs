use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, LinkBridge, LinkBridgePort, LinkUnspec, LinkVrf, LinkVxlan};
use tokio::sync::{Notify, watch};

use super::plan::{Action, Change, Current, plan};
use super::sysctl::{self, Role};
use crate::netlink::{self, Dump};
use crate::topology::Topology;

/// Looks and steps until nothing is left to do: creation, then settings, then what a change of VRF took away.
const MAX_PASSES: usize = 8;
/// A dataplane that has just started and holds nothing has not been asked yet: nothing is removed for so long.
const NEW_INSTANCE_GRACE: Duration = Duration::from_secs(60);
/// A step that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// Changes come in bursts; one look serves them all.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Ageing time of a bridge in hundredths of a second: 463 days, about the longest there is.
const NEVER: u32 = 4_000_000_000;

/// Keeps the router namespace equal to the topology.
#[derive(Debug)]
pub struct Shadow {
    handle: Handle,
    instance: Option<(u64, Instant)>,
    former_vteps: BTreeSet<IpAddr>,
    /// Devices whose sysctls were looked at, by index, and as what.
    tuned: BTreeMap<u32, Role>,
    /// What failed in the last round, so that the log says it once.
    failing: BTreeMap<String, String>,
}

impl Shadow {
    /// Prepares the namespace itself: settings, loopback and rules. `handle` is a connection in the router's namespace.
    pub async fn new(handle: Handle) -> Self {
        sysctl::set_namespace();
        for version in [IpVersion::V4, IpVersion::V6] {
            if let Err(error) = ensure_rules(&handle, &version).await {
                tracing::warn!(%error, ?version, "cannot set the rules that keep VRFs apart");
            }
        }
        Self {
            handle,
            instance: None,
            former_vteps: BTreeSet::new(),
            tuned: BTreeMap::new(),
            failing: BTreeMap::new(),
        }
    }

    /// Carries out what is needed. Returns whether all of it was done.
    pub async fn reconcile(&mut self, topology: &Topology, now: Instant) -> bool {
        if self.instance.is_none_or(|(instance, _)| instance != topology.instance) {
            self.instance = Some((topology.instance, now));
        }
        let known_for =
            self.instance.map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(since));
        let may_remove = !topology.is_empty() || known_for >= NEW_INSTANCE_GRACE;
        let mut failing = BTreeMap::new();
        for _ in 0..MAX_PASSES {
            let dump = match tokio::task::block_in_place(|| netlink::dump(Dump::Devices)) {
                Ok(dump) => dump,
                Err(error) => {
                    tracing::warn!(%error, "cannot look at the router namespace");
                    return false;
                }
            };
            let current = Current::new(dump);
            self.tune(topology, &current);
            let former = if may_remove { self.former_vteps.clone() } else { BTreeSet::new() };
            let mut progress = false;
            for action in plan(topology, &current, &former, may_remove) {
                let text = action.to_string();
                if failing.contains_key(&text) {
                    continue;
                }
                match self.carry_out(action).await {
                    Ok(()) => {
                        tracing::info!(action = text, "shadow");
                        progress = true;
                    }
                    Err(error) => {
                        let error = error.to_string();
                        if self.failing.get(&text) != Some(&error) {
                            tracing::warn!(action = text, error, "failed; will be tried again");
                        }
                        failing.insert(text, error);
                    }
                }
            }
            if !progress {
                break;
            }
        }
        if may_remove {
            self.former_vteps.clear();
        }
        self.former_vteps.extend(topology.vteps.iter().copied());
        self.failing = failing;
        // An empty topology of a new instance: come back when its time of grace is over.
        self.failing.is_empty() && may_remove
    }

    fn tune(&mut self, topology: &Topology, current: &Current) {
        let routed = topology.ports.iter().filter(|(_, port)| port.l2vni.is_none()).map(|(name, _)| name);
        let routed = routed.chain(topology.vrfs.keys()).map(|name| (name.clone(), Role::Routed));
        let svis = topology.l2vnis.iter().map(|(&vni, of)| {
            let role = if of.vrf.is_empty() { Role::Overlay } else { Role::Svi };
            (Topology::bridge_name(vni), role)
        });
        for (name, role) in routed.chain(svis) {
            if let Some(link) = current.links.get(&name)
                && self.tuned.insert(link.index, role) != Some(role)
            {
                sysctl::set_device(&name, role);
            }
        }
        let there: BTreeSet<u32> = current.links.values().map(|link| link.index).collect();
        self.tuned.retain(|index, _| there.contains(index));
    }

    async fn carry_out(&self, action: Action) -> Result<(), rtnetlink::Error> {
        let links = self.handle.link();
        match action {
            Action::CreateVrf { name, table } => {
                links.add(LinkVrf::new(&name, table).build()).execute().await
            }
            Action::CreateBridge { name, mac } => {
                let bridge = LinkBridge::new(&name)
                    .address(mac.0.to_vec())
                    // The dataplane ages what it has learned; what the control plane has said does not age at all.
                    .ageing_time(NEVER)
                    // Without a spanning tree nothing waits for it, but each port that came up is announced once more then.
                    .forward_delay(0)
                    // Every FDB entry would be there twice, without a VLAN and in this one.
                    .vlan_default_pvid(0)
                    // What the kernel multicasts goes to every port, whoever has asked for it.
                    .mcast_snooping(false);
                links.add(bridge.build()).execute().await
            }
            Action::CreateVxlan { name, vni, local, port, learning } => {
                let device = LinkVxlan::new(&name, vni).port(port).learning(learning);
                let device = match local {
                    IpAddr::V4(address) => device.local(address),
                    // The dataplane sends and takes outer IPv6 with a zero UDP checksum (RFC 6936).
                    IpAddr::V6(address) => {
                        device.local6(address).udp_zero_csum6_tx(true).udp_zero_csum6_rx(true)
                    }
                };
                links.add(device.build()).execute().await
            }
            Action::Delete { index, .. } => links.del(index).execute().await,
            Action::Set { index, change, .. } => {
                let link = LinkUnspec::new_with_index(index);
                let message = match change {
                    Change::Master(0) => link.nocontroller().build(),
                    Change::Master(master) => link.controller(master).build(),
                    Change::Up => link.up().build(),
                    Change::Mtu(mtu) => link.mtu(mtu).build(),
                    Change::Mac(mac) => link.address(mac.0.to_vec()).build(),
                    Change::Alias(alias) => link.alias(alias).build(),
                    Change::NoLinkLocal => {
                        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
                        let families = vec![AfSpecUnspec::Inet6(vec![mode])];
                        link.append_extra_attribute(LinkAttribute::AfSpecUnspec(families)).build()
                    }
                    Change::BridgePort(port) => {
                        let message = LinkBridgePort::new(index)
                            .learning(port.learning)
                            .neigh_suppress(port.neigh_suppress)
                            .flood(port.flood)
                            .mcast_flood(port.mcast_flood)
                            .bcast_flood(port.bcast_flood)
                            .build();
                        return links.set_port(message).execute().await;
                    }
                };
                links.set(message).execute().await
            }
            Action::AddAddress { index, address, .. } => {
                let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
                if address.addr().is_ipv6() {
                    let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                    request.message_mut().attributes.push(flags);
                }
                request.execute().await
            }
            Action::RemoveAddress { index, address, .. } => {
                let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
                let message = request.message_mut().clone();
                self.handle.address().del(message).execute().await
            }
        }
    }
}

/// A VRF without a matching route must not go on to the main table, and the addresses of the default VRF must not be local
/// to the others: `l3mdev unreachable` behind the kernel's own `l3mdev` rule (1000), and the local table behind both.
/// Linux, Documentation/networking/vrf.rst, "Applications".
async fn ensure_rules(handle: &Handle, version: &IpVersion) -> Result<(), rtnetlink::Error> {
    const L3MDEV: u32 = 1000;
    const UNREACHABLE: u32 = 2000;
    const LOCAL: u32 = 32765;
    const TABLE_LOCAL: u8 = 255;

    let family = match version {
        IpVersion::V4 => AddressFamily::Inet,
        IpVersion::V6 => AddressFamily::Inet6,
    };
    let present: Vec<RuleMessage> = handle.rule().get(version.clone()).execute().try_collect().await?;
    let priority = |rule: &RuleMessage| {
        let of = |attribute: &RuleAttribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        };
        rule.attributes.iter().find_map(of).unwrap_or(0)
    };
    let has = |wanted| present.iter().any(|rule| priority(rule) == wanted);
    let rule = |at, action, table, l3mdev| {
        let mut request = handle.rule().add().priority(at).action(action);
        let message = request.message_mut();
        message.header.family = family;
        message.header.table = table;
        if l3mdev {
            message.attributes.push(RuleAttribute::L3MDev(true));
        }
        request.execute()
    };
    // The kernel makes this one with its first VRF, and minds neither finding nor adding it.
    if !has(L3MDEV) {
        rule(L3MDEV, RuleAction::ToTable, 0, true).await?;
    }
    if !has(UNREACHABLE) {
        rule(UNREACHABLE, RuleAction::Unreachable, 0, true).await?;
    }
    if !has(LOCAL) {
        rule(LOCAL, RuleAction::ToTable, TABLE_LOCAL, false).await?;
    }
    for first in present.into_iter().filter(|rule| priority(rule) == 0) {
        handle.rule().del(first).execute().await?;
    }
    Ok(())
}

/// Reconciles whenever the topology changes, `changed` says that the namespace did, or a failed step is due again. Ends
/// when the topology's sender is dropped.
pub async fn run(handle: Handle, mut topology: watch::Receiver<Option<Arc<Topology>>>, changed: Arc<Notify>) {
    let mut shadow = Shadow::new(handle).await;
    loop {
        let wanted = topology.borrow_and_update().clone();
        let done = match wanted {
            Some(wanted) => shadow.reconcile(&wanted, Instant::now()).await,
            None => true,
        };
        let retry = async {
            if done {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(RETRY).await;
        };
        tokio::select! {
            outcome = topology.changed() => if outcome.is_err() { return },
            () = changed.notified() => {}
            () = retry => {}
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}
