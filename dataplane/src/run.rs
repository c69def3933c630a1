//! Puts the parts together, from the flags to a serving process.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use dpdk::{Derived, Eal, Environment, Options, derive};
use forwarding::Control;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::config::Config;
use crate::error::Error;
use crate::host::Netns;
use crate::learning::Learning;
use crate::rpc::{FibSessions, ProcessInfo, Services, listen, serve};
use crate::slowpath::SlowPath;
use crate::topology::{Carriers, Namespaces, Ports, Topology, share};
use crate::trace::Tracer;
use crate::worker::{self, WorkerConfig};

/// Threads for gRPC, netlink and the like. They are idle when nobody asks for anything.
const RUNTIME_THREADS: usize = 2;

/// Runs until a signal ends it.
///
/// # Errors
/// When a namespace, DPDK or the socket is not to be had.
pub fn run(config: &Config) -> Result<(), Error> {
    let host = match &config.host_netns {
        Some(path) => Netns::open(path)?,
        None => Netns::current()?,
    };
    let namespaces = Namespaces {
        host,
        router: Netns::open(&config.router_netns)?,
        ports: Netns::open_or_create(&config.ports_netns)?,
    };
    // Before any thread starts: all of them live there, and drivers look for interfaces there.
    namespaces.ports.enter()?;
    silence_kernel();
    raise_descriptor_limit();

    let derived = derive(&Environment::detect(), &options(config));
    for note in &derived.notes {
        info!("{note}");
    }
    if let Err(errno) = derived.housekeeping_cpus.apply_to_this_thread() {
        warn!(%errno, "control threads are not kept off the workers' CPUs");
    }
    let eal_start = Instant::now();
    let eal = Eal::init("pe-dataplane", &derived.arguments)?;
    info!(microseconds = eal_start.elapsed().as_micros(), "EAL started");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(Error::system("start the runtime"))?;
    let listener = listen(&config.socket, config.socket_group.as_deref())?;
    let services = start(config, eal, &derived, &namespaces, &runtime)?;
    runtime.block_on(async {
        let listener =
            tokio::net::UnixListener::from_std(listener).map_err(Error::system("watch the socket"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::system("catch signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::system("catch signals"))?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        info!(socket = %config.socket.display(), "ready");
        tokio::select! {
            // Open streams do not keep it alive: whoever watches notices the end and connects again.
            () = shutdown => Ok(()),
            served = serve(listener, services, std::future::pending()) => {
                served.map_err(|error| Error::System { doing: "serve", source: io::Error::other(error) })
            }
        }
    })?;
    info!("ending");
    // Ports stay adopted and shadows stay: the next process takes them over, and FRR notices as little as possible.
    runtime.shutdown_background();
    Ok(())
}

fn options(config: &Config) -> Options {
    Options {
        cpus: config.cpus.clone(),
        workers: config.workers.map(usize::from),
        arguments: config.eal_args.as_ref().map(|text| text.split_whitespace().map(str::to_owned).collect()),
        ..Options::default()
    }
}

fn start(
    config: &Config,
    eal: Eal,
    derived: &Derived,
    namespaces: &Namespaces,
    runtime: &Runtime,
) -> Result<Services, Error> {
    let mut control = Control::new().map_err(|error| Error::Tables { error: error.to_string() })?;
    let slow_path = SlowPath::spawn(eal, &config.police)?;
    // Random: the seeds of the standard library's hashers are.
    let instance = RandomState::new().hash_one(std::process::id());
    let learning = Learning::new(instance)?;
    let tracer = Tracer::default();
    let mut handles = Vec::new();
    let mut workers = Vec::new();
    for (id, &cpu) in derived.worker_cpus.iter().enumerate() {
        let worker = WorkerConfig { id, cpu: Some(cpu), idle: config.idle };
        let (handle, count) =
            worker::spawn(worker, eal, control.worker(), slow_path.sender(), &learning, &tracer)?;
        handles.push(handle);
        workers.push((cpu, count));
    }
    let control = share(control);
    let ports = Ports::new(
        eal,
        runtime.handle(),
        namespaces,
        config.buffers,
        Carriers {
            virtio_user: config.tap_backend.uses_virtio(dpdk::has_vhost_net),
            netdev: config.netdev_backend,
        },
        handles,
        slow_path.clone(),
    )?;
    learning.run(Arc::clone(&control), slow_path.clone())?;
    let topology = Topology::spawn(ports, Arc::clone(&control), instance, runtime.handle(), namespaces)?;
    let info = ProcessInfo {
        instance,
        started: Instant::now(),
        dpdk_version: eal.version(),
        eal_arguments: derived.arguments.clone(),
        eal_notes: derived.notes.clone(),
        workers,
    };
    Ok(Services {
        control,
        topology,
        slow_path,
        learning,
        tracer,
        sessions: Arc::new(FibSessions::default()),
        info: Arc::new(info),
    })
}

/// Keeps the kernel of the ports' namespace from saying anything by itself: no IPv6 addresses, hence no neighbour or
/// router discovery, and no forwarding.
fn silence_kernel() {
    let settings = [
        ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
        ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
        ("/proc/sys/net/ipv4/ip_forward", "0"),
    ];
    for (path, value) in settings {
        // A kernel without IPv6 has no such file, and is silent.
        if let Err(error) = fs::write(path, value)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path, %error, "the kernel may speak on adopted interfaces");
        }
    }
}

/// Two descriptors per TAP port are more than the usual soft limit of 1024 soon.
fn raise_descriptor_limit() {
    let raise = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    };
    if let Err(errno) = raise() {
        warn!(%errno, "the limit of open files stays as it is");
    }
}
