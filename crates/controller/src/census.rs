//! The census: each led group's rows compared with what the disks list.
//!
//! It counts what is there, reports what is not, and cleans up what nobody
//! refers to. An empty queue of repairs proves nothing; this does.

mod merge;
mod orphans;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_metadata::command::{Command, MissingFragment, Outcome};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{DiskId, Epoch, FragmentId, Generation, GroupId, Timestamp, UploadId};

pub(crate) use self::merge::Rows;
use self::merge::{Findings, Tally, merge_span};
use self::orphans::{FloorStep, Orphans};
use crate::error::{WorkError, some_groups};
use crate::shared::Shared;
use crate::spans::{Span, Walk};
use crate::worker::{Round, Worker};

/// How often the worker looks whether a census is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most fragments in one report.
const REPORT_AT_ONCE: usize = 1_000;

/// What was counted in one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Census {
    /// Objects, and what workers made of them, whose bytes are in fragments.
    pub objects: u64,
    /// Their chunks.
    pub chunks: u64,
    /// Objects that can be read, with fewer fragments than they should have
    /// on disks that answer.
    pub degraded: u64,
    /// Objects that cannot be read until disks that do not answer come back.
    pub unavailable: u64,
    /// Objects that cannot be read any more.
    pub lost: u64,
    /// Fragments that nobody refers to: of uploads that run or have failed, of
    /// replaced versions, of repairs that were overtaken.
    pub orphans: u64,
    /// Fragments that should be on a disk that answers, and are not, or are corrupt.
    pub missing: u64,
    /// Disks that count and did not answer.
    pub silent_disks: u64,
    /// The layout's epoch when it began.
    pub epoch: Epoch,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub time: Timestamp,
}

impl Census {
    /// Whether every object has every fragment it should have.
    pub fn clean(&self) -> bool {
        self.degraded + self.unavailable + self.lost + self.missing + self.silent_disks == 0
    }
}

/// What a count of a group comes to.
pub(crate) struct Counted {
    pub census: Census,
    reports: Vec<MissingFragment>,
    unreferenced: Vec<(DiskId, holdfast_metadata::protocol::FileEntry)>,
    answered: BTreeSet<DiskId>,
}

/// Counts a group, changing nothing. Any node can count any group.
pub(crate) async fn count_group(shared: &Shared, group: GroupId) -> Result<Counted, WorkError> {
    let state = shared.state()?;
    let began = shared.env.clock.wall();
    let counting: BTreeSet<DiskId> = state
        .layout
        .nodes
        .values()
        .filter(|node| node.keeps_data())
        .map(|node| node.disk)
        .collect();
    let mut answered: BTreeSet<DiskId> = shared
        .answering()
        .intersection(&counting)
        .copied()
        .collect();
    let uses = shared.cluster.manager().uses();
    let (mut tally, mut reports, mut unreferenced) = (Tally::default(), Vec::new(), Vec::new());
    let (mut walk, mut missing) = (Walk::new(group), 0);
    while let Some(span) = walk.next(shared, &mut answered).await? {
        let mut found = merge_span(group, &span, &state.layout, &uses, &mut tally);
        confirm_absent(shared, group, &span, &mut found).await;
        missing += (found.absent.len() + found.corrupt.len()) as u64;
        unreferenced.append(&mut found.unreferenced);
        for kind in [found.absent, found.corrupt, found.displaced] {
            reports.extend(kind);
        }
    }
    tally.close();
    let census = Census {
        objects: tally.objects,
        chunks: tally.chunks,
        degraded: tally.degraded,
        unavailable: tally.unavailable,
        lost: tally.lost,
        orphans: unreferenced.len() as u64,
        missing,
        silent_disks: counting.difference(&answered).count() as u64,
        epoch: state.layout.epoch,
        began,
        time: shared.env.clock.wall(),
    };
    Ok(Counted {
        census,
        reports,
        unreferenced,
        answered,
    })
}

/// Keeps of what is absent only what is absent from a second list as well:
/// between rows and lists a repair may have put it there.
async fn confirm_absent(shared: &Shared, group: GroupId, span: &Span, found: &mut Findings) {
    let disks: BTreeSet<DiskId> = found
        .absent
        .iter()
        .map(|missing| missing.place.disk)
        .collect();
    let mut lists: BTreeMap<DiskId, BTreeSet<FragmentId>> = BTreeMap::new();
    for disk in disks {
        if let Ok(files) = span.fetch_files(shared, disk).await {
            lists.insert(disk, files.into_iter().map(|file| file.id).collect());
        }
    }
    found.absent.retain(|missing| {
        let id = missing.place.id(group, missing.upload, missing.chunk);
        lists
            .get(&missing.place.disk)
            .is_some_and(|list| !list.contains(&id))
    });
}

