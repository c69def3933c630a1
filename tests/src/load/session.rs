//! A session of the Fib service whose requests are encoded beforehand: what is measured is the dataplane.

use std::net::Ipv4Addr;
use std::path::Path;

use bytes::{Buf as _, BufMut as _, Bytes};
use dataplane_api::v1::fib_request::Request as Kind;
use dataplane_api::v1::{FibBatch, FibHello, FibReply, FibRequest, fib_reply};
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status, Streaming};

use crate::{Error, Result};

/// Requests on their way. There is always a next one.
const AHEAD: usize = 16;

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

/// A batch as it travels.
pub(super) fn encode(batch: FibBatch) -> Bytes {
    FibRequest { request: Some(Kind::Batch(batch)) }.encode_to_vec().into()
}

/// An open session.
pub(super) struct Session {
    runtime: Runtime,
    requests: mpsc::Sender<Bytes>,
    replies: Streaming<Bytes>,
}

impl Session {
    /// Connects and says hello.
    ///
    /// # Errors
    /// When nobody listens at `socket`, or anything but a welcome comes back.
    pub(super) fn open(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::system("cannot make a runtime"))?;
        let (requests, receiver) = mpsc::channel::<Bytes>(AHEAD);
        let stream =
            futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let replies = runtime
            .block_on(async {
                let channel = dataplane_api::connect(socket).await.map_err(|error| error.to_string())?;
                let mut client = Grpc::new(channel);
                client.ready().await.map_err(|error| error.to_string())?;
                let hello = FibHello { client: "load".into() };
                let hello = FibRequest { request: Some(Kind::Hello(hello)) }.encode_to_vec();
                let _ = requests.send(hello.into()).await;
                let path = PathAndQuery::from_static("/openpe.dataplane.v1.Fib/Program");
                let replies = client.streaming(Request::new(stream), path, Raw).await;
                replies.map(tonic::Response::into_inner).map_err(|status| status.to_string())
            })
            .map_err(|reason| Error::Rpc { socket: socket.display().to_string(), reason })?;
        let mut this = Self { runtime, requests, replies };
        match this.runtime.block_on(reply(&mut this.replies))? {
            fib_reply::Reply::Welcome(_) => Ok(this),
            other => Err(Error::unexpected(format!("{other:?} in place of a welcome"))),
        }
    }

    /// Sends batches, without waiting for the answers to those before, until all are acknowledged.
    ///
    /// # Errors
    /// When the session breaks, or anything is refused.
    pub(super) fn send(&mut self, batches: &[Bytes]) -> Result<()> {
        let Self { runtime, requests, replies } = self;
        runtime.block_on(async {
            let sending = async {
                for batch in batches {
                    if requests.send(batch.clone()).await.is_err() {
                        return;
                    }
                }
            };
            let acknowledged = async {
                for _ in batches {
                    match reply(replies).await? {
                        fib_reply::Reply::Ack(ack) if ack.errors.is_empty() => {}
                        other => return Err(Error::unexpected(format!("{other:?} in place of success"))),
                    }
                }
                Ok(())
            };
            futures::join!(sending, acknowledged).1
        })
    }
}

async fn reply(replies: &mut Streaming<Bytes>) -> Result<fib_reply::Reply> {
    let message = replies.message().await.map_err(|status| Error::unexpected(status.to_string()))?;
    let message = message.ok_or_else(|| Error::unexpected("the FIB session has ended"))?;
    let reply = FibReply::decode(message).map_err(|error| Error::unexpected(error.to_string()))?;
    reply.reply.ok_or_else(|| Error::unexpected("an empty reply"))
}

/// An address of IPv4 as it travels.
pub(super) fn octets(address: Ipv4Addr) -> Bytes {
    Bytes::copy_from_slice(&address.octets())
}
