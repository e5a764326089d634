//! The cluster's own work, where group 0 is led: look, plan, do one step.
//!
//! Every step carries the epoch of the layout that it was computed from, and
//! is refused when there is a newer one; then the next look sees that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_client::{CallError, Health};
use holdfast_metadata::command::{ClusterCommand, Command};
use holdfast_metadata::protocol::{
    GroupStatus, MemberStep, MembersRequest, NodeError, TransferRequest,
};
use holdfast_model::{ClusterState, DiskId, GroupId, Layout, NodeId};

use crate::drain::{count_remains, emptied_of_groups, nowhere_to_go, plan_drained};
use crate::error::WorkError;
use crate::leaders::{PROVED, is_prompt, plan_leader_move};
use crate::learners::Learners;
use crate::members::{GroupSight, MemberOrder, MembersCase, plan_members};
use crate::nodes::{Sights, plan_node_states};
use crate::shared::{Shared, is_refusal};
use crate::worker::{Round, Worker};

/// How often the cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two moves of a leader: one is felt, many are an outage.
const LEADER_MOVE_EVERY: Duration = Duration::from_secs(5);
/// How often a disk that drains is counted: it takes a read of all rows.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// What is seen of the cluster.
struct Seen {
    state: Arc<ClusterState>,
    answering: BTreeSet<DiskId>,
    welcoming: BTreeSet<DiskId>,
    prompt: BTreeSet<DiskId>,
    groups: BTreeMap<GroupId, GroupSight>,
}

/// Watches the nodes, moves members and leaders, ends drains.
pub(crate) struct ClusterWork {
    shared: Shared,
    sights: Sights,
    /// Who answers in time.
    prompt: Sights,
    moved_leader: Option<Duration>,
    learners: Learners,
    counted: BTreeMap<NodeId, (Duration, String)>,
}

