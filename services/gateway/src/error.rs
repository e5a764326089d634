//! Every error of the HTTP API. What a client sees of each is in one table, in
//! `table`; `problem` makes problem documents of them (RFC 9457) in one place,
//! the outermost layer, which knows the request's id.

mod problem;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::http::StatusCode;
use holdfast_client::ClusterError;
use holdfast_model::duration::DurationError;
use holdfast_model::names::NameError;

pub use problem::{Unwritten, write_problem};
pub use table::Row;

/// When to come again, where nothing better is known.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request was not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// No such route.
    #[error("there is nothing at this address")]
    NoSuchRoute,
    /// The route has no such method.
    #[error("this address does not know that method")]
    MethodNotAllowed,
    /// A parameter of the query or a field of the form is wrong.
    #[error("{0}")]
    BadParameter(String),
    /// A password in the URL, where logs and histories keep it.
    #[error(
        "a password never goes into the URL: send it as Holdfast-Password header or form field"
    )]
    PasswordInUrl,
    /// A file's name is not usable.
    #[error("{0}")]
    BadFileName(String),
    /// A duration is not one.
    #[error("expires_in: {0}")]
    BadDuration(#[from] DurationError),
    /// A media type is not one.
    #[error("the declared media type is not valid")]
    BadMimeType,
    /// The form is not readable as one.
    #[error("the form cannot be read: {0}")]
    BadForm(String),
    /// The form has no part `file`.
    #[error("the form has no part named 'file' with a file name")]
    FileMissing,
    /// The form has several parts `file`, or a field twice.
    #[error("the form has more than one part named '{0}'")]
    PartRepeated(&'static str),
    /// The body ended before its announced end.
    #[error("the body ended early or broke; nothing was stored")]
    IncompleteBody,
    /// The client sent nothing for too long.
    #[error("the body came too slowly, or no byte of it for too long; nothing was stored")]
    BodyTimeout,
    /// The body has more bytes than are allowed.
    #[error("the file is too large: at most {max} bytes are accepted")]
    TooLarge {
        /// How many are.
        max: u64,
    },
    /// An `Idempotency-Key` that is not one.
    #[error("Idempotency-Key must be 1 to 255 printable ASCII characters")]
    BadIdempotencyKey,
    /// The key came with another request before.
    #[error("this Idempotency-Key was used for a different upload")]
    IdempotencyKeyReused,
    /// A cursor that this API did not give.
    #[error("the cursor was not given by this API")]
    BadCursor,
    /// A JSON body that is not as it should be.
    #[error("the JSON body is not as it should be: {0}")]
    BadJson(String),
    /// No credential.
    #[error("this needs an access key: Authorization: Bearer <token>")]
    MissingCredential,
    /// Another way of authentication than Bearer.
    #[error("only Authorization: Bearer is known here")]
    UnknownScheme,
    /// A token that nobody has.
    #[error("the access key is not known, or was revoked")]
    UnknownCredential,
    /// The key may not do that.
    #[error("this needs an admin key")]
    NotAllowed,
    /// No such file, or none that the caller may see.
    #[error("there is no such file")]
    NoSuchFile,
    /// The file has expired.
    #[error("the file has expired")]
    Expired,
    /// No downloads are left.
    #[error("the file's download limit is reached")]
    DownloadLimitReached,
    /// The ticket is no longer good.
    #[error("the ticket is no longer good: {0}")]
    TicketEnded(String),
    /// The file needs a password.
    #[error("the file needs a password: send it as Holdfast-Password header")]
    PasswordNeeded,
    /// The password is not the file's.
    #[error("the password is wrong")]
    WrongPassword,
    /// The delete token is not the file's.
    #[error("the delete token is wrong")]
    WrongDeleteToken,
    /// The worker has not made it yet.
    #[error("the thumbnail is not ready yet")]
    ThumbnailNotReady,
    /// The workers have given it up.
    #[error("the thumbnail could not be made: {0}")]
    ThumbnailFailed(String),
    /// Nothing will be made of this file.
    #[error("there is no thumbnail of a file of this type or size")]
    NoThumbnail,
    /// A condition of the request's headers is not met.
    #[error("the file is not the one that the request's condition names")]
    PreconditionFailed,
    /// No byte of the range exists.
    #[error("the file has {size} bytes; the range lies beyond them")]
    RangeNotSatisfiable {
        /// The file's bytes.
        size: u64,
    },
    /// No such node.
    #[error("there is no such node")]
    NoSuchNode,
    /// No such access key.
    #[error("there is no such access key")]
    NoSuchAccessKey,
    /// What was asked contradicts the cluster's state.
    #[error("{0}")]
    Conflict(String),
    /// More requests than the caller may make.
    #[error("too many requests")]
    TooManyRequests {
        /// When to come again.
        retry_after: Duration,
    },
    /// More tries at a password than a file allows, or too many at once.
    #[error("too many tries at a password")]
    TooManyPasswords {
        /// When to come again.
        retry_after: Duration,
    },
    /// This gateway is at one of its limits.
    #[error("the gateway is busy with as much as it may hold")]
    Busy,
    /// The cluster is not known yet, or has not been heard of for too long.
    #[error("the cluster is not ready: {0}")]
    NotReady(String),
    /// The cluster did not do it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Something that should not happen.
    #[error("an internal error; the request id finds it in the logs")]
    Internal(String),
}

impl ApiError {
    /// When the client may come again, where that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        let known = match self {
            Self::TooManyRequests { retry_after } | Self::TooManyPasswords { retry_after } => {
                Some(*retry_after)
            }
            Self::Cluster(error) => error.retry_after(),
            _ => None,
        };
        let status = self.row().status;
        let helps =
            status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE;
        known.or(helps.then_some(DEFAULT_RETRY_AFTER))
    }

    /// What the client is told; the insides of a fault stay in the logs.
    fn detail(&self) -> String {
        match self {
            Self::Cluster(ClusterError::Internal(_) | ClusterError::Transport(_)) => {
                "the cluster could not do it; the request id finds it in the logs".into()
            }
            other => other.to_string(),
        }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::BadFileName(error.to_string())
    }
}
