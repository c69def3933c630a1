//! The core: one task that owns the resolver, takes in what zebra, the kernel and the dataplane say, and sends the
//! differences.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane_api::v1::FibRequest;
use dataplane_api::v1::fib_request::Request;
use ipnet::IpNet;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::config::Routes;
use crate::gate::{Action, Gate};
use crate::learned::Learned;
use crate::netlink::{self, Message, Refusal, Write};
use crate::resolver::{Delta, Resolver};
use crate::topology::Topology;
use crate::{dataplane, fpm, mirror, upkeep};

/// Routes of one batch.
const BATCH_ROUTES: usize = 4096;
/// Changes wait this long for more of them.
const LINGER: Duration = Duration::from_millis(3);
/// Pace of the gate.
const TICK: Duration = Duration::from_millis(100);

/// Where events come from and go to.
#[derive(Debug)]
pub struct Wiring {
    /// zebra.
    pub fpm: mpsc::Receiver<fpm::Event>,
    /// The router namespace.
    pub kernel: mpsc::Receiver<mirror::Event>,
    /// pe-dataplane.
    pub dataplane: mpsc::Receiver<dataplane::Event>,
    /// To the shadow devices: the topology.
    pub topology: watch::Sender<Option<Arc<Topology>>>,
    /// To the shadow devices: links or addresses changed.
    pub changed: Arc<Notify>,
    /// Where routes shall be read from.
    pub routes: Routes,
    /// To the mirror: routes are wanted from the kernel.
    pub kernel_routes: watch::Sender<bool>,
    /// To the FPM server: zebra may connect.
    pub fpm_allowed: watch::Sender<bool>,
    /// Neighbours to be probed.
    pub upkeep: mpsc::Sender<Vec<(u32, std::net::IpAddr)>>,
    /// To the kernel: local MACs and neighbours.
    pub writes: mpsc::Sender<Vec<Write>>,
    /// What the kernel refused of them.
    pub refusals: mpsc::UnboundedReceiver<Vec<Refusal>>,
}

#[derive(Debug)]
struct Session {
    instance: u64,
    requests: mpsc::Sender<FibRequest>,
    synced: bool,
}

#[derive(Debug)]
struct Core {
    resolver: Resolver,
    gate: Gate,
    session: Option<Session>,
    /// The session is of the instance whose topology we have.
    in_session: bool,
    instance: Option<u64>,
    have_kernel: bool,
    sequence: u64,
    flush_at: Option<Instant>,
    last_missing: usize,
    kernel_routes: bool,
    fpm_connected: bool,
}

