//! From a group to the node that leads it.
//!
//! An attempt goes to who is thought to lead; who does not says who does, or
//! the group's other members are tried in turn, until the deadline. A command
//! keeps its request id on every attempt, so that doing it twice is the group's
//! to prevent; once any attempt may have been accepted, a failure is
//! [`ClusterError::OutcomeUnknown`] and never "not done".
//!
//! When fewer than a majority of a group's members answer polls, and none of
//! them leads it, waiting is useless: the call fails at once. A leader that has
//! just said that it has no quorum does not lead.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_metadata::command::{Command, Outcome, Refusal};
use holdfast_metadata::protocol::{NodeError, ProposeRequest, QueryRequest};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{DiskId, GroupId, RequestId};
use holdfast_runtime::TransportError;
use holdfast_runtime::clock::within;

use super::Cluster;
use crate::error::{CallError, ClusterError};
use crate::manager::Health;
use crate::node::StorageNodeClient;

/// How long one attempt may take, so that a silent leader costs one attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// The first pause between attempts; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause: well below an election.
const LAST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause that a busy leader can ask for.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How many hints are followed without a pause: two members that point at each
/// other must not make a tight loop.
const HINTS_IN_A_ROW: u32 = 3;
/// A member that has not answered since so long before the last round of polls
/// began does not count towards a quorum: with a round that takes a second,
/// clients hear of a lost quorum within two.
const SILENT: Duration = Duration::from_millis(500);
/// How often a waiting attempt looks whether the group still can answer.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Cluster {
    /// Has a group do a command, and waits until it is done or refused.
    /// Attempts are repeated with the same id until `deadline` has passed.
    ///
    /// # Errors
    /// [`ClusterError::OutcomeUnknown`] when it may have been done;
    /// after any other error it has not been.
    pub async fn propose(
        &self,
        group: GroupId,
        id: RequestId,
        command: Command,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<Outcome, ClusterError> {
        let request = ProposeRequest { group, id, command };
        let request = &request;
        let outcome = self
            .route(group, deadline, true, |node, limit| async move {
                node.propose(request, limit, trace).await
            })
            .await?;
        match outcome {
            Outcome::Refused(Refusal::OutcomeUnknown) => {
                Err(ClusterError::OutcomeUnknown { group })
            }
            Outcome::Refused(refusal) => {
                if refusal == Refusal::WrongGroup {
                    self.kick();
                }
                Err(refusal.into())
            }
            outcome => Ok(outcome),
        }
    }

    /// Asks a group, as its leader knows it after having confirmed that it leads.
    ///
    /// # Errors
    /// When no leader has answered until `deadline` has passed.
    pub async fn query(
        &self,
        group: GroupId,
        query: Query,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<Answer, ClusterError> {
        let request = QueryRequest { group, query };
        let request = &request;
        self.route(group, deadline, false, |node, limit| async move {
            node.query(request, limit, trace).await
        })
        .await
    }

    async fn route<T, F>(
        &self,
        group: GroupId,
        deadline: Duration,
        changes: bool,
        attempt: impl Fn(StorageNodeClient, Duration) -> F,
    ) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let end = self.now().saturating_add(deadline);
        let mut route = Route::new(group, changes);
        loop {
            let left = end.saturating_sub(self.now());
            let led = !route.leader_is_alone;
            if left.is_zero() || self.has_no_quorum_but(group, led) {
                return Err(route.give_up(self.state().is_some()));
            }
            let next = route.next_target(self);
            let Some((disk, node)) = next else {
                self.kick();
                self.pause(route.pause(self), left).await;
                continue;
            };
            let limit = left.min(ATTEMPT_LIMIT);
            let answer = tokio::select! {
                biased;
                answer = within(&*self.env().clock, limit, attempt(node, limit)) => {
                    answer.unwrap_or(Err(TransportError::Deadline { limit }.into()))
                }
                () = self.lost_quorum(group) => Err(TransportError::Deadline { limit }.into()),
            };
            match answer {
                Ok(answer) => {
                    self.view().leaders.insert(group, disk);
                    return Ok(answer);
                }
                Err(error) => {
                    tracing::debug!(%group, %disk, %error, "an attempt failed");
                    if let Some(pause) = route.after(self, disk, error)? {
                        self.pause(pause, left).await;
                    }
                }
            }
        }
    }

    async fn pause(&self, pause: Duration, left: Duration) {
        self.env().clock.sleep(pause.min(left)).await;
    }

    async fn lost_quorum(&self, group: GroupId) {
        while !self.has_no_quorum(group) {
            self.env().clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Whether it is certain enough that the group cannot decide anything now:
    /// judged by the last round of polls and from its beginning, so that neither
    /// a stall of this process nor one node that answers late blames the others.
    pub(crate) fn has_no_quorum(&self, group: GroupId) -> bool {
        self.has_no_quorum_but(group, true)
    }

    /// Whether too few members answer to decide anything, whatever one of them
    /// still believes of its leadership.
    pub(crate) fn lacks_majority(&self, group: GroupId) -> bool {
        self.has_no_quorum_but(group, false)
    }

    /// The same; whether a member counts that says it leads.
    fn has_no_quorum_but(&self, group: GroupId, leaders_count: bool) -> bool {
        let Some(state) = self.state() else {
            return false;
        };
        let Some(members) = state.layout.groups.get(&group) else {
            return false;
        };
        let (polled, since) = {
            let view = self.view();
            (view.polled, view.state_since)
        };
        if since.is_none_or(|since| polled.saturating_sub(since) < SILENT) {
            return false;
        }
        let statuses = self.manager().statuses(polled, SILENT);
        let answering = members
            .iter()
            .filter(|member| statuses.iter().any(|status| status.disk == **member))
            .count();
        let led = statuses.iter().any(|status| {
            status
                .groups
                .iter()
                .any(|g| g.group == group && g.active && g.leader == Some(status.disk))
        });
        answering < members.len() / 2 + 1 && !(led && leaders_count)
    }
}

/// Where a call has been, and where it goes next.
struct Route {
    group: GroupId,
    /// Whether the call changes the group when it is accepted.
    changes: bool,
    /// Whether an attempt may have been accepted.
    unknown: bool,
    /// Whether who was thought to lead has said that it cannot.
    leader_is_alone: bool,
    /// Where a member has pointed to.
    hint: Option<DiskId>,
    hints_in_a_row: u32,
    /// Members to be tried; filled again when it is empty.
    members: VecDeque<DiskId>,
    begun: bool,
    pause: Duration,
    busy: Option<Duration>,
}

impl Route {
    fn new(group: GroupId, changes: bool) -> Self {
        Self {
            group,
            changes,
            unknown: false,
            leader_is_alone: false,
            hint: None,
            hints_in_a_row: 0,
            members: VecDeque::new(),
            begun: false,
            pause: FIRST_PAUSE,
            busy: None,
        }
    }

    fn next_target(&mut self, cluster: &Cluster) -> Option<(DiskId, StorageNodeClient)> {
        if !self.begun {
            self.begun = true;
            let remembered = cluster.view().leaders.get(&self.group).copied();
            self.hint = remembered.or_else(|| cluster.leaders().get(&self.group)?.leader);
        }
        if let Some(disk) = self.hint.take()
            && let Some(node) = cluster.manager().node_of_disk(disk)
        {
            return Some((disk, node));
        }
        if self.members.is_empty() {
            self.members = members_in_turn(cluster, self.group);
        }
        let disk = self.members.pop_front()?;
        Some((disk, cluster.manager().node_of_disk(disk)?))
    }

    /// What a failed attempt means: a pause before the next one, if any, or
    /// the end.
    fn after(
        &mut self,
        cluster: &Cluster,
        disk: DiskId,
        error: CallError,
    ) -> Result<Option<Duration>, ClusterError> {
        self.unknown |= self.changes && !error.not_done();
        self.busy = None;
        match error {
            CallError::Node(NodeError::NotLeader {
                leader: Some(leader),
            }) => {
                cluster.view().leaders.insert(self.group, leader);
                self.hint = Some(leader);
                self.hints_in_a_row += 1;
                if leader != disk && self.hints_in_a_row <= HINTS_IN_A_ROW {
                    return Ok(None);
                }
                // Somebody is behind the times: let the others speak as well.
                self.hint = None;
            }
            CallError::Node(NodeError::Busy { retry_after_millis }) => {
                let asked = Duration::from_millis(retry_after_millis);
                self.hint = Some(disk);
                self.busy = Some(asked);
                return Ok(Some(asked.clamp(FIRST_PAUSE, BUSY_PAUSE)));
            }
            CallError::Node(error @ (NodeError::DiskFull | NodeError::Invalid(_)))
                if !self.unknown =>
            {
                return Err(CallError::Node(error).into());
            }
            CallError::Node(NodeError::NoQuorum) => self.leader_is_alone = true,
            CallError::Node(_) | CallError::Transport(_) => {
                let mut view = cluster.view();
                if view.leaders.get(&self.group) == Some(&disk) {
                    view.leaders.remove(&self.group);
                }
            }
        }
        self.hints_in_a_row = 0;
        cluster.kick();
        Ok(Some(self.pause(cluster)))
    }

    fn pause(&mut self, cluster: &Cluster) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LAST_PAUSE);
        // Half to all of it, so that those who wait together do not come together.
        let half = pause / 2;
        half + Duration::from_micros(cluster.env().entropy.below(half.as_micros() as u64))
    }

    fn give_up(&self, ready: bool) -> ClusterError {
        let group = self.group;
        match self.busy {
            _ if self.unknown => ClusterError::OutcomeUnknown { group },
            Some(retry_after) => ClusterError::Busy { retry_after },
            None if !ready => ClusterError::NotReady("no storage node answers".into()),
            None => ClusterError::NoQuorum { group },
        }
    }
}

/// The group's members, those that answer first, from a random one on.
fn members_in_turn(cluster: &Cluster, group: GroupId) -> VecDeque<DiskId> {
    let Some(state) = cluster.state() else {
        return VecDeque::new();
    };
    let mut members = state.layout.groups.get(&group).cloned().unwrap_or_default();
    let start = cluster.env().entropy.below(members.len() as u64) as usize;
    members.rotate_left(start);
    members.sort_by_key(|disk| cluster.manager().health_of_disk(*disk) != Health::Up);
    members.into()
}
