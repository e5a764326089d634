//! Every error of the HTTP API, in one table: status, stable code, title.
//!
//! A code is a promise to clients and the label under which the error is
//! counted. Errors become problem documents (RFC 9457) in one place, the
//! outermost layer, which knows the request's id.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_client::ClusterError;
use holdfast_metadata::command::Refusal;
use holdfast_model::duration::DurationError;
use holdfast_model::names::NameError;

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

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable code, also the label of metrics.
    pub code: &'static str,
    /// The title of the problem document.
    pub title: &'static str,
}

const fn row(status: StatusCode, code: &'static str, title: &'static str) -> Row {
    Row {
        status,
        code,
        title,
    }
}

impl ApiError {
    /// The row of this error.
    pub fn row(&self) -> Row {
        use StatusCode as S;
        match self {
            Self::NoSuchRoute => row(S::NOT_FOUND, "no_such_route", "Nothing here"),
            Self::MethodNotAllowed => row(
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
            ),
            Self::BadParameter(_) => row(S::BAD_REQUEST, "bad_parameter", "A parameter is wrong"),
            Self::PasswordInUrl => row(S::BAD_REQUEST, "password_in_url", "Password in the URL"),
            Self::BadFileName(_) => row(
                S::BAD_REQUEST,
                "bad_file_name",
                "The file name cannot be used",
            ),
            Self::BadDuration(_) => row(S::BAD_REQUEST, "bad_duration", "The duration is wrong"),
            Self::BadMimeType => row(S::BAD_REQUEST, "bad_mime_type", "The media type is wrong"),
            Self::BadForm(_) => row(S::BAD_REQUEST, "bad_form", "The form cannot be read"),
            Self::FileMissing => row(S::BAD_REQUEST, "file_missing", "No file"),
            Self::PartRepeated(_) => row(S::BAD_REQUEST, "part_repeated", "A part came twice"),
            Self::IncompleteBody => {
                row(S::BAD_REQUEST, "incomplete_body", "The body is incomplete")
            }
            Self::BodyTimeout => row(
                S::REQUEST_TIMEOUT,
                "body_timeout",
                "The body came too slowly",
            ),
            Self::TooLarge { .. } => row(S::PAYLOAD_TOO_LARGE, "too_large", "Too large"),
            Self::BadIdempotencyKey => row(
                S::BAD_REQUEST,
                "bad_idempotency_key",
                "The Idempotency-Key is wrong",
            ),
            Self::IdempotencyKeyReused => row(
                S::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Idempotency-Key used before",
            ),
            Self::BadCursor => row(S::BAD_REQUEST, "bad_cursor", "The cursor is wrong"),
            Self::BadJson(_) => row(S::BAD_REQUEST, "bad_json", "The body cannot be read"),
            Self::MissingCredential => row(
                S::UNAUTHORIZED,
                "missing_credential",
                "An access key is needed",
            ),
            Self::UnknownScheme => row(S::UNAUTHORIZED, "unknown_scheme", "Unknown authentication"),
            Self::UnknownCredential => {
                row(S::UNAUTHORIZED, "unknown_credential", "Unknown access key")
            }
            Self::NotAllowed => row(S::FORBIDDEN, "not_allowed", "Not allowed"),
            Self::NoSuchFile => row(S::NOT_FOUND, "no_such_file", "No such file"),
            Self::Expired => row(S::GONE, "expired", "Expired"),
            Self::DownloadLimitReached => {
                row(S::GONE, "download_limit_reached", "Download limit reached")
            }
            Self::TicketEnded(_) => row(S::GONE, "ticket_ended", "The ticket has ended"),
            Self::PasswordNeeded => row(S::FORBIDDEN, "password_needed", "A password is needed"),
            Self::WrongPassword => row(S::FORBIDDEN, "wrong_password", "Wrong password"),
            Self::WrongDeleteToken => row(S::FORBIDDEN, "wrong_delete_token", "Wrong delete token"),
            Self::ThumbnailNotReady => row(S::NOT_FOUND, "not_ready", "Not ready"),
            Self::ThumbnailFailed(_) => row(
                S::NOT_FOUND,
                "thumbnail_failed",
                "The thumbnail could not be made",
            ),
            Self::NoThumbnail => row(S::NOT_FOUND, "no_thumbnail", "No thumbnail"),
            Self::PreconditionFailed => row(
                S::PRECONDITION_FAILED,
                "precondition_failed",
                "Condition not met",
            ),
            Self::RangeNotSatisfiable { .. } => row(
                S::RANGE_NOT_SATISFIABLE,
                "range_not_satisfiable",
                "No such range",
            ),
            Self::NoSuchNode => row(S::NOT_FOUND, "no_such_node", "No such node"),
            Self::NoSuchAccessKey => row(S::NOT_FOUND, "no_such_access_key", "No such access key"),
            Self::Conflict(_) => row(S::CONFLICT, "conflict", "Conflict"),
            Self::TooManyRequests { .. } => row(
                S::TOO_MANY_REQUESTS,
                "too_many_requests",
                "Too many requests",
            ),
            Self::TooManyPasswords { .. } => {
                row(S::TOO_MANY_REQUESTS, "too_many_passwords", "Too many tries")
            }
            Self::Busy => row(S::SERVICE_UNAVAILABLE, "busy", "Busy"),
            Self::NotReady(_) => row(
                S::SERVICE_UNAVAILABLE,
                "cluster_not_ready",
                "The cluster is not ready",
            ),
            Self::Cluster(error) => cluster_row(error),
            Self::Internal(_) => row(S::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

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

fn cluster_row(error: &ClusterError) -> Row {
    use StatusCode as S;
    match error {
        ClusterError::NoQuorum { .. } => row(
            S::SERVICE_UNAVAILABLE,
            "no_quorum",
            "Not enough nodes answer",
        ),
        ClusterError::OutcomeUnknown { .. } => row(
            S::SERVICE_UNAVAILABLE,
            "outcome_unknown",
            "The outcome is not known",
        ),
        ClusterError::NotReady(_) => row(
            S::SERVICE_UNAVAILABLE,
            "cluster_not_ready",
            "The cluster is not ready",
        ),
        ClusterError::Refused(refusal) => refusal_row(refusal),
        ClusterError::Busy { .. } => row(S::SERVICE_UNAVAILABLE, "busy", "Busy"),
        ClusterError::DiskFull => row(S::INSUFFICIENT_STORAGE, "disk_full", "No room is left"),
        ClusterError::NotEnoughNodes { .. } => row(
            S::SERVICE_UNAVAILABLE,
            "not_enough_nodes",
            "Not enough nodes take data",
        ),
        ClusterError::Transport(_) => row(
            S::SERVICE_UNAVAILABLE,
            "node_unreachable",
            "A node does not answer",
        ),
        ClusterError::DataUnavailable { .. } => row(
            S::SERVICE_UNAVAILABLE,
            "data_unavailable",
            "The data cannot be read now",
        ),
        ClusterError::Internal(_) => row(S::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
    }
}

fn refusal_row(refusal: &Refusal) -> Row {
    use StatusCode as S;
    match refusal {
        Refusal::WrongGroup => row(
            S::SERVICE_UNAVAILABLE,
            "layout_changed",
            "The layout has changed",
        ),
        Refusal::NoSuchObject => row(S::NOT_FOUND, "no_such_file", "No such file"),
        Refusal::NoSuchBucket => row(S::NOT_FOUND, "no_such_bucket", "No such bucket"),
        Refusal::BucketSealed => row(S::CONFLICT, "bucket_deleting", "Bucket is being deleted"),
        Refusal::BucketNotEmpty => row(S::CONFLICT, "bucket_not_empty", "Bucket not empty"),
        Refusal::Expired => row(S::GONE, "expired", "Expired"),
        Refusal::Exhausted => row(S::GONE, "download_limit_reached", "Download limit reached"),
        Refusal::ConditionFailed(_) => row(S::CONFLICT, "conflict", "Conflict"),
        Refusal::KeyReused => row(
            S::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "Idempotency-Key used before",
        ),
        Refusal::UploadLost(_) => row(
            S::SERVICE_UNAVAILABLE,
            "upload_lost",
            "The upload took too long",
        ),
        Refusal::NotClaimable
        | Refusal::Fenced
        | Refusal::Stale
        | Refusal::NotYet
        | Refusal::Held(_) => row(S::CONFLICT, "conflict", "Conflict"),
        Refusal::TicketEnded(_) => row(S::GONE, "ticket_ended", "The ticket has ended"),
        Refusal::Invalid(_) => row(S::CONFLICT, "refused", "Refused"),
        Refusal::OutcomeUnknown => row(
            S::SERVICE_UNAVAILABLE,
            "outcome_unknown",
            "The outcome is not known",
        ),
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::BadFileName(error.to_string())
    }
}

/// The error of a response that is yet to be written out.
#[derive(Clone, Debug)]
pub struct Unwritten(pub Arc<ApiError>);

impl IntoResponse for ApiError {
    /// A response that only names its error; [`write_problem`] gives it its body.
    fn into_response(self) -> Response {
        let status = self.row().status;
        (status, axum::Extension(Unwritten(Arc::new(self)))).into_response()
    }
}

/// The problem document of an error.
pub fn write_problem(error: &ApiError, request_id: &str) -> Response {
    let row = error.row();
    if row.status.is_server_error() {
        tracing::warn!(request_id, code = row.code, ?error, "a request failed");
    }
    metrics::counter!("holdfast_http_errors_total", "code" => row.code).increment(1);
    let body = serde_json::json!({
        "type": "about:blank",
        "title": row.title,
        "status": row.status.as_u16(),
        "detail": error.detail(),
        "code": row.code,
        "request_id": request_id,
    });
    let mut response = (row.status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = error.retry_after() {
        // Whole seconds, rounded up: coming too early helps nobody.
        let seconds = after.as_millis().div_ceil(1_000).max(1) as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if row.status == StatusCode::UNAUTHORIZED {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"holdfast\""),
        );
    }
    if let ApiError::RangeNotSatisfiable { size } = error
        && let Ok(value) = HeaderValue::try_from(format!("bytes */{size}"))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use holdfast_model::{GroupId, UploadId};
    use holdfast_runtime::TransportError;

    use super::*;

    /// One of each; the match of `cluster_row` makes a new variant a compile
    /// error, this list shows what clients see.
    fn cluster_errors() -> Vec<(ClusterError, u16, &'static str)> {
        let group = GroupId(1);
        let broken = TransportError::Broken {
            reason: "secret".into(),
        };
        vec![
            (ClusterError::NoQuorum { group }, 503, "no_quorum"),
            (
                ClusterError::OutcomeUnknown { group },
                503,
                "outcome_unknown",
            ),
            (ClusterError::NotReady("x".into()), 503, "cluster_not_ready"),
            (
                ClusterError::Refused(Refusal::NoSuchObject),
                404,
                "no_such_file",
            ),
            (
                ClusterError::Refused(Refusal::Exhausted),
                410,
                "download_limit_reached",
            ),
            (ClusterError::Refused(Refusal::Expired), 410, "expired"),
            (
                ClusterError::Refused(Refusal::KeyReused),
                422,
                "idempotency_key_reused",
            ),
            (
                ClusterError::Refused(Refusal::WrongGroup),
                503,
                "layout_changed",
            ),
            (
                ClusterError::Refused(Refusal::TicketEnded("x".into())),
                410,
                "ticket_ended",
            ),
            (
                ClusterError::Refused(Refusal::UploadLost("x".into())),
                503,
                "upload_lost",
            ),
            (
                ClusterError::Refused(Refusal::OutcomeUnknown),
                503,
                "outcome_unknown",
            ),
            (
                ClusterError::Refused(Refusal::Held("x".into())),
                409,
                "conflict",
            ),
            (
                ClusterError::Busy {
                    retry_after: Duration::from_secs(3),
                },
                503,
                "busy",
            ),
            (ClusterError::DiskFull, 507, "disk_full"),
            (
                ClusterError::NotEnoughNodes { have: 1, need: 2 },
                503,
                "not_enough_nodes",
            ),
            (ClusterError::Transport(broken), 503, "node_unreachable"),
            (
                ClusterError::DataUnavailable {
                    upload: UploadId::from_bytes([0; 16]),
                    chunk: 0,
                },
                503,
                "data_unavailable",
            ),
            (ClusterError::Internal("secret".into()), 500, "internal"),
        ]
    }

    #[test]
    fn every_error_of_the_cluster_has_its_status_and_code() {
        for (error, status, code) in cluster_errors() {
            let error = ApiError::from(error);
            let row = error.row();
            assert_eq!((row.status.as_u16(), row.code), (status, code), "{error:?}");
            assert!(
                !error.detail().contains("secret"),
                "{error:?} tells its insides"
            );
        }
    }

    #[test]
    fn who_is_to_come_again_is_told_when() {
        let busy = ClusterError::Busy {
            retry_after: Duration::from_millis(2_100),
        };
        let response = write_problem(&busy.into(), "r");
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
        let response = write_problem(&ApiError::Busy, "r");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = write_problem(&ApiError::NoSuchFile, "r");
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }

    #[tokio::test]
    async fn a_problem_document_names_code_and_request() {
        use http_body_util::BodyExt;
        let response = write_problem(&ApiError::MissingCredential, "abc");
        assert_eq!(response.status(), 401);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "missing_credential");
        assert_eq!(body["request_id"], "abc");
        assert_eq!(body["status"], 401);
    }
}