impl ClusterWork {
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            sights: Sights::default(),
            prompt: Sights::default(),
            moved_leader: None,
            learners: Learners::default(),
            counted: BTreeMap::new(),
        }
    }

    async fn step(&mut self) -> Result<Round, WorkError> {
        if !(self.shared.leads)(GroupId::CLUSTER) {
            self.sights = Sights::default();
            self.prompt = Sights::default();
            self.counted.clear();
            return Ok(Round::Idle("group 0 is led elsewhere".into()));
        }
        let seen = self.observe()?;
        let layout = &seen.state.layout;
        let now = self.shared.now();
        let mut notes = self.silence_notes(now, layout);
        if let Some((next, why)) =
            plan_node_states(layout, &self.sights, now, &self.shared.settings)
        {
            return self.set_layout(layout, next, why).await;
        }
        let plan = plan_members(&MembersCase {
            layout,
            answering: &seen.answering,
            welcoming: &seen.welcoming,
            groups: &seen.groups,
            stuck: &self.learners.stuck(),
        });
        notes.extend(plan.notes);
        if let Some(order) = plan.order {
            return self.apply(&seen, order).await;
        }
        if let Some(round) = self.drain(&seen, &mut notes).await? {
            return Ok(round);
        }
        let rested = self
            .moved_leader
            .is_none_or(|at| now.saturating_sub(at) >= LEADER_MOVE_EVERY);
        if rested
            && let Some(step) =
                plan_leader_move(layout, &seen.welcoming, &seen.prompt, &seen.groups)
        {
            self.moved_leader = Some(now);
            let order = MemberOrder::Transfer {
                group: step.group,
                to: step.to,
            };
            return self.apply(&seen, order).await;
        }
        if notes.is_empty() {
            notes.push("all is as it should be".into());
        }
        let notes = notes.join("; ");
        Ok(match self.learners.move_at(now) {
            true => self.begun(notes),
            false => Round::Idle(notes),
        })
    }

    /// Something goes on whose effect is looked for at once.
    fn begun(&self, said: String) -> Round {
        self.shared.cluster.kick();
        Round::Begun(said)
    }

    fn observe(&mut self) -> Result<Seen, WorkError> {
        let state = self.shared.state()?;
        let now = self.shared.now();
        let nodes = self.shared.cluster.nodes();
        self.sights.look(
            now,
            nodes
                .iter()
                .map(|view| (view.node.id, view.health == Health::Up)),
        );
        if self.shared.excuses_silence(&state) {
            self.sights.excuse(now);
        }
        self.prompt.look(
            now,
            nodes.iter().map(|view| (view.node.id, is_prompt(view))),
        );
        let proved = |id| self.prompt.answering_for(now, id) >= Some(PROVED);
        let prompt = nodes.iter().filter(|view| proved(view.node.id));
        let prompt = prompt.map(|view| view.node.disk).collect();
        let up = nodes.iter().filter(|view| view.health == Health::Up);
        let answering = up.clone().map(|view| view.node.disk).collect();
        let welcoming = up
            .filter(|view| view.status.as_ref().is_some_and(|status| !status.draining))
            .map(|view| view.node.disk)
            .collect();
        let views = self.shared.cluster.leaders();
        let groups: BTreeMap<GroupId, GroupSight> = state
            .layout
            .groups
            .keys()
            .map(|group| {
                let status = views.get(group).filter(|view| view.leader.is_some());
                let status = status.and_then(|view| view.status.as_ref());
                (
                    *group,
                    status.map_or_else(GroupSight::default, |s| sight(&state.layout, s)),
                )
            })
            .collect();
        self.learners.look(now, &groups);
        Ok(Seen {
            state,
            answering,
            welcoming,
            prompt,
            groups,
        })
    }

    fn silence_notes(&self, now: Duration, layout: &Layout) -> Vec<String> {
        layout
            .nodes
            .values()
            .filter_map(|node| {
                let silent = self.sights.silent_for(now, node.id)?;
                Some(format!(
                    "node {} ({:?}) has been silent for {silent:?}",
                    node.id, node.state
                ))
            })
            .collect()
    }

    async fn set_layout(
        &self,
        seen: &Layout,
        layout: Layout,
        why: String,
    ) -> Result<Round, WorkError> {
        tracing::info!(epoch = %seen.epoch, %why, "the layout changes");
        let change = ClusterCommand::SetLayout {
            seen: seen.epoch,
            layout,
        };
        let command = Command::Cluster(Box::new(change));
        let result = self
            .shared
            .propose(GroupId::CLUSTER, "a new layout", command)
            .await;
        match result {
            Ok(_) => {
                self.shared.env.tasks.pass("layout.set");
                Ok(self.begun(why))
            }
            Err(error) if is_refusal(&error) => {
                Ok(self.begun(format!("{why}: overtaken: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    async fn apply(&mut self, seen: &Seen, order: MemberOrder) -> Result<Round, WorkError> {
        let epoch = seen.state.layout.epoch;
        let (group, step) = match order {
            MemberOrder::SetLayout(next) => {
                let why = "the members of groups are written down".into();
                return self.set_layout(&seen.state.layout, *next, why).await;
            }
            MemberOrder::Transfer { group, to } => return self.transfer(seen, group, to).await,
            MemberOrder::AddLearner { group, disk } => (group, MemberStep::AddLearner(disk)),
            MemberOrder::Swap { group, add, remove } => (group, MemberStep::Swap { add, remove }),
            MemberOrder::Remove { group, disk } => (group, MemberStep::Remove(disk)),
        };
        let Some((leader, node)) = self.leader(seen, group)? else {
            return Ok(Round::Idle(format!("group {group} has no leader")));
        };
        let said = format!("group {group}: {step:?}");
        tracing::info!(%group, ?step, "members change");
        let point = match step {
            MemberStep::AddLearner(_) => "layout.learner_added",
            MemberStep::Swap { .. } => "layout.swapped",
            MemberStep::Remove(_) => "layout.removed",
        };
        let sight = seen.groups.get(&group).filter(|sight| sight.strangers == 0);
        let voters = sight.map(|sight| {
            let mut voters: Vec<u64> = sight.voters.iter().map(|disk| disk.raft_id()).collect();
            voters.sort_unstable();
            voters
        });
        let request = MembersRequest {
            group,
            epoch,
            step,
            voters,
        };
        let result = node.members(&request).await;
        self.shared.env.tasks.pass(point);
        self.settle(said, "a change of members", leader, result)
    }

    async fn transfer(&self, seen: &Seen, group: GroupId, to: DiskId) -> Result<Round, WorkError> {
        let Some((leader, node)) = self.leader(seen, group)? else {
            return Ok(Round::Idle(format!("group {group} has no leader")));
        };
        tracing::info!(%group, from = %leader, %to, "leadership moves");
        let result = node
            .transfer(&TransferRequest {
                group,
                to: Some(to),
            })
            .await;
        self.settle(
            format!("group {group}: led by {to}"),
            "a transfer",
            leader,
            result,
        )
    }

    fn leader(
        &self,
        seen: &Seen,
        group: GroupId,
    ) -> Result<Option<(DiskId, holdfast_client::StorageNodeClient)>, WorkError> {
        let leader = seen.groups.get(&group).and_then(|sight| sight.leader);
        leader
            .map(|disk| Ok((disk, self.shared.node(disk)?)))
            .transpose()
    }

    /// What a step has come to. That a leader is busy or no longer leads is no
    /// failure: the next look tells what is to be done.
    fn settle(
        &self,
        said: String,
        attempted: &'static str,
        disk: DiskId,
        result: Result<(), CallError>,
    ) -> Result<Round, WorkError> {
        match result {
            Ok(()) => Ok(self.begun(said)),
            Err(CallError::Node(
                error @ (NodeError::Busy { .. } | NodeError::NotLeader { .. }),
            )) => Ok(self.begun(format!("{said}: {error}"))),
            Err(source) => Err(WorkError::AskNode {
                attempted,
                disk,
                source,
            }),
        }
    }

    /// Sets what is empty to drained, one node at a time.
    async fn drain(
        &mut self,
        seen: &Seen,
        notes: &mut Vec<String>,
    ) -> Result<Option<Round>, WorkError> {
        let layout = &seen.state.layout;
        self.counted.retain(|id, _| layout.nodes.contains_key(id));
        for node in emptied_of_groups(layout, &seen.groups) {
            let now = self.shared.now();
            if let Some((at, note)) = self.counted.get(&node.id)
                && now.saturating_sub(*at) < COUNT_EVERY
            {
                notes.push(note.clone());
                continue;
            }
            // Nothing comes to what has been counted.
            let counted = match self.shared.seal(node.disk, layout.epoch).await {
                Ok(()) => count_remains(&self.shared, node.disk).await,
                Err(error) => Err(error),
            };
            let note = match counted {
                Ok(remains) => match plan_drained(layout, node, remains) {
                    Ok(next) => {
                        let why = format!("node {} is empty", node.id);
                        return self.set_layout(layout, next, why).await.map(Some);
                    }
                    Err(note) => nowhere_to_go(layout, node).unwrap_or(note),
                },
                Err(error) => format!("node {} could not be counted: {error}", node.id),
            };
            notes.push(note.clone());
            self.counted.insert(node.id, (now, note));
        }
        Ok(None)
    }
}

impl Worker for ClusterWork {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.step())
    }
}

/// A group as its leader's status tells it, by disks.
fn sight(layout: &Layout, status: &GroupStatus) -> GroupSight {
    let disk = |number: &u64| {
        let mut disks = layout.nodes.values().map(|node| node.disk);
        disks.find(|disk| disk.raft_id() == *number)
    };
    let voters: Vec<DiskId> = status.voters.iter().filter_map(disk).collect();
    GroupSight {
        leader: status.leader,
        strangers: status.voters.len() - voters.len(),
        voters,
        learners: status.learners.iter().filter_map(disk).collect(),
        matched: status
            .matched
            .iter()
            .filter_map(|(n, at)| Some((disk(n)?, *at)))
            .collect(),
        committed: status.committed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, disk};

    #[test]
    fn are_members_told_by_number_and_strangers_counted() {
        let layout = Scenario::read("1 a active\n2 b active").layout;
        let status = GroupStatus {
            group: GroupId(1),
            leader: Some(disk(1)),
            term: 3,
            applied: 9,
            committed: 9,
            voters: vec![disk(1).raft_id(), disk(2).raft_id(), 77],
            learners: vec![],
            matched: BTreeMap::from([(disk(2).raft_id(), 8)]),
            totals: holdfast_metadata::query::Totals::default(),
            tasks_due: 0,
            active: true,
        };
        let sight = sight(&layout, &status);
        assert_eq!((sight.voters, sight.strangers), (vec![disk(1), disk(2)], 1));
        assert_eq!(sight.matched, BTreeMap::from([(disk(2), 8)]));
    }
}
