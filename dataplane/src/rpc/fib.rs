//! The Fib service: one client at a time programs routes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataplane_api::v1;
use dataplane_api::v1::fib_request::Request as Kind;
use dataplane_api::v1::fib_server::Fib as FibApi;
use forwarding::{Sweep, WeightedPath};
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use super::batch::carry_out;
use crate::learning::Learning;
use crate::topology::{SharedControl, Topology, lock, unlock_fair};

/// Replies that may wait for a client that does not read; its requests wait then too.
const REPLIES: usize = 64;

/// Who programs routes.
#[derive(Debug, Default)]
pub struct FibSessions {
    current: Mutex<Session>,
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Session {
    number: u64,
    client: String,
    synced: bool,
}

impl FibSessions {
    /// The client of the open session, empty without one, and whether it said that it is synced.
    pub fn client(&self) -> (String, bool) {
        let session = self.lock();
        (session.client.clone(), session.synced)
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session, which ends the one before.
    fn begin(&self, control: &SharedControl, client: &str) -> u64 {
        let mut session = self.lock();
        lock(control).session_begin();
        *session = Session { number: session.number + 1, client: client.to_owned(), synced: false };
        self.latest.send_replace(session.number);
        session.number
    }

    /// Works in session `number`, if that is still the current one.
    fn within<T>(&self, number: u64, work: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let mut session = self.lock();
        (session.number == number).then(|| work(&mut session))
    }

    fn end(&self, number: u64) {
        self.within(number, |session| {
            session.client.clear();
            session.synced = false;
        });
    }
}

pub(super) struct FibService {
    control: SharedControl,
    topology: Topology,
    sessions: Arc<FibSessions>,
    learning: Learning,
    instance: u64,
}

impl FibService {
    pub(super) fn new(
        control: SharedControl,
        topology: Topology,
        sessions: Arc<FibSessions>,
        learning: Learning,
        instance: u64,
    ) -> Self {
        Self { control, topology, sessions, learning, instance }
    }
}

#[tonic::async_trait]
impl FibApi for FibService {
    type ProgramStream = ReceiverStream<Result<v1::FibReply, Status>>;

    async fn program(
        &self,
        request: Request<Streaming<v1::FibRequest>>,
    ) -> Result<Response<Self::ProgramStream>, Status> {
        let (replies, receiver) = mpsc::channel(REPLIES);
        let client = Client {
            control: Arc::clone(&self.control),
            topology: self.topology.clone(),
            sessions: Arc::clone(&self.sessions),
            latest: self.sessions.latest.subscribe(),
            instance: self.instance,
            requests: request.into_inner(),
            replies,
            paths: Vec::new(),
        };
        // A thread, not a task: a batch is a stretch of work without anything to wait for.
        tokio::task::spawn_blocking(move || client.run(&Handle::current()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type LearnedStream = Pin<Box<dyn Stream<Item = Result<v1::LearnedUpdate, Status>> + Send>>;

    async fn learned(&self, _: Request<v1::LearnedRequest>) -> Result<Response<Self::LearnedStream>, Status> {
        let (learning, control) = (self.learning.clone(), Arc::clone(&self.control));
        // A thread, not a task: it may have to wait for the tables.
        let listening = tokio::task::spawn_blocking(move || learning.listen(&control)).await;
        let updates = listening.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(updates).map(Ok))))
    }
}

struct Client {
    control: SharedControl,
    topology: Topology,
    sessions: Arc<FibSessions>,
    latest: watch::Receiver<u64>,
    instance: u64,
    requests: Streaming<v1::FibRequest>,
    replies: mpsc::Sender<Result<v1::FibReply, Status>>,
    paths: Vec<WeightedPath>,
}

impl Client {
    fn run(mut self, runtime: &Handle) {
        let hello = match runtime.block_on(self.requests.message()) {
            Ok(Some(v1::FibRequest { request: Some(Kind::Hello(hello)) })) => hello,
            Ok(None) => return,
            Ok(Some(_)) => {
                let _ = self
                    .replies
                    .blocking_send(Err(Status::failed_precondition("the first request must be hello")));
                return;
            }
            Err(status) => {
                info!(%status, "FIB client left before its hello");
                return;
            }
        };
        let number = self.sessions.begin(&self.control, &hello.client);
        info!(client = hello.client, "FIB session");
        let reason = match self.session(number, runtime) {
            Ok(()) => "the client left".to_owned(),
            Err(status) => {
                let reason = status.message().to_owned();
                // The client may be gone.
                let _ = self.replies.blocking_send(Err(status));
                reason
            }
        };
        info!(client = hello.client, reason, "FIB session ended; routes stay");
        self.sessions.end(number);
    }

    fn session(&mut self, number: u64, runtime: &Handle) -> Result<(), Status> {
        let welcome = v1::fib_reply::Reply::Welcome(v1::FibWelcome { instance: self.instance });
        self.reply(welcome);
        loop {
            let next = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = self.latest.wait_for(|&latest| latest > number) => Err(superseded()),
                    message = self.requests.message() => message,
                }
            });
            let Some(request) = next? else { return Ok(()) };
            let reply = match request.request {
                Some(Kind::Batch(batch)) => v1::fib_reply::Reply::Ack(self.batch(number, &batch)?),
                Some(Kind::Synced(_)) => v1::fib_reply::Reply::Swept(self.sweep(number)?),
                Some(Kind::Hello(_)) => return Err(Status::failed_precondition("there was a hello before")),
                None => {
                    return Err(Status::invalid_argument(
                        "a request of a kind that this version does not know",
                    ));
                }
            };
            self.reply(reply);
        }
    }

    fn reply(&self, reply: v1::fib_reply::Reply) {
        // Refused when the client has gone, which the next read tells.
        let _ = self.replies.blocking_send(Ok(v1::FibReply { reply: Some(reply) }));
    }

    fn sweep(&self, number: u64) -> Result<v1::FibSwept, Status> {
        let mut sweep = Sweep::default();
        let swept = loop {
            let part = self.sessions.within(number, |session| {
                session.synced = true;
                let mut control = lock(&self.control);
                let swept = control.session_sweep_part(&mut sweep);
                control.reclaim();
                // Others have the tables before the next part.
                unlock_fair(control);
                swept
            });
            if let Some(swept) = part.ok_or_else(superseded)? {
                break swept;
            }
        };
        info!(
            routes = swept.routes,
            neighbors = swept.neighbors,
            macs = swept.macs,
            "FIB synced; what was not restated is swept"
        );
        Ok(v1::FibSwept { routes: swept.routes, neighbors: swept.neighbors, macs: swept.macs })
    }

    fn batch(&mut self, number: u64, batch: &v1::FibBatch) -> Result<v1::FibAck, Status> {
        let names = self.topology.names();
        let Self { sessions, control, paths, .. } = self;
        let errors = carry_out(batch, &names, paths, |work| {
            let work = |_: &mut Session| {
                let mut tables = lock(control);
                work(&mut tables);
                unlock_fair(tables);
            };
            sessions.within(number, work).ok_or_else(superseded)
        })?;
        Ok(v1::FibAck { sequence: batch.sequence, errors })
    }
}

fn superseded() -> Status {
    Status::aborted("another client has opened a session")
}
