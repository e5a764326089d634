//! Lists of files: newest first over all groups. A page is whole or refused;
//! it is no snapshot across pages.

use std::sync::Arc;

use axum::extract::{Query as UrlQuery, State, rejection::QueryRejection};
use axum::http::HeaderMap;
use holdfast_client::cluster::ListNewest;
use holdfast_model::Role;
use serde::{Deserialize, Serialize};

use super::cursor;
use super::lookup::QUERY_DEADLINE;
use super::view::FileView;
use crate::app::App;
use crate::auth::need_caller;
use crate::error::ApiError;
use crate::front::Context;
use crate::upload::base_url;

/// Files of a page unless the client says otherwise.
const DEFAULT_LIMIT: u32 = 50;
/// The most: half a MiB of JSON.
const MAX_LIMIT: u32 = 1_000;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page.
#[derive(Serialize)]
pub struct Page {
    files: Vec<FileView>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// `GET /api/files`.
pub async fn list(
    State(app): State<Arc<App>>,
    context: Context,
    asked: Result<UrlQuery<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<axum::Json<Page>, ApiError> {
    let caller = need_caller(context.caller)?;
    let UrlQuery(asked) = asked.map_err(|error| ApiError::BadParameter(error.body_text()))?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::BadParameter(format!(
            "limit is a number from 1 to {MAX_LIMIT}"
        )));
    }
    let after = asked.cursor.as_deref().map(cursor::read).transpose()?;
    let _room = app.admit_fan_out()?;
    let bucket = app.files_bucket()?;
    let owner = (caller.role != Role::Admin).then_some(caller.id);
    let asked = ListNewest {
        bucket,
        owner,
        after,
        limit,
    };
    let page = app
        .cluster
        .list_newest(&asked, QUERY_DEADLINE, context.trace())
        .await?;
    let base = base_url(&app, &context, &headers);
    Ok(axum::Json(Page {
        files: page
            .records
            .iter()
            .map(|record| FileView::new(record, &base))
            .collect(),
        next_cursor: page.next.as_ref().map(cursor::write),
    }))
}
