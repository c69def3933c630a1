//! The dataplane's side: a watch of the topology, a session for the FIB and a stream of what was learned, each kept up for
//! ever.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane_api::v1::fib_client::FibClient;
use dataplane_api::v1::fib_reply::Reply;
use dataplane_api::v1::fib_request::Request;
use dataplane_api::v1::topology_client::TopologyClient;
use dataplane_api::v1::{
    FibHello, FibRequest, FibSynced, LearnedRequest, LearnedUpdate, TopologyState, WatchRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Requests in flight to the dataplane. More only make a slow dataplane slower to hear of changes.
const SESSION_QUEUE: usize = 8;
/// First and longest pause between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// After a refused object: long enough for a topology that is being applied, short enough to heal by itself.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What comes from the dataplane.
#[derive(Debug)]
pub enum Event {
    /// The topology, whole.
    Topology(Box<TopologyState>),
    /// A session is open with this instance; nothing has been sent in it.
    SessionOpen {
        /// The process's instance number.
        instance: u64,
        /// Its requests go here. Dropping it ends the session.
        requests: mpsc::Sender<FibRequest>,
    },
    /// The session is over.
    SessionClosed,
    /// The dataplane swept what the session did not state.
    Swept {
        /// Routes.
        routes: u64,
        /// Neighbours.
        neighbors: u64,
        /// MACs.
        macs: u64,
    },
    /// A stream of what was learned begins: everything first. What an earlier one said stays until then.
    Learning,
    /// The next message of that stream.
    Learned(Box<LearnedUpdate>),
}

/// Wraps what is sent in a session.
#[must_use]
pub fn request(request: Request) -> FibRequest {
    FibRequest { request: Some(request) }
}

/// The request that says that all is said.
#[must_use]
pub fn synced() -> FibRequest {
    request(Request::Synced(FibSynced {}))
}

/// Tells the operator about the same failure once, not at every attempt.
#[derive(Debug, Default)]
struct Complaint {
    last: String,
}

impl Complaint {
    fn about(&mut self, what: &str, error: &Failure) {
        let text = match error.downcast_ref::<tonic::Status>() {
            Some(status) => format!("{}: {}", status.code(), status.message()),
            None => error.to_string(),
        };
        if text == self.last {
            tracing::debug!(what, error = text, "still failing");
        } else {
            tracing::warn!(what, error = text, "failed; trying again and again");
            self.last = text;
        }
    }
}

/// Watches the topology until the receiver is dropped.
pub async fn watch(socket: PathBuf, events: mpsc::Sender<Event>) {
    again_and_again("topology watch", &events, || watch_once(&socket, &events)).await;
}

/// Takes in what was learned until the receiver is dropped.
pub async fn learn(socket: PathBuf, events: mpsc::Sender<Event>) {
    again_and_again("stream of what was learned", &events, || learn_once(&socket, &events)).await;
}

async fn again_and_again<F>(what: &'static str, events: &mpsc::Sender<Event>, once: impl Fn() -> F)
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut complaint = Complaint::default();
    let mut pause = BACKOFF.0;
    while !events.is_closed() {
        match once().await {
            Ok(()) => {
                complaint = Complaint::default();
                pause = BACKOFF.0;
                tracing::warn!(what, "closed by the dataplane");
            }
            Err(error) => complaint.about(what, &error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn watch_once(socket: &Path, events: &mpsc::Sender<Event>) -> Result<(), Failure> {
    let channel = dataplane_api::connect(socket).await?;
    let mut client = TopologyClient::new(channel).max_decoding_message_size(dataplane_api::MAX_MESSAGE_BYTES);
    let mut states = client.watch(WatchRequest {}).await?.into_inner();
    while let Some(state) = states.message().await? {
        if events.send(Event::Topology(Box::new(state))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn learn_once(socket: &Path, events: &mpsc::Sender<Event>) -> Result<(), Failure> {
    let channel = dataplane_api::connect(socket).await?;
    let mut client = FibClient::new(channel).max_decoding_message_size(dataplane_api::MAX_MESSAGE_BYTES);
    let mut updates = client.learned(LearnedRequest {}).await?.into_inner();
    if events.send(Event::Learning).await.is_err() {
        return Ok(());
    }
    while let Some(update) = updates.message().await? {
        if events.send(Event::Learned(Box::new(update))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Keeps a FIB session open until the receiver is dropped.
pub async fn program(socket: PathBuf, events: mpsc::Sender<Event>) {
    let mut complaint = Complaint::default();
    let mut pause = BACKOFF.0;
    while !events.is_closed() {
        match program_once(&socket, &events).await {
            Ok(Ended::Closed) => {
                complaint = Complaint::default();
                pause = BACKOFF.0;
                tracing::warn!("the dataplane closed the FIB session");
            }
            Ok(Ended::Refused) => {
                tracing::info!(pause = ?REFUSED_PAUSE, "a new session will state everything again");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            Err(error) => complaint.about("FIB session", &error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

enum Ended {
    Closed,
    Refused,
}

async fn program_once(socket: &Path, events: &mpsc::Sender<Event>) -> Result<Ended, Failure> {
    let channel = dataplane_api::connect(socket).await?;
    let mut client = FibClient::new(channel)
        .max_encoding_message_size(dataplane_api::MAX_MESSAGE_BYTES)
        .max_decoding_message_size(dataplane_api::MAX_MESSAGE_BYTES);
    let (requests, queue) = mpsc::channel(SESSION_QUEUE);
    let client_name = concat!("frr-bridge ", env!("CARGO_PKG_VERSION")).to_owned();
    requests.send(request(Request::Hello(FibHello { client: client_name }))).await?;
    let mut replies = client.program(ReceiverStream::new(queue)).await?.into_inner();
    let mut requests = Some(requests);
    let mut opened = false;
    let outcome = loop {
        match replies.message().await {
            Ok(Some(reply)) => match reply.reply {
                Some(Reply::Welcome(welcome)) => {
                    // From here on the core holds the only sender: when it drops it, the stream ends.
                    if let Some(requests) = requests.take() {
                        opened = true;
                        let open = Event::SessionOpen { instance: welcome.instance, requests };
                        if events.send(open).await.is_err() {
                            return Ok(Ended::Closed);
                        }
                    }
                }
                Some(Reply::Ack(ack)) => {
                    if let Some(first) = ack.errors.first() {
                        tracing::warn!(
                            errors = ack.errors.len(),
                            object = first.object,
                            error = first.error,
                            "the dataplane refused objects of a batch"
                        );
                        break Ok(Ended::Refused);
                    }
                }
                Some(Reply::Swept(swept)) => {
                    let (routes, neighbors, macs) = (swept.routes, swept.neighbors, swept.macs);
                    let event = Event::Swept { routes, neighbors, macs };
                    if events.send(event).await.is_err() {
                        return Ok(Ended::Closed);
                    }
                }
                None => {}
            },
            Ok(None) => break Ok(Ended::Closed),
            Err(status) => break Err(status.into()),
        }
    };
    if opened {
        let _ = events.send(Event::SessionClosed).await;
    }
    outcome
}
