//! Garbage: fragments that the groups have given up are deleted from their
//! disks, and the groups told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_metadata::command::{Command, GarbageId};
use holdfast_metadata::query::{Answer, GarbageRow, MAX_PAGE, Query};
use holdfast_model::{DiskId, FragmentId, GroupId, Layout, NodeState};

use crate::error::{WorkError, some_groups};
use crate::shared::Shared;
use crate::worker::{Round, Worker};

/// How often the worker asks its groups for garbage.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What to delete, and which rows depend on it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct GarbagePlan {
    /// By disk.
    pub deletes: BTreeMap<DiskId, BTreeSet<FragmentId>>,
    /// The rows that are done once these disks have deleted.
    pub rows: Vec<(GarbageId, BTreeSet<DiskId>)>,
    /// Rows kept for later, since a disk of theirs does not answer.
    pub later: usize,
}

/// What to delete of these rows. What lay on a disk that is given up is gone
/// with it; a row with a disk that does not answer stays, whole.
pub(crate) fn plan_garbage(
    group: GroupId,
    rows: &[GarbageRow],
    layout: &Layout,
    answering: &BTreeSet<DiskId>,
) -> GarbagePlan {
    let mut plan = GarbagePlan::default();
    for row in rows {
        let kept = row.places.iter().filter(|(_, disk)| {
            layout
                .node_of(*disk)
                .is_some_and(|node| node.state != NodeState::Lost)
        });
        let mut waits = BTreeSet::new();
        let mut silent = false;
        for (index, disk) in kept {
            if answering.contains(disk) {
                let (upload, chunk) = (row.id.upload, row.id.chunk);
                let id = FragmentId {
                    group,
                    upload,
                    chunk,
                    index: *index,
                };
                plan.deletes.entry(*disk).or_default().insert(id);
                waits.insert(*disk);
            } else {
                silent = true;
            }
        }
        if silent {
            plan.later += 1;
        } else {
            plan.rows.push((row.id, waits));
        }
    }
    plan
}

/// Where to go on after a page; `None` at the end.
fn next_after(page: &[GarbageRow]) -> Option<GarbageId> {
    let last = page.last().filter(|_| page.len() >= MAX_PAGE as usize)?;
    Some(last.id)
}

/// What a turn in a group has come to.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// Rows done.
    collected: u64,
    /// Rows left for later.
    later: usize,
}

/// Collects the garbage of the groups that this node leads.
pub(crate) struct Collector {
    shared: Shared,
    /// Where to go on in each group: behind what could not be done. At the end
    /// it begins again.
    after: BTreeMap<GroupId, GarbageId>,
}

impl Collector {
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            after: BTreeMap::new(),
        }
    }

    async fn collect(&mut self) -> Result<Round, WorkError> {
        let state = self.shared.state()?;
        let led = self.shared.led_groups(&state);
        self.after.retain(|group, _| led.contains(group));
        let (mut collected, mut later, mut failures) = (0, 0, Vec::new());
        for group in self.shared.those_with(&led, |totals| totals.garbage) {
            match self.collect_of(group, &state.layout).await {
                Ok(turn) => {
                    collected += turn.collected;
                    later += turn.later;
                }
                Err(error) => failures.push((group, error)),
            }
        }
        metrics::counter!("holdfast_garbage_collected_total").increment(collected);
        some_groups(failures, led.len())?;
        let note = format!("{collected} rows collected, {later} wait for silent disks");
        Ok(if collected > 0 {
            Round::More(note)
        } else {
            Round::Idle(note)
        })
    }

    /// Collects a page of a group's garbage.
    async fn collect_of(&mut self, group: GroupId, layout: &Layout) -> Result<Turn, WorkError> {
        let query = Query::Garbage {
            limit: MAX_PAGE,
            after: self.after.get(&group).copied(),
        };
        let rows = match self.shared.query(group, "the garbage", query).await? {
            Answer::Garbage(rows) => rows,
            _ => {
                return Err(WorkError::OtherAnswer {
                    group,
                    asked: "the garbage",
                });
            }
        };
        let plan = plan_garbage(group, &rows, layout, &self.shared.answering());
        // Before anything can fail: what cannot be done must not be what the
        // next turn begins with.
        match next_after(&rows) {
            Some(last) => self.after.insert(group, last),
            None => self.after.remove(&group),
        };
        Ok(Turn {
            later: plan.later,
            collected: self.delete(group, plan).await?,
        })
    }

    async fn delete(&self, group: GroupId, plan: GarbagePlan) -> Result<u64, WorkError> {
        let mut failed = BTreeSet::new();
        for (disk, ids) in plan.deletes {
            let ids: Vec<FragmentId> = ids.into_iter().collect();
            if let Err(error) = self.shared.delete(disk, &ids, None).await {
                tracing::debug!(%disk, %error, "garbage stays for later");
                failed.insert(disk);
            }
        }
        let done = plan
            .rows
            .into_iter()
            .filter(|(_, waits)| waits.is_disjoint(&failed));
        let items: Vec<GarbageId> = done.map(|(id, _)| id).collect();
        let count = items.len() as u64;
        if count > 0 {
            self.shared.env.tasks.pass("cleanup.deleted");
            let command = Command::CollectedGarbage { items };
            self.shared
                .propose(group, "a report of collected garbage", command)
                .await?;
        }
        Ok(count)
    }
}

impl Worker for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.collect())
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::{Timestamp, UploadId};

    use super::*;
    use crate::scenario::{Scenario, disk};

    fn row(n: u8, places: &[u8]) -> GarbageRow {
        let upload = UploadId::from_bytes([n; 16]);
        GarbageRow {
            id: GarbageId {
                due: Timestamp(1),
                upload,
                chunk: 0,
                serial: 0,
            },
            places: (0..)
                .zip(places)
                .map(|(index, n)| (index, disk(*n)))
                .collect(),
        }
    }

    #[test]
    fn does_a_full_page_lead_to_the_next_and_the_last_one_to_the_first() {
        let mut page: Vec<GarbageRow> = (0..MAX_PAGE).map(|n| row(n as u8, &[1])).collect();
        assert_eq!(next_after(&page), Some(page[MAX_PAGE as usize - 1].id));
        page.pop();
        assert_eq!(next_after(&page), None);
        assert_eq!(next_after(&[]), None);
    }

    #[test]
    fn is_a_row_kept_while_a_disk_that_counts_is_silent_and_its_other_fragments_deleted() {
        let scenario = Scenario::read("1 a active\n2 b active silent\n3 c lost silent");
        let rows = [
            row(1, &[1, 2]),
            row(2, &[1, 3]),
            row(3, &[3, 9]),
            row(4, &[2]),
        ];
        let plan = plan_garbage(GroupId(1), &rows, &scenario.layout, &scenario.answering);
        let of = |n: usize| plan.rows.iter().find(|(id, _)| *id == rows[n - 1].id);
        assert_eq!(plan.deletes.keys().copied().collect::<Vec<_>>(), [disk(1)]);
        assert_eq!(plan.deletes[&disk(1)].len(), 2);
        assert_eq!(plan.later, 2);
        assert!(of(1).is_none() && of(4).is_none());
        assert_eq!(of(2).unwrap().1, BTreeSet::from([disk(1)]));
        // On disks that are given up, or that the layout has forgotten, nothing is left.
        assert_eq!(of(3).unwrap().1, BTreeSet::new());
    }
}
