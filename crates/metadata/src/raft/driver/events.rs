//! What comes from outside: messages, commands, queries, and time.

use std::collections::BTreeSet;

use holdfast_model::{DiskId, GroupId};
use holdfast_runtime::Fatal;
use raft::eraftpb::{Message, MessageType};

use super::{
    Answerer, Command, Driver, EAGER_TICKS, Event, Group, LEAVE_TICKS, LOOK_TICKS, Peer, Work,
    weight,
};
use crate::command::{Outcome, Request};
use crate::protocol::{NodeError, ProposeRequest, QueryRequest};
use crate::query::Answer;
use crate::raft::applier;
use crate::raft::timing::{CALL_HANGS, ROUND_HANGS};

/// A leader commits no more with a heartbeat than what this disk has told it to
/// hold durably; if that is more than the log has, entries were lost.
fn has_lost_entries(group: &Group, message: &Message) -> Option<String> {
    let raft = &group.node.raft;
    let end = raft.raft_log.last_index();
    let lost = message.get_msg_type() == MessageType::MsgHeartbeat
        && message.term >= raft.term
        && message.commit > end;
    lost.then(|| {
        format!(
            "the leader was told of entry {}, and the log ends at {end}: \
             this disk has lost what it promised, or is an older copy",
            message.commit
        )
    })
}

