//! The repair of one chunk.

use std::collections::BTreeSet;

use holdfast_client::CallError;
use holdfast_metadata::command::{Command, MissingFragment};
use holdfast_metadata::protocol::NodeError;
use holdfast_metadata::query::ChunkRow;
use holdfast_model::{DiskId, FragmentPlace, GroupId};

use crate::census::report;
use crate::chunk_plan::{ChunkPlan, Hindrance, Make, places_after, plan_chunk};
use crate::copy::{Target, Whole, read_whole, write_verified};
use crate::error::WorkError;
use crate::shared::{Shared, is_refusal};

/// What became of one chunk.
pub(super) enum Done {
    /// So many bytes were copied.
    Repaired(u64),
    Nothing,
    Hindered(Hindrance),
}

/// What is to be done for a chunk, as its row and the nodes are now.
pub(super) fn plan(
    shared: &Shared,
    row: &ChunkRow,
    readable: &BTreeSet<DiskId>,
) -> Result<Result<Option<ChunkPlan>, Hindrance>, WorkError> {
    let state = shared.state()?;
    let uses = shared.cluster.manager().uses();
    let tie = shared.env.entropy.number();
    Ok(plan_chunk(&row.chunk, &state.layout, &uses, readable, tie))
}

/// Repairs one chunk as it is now: its row may have changed since it was listed.
pub(super) async fn repair_chunk(
    shared: &Shared,
    group: GroupId,
    row: &ChunkRow,
) -> Result<Done, WorkError> {
    let Some(_claim) = shared.claims.claim(group, row.upload, row.chunk.index) else {
        return Ok(Done::Nothing);
    };
    let plan = match plan(shared, row, &shared.answering())? {
        Ok(Some(plan)) => plan,
        Ok(None) => return Ok(Done::Nothing),
        Err(hindrance) => return Ok(Done::Hindered(hindrance)),
    };
    shared
        .repair_throttle
        .take(u64::from(row.chunk.stored))
        .await;
    let whole = read_source(shared, group, row, &plan.sources).await?;
    shared.env.tasks.pass("repair.read");
    let generation =
        shared
            .cluster
            .generation(group)
            .await
            .map_err(|source| WorkError::AskGroup {
                attempted: "the generation",
                group,
                source,
            })?;
    let mut made: Vec<Make> = Vec::new();
    let mut error = None;
    for (at, make) in plan.makes.iter().enumerate() {
        if at > 0 {
            shared
                .repair_throttle
                .take(u64::from(row.chunk.stored))
                .await;
        }
        let target = Target {
            group,
            row,
            place: make.place,
            generation,
        };
        match write_verified(shared, &target, &whole).await {
            Ok(()) => {
                shared.env.tasks.pass("repair.copied");
                made.push(*make);
            }
            Err(failed) => error = Some(failed),
        }
    }
    if let (true, Some(error)) = (made.is_empty(), error) {
        return Err(error);
    }
    let now = places_after(&row.chunk.fragments, &made);
    let command = Command::ReplaceFragments {
        upload: row.upload,
        chunk: row.chunk.index,
        seen: row.chunk.fragments.clone(),
        now,
        generation,
    };
    match shared
        .propose(group, "a change of a chunk's fragments", command)
        .await
    {
        Ok(_) => {
            shared.env.tasks.pass("repair.replaced");
            Ok(Done::Repaired(
                u64::from(row.chunk.stored) * made.len() as u64,
            ))
        }
        Err(error) => {
            if is_refusal(&error) {
                // The row has changed, or the generation is an old one.
                shared.cluster.forget_generation(group);
            }
            Err(error)
        }
    }
}

/// Reads a chunk's bytes from the first source that has them, and reports
/// those that have not.
async fn read_source(
    shared: &Shared,
    group: GroupId,
    row: &ChunkRow,
    sources: &[FragmentPlace],
) -> Result<Whole, WorkError> {
    let mut error = WorkError::NoState;
    for place in sources {
        let id = place.id(group, row.upload, row.chunk.index);
        match read_whole(shared, place.disk, id, u64::from(row.chunk.stored)).await {
            Ok(whole) => return Ok(whole),
            Err(failed) => {
                if is_gone(&failed) {
                    let (upload, chunk) = (row.upload, row.chunk.index);
                    let missing = MissingFragment {
                        upload,
                        chunk,
                        place: *place,
                    };
                    report(shared, group, &[missing]).await?;
                }
                error = failed;
            }
        }
    }
    Err(error)
}

/// Whether an error says that a fragment is not there, or not any more.
pub(crate) fn is_gone(error: &WorkError) -> bool {
    matches!(
        error,
        WorkError::AskNode {
            source: CallError::Node(NodeError::NoSuchFragment | NodeError::Corrupt),
            ..
        }
    )
}
