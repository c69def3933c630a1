//! What a CNI plugin or a virtual machine manager does: puts stations into the host's bridge as soon as it is there, and again
//! when it is another one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::netns;
use super::super::plan::pe_netns;
use super::{Attachment, Station, plan, stations};
use crate::{Error, Result};

const PAUSE: Duration = Duration::from_millis(250);

/// How long an interface has to be there before it is moved.
const SETTLE: Duration = Duration::from_secs(2);

/// Attaches stations for as long as it lives.
#[derive(Debug)]
pub struct Keeper {
    wanted: Arc<Mutex<BTreeMap<String, Place>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where a station has to be, the index of the bridge it was put into, and when.
#[derive(Clone, Debug)]
struct Place {
    station: Station,
    pe: u8,
    attachment: Attachment,
    done: Option<(u32, Instant)>,
    appeared: Option<Instant>,
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
        self.keep_at(station, station.pe, attachment);
    }

    /// The same on another node than the one it was made behind; its link's end must be there.
    pub fn keep_at(&self, station: Station, pe: u8, attachment: Attachment) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.insert(
            station.name(),
            Place { station, pe, attachment, done: None, appeared: None, said: None },
        );
    }

    /// When it was attached.
    ///
    /// # Errors
    /// When it is not, or not wanted.
    pub fn attached(&self, station: Station) -> Result<Instant> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let place = wanted.get(&station.name());
        place
            .and_then(|place| place.done.map(|(_, when)| when))
            .ok_or_else(|| Error::unexpected(format!("{} is not attached: {place:?}", station.name())))
    }

    /// Lets go of it, leaving it where it is.
    ///
    /// # Errors
    /// When Open vSwitch does not let go.
    pub fn release(&self, station: Station) -> Result<()> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted.remove(&station.name()) {
            // It would remember the port for ever.
            Some(place) if matches!(place.attachment, Attachment::Ovs(_)) => {
                super::ovs::control(&pe_netns(place.pe), &["--if-exists", "del-port", &station.port()])
            }
            _ => Ok(()),
        }
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
        let node = pe_netns(self.pe);
        let index = netns::index(&node, name)?;
        if index == self.done.map(|(index, _)| index) {
            return Ok(());
        }
        if index.is_some() {
            let port = self.station.port();
            if matches!(self.attachment, Attachment::Ovs(_)) {
                super::ovs::control(&node, &["--may-exist", "add-port", name, &port])?;
            } else {
                netns::ip_batch(Some(&node), &format!("link set {port} master {name}"))?;
            }
        }
        self.done = index.map(|index| (index, Instant::now()));
        Ok(())
    }

    /// The interface itself moves into the station's namespace.
    fn tend_bare(&mut self) -> Result<()> {
        let node = pe_netns(self.pe);
        let device = plan::host_end(self.station.l2vni.vni);
        if netns::index(&node, &device)?.is_none() {
            self.appeared = None;
            return Ok(());
        }
        // Not out of the hands of who is just making it.
        if self.appeared.get_or_insert_with(Instant::now).elapsed() < SETTLE {
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
