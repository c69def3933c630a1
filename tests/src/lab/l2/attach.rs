//! What a CNI plugin or a virtual machine manager does: puts stations into the host's bridge as soon as it is there, and again
//! when it is another one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::netns;
use super::super::plan::pe_netns;
use super::{Attachment, Station, plan, stations};
use crate::{Error, Result};

const PAUSE: Duration = Duration::from_millis(250);

/// Attaches stations for as long as it lives.
#[derive(Debug)]
pub struct Keeper {
    wanted: Arc<Mutex<BTreeMap<String, Place>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where a station has to be, and the bridge's index when it was put there.
#[derive(Clone, Debug)]
struct Place {
    station: Station,
    attachment: Attachment,
    done: Option<u32>,
    said: Option<String>,
}

impl Keeper {
    /// Starts with nothing to do.
    pub fn start() -> Self {
        let wanted: Arc<Mutex<BTreeMap<String, Place>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (wanted, stop) = (Arc::clone(&wanted), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Acquire) {
                    for place in wanted.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
                        // Tried again at the next round: what is missing now may come. Said once.
                        let said = place.tend().err().map(|error| error.to_string());
                        if let Some(error) = said.as_ref().filter(|_| said != place.said) {
                            eprintln!("lab: {} is not attached yet: {error}", place.station.name());
                        }
                        place.said = said;
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Self { wanted, stop, thread: Some(thread) }
    }

    /// Keeps `station` attached as `attachment` says, in place of what was said before.
    pub fn keep(&self, station: Station, attachment: Attachment) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.insert(station.name(), Place { station, attachment, done: None, said: None });
    }

    /// Lets go of it, leaving it where it is.
    pub fn release(&self, station: Station) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&station.name());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Place {
    fn tend(&mut self) -> Result<()> {
        let (Attachment::Managed(name) | Attachment::External(name) | Attachment::Ovs(name)) =
            &self.attachment
        else {
            return self.tend_bare();
        };
        let node = pe_netns(self.station.pe);
        let index = netns::index(&node, name)?;
        if index == self.done {
            return Ok(());
        }
        if index.is_some() {
            let port = self.station.port();
            if matches!(self.attachment, Attachment::Ovs(_)) {
                let db = format!("--db=unix:{}", super::ovs::SOCKET);
                netns::run(&node, "ovs-vsctl", &[&db, "--may-exist", "add-port", name, &port])?;
            } else {
                netns::ip_batch(Some(&node), &format!("link set {port} master {name}"))?;
            }
        }
        self.done = index;
        Ok(())
    }

    /// The interface itself moves into the station's namespace.
    fn tend_bare(&mut self) -> Result<()> {
        let node = pe_netns(self.station.pe);
        let device = plan::host_end(self.station.l2vni.vni);
        if netns::index(&node, &device)?.is_none() {
            return Ok(());
        }
        let name = self.station.name();
        let mac = crate::traffic::packet::text(self.station.mac());
        netns::ip_batch(Some(&node), &format!("link set {device} netns {name}"))?;
        let batch = format!("link set {device} address {mac}\n{}", stations::set_up(self.station));
        netns::ip_batch(Some(&name), &batch)
            .map_err(|error| Error::unexpected(format!("{device} in {name}: {error}")))
    }
}
