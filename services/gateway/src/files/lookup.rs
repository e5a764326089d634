//! Finding a file, and whether its password was shown.

use std::time::Duration;

use axum::http::HeaderMap;
use holdfast_client::ObjectPlace;
use holdfast_metadata::query::{Answer, Query, UploadChunks};
use holdfast_model::{ObjectRecord, Task, Timestamp};

use crate::app::App;
use crate::error::ApiError;
use crate::upload::parameters::password_header;

/// How long a group may take to answer: a leader that stands still again and
/// again notices within five seconds, and another one is to be found after it.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(10);

/// A file that was found. It may have expired: who asks refuses that.
pub struct Found {
    /// Where it lies.
    pub address: ObjectPlace,
    /// Its record.
    pub record: ObjectRecord,
    /// Its first chunks.
    pub chunks: Vec<UploadChunks>,
    /// Its group's time.
    pub now: Timestamp,
}

/// Finds a file.
pub async fn find(
    app: &App,
    id: &str,
    chunks: u32,
    trace: Option<&str>,
) -> Result<Found, ApiError> {
    let address = app.locate(id)?;
    let found = app
        .cluster
        .look_up(&address, chunks, QUERY_DEADLINE, trace)
        .await?;
    Ok(Found {
        record: *found.record.ok_or(ApiError::NoSuchFile)?,
        chunks: found.chunks,
        now: found.now,
        address,
    })
}

/// What workers were asked to do with a file, and have not done so long ago
/// that it is forgotten.
pub async fn tasks_of(
    app: &App,
    found: &Found,
    trace: Option<&str>,
) -> Result<Vec<Task>, ApiError> {
    let query = Query::TasksOf {
        version: found.record.version,
    };
    let group = found.address.group;
    match app
        .cluster
        .query(group, query, QUERY_DEADLINE, trace)
        .await?
    {
        Answer::Tasks(tasks) => Ok(tasks),
        _ => Err(ApiError::Internal(
            "a question for tasks answers something else".into(),
        )),
    }
}

/// Checks the password of a file that has one.
pub async fn check_open(app: &App, found: &Found, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(stored) = &found.record.password else {
        return Ok(());
    };
    let shown = password_header(headers)?.ok_or(ApiError::PasswordNeeded)?;
    app.passwords
        .verify(found.address.key.as_str(), stored, &shown)
        .await
}
