use std::path::PathBuf;
use std::time::Duration;

use dataplane_api::v1::{L2VniSpec, L3VniSpec, PortSpec, TopologySpec};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use super::dataplane::{self, Dataplane};
use super::host::Host;
use super::status::{Status, StatusFile, Step};
use super::watch::Files;
use crate::error::Error;
use crate::files::{Directory, Reading};
use crate::frr::{self, Applied, Frr};
use crate::model::{Failure, Reason};
use crate::plan::{Machine, Plan, plan};
use crate::resolve::{FrrVersion, Pe};
use crate::topology::PASSTHROUGH_ROUTER_INTERFACE;
use crate::validate::InForce;

/// How often FRR's processes are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long the dataplane is waited for at the start.
const GREETING: Duration = Duration::from_secs(2);

/// Shortest and longest pause before a step that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the daemon works with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration directory.
    pub config_dir: PathBuf,
    /// The dataplane's socket.
    pub dataplane: PathBuf,
    /// Where FRR is.
    pub frr: frr::Settings,
    /// Where the status is written; none writes none.
    pub status_file: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT. What is in force then stays in force.
///
/// # Errors
/// When the signals cannot be waited for.
pub async fn run(options: Options) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = Controller::new(options).run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending; what is in force stays in force");
    Ok(())
}

struct Controller {
    frr: Frr,
    socket: PathBuf,
    directory: Directory,
    files: Files,
    dataplane: watch::Receiver<Dataplane>,
    status: StatusFile,
    /// FRR's version, of these processes.
    frr_version: Option<(frr::Instance, FrrVersion)>,
    frr_done: Option<FrrDone>,
    /// Why FRR was not brought there; shown while the next attempt is waited for.
    frr_failed: Step,
    topology_done: Option<TopologyDone>,
    retry: Retry,
}

/// What FRR was last brought to.
struct FrrDone {
    pe: Pe,
    instance: frr::Instance,
    applied: Applied,
}

/// What the dataplane was last brought to.
struct TopologyDone {
    spec: TopologySpec,
    instance: u64,
    generation: u64,
    failures: Vec<Failure>,
}

impl Controller {
    fn new(options: Options) -> Self {
        let (sender, receiver) = watch::channel(Dataplane::default());
        tokio::spawn(dataplane::follow(options.dataplane.clone(), sender));
        let directory = Directory::new(options.config_dir);
        Self {
            frr: Frr::new(options.frr),
            socket: options.dataplane,
            files: Files::new(&directory.watched()),
            directory,
            dataplane: receiver,
            status: StatusFile::new(options.status_file),
            frr_version: None,
            frr_done: None,
            frr_failed: Step::default(),
            topology_done: None,
            retry: Retry::default(),
        }
    }

