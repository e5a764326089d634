//! What follows in Raft: readies, rounds of the log, messages.

use holdfast_model::{GroupId, Timestamp};
use holdfast_runtime::{Fatal, TasksExt};
use raft::eraftpb::{Message, MessageType};
use tokio::sync::oneshot;

use super::{Committed, Driver, Group, Peer, Released, Work, Wrote, apply_members};
use crate::log::{Checkpoint, LogEnd, LogError, Round, Written};
use crate::raft::snapshot;
use crate::wire::{self, Members, WireHardState};

impl Driver {
    /// The time to stamp commands with; none while this machine's clock is off,
    /// since a group's time never goes back.
    pub(super) fn stamp(&self) -> Option<Timestamp> {
        // First whether it can be trusted: it may jump in between.
        let now = self.env.clock.wall();
        (!(self.clock_off)()).then_some(now)
    }

    /// Asks every group what follows, until nothing does; then sees to it that
    /// a round is being written if one is needed. Says whether to go on.
    pub(super) fn pump(&mut self) -> bool {
        let now = self.stamp();
        loop {
            let mut again = false;
            let ids: Vec<_> = self.groups.keys().copied().collect();
            for id in ids {
                again |= self.pump_group(id, now);
            }
            for (id, released) in self.rounds.release_unsynced() {
                self.on_released(id, released, None);
                again = true;
            }
            if !again {
                break;
            }
        }
        self.send_replies();
        if self.writing.is_none()
            && !self.write_again()
            && let Some(round) = self.rounds.next()
        {
            self.start_write(round);
        }
        true
    }

    pub(super) fn pump_group(&mut self, id: GroupId, now: Option<Timestamp>) -> bool {
        let leader = self.leader_disk(id);
        let ticks = self.ticks;
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        if group.installing.is_some() {
            return false;
        }
        if let Some(now) = now {
            group.propose(now);
        }
        group.begin_reads(ticks);
        if !group.node.has_ready() {
            let ready = group.ready_reads();
            self.answer_reads(id, ready);
            return false;
        }
        let mut ready = group.node.ready();
        let messages = ready.take_messages();
        for state in ready.take_read_states() {
            group.confirm_reads(&state.request_ctx, state.index);
        }
        let role_changed = group.notice_role(leader);
        let store = group.node.mut_store();
        if let Some(hard) = ready.hs() {
            store.set_hard(hard.into());
        }
        let snapshot = ready.snapshot().clone();
        let installs = !snapshot.is_empty();
        if installs {
            let meta = snapshot.get_metadata();
            store.reset(LogEnd {
                index: meta.index,
                term: meta.term,
            });
            store.set_members(Members::from(meta.get_conf_state()));
        }
        store.append(ready.entries());
        let hard = ready.hs().map(WireHardState::from);
        let number = ready.number();
        let entries = ready.take_entries();
        let persisted = ready.take_persisted_messages();
        let committed = ready.take_committed_entries();
        let must_sync = ready.must_sync();
        group.node.advance_append_async(ready);
        if installs {
            group.installing = Some(number);
            let meta = snapshot.get_metadata();
            let _ = self.work.send(Work::Install {
                group: id,
                end: LogEnd {
                    index: meta.index,
                    term: meta.term,
                },
                members: Members::from(meta.get_conf_state()),
            });
        }
        let added = self
            .rounds
            .add(id, number, hard, &entries, must_sync, persisted);
        if let Err(error) = added {
            (self.on_fatal)(Fatal::Broken(format!("group {id}: {error}")));
        }
        self.hand_to_applier(id, committed);
        self.send(id, messages);
        let ready = self
            .groups
            .get_mut(&id)
            .map(Group::ready_reads)
            .unwrap_or_default();
        self.answer_reads(id, ready);
        if role_changed {
            self.publish_status();
        }
        true
    }

