//! `GET /api/stats`: what the groups say that they hold, and what their leaders
//! have counted on the disks.
//!
//! Whether objects have all their copies is told by the census alone: an empty
//! queue of repairs proves nothing, and where there is no room for another copy
//! nothing is ever queued. A group that cannot be asked, or that has not been
//! counted in the present layout, is named, and makes the whole incomplete;
//! nothing is guessed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::future::{join, join_all};
use holdfast_client::Health;
use holdfast_client::census::{Redundancy, sum_up};
use holdfast_metadata::protocol::{DiskStatus, GroupCensus};
use holdfast_metadata::query::{Answer, Query, Totals};
use holdfast_model::{Epoch, GroupId};
use serde::Serialize;

use crate::app::App;
use crate::auth::need_caller;
use crate::error::ApiError;
use crate::files::lookup::QUERY_DEADLINE;
use crate::files::view::rfc3339;
use crate::front::Context;

/// All that is told.
#[derive(Serialize)]
pub struct StatsJson {
    objects: u64,
    bytes: u64,
    redundancy: RedundancyJson,
    repair: RepairJson,
    tasks: TasksJson,
    uploads: u64,
    tickets: u64,
    garbage: u64,
    capacity_bytes: u64,
    free_bytes: u64,
    nodes: usize,
    nodes_up: usize,
    groups: Vec<GroupJson>,
}

/// The census: objects, by how their fragments are on disks that answer.
#[derive(Serialize)]
struct RedundancyJson {
    /// Counted: those with fragments. Smaller ones lie in their group's records.
    objects: u64,
    /// What the groups say of these objects' chunks.
    chunks: u64,
    degraded: u64,
    unavailable: u64,
    lost: u64,
    missing_fragments: u64,
    silent_disks: u64,
    /// Whether every group has answered and was counted in this layout.
    complete: bool,
    /// Those that were not counted.
    uncounted_groups: Vec<GroupId>,
    /// When the group was counted that was counted the longest ago.
    as_of: Option<String>,
    epoch: Epoch,
}

/// What is known to be copied again, in chunks: the queue, which says nothing
/// of what nobody has noticed or has room for.
#[derive(Serialize)]
struct RepairJson {
    /// Chunks that the groups know to lack a fragment.
    degraded_chunks: u64,
    /// Chunks of which the groups know too few fragments.
    lost_chunks: u64,
    /// Chunks that repair and drain have still to copy.
    chunks_to_copy: u64,
}

#[derive(Serialize)]
struct TasksJson {
    pending: u64,
    running: u64,
    failed: u64,
    done: u64,
}

/// A group's part.
#[derive(Serialize)]
struct GroupJson {
    group: GroupId,
    has_leader: bool,
    /// Null when nobody could be asked: not zero. Its `degraded` and `lost` are
    /// chunks.
    totals: Option<Totals>,
    /// Null when nobody says to have counted it, in this layout or another.
    census: Option<CensusJson>,
}

/// A group's last census.
#[derive(Serialize)]
struct CensusJson {
    objects: u64,
    degraded: u64,
    unavailable: u64,
    lost: u64,
    missing_fragments: u64,
    silent_disks: u64,
    as_of: String,
    epoch: Epoch,
}

impl CensusJson {
    fn new(census: &GroupCensus) -> Self {
        Self {
            objects: census.objects,
            degraded: census.degraded,
            unavailable: census.unavailable,
            lost: census.lost,
            missing_fragments: census.missing,
            silent_disks: census.silent_disks,
            as_of: rfc3339(census.time),
            epoch: census.epoch,
        }
    }
}

/// `GET /api/stats`.
pub async fn stats(
    State(app): State<Arc<App>>,
    context: Context,
) -> Result<Json<StatsJson>, ApiError> {
    need_caller(context.caller)?;
    let state = app.state()?;
    let _room = app.admit_fan_out()?;
    let groups = state.layout.data_groups();
    let asking = fetch_totals(&app, &groups, context.trace());
    let (mut groups, counted) = join(asking, app.cluster.counted()).await;
    for group in &mut groups {
        group.census = counted.groups.get(&group.group).map(CensusJson::new);
    }
    // The layout that is known by now: counts of it may have come.
    let layout = &app.state()?.layout;
    let redundancy = sum_up(&counted.groups, layout);
    Ok(Json(build_stats(
        &app,
        groups,
        redundancy,
        counted.chunks_to_copy,
    )))
}

async fn fetch_totals(app: &Arc<App>, groups: &[GroupId], trace: Option<&str>) -> Vec<GroupJson> {
    let leaders = app.cluster.leaders();
    let asked = groups.iter().map(|group| {
        let view = leaders.get(group);
        let has_leader = view.is_some_and(|view| view.leader.is_some());
        async move {
            // Who has no leader is not waited for: the answer is known.
            let answer = match has_leader {
                true => app
                    .cluster
                    .query(*group, Query::Totals, QUERY_DEADLINE, trace)
                    .await
                    .ok(),
                false => None,
            };
            let totals = match answer {
                Some(Answer::Totals(totals)) => Some(totals),
                _ => None,
            };
            GroupJson {
                group: *group,
                has_leader,
                totals,
                census: None,
            }
        }
    });
    join_all(asked).await
}

fn build_stats(
    app: &App,
    groups: Vec<GroupJson>,
    redundancy: Redundancy,
    chunks_to_copy: u64,
) -> StatsJson {
    let all_answer = groups.iter().all(|group| group.totals.is_some());
    let sum = |field: fn(&Totals) -> u64| -> u64 {
        let totals = groups.iter().filter_map(|group| group.totals.as_ref());
        totals.map(field).sum()
    };
    let nodes = app.cluster.nodes();
    let space = |field: fn(&DiskStatus) -> u64| -> u64 {
        let statuses = nodes.iter().filter_map(|node| node.status.as_ref());
        statuses.map(|status| field(&status.space)).sum()
    };
    let up = nodes.iter().filter(|node| node.health == Health::Up);
    let counts = redundancy.counts;
    StatsJson {
        objects: sum(|t| t.objects),
        bytes: sum(|t| t.bytes),
        redundancy: RedundancyJson {
            objects: counts.objects,
            chunks: sum(|t| t.chunks),
            degraded: counts.degraded,
            unavailable: counts.unavailable,
            lost: counts.lost,
            missing_fragments: counts.missing,
            silent_disks: counts.silent_disks,
            complete: all_answer && redundancy.uncounted.is_empty(),
            uncounted_groups: redundancy.uncounted,
            as_of: redundancy.oldest.map(rfc3339),
            epoch: redundancy.epoch,
        },
        repair: RepairJson {
            degraded_chunks: sum(|t| t.degraded),
            lost_chunks: sum(|t| t.lost),
            chunks_to_copy,
        },
        tasks: TasksJson {
            pending: sum(|t| t.tasks_pending),
            running: sum(|t| t.tasks_running),
            failed: sum(|t| t.tasks_failed),
            done: sum(|t| t.tasks_done),
        },
        uploads: sum(|t| t.uploads),
        tickets: sum(|t| t.tickets),
        garbage: sum(|t| t.garbage),
        capacity_bytes: space(|s| s.capacity),
        free_bytes: space(|s| s.free),
        nodes: nodes.len(),
        nodes_up: up.count(),
        groups,
    }
}
