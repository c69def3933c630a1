//! Carries topologies out: one thread that opens and closes ports, tells forwarding of VRFs and VNIs, follows links,
//! and tries again what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use dataplane_api::v1;
use forwarding::{Attachment as Role, BridgeConfig, Control, Mac, PortConfig, PortId, Vni, VniConfig, VrfId};
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::plan::{Held, Step, plan};
use super::ports::{Losses, Namespaces, OpenPort, Ports, TAP_MTU};
use super::spec::{DEFAULT_VRF, Desired, Device, L2Vni, ObjectName, Port};
use super::state::{self, PortView, View};
use crate::error::Error;
use crate::host::bridges::{Attachment, Bridges, Errors};
use crate::host::{LinkEvent, Links};
use crate::worker::PortCount;

/// First and longest wait before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// How often links are read that nobody reports: those of PCI devices, of vhost-user and memif ports, and of TAPs in
/// namespaces of others.
const LINK_POLL: Duration = Duration::from_millis(200);
/// How often memory that workers may still have looked at is looked after, and what devices count.
const RECLAIM: Duration = Duration::from_secs(1);

/// What the thread is asked.
#[derive(Debug)]
enum Request {
    Apply(v1::TopologySpec, oneshot::Sender<v1::ApplyResponse>),
    Link(LinkEvent),
    /// Why TAPs are not in their bridges.
    Bridges(Errors),
}

/// The names of what is programmed, for whoever reads counters or routes.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Ports, with the counters that forwarding does not keep.
    pub ports: BTreeMap<PortId, (String, Arc<PortCount>)>,
    /// What ports lost before forwarding saw it.
    pub losses: BTreeMap<PortId, Arc<Losses>>,
    /// The router's interfaces in L2VNIs.
    pub svis: BTreeMap<PortId, u32>,
    /// VRFs, the default one included.
    pub vrfs: BTreeMap<VrfId, String>,
    /// By worker, the names of the ports it polls.
    pub polled: BTreeMap<usize, Vec<String>>,
}

impl Names {
    /// The number of a VRF.
    pub fn vrf(&self, name: &str) -> Option<VrfId> {
        let name = if name.is_empty() { DEFAULT_VRF } else { name };
        self.vrfs.iter().find(|(_, held)| *held == name).map(|(&id, _)| id)
    }

    /// The name of a port, or of the router's interface in an L2VNI.
    pub fn interface(&self, id: PortId) -> Option<String> {
        let svi = || self.svis.get(&id).map(|vni| format!("br-pe-{vni}"));
        self.ports.get(&id).map(|(name, _)| name.clone()).or_else(svi)
    }

    /// The number of a port.
    pub fn port(&self, name: &str) -> Option<PortId> {
        self.ports.iter().find(|(_, (held, _))| held == name).map(|(&id, _)| id)
    }
}

/// The tables, as whoever changes or reads them shares them: one writer at a time.
pub type SharedControl = Arc<Mutex<Control>>;

/// Makes them ready to be shared.
pub fn share(control: Control) -> SharedControl {
    Arc::new(Mutex::new(control))
}

/// Locks the tables. A panic elsewhere has not left them half changed: every change is one call.
pub fn lock(control: &SharedControl) -> MutexGuard<'_, Control> {
    control.lock()
}

/// Lets the tables go to whoever waits for them: for one who will soon lock them again, and again.
pub fn unlock_fair(control: MutexGuard<'_, Control>) {
    MutexGuard::unlock_fair(control);
}

/// The outside's handle.
#[derive(Clone, Debug)]
pub struct Topology {
    requests: Sender<Request>,
    state: watch::Receiver<Arc<v1::TopologyState>>,
    names: watch::Receiver<Arc<Names>>,
}

