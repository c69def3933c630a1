use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::frame::Decoder;
use crate::error::Error;
use crate::netlink::Message;

/// Bytes read at once: some thousand routes.
const READ_BYTES: usize = 1 << 19;

/// Between two reads that zebra has not filled: it writes a route or a few at a time, and to wake up for each of them would
/// take the CPU that it could make the next ones with.
const PACE: Duration = Duration::from_millis(1);

/// What happens on the FPM channel.
#[derive(Debug)]
pub enum Event {
    /// zebra connected, and will now replay everything.
    Connected,
    /// Messages, in order. Never ends within a frame.
    Messages(Vec<Message>),
    /// zebra is gone.
    Disconnected,
}

/// Listens on `address`.
///
/// # Errors
/// When it is in use, or not an address of this namespace.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves one zebra after the other and reports to `events`, until its receiver is dropped. A second connection ends the
/// first: zebra opens one only when it has given up the other. When `allowed` turns false the port is closed for good.
pub async fn serve(listener: TcpListener, events: mpsc::Sender<Event>, mut allowed: watch::Receiver<bool>) {
    tokio::select! {
        // First: no connection may slip in after the word was given.
        biased;
        _ = allowed.wait_for(|allowed| !allowed) => {}
        () = serve_all(&listener, &events) => return,
    }
    drop(listener);
    // An end of ours and not of the process: the receiver must not take it for that.
    events.closed().await;
}

async fn serve_all(listener: &TcpListener, events: &mpsc::Sender<Event>) {
    let mut next = None;
    loop {
        let (stream, peer) = match next.take() {
            Some(connection) => connection,
            None => match listener.accept().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an FPM connection");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
        };
        tracing::info!(%peer, "zebra connected");
        if events.send(Event::Connected).await.is_err() {
            return;
        }
        tokio::select! {
            () = read(stream, events) => {}
            connection = listener.accept() => {
                tracing::warn!("another FPM connection takes the place of the one there was");
                next = connection.ok();
            }
        }
        if events.send(Event::Disconnected).await.is_err() {
            return;
        }
    }
}

async fn read(mut stream: TcpStream, events: &mpsc::Sender<Event>) {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut decoder = Decoder::default();
    loop {
        buffer.reserve(READ_BYTES);
        let count = match stream.read_buf(&mut buffer).await {
            Ok(0) => {
                tracing::info!(malformed = decoder.malformed(), "zebra disconnected");
                return;
            }
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(%error, "the FPM connection broke");
                return;
            }
        };
        let mut messages = Vec::new();
        let outcome = decoder.decode(&mut buffer, &mut messages);
        if !messages.is_empty() && events.send(Event::Messages(messages)).await.is_err() {
            return;
        }
        if let Err(error) = outcome {
            tracing::error!(%error, "closed the FPM connection");
            return;
        }
        if count < READ_BYTES {
            tokio::time::sleep(PACE).await;
        }
    }
}
