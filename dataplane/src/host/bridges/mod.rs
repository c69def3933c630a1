//! Bridges of the host that the far ends of TAP ports are put into.
//!
//! One thread keeps TAPs where they are wanted: it follows the links of the namespaces concerned and Open vSwitch's
//! database, and tries again what fails. A port works without its bridge; only the reason is told.

mod linux;
pub mod ovs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use self::ovs::Session;
use crate::error::Error;
use crate::host::{Links, Netns};

/// Where ovsdb-server listens unless told otherwise.
pub const DEFAULT_OVSDB: &str = "/var/run/openvswitch/db.sock";
/// First and longest wait before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Changes that follow each other closer than this are looked at once. It also is the pace of a quarrel with somebody who
/// undoes what we do.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long who applies a topology waits for the first attempt.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a port's TAP is not in its bridge, by port name.
pub type Errors = BTreeMap<String, String>;

/// What kind of bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BridgeKind {
    /// The kernel's.
    Linux,
    /// Open vSwitch's.
    Ovs {
        /// ovsdb-server's socket.
        socket: String,
    },
}

/// A bridge of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostBridge {
    /// What kind.
    pub kind: BridgeKind,
    /// Its name.
    pub name: String,
    /// Made when it is missing, and removed when no port is in it any more.
    pub managed: bool,
}

/// A TAP, and the bridge it is wanted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The port's name.
    pub port: String,
    /// The TAP's.
    pub interface: String,
    /// Path of the namespace it is in; empty is the host's.
    pub netns: String,
    /// `None` leaves it to others.
    pub bridge: Option<HostBridge>,
}

/// A TAP among those of one namespace or one Open vSwitch, with the name of its bridge and whether that is ours to make.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    port: String,
    interface: String,
    bridge: Option<(String, bool)>,
}

#[derive(Debug)]
enum Event {
    Want(Vec<Attachment>, SyncSender<Errors>),
    Changed,
}

/// The outside's handle.
#[derive(Debug)]
pub struct Bridges {
    events: Sender<Event>,
}

impl Bridges {
    /// Starts the thread, which says by `report` whenever errors have changed.
    ///
    /// # Errors
    /// Without threads left.
    pub fn spawn(
        runtime: &Handle,
        host: &Netns,
        report: impl Fn(Errors) + Send + 'static,
    ) -> Result<Self, Error> {
        let (events, receiver) = channel();
        let keeper = Keeper {
            runtime: runtime.clone(),
            host: host.clone(),
            events: events.clone(),
            wanted: Vec::new(),
            started: false,
            spaces: BTreeMap::new(),
            sessions: BTreeMap::new(),
            errors: Errors::new(),
        };
        std::thread::Builder::new()
            .name("bridges".into())
            .spawn(move || keeper.run(&receiver, &report))
            .map_err(Error::system("start the bridges' thread"))?;
        Ok(Self { events })
    }

    /// Wants TAPs where `attachments` say from now on; those not named are gone. The errors of the first attempt, unless it
    /// takes too long: then they are reported.
    pub fn want(&self, attachments: Vec<Attachment>) -> Errors {
        let (answer, receiver) = sync_channel(1);
        if self.events.send(Event::Want(attachments, answer)).is_err() {
            return Errors::new();
        }
        receiver.recv_timeout(PATIENCE).unwrap_or_default()
    }
}

