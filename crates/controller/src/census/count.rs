//! Counting one group: what agrees by its digests is counted from the sums, the
//! rest is walked.
//!
//! Some ranges in turn are walked though they agree, and their rows are summed
//! up anew. A difference that stays while nothing changes is an error of ours:
//! it is logged, counted, and what the walk found is what counts.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use holdfast_metadata::command::MissingFragment;
use holdfast_metadata::protocol::FileEntry;
use holdfast_metadata::query::{Answer, Query, RangeSums};
use holdfast_model::fragment::census_range;
use holdfast_model::{DiskId, FragmentId, GroupId, Layout};

use super::Census;
use super::digests::{Run, Sight, plan_walks, sum_rows};
use super::merge::{Findings, Tally, merge_span};
use crate::error::WorkError;
use crate::shared::Shared;
use crate::spans::{Span, Walk};

/// How often a range is walked again before a difference counts as an error:
/// what changes and changes back meanwhile looks the same.
const WALKS_BEFORE_ERROR: usize = 3;

/// What a count of a group comes to.
pub(crate) struct Counted {
    pub census: Census,
    pub reports: Vec<MissingFragment>,
    pub unreferenced: Vec<(DiskId, FileEntry)>,
    pub answered: BTreeSet<DiskId>,
}

/// What walks have found.
#[derive(Default)]
struct Walked {
    tally: Tally,
    /// What the rows refer to, by range.
    sums: BTreeMap<u8, RangeSums>,
    missing: u64,
    reports: Vec<MissingFragment>,
    unreferenced: Vec<(DiskId, FileEntry)>,
}

impl Walked {
    /// The ranges in which something was found that sums and digests rule out.
    fn differences(&self, sight: &Sight, run: Run) -> Vec<u8> {
        let reported = self.reports.iter().map(|one| census_range(one.upload));
        let loose = self.unreferenced.iter().map(|one| one.1.id.census_range());
        let faults: BTreeSet<u8> = reported.chain(loose).collect();
        let differs = |range: &u8| {
            let kept = sight.sums_of(*range);
            let counts = self.tally.ranges.get(range).copied().unwrap_or_default();
            let none = Vec::new();
            let disks = self.sums.get(range).map_or(&none, |sums| &sums.disks);
            let same =
                (kept.objects, kept.chunks, &kept.disks) == (counts.objects, counts.chunks, disks);
            let whole =
                counts.degraded + counts.unavailable + counts.lost == 0 && !faults.contains(range);
            !same || (sight.agrees(*range) && !whole)
        };
        (run.first..=run.last).filter(differs).collect()
    }
}

/// A group being counted.
struct Count<'s> {
    shared: &'s Shared,
    group: GroupId,
    layout: &'s Layout,
    /// The disks that have answered so far.
    answered: BTreeSet<DiskId>,
}

/// Counts a group, changing nothing; `checks` are walked in any case. Any node
/// can count any group.
pub(crate) async fn count_group(
    shared: &Shared,
    group: GroupId,
    checks: &BTreeSet<u8>,
) -> Result<Counted, WorkError> {
    let state = shared.state()?;
    let began = shared.env.clock.wall();
    let nodes = state.layout.nodes.values();
    let counting: BTreeSet<DiskId> = nodes
        .filter(|node| node.keeps_data())
        .map(|node| node.disk)
        .collect();
    let answering = shared.answering();
    let mut count = Count {
        shared,
        group,
        layout: &state.layout,
        answered: answering.intersection(&counting).copied().collect(),
    };
    let sight = count.look().await?;
    let plan = plan_walks(&sight, checks);
    let (mut all, mut suspects) = (Walked::default(), Vec::new());
    let mut walked = 0;
    for run in &plan.runs {
        walked += u64::from(run.last - run.first) + 1;
        count.walk(*run, &mut all).await?;
        suspects.extend(all.differences(&sight, *run));
    }
    let mut counts = all.tally.total();
    for range in &plan.skipped {
        let sums = sight.sums_of(*range);
        counts.objects += sums.objects;
        counts.chunks += sums.chunks;
    }
    let wrong = count.look_again(sight, suspects).await?;
    let silent = counting.difference(&count.answered).count();
    let census = Census {
        objects: counts.objects,
        chunks: counts.chunks,
        degraded: counts.degraded,
        unavailable: counts.unavailable,
        lost: counts.lost,
        orphans: all.unreferenced.len() as u64,
        missing: all.missing,
        silent_disks: silent as u64,
        walked,
        wrong,
        epoch: state.layout.epoch,
        began,
        time: shared.env.clock.wall(),
    };
    Ok(Counted {
        census,
        reports: all.reports,
        unreferenced: all.unreferenced,
        answered: count.answered,
    })
}

