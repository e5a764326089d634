//! What the original routes answer when something goes wrong.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_metadata::protocol::NodeError;

/// One table of errors for the original routes.
pub(super) fn failed(error: &NodeError) -> Response {
    let status = match error {
        NodeError::NoSuchFragment | NodeError::NoSuchGroup => StatusCode::NOT_FOUND,
        NodeError::Invalid(_) | NodeError::Damaged | NodeError::Mistaken(_) => {
            StatusCode::BAD_REQUEST
        }
        NodeError::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        NodeError::NotPermitted(_) => StatusCode::CONFLICT,
        NodeError::Corrupt | NodeError::DiskFailed => StatusCode::INTERNAL_SERVER_ERROR,
        NodeError::NotLeader { .. }
        | NodeError::NoQuorum
        | NodeError::Busy { .. }
        | NodeError::NotBorn
        | NodeError::Sealed
        | NodeError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (status, format!("{error}\n")).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, retry_after(error).into());
    }
    response
}

/// When to come again, in whole seconds.
fn retry_after(error: &NodeError) -> u64 {
    let millis = match error {
        NodeError::Busy { retry_after_millis } => *retry_after_millis,
        // An election, a birth or an end takes about as long.
        _ => 1_000,
    };
    millis.div_ceil(1_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_come_again_is_told_when() {
        let after = |error| {
            let response = failed(&error);
            let header = response.headers().get(header::RETRY_AFTER);
            let seconds = header.map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), seconds)
        };
        let busy = |retry_after_millis| NodeError::Busy { retry_after_millis };
        assert_eq!(after(busy(1)), (503, Some("1".into())));
        assert_eq!(after(busy(2_001)), (503, Some("3".into())));
        assert_eq!(after(NodeError::ShuttingDown), (503, Some("1".into())));
        assert_eq!(after(NodeError::DiskFull), (507, None));
    }
}
