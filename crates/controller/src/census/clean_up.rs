//! Deletes orphans, as [`orphans`](super::orphans) decides.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_metadata::command::{Command, Outcome};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{DiskId, FragmentId, Generation, GroupId, NodeState, UploadId};

use super::orphans::{FloorStep, Orphans};
use crate::error::WorkError;
use crate::shared::Shared;

/// How long after a new generation the floor follows while a disk is being
/// emptied, which waits for it: three times as long as an upload goes on without
/// an intent. Those with an intent hold the floor back in the group itself.
const LEAVING_FLOOR_DELAY: Duration = Duration::from_secs(90);

fn disks_that_leave(shared: &Shared) -> Result<BTreeSet<DiskId>, WorkError> {
    let state = shared.state()?;
    let nodes = state.layout.nodes.values();
    let leaving = nodes.filter(|node| node.state == NodeState::Draining);
    Ok(leaving.map(|node| node.disk).collect())
}

pub(super) async fn clean_up(
    shared: &Shared,
    group: GroupId,
    orphans: &mut Orphans,
) -> Result<(), WorkError> {
    if orphans.count() == 0 {
        return Ok(());
    }
    let (_, mut floor) = shared.generations(group).await?;
    let leaving = disks_that_leave(shared)?;
    let usual = shared.settings.floor_delay;
    let delay = match leaving.is_empty() {
        true => usual,
        false => usual.min(LEAVING_FLOOR_DELAY),
    };
    let step = orphans.plan_floor(shared.now(), floor, delay);
    let command = match step {
        FloorStep::Nothing => None,
        FloorStep::Advance => Some(Command::AdvanceGeneration),
        FloorStep::Raise(to) => Some(Command::RaiseFloor { to }),
    };
    if let Some(command) = command
        && let Outcome::Generation {
            current,
            floor: now,
        } = shared
            .propose(group, "a change of the floor", command)
            .await?
    {
        floor = now;
        if step == FloorStep::Advance {
            orphans.advanced(current, shared.now());
        }
    }
    let due = orphans.due(shared.now(), floor, shared.settings.orphan_grace, &leaving);
    for (id, disk) in due {
        if delete_orphan(shared, id, disk, floor).await? {
            orphans.deleted(id, disk);
        }
    }
    Ok(())
}

/// Deletes a fragment if, looked at once more, nobody refers to it and it is
/// still the one of an old generation. Returns whether it is gone.
async fn delete_orphan(
    shared: &Shared,
    id: FragmentId,
    disk: DiskId,
    floor: Generation,
) -> Result<bool, WorkError> {
    // A repair may be writing the same name at this moment.
    let Some(_claim) = shared.claims.claim(id.group, id.upload, id.chunk) else {
        return Ok(false);
    };
    if is_referenced(shared, id, disk).await? {
        return Ok(true);
    }
    let before = FragmentId {
        index: id.index.saturating_add(1),
        ..id
    };
    let after = just_before(&id);
    let page = match shared.files(disk, after, Some(before)).await {
        Ok(page) => page,
        Err(_) => return Ok(false),
    };
    match page.files.iter().find(|file| file.id == id) {
        None => Ok(true),
        Some(file) if file.generation >= floor => Ok(false),
        Some(_) => {
            if shared.delete(disk, &[id], Some(floor)).await.is_err() {
                return Ok(false);
            }
            tracing::info!(fragment = %id, %disk, "an orphan was deleted");
            metrics::counter!("holdfast_orphans_deleted_total").increment(1);
            Ok(true)
        }
    }
}

/// The greatest name that sorts before a fragment's; `None` for the first of all.
pub(crate) fn just_before(id: &FragmentId) -> Option<FragmentId> {
    if let Some(index) = id.index.checked_sub(1) {
        return Some(FragmentId { index, ..*id });
    }
    if let Some(chunk) = id.chunk.checked_sub(1) {
        return Some(FragmentId {
            chunk,
            index: u8::MAX,
            ..*id
        });
    }
    let number = u128::from_be_bytes(*id.upload.as_bytes());
    let (upload, group) = match number.checked_sub(1) {
        Some(number) => (UploadId::from_bytes(number.to_be_bytes()), id.group),
        None => (
            UploadId::from_bytes([u8::MAX; 16]),
            GroupId(id.group.0.checked_sub(1)?),
        ),
    };
    Some(FragmentId {
        group,
        upload,
        chunk: u32::MAX,
        index: u8::MAX,
    })
}

async fn is_referenced(shared: &Shared, id: FragmentId, disk: DiskId) -> Result<bool, WorkError> {
    let group = id.group;
    let query = Query::Chunks {
        upload: id.upload,
        from: id.chunk,
        limit: 1,
    };
    match shared.query(group, "an orphan's row", query).await? {
        Answer::Chunks(chunks) => Ok(chunks.iter().any(|chunk| {
            chunk.index == id.chunk
                && chunk
                    .fragments
                    .iter()
                    .any(|p| (p.index, p.disk) == (id.index, disk))
        })),
        _ => Err(WorkError::OtherAnswer {
            group,
            asked: "an orphan's row",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_name_before_a_fragment_the_next_smaller_one() {
        let id = |group, upload: u8, chunk, index| FragmentId {
            group: GroupId(group),
            upload: UploadId::from_bytes([upload; 16]),
            chunk,
            index,
        };
        assert_eq!(just_before(&id(1, 2, 3, 4)), Some(id(1, 2, 3, 3)));
        assert_eq!(just_before(&id(1, 2, 3, 0)), Some(id(1, 2, 2, u8::MAX)));
        let before = just_before(&id(1, 2, 0, 0)).unwrap();
        assert!(before < id(1, 2, 0, 0) && before > id(1, 1, u32::MAX, u8::MAX));
        assert_eq!(
            just_before(&id(1, 0, 0, 0)),
            Some(id(0, u8::MAX, u32::MAX, u8::MAX))
        );
        assert_eq!(just_before(&id(0, 0, 0, 0)), None);
    }
}