impl Topology {
    /// Starts the thread.
    ///
    /// # Errors
    /// When links cannot be watched.
    pub fn spawn(
        ports: Ports,
        control: SharedControl,
        instance: u64,
        runtime: &Handle,
        namespaces: &Namespaces,
    ) -> Result<Self, Error> {
        let (requests, receiver) = channel();
        for netns in [&namespaces.host, &namespaces.ports] {
            let mut events = Links::watch(netns, runtime)?;
            let requests = requests.clone();
            runtime.spawn(async move {
                while let Some(event) = events.recv().await {
                    if requests.send(Request::Link(event)).is_err() {
                        return;
                    }
                }
            });
        }
        let reports = requests.clone();
        let bridges = Bridges::spawn(runtime, &namespaces.host, move |errors| {
            // Fails when the thread that would care has ended.
            let _ = reports.send(Request::Bridges(errors));
        })?;
        let mut manager = Manager {
            ports,
            bridges,
            attachments: Vec::new(),
            unbridged: Errors::new(),
            bridged: false,
            control,
            held: Held::default(),
            open: BTreeMap::new(),
            strayed: BTreeSet::new(),
            vrfs: BTreeMap::new(),
            svis: BTreeMap::new(),
            vteps: Vec::new(),
            desired: Desired::default(),
            applied: false,
            failures: BTreeMap::new(),
            state: watch::Sender::new(Arc::new(v1::TopologyState { instance, ..Default::default() })),
            names: watch::Sender::new(Arc::new(Names::default())),
        };
        manager.publish();
        let handle = Self { requests, state: manager.state.subscribe(), names: manager.names.subscribe() };
        std::thread::Builder::new()
            .name("topology".into())
            .spawn(move || manager.run(&receiver))
            .map_err(Error::system("start the topology's thread"))?;
        Ok(handle)
    }

    /// Carries a topology out. `None` when the thread has ended.
    pub async fn apply(&self, spec: v1::TopologySpec) -> Option<v1::ApplyResponse> {
        let (answer, receiver) = oneshot::channel();
        self.requests.send(Request::Apply(spec, answer)).ok()?;
        receiver.await.ok()
    }

    /// The state, and news of its changes.
    pub fn watch(&self) -> watch::Receiver<Arc<v1::TopologyState>> {
        self.state.clone()
    }

    /// The names of what is programmed now.
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names.borrow())
    }
}

#[derive(Debug)]
struct Failure {
    error: String,
    wait: Duration,
    retry_at: Instant,
}

struct Manager {
    ports: Ports,
    bridges: Bridges,
    /// Where TAPs are wanted.
    attachments: Vec<Attachment>,
    /// Why some are not there, by port.
    unbridged: Errors,
    /// TAPs of the host's namespace, by interface, that somebody has taken into another: nobody tells of their links.
    strayed: BTreeSet<String>,
    /// Bridges have been told once.
    bridged: bool,
    control: SharedControl,
    held: Held,
    open: BTreeMap<String, OpenPort>,
    vrfs: BTreeMap<String, VrfId>,
    /// The router's interface in each L2VNI.
    svis: BTreeMap<u32, PortId>,
    vteps: Vec<IpAddr>,
    desired: Desired,
    applied: bool,
    failures: BTreeMap<ObjectName, Failure>,
    state: watch::Sender<Arc<v1::TopologyState>>,
    names: watch::Sender<Arc<Names>>,
}

