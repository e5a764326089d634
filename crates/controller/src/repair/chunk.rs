//! The repair of one chunk.

use std::collections::BTreeSet;

use holdfast_client::CallError;
use holdfast_metadata::command::{Command, MissingFragment};
use holdfast_metadata::protocol::NodeError;
use holdfast_metadata::query::ChunkRow;
use holdfast_model::{DiskId, FragmentPlace, GroupId};

use crate::census::report;
use crate::chunk_plan::{ChunkPlan, Hindrance, Make, is_on_its_last, places_after, plan_chunk};
use crate::copy::{Target, Whole, read_carried, read_whole, write_verified};
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
    let readable = shared.answering();
    let plan = match plan(shared, row, &readable)? {
        Ok(Some(plan)) => plan,
        Ok(None) => return Ok(Done::Nothing),
        Err(hindrance) => return Ok(Done::Hindered(hindrance)),
    };
    let urgent = is_on_its_last(&row.chunk, &readable);
    let bytes = u64::from(row.chunk.stored);
    shared.repair_pace.take(bytes, urgent).await;
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
            // The first copy has made it less urgent.
            let urgent = urgent && made.is_empty();
            shared.repair_pace.take(bytes, urgent).await;
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
            Ok(Done::Repaired(bytes * made.len() as u64))
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
    for (at, place) in sources.iter().enumerate() {
        let id = place.id(group, row.upload, row.chunk.index);
        match read_whole(shared, place.disk, id, u64::from(row.chunk.stored)).await {
            Ok(mut whole) => {
                if !whole.tells_all() {
                    let others = sources.get(at + 1..).unwrap_or_default();
                    learn_carried(shared, group, row, others, &mut whole).await;
                }
                return Ok(whole);
            }
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

/// Asks the other sources what a fragment carries whose own node does not tell,
/// or which is a copy that was made without it.
async fn learn_carried(
    shared: &Shared,
    group: GroupId,
    row: &ChunkRow,
    others: &[FragmentPlace],
    whole: &mut Whole,
) {
    for place in others {
        let id = place.id(group, row.upload, row.chunk.index);
        // One that does not answer is as one that does not tell.
        if let Ok(Some(carried)) = read_carried(shared, place.disk, id).await {
            whole.carried = Some(carried);
            return;
        }
    }
    metrics::counter!("holdfast_repair_bare_copies_total").increment(1);
    tracing::warn!(%group, upload = %row.upload, chunk = row.chunk.index,
        "no source tells what the fragment carries: its copy will not name version, key and expiry");
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
