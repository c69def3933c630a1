//! Open vSwitch, through its database: a client of ovsdb-server (RFC 7047).

mod codec;
mod plan;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde_json::{Value, json};
use tracing::{debug, info};

pub use self::codec::{CodecError, Framer};
pub use self::plan::Snapshot;
use super::{Errors, Member};

const DATABASE: &str = "Open_vSwitch";
/// How long ovsdb-server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// A bridge is made, then found, then ports are put into it.
const ROUNDS: usize = 4;

/// Why Open vSwitch could not be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum OvsError {
    /// The socket.
    #[error("Open vSwitch's database at {path} does not answer: {source}")]
    Connection { path: String, source: io::Error },
    /// The server's own words.
    #[error("Open vSwitch's database refuses: {0}")]
    Refused(String),
    /// Not what the protocol says.
    #[error("Open vSwitch's database answers what makes no sense: {0}")]
    Nonsense(&'static str),
}

type Reply = (u64, Result<Value, String>);

/// A connection, and a thread that reads from it.
#[derive(Debug)]
pub(super) struct Session {
    path: String,
    stream: Arc<Mutex<UnixStream>>,
    replies: Receiver<Reply>,
    last: u64,
    /// We end the connection ourselves.
    ending: Arc<AtomicBool>,
}

impl Session {
    /// Connects, and calls `changed` whenever the rows that matter change, or the server ends the connection.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) fn open(path: &str, changed: impl Fn() + Send + 'static) -> Result<Self, OvsError> {
        let fail = |source| OvsError::Connection { path: path.to_owned(), source };
        let stream = connect_now(Path::new(path)).map_err(fail)?;
        let reader = stream.try_clone().map_err(fail)?;
        let stream = Arc::new(Mutex::new(stream));
        let (sender, replies) = channel();
        let writer = Arc::clone(&stream);
        let ending = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ending);
        std::thread::Builder::new()
            .name("ovsdb".into())
            .spawn(move || {
                let end = read(reader, &writer, &sender, &changed);
                debug!(error = end.err(), "connection to Open vSwitch's database has ended");
                // First, so that who waits for an answer gives up.
                drop(sender);
                if !ended.load(Ordering::Acquire) {
                    changed();
                }
            })
            .map_err(fail)?;
        let mut session = Self { path: path.to_owned(), stream, replies, last: 0, ending };
        let only = |wanted: &[&str]| json!({ "columns": wanted });
        let tables = json!({
            "Bridge": only(&["name", "ports", "external_ids"]),
            "Port": only(&["name", "interfaces", "external_ids"]),
            "Interface": only(&["name", "error"]),
        });
        session.call("monitor", &json!([DATABASE, "bridges", tables]))?;
        Ok(session)
    }

    /// Brings the database to what `members` want. Why some ports cannot be served, and whether rows of ours are left.
    ///
    /// # Errors
    /// When the server does not answer or refuses everything.
    pub(super) fn carry_out(&mut self, members: &[Member]) -> Result<(Errors, bool), OvsError> {
        let mut outcome = (Errors::new(), false);
        for _ in 0..ROUNDS {
            let answer = self.transact(Snapshot::selects())?;
            let snapshot =
                Snapshot::parse(&answer).ok_or(OvsError::Nonsense("no rows of the expected columns"))?;
            let (operations, errors) = snapshot.plan(members);
            outcome = (errors, snapshot.has_ours());
            if operations.is_empty() {
                break;
            }
            self.transact(operations)?;
            info!(socket = self.path, "Open vSwitch's bridges changed");
        }
        Ok(outcome)
    }

    fn transact(&mut self, operations: Vec<Value>) -> Result<Value, OvsError> {
        let count = operations.len();
        let mut params = vec![json!(DATABASE)];
        params.extend(operations);
        let answer = self.call("transact", &Value::Array(params))?;
        let results = answer.as_array().ok_or(OvsError::Nonsense("no list of results"))?;
        // One per operation, and one more when the transaction as a whole failed.
        if let Some(error) = results.iter().find_map(|result| result.get("error").and_then(Value::as_str)) {
            let details = results.iter().find_map(|result| result.get("details").and_then(Value::as_str));
            return Err(OvsError::Refused(format!("{error}: {}", details.unwrap_or("no details"))));
        }
        if results.len() != count {
            Err(OvsError::Nonsense("other results than asked for"))
        } else {
            Ok(answer)
        }
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value, OvsError> {
        self.last += 1;
        send(&self.stream, &json!({ "method": method, "params": params, "id": self.last }))
            .map_err(|source| OvsError::Connection { path: self.path.clone(), source })?;
        loop {
            let reply = self.replies.recv_timeout(PATIENCE).map_err(|error| OvsError::Connection {
                path: self.path.clone(),
                source: io::Error::other(error),
            })?;
            match reply {
                (id, Ok(result)) if id == self.last => return Ok(result),
                (id, Err(error)) if id == self.last => return Err(OvsError::Refused(error)),
                // The answer to a question that nobody waits for any more.
                _ => {}
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Ends the reader. It may have ended already.
        let _ = self.stream.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
    }
}

/// Connects without waiting: a server that does not accept leaves its queue full.
fn connect_now(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn send(stream: &Mutex<UnixStream>, message: &Value) -> io::Result<()> {
    let text = message.to_string();
    stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())
}

/// Reads until the connection ends.
fn read(
    mut stream: UnixStream,
    writer: &Mutex<UnixStream>,
    replies: &Sender<Reply>,
    changed: &impl Fn(),
) -> Result<(), String> {
    let mut framer = Framer::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = stream.read(&mut buffer).map_err(|error| error.to_string())?;
        if count == 0 {
            return Ok(());
        }
        framer.push(buffer.get(..count).unwrap_or_default());
        while let Some(message) = framer.next_message().map_err(|error| error.to_string())? {
            match message.get("method").and_then(Value::as_str) {
                Some("echo") => {
                    let reply =
                        json!({ "result": message.get("params"), "error": null, "id": message.get("id") });
                    send(writer, &reply).map_err(|error| error.to_string())?;
                }
                Some("update") => changed(),
                Some(_) => {}
                None => {
                    let Some(id) = message.get("id").and_then(Value::as_u64) else { continue };
                    let outcome = match message.get("error") {
                        Some(error) if !error.is_null() => Err(error.to_string()),
                        _ => Ok(message.get("result").cloned().unwrap_or_default()),
                    };
                    if replies.send((id, outcome)).is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
