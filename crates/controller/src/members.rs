//! Which disks carry which metadata groups: one member of one group at a time.
//!
//! ```text
//! member to go -> AddLearner(new) -> new has caught up -> [Transfer, when the
//! leader is to go] -> Swap(new, old) -> SetLayout(groups)
//! ```
//!
//! Pure: what the leaders say of their groups goes in, the next step comes
//! out. It is computed from what is there and from nothing remembered, so that
//! whoever leads group 0 next goes on where the last one stopped. Members are
//! never changed for beauty: only one that is gone, leaving or down, one that
//! is lacking, or two in one zone, are worth a move.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_model::{DiskId, GroupId, Layout, LayoutNode, NodeState};

/// How far a learner may be behind when it is given its vote: well below what
/// its leader accepts.
pub(crate) const CAUGHT_UP_ENTRIES: u64 = 500;

/// A group as its leader sees it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct GroupSight {
    /// Who leads it; without a leader nothing can be changed.
    pub leader: Option<DiskId>,
    /// Members with a vote.
    pub voters: Vec<DiskId>,
    /// Members without.
    pub learners: Vec<DiskId>,
    /// Members whose numbers are no disk's of the layout.
    pub strangers: usize,
    /// The last entry that each is known to have.
    pub matched: BTreeMap<DiskId, u64>,
    /// The last entry that is decided.
    pub committed: u64,
}

/// What the planner looks at.
pub(crate) struct MembersCase<'a> {
    pub layout: &'a Layout,
    /// Disks whose nodes answer.
    pub answering: &'a BTreeSet<DiskId>,
    /// Of those, the ones that are not shutting down.
    pub welcoming: &'a BTreeSet<DiskId>,
    pub groups: &'a BTreeMap<GroupId, GroupSight>,
    /// Learners that have not moved for too long.
    pub stuck: &'a BTreeSet<(GroupId, DiskId)>,
}

/// The next step.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum MemberOrder {
    /// Write down who carries the groups.
    SetLayout(Box<Layout>),
    AddLearner {
        group: GroupId,
        disk: DiskId,
    },
    Swap {
        group: GroupId,
        add: DiskId,
        remove: Option<DiskId>,
    },
    Remove {
        group: GroupId,
        disk: DiskId,
    },
    Transfer {
        group: GroupId,
        to: DiskId,
    },
}

/// The next step, if there is one, and what is in the way.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct MembersPlan {
    pub order: Option<MemberOrder>,
    pub notes: Vec<String>,
}

/// Why a group needs another member, the most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    Gone,
    Leaving,
    Down,
    Lacking,
    SameZone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Need {
    fault: Fault,
    remove: Option<DiskId>,
}

/// The next step towards every group having as many members as it should, in
/// different zones, on nodes that stay.
pub(crate) fn plan_members(case: &MembersCase<'_>) -> MembersPlan {
    let mut plan = MembersPlan::default();
    if let Some(layout) = write_down(case) {
        plan.order = Some(MemberOrder::SetLayout(Box::new(layout)));
        return plan;
    }
    for (group, sight) in case.groups {
        if sight.leader.is_none() {
            plan.notes.push(format!("group {group} has no leader"));
        } else if let Some(extra) = case.surplus(sight) {
            match case.part_with(*group, sight, extra) {
                Some(order) => plan.order = Some(order),
                None => plan
                    .notes
                    .push(format!("group {group} cannot part with its leader")),
            }
            return plan;
        } else if let Some(learner) = sight.learners.first() {
            // What was begun is ended first, and meanwhile nothing else begins.
            match case.finish(*group, sight, *learner) {
                Ok(order) => plan.order = Some(order),
                Err(note) => plan.notes.push(note),
            }
            return plan;
        }
    }
    let mut needs: Vec<_> = case
        .groups
        .iter()
        .filter(|(_, sight)| sight.leader.is_some())
        .filter_map(|(group, sight)| Some((case.need(sight)?, *group, sight)))
        .collect();
    needs.sort_by_key(|(need, group, _)| (need.fault, *group));
    for (need, group, sight) in needs {
        match case.candidate(group, sight, need) {
            Some(disk) => {
                plan.order = Some(MemberOrder::AddLearner { group, disk });
                return plan;
            }
            None if need.fault == Fault::SameZone => {}
            None => plan.notes.push(format!(
                "group {group} needs another member ({:?}) and no node is there for it",
                need.fault
            )),
        }
    }
    plan
}

