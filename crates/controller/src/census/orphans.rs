//! Fragments that nobody refers to: when they may be deleted.
//!
//! ```text
//! seen -> AdvanceGeneration -> floor_delay -> RaiseFloor -> generation below
//! the floor, and seen for orphan_grace -> a linearizable read of its row ->
//! listed once more, still below the floor -> DELETE
//! ```
//!
//! Pure; the census does what is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_metadata::protocol::FileEntry;
use holdfast_model::{DiskId, FragmentId, Generation};

/// The most candidates that are remembered for a group: some 10 MB. What is
/// beyond them is found by a later census.
const MAX_CANDIDATES: usize = 100_000;

/// What was seen without a reference in a group, and since when.
#[derive(Default)]
pub(crate) struct Orphans {
    seen: BTreeMap<(FragmentId, DiskId), Seen>,
    /// The generation that was begun for their sake, and when.
    advanced: Option<(Generation, Duration)>,
}

#[derive(Clone, Copy)]
struct Seen {
    generation: Generation,
    since: Duration,
}

/// What is to be done about the floor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FloorStep {
    Nothing,
    Advance,
    Raise(Generation),
}

impl Orphans {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Takes what a census has found; what it has not found again is
    /// forgotten, but for disks that did not answer it.
    pub fn look(
        &mut self,
        now: Duration,
        answered: &BTreeSet<DiskId>,
        found: impl IntoIterator<Item = (DiskId, FileEntry)>,
    ) {
        let before = std::mem::take(&mut self.seen);
        for (disk, file) in found {
            if self.seen.len() >= MAX_CANDIDATES {
                break;
            }
            let old = before
                .get(&(file.id, disk))
                .filter(|old| old.generation == file.generation);
            let since = old.map_or(now, |old| old.since);
            let seen = Seen {
                generation: file.generation,
                since,
            };
            self.seen.insert((file.id, disk), seen);
        }
        let unheard = before
            .into_iter()
            .filter(|((_, disk), _)| !answered.contains(disk));
        self.seen.extend(unheard);
    }

    /// What is to be done about the floor, given where it stands.
    pub fn plan_floor(&self, now: Duration, floor: Generation, delay: Duration) -> FloorStep {
        match self.advanced {
            Some((to, _)) if to <= floor => self.plan_advance(floor),
            Some((to, at)) if now.saturating_sub(at) >= delay => FloorStep::Raise(to),
            Some(_) => FloorStep::Nothing,
            None => self.plan_advance(floor),
        }
    }

    fn plan_advance(&self, floor: Generation) -> FloorStep {
        // Only for something that the floor does not cover yet.
        if self.seen.values().any(|seen| seen.generation >= floor) {
            FloorStep::Advance
        } else {
            FloorStep::Nothing
        }
    }

    /// A generation was begun.
    pub fn advanced(&mut self, current: Generation, now: Duration) {
        self.advanced = Some((current, now));
    }

    /// Those that may be deleted, if their rows still do not name them. On disks
    /// that are being emptied there is no grace: readers of a replaced version
    /// go to the other disks.
    pub fn due(
        &self,
        now: Duration,
        floor: Generation,
        grace: Duration,
        leaving: &BTreeSet<DiskId>,
    ) -> Vec<(FragmentId, DiskId)> {
        let rested = |disk: &DiskId, since: Duration| {
            leaving.contains(disk) || now.saturating_sub(since) >= grace
        };
        self.seen
            .iter()
            .filter(|((_, disk), seen)| seen.generation < floor && rested(disk, seen.since))
            .map(|(name, _)| *name)
            .collect()
    }