/// Runs until one of the sources ends, which happens only when the process is about to. `hold` is for how long after a
/// restart of zebra routes are kept that it has not stated again.
pub async fn run(mut wiring: Wiring, hold: Duration) {
    let mut core = Core {
        resolver: Resolver::default(),
        gate: Gate::new(hold),
        session: None,
        in_session: false,
        instance: None,
        have_kernel: false,
        sequence: 0,
        flush_at: None,
        last_missing: 0,
        kernel_routes: wiring.routes == Routes::Kernel,
        fpm_connected: false,
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (compared, mut comparisons) = mpsc::channel::<Option<Vec<(u32, IpNet)>>>(1);
    let mut second = 0;
    let started = Instant::now();
    loop {
        let flush = async {
            match core.flush_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = wiring.fpm.recv() => match event {
                Some(event) => core.fpm(event),
                None => return,
            },
            event = wiring.kernel.recv() => match event {
                Some(event) => if core.kernel(event) { wiring.changed.notify_one() },
                None => return,
            },
            event = wiring.dataplane.recv() => match event {
                Some(event) => core.dataplane(event, &wiring.topology),
                None => return,
            },
            Some(routes) = comparisons.recv() => core.compared(routes),
            Some(refusals) = wiring.refusals.recv() => core.refused(&refusals),
            () = flush => core.flush(&wiring.writes).await,
            _ = tick.tick() => {
                if core.gate.poll(Instant::now()) == Action::Compare {
                    let (tables, compared) = (core.resolver.tables(), compared.clone());
                    tokio::task::spawn_blocking(move || {
                        let routes = netlink::dump_routes(&tables);
                        if let Err(error) = &routes {
                            tracing::warn!(%error, "cannot compare with the kernel's routes");
                        }
                        let _ = compared.blocking_send(routes.ok());
                    });
                }
                if started.elapsed().as_secs() > second {
                    second = started.elapsed().as_secs();
                    core.upkeep(second, &wiring.upkeep);
                    if core.resolver.retry_local() {
                        core.soon();
                    }
                }
                // Not at every event: it looks at every neighbour there is.
                if wiring.routes == Routes::Auto && core.must_leave_fpm() {
                    tracing::warn!("zebra has router MACs and is not connected: its replay may kill it (FRR 8.4)");
                    tracing::info!("routes are read from the kernel from now on; FPM is closed");
                    core.kernel_routes = true;
                    wiring.fpm_allowed.send_replace(false);
                    wiring.kernel_routes.send_replace(true);
                }
            }
        }
        if core.resolver.pending() >= BATCH_ROUTES * 2 {
            core.flush(&wiring.writes).await;
        }
        core.say_synced().await;
    }
}

/// A next-hop object, or a route that FRR made.
fn is_route(message: &Message) -> bool {
    match message {
        Message::NewNextHop(_) | Message::DelNextHop(_) => true,
        Message::NewRoute(route) | Message::DelRoute(route) => netlink::is_from_frr(route.protocol),
        _ => false,
    }
}

impl Core {
    fn soon(&mut self) {
        self.flush_at.get_or_insert_with(|| Instant::now() + LINGER);
    }

    /// When zebra connects it replays its router MACs, and in FRR 8.4 that replay (`fpm_enqueue_l3vni_table`) hands a
    /// wrong pointer on: zebra dies. Nobody tells us its version, so that no zebra may connect once it has router MACs.
    /// Until it tries again it waits three seconds.
    fn must_leave_fpm(&self) -> bool {
        !self.kernel_routes && !self.fpm_connected && self.resolver.has_router_macs()
    }

    fn fpm(&mut self, event: fpm::Event) {
        let now = Instant::now();
        self.fpm_connected = !matches!(event, fpm::Event::Disconnected);
        if self.kernel_routes {
            return;
        }
        match event {
            fpm::Event::Connected => {
                self.gate.connected(now);
                self.resolver.fpm_connected();
            }
            fpm::Event::Disconnected => {
                self.gate.disconnected();
                tracing::warn!(
                    routes = self.resolver.route_count(),
                    "zebra is away; everything it said stays in force"
                );
            }
            fpm::Event::Messages(messages) => {
                self.gate.message(now);
                for message in messages {
                    self.resolver.fpm(message);
                }
                self.soon();
            }
        }
    }

    /// Whether links or addresses are concerned.
    fn kernel(&mut self, event: mirror::Event) -> bool {
        self.soon();
        match event {
            mirror::Event::Snapshot { snapshot, with_routes } => {
                let routes: Vec<_> = snapshot.0.iter().filter(|message| is_route(message)).cloned().collect();
                self.resolver.snapshot(snapshot);
                self.have_kernel = true;
                if self.kernel_routes && with_routes {
                    self.resolver.fpm_connected();
                    for message in routes {
                        self.resolver.fpm(message);
                    }
                    let swept = self.resolver.sweep();
                    tracing::info!(routes = self.resolver.route_count(), swept, "the kernel's routes");
                    self.gate.dumped();
                }
                self.begin_session();
                true
            }
            mirror::Event::Messages(messages) => {
                let mut devices = false;
                for message in messages {
                    devices |= matches!(
                        message,
                        Message::NewLink(_)
                            | Message::DelLink(_)
                            | Message::NewAddress(_)
                            | Message::DelAddress(_)
                    );
                    if self.kernel_routes && is_route(&message) {
                        self.resolver.fpm(message);
                    } else {
                        self.resolver.kernel(message);
                    }
                }
                devices
            }
        }
    }

    fn dataplane(&mut self, event: dataplane::Event, topology: &watch::Sender<Option<Arc<Topology>>>) {
        match event {
            dataplane::Event::Topology(state) => {
                let generation = state.generation;
                let (state, oddities) = Topology::from_state(*state);
                for oddity in oddities {
                    tracing::warn!(%oddity, "left out of the topology");
                }
                tracing::info!(
                    generation,
                    instance = state.instance,
                    ports = state.ports.len(),
                    vrfs = state.vrfs.len(),
                    vnis = state.vnis.len(),
                    l2vnis = state.l2vnis.len(),
                    "topology"
                );
                self.instance = Some(state.instance);
                topology.send_replace(Some(Arc::new(state.clone())));
                self.resolver.topology(state);
                if self.session.as_ref().is_some_and(|session| Some(session.instance) != self.instance) {
                    self.end_session();
                }
                self.begin_session();
                self.soon();
            }
            dataplane::Event::SessionOpen { instance, requests } => {
                self.end_session();
                self.session = Some(Session { instance, requests, synced: false });
                self.begin_session();
            }
            dataplane::Event::SessionClosed => {
                self.end_session();
                self.session = None;
            }
            dataplane::Event::Swept { routes, neighbors, macs } => {
                tracing::info!(routes, neighbors, macs, "the dataplane swept what is no longer there");
            }
            dataplane::Event::Learning => self.resolver.learning(),
            dataplane::Event::Learned(update) => {
                let (learned, odd) = Learned::from_api(*update);
                if odd > 0 {
                    tracing::warn!(odd, "left out of what the dataplane has learned");
                }
                self.resolver.learned(&learned);
                self.soon();
            }
        }
    }

    /// Identifiers of ports and VRFs mean something only together with the topology of the same process; and without the
    /// kernel's side, routes would resolve to nothing and take the place of good ones.
    fn begin_session(&mut self) {
        if let Some(session) = &self.session
            && !self.in_session
            && self.have_kernel
            && Some(session.instance) == self.instance
        {
            tracing::info!(instance = session.instance, routes = self.resolver.route_count(), "FIB session");
            self.in_session = true;
            self.sequence = 0;
            self.resolver.session(true);
            self.soon();
        }
    }

    fn end_session(&mut self) {
        if self.in_session {
            self.in_session = false;
            self.resolver.session(false);
        }
    }

    fn compared(&mut self, routes: Option<Vec<(u32, IpNet)>>) {
        let missing = routes.as_deref().map(|routes| match self.resolver.uncovered(routes) {
            Some((count, (table, prefix))) => {
                if count != self.last_missing {
                    tracing::info!(
                        count,
                        example = %prefix,
                        table,
                        "the kernel has routes that zebra has not stated yet; waiting"
                    );
                }
                count
            }
            None => 0,
        });
        self.last_missing = missing.unwrap_or(0);
        if self.gate.compared(missing, self.resolver.stale_count(), Instant::now()) {
            let swept = self.resolver.sweep();
            tracing::info!(routes = self.resolver.route_count(), swept, "zebra has said everything");
            self.soon();
        }
    }

    fn refused(&mut self, refusals: &[Refusal]) {
        if let Some(first) = refusals.first() {
            let error = std::io::Error::from_raw_os_error(first.errno);
            let (refused, write) = (refusals.len(), first.write);
            tracing::info!(refused, first = %write, %error, "the kernel does not take local MACs or neighbours yet");
        }
        self.resolver.refused(refusals);
    }

    async fn flush(&mut self, kernel: &mpsc::Sender<Vec<Write>>) {
        self.flush_at = None;
        let delta = self.resolver.flush();
        self.send_delta(delta).await;
        let writes = self.resolver.writes();
        if !writes.is_empty() {
            tracing::debug!(writes = writes.len(), "local MACs and neighbours");
            // Its end is the process's.
            let _ = kernel.send(writes).await;
        }
    }

    async fn send_delta(&mut self, delta: Delta) {
        if delta.is_empty() {
            return;
        }
        tracing::debug!(
            groups = delta.groups.len(),
            flood_lists = delta.flood_lists.len(),
            macs = delta.macs.len(),
            neighbors = delta.neighbors.len(),
            routes = delta.routes.len(),
            deleted_groups = delta.deleted_groups.len(),
            "changes"
        );
        for batch in delta.into_batches(self.sequence + 1, BATCH_ROUTES) {
            self.sequence = batch.sequence;
            self.send(dataplane::request(Request::Batch(batch))).await;
        }
    }

    /// Only after everything has gone out, and zebra is known to have said everything.
    async fn say_synced(&mut self) {
        let due = self.session.as_ref().is_some_and(|session| !session.synced);
        if due && self.in_session && self.gate.is_complete() && self.flush_at.is_none() {
            self.send(dataplane::synced()).await;
            if let Some(session) = &mut self.session {
                session.synced = true;
                tracing::info!(routes = self.resolver.route_count(), "synced");
            }
        }
    }

    async fn send(&mut self, request: FibRequest) {
        let Some(session) = &self.session else { return };
        // Its end is announced by its own event.
        if session.requests.send(request).await.is_err() {
            tracing::debug!("the FIB session has ended");
        }
    }

    fn upkeep(&self, second: u64, neighbors: &mpsc::Sender<Vec<(u32, std::net::IpAddr)>>) {
        let due: Vec<_> = self
            .resolver
            .upkeep()
            .filter(|&(ifindex, address, wanting)| wanting && upkeep::is_due(ifindex, address, second))
            .map(|(ifindex, address, _)| (ifindex, address))
            .collect();
        // When the last round is not through yet, this one is left out.
        if !due.is_empty() && neighbors.try_send(due).is_err() {
            tracing::debug!("neighbour upkeep is behind");
        }
    }
}
