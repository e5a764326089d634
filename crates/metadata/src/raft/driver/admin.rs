//! Orders from outside the log: members, leadership, new groups.

use holdfast_model::{DiskId, GroupId};
use raft::StateRole;

use super::{Driver, Group, LEFT_TICKS};
use crate::protocol::{MemberStep, MembersRequest, NodeError};
use crate::raft::Answerer;
use crate::wire::{MemberChange, conf_change};

pub(super) const ADD_VOTER: u8 = 0;
pub(super) const REMOVE: u8 = 1;
const ADD_LEARNER: u8 = 2;
/// How far behind a learner may be when it gets its vote.
const MAX_LEARNER_LAG: u64 = 1_000;

impl Driver {
    /// Proposes a step of a change of members. Answered when it is proposed;
    /// the controller sees in the group's status when it has taken effect.
    pub(super) fn on_members(&mut self, request: &MembersRequest, answer: Answerer<()>) {
        let result = self.change_members(request);
        let _ = answer.send(result);
    }

    fn change_members(&mut self, request: &MembersRequest) -> Result<(), NodeError> {
        let (id, step) = (request.group, request.step);
        let newest = self.shared.state().map(|state| state.layout.epoch);
        let leader = self.leader_disk(id);
        let own = self.identity.disk;
        let group = self.groups.get_mut(&id).ok_or(NodeError::NoSuchGroup)?;
        if !group.leads() {
            return Err(NodeError::NotLeader { leader });
        }
        let invalid = |text: &str| Err(NodeError::Invalid(text.to_owned()));
        let mut voters: Vec<u64> = group.node.raft.prs().conf().voters().ids().iter().collect();
        voters.sort_unstable();
        let planned = request.voters.as_ref();
        // Planned for another layout or other members: whoever did looks again.
        let old = newest.is_some_and(|newest| request.epoch < newest)
            || planned.is_some_and(|planned| *planned != voters);
        if old || group.node.raft.has_pending_conf() {
            return Err(NodeError::Busy {
                retry_after_millis: 200,
            });
        }
        let end = group.node.raft.raft_log.last_index();
        let progress = |disk: DiskId| group.node.raft.prs().get(disk.raft_id());
        let changes = match step {
            MemberStep::AddLearner(disk) => {
                if progress(disk).is_some() {
                    return Ok(());
                }
                vec![(ADD_LEARNER, disk.raft_id())]
            }
            MemberStep::Swap { add, remove } => {
                if remove == Some(own) {
                    return invalid("the leader itself is to go: transfer leadership first");
                }
                match progress(add) {
                    None => return invalid("it must be a learner first"),
                    Some(learner) if learner.matched + MAX_LEARNER_LAG < end => {
                        return Err(NodeError::Busy {
                            retry_after_millis: 500,
                        });
                    }
                    Some(_) => {}
                }
                let mut changes = vec![(ADD_VOTER, add.raft_id())];
                changes.extend(remove.map(|disk| (REMOVE, disk.raft_id())));
                changes
            }
            MemberStep::Remove(disk) if disk == own => {
                return invalid("the leader itself is to go: transfer leadership first");
            }
            MemberStep::Remove(disk) => {
                if progress(disk).is_none() {
                    return Ok(());
                }
                vec![(REMOVE, disk.raft_id())]
            }
        };
        let change = conf_change(&MemberChange { changes })
            .map_err(|error| NodeError::Invalid(error.to_string()))?;
        group
            .node
            .propose_conf_change(Vec::new(), change)
            .map_err(|_| NodeError::Busy {
                retry_after_millis: 200,
            })
    }

    /// Hands leadership of a group over.
    pub(super) fn on_transfer(&mut self, id: GroupId, to: Option<DiskId>, answer: Answerer<()>) {
        let result = match self.groups.get(&id) {
            None => Err(NodeError::NoSuchGroup),
            Some(group) if !group.leads() => Err(NodeError::NotLeader {
                leader: self.leader_disk(id),
            }),
            Some(_) => {
                self.transfer(id, to.map(|disk| disk.raft_id()));
                Ok(())
            }
        };
        let _ = answer.send(result);
    }