    async fn run(mut self) {
        // Its answer tells what our predecessor had in force; an error tells as much as there is to know.
        let _ = tokio::time::timeout(GREETING, self.dataplane.changed()).await;
        let mut reading = self.directory.read();
        loop {
            self.reconcile(&reading).await;
            let instance = self.frr.instance();
            loop {
                tokio::select! {
                    () = self.files.changed() => {
                        let new = self.directory.read();
                        if new != reading {
                            reading = new;
                            self.retry = Retry::default();
                            break;
                        }
                    }
                    changed = self.dataplane.changed() => {
                        if changed.is_ok() {
                            break;
                        }
                    }
                    () = tokio::time::sleep(TICK) => {
                        if self.frr.instance() != instance {
                            tracing::info!("FRR's processes have changed");
                            self.retry = Retry::default();
                            break;
                        }
                        if self.retry.is_due() {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Brings FRR and the dataplane to what `reading` says, as far as they are there. Does nothing to what is there already.
    async fn reconcile(&mut self, reading: &Reading) {
        let dataplane = self.dataplane.borrow_and_update().clone();
        let mut status = Status { failed_resources: reading.failures.clone(), ..Status::default() };
        let Some(node) = &reading.node else {
            let waiting = "node-config.yaml could not be read yet, so nothing is known of this node";
            status.frr = Step::failed(waiting);
            status.dataplane = Step::failed(waiting);
            return self.status.report(status);
        };
        let mut host = Host::read();
        for port in dataplane.state.iter().flat_map(|state| &state.ports) {
            let name = port.spec.as_ref().map_or("", |spec| &spec.name);
            host.add_port(name, port.addresses.iter().map(String::as_str));
        }
        let in_force = self.in_force(&dataplane);
        let unknown_version = self.read_frr_version().await.err();
        let machine = Machine {
            name: &Host::name(),
            interfaces: &host,
            frr: self.frr_version.as_ref().map(|(_, version)| version),
        };
        let plan = plan(reading.objects.clone(), node, machine, &in_force);
        status.failed_resources.extend(plan.failures.iter().cloned());
        let Some(pe) = &plan.pe else {
            let kept = "the node's own objects are not valid; what was in force before stays";
            status.frr = Step::failed(kept);
            status.dataplane = Step::failed(kept);
            return self.status.report(status);
        };
        if plan.needs_frr_version {
            // Without what waits for it, what was in force before might be taken away.
            self.retry.failed();
            status.frr = unknown_version.map_or_else(Step::default, Step::failed);
            status.dataplane = Step::failed("waits for FRR's version; what was in force before stays");
            return self.status.report(status);
        }
        // FRR first: bgpd must know a VNI's VRF before the VNI's devices appear.
        status.frr = self.bring_frr(pe).await;
        if let Some(done) = &self.frr_done {
            let refused = done.applied.refused.iter();
            status.failed_resources.extend(
                refused.map(|(id, message)| plan.failure(id, Reason::FrrConfigurationFailed, message)),
            );
        }
        status.dataplane = if status.frr.done {
            self.bring_dataplane(&plan, &dataplane).await
        } else {
            Step::failed("waits for FRR's configuration")
        };
        status
            .failed_resources
            .extend(self.topology_done.iter().flat_map(|done| done.failures.iter().cloned()));
        if status.frr.done && status.dataplane.done {
            self.retry = Retry::default();
        } else {
            self.retry.failed();
        }
        self.status.report(status);
    }

    /// Learns FRR's version, once for the processes it consists of now.
    async fn read_frr_version(&mut self) -> Result<(), Error> {
        let instance = self.frr.instance();
        if self.frr_version.as_ref().is_some_and(|(of, _)| *of == instance) {
            return Ok(());
        }
        let version = self.frr.version().await?;
        if self.frr_version.as_ref().is_none_or(|(_, known)| *known != version) {
            tracing::info!(%version, "FRR is there");
        }
        self.frr_version = Some((instance, version));
        Ok(())
    }

    /// What carries traffic already: by our own doing, or, after a restart, by our predecessor's.
    fn in_force(&self, dataplane: &Dataplane) -> InForce {
        match (&self.topology_done, &dataplane.state) {
            (Some(done), _) => in_force(&done.spec.l3vnis, &done.spec.l2vnis, &done.spec.ports),
            (None, Some(state)) => in_force(
                state.l3vnis.iter().filter_map(|vni| vni.spec.as_ref()),
                state.l2vnis.iter().filter_map(|vni| vni.spec.as_ref()),
                state.ports.iter().filter_map(|port| port.spec.as_ref()),
            ),
            (None, None) => InForce::default(),
        }
    }

    async fn bring_frr(&mut self, pe: &Pe) -> Step {
        let instance = self.frr.instance();
        if self.frr_done.as_ref().is_some_and(|done| done.pe == *pe && done.instance == instance) {
            return Step::done();
        }
        if self.retry.is_pausing() {
            return self.frr_failed.clone();
        }
        match self.frr.apply(pe).await {
            Ok(applied) => {
                tracing::info!(
                    vrfs = pe.vnis.len(),
                    bridges = pe.bridges.len(),
                    left_out = applied.refused.len(),
                    "FRR has its configuration"
                );
                self.frr_done = Some(FrrDone { pe: pe.clone(), instance, applied });
                Step::done()
            }
            Err(error) => {
                self.frr_done = None;
                self.frr_failed = Step::failed(error);
                self.frr_failed.clone()
            }
        }
    }

    async fn bring_dataplane(&mut self, plan: &Plan, dataplane: &Dataplane) -> Step {
        let Some(state) = &dataplane.state else {
            return Step::failed(if dataplane.error.is_empty() {
                "not reached yet"
            } else {
                &dataplane.error
            });
        };
        let Some(spec) = plan.topology() else { return Step::failed("there is no topology") };
        if let Some(done) = &mut self.topology_done
            && done.spec == spec
            && done.instance == state.instance
        {
            if state.generation >= done.generation {
                done.failures = dataplane::failures_of_state(plan, state);
            }
            return Step::done();
        }
        match dataplane::apply(&self.socket, spec.clone()).await {
            Ok(answer) => {
                tracing::info!(
                    ports = spec.ports.len(),
                    vnis = spec.l3vnis.len() + spec.l2vnis.len(),
                    generation = answer.generation,
                    "the dataplane has its topology"
                );
                let failures = dataplane::failures_of_answer(plan, &answer);
                self.topology_done = Some(TopologyDone {
                    spec,
                    instance: state.instance,
                    generation: answer.generation,
                    failures,
                });
                Step::done()
            }
            Err(error) => {
                self.topology_done = None;
                Step::failed(error)
            }
        }
    }
}

fn in_force<'a>(
    l3vnis: impl IntoIterator<Item = &'a L3VniSpec>,
    l2vnis: impl IntoIterator<Item = &'a L2VniSpec>,
    ports: impl IntoIterator<Item = &'a PortSpec>,
) -> InForce {
    InForce {
        l3vnis: l3vnis.into_iter().map(|spec| (spec.vrf.clone(), spec.vni)).collect(),
        l2vnis: l2vnis.into_iter().map(|spec| (spec.vrf.clone(), spec.vni)).collect(),
        passthrough: ports.into_iter().any(|port| port.name == PASSTHROUGH_ROUTER_INTERFACE),
    }
}

/// When a step that failed is tried again: after pauses that double.
#[derive(Debug, Default)]
struct Retry {
    next: Option<(Instant, Duration)>,
}

impl Retry {
    fn failed(&mut self) {
        let now = Instant::now();
        match self.next {
            Some((at, _)) if now < at => {}
            Some((_, pause)) => {
                let pause = (pause * 2).min(RETRY.1);
                self.next = Some((now + pause, pause));
            }
            None => self.next = Some((now + RETRY.0, RETRY.0)),
        }
    }

    /// The pause is not over.
    fn is_pausing(&self) -> bool {
        self.next.is_some_and(|(at, _)| Instant::now() < at)
    }

    /// Something failed, and the pause is over.
    fn is_due(&self) -> bool {
        self.next.is_some_and(|(at, _)| Instant::now() >= at)
    }
}