    /// Hands committed entries on; changes of members take effect here.
    pub(super) fn hand_to_applier(&mut self, id: GroupId, committed: Vec<raft::eraftpb::Entry>) {
        if committed.is_empty() {
            return;
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let mut entries = Vec::with_capacity(committed.len());
        for entry in committed {
            let at = LogEnd {
                index: entry.index,
                term: entry.term,
            };
            group.handed = entry.index;
            let members = if entry.entry_type == raft::eraftpb::EntryType::EntryNormal {
                None
            } else {
                match apply_members(group, &entry) {
                    Ok(members) => Some(members),
                    Err(error) => {
                        (self.on_fatal)(Fatal::Broken(format!("group {id}: {error}")));
                        return;
                    }
                }
            };
            let data = if members.is_some() {
                bytes::Bytes::new()
            } else {
                entry.data
            };
            entries.push(Committed { at, data, members });
        }
        let _ = self.work.send(Work::Entries { group: id, entries });
    }

    fn start_write(&mut self, round: Round) {
        let (files, checkpoint) = (self.files.clone(), self.checkpoint());
        self.write_log(move || files.write(&round, &checkpoint).map(Wrote::Round));
    }

    /// Has the log written by `work`, off the loop.
    pub(super) fn write_log(
        &mut self,
        work: impl FnOnce() -> Result<Wrote, LogError> + Send + 'static,
    ) {
        let (sender, receiver) = oneshot::channel();
        self.writing = Some(receiver);
        let tasks = self.env.tasks.clone();
        self.env.tasks.spawn(
            "raft-log",
            Box::pin(async move {
                if let Some(done) = tasks.blocking(work).await {
                    let _ = sender.send(done);
                }
            }),
        );
    }

    /// What a file that is begun now begins with.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        let ends = self.groups.iter().map(|(id, group)| {
            let log = group.node.store();
            (*id, (log.hard(), log.recorded()))
        });
        Checkpoint {
            groups: ends.collect(),
        }
    }

    pub(super) fn on_written(&mut self, written: Option<Result<Wrote, LogError>>) -> bool {
        let wrote = match written {
            Some(Ok(wrote)) => wrote,
            Some(Err(error)) => {
                (self.on_fatal)(error.fatal());
                return false;
            }
            None => return false,
        };
        self.writes.moved();
        match wrote {
            Wrote::Round(written) => {
                self.env.tasks.pass("commit.round_durable");
                for (id, released) in self.rounds.written() {
                    self.on_released(id, released, Some(written));
                }
            }
            Wrote::Again(again) => self.on_written_again(again),
        }
        true
    }

    /// What a group waited for is durable, or needed not to be.
    pub(super) fn on_released(
        &mut self,
        id: GroupId,
        released: Released,
        written: Option<Written>,
    ) {
        if released.round.removed {
            // Whoever holds the work's other end has gone only at the end.
            let _ = self.work.send(Work::Remove(id));
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if let Some(written) = written {
            group
                .node
                .mut_store()
                .written(&released.round, written.place);
        }
        match (group.installing, released.round.reset) {
            // A snapshot is persisted only with the round that follows its rows.
            (Some(number), None) if released.number >= number => {}
            (Some(_), Some(end)) => {
                group.node.on_persist_ready(released.number);
                group.node.advance_apply_to(end.index);
                group.installing = None;
            }
            _ => group.node.on_persist_ready(released.number),
        }
        self.send(id, released.messages);
    }

    pub(super) fn send(&mut self, id: GroupId, messages: Vec<Message>) {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                snapshot::send(self.snapshot_parts(), id, message);
                continue;
            }
            let to = message.to;
            match wire::encode_message(&message) {
                Ok(bytes) => {
                    let message = self.replies.offer(to, &message, id, bytes);
                    if let Some(message) = message {
                        self.peer(to).send(message);
                    }
                }
                Err(error) => tracing::error!(group = %id, %error, "a message was not encoded"),
            }
        }
    }

    /// Lets go what is said with the answers to the batches just taken in.
    fn send_replies(&mut self) {
        for (to, messages) in self.replies.send() {
            for message in messages {
                self.peer(to).send(message);
            }
        }
    }

    pub(super) fn peer(&mut self, to: u64) -> &Peer {
        self.peers.entry(to).or_insert_with(|| {
            Peer::start(
                &self.env,
                self.identity,
                to,
                self.book.clone(),
                self.inbox.clone(),
                self.clock_seen.clone(),
                self.shutdown.clone(),
            )
        })
    }

    pub(super) fn snapshot_parts(&self) -> snapshot::SendParts {
        snapshot::SendParts {
            env: self.env.clone(),
            identity: self.identity,
            store: self.store.clone(),
            book: self.book.clone(),
            inbox: self.inbox.clone(),
        }
    }
}
