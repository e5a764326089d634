//! The loop that runs the Raft groups of a node, and the handle to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_model::{DiskId, GroupId};
use holdfast_runtime::{Disk, Env, Shutdown, TasksExt};
use raft::eraftpb::{Message, MessageType};
use tokio::sync::{mpsc, oneshot};

use super::applier::{self, Applied, Applier, Committed, Work};
use super::group::{Command, Group, Reading};
use super::peers::{ClockSeen, Identity, Peer};
use super::rounds::{Released, Rounds};
use super::timing::TICK;
use super::{
    AddressBook, Answerer, Event, Inbox, MAX_INBOX, MAX_WAITING, OnFatal, Shared, snapshot,
};
use crate::command::{Outcome, Request};
use crate::log::{Checkpoint, GroupLog, LogEnd, LogError, LogFiles, LogSettings, Round, Written};
use crate::protocol::{GroupStatus, NodeError, ProposeRequest, QueryRequest};
use crate::query::Answer;
use crate::state;
use crate::store::{Rows, Store, StoreError};
use crate::wire::{self, Members, WireHardState};

mod admin;
mod handle;

pub use handle::Groups;

/// Ticks between two looks at what is due in a group that is led here.
const LOOK_TICKS: u64 = 10;
/// Ticks after a start during which preferred members stand for election at once.
const EAGER_TICKS: u64 = 30;
/// Events taken in before Raft is asked what follows from them.
const EVENTS_AT_ONCE: usize = 512;

/// What the groups of a node are made of.
pub struct GroupsParts {
    /// The world.
    pub env: Env,
    /// The disk that holds log and state.
    pub disk: Arc<dyn Disk>,
    /// Who we are.
    pub identity: Identity,
    /// The state store, open.
    pub store: Arc<Store>,
    /// How the log is kept.
    pub log: LogSettings,
    /// Who is where.
    pub book: Arc<AddressBook>,
    /// What others may look at.
    pub shared: Arc<Shared>,
    /// Told what peers' clocks say.
    pub clock_seen: ClockSeen,
    /// Ends the process.
    pub on_fatal: OnFatal,
    /// Ends the peers' tasks; the loop itself is ended by [`Groups::stop`].
    pub shutdown: Shutdown,
}

/// Why the groups did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Raft refuses what it was given.
    #[error("starting group {group}: {source}")]
    Raft {
        /// The group.
        group: GroupId,
        /// Why.
        source: Box<raft::Error>,
    },
    /// The log begins after what the state has applied.
    #[error(
        "group {group} has applied {applied}, and its log begins after {begin}: the disk has lost data, replace it as if it were empty"
    )]
    Gap {
        /// The group.
        group: GroupId,
        /// What is applied.
        applied: u64,
        /// Where the log begins.
        begin: u64,
    },
}

/// The loop's own state.
pub(super) struct Driver {
    env: Env,
    identity: Identity,
    store: Arc<Store>,
    files: Arc<LogFiles>,
    book: Arc<AddressBook>,
    shared: Arc<Shared>,
    clock_seen: ClockSeen,
    on_fatal: OnFatal,
    shutdown: Shutdown,
    inbox: Inbox,
    work: mpsc::UnboundedSender<Work>,
    groups: BTreeMap<GroupId, Group>,
    peers: BTreeMap<u64, Peer>,
    rounds: Rounds,
    writing: Option<oneshot::Receiver<Result<Written, LogError>>>,
    ticks: u64,
    clock_off: bool,
    handing_over: Option<Answerer<()>>,
}

impl Driver {
    /// Opens log and state and makes the groups that they hold.
    fn open(
        parts: GroupsParts,
        inbox: Inbox,
        work: mpsc::UnboundedSender<Work>,
    ) -> Result<Self, StartError> {
        let durable = applier::durable_sequence(&parts.store)?;
        let recovered = LogFiles::open(parts.disk.clone(), parts.log, durable)?;
        let mut driver = Self {
            env: parts.env,
            identity: parts.identity,
            store: parts.store,
            files: recovered.files,
            book: parts.book,
            shared: parts.shared,
            clock_seen: parts.clock_seen,
            on_fatal: parts.on_fatal,
            shutdown: parts.shutdown,
            inbox,
            work,
            groups: BTreeMap::new(),
            peers: BTreeMap::new(),
            rounds: Rounds::default(),
            writing: None,
            ticks: 0,
            clock_off: false,
            handing_over: None,
        };
        for (id, log) in recovered.groups {
            driver.open_group(id, Some(log))?;
        }
        driver.open_unlogged()?;
        Ok(driver)
    }

