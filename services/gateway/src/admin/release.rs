//! Lets the cluster write the formats of its next release.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use holdfast_client::ClusterError;
use holdfast_metadata::command::Refusal;
use holdfast_model::Release;
use serde::Deserialize;

use super::DEADLINE;
use crate::app::App;
use crate::auth::need_admin;
use crate::error::ApiError;
use crate::front::Context;

/// What is to be finalised.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    to: String,
}

/// `POST /api/admin/finalize`.
pub async fn finalize(
    State(app): State<Arc<App>>,
    context: Context,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    need_admin(context.caller)?;
    let Json(wanted) = wanted.map_err(|error| ApiError::BadJson(error.body_text()))?;
    let to: Release = wanted.to.parse().map_err(bad_release)?;
    let id = app.cluster.request_id();
    let active = app.cluster.finalize(to, id, DEADLINE).await;
    let active = active.map_err(|error| match error {
        // For people: which node is of an older release, or what comes first.
        ClusterError::Refused(Refusal::Invalid(why) | Refusal::Held(why)) => {
            ApiError::Conflict(why)
        }
        other => other.into(),
    })?;
    Ok(Json(serde_json::json!({
        "release": active.release.to_string(),
        "formats": active.to_string(),
    })))
}

fn bad_release(error: holdfast_model::release::ParseReleaseError) -> ApiError {
    ApiError::BadParameter(format!("to: {error}"))
}