impl Driver {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Messages(incoming) => {
                for (id, message) in incoming.messages {
                    self.on_message(id, message);
                }
                if let Some(answer) = incoming.answer {
                    self.replies.expect(incoming.from, answer);
                }
            }
            Event::Propose(request, answer) => self.on_propose(request, answer),
            Event::Query(request, answer) => self.on_query(request, answer),
            Event::Members(request, answer) => self.on_members(&request, answer),
            Event::Transfer(id, to, answer) => self.on_transfer(id, to, answer),
            Event::Unreachable(to) => {
                for group in self.groups.values_mut() {
                    group.node.report_unreachable(to);
                }
            }
            Event::SnapshotSent { group, to, done } => {
                let status = if done {
                    raft::SnapshotStatus::Finish
                } else {
                    raft::SnapshotStatus::Failure
                };
                if let Some(group) = self.groups.get_mut(&group) {
                    group.node.report_snapshot(to, status);
                }
            }
            Event::SnapshotStaged {
                message,
                group,
                answer,
            } => {
                self.on_message(group, *message);
                let now = self.stamp();
                self.pump_group(group, now);
                match self.groups.get_mut(&group) {
                    // The staged rows are needed until they are installed.
                    Some(group) if group.installing.is_some() => group.staged = Some(answer),
                    _ => {
                        let _ = answer.send(Ok(()));
                    }
                }
            }
            Event::Announced(id, commit) => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.announced = group.announced.max(commit);
                }
            }
            Event::Create(ids, answer) => self.on_create(&ids, answer),
            Event::HandOver(answer) => self.on_hand_over(answer),
        }
    }

    pub(super) fn on_message(&mut self, id: GroupId, message: Message) {
        if message.to != self.identity.disk.raft_id() {
            return;
        }
        if !self.groups.contains_key(&id) {
            // A leader that knows this disk as a member lets it begin empty.
            let opens = matches!(
                message.get_msg_type(),
                MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
            );
            if !opens || id.0 & applier::STAGED != 0 || self.leaving.contains(&id) {
                return;
            }
            if let Err(error) = self.open_group(id, None) {
                tracing::error!(group = %id, %error, "cannot begin a group");
                return;
            }
        }
        let ticks = self.ticks;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if let Some(lost) = has_lost_entries(group, &message) {
            // Raft would panic, now and after every start.
            return (self.on_fatal)(Fatal::Outdated(format!("group {id}: {lost}")));
        }
        group.step(message, ticks);
    }

    pub(super) fn on_propose(&mut self, request: ProposeRequest, answer: Answerer<Outcome>) {
        let (leader, ticks) = (self.leader_disk(request.group), self.ticks);
        let Some(group) = self.groups.get_mut(&request.group) else {
            let _ = answer.send(Err(NodeError::NoSuchGroup));
            return;
        };
        let request = Request {
            id: request.id,
            command: request.command,
        };
        let bytes = weight(&request.command);
        group.take_command(
            Command {
                request,
                bytes,
                answer,
            },
            ticks,
            leader,
        );
    }

    pub(super) fn on_query(&mut self, request: QueryRequest, answer: Answerer<Answer>) {
        let (leader, ticks) = (self.leader_disk(request.group), self.ticks);
        let Some(group) = self.groups.get_mut(&request.group) else {
            let _ = answer.send(Err(NodeError::NoSuchGroup));
            return;
        };
        group.take_query(request.query, answer, ticks, leader);
    }

    pub(super) fn leader_disk(&self, id: GroupId) -> Option<DiskId> {
        let leader = self.groups.get(&id)?.leader();
        self.book.disk(leader)
    }

    /// Tells the other members of this disk's groups at once when more is known
    /// of starts: before an older copy of a disk can speak to them.
    fn tell_starts(&mut self) {
        let sum = self.book.sum();
        if sum == self.told {
            return;
        }
        self.told = sum;
        let own = self.identity.disk.raft_id();
        let groups = self.groups.values();
        let members = groups.flat_map(|group| group.node.raft.prs().iter());
        let mut members: BTreeSet<u64> = members.map(|(member, _)| *member).collect();
        members.remove(&own);
        for member in members {
            self.peer(member).call();
        }
    }

    /// Whether the disk hangs. Its loop comes round, so that it is heard and
    /// nobody is elected in its place, and what it leads waits for the disk: it
    /// gives its groups away, and says that it is to be given none.
    fn look_at_disk(&mut self) {
        let (round, call) = (self.writes.still_for(), self.calls.open_for());
        let hangs = round >= ROUND_HANGS || call >= CALL_HANGS;
        match (self.shared.note_hangs(hangs), hangs) {
            (false, true) => tracing::warn!(
                ?round,
                ?call,
                "the disk hangs: this node leads nothing until it moves"
            ),
            (true, false) => tracing::info!("the disk moves again"),
            _ => {}
        }
    }

    pub(super) fn on_tick(&mut self) {
        if self.book.outdated(&self.identity) {
            return (self.on_fatal)(Fatal::Outdated(format!(
                "another member knows of a later start than this one, number {}: \
                 this disk is an older copy",
                self.identity.incarnation
            )));
        }
        if self.writing.is_none() {
            self.writes.moved();
        }
        self.look_at_disk();
        self.tell_starts();
        self.ticks += 1;
        let (ticks, clock_off) = (self.ticks, (self.clock_off)());
        let now = self.env.clock.wall();
        for group in self.groups.values_mut() {
            // Whose clock is off does not stand for election.
            if group.leads() || !clock_off {
                group.tick();
            }
            let eager = ticks <= EAGER_TICKS;
            if eager && group.preferred && group.leader() == 0 && !clock_off {
                group.campaign();
            }
            group.expire_reads(ticks);
            group.tell_if_alone(ticks);
            if group.leads() && (ticks + u64::from(group.id.0)).is_multiple_of(LOOK_TICKS) {
                let _ = self.work.send(Work::Look(group.id, now));
            }
        }
        if clock_off {
            self.give_leadership_away();
            // Where nobody's clock is known to be right nobody stands for election,
            // and without one there are no messages whose answers would tell.
            self.peers.values().for_each(Peer::call);
        }
        if self.shared.disk_hangs() {
            self.give_leadership_away();
        }
        if ticks.is_multiple_of(LOOK_TICKS) {
            self.give_up_what_is_left();
        }
        self.check_hand_over();
        if self.ticks.is_multiple_of(LEAVE_TICKS) {
            self.leave_groups();
        }
        self.publish_status();
    }
}
