//! The table of errors: status, stable code, title.
//!
//! A code is a promise to clients and the label under which the error is
//! counted.

use axum::http::StatusCode;
use holdfast_client::ClusterError;
use holdfast_metadata::command::Refusal;

use super::ApiError;

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
