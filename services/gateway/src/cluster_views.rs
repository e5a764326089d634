//! The cluster as the API shows it: nodes, totals with the redundancy census
//! ([`stats`]), tasks.

mod stats;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as UrlQuery, State, rejection::QueryRejection};
use futures_util::future::try_join_all;
use holdfast_client::Health;
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{GroupId, NodeState, Task, TaskState};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::{need_admin, need_caller};
use crate::error::ApiError;
use crate::files::lookup::QUERY_DEADLINE;
use crate::files::view::rfc3339;
use crate::front::Context;

pub use stats::stats;

/// Tasks shown unless the client says otherwise.
const DEFAULT_TASKS: u32 = 50;
/// The most.
const MAX_TASKS: u32 = 500;

/// A storage node.
#[derive(Serialize)]
pub struct NodeJson {
    id: String,
    address: String,
    zone: Option<String>,
    host: Option<String>,
    state: NodeState,
    health: &'static str,
    /// It answers, and calls of its disk do not return: it leads nothing.
    disk_hangs: bool,
    last_seen: Option<String>,
    capacity_bytes: u64,
    used_bytes: u64,
    free_bytes: u64,
    fragments: u64,
    corrupt_fragments: u64,
    full: bool,
    release: String,
}

/// Every node of the layout, as this gateway sees it.
pub fn nodes_of(app: &App) -> Vec<NodeJson> {
    let nodes = app.cluster.nodes().into_iter();
    nodes
        .map(|view| {
            // What it runs now, or else what it ran when it last joined.
            let now = view.status.as_ref().map(|status| status.supports);
            let release = now.unwrap_or(view.node.supports).release;
            let disk_hangs = view.status.as_ref().is_some_and(|status| status.disk_hangs);
            let space = view.status.map(|status| status.space).unwrap_or_default();
            NodeJson {
                id: view.node.id.to_string(),
                address: view.node.address,
                zone: view.node.zone,
                host: view.node.host,
                state: view.node.state,
                health: match view.health {
                    Health::Up => "up",
                    Health::Suspect => "suspect",
                    Health::Unreachable => "unreachable",
                },
                disk_hangs,
                last_seen: view.last_seen.map(rfc3339),
                capacity_bytes: space.capacity,
                used_bytes: space.fragment_bytes,
                free_bytes: space.free,
                fragments: space.fragments,
                corrupt_fragments: space.corrupt,
                full: space.full,
                release: release.to_string(),
            }
        })
        .collect()
}

/// `GET /api/nodes`.
pub async fn nodes(
    State(app): State<Arc<App>>,
    context: Context,
) -> Result<Json<serde_json::Value>, ApiError> {
    need_caller(context.caller)?;
    let state = app.state()?;
    Ok(Json(serde_json::json!({
        "epoch": state.layout.epoch,
        "release": state.active.release.to_string(),
        "nodes": nodes_of(&app),
    })))
}

/// What is asked of the tasks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedTasks {
    status: Option<TaskState>,
    limit: Option<u32>,
}

/// `GET /api/tasks`. For admins: tasks name the files of all.
pub async fn tasks(
    State(app): State<Arc<App>>,
    context: Context,
    asked: Result<UrlQuery<AskedTasks>, QueryRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    need_admin(context.caller)?;
    let UrlQuery(asked) = asked.map_err(|_| {
        ApiError::BadParameter(
            "status is one of pending, running, done and failed; limit is a number".into(),
        )
    })?;
    let limit = asked.limit.unwrap_or(DEFAULT_TASKS);
    if !(1..=MAX_TASKS).contains(&limit) {
        return Err(ApiError::BadParameter(format!(
            "limit is a number from 1 to {MAX_TASKS}"
        )));
    }
    let _room = app.admit_fan_out()?;
    let query = Query::Tasks {
        state: asked.status,
        limit,
    };
    let groups = app.state()?.layout.data_groups();
    let answers = try_join_all(groups.into_iter().map(|group| {
        let asked = app
            .cluster
            .query(group, query.clone(), QUERY_DEADLINE, context.trace());
        async move { asked.await.map(|answer| (group, answer)) }
    }))
    .await?;
    let mut tasks: Vec<(GroupId, Task)> = Vec::new();
    for (group, answer) in answers {
        let Answer::Tasks(of_group) = answer else {
            return Err(ApiError::Internal(
                "a list of tasks answers something else".into(),
            ));
        };
        tasks.extend(of_group.into_iter().map(|task| (group, task)));
    }
    tasks.sort_by(|(_, a), (_, b)| b.created.cmp(&a.created).then(a.id.cmp(&b.id)));
    tasks.truncate(limit as usize);
    let shown: Vec<_> = tasks
        .iter()
        .map(|(group, task)| task_json(*group, task))
        .collect();
    Ok(Json(serde_json::json!({ "tasks": shown })))
}

fn task_json(group: GroupId, task: &Task) -> serde_json::Value {
    serde_json::json!({
        "task_id": task.id,
        "group": group,
        "kind": task.kind,
        "status": task.state,
        "file_id": task.key,
        "attempts": task.attempts,
        "error": task.error,
        "worker": task.worker,
        "due_at": rfc3339(task.due),
        "created_at": rfc3339(task.created),
        "updated_at": rfc3339(task.updated),
    })
}