/// A namespace with TAPs.
#[derive(Debug)]
struct Space {
    /// Tells when another namespace is bound at the path.
    inode: u64,
    links: Links,
    watch: JoinHandle<()>,
    /// The bridge that a TAP was last put into, by the TAP's name.
    held: BTreeMap<String, String>,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

struct Keeper {
    runtime: Handle,
    host: Netns,
    events: Sender<Event>,
    wanted: Vec<Attachment>,
    /// What an earlier process left has been looked for.
    started: bool,
    /// By path, those with something to look after.
    spaces: BTreeMap<String, Space>,
    /// By socket.
    sessions: BTreeMap<String, Option<Session>>,
    errors: Errors,
}

impl Keeper {
    fn run(mut self, events: &Receiver<Event>, report: &impl Fn(Errors)) {
        let mut wait = RETRY.0;
        let mut retry: Option<Instant> = None;
        loop {
            let event = match retry {
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut answers = Vec::new();
            match event {
                Ok(Event::Want(wanted, answer)) => {
                    self.wanted = wanted;
                    answers.push(answer);
                    wait = RETRY.0;
                }
                Ok(Event::Changed) => std::thread::sleep(DEBOUNCE),
                Err(RecvTimeoutError::Timeout) => wait = (wait * 2).min(RETRY.1),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(event) = events.try_recv() {
                if let Event::Want(wanted, answer) = event {
                    self.wanted = wanted;
                    answers.push(answer);
                }
            }
            let errors = self.reconcile();
            retry = (!errors.is_empty()).then(|| Instant::now() + wait);
            if errors != self.errors {
                for (port, error) in
                    errors.iter().filter(|(port, error)| self.errors.get(*port) != Some(error))
                {
                    warn!(port, error, "its TAP is not in its bridge; it is tried again");
                }
                self.errors.clone_from(&errors);
                report(errors.clone());
            }
            for answer in answers {
                // Who asked may have given up waiting.
                let _ = answer.try_send(errors.clone());
            }
        }
    }

    fn reconcile(&mut self) -> Errors {
        let mut errors = Errors::new();
        let linux = |attachment: &Attachment| match &attachment.bridge {
            Some(HostBridge { kind: BridgeKind::Linux, name, managed }) => Some((name.clone(), *managed)),
            _ => None,
        };
        let mut paths: BTreeSet<String> = self.spaces.keys().cloned().collect();
        let first = !std::mem::replace(&mut self.started, true);
        let concerned = self.wanted.iter().filter(|attachment| first || linux(attachment).is_some());
        paths.extend(concerned.map(|attachment| attachment.netns.clone()));
        if first {
            paths.insert(String::new());
        }
        for path in paths {
            let inside = self.wanted.iter().filter(|attachment| attachment.netns == path);
            let members: Vec<Member> =
                inside.map(|attachment| member(attachment, linux(attachment))).collect();
            errors.extend(self.serve_space(&path, &members));
        }

        let ovs = |attachment: &Attachment, at: &str| match &attachment.bridge {
            Some(HostBridge { kind: BridgeKind::Ovs { socket }, name, managed }) if socket == at => {
                Some((name.clone(), *managed))
            }
            _ => None,
        };
        let mut sockets: BTreeSet<String> = self.sessions.keys().cloned().collect();
        sockets.extend(self.wanted.iter().filter_map(|attachment| match &attachment.bridge {
            Some(HostBridge { kind: BridgeKind::Ovs { socket }, .. }) => Some(socket.clone()),
            _ => None,
        }));
        if first && Path::new(DEFAULT_OVSDB).exists() {
            sockets.insert(DEFAULT_OVSDB.to_owned());
        }
        for socket in sockets {
            let members: Vec<Member> = self
                .wanted
                .iter()
                .filter_map(|attachment| Some(member(attachment, Some(ovs(attachment, &socket)?))))
                .collect();
            errors.extend(self.serve_ovs(&socket, &members));
        }
        errors
    }

    fn serve_space(&mut self, path: &str, members: &[Member]) -> Errors {
        let wanted = members.iter().any(|member| member.bridge.is_some());
        let mut space = match self.space(path) {
            Ok(space) => space,
            Err(error) => {
                let concerned = members.iter().filter(|member| member.bridge.is_some());
                return concerned.map(|member| (member.port.clone(), error.to_string())).collect();
            }
        };
        let place =
            if path.is_empty() { "the host's namespace".to_owned() } else { format!("namespace {path}") };
        let (errors, left) = linux::carry_out(&space.links, members, &mut space.held, &place);
        if wanted || left {
            self.spaces.insert(path.to_owned(), space);
        }
        errors
    }

    /// Takes the namespace out, or opens it.
    fn space(&mut self, path: &str) -> Result<Space, Error> {
        let netns = if path.is_empty() { self.host.clone() } else { Netns::open(Path::new(path))? };
        let inode = if path.is_empty() { 0 } else { fs::metadata(path).map_or(0, |metadata| metadata.ino()) };
        if let Some(space) = self.spaces.remove(path)
            && space.inode == inode
        {
            return Ok(space);
        }
        let mut changes = Links::watch(&netns, &self.runtime)?;
        let events = self.events.clone();
        let watch = self.runtime.spawn(async move {
            while changes.recv().await.is_some() {
                if events.send(Event::Changed).is_err() {
                    return;
                }
            }
        });
        Ok(Space { inode, links: Links::open(&netns, &self.runtime)?, watch, held: BTreeMap::new() })
    }

    fn serve_ovs(&mut self, socket: &str, members: &[Member]) -> Errors {
        let known = self.sessions.remove(socket).flatten();
        let fresh = known.is_none();
        let attempt = || -> Result<(Session, (Errors, bool)), ovs::OvsError> {
            let connect = || {
                let events = self.events.clone();
                Session::open(socket, move || drop(events.send(Event::Changed)))
            };
            if let Some(mut session) = known
                && let Ok(outcome) = session.carry_out(members)
            {
                return Ok((session, outcome));
            }
            // A connection that fails may only be old: the server was started anew.
            let mut session = connect()?;
            let outcome = session.carry_out(members)?;
            info!(socket, fresh, "connected to Open vSwitch's database");
            Ok((session, outcome))
        };
        match attempt() {
            Ok((session, (errors, left))) => {
                if left || !members.is_empty() {
                    self.sessions.insert(socket.to_owned(), Some(session));
                }
                errors
            }
            Err(error) => {
                if !members.is_empty() || !fresh {
                    self.sessions.insert(socket.to_owned(), None);
                }
                members.iter().map(|member| (member.port.clone(), error.to_string())).collect()
            }
        }
    }
}

fn member(attachment: &Attachment, bridge: Option<(String, bool)>) -> Member {
    Member { port: attachment.port.clone(), interface: attachment.interface.clone(), bridge }
}