impl Manager {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut next_reclaim = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_reclaim {
                lock(&self.control).reclaim();
                for (name, open) in &self.open {
                    open.count_losses(name);
                }
                next_reclaim = now + RECLAIM;
            }
            let mut until = next_reclaim;
            until =
                self.failures.values().map(|failure| failure.retry_at).chain([until]).min().unwrap_or(until);
            if self.polls_links() {
                until = until.min(now + LINK_POLL);
            }
            match requests.recv_timeout(until.saturating_duration_since(now)) {
                Ok(Request::Apply(spec, answer)) => {
                    let response = self.apply(&spec);
                    // The caller may have gone; what was asked for is done all the same.
                    let _ = answer.send(response);
                }
                Ok(Request::Bridges(errors)) => {
                    self.unbridged = errors;
                    self.publish();
                }
                Ok(Request::Link(event)) => {
                    // A burst of events is one change.
                    let mut events = vec![event];
                    let mut later = None;
                    while let Ok(request) = requests.try_recv() {
                        match request {
                            Request::Link(event) => events.push(event),
                            Request::Bridges(errors) => self.unbridged = errors,
                            apply @ Request::Apply(..) => {
                                later = Some(apply);
                                break;
                            }
                        }
                    }
                    self.links_changed(&events);
                    if let Some(Request::Apply(spec, answer)) = later {
                        let response = self.apply(&spec);
                        let _ = answer.send(response);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.polls_links() {
                        let strayed = std::mem::take(&mut self.strayed);
                        self.refresh_links(|port| {
                            !is_watched(&port.device)
                                || interface_of(&port.device).is_some_and(|name| strayed.contains(name))
                        });
                        self.strayed = strayed;
                    }
                    if self.failures.values().any(|failure| failure.retry_at <= Instant::now()) {
                        self.reconcile();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn apply(&mut self, spec: &v1::TopologySpec) -> v1::ApplyResponse {
        let desired = Desired::check(spec);
        for refusal in &desired.refused {
            warn!(kind = refusal.object.kind, name = refusal.object.name, error = refusal.error, "refused");
        }
        for (name, wanted) in &self.desired.ports {
            if !desired.ports.contains_key(name) && !self.open.contains_key(name) {
                self.ports.abandon(wanted);
            }
        }
        self.desired = desired;
        // Who asks again expects another attempt at once.
        self.failures.clear();
        if !std::mem::replace(&mut self.applied, true)
            && let Err(error) = self.ports.remove_strangers(self.desired.ports.values())
        {
            warn!(%error, "cannot clean up after an earlier process");
        }
        self.reconcile();
        v1::ApplyResponse { generation: self.state.borrow().generation, results: self.results(spec) }
    }

    fn results(&self, spec: &v1::TopologySpec) -> Vec<v1::ObjectResult> {
        let ports = spec.ports.iter().map(|port| ("port", port.name.clone()));
        let vrfs = spec.vrfs.iter().map(|vrf| ("vrf", vrf.name.clone()));
        let vnis = spec.l3vnis.iter().map(|vni| ("vni", vni.vni.to_string()));
        let l2vnis = spec.l2vnis.iter().map(|vni| ("l2vni", vni.vni.to_string()));
        let groups: [Vec<(&'static str, String)>; 4] =
            [ports.collect(), vrfs.collect(), vnis.collect(), l2vnis.collect()];
        let mut results: Vec<_> = groups
            .into_iter()
            .flat_map(|group| group.into_iter().enumerate())
            .map(|(position, (kind, name))| {
                if let Some(refusal) = self.desired.refusal(kind, position) {
                    return v1::ObjectResult {
                        kind: kind.into(),
                        name,
                        error: refusal.error.clone(),
                        retrying: false,
                    };
                }
                let object = ObjectName { kind, name };
                let bridge = (kind == "port").then(|| self.unbridged.get(&object.name)).flatten();
                let failure = self.failures.get(&object).map(|failure| &failure.error);
                let error = failure.or(bridge).cloned().unwrap_or_default();
                v1::ObjectResult { kind: kind.into(), name: object.name, retrying: !error.is_empty(), error }
            })
            .collect();
        results.extend(self.desired.refused.iter().filter(|refusal| refusal.object.kind == "vtep").map(
            |refusal| {
                let ObjectName { kind, name } = refusal.object.clone();
                v1::ObjectResult { kind: kind.into(), name, error: refusal.error.clone(), retrying: false }
            },
        ));
        results
    }

    /// Does what there is to do, except what failed and is not due yet.
    fn reconcile(&mut self) {
        if self.vteps != self.desired.vteps {
            // VNIs that use an address that goes are removed first.
            let leaving: Vec<u32> = self
                .held
                .vnis
                .iter()
                .filter(|(_, vni)| !self.desired.vteps.contains(&vni.vtep))
                .map(|(&vni, _)| vni)
                .collect();
            for vni in leaving {
                if let Err(error) = self.step(Step::RemoveVni(vni)) {
                    warn!(vni, %error, "cannot remove it");
                }
            }
            match lock(&self.control).vtep_addresses_set(&self.desired.vteps) {
                Ok(()) => self.vteps.clone_from(&self.desired.vteps),
                Err(error) => warn!(%error, "cannot set the VTEP addresses"),
            }
        }
        for step in plan(&self.held, &self.desired) {
            let object = object_of(&step);
            let now = Instant::now();
            if self.failures.get(&object).is_some_and(|failure| failure.retry_at > now) {
                continue;
            }
            let wait =
                self.failures.remove(&object).map_or(RETRY.0, |failure| (failure.wait * 2).min(RETRY.1));
            if let Err(error) = self.step(step) {
                warn!(kind = object.kind, name = object.name, %error, "failed; it is tried again");
                let retry_at = Instant::now() + wait;
                self.failures.insert(object, Failure { error: error.to_string(), wait, retry_at });
            }
        }
        let desired = &self.desired;
        self.failures.retain(|object, _| match object.kind {
            "port" => desired.ports.contains_key(&object.name),
            "vrf" => desired.vrfs.contains(&object.name),
            "l2vni" => object.name.parse().is_ok_and(|vni: u32| desired.l2vnis.contains_key(&vni)),
            _ => object.name.parse().is_ok_and(|vni: u32| desired.vnis.contains_key(&vni)),
        });
        let vnis = self.held.vnis.values().map(|vni| vni.udp_port);
        let ports: BTreeSet<u16> = vnis.chain(self.held.l2vnis.values().map(|vni| vni.udp_port)).collect();
        dpdk::set_vxlan_ports(ports);
        self.follow_mtus();
        self.follow_bridges();
        self.publish();
    }

    /// Has the TAPs that are open put into their bridges.
    fn follow_bridges(&mut self) {
        let wanted = |port: &Port| match &port.device {
            Device::Tap { interface, netns } => Some(Attachment {
                port: port.spec.name.clone(),
                interface: interface.clone(),
                netns: netns.clone(),
                bridge: port.host_bridge.clone(),
            }),
            _ => None,
        };
        let attachments: Vec<_> = self.held.ports.values().filter_map(wanted).collect();
        // The first time there may be something that an earlier process left.
        if self.applied && (attachments != self.attachments || !std::mem::replace(&mut self.bridged, true)) {
            self.unbridged = self.bridges.want(attachments.clone());
            self.attachments = attachments;
        }
    }

    fn step(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::RemoveVni(vni) => {
                self.held.vnis.remove(&vni);
                Ok(lock(&self.control).vni_remove(vni_of(vni)?)?)
            }
            Step::RemovePort(name) => self.close(&name, true),
            Step::RemoveVrf(name) => {
                self.held.vrfs.remove(&name);
                match self.vrfs.remove(&name) {
                    Some(id) => Ok(lock(&self.control).vrf_remove(id)?),
                    None => Ok(()),
                }
            }
            Step::AddVrf(name) => {
                let id = lock(&self.control).vrf_add(name.clone())?;
                self.vrfs.insert(name.clone(), id);
                self.held.vrfs.insert(name);
                Ok(())
            }
            Step::SetL2Vni(wanted) => self.set_l2vni(wanted),
            Step::RemoveL2Vni(vni) => {
                self.held.l2vnis.remove(&vni);
                self.svis.remove(&vni);
                Ok(lock(&self.control).bridge_remove(vni_of(vni)?)?)
            }
            Step::AddPort(wanted) => self.open(wanted),
            Step::ChangePort(wanted) => self.change(wanted),
            Step::AddVni(wanted) => {
                let config = VniConfig {
                    vrf: self.vrf_id(&wanted.vrf)?,
                    vtep: wanted.vtep,
                    udp_port: wanted.udp_port,
                    router_mac: Mac::new(wanted.router_mac),
                };
                lock(&self.control).vni_set(vni_of(wanted.spec.vni)?, config)?;
                self.held.vnis.insert(wanted.spec.vni, wanted);
                Ok(())
            }
        }
    }

    fn vrf_id(&self, name: &str) -> Result<VrfId, Error> {
        if name == DEFAULT_VRF {
            return Ok(VrfId::DEFAULT);
        }
        self.vrfs.get(name).copied().ok_or_else(|| Error::NoVrf { name: name.to_owned() })
    }

    fn set_l2vni(&mut self, wanted: L2Vni) -> Result<(), Error> {
        let config = BridgeConfig {
            vrf: wanted.vrf.as_ref().map(|vrf| self.vrf_id(vrf)).transpose()?,
            vtep: wanted.vtep,
            udp_port: wanted.udp_port,
            mac: Mac::new(wanted.mac),
            gateways: wanted.gateways.clone(),
            mtu: small(state::vni_mtu(self.underlay_mtu(), wanted.vtep)),
            mac_limit: wanted.mac_limit,
            aging: wanted.aging,
            learn_from_vteps: wanted.spec.learn_from_vteps,
        };
        let number = wanted.spec.vni;
        let svi = lock(&self.control).bridge_set(vni_of(number)?, config)?;
        self.svis.insert(number, svi);
        self.held.l2vnis.insert(number, wanted);
        Ok(())
    }

    /// What a port is part of.
    fn role(&self, port: &Port) -> Result<Role, Error> {
        match port.bridge {
            Some(bridge) => Ok(Role::Bridged(bridge)),
            None => self.vrf_id(&port.vrf).map(Role::Routed),
        }
    }

    fn open(&mut self, wanted: Port) -> Result<(), Error> {
        let attachment = self.role(&wanted)?;
        let name = wanted.spec.name.clone();
        let ready = self.ports.open(&wanted, self.tap_mtu(&wanted))?;
        let config =
            PortConfig { name: name.clone(), attachment, mac: Mac::new(ready.mac), mtu: small(ready.mtu) };
        let id = lock(&self.control).port_add(config)?;
        let open = self.ports.attach(&name, id, ready)?;
        info!(
            port = name,
            id = id.0,
            driver = open.driver,
            mac = %Mac::new(open.mac),
            mtu = open.mtu,
            link = open.link.up,
            "port open"
        );
        self.open.insert(name.clone(), open);
        self.held.ports.insert(name, wanted);
        Ok(())
    }

    fn close(&mut self, name: &str, release: bool) -> Result<(), Error> {
        self.held.ports.remove(name);
        let Some(open) = self.open.remove(name) else { return Ok(()) };
        // First, so that no packet is sent there any more when the queues go.
        lock(&self.control).port_remove(open.id)?;
        self.ports.close(name, open, release)
    }

    fn change(&mut self, wanted: Port) -> Result<(), Error> {
        let name = wanted.spec.name.clone();
        let tap_mtu = self.tap_mtu(&wanted);
        let attachment = self.role(&wanted)?;
        let Some(open) = self.open.get_mut(&name) else { return Ok(()) };
        self.ports.change(open, &wanted, tap_mtu)?;
        let config =
            PortConfig { name: name.clone(), attachment, mac: Mac::new(open.mac), mtu: small(open.mtu) };
        lock(&self.control).port_set(open.id, config)?;
        self.held.ports.insert(name, wanted);
        Ok(())
    }

    /// MTU of an access port that names none: that of the L2VNI it is in, or of the L3VNI of its VRF.
    fn tap_mtu(&self, port: &Port) -> u32 {
        let vtep = match port.bridge {
            Some(bridge) => self.desired.l2vnis.get(&bridge.vni.get()).map(|vni| vni.vtep),
            None => self.desired.vnis.values().find(|vni| vni.vrf == port.vrf).map(|vni| vni.vtep),
        };
        vtep.map_or(TAP_MTU, |vtep| state::vni_mtu(self.underlay_mtu(), vtep))
    }

    /// Smallest MTU of the open ports that tunnels may leave by.
    fn underlay_mtu(&self) -> Option<u32> {
        let underlay = |(name, port): (&String, &Port)| {
            port.is_underlay().then(|| self.open.get(name).map(|open| open.mtu)).flatten()
        };
        self.held.ports.iter().filter_map(underlay).min()
    }

    /// Access ports follow the MTU of the underlay, which is known only when its ports are open.
    fn follow_mtus(&mut self) {
        for vni in self.held.l2vnis.values().cloned().collect::<Vec<_>>() {
            let number = vni.spec.vni;
            if let Err(error) = self.set_l2vni(vni) {
                warn!(l2vni = number, %error, "cannot change the MTU");
            }
        }
        let stale: Vec<Port> = self
            .held
            .ports
            .values()
            .filter(|port| port.device.is_access() && port.mtu.is_none())
            .filter(|port| {
                let wanted = self.tap_mtu(port);
                self.open.get(&port.spec.name).is_some_and(|open| open.mtu != wanted.min(open.capacity))
            })
            .cloned()
            .collect();
        for port in stale {
            let name = port.spec.name.clone();
            // Larger frames take larger buffers, which a port has for as long as it is open.
            let outgrown = self.open.get(&name).is_some_and(|open| self.tap_mtu(&port) > open.capacity);
            let outcome = if outgrown {
                self.close(&name, false).and_then(|()| self.open(port))
            } else {
                self.change(port)
            };
            if let Err(error) = outcome {
                warn!(port = name, %error, "cannot change the MTU");
            }
        }
    }

    fn polls_links(&self) -> bool {
        !self.strayed.is_empty() || self.held.ports.values().any(|port| !is_watched(&port.device))
    }

    /// Reads links again, and gives up ports whose device has gone.
    fn refresh_links(&mut self, concerned: impl Fn(&Port) -> bool) {
        let mut changed = false;
        let mut lost = Vec::new();
        for (name, open) in &mut self.open {
            if self.held.ports.get(name).is_some_and(&concerned) {
                match open.refresh_link(name) {
                    Ok(one) => {
                        changed |= one;
                        // Who was behind it may be anywhere now.
                        if one && !open.link.up {
                            lock(&self.control).port_flush(open.id);
                        }
                    }
                    Err(error) => lost.push((name.clone(), error)),
                }
            }
        }
        if changed {
            self.publish();
        }
        self.give_up(lost);
    }

    /// Closes ports whose device has gone, to be opened again when it returns.
    fn give_up(&mut self, lost: Vec<(String, Error)>) {
        if lost.is_empty() {
            return;
        }
        for (name, error) in lost {
            warn!(port = name, %error, "its device has gone");
            if let Err(error) = self.close(&name, false) {
                warn!(port = name, %error, "cannot close it cleanly");
            }
        }
        self.reconcile();
    }

    fn links_changed(&mut self, events: &[LinkEvent]) {
        let mut concerned = BTreeSet::new();
        let mut gone = BTreeSet::new();
        for event in events {
            match event {
                LinkEvent::Changed(link) => concerned.insert(link.name.as_str()),
                LinkEvent::Gone(name) => gone.insert(name.as_str()),
            };
        }
        let named = |port: &Port, names: &BTreeSet<&str>| {
            interface_of(&port.device).is_some_and(|interface| names.contains(interface))
        };
        // Events may be older than what is open now, e.g. of the move into our namespace: reading tells.
        self.refresh_links(|port| named(port, &concerned));
        let mut lost = Vec::new();
        for (name, port) in self.held.ports.iter().filter(|(_, port)| named(port, &gone)) {
            if let (Some(open), Some(interface)) = (self.open.get(name), interface_of(&port.device))
                && !matches!(self.ports.link_of(open), Ok(Some(_)))
            {
                // A TAP that has left its namespace is still ours: whoever uses it has taken it into another one.
                if open.tap_lives() {
                    self.strayed.insert(interface.to_owned());
                } else {
                    lost.push((name.clone(), Error::NoInterface { interface: interface.to_owned() }));
                }
            }
        }
        // One that is back is watched again, and one that was given up is made anew.
        self.strayed.retain(|interface| !concerned.contains(interface.as_str()));
        self.give_up(lost);
        let mut reconcile = false;
        for (name, port) in &self.desired.ports {
            if named(port, &concerned)
                && let Some(failure) = self.failures.get_mut(&ObjectName { kind: "port", name: name.clone() })
            {
                failure.retry_at = Instant::now();
                reconcile = true;
            }
        }
        if reconcile {
            self.reconcile();
        }
    }

    fn publish(&mut self) {
        let mut polled = BTreeMap::<usize, Vec<String>>::new();
        for (name, open) in &self.open {
            for &worker in &open.polled_by {
                polled.entry(worker).or_default().push(name.clone());
            }
        }
        let names = Names {
            polled,
            ports: self
                .open
                .iter()
                .map(|(name, open)| (open.id, (name.clone(), Arc::clone(&open.count))))
                .collect(),
            losses: self.open.values().map(|open| (open.id, Arc::clone(&open.losses))).collect(),
            svis: self.svis.iter().map(|(&vni, &svi)| (svi, vni)).collect(),
            vrfs: self
                .vrfs
                .iter()
                .map(|(name, &id)| (id, name.clone()))
                .chain([(VrfId::DEFAULT, DEFAULT_VRF.to_owned())])
                .collect(),
        };
        self.names.send_replace(Arc::new(names));
        let open = self.open.iter().map(|(name, open)| {
            let view = PortView {
                id: open.id.0,
                mac: open.mac,
                mtu: open.mtu,
                adopted: &open.adopted,
                driver: &open.driver,
                rx_queues: open.rx_queues,
                up: open.link.up,
                speed: open.link.speed.unwrap_or_default(),
            };
            (name.as_str(), view)
        });
        let unbridged: BTreeMap<ObjectName, &str> = self
            .unbridged
            .iter()
            .map(|(port, error)| (ObjectName { kind: "port", name: port.clone() }, error.as_str()))
            .collect();
        let failures = self.failures.iter().map(|(object, failure)| (object, failure.error.as_str()));
        let failures = unbridged.iter().map(|(object, &error)| (object, error)).chain(failures);
        let view = View {
            desired: &self.desired,
            held: &self.held,
            open: open.collect(),
            failures: failures.collect(),
            vrfs: self.vrfs.iter().map(|(name, id)| (name.as_str(), id.0)).collect(),
            svis: &self.svis,
            underlay_mtu: self.underlay_mtu(),
        };
        let mut next = state::render(&view);
        self.state.send_if_modified(|held| {
            next.instance = held.instance;
            next.generation = held.generation;
            if **held == next {
                return false;
            }
            next.generation += 1;
            *held = Arc::new(next);
            true
        });
    }
}

fn object_of(step: &Step) -> ObjectName {
    let (kind, name) = match step {
        Step::RemoveVni(vni) => ("vni", vni.to_string()),
        Step::AddVni(vni) => ("vni", vni.spec.vni.to_string()),
        Step::RemovePort(name) => ("port", name.clone()),
        Step::AddPort(port) | Step::ChangePort(port) => ("port", port.spec.name.clone()),
        Step::AddVrf(name) | Step::RemoveVrf(name) => ("vrf", name.clone()),
        Step::SetL2Vni(vni) => ("l2vni", vni.spec.vni.to_string()),
        Step::RemoveL2Vni(vni) => ("l2vni", vni.to_string()),
    };
    ObjectName { kind, name }
}

fn vni_of(vni: u32) -> Result<Vni, forwarding::Error> {
    Ok(Vni::new(vni)?)
}

/// Whether the kernel tells of its link: in the host's namespace and in the engine's own.
fn is_watched(device: &Device) -> bool {
    match device {
        Device::Netdev { .. } => true,
        Device::Tap { netns, .. } => netns.is_empty(),
        Device::Pci { .. } | Device::VhostUser { .. } | Device::Memif { .. } => false,
    }
}

fn interface_of(device: &Device) -> Option<&str> {
    match device {
        Device::Netdev { interface } | Device::Tap { interface, .. } => Some(interface),
        Device::Pci { .. } | Device::VhostUser { .. } | Device::Memif { .. } => None,
    }
}

/// An MTU for forwarding, which counts in 16 bits; `spec::MAX_MTU` is the largest.
fn small(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}
