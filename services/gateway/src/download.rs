//! Downloads: the bytes of a file, whole or in part, counted where its uploader
//! set a limit.
//!
//! The order is what makes counting right: whether the file may be had, then
//! the conditions and the range of the request, and only for bytes that are
//! really to be sent a reservation. From there on every way out settles it.

pub mod conditions;
pub mod disposition;
pub mod heat;
pub mod range;
pub mod sending;
pub mod settle;
pub mod ticket;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use futures_util::StreamExt;
use holdfast_client::read_record;
use holdfast_metadata::command::ByteSpan;
use holdfast_model::ObjectRecord;

use self::conditions::{Validators, Verdict};
use self::range::Wanted;
use self::sending::{Pieces, Sending};
use self::ticket::{Granted, TICKET_HEADER, shown_tickets};
use crate::app::{App, Transfer};
use crate::error::ApiError;
use crate::files::lookup::{Found, check_open, find};
use crate::front::Context;
use crate::mime;

/// Chunks asked for along with the record; a longer file's others are fetched
/// while the first are sent.
const FIRST_CHUNKS: u32 = 8;

/// `GET` and `HEAD /api/download/{file_id}`.
pub async fn download(
    State(app): State<Arc<App>>,
    context: Context,
    id: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoSuchFile)?;
    let head_only = method == Method::HEAD;
    let chunks = if head_only { 0 } else { FIRST_CHUNKS };
    let found = find(&app, &id, chunks, context.trace()).await?;
    let tickets = shown_tickets(&headers)?;
    let record = &found.record;
    if record.expired(found.now) {
        return Err(ApiError::Expired);
    }
    if tickets.is_empty() && record.downloads.is_some_and(|limit| limit.left == 0) {
        return Err(ApiError::DownloadLimitReached);
    }
    check_open(&app, &found, &headers).await?;

    let validators = Validators::of(record);
    match conditions::evaluate(&headers, &validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => return respond(&found, StatusCode::NOT_MODIFIED, Body::empty()),
        Verdict::Failed => return Err(ApiError::PreconditionFailed),
    }
    let size = record.content.size;
    let wanted = match conditions::range_applies(&headers, &validators) {
        true => range::wanted(&headers, size),
        false => Wanted::Whole,
    };
    let (status, span) = match wanted {
        Wanted::Whole => (
            StatusCode::OK,
            ByteSpan {
                first: 0,
                end: size,
            },
        ),
        Wanted::Part(span) => (StatusCode::PARTIAL_CONTENT, span),
        Wanted::Nothing => return Err(ApiError::RangeNotSatisfiable { size }),
    };
    let (body, granted) = if head_only {
        (Body::empty(), None)
    } else {
        send(&app, &context, &found, &tickets, span).await?
    };
    let mut response = respond(&found, status, body)?;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(span.end - span.first),
    );
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{size}", span.first, span.end - 1);
        headers.insert(header::CONTENT_RANGE, value(&text)?);
    }
    if let Some(granted) = granted {
        headers.insert(TICKET_HEADER, value(&granted.ticket.to_string())?);
        let cookie = granted.cookie(&id, found.now, context.https);
        headers.insert(header::SET_COOKIE, value(&cookie)?);
    }
    Ok(response)
}

/// Reserves where there is a limit, reads the first bytes, and hands back a
/// body that settles what was reserved however it ends.
async fn send(
    app: &Arc<App>,
    context: &Context,
    found: &Found,
    tickets: &ticket::Shown,
    span: ByteSpan,
) -> Result<(Body, Option<Granted>), ApiError> {
    let room = app.admit(Transfer::Download(span.end - span.first))?;
    let record = &found.record;
    let (granted, settlement) = match record.downloads {
        Some(_) => {
            let (granted, settlement) = ticket::reserve(app, context, found, tickets, span).await?;
            (Some(granted), Some(settlement))
        }
        None => (None, None),
    };
    let mut sending = Sending::new(
        span.end - span.first,
        settlement,
        room,
        app.env.clock.clone(),
    );
    if span.first < span.end {
        let mut pieces = read(app, found, span).await;
        match pieces.next().await {
            Some(Ok(first)) => sending.fill(first, pieces),
            Some(Err(error)) => {
                sending.fail();
                return Err(error.into());
            }
            None => {
                sending.fail();
                return Err(ApiError::Internal("an object ended before it began".into()));
            }
        }
    }
    let new = granted.as_ref().is_none_or(|granted| granted.new);
    if new {
        metrics::counter!("holdfast_downloads_total").increment(1);
    }
    Ok((Body::new(sending), granted))
}

/// The bytes of a span, from the cache where the file is small and hot.
async fn read(app: &App, found: &Found, span: ByteSpan) -> Pieces {
    if heat::is_cacheable(&found.record) {
        return heat::read(app, found, span).await;
    }
    read_record(
        &app.cluster,
        found.address.clone(),
        &found.record,
        found.chunks.clone(),
        span.first..span.end,
        app.budget.clone(),
    )
}

/// The headers that every answer about the file's bytes has.
fn respond(found: &Found, status: StatusCode, body: Body) -> Result<Response<Body>, ApiError> {
    let record = &found.record;
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value(&record.content.mime)?);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::ETAG,
        value(&format!("\"{}\"", record.content.etag))?,
    );
    headers.insert(
        header::LAST_MODIFIED,
        value(&conditions::http_date(record.created))?,
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(cache_control(record)),
    );
    serve_safely(headers, record)?;
    Ok(response)
}

/// What keeps a browser from running what somebody uploaded.
pub fn serve_safely(headers: &mut HeaderMap, record: &ObjectRecord) -> Result<(), ApiError> {
    let inline = mime::is_safe_inline(&record.content.mime);
    let name = record.content.filename.as_ref().map(|name| name.as_str());
    let disposition = disposition::content_disposition(inline, name);
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition)?);
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Ok(())
}

/// What may be kept by whom: nothing of what is counted or needs a password.
/// Anything else must be asked for again, since it may be deleted any time.
fn cache_control(record: &ObjectRecord) -> &'static str {
    if record.downloads.is_some() || record.password.is_some() {
        "private, no-store"
    } else {
        "private, no-cache"
    }
}

/// A header's value of text that was checked when it was stored.
pub fn value(text: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(text)
        .map_err(|_| ApiError::Internal(format!("{text:?} cannot stand in a header")))
}
