//! What rows and disks say in sum: which ranges of a group agree, and which
//! must be walked. Pure.
//!
//! A range agrees when each disk holds exactly the fragments that the rows
//! refer to, none of them known to be corrupt, and no chunk lacks one. A walk
//! of it would find nothing but its objects and chunks, which the sums count.
//! Digests of 64 bits agree by chance once in 2^64 times, and one range in turn
//! is walked all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_metadata::protocol::RangeDigest;
use holdfast_metadata::query::{ChunkRow, RangeSums};
use holdfast_model::fragment::{CENSUS_RANGES, census_range};
use holdfast_model::{DiskId, GroupId};

/// Chunks of ranges that agree between two that do not: below it, to walk them
/// as well is cheaper than to begin anew behind them.
const BRIDGED_CHUNKS: u64 = 250;

/// What was said of a group at about one time.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Sight {
    /// By the group.
    pub sums: BTreeMap<u8, RangeSums>,
    /// By the disks that answered.
    pub disks: BTreeMap<DiskId, BTreeMap<u8, RangeDigest>>,
}

impl Sight {
    /// What the rows of a range come to.
    pub fn sums_of(&self, range: u8) -> RangeSums {
        let sums = self.sums.get(&range).cloned();
        sums.unwrap_or_else(|| RangeSums::of(range))
    }

    /// Whether a range has every fragment that it should, and no other.
    pub fn agrees(&self, range: u8) -> bool {
        let sums = self.sums_of(range);
        let held = |disk: &DiskId| self.disks.get(disk).map(|ranges| ranges.get(&range));
        let has_all = sums.disks.iter().all(|sum| {
            held(&sum.disk).flatten().is_some_and(|digest| {
                (digest.fragments, digest.names) == (sum.fragments, sum.names)
            })
        });
        let referred = |disk: &DiskId| sums.disks.iter().any(|sum| sum.disk == *disk);
        let no_more = self
            .disks
            .iter()
            .all(|(disk, ranges)| referred(disk) || !ranges.contains_key(&range));
        sums.degraded == 0 && has_all && no_more
    }

    /// Whether two sights say the same of a range.
    pub fn same(&self, other: &Self, range: u8) -> bool {
        let disks = |sight: &Self| -> Vec<(DiskId, Option<RangeDigest>)> {
            let of = |(disk, ranges): (&DiskId, &BTreeMap<u8, RangeDigest>)| {
                (*disk, ranges.get(&range).copied())
            };
            sight.disks.iter().map(of).collect()
        };
        self.sums.get(&range) == other.sums.get(&range) && disks(self) == disks(other)
    }
}

/// Ranges to be walked together: the first and the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub first: u8,
    pub last: u8,
}

impl Run {
    /// All ranges.
    pub const ALL: Self = Self {
        first: 0,
        last: u8::MAX,
    };
}

/// What a census has to walk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct WalkPlan {
    /// In order.
    pub runs: Vec<Run>,
    /// In none of the runs.
    pub skipped: Vec<u8>,
}

/// Walks what does not agree, and `checks`.
pub(crate) fn plan_walks(sight: &Sight, checks: &BTreeSet<u8>) -> WalkPlan {
    let mut plan = WalkPlan::default();
    // What agrees since the last run, and its chunks.
    let (mut gap, mut chunks) = (Vec::new(), 0);
    for range in 0..=u8::MAX {
        if sight.agrees(range) && !checks.contains(&range) {
            gap.push(range);
            chunks += sight.sums.get(&range).map_or(0, |sums| sums.chunks);
            continue;
        }
        match plan.runs.last_mut() {
            Some(run) if chunks <= BRIDGED_CHUNKS => {
                run.last = range;
                gap.clear();
            }
            _ => {
                plan.skipped.append(&mut gap);
                plan.runs.push(Run {
                    first: range,
                    last: range,
                });
            }
        }
        chunks = 0;
    }
    plan.skipped.append(&mut gap);
    plan
}

/// Which ranges to walk though they agree, `elapsed` after the last time, so
/// that each has its turn within `every`; from `next` on, and where to go on.
pub(crate) fn plan_checks(next: u8, elapsed: Duration, every: Duration) -> (BTreeSet<u8>, u8) {
    let all = CENSUS_RANGES as u128;
    let due = (all * elapsed.as_millis()).div_ceil(every.as_millis().max(1));
    let mut ranges = BTreeSet::new();
    let mut next = next;
    for _ in 0..due.clamp(1, all) {
        ranges.insert(next);
        next = next.wrapping_add(1);
    }
    (ranges, next)
}

/// Adds the fragments that rows refer to, by range.
pub(crate) fn sum_rows(sums: &mut BTreeMap<u8, RangeSums>, group: GroupId, rows: &[ChunkRow]) {
    for row in rows {
        let range = census_range(row.upload);
        let sums = sums.entry(range);
        let sums = sums.or_insert_with(|| RangeSums::of(range));
        sums.add(group, row.upload, &row.chunk);
    }
}

#[cfg(test)]
#[path = "digests_tests.rs"]
mod tests;
