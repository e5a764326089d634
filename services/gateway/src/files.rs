//! Files as things: list, describe, delete, and their thumbnails.

pub mod cursor;
pub mod listing;
pub mod lookup;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use holdfast_client::{ClusterError, read_object};
use holdfast_metadata::command::{Command, DeleteCause, Refusal};
use holdfast_model::{DerivedKind, TaskKind, TaskState};

use self::lookup::{Found, check_open, find, tasks_of};
use self::view::FileView;
use crate::app::{App, Transfer};
use crate::auth::need_caller;
use crate::download::conditions::{Validators, Verdict, evaluate};
use crate::download::{serve_safely, value};
use crate::error::ApiError;
use crate::front::Context;
use crate::secret::token_hash;
use crate::upload::base_url;
use crate::upload::incoming::gets_thumbnail;

/// Carries the token that lets its holder delete a file.
pub const DELETE_TOKEN_HEADER: &str = "holdfast-delete-token";
/// How long a deletion may take.
const DELETE_DEADLINE: Duration = Duration::from_secs(10);
/// Chunks of a thumbnail asked for along with the record: it has one.
const THUMBNAIL_CHUNKS: u32 = 1;

type FileId = Result<Path<String>, PathRejection>;

/// `GET /api/files/{file_id}`.
pub async fn describe(
    State(app): State<Arc<App>>,
    context: Context,
    id: FileId,
    headers: HeaderMap,
) -> Result<axum::Json<FileView>, ApiError> {
    let caller = need_caller(context.caller)?;
    let Path(id) = id.map_err(|_| ApiError::NoSuchFile)?;
    let found = find(&app, &id, 0, context.trace()).await?;
    // Another's file looks like none: ids are what downloads need.
    if !caller.may_see(found.record.owner) {
        return Err(ApiError::NoSuchFile);
    }
    if found.record.expired(found.now) {
        return Err(ApiError::Expired);
    }
    let base = base_url(&app, &context, &headers);
    Ok(axum::Json(FileView::new(&found.record, &base)))
}

/// `DELETE /api/files/{file_id}`, by its owner, an admin, or who holds its token.
pub async fn delete(
    State(app): State<Arc<App>>,
    context: Context,
    id: FileId,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let token = headers.get(DELETE_TOKEN_HEADER);
    if token.is_none() {
        need_caller(context.caller)?;
    }
    let Path(id) = id.map_err(|_| ApiError::NoSuchFile)?;
    let found = find(&app, &id, 0, context.trace()).await?;
    let record = &found.record;
    let owns = context
        .caller
        .is_some_and(|caller| caller.may_see(record.owner));
    let hash = token.and_then(|token| token.to_str().ok()).map(token_hash);
    let holds = hash.is_some() && hash == record.delete_token;
    match (owns || holds, token.is_some()) {
        (true, _) => {}
        (false, true) => return Err(ApiError::WrongDeleteToken),
        (false, false) => return Err(ApiError::NoSuchFile),
    }
    let command = Command::DeleteObject {
        bucket: found.address.bucket,
        key: found.address.key.clone(),
        version: Some(record.version),
        cause: DeleteCause::Wish,
    };
    let id = app.cluster.request_id();
    let group = found.address.group;
    match app
        .cluster
        .propose(group, id, command, DELETE_DEADLINE, context.trace())
        .await
    {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(ClusterError::Refused(Refusal::NoSuchObject)) => Err(ApiError::NoSuchFile),
        Err(error) => Err(error.into()),
    }
}

/// `GET /api/files/{file_id}/thumbnail`. Needs what its file needs; does not count.
pub async fn thumbnail(
    State(app): State<Arc<App>>,
    context: Context,
    id: FileId,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoSuchFile)?;
    let found = find(&app, &id, THUMBNAIL_CHUNKS, context.trace()).await?;
    let record = &found.record;
    if record.expired(found.now) {
        return Err(ApiError::Expired);
    }
    if record.downloads.is_some_and(|limit| limit.left == 0) {
        return Err(ApiError::DownloadLimitReached);
    }
    check_open(&app, &found, &headers).await?;
    let made = record
        .derived
        .iter()
        .find(|derived| derived.kind == DerivedKind::Thumbnail);
    let Some(made) = made else {
        return Err(why_no_thumbnail(&app, &found, context.trace()).await?);
    };
    let validators = Validators {
        etag: format!("\"{}\"", made.content.etag),
        modified: (record.created.0 / 1_000) as i64,
    };
    let verdict = evaluate(&headers, &validators);
    let body = match verdict {
        Verdict::Failed => return Err(ApiError::PreconditionFailed),
        Verdict::NotModified => Body::empty(),
        Verdict::Proceed if method == Method::HEAD => Body::empty(),
        Verdict::Proceed => {
            let room = app.admit(Transfer::Download(made.content.size))?;
            let pieces = read_object(
                &app.cluster,
                found.address.group,
                made.content.size,
                &made.representation,
                found.chunks.clone(),
                0..made.content.size,
                app.budget.clone(),
            );
            Body::new(crate::download::sending::Sending::of(
                made.content.size,
                pieces,
                room,
                app.env.clock.clone(),
            ))
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    serve_safely(headers, record)?;
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("inline"),
    );
    headers.insert(header::CONTENT_TYPE, value(&made.content.mime)?);
    headers.insert(header::ETAG, value(&validators.etag)?);
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    if verdict == Verdict::NotModified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(made.content.size));
    }
    Ok(response)
}

/// Whether the thumbnail is still to come, will not come, or never was to.
async fn why_no_thumbnail(
    app: &App,
    found: &Found,
    trace: Option<&str>,
) -> Result<ApiError, ApiError> {
    let record = &found.record;
    if !gets_thumbnail(&record.content.mime, record.content.size) {
        return Ok(ApiError::NoThumbnail);
    }
    let tasks = tasks_of(app, found, trace).await?;
    let task = tasks.iter().find(|task| task.kind == TaskKind::Thumbnail);
    Ok(match task {
        Some(task) if task.state == TaskState::Failed => ApiError::ThumbnailFailed(
            task.error
                .clone()
                .unwrap_or_else(|| "the worker gave no reason".into()),
        ),
        // Done since the record was read: the next request finds it.
        Some(_) => ApiError::ThumbnailNotReady,
        // Failed tasks are forgotten some time, their failure is not undone.
        None => ApiError::ThumbnailFailed("the reason is no longer kept".into()),
    })
}
