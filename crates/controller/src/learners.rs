//! Learners that do not catch up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_model::{DiskId, GroupId};

use crate::members::GroupSight;

/// So long after it has moved a learner counts as moving.
const MOVES_FOR: Duration = Duration::from_secs(2);
/// How long a learner may stand still before another disk is tried.
const LEARNER_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// For how long such a disk is then not tried again for that group.
const STUCK_FOR: Duration = Duration::from_secs(30 * 60);

/// How learners get on, so that one which stands still is given up.
#[derive(Default)]
pub(crate) struct Learners {
    /// By group and disk, the last entry it had and since when.
    seen: BTreeMap<(GroupId, DiskId), (u64, Duration)>,
    given_up: BTreeMap<(GroupId, DiskId), Duration>,
}

impl Learners {
    /// Takes a look at all groups.
    pub fn look(&mut self, now: Duration, groups: &BTreeMap<GroupId, GroupSight>) {
        let before = std::mem::take(&mut self.seen);
        for (group, sight) in groups {
            for learner in &sight.learners {
                let name = (*group, *learner);
                let matched = sight.matched.get(learner).copied().unwrap_or(0);
                let same = before.get(&name).filter(|(old, _)| *old == matched);
                let since = same.map_or(now, |(_, since)| *since);
                if now.saturating_sub(since) >= LEARNER_PATIENCE {
                    self.given_up.insert(name, now);
                }
                self.seen.insert(name, (matched, since));
            }
        }
        self.given_up
            .retain(|_, at| now.saturating_sub(*at) < STUCK_FOR);
    }

    /// Whether one is new, or has moved a moment ago: it will soon have caught up.
    pub fn move_at(&self, now: Duration) -> bool {
        let lately = |since: &Duration| now.saturating_sub(*since) < MOVES_FOR;
        self.seen.values().any(|(_, since)| lately(since))
    }

    /// Those that are given up for now.
    pub fn stuck(&self) -> BTreeSet<(GroupId, DiskId)> {
        self.given_up.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, disk};

    #[test]
    fn is_a_learner_stuck_only_when_it_stands_still_for_long() {
        let mut scenario = Scenario::read("1 a active\n2 b active\ngroup 1: 1* +2");
        let mut learners = Learners::default();
        let mut at = |seconds: u64, matched: u64| {
            let sight = scenario.groups.get_mut(&GroupId(1)).unwrap();
            sight.matched.insert(disk(2), matched);
            let now = Duration::from_secs(seconds);
            learners.look(now, &scenario.groups);
            learners.stuck().len()
        };
        assert_eq!([at(0, 0), at(299, 5), at(598, 5)], [0, 0, 0]);
        assert_eq!(at(599, 5), 1);
    }

    #[test]
    fn does_a_learner_move_only_for_moments_after_it_did() {
        let mut scenario = Scenario::read("1 a active\n2 b active\ngroup 1: 1* +2");
        let mut learners = Learners::default();
        let at = Duration::from_secs;
        assert!(!learners.move_at(at(100)), "there is none");
        let mut moves = |seconds: u64, matched: u64| {
            let sight = scenario.groups.get_mut(&GroupId(1)).unwrap();
            sight.matched.insert(disk(2), matched);
            learners.look(at(seconds), &scenario.groups);
            learners.move_at(at(seconds))
        };
        assert_eq!(
            [moves(100, 0), moves(101, 0), moves(102, 0)],
            [true, true, false]
        );
        assert_eq!([moves(200, 7), moves(203, 7)], [true, false]);
    }
}
