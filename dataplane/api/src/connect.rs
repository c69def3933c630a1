use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Where pe-dataplane listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/openpe/dataplane.sock";

/// Largest message either side takes, bytes: a topology of thousands of VNIs, or a FIB batch.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The dataplane could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the dataplane at {}: {}; is pe-dataplane running, and may this user open its socket?", path.display(), root_cause(source))]
pub struct ConnectError {
    path: PathBuf,
    source: tonic::transport::Error,
}

/// What the operating system said: the transport itself only says that it failed.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

/// Connects to the dataplane's socket at `path`.
///
/// # Errors
/// When nobody listens there or the socket may not be opened.
pub async fn connect(path: impl AsRef<Path>) -> Result<Channel, ConnectError> {
    let path = path.as_ref().to_owned();
    let target = path.clone();
    // The address is never resolved: the connector below ignores it.
    Endpoint::from_static("http://dataplane.invalid")
        .connect_with_connector(tower::service_fn(move |_| {
            let target = target.clone();
            async move { UnixStream::connect(target).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|source| ConnectError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_reason_is_the_operating_systems() {
        let error = connect("/nonexistent/dataplane.sock").await.expect_err("nobody listens there");
        let text = error.to_string();
        assert!(text.contains("/nonexistent/dataplane.sock") && text.contains("No such file"), "{text}");
    }
}