    /// Groups whose first rows were written, and whose first round was not: the
    /// crash came between. They have promised nothing yet.
    fn open_unlogged(&mut self) -> Result<(), StartError> {
        let Some(state) = self.shared.state() else {
            return Ok(());
        };
        for id in state.layout.groups.keys() {
            let there = self.store.snapshot()?.group(*id).applied()?.is_some();
            if there && !self.groups.contains_key(id) {
                self.open_group(*id, None)?;
                self.note_new(*id);
            }
        }
        Ok(())
    }

    /// Has the log told of a group before anything refers to it.
    fn note_new(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let log = group.node.store();
        let (begin, hard) = (log.begin(), log.hard());
        let waiting = self.rounds.waiting_of(id);
        waiting.round.reset = Some(begin);
        waiting.round.hard = Some(hard);
        self.rounds.demand_sync(id);
    }

    /// Makes a group of what log and state hold of it.
    fn open_group(&mut self, id: GroupId, log: Option<GroupLog>) -> Result<(), StartError> {
        let view = self.store.snapshot()?;
        let rows = view.group(id);
        let (index, term) = rows.applied()?.unwrap_or_default();
        let applied = LogEnd { index, term };
        let mut log = match log {
            Some(log) => log,
            None => GroupLog::new(id, self.files.clone(), applied),
        };
        if log.begin().index > applied.index {
            let begin = log.begin().index;
            return Err(StartError::Gap {
                group: id,
                applied: applied.index,
                begin,
            });
        }
        if log.end().index < applied.index {
            // A snapshot was installed, and the crash came before the log's
            // own round about it: the state has gone further than the log.
            log.reset(applied);
        }
        let mut hard = log.hard();
        hard.commit = hard.commit.max(applied.index).min(log.end().index);
        hard.term = hard.term.max(log.end().term);
        log.set_hard(hard);
        log.set_members(applier::read_members(&rows)?);
        log.set_applied(applied);
        let mut group = Group::new(id, self.identity.disk, log, applied).map_err(|source| {
            StartError::Raft {
                group: id,
                source: Box::new(source),
            }
        })?;
        group.totals = state::totals(&rows)?;
        group.preferred = self.prefers(id);
        self.groups.insert(id, group);
        Ok(())
    }

