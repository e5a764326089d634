//! Errors become problem documents (RFC 9457).

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::ApiError;

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