impl Count<'_> {
    /// Asks the group, then the disks.
    async fn look(&mut self) -> Result<Sight, WorkError> {
        let (shared, group) = (self.shared, self.group);
        let answer = shared.query(group, "its sums", Query::Census).await?;
        let Answer::Census(sums) = answer else {
            let asked = "its sums";
            return Err(WorkError::OtherAnswer { group, asked });
        };
        let asked = self.answered.iter();
        let asked = asked.map(|disk| async move { (*disk, shared.digests(*disk, group).await) });
        let mut disks = BTreeMap::new();
        for (disk, answer) in join_all(asked).await {
            match answer {
                Ok(digests) => {
                    let ranges = digests.ranges.into_iter();
                    disks.insert(disk, ranges.map(|digest| (digest.range, digest)).collect());
                }
                Err(error) => {
                    tracing::debug!(%disk, %error, "a disk does not sum up its fragments");
                }
            }
        }
        self.answered.retain(|disk| disks.contains_key(disk));
        let sums = sums.into_iter().map(|sums| (sums.range, sums)).collect();
        Ok(Sight { sums, disks })
    }

    /// Walks some ranges and adds what is found.
    async fn walk(&mut self, run: Run, walked: &mut Walked) -> Result<(), WorkError> {
        let (shared, group) = (self.shared, self.group);
        let uses = shared.cluster.manager().uses();
        let mut walk = Walk::over(group, run);
        while let Some(span) = walk.next(shared, &mut self.answered).await? {
            let tally = &mut walked.tally;
            let mut found = merge_span(group, &span, self.layout, &uses, tally);
            confirm_absent(shared, group, &span, &mut found).await;
            sum_rows(&mut walked.sums, group, &span.rows);
            walked.missing += (found.absent.len() + found.corrupt.len()) as u64;
            walked.unreferenced.append(&mut found.unreferenced);
            for kind in [found.absent, found.corrupt, found.displaced] {
                walked.reports.extend(kind);
            }
        }
        walked.tally.close();
        Ok(())
    }

    /// How many of the ranges differ from their sums for good, and not because
    /// something changed while they were walked.
    async fn look_again(&mut self, first: Sight, suspects: Vec<u8>) -> Result<u64, WorkError> {
        let (mut before, mut suspects) = (first, suspects);
        for walks in 1.. {
            if suspects.is_empty() {
                return Ok(0);
            }
            let after = self.look().await?;
            suspects.retain(|range| before.same(&after, *range));
            if walks == WALKS_BEFORE_ERROR {
                break;
            }
            let mut still = Vec::new();
            for range in suspects {
                let run = Run {
                    first: range,
                    last: range,
                };
                let mut walked = Walked::default();
                self.walk(run, &mut walked).await?;
                still.extend(walked.differences(&after, run));
            }
            (before, suspects) = (after, still);
        }
        for range in &suspects {
            tracing::error!(group = %self.group, range, kept = ?before.sums_of(*range),
                "the sums of a range are not those of its rows and disks");
        }
        let wrong = suspects.len() as u64;
        metrics::counter!("holdfast_census_wrong_ranges_total").increment(wrong);
        Ok(wrong)
    }
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
