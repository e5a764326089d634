//! The outermost layer: gives every request its id, its caller and its limits,
//! and every answer its headers, its problem document and its place in the
//! metrics.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use holdfast_cache::{Allowance, Rate};
use holdfast_runtime::host::http::REQUEST_ID;
use holdfast_runtime::host::serve::Encrypted;
use tracing::Instrument;

use crate::app::App;
use crate::auth::{Caller, bearer_token, identify};
use crate::body::{CountedBody, IdleBody, InFlight};
use crate::client_address::{came_by_https, client_address};
use crate::error::{ApiError, Unwritten, write_problem};

/// The longest request id taken from a client, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 64;
/// A burst is so many seconds of the rate.
const BURST_SECONDS: u32 = 2;

/// What the outermost layer found out about a request.
#[derive(Clone, Debug)]
pub struct Context {
    /// The request's id.
    pub request_id: String,
    /// The client's address.
    pub address: IpAddr,
    /// Whether the client came by HTTPS, as far as is known.
    pub https: bool,
    /// Who is calling.
    pub caller: Option<Caller>,
}

impl Context {
    /// The request's id, for calls to the nodes.
    pub fn trace(&self) -> Option<&str> {
        Some(&self.request_id)
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::Internal("a request without its context".into()))
    }
}

/// Serves a request.
pub async fn front(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    let began = app.env.clock.monotonic();
    let place = app.admit_request();
    let (busy, place) = match place {
        Ok(place) => (None, Some(place)),
        Err(busy) => (Some(busy), None),
    };
    let in_flight = InFlight::begin(place);
    let request_id =
        request_id(request.headers()).unwrap_or_else(|| hex::encode(app.env.entropy.id()));
    let method = request.method().clone();
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        // Not the path itself: anybody could make the metrics grow with it.
        None => "unknown".to_owned(),
    };
    let head_only = method == axum::http::Method::HEAD;
    let span = tracing::info_span!("request", %request_id, %method, route);
    let mut response = match busy {
        Some(busy) => axum::response::IntoResponse::into_response(busy),
        None => {
            serve(&app, &request_id, request, next)
                .instrument(span.clone())
                .await
        }
    };
    if let Some(Unwritten(error)) = response.extensions().get::<Unwritten>().cloned() {
        let problem = write_problem(&error, &request_id);
        let (mut parts, body) = problem.into_parts();
        // What a handler or the router added (Allow) stays.
        for (name, value) in response.headers() {
            parts.headers.entry(name).or_insert(value.clone());
        }
        let body = if head_only { Body::empty() } else { body };
        response = Response::from_parts(parts, body);
    }
    finish_headers(&mut response, &request_id);
    let status = response.status();
    let took = app.env.clock.monotonic().saturating_sub(began);
    span.in_scope(|| tracing::debug!(status = status.as_u16(), ?took, "answered"));
    count(&route, method.as_str(), status, took.as_secs_f64());
    response.map(|body| Body::new(CountedBody::new(body, "out", Some(in_flight))))
}

async fn serve(app: &App, request_id: &str, request: Request, next: Next) -> Response<Body> {
    match prepare(app, request_id, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => axum::response::IntoResponse::into_response(error),
    }
}

/// Finds out who is calling and whether they may call so often.
async fn prepare(app: &App, request_id: &str, mut request: Request) -> Result<Request, ApiError> {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
    let trusted = &app.settings.trusted_proxies;
    let headers = request.headers();
    let address = client_address(peer, headers, trusted);
    let encrypted = request.extensions().get::<Encrypted>().is_some();
    let https = encrypted || came_by_https(peer, headers, trusted);
    limit(
        app,
        &format!("address:{address}"),
        app.settings.address_rate,
    )
    .await?;
    let caller = match bearer_token(headers)? {
        Some(token) => {
            let caller = identify(app.state()?.as_ref(), token)?;
            limit(app, &format!("key:{}", caller.id), app.settings.key_rate).await?;
            Some(caller)
        }
        None => None,
    };
    request.extensions_mut().insert(Context {
        request_id: request_id.to_owned(),
        address,
        https,
        caller,
    });
    let clock = app.env.clock.clone();
    Ok(request.map(|body| Body::new(CountedBody::new(IdleBody::new(body, clock), "in", None))))
}

async fn limit(app: &App, bucket: &str, per_second: u32) -> Result<(), ApiError> {
    if per_second == 0 {
        return Ok(());
    }
    let rate = Rate {
        per_second: per_second.into(),
        burst: per_second.saturating_mul(BURST_SECONDS),
    };
    match app.cache.allow(bucket, rate).await {
        Allowance::Allowed => Ok(()),
        Allowance::Refused { retry_after } => Err(ApiError::TooManyRequests { retry_after }),
    }
}

/// The client's request id, if it can stand in logs and headers as it is.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let sane = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (!id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.bytes().all(sane))
        .then(|| id.to_owned())
}

fn finish_headers(response: &mut Response<Body>, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

fn count(route: &str, method: &str, status: StatusCode, seconds: f64) {
    // Methods that no route has are counted together, for the same reason as paths.
    let method = match method {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" => method.to_owned(),
        _ => "other".to_owned(),
    };
    let route = route.to_owned();
    metrics::counter!(
        "holdfast_http_requests_total",
        "route" => route.clone(), "method" => method, "status" => status.as_u16().to_string()
    )
    .increment(1);
    metrics::histogram!("holdfast_http_request_duration_seconds", "route" => route).record(seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_request_ids_are_taken() {
        let ask = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, id.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(ask("a-1_b.C"), Some("a-1_b.C".into()));
        for bad in ["", "a b", "a\"b", &"x".repeat(65), "a,b"] {
            assert_eq!(ask(bad), None, "{bad:?} was taken");
        }
    }
}