    /// Whether this disk is to lead a group when nobody does: leaders are
    /// spread over a group's members by its number.
    fn prefers(&self, id: GroupId) -> bool {
        let Some(state) = self.shared.state() else {
            return false;
        };
        let Some(disks) = state.layout.groups.get(&id) else {
            return false;
        };
        disks.get(usize::from(id.0) % disks.len().max(1)) == Some(&self.identity.disk)
    }

    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut applied: mpsc::UnboundedReceiver<Applied>,
    ) {
        let mut batch = Vec::new();
        let mut next_tick = self.env.clock.monotonic() + TICK;
        loop {
            let now = self.env.clock.monotonic();
            let sleep = self.env.clock.sleep(next_tick.saturating_sub(now));
            tokio::select! {
                biased;
                written = wait_written(&mut self.writing) => {
                    if !self.on_written(written) { return; }
                }
                one = applied.recv() => {
                    let Some(one) = one else { return };
                    self.on_applied(one);
                    while let Ok(more) = applied.try_recv() { self.on_applied(more); }
                }
                () = sleep => {
                    self.on_tick();
                    // After a stall, ticks that were missed are not made up for.
                    next_tick = self.env.clock.monotonic() + TICK;
                }
                count = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    if count == 0 { return; }
                    for event in batch.drain(..) { self.on_event(event); }
                }
            }
            if !self.pump() {
                return;
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Messages(messages) => {
                for (id, message) in messages {
                    self.on_message(id, message);
                }
            }
            Event::Propose(request, answer) => self.on_propose(request, answer),
            Event::Query(request, answer) => self.on_query(request, answer),
            Event::Members(id, step, answer) => self.on_members(id, step, answer),
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
                self.pump_group(group, self.env.clock.wall());
                match self.groups.get_mut(&group) {
                    // The staged rows are needed until they are installed.
                    Some(group) if group.installing.is_some() => group.staged = Some(answer),
                    _ => {
                        let _ = answer.send(Ok(()));
                    }
                }
            }
            Event::Create(ids, answer) => self.on_create(&ids, answer),
            Event::HandOver(answer) => self.on_hand_over(answer),
            Event::ClockOff(off) => self.clock_off = off,
        }
    }

    fn on_message(&mut self, id: GroupId, message: Message) {
        if message.to != self.identity.disk.raft_id() {
            return;
        }
        if !self.groups.contains_key(&id) {
            // A leader that knows this disk as a member lets it begin empty.
            let opens = matches!(
                message.get_msg_type(),
                MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
            );
            if !opens || id.0 & applier::STAGED != 0 {
                return;
            }
            if let Err(error) = self.open_group(id, None) {
                tracing::error!(group = %id, %error, "cannot begin a group");
                return;
            }
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.step(message);
        }
    }

    fn on_propose(&mut self, request: ProposeRequest, answer: Answerer<Outcome>) {
        let leader = self.leader_disk(request.group);
        let Some(group) = self.groups.get_mut(&request.group) else {
            let _ = answer.send(Err(NodeError::NoSuchGroup));
            return;
        };
        if group.waiting() >= MAX_WAITING {
            let _ = answer.send(Err(NodeError::Busy {
                retry_after_millis: 1_000,
            }));
            return;
        }
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
            leader,
        );
    }

    fn on_query(&mut self, request: QueryRequest, answer: Answerer<Answer>) {
        let (leader, ticks) = (self.leader_disk(request.group), self.ticks);
        let Some(group) = self.groups.get_mut(&request.group) else {
            let _ = answer.send(Err(NodeError::NoSuchGroup));
            return;
        };
        if group.waiting() >= MAX_WAITING {
            let _ = answer.send(Err(NodeError::Busy {
                retry_after_millis: 1_000,
            }));
            return;
        }
        group.take_query(request.query, answer, ticks, leader);
    }

    fn leader_disk(&self, id: GroupId) -> Option<DiskId> {
        let leader = self.groups.get(&id)?.leader();
        self.book.disk(leader)
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        let (ticks, clock_off) = (self.ticks, self.clock_off);
        let now = self.env.clock.wall();
        for group in self.groups.values_mut() {
            // Whose clock is off does not stand for election.
            if group.leads() || !clock_off {
                group.tick();
            }
            let eager = ticks <= EAGER_TICKS && ticks.is_multiple_of(3);
            if eager && group.preferred && group.leader() == 0 && !clock_off {
                group.campaign();
            }
            group.expire_reads(ticks);
            if group.leads() && (ticks + u64::from(group.id.0)).is_multiple_of(LOOK_TICKS) {
                let _ = self.work.send(Work::Look(group.id, now));
            }
        }
        if clock_off {
            self.give_leadership_away();
        }
        self.check_hand_over();
        if self.ticks.is_multiple_of(2) {
            self.publish_status();
        }
    }

    fn on_applied(&mut self, applied: Applied) {
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
                let now = self.env.clock.wall();
                let entropy = self.env.entropy.request_id(self.env.clock.as_ref());
                let Some(group) = self.groups.get_mut(&id) else {
                    return;
                };
                group.totals = totals;
                group.tasks_due = tasks_due;
                if tick_due && group.leads() && !group.ticking {
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
                            answer,
                        },
                        None,
                    );
                    group.propose(now);
                    group.ticking = false;
                }
            }
            Applied::Durable(applied) => self.purge(applied),
            Applied::Cluster(state) => {
                self.book.learn(&state);
                self.shared.learn(state);
            }
        }
    }

    /// Frees log files that are durably applied. Renames block shortly, but are rare.
    fn purge(&mut self, mut applied: BTreeMap<GroupId, u64>) {
        for (id, group) in &self.groups {
            // What was not touched since the start is as durable as it was found.
            applied.entry(*id).or_insert(group.applied.index);
        }
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
            Err(error) => (self.on_fatal)(error.to_string()),
        }
    }

    /// Asks every group what follows, until nothing does; then sees to it that
    /// a round is being written if one is needed. Says whether to go on.
    fn pump(&mut self) -> bool {
        let now = self.env.clock.wall();
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
        if self.writing.is_none()
            && let Some(round) = self.rounds.next()
        {
            self.start_write(round);
        }
        true
    }

    fn pump_group(&mut self, id: GroupId, now: holdfast_model::Timestamp) -> bool {
        let leader = self.leader_disk(id);
        let ticks = self.ticks;
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        if group.installing.is_some() {
            return false;
        }
        group.propose(now);
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
            (self.on_fatal)(format!("group {id}: {error}"));
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
    fn hand_to_applier(&mut self, id: GroupId, committed: Vec<raft::eraftpb::Entry>) {
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
                        (self.on_fatal)(format!("group {id}: {error}"));
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
        let (sender, receiver) = oneshot::channel();
        self.writing = Some(receiver);
        let checkpoint = Checkpoint {
            groups: self
                .groups
                .iter()
                .map(|(id, group)| {
                    let log = group.node.store();
                    (*id, (log.hard(), log.recorded()))
                })
                .collect(),
        };
        let (files, env) = (self.files.clone(), self.env.clone());
        self.env.tasks.spawn(
            "raft-log",
            Box::pin(async move {
                let done = env
                    .tasks
                    .blocking(move || files.write(&round, &checkpoint))
                    .await;
                if let Some(done) = done {
                    let _ = sender.send(done);
                }
            }),
        );
    }

    fn on_written(&mut self, written: Option<Result<Written, LogError>>) -> bool {
        match written {
            Some(Ok(written)) => {
                for (id, released) in self.rounds.written() {
                    self.on_released(id, released, Some(written));
                }
                true
            }
            Some(Err(error)) => {
                (self.on_fatal)(error.to_string());
                false
            }
            None => false,
        }
    }

    /// What a group waited for is durable, or needed not to be.
    fn on_released(&mut self, id: GroupId, released: Released, written: Option<Written>) {
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

    fn send(&mut self, id: GroupId, messages: Vec<Message>) {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                snapshot::send(self.snapshot_parts(), id, message);
                continue;
            }
            let to = message.to;
            match wire::encode_message(&message) {
                Ok(bytes) => self.peer(to).send(id, bytes),
                Err(error) => tracing::error!(group = %id, %error, "a message was not encoded"),
            }
        }
    }

    fn peer(&mut self, to: u64) -> &Peer {
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

    fn snapshot_parts(&self) -> snapshot::SendParts {
        snapshot::SendParts {
            env: self.env.clone(),
            identity: self.identity,
            store: self.store.clone(),
            book: self.book.clone(),
            inbox: self.inbox.clone(),
        }
    }

    /// Answers queries off the loop, from one view.
    fn answer_reads(&self, id: GroupId, readings: Vec<Reading>) {
        if readings.is_empty() {
            return;
        }
        let (store, env) = (self.store.clone(), self.env.clone());
        let on_fatal = self.on_fatal.clone();
        let now = self.env.clock.wall();
        self.env.tasks.spawn(
            "queries",
            Box::pin(async move {
                env.tasks
                    .blocking(move || {
                        let view = match store.snapshot() {
                            Ok(view) => view,
                            Err(error) => return on_fatal(error.to_string()),
                        };
                        let rows = view.group(id);
                        for reading in readings {
                            match state::answer(&rows, &reading.query, now) {
                                Ok(answer) => {
                                    let _ = reading.answer.send(Ok(answer));
                                }
                                Err(error) => return on_fatal(error.to_string()),
                            }
                        }
                    })
                    .await;
            }),
        );
    }

    fn publish_status(&self) {
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
                    active: group.leads() && raft.commit_to_current_term(),
                },
            );
        }
        let mut shared = self
            .shared
            .statuses
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *shared = statuses;
    }
}

