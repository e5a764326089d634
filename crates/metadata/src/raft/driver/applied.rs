//! What the applier has done: answers, purging, the state of the groups as others see it.

use std::collections::BTreeMap;

use holdfast_model::GroupId;
use tokio::sync::oneshot;

use super::{Applied, Command, Driver, Reading};
use crate::command::Request;
use crate::protocol::GroupStatus;
use crate::raft::lag::Lag;

impl Driver {
    pub(super) fn on_applied(&mut self, applied: Applied) {
        match applied {
            Applied::Entries {
                group: id,
                to,
                outcomes,
                totals,
            } => {
                let Some(group) = self.groups.get_mut(&id) else {
                    return;
                };
                group.applied = to;
                group.totals = totals;
                group.node.mut_store().set_applied(to);
                group.node.advance_apply_to(to.index);
                for (at, done) in outcomes {
                    group.answer(at, done);
                }
            }
            Applied::Installed { group: id, end } => {
                let Some(group) = self.groups.get_mut(&id) else {
                    return;
                };
                self.env.tasks.pass("layout.snapshot_installed");
                group.applied = end;
                group.handed = end.index;
                group.node.mut_store().set_applied(end);
                if let Some(answer) = group.staged.take() {
                    let _ = answer.send(Ok(()));
                }
                if let Some(number) = group.installing {
                    let hard = group.node.store().hard();
                    let waiting = self.rounds.waiting_of(id);
                    waiting.number = number;
                    waiting.round.reset = Some(end);
                    waiting.round.hard = Some(hard);
                    self.rounds.demand_sync(id);
                }
            }
            Applied::Looked {
                group: id,
                totals,
                tick_due,
                tasks_due,
            } => {
                let now = self.stamp();
                let ticks = self.ticks;
                let entropy = self.env.entropy.request_id(self.env.clock.as_ref());
                let Some(group) = self.groups.get_mut(&id) else {
                    return;
                };
                group.totals = totals;
                group.tasks_due = tasks_due;
                if let Some(now) = now
                    && tick_due
                    && group.leads()
                    && !group.ticking
                {
                    group.ticking = true;
                    let (answer, _) = oneshot::channel();
                    let request = Request {
                        id: entropy,
                        command: crate::command::Command::Tick,
                    };
                    group.take_command(
                        Command {
                            request,
                            bytes: 32,
                            answer: answer.into(),
                        },
                        ticks,
                        None,
                    );
                    group.propose(now);
                    group.ticking = false;
                }
            }
            Applied::Removed(id) => {
                self.leaving.remove(&id);
                self.durable.remove(&id);
            }
            Applied::Durable(applied) => {
                self.durable = applied;
                self.purge();
            }
            Applied::Cluster(state) => {
                self.book.learn(&state);
                self.shared.learn(state);
            }
        }
    }

    /// Frees log files that are durably applied. Renames block shortly, but are rare.
    pub(super) fn purge(&mut self) {
        if self.again.running {
            return;
        }
        let applied = self.durably_applied();
        match self.files.purge(&applied) {
            Ok(begins) => {
                for (id, begin) in begins {
                    if let Some(group) = self.groups.get_mut(&id) {
                        let begin_known = group.node.store().begin();
                        if begin.index > begin_known.index && begin.index <= group.applied.index {
                            group.node.mut_store().purge(begin);
                        }
                    }
                }
            }
            Err(error) => (self.on_fatal)(error.fatal()),
        }
    }

    /// Answers queries off the loop.
    pub(super) fn answer_reads(&self, id: GroupId, readings: Vec<Reading>) {
        // A clock that is off ends nothing: the group's own time decides.
        let now = self.stamp().unwrap_or_default();
        self.reader.answer(id, readings, now);
    }

    pub(super) fn publish_status(&self) {
        let mut statuses = BTreeMap::new();
        for (id, group) in &self.groups {
            let raft = &group.node.raft;
            let conf = raft.prs().conf();
            let mut matched = BTreeMap::new();
            if group.leads() {
                matched.extend(
                    raft.prs()
                        .iter()
                        .map(|(id, progress)| (*id, progress.matched)),
                );
            }
            statuses.insert(
                *id,
                GroupStatus {
                    group: *id,
                    leader: self.book.disk(group.leader()),
                    term: raft.term,
                    applied: group.applied.index,
                    committed: raft.raft_log.committed,
                    voters: conf.voters().ids().iter().collect(),
                    learners: conf.learners().iter().copied().collect(),
                    matched,
                    totals: group.totals,
                    tasks_due: group.tasks_due,
                    active: group.leads()
                        && raft.commit_to_current_term()
                        && group.hears_majority(self.ticks),
                },
            );
        }
        let lags = self.groups.iter().map(|(id, group)| {
            let installs = group.installing.is_some();
            let lag = Lag::of(group.announced, group.applied.index, installs);
            (*id, lag)
        });
        self.shared.publish(statuses, lags.collect());
    }
}