    fn transfer(&mut self, id: GroupId, to: Option<u64>) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if let Some(to) = to.or_else(|| group.heir()) {
            group.node.transfer_leader(to);
        }
    }

    /// Makes groups of rows that were written to the store at a birth.
    pub(super) fn on_create(&mut self, ids: &[GroupId], answer: Answerer<()>) {
        let mut result = Ok(());
        for id in ids {
            if self.groups.contains_key(id) {
                continue;
            }
            if let Err(error) = self.open_group(*id, None) {
                result = Err(NodeError::Invalid(error.to_string()));
                break;
            }
        }
        // Members that prefer a group stand at once.
        self.ticks = 0;
        let _ = answer.send(result);
    }

    /// Gives up the groups that this disk no longer carries: the layout does not
    /// name it, and either the group has removed it or nobody has spoken to it
    /// for a long time, since whoever is removed is often not told.
    pub(super) fn leave_groups(&mut self) {
        let Some(state) = self.shared.state() else {
            return;
        };
        let own = self.identity.disk;
        let ticks = self.ticks;
        let mut left = Vec::new();
        for (id, group) in &mut self.groups {
            if group.leader() != 0 {
                group.led_at = ticks;
            }
            let named = state
                .layout
                .groups
                .get(id)
                .is_none_or(|disks| disks.contains(&own));
            if named || group.installing.is_some() {
                continue;
            }
            let members = group.node.store().members();
            let member = members.voters.contains(&own.raft_id())
                || members.voters_outgoing.contains(&own.raft_id())
                || members.learners.contains(&own.raft_id());
            let silent = ticks.saturating_sub(group.led_at) > LEFT_TICKS;
            if (!member && group.applied.index > 1) || silent {
                left.push(*id);
            }
        }
        for id in left {
            tracing::info!(group = %id, "the group has left this disk");
            self.groups.remove(&id);
            // First the log, then the rows: a log without rows is a disk that has
            // lost data.
            self.leaving.insert(id);
            self.rounds.forget(id);
            self.rounds.waiting_of(id).round.removed = true;
            self.rounds.demand_sync(id);
        }
    }

    /// Hands all leadership over before an orderly end.
    pub(super) fn on_hand_over(&mut self, answer: Answerer<()>) {
        self.handing_over = Some(answer);
        self.give_leadership_away();
        self.check_hand_over();
    }

    /// This process does not get to run: others lead better.
    pub(super) fn lead_no_more_for_now(&mut self) {
        tracing::debug!("this process stands still too often to lead: others are asked to");
        self.give_leadership_away();
    }

    pub(super) fn give_leadership_away(&mut self) {
        let led: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, group)| group.leads() && group.node.raft.lead_transferee.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in led {
            self.transfer(id, None);
        }
    }

    /// Hands over groups that are led here without a vote: a change that an
    /// earlier leader had begun took it away. Raft goes on with such a leader,
    /// and nobody else stands while it is heard.
    pub(super) fn give_up_what_is_left(&mut self) {
        let own = self.identity.disk.raft_id();
        let voteless = |group: &Group| {
            let raft = &group.node.raft;
            group.leads()
                && raft.lead_transferee.is_none()
                && !raft.prs().conf().voters().contains(own)
        };
        let led = self.groups.iter().filter(|(_, group)| voteless(group));
        for id in led.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.transfer(id, None);
        }
    }

    /// Answers when nothing is led here any more, by anybody who could lead it instead.
    pub(super) fn check_hand_over(&mut self) {
        if self.handing_over.is_none() {
            return;
        }
        let led = self.groups.values().any(|group| {
            group.node.raft.state == StateRole::Leader
                && group.node.raft.prs().conf().voters().ids().len() > 1
        });
        if led {
            self.give_leadership_away();
        } else if let Some(answer) = self.handing_over.take() {
            let _ = answer.send(Ok(()));
        }
    }
}