/// Roughly how many bytes a command has, encoded.
fn weight(command: &crate::command::Command) -> usize {
    use crate::command::Command;
    const FIXED: usize = 512;
    const CHUNK: usize = 128;
    match command {
        Command::PutObject(put) => {
            let inline = match &put.record.representation {
                holdfast_model::Representation::Inline { bytes, .. } => bytes.len(),
                holdfast_model::Representation::Chunked { .. } => 0,
            };
            FIXED + inline + put.chunks.len() * CHUNK
        }
        Command::AppendChunks { chunks, .. }
        | Command::SwapRepresentation { chunks, .. }
        | Command::AttachDerived { chunks, .. } => FIXED + (chunks.len() + 128) * CHUNK,
        Command::ReportMissing { fragments } => FIXED + fragments.len() * CHUNK,
        Command::CollectedGarbage { items } => FIXED + items.len() * CHUNK,
        _ => FIXED,
    }
}

fn apply_members(group: &mut Group, entry: &raft::eraftpb::Entry) -> Result<Members, String> {
    let change = wire::member_change(entry).map_err(|error| error.to_string())?;
    let change = wire::conf_change(&change).map_err(|error| error.to_string())?;
    let state = group
        .node
        .apply_conf_change(&change)
        .map_err(|error| error.to_string())?;
    let members = Members::from(&state);
    group.node.mut_store().set_members(members.clone());
    Ok(members)
}

async fn wait_written(
    writing: &mut Option<oneshot::Receiver<Result<Written, LogError>>>,
) -> Option<Result<Written, LogError>> {
    match writing {
        None => std::future::pending().await,
        Some(receiver) => {
            let written = receiver.await.ok();
            *writing = None;
            written
        }
    }
}
