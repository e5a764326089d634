use std::time::Duration;

use axum::http::header;
use holdfast_client::ClusterError;
use holdfast_metadata::command::Refusal;
use holdfast_model::{GroupId, UploadId};
use holdfast_runtime::TransportError;

use super::{ApiError, write_problem};

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