/// Counts the led groups in turn, reports and cleans up.
pub(crate) struct CensusWorker {
    shared: Shared,
    /// By group, when its last census began, with the layout's epoch.
    last: BTreeMap<GroupId, (Duration, Epoch)>,
    orphans: BTreeMap<GroupId, Orphans>,
    /// A census was asked for before its time.
    kicked: Arc<AtomicBool>,
}

impl CensusWorker {
    pub fn new(shared: Shared, kicked: Arc<AtomicBool>) -> Self {
        Self {
            shared,
            last: BTreeMap::new(),
            orphans: BTreeMap::new(),
            kicked,
        }
    }

    async fn count_due(&mut self) -> Result<Round, WorkError> {
        let state = self.shared.state()?;
        let led = self.shared.led_groups(&state);
        // What another node leads by now, that node counts.
        self.shared
            .censuses()
            .retain(|group, _| led.contains(group));
        self.last.retain(|group, _| led.contains(group));
        self.orphans.retain(|group, _| led.contains(group));
        let kicked = self.kicked.swap(false, Ordering::Relaxed);
        let now = self.shared.now();
        let due = |group: &GroupId| match self.last.get(group) {
            None => true,
            Some((at, epoch)) => {
                kicked
                    || *epoch != state.layout.epoch
                    || now.saturating_sub(*at) >= self.shared.settings.census_interval
            }
        };
        let due: Vec<GroupId> = led.iter().copied().filter(due).collect();
        let (all, mut failures) = (due.len(), Vec::new());
        for group in due {
            self.last
                .insert(group, (self.shared.now(), state.layout.epoch));
            if let Err(error) = self.count_one(group).await {
                failures.push((group, error));
            }
        }
        some_groups(failures, all)?;
        Ok(Round::Idle(self.note()))
    }

    fn note(&self) -> String {
        let censuses = self.shared.censuses();
        let sum = |what: fn(&Census) -> u64| censuses.values().map(what).sum::<u64>();
        let (degraded, unavailable) = (sum(|c| c.degraded), sum(|c| c.unavailable));
        let (lost, orphans) = (sum(|c| c.lost), sum(|c| c.orphans));
        metrics::gauge!("holdfast_census_objects", "standing" => "degraded").set(degraded as f64);
        metrics::gauge!("holdfast_census_objects", "standing" => "unavailable")
            .set(unavailable as f64);
        metrics::gauge!("holdfast_census_objects", "standing" => "lost").set(lost as f64);
        metrics::gauge!("holdfast_census_orphans").set(orphans as f64);
        format!(
            "{} groups: {} objects, {degraded} degraded, {unavailable} unavailable, {lost} lost, \
             {orphans} orphans",
            censuses.len(),
            sum(|c| c.objects),
        )
    }

    async fn count_one(&mut self, group: GroupId) -> Result<(), WorkError> {
        let counted = count_group(&self.shared, group).await?;
        report(&self.shared, group, &counted.reports).await?;
        if !counted.reports.is_empty() {
            self.shared.kick_repair.notify_one();
        }
        self.shared.censuses().insert(group, counted.census);
        let now = self.shared.now();
        let orphans = self.orphans.entry(group).or_default();
        orphans.look(now, &counted.answered, counted.unreferenced);
        clean_up(&self.shared, group, orphans).await
    }
}

impl Worker for CensusWorker {
    fn name(&self) -> &'static str {
        "census"
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.count_due())
    }
}

/// Tells a group which fragments are not where it thinks they are.
pub(crate) async fn report(
    shared: &Shared,
    group: GroupId,
    fragments: &[MissingFragment],
) -> Result<(), WorkError> {
    for fragments in fragments.chunks(REPORT_AT_ONCE) {
        let fragments = fragments.to_vec();
        let count = fragments.len();
        shared
            .propose(
                group,
                "a report of what is missing",
                Command::ReportMissing { fragments },
            )
            .await?;
        tracing::info!(%group, count, "fragments are missing");
        metrics::counter!("holdfast_fragments_missing_total").increment(count as u64);
    }
    Ok(())
}

async fn clean_up(shared: &Shared, group: GroupId, orphans: &mut Orphans) -> Result<(), WorkError> {
    if orphans.count() == 0 {
        return Ok(());
    }
    let (_, mut floor) = shared.generations(group).await?;
    let step = orphans.plan_floor(shared.now(), floor, shared.settings.floor_delay);
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
    let due = orphans.due(shared.now(), floor, shared.settings.orphan_grace);
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