    /// One was deleted.
    pub fn deleted(&mut self, id: FragmentId, disk: DiskId) {
        self.seen.remove(&(id, disk));
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::{GroupId, UploadId};

    use super::*;
    use crate::scenario::disk;

    const DELAY: Duration = Duration::from_secs(3_600);
    const GRACE: Duration = Duration::from_secs(900);
    const NONE: BTreeSet<DiskId> = BTreeSet::new();

    fn file(n: u8, generation: u64) -> FileEntry {
        FileEntry {
            id: FragmentId {
                group: GroupId(1),
                upload: UploadId::from_bytes([n; 16]),
                chunk: 0,
                index: 0,
            },
            generation: Generation(generation),
            bytes: 1,
            corrupt: false,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn answered() -> BTreeSet<DiskId> {
        BTreeSet::from([disk(1)])
    }

    #[test]
    fn is_the_log_left_alone_while_there_is_nothing_to_clean_up() {
        let mut orphans = Orphans::default();
        assert_eq!(
            orphans.plan_floor(at(1), Generation(3), DELAY),
            FloorStep::Nothing
        );
        orphans.look(at(1), &answered(), [(disk(1), file(1, 2))]);
        assert_eq!(
            orphans.plan_floor(at(1), Generation(3), DELAY),
            FloorStep::Nothing
        );
    }

    #[test]
    fn is_an_orphan_deleted_only_below_a_floor_that_came_a_delay_after_its_generation() {
        let mut orphans = Orphans::default();
        let look = |orphans: &mut Orphans, now| {
            orphans.look(at(now), &answered(), [(disk(1), file(1, 5))]);
        };
        look(&mut orphans, 0);
        assert_eq!(
            orphans.plan_floor(at(0), Generation(5), DELAY),
            FloorStep::Advance
        );
        orphans.advanced(Generation(6), at(0));
        look(&mut orphans, 3_599);
        assert_eq!(
            orphans.plan_floor(at(3_599), Generation(5), DELAY),
            FloorStep::Nothing
        );
        assert_eq!(orphans.due(at(3_599), Generation(5), GRACE, &NONE), []);
        look(&mut orphans, 3_600);
        let raise = FloorStep::Raise(Generation(6));
        assert_eq!(orphans.plan_floor(at(3_600), Generation(5), DELAY), raise);
        // The group raises it as far as running uploads allow: here not at all.
        assert_eq!(orphans.plan_floor(at(3_660), Generation(5), DELAY), raise);
        assert_eq!(
            orphans.due(at(3_660), Generation(6), GRACE, &NONE),
            [(file(1, 5).id, disk(1))]
        );
        assert_eq!(
            orphans.plan_floor(at(3_660), Generation(6), DELAY),
            FloorStep::Nothing
        );
    }

    #[test]
    fn is_a_replaced_version_left_to_its_readers_for_a_while() {
        let mut orphans = Orphans::default();
        orphans.look(at(0), &answered(), [(disk(1), file(1, 1))]);
        assert_eq!(orphans.due(at(899), Generation(9), GRACE, &NONE), []);
        assert_eq!(orphans.due(at(900), Generation(9), GRACE, &NONE).len(), 1);
    }

    #[test]
    fn is_a_disk_that_is_being_emptied_not_left_to_readers() {
        let mut orphans = Orphans::default();
        let both = [(disk(1), file(1, 1)), (disk(2), file(1, 1))];
        orphans.look(at(0), &answered(), both);
        let leaving = [disk(2)].into();
        let due = orphans.due(at(1), Generation(9), GRACE, &leaving);
        assert_eq!(due, [(file(1, 1).id, disk(2))]);
        // What may yet be committed stays there as well.
        assert_eq!(orphans.due(at(1), Generation(1), GRACE, &leaving), []);
    }

    #[test]
    fn is_the_time_counted_anew_for_a_fragment_that_was_referenced_or_written_in_between() {
        let mut orphans = Orphans::default();
        orphans.look(at(0), &answered(), [(disk(1), file(1, 1))]);
        orphans.look(at(800), &answered(), []);
        orphans.look(at(850), &answered(), [(disk(1), file(1, 1))]);
        assert_eq!(orphans.due(at(950), Generation(9), GRACE, &NONE), []);
        orphans.look(at(1_800), &answered(), [(disk(1), file(1, 2))]);
        assert_eq!(orphans.due(at(1_900), Generation(9), GRACE, &NONE), []);
    }

    #[test]
    fn is_a_disk_that_misses_a_census_remembered() {
        let mut orphans = Orphans::default();
        orphans.look(at(0), &answered(), [(disk(1), file(1, 1))]);
        orphans.look(at(60), &BTreeSet::new(), []);
        assert_eq!(orphans.due(at(900), Generation(9), GRACE, &NONE).len(), 1);
    }
}