/// The layout with the members that the groups really have, where it differs.
fn write_down(case: &MembersCase<'_>) -> Option<Layout> {
    let mut next = case.layout.clone();
    for (group, sight) in case.groups {
        if sight.leader.is_none() || sight.strangers > 0 || sight.voters.is_empty() {
            continue;
        }
        if sight.voters.len() > usize::from(case.layout.metadata_replicas) {
            // No layout may say so; who is too many goes first.
            continue;
        }
        let Some(members) = next.groups.get_mut(group) else {
            continue;
        };
        let mut new = sight
            .voters
            .iter()
            .filter(|disk| !members.contains(disk))
            .copied();
        // A newcomer takes the place of who went, so that the rest stays put.
        let mut now: Vec<DiskId> = members
            .iter()
            .filter_map(|disk| {
                if sight.voters.contains(disk) {
                    Some(*disk)
                } else {
                    new.next()
                }
            })
            .collect();
        now.extend(new);
        *members = now;
    }
    (next != *case.layout).then_some(next)
}

impl MembersCase<'_> {
    fn node(&self, disk: DiskId) -> Option<&LayoutNode> {
        self.layout.node_of(disk)
    }

    fn fault(&self, disk: DiskId) -> Option<Fault> {
        match self.node(disk).map(|node| node.state) {
            None | Some(NodeState::Lost | NodeState::Drained) => Some(Fault::Gone),
            Some(NodeState::Draining) => Some(Fault::Leaving),
            Some(NodeState::Down) => Some(Fault::Down),
            Some(NodeState::Active | NodeState::Unplaced) => None,
        }
    }

    fn usable(&self, disk: DiskId) -> bool {
        self.node(disk).is_some_and(LayoutNode::takes_data) && self.welcoming.contains(&disk)
    }

    /// A member beyond the number that is wanted, as a change that was planned
    /// twice leaves it: one that is gone or leaving, rather not the leader.
    fn surplus(&self, sight: &GroupSight) -> Option<DiskId> {
        let wanted = usize::from(self.layout.metadata_replicas);
        let extra = sight.voters.len() > wanted;
        let last = |disk: &&DiskId| {
            let leads = Some(**disk) == sight.leader;
            let silent = !self.answering.contains(disk);
            (
                self.fault(**disk).unwrap_or(Fault::SameZone),
                leads,
                !silent,
                **disk,
            )
        };
        let worst = sight.voters.iter().min_by_key(last).copied();
        worst.filter(|_| extra)
    }

    /// Takes a member away that needs no successor.
    fn part_with(&self, group: GroupId, sight: &GroupSight, disk: DiskId) -> Option<MemberOrder> {
        if Some(disk) != sight.leader {
            return Some(MemberOrder::Remove { group, disk });
        }
        let to = self.heir(sight, Some(disk))?;
        Some(MemberOrder::Transfer { group, to })
    }

    /// Ends what was begun with a learner; `Err` says what is waited for.
    fn finish(
        &self,
        group: GroupId,
        sight: &GroupSight,
        learner: DiskId,
    ) -> Result<MemberOrder, String> {
        let need = self.need(sight);
        let stuck = self.stuck.contains(&(group, learner));
        let (Some(need), true, false) = (need, self.usable(learner), stuck) else {
            return Ok(MemberOrder::Remove {
                group,
                disk: learner,
            });
        };
        let matched = sight.matched.get(&learner).copied().unwrap_or(0);
        if matched == 0 || matched + CAUGHT_UP_ENTRIES < sight.committed {
            return Err(format!(
                "group {group}: disk {learner} has {matched} of {} entries",
                sight.committed
            ));
        }
        if need.remove.is_some() && need.remove == sight.leader {
            return match self.heir(sight, need.remove) {
                Some(to) => Ok(MemberOrder::Transfer { group, to }),
                None => Err(format!(
                    "group {group}: its leader is to go and nobody can follow"
                )),
            };
        }
        Ok(MemberOrder::Swap {
            group,
            add: learner,
            remove: need.remove,
        })
    }

    /// Who should lead instead: a member that stays and answers, the furthest.
    fn heir(&self, sight: &GroupSight, leader: Option<DiskId>) -> Option<DiskId> {
        let reached = |disk: &DiskId| sight.matched.get(disk).copied().unwrap_or(0);
        sight
            .voters
            .iter()
            .filter(|disk| Some(**disk) != leader && self.welcoming.contains(disk))
            .max_by_key(|disk| (self.fault(**disk).is_none(), reached(disk), **disk))
            .copied()
    }

    fn need(&self, sight: &GroupSight) -> Option<Need> {
        let worst = sight
            .voters
            .iter()
            .filter_map(|disk| Some((self.fault(*disk)?, Some(*disk) == sight.leader, *disk)))
            .min();
        if let Some((fault, _, disk)) = worst {
            return Some(Need {
                fault,
                remove: Some(disk),
            });
        }
        let wanted = usize::from(self.layout.metadata_replicas);
        if sight.voters.len() < wanted {
            // An even number of members bears no more losses than one less:
            // begun only when the odd number can be reached.
            let even = sight.voters.len().is_multiple_of(2);
            let free = self
                .layout
                .nodes
                .values()
                .filter(|node| self.usable(node.disk) && !sight.voters.contains(&node.disk));
            let reach = sight.voters.len() + free.count();
            return (even || reach >= sight.voters.len() + 2).then_some(Need {
                fault: Fault::Lacking,
                remove: None,
            });
        }
        self.double(sight).map(|disk| Need {
            fault: Fault::SameZone,
            remove: Some(disk),
        })
    }

    /// One of two members in one zone, rather not the leader; none while
    /// anybody is silent, since every move costs some safety.
    fn double(&self, sight: &GroupSight) -> Option<DiskId> {
        if !sight
            .voters
            .iter()
            .all(|disk| self.answering.contains(disk))
        {
            return None;
        }
        let zone = |disk: DiskId| self.node(disk).and_then(|node| node.zone.as_ref());
        let double = |disk: &&DiskId| {
            sight
                .voters
                .iter()
                .filter(|other| zone(**other) == zone(**disk))
                .count()
                > 1
        };
        let mut doubles: Vec<DiskId> = sight.voters.iter().filter(double).copied().collect();
        doubles.sort_by_key(|disk| (Some(*disk) == sight.leader, *disk));
        doubles.first().copied()
    }

    /// The best disk for a new member: in a zone and on a machine without one,
    /// then the one that carries the fewest groups.
    fn candidate(&self, group: GroupId, sight: &GroupSight, need: Need) -> Option<DiskId> {
        let staying = sight
            .voters
            .iter()
            .filter(|disk| Some(**disk) != need.remove);
        let staying: Vec<&LayoutNode> = staying.filter_map(|disk| self.node(*disk)).collect();
        let zone_used = |node: &LayoutNode| staying.iter().any(|other| other.zone == node.zone);
        let host_used = |node: &LayoutNode| {
            node.host.is_some() && staying.iter().any(|other| other.host == node.host)
        };
        let carried = |disk: DiskId| {
            self.layout
                .groups
                .values()
                .filter(|disks| disks.contains(&disk))
                .count()
        };
        self.layout
            .nodes
            .values()
            .filter(|node| self.usable(node.disk) && !sight.voters.contains(&node.disk))
            .filter(|node| !self.stuck.contains(&(group, node.disk)))
            .filter(|node| need.fault != Fault::SameZone || !zone_used(node))
            .min_by_key(|node| {
                (
                    zone_used(node),
                    host_used(node),
                    carried(node.disk),
                    node.disk,
                )
            })
            .map(|node| node.disk)
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
