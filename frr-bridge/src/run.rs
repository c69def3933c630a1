//! Wires the parts together.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use crate::config::{Config, Routes};
use crate::error::Error;
use crate::netlink::Dump;
use crate::resolver::{Resolver, Snapshot};
use crate::{bridge, dataplane, fpm, learned, mirror, netlink, shadow, upkeep};

/// Chunks of events between two parts. Each chunk is up to some thousand messages.
const QUEUE: usize = 16;

/// Enters a network namespace. Call it before there are other threads: it moves the calling one only.
///
/// # Errors
/// When it does not exist or may not be entered.
pub fn enter_namespace(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Namespace { path: path.to_owned(), source };
    let namespace = File::open(path).map_err(failed)?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
}

/// Runs until SIGTERM or SIGINT. The dataplane forwards on with what it has.
///
/// # Errors
/// When the kernel or the FPM port is out of reach.
pub async fn run(config: Config) -> Result<(), Error> {
    let netlink = |doing| move |source| Error::Netlink { doing, source };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(netlink("open a socket"))?;
    tokio::spawn(connection);
    let (topology, topology_receiver) = watch::channel(None);
    let changed = Arc::new(Notify::new());
    tokio::spawn(shadow::run(handle.clone(), topology_receiver, Arc::clone(&changed)));

    let (upkeep_sender, upkeep_receiver) = mpsc::channel(1);
    tokio::spawn(upkeep::run(handle, upkeep_receiver));

    let from_kernel = config.routes == Routes::Kernel
        || config.routes == Routes::Auto && {
            // Before the port is open: a zebra that has router MACs may not survive connecting.
            let mut resolver = Resolver::default();
            resolver.snapshot(Snapshot(netlink::dump(Dump::Neighbors)?));
            resolver.has_router_macs()
        };
    let (fpm_sender, fpm_receiver) = mpsc::channel(QUEUE);
    let (fpm_allowed, fpm_allowed_receiver) = watch::channel(true);
    if from_kernel {
        tracing::info!("routes are read from the kernel; FPM is closed");
        tokio::spawn(async move { fpm_sender.closed().await });
    } else {
        let listener = fpm::listen(config.fpm_listen).await?;
        tokio::spawn(fpm::serve(listener, fpm_sender, fpm_allowed_receiver));
    }

    let (kernel_routes, kernel_routes_receiver) = watch::channel(from_kernel);
    let (kernel_sender, kernel_receiver) = mpsc::channel(QUEUE);
    let mut mirror =
        tokio::spawn(mirror::run(kernel_sender, Duration::from_secs(config.resync), kernel_routes_receiver));

    let (dataplane_sender, dataplane_receiver) = mpsc::channel(QUEUE * 16);
    tokio::spawn(dataplane::watch(config.dataplane.clone(), dataplane_sender.clone()));
    tokio::spawn(dataplane::program(config.dataplane.clone(), dataplane_sender.clone()));
    tokio::spawn(dataplane::learn(config.dataplane.clone(), dataplane_sender));

    let (writes, writes_receiver) = mpsc::channel(QUEUE);
    // Without a bound: the writer must never wait for the core, which may be waiting for it.
    let (refusals, refusals_receiver) = mpsc::unbounded_channel();
    tokio::task::spawn_blocking(move || learned::write(writes_receiver, &refusals));

    tracing::info!(fpm = %config.fpm_listen, dataplane = %config.dataplane.display(), "started");
    let wiring = bridge::Wiring {
        fpm: fpm_receiver,
        kernel: kernel_receiver,
        dataplane: dataplane_receiver,
        topology,
        changed,
        routes: if from_kernel { Routes::Kernel } else { config.routes },
        kernel_routes,
        fpm_allowed,
        upkeep: upkeep_sender,
        writes,
        refusals: refusals_receiver,
    };
    let core = bridge::run(wiring, Duration::from_secs(config.restart_hold));
    let mut terminate = signal(SignalKind::terminate()).map_err(netlink("wait for SIGTERM"))?;
    tokio::select! {
        () = core => {}
        outcome = &mut mirror => if let Ok(outcome) = outcome { outcome? },
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopped; the dataplane forwards on with what it has");
    Ok(())
}
