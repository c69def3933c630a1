use std::process::ExitCode;

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Connect(#[from] dataplane_api::ConnectError),
    /// The name of something that does not exist, and what does.
    #[error("there is no {kind} \"{name}\"; known: {known}")]
    NotFound { kind: &'static str, name: String, known: String },
    #[error("the dataplane answered: {} ({:?})", .0.message(), .0.code())]
    Refused(#[from] tonic::Status),
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
    #[error("cannot print as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// The documented exit status of this failure.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NotFound { .. } => 1,
            Self::Connect(_) => 3,
            Self::Refused(status) if status.code() == tonic::Code::NotFound => 1,
            Self::Refused(status) if status.code() == tonic::Code::Unavailable => 3,
            Self::Refused(_) | Self::Print(_) | Self::Json(_) => 4,
        })
    }
}
