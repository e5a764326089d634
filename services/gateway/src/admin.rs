//! Administration, for the command line and the operator: access keys, the
//! states of nodes, an overview, a backup. Admin keys only.

pub mod backup;
pub mod release;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use holdfast_client::ClusterError;
use holdfast_metadata::command::{ClusterCommand, Command, Outcome, Refusal};
use holdfast_model::{AccessKey, AccessKeyId, GroupId, NodeId, NodeState, Role};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::need_admin;
use crate::cluster_views::nodes_of;
use crate::error::ApiError;
use crate::files::view::rfc3339;
use crate::front::Context;
use crate::secret::token_hash;

/// How long a change of the cluster's state may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Random bytes of a token.
const TOKEN_BYTES: usize = 24;
/// What tokens begin with, so that they are found where they should not be.
const TOKEN_PREFIX: &str = "hfk_";
/// The longest name of a key, in bytes.
const MAX_NAME_BYTES: usize = 100;
/// The most access keys: the whole list travels with the cluster's state.
const MAX_ACCESS_KEYS: usize = 1_000;

/// A key to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    name: String,
    #[serde(default = "user")]
    role: Role,
}

fn user() -> Role {
    Role::User
}

/// A key as it is shown; its token only once.
#[derive(Serialize)]
pub struct KeyJson {
    id: AccessKeyId,
    name: String,
    role: Role,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl KeyJson {
    fn new(key: &AccessKey, token: Option<String>) -> Self {
        Self {
            id: key.id,
            name: key.name.clone(),
            role: key.role,
            created_at: rfc3339(key.created),
            token,
        }
    }
}

/// `POST /api/admin/keys`.
pub async fn make_key(
    State(app): State<Arc<App>>,
    context: Context,
    wanted: Result<Json<NewKey>, JsonRejection>,
) -> Result<(StatusCode, Json<KeyJson>), ApiError> {
    need_admin(context.caller)?;
    let Json(wanted) = wanted.map_err(|error| ApiError::BadJson(error.body_text()))?;
    let name = wanted.name.trim();
    let bounded = (1..=MAX_NAME_BYTES).contains(&name.len());
    if !bounded || name.chars().any(char::is_control) {
        return Err(ApiError::BadParameter(format!(
            "name has 1 to {MAX_NAME_BYTES} bytes and no control characters"
        )));
    }
    if app.state()?.access_keys.len() >= MAX_ACCESS_KEYS {
        return Err(ApiError::Conflict(format!(
            "there are {MAX_ACCESS_KEYS} access keys already: revoke one"
        )));
    }
    let mut secret = [0; TOKEN_BYTES];
    app.env.entropy.fill(&mut secret);
    let token = format!("{TOKEN_PREFIX}{}", hex::encode(secret));
    let key = AccessKey {
        id: AccessKeyId::from_bytes(app.env.entropy.id()),
        token_sha256: token_hash(&token),
        role: wanted.role,
        name: name.to_owned(),
        created: app.env.clock.wall(),
    };
    let shown = KeyJson::new(&key, Some(token));
    change(&app, &context, ClusterCommand::PutAccessKey(key)).await?;
    Ok((StatusCode::CREATED, Json(shown)))
}

/// `GET /api/admin/keys`.
pub async fn list_keys(
    State(app): State<Arc<App>>,
    context: Context,
) -> Result<Json<serde_json::Value>, ApiError> {
    need_admin(context.caller)?;
    let state = app.state()?;
    let keys: Vec<KeyJson> = state
        .access_keys
        .iter()
        .map(|key| KeyJson::new(key, None))
        .collect();
    Ok(Json(serde_json::json!({ "keys": keys })))
}

/// `DELETE /api/admin/keys/{id}`.
pub async fn revoke_key(
    State(app): State<Arc<App>>,
    context: Context,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    need_admin(context.caller)?;
    let id: AccessKeyId = id
        .ok()
        .and_then(|Path(id)| id.parse().ok())
        .ok_or(ApiError::NoSuchAccessKey)?;
    // Not looked up here first: the key may be newer than what we know.
    match change(&app, &context, ClusterCommand::RevokeAccessKey(id)).await {
        Err(ApiError::Cluster(ClusterError::Refused(Refusal::NoSuchObject))) => {
            Err(ApiError::NoSuchAccessKey)
        }
        other => other.map(|_| StatusCode::NO_CONTENT),
    }
}

/// `POST /api/admin/nodes/{id}/{action}`.
pub async fn set_node_state(
    State(app): State<Arc<App>>,
    context: Context,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    need_admin(context.caller)?;
    let Path((node, action)) = path.map_err(|_| ApiError::NoSuchNode)?;
    let state = match action.as_str() {
        "drain" => NodeState::Draining,
        "lost" => NodeState::Lost,
        "activate" => NodeState::Active,
        _ => return Err(ApiError::NoSuchRoute),
    };
    let node: NodeId = node.parse().map_err(|_| ApiError::NoSuchNode)?;
    if !app.state()?.layout.nodes.contains_key(&node) {
        return Err(ApiError::NoSuchNode);
    }
    change(&app, &context, ClusterCommand::SetNodeState { node, state }).await?;
    Ok(Json(serde_json::json!({ "id": node, "state": state })))
}

/// `GET /api/admin/status`.
pub async fn status(
    State(app): State<Arc<App>>,
    context: Context,
) -> Result<Json<serde_json::Value>, ApiError> {
    need_admin(context.caller)?;
    let state = app.state()?;
    let groups: Vec<_> = app
        .cluster
        .leaders()
        .into_iter()
        .map(|(group, view)| {
            serde_json::json!({
                "group": group,
                "leader": view.leader,
                "members": state.layout.groups.get(&group),
                "totals": view.totals,
                "tasks_due": view.tasks_due,
            })
        })
        .collect();
    let permit = state.permit.as_ref().map(|permit| {
        serde_json::json!({
            "epoch": permit.epoch,
            "node": permit.node,
            "reason": permit.reason,
            "granted_at": rfc3339(permit.granted),
        })
    });
    Ok(Json(serde_json::json!({
        "cluster": state.cluster,
        "revision": state.revision,
        "epoch": state.layout.epoch,
        "redundancy": state.layout.redundancy,
        "metadata_replicas": state.layout.metadata_replicas,
        "state_age_millis": app.cluster.freshness().as_millis() as u64,
        "permit": permit,
        "release": state.active.release.to_string(),
        "formats": state.active.to_string(),
        "nodes": nodes_of(&app),
        "groups": groups,
    })))
}

async fn change(
    app: &App,
    context: &Context,
    command: ClusterCommand,
) -> Result<Outcome, ApiError> {
    let id = app.cluster.request_id();
    let command = Command::Cluster(Box::new(command));
    let outcome = app
        .cluster
        .propose(GroupId::CLUSTER, id, command, DEADLINE, context.trace())
        .await
        .map_err(|error| match error {
            // Here the reason is for people: "the last admin", "no such node".
            ClusterError::Refused(Refusal::Invalid(why) | Refusal::Held(why)) => {
                ApiError::Conflict(why)
            }
            other => other.into(),
        })?;
    // Who made a key uses it at once. The change is made whatever comes of this:
    // without it the view learns of it within seconds.
    if let Err(error) = app.cluster.refresh().await {
        tracing::debug!(%error, "a change is made, and not yet in this gateway's view");
    }
    Ok(outcome)
}
