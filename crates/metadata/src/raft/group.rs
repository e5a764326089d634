//! One group as the driver runs it: Raft's state, the commands that wait to be
//! proposed or applied, the queries that wait for a read index.

use std::collections::{BTreeMap, VecDeque};

use holdfast_model::{DiskId, GroupId, Timestamp};
use raft::eraftpb::Message;
use raft::{Config, RawNode, ReadOnlyOption, StateRole};

use super::Answerer;
use super::lag;
use super::timing::{
    self, HEARTBEAT_TICKS, MAX_ELECTION_TICKS, MIN_ELECTION_TICKS, QUERY_TICKS, READ_ROUND_TICKS,
    SILENT_TICKS,
};
use crate::command::{Batch, Outcome, Request};
use crate::log::{GroupLog, LogEnd};
use crate::protocol::NodeError;
use crate::query::{Answer, Query, Totals};

/// Entries of a group that may be on their way: with two, the next batch
/// gathers while one is being synced and one is being acknowledged.
const MAX_PROPOSED: usize = 4;
/// Commands in one entry.
const MAX_BATCH_COMMANDS: usize = 256;
/// Bytes of commands in one entry.
const MAX_BATCH_BYTES: usize = 2 << 20;
/// Bytes of entries in one message.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;

/// A command that waits to be proposed.
pub(super) struct Command {
    pub request: Request,
    pub bytes: usize,
    pub answer: Answerer<Outcome>,
}

struct Proposed {
    at: LogEnd,
    answers: Vec<Answerer<Outcome>>,
}

/// A query that waits.
pub(super) struct Reading {
    pub query: Query,
    pub answer: Answerer<Answer>,
    /// When it came, in ticks.
    pub since: u64,
}

struct ReadRound {
    context: u64,
    since: u64,
    readings: Vec<Reading>,
    /// The index that a majority confirmed.
    index: Option<u64>,
}

/// One group.
pub(super) struct Group {
    pub id: GroupId,
    disk: DiskId,
    pub node: RawNode<GroupLog>,
    pub commands: VecDeque<Command>,
    proposed: VecDeque<Proposed>,
    readings: Vec<Reading>,
    rounds: VecDeque<ReadRound>,
    next_context: u64,
    /// What the state store has applied.
    pub applied: LogEnd,
    /// What the state store had durably applied when the group was opened.
    pub found: u64,
    /// What was handed to the applier.
    pub handed: u64,
    /// A snapshot is being installed: Raft is not asked for more until it is.
    pub installing: Option<u64>,
    /// Who staged the rows that are being installed.
    pub staged: Option<Answerer<()>>,
    pub totals: Totals,
    pub tasks_due: u64,
    /// Whether a tick command is on its way.
    pub ticking: bool,
    role: (StateRole, u64),
    /// When each other member was last heard, in ticks.
    heard: BTreeMap<u64, u64>,
    /// The highest index that a leader has announced as committed.
    pub announced: u64,
    /// The tick at which it was last seen to have a leader.
    pub led_at: u64,
    /// Whether this member stands for election at once after a start.
    pub preferred: bool,
}

impl Group {
    pub(super) fn new(
        id: GroupId,
        disk: DiskId,
        log: GroupLog,
        applied: LogEnd,
    ) -> raft::Result<Self> {
        let config = Config {
            id: disk.raft_id(),
            election_tick: MIN_ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            min_election_tick: MIN_ELECTION_TICKS,
            max_election_tick: MAX_ELECTION_TICKS,
            applied: applied.index,
            max_size_per_msg: MAX_MESSAGE_BYTES,
            max_inflight_msgs: 8,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: true,
            max_uncommitted_size: 16 << 20,
            max_committed_size_per_ready: 16 << 20,
            ..Config::default()
        };
        let quiet = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, log, &quiet)?;
        let mut group = Self {
            id,
            disk,
            node,
            commands: VecDeque::new(),
            proposed: VecDeque::new(),
            readings: Vec::new(),
            rounds: VecDeque::new(),
            next_context: 1,
            applied,
            found: applied.index,
            handed: applied.index,
            installing: None,
            staged: None,
            totals: Totals::default(),
            tasks_due: 0,
            ticking: false,
            role: (StateRole::Follower, 0),
            heard: BTreeMap::new(),
            announced: 0,
            led_at: 0,
            preferred: false,
        };
        group.pin_timeout();
        Ok(group)
    }

    /// Replaces the library's random time-out by ours.
    pub(super) fn pin_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let ticks = timing::election_ticks(self.disk, self.id, raft.term, raft.state);
        raft.set_randomized_election_timeout(ticks);
    }

    pub(super) fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub(super) fn leader(&self) -> u64 {
        self.node.raft.leader_id
    }

    pub(super) fn tick(&mut self) {
        if self.installing.is_some() {
            return;
        }
        self.node.tick();
        self.pin_timeout();
    }

    /// Stands for election at once, if it may be elected: the library would let
    /// one stand that is no member any more, and panic when it wins.
    pub(super) fn campaign(&mut self) {
        if self.installing.is_some() || !self.node.raft.promotable() {
            return;
        }
        if let Err(error) = self.node.campaign() {
            tracing::debug!(group = %self.id, %error, "cannot stand for election");
        }
        self.pin_timeout();
    }

    pub(super) fn step(&mut self, message: Message, now: u64) {
        self.heard.insert(message.from, now);
        self.announced = self.announced.max(lag::announced(&message));
        if self.installing.is_some() {
            // Between two states there is nothing to answer from; Raft sends again.
            return;
        }
        if let Err(error) = self.node.step(message) {
            tracing::debug!(group = %self.id, %error, "a message was refused");
        }
        self.pin_timeout();
    }

    /// Whether a majority has been heard lately, this member among them.
    pub(super) fn hears_majority(&self, now: u64) -> bool {
        let own = self.disk.raft_id();
        let lately = |peer: u64| {
            let at = self.heard.get(&peer);
            peer == own || at.is_some_and(|at| now.saturating_sub(*at) <= SILENT_TICKS)
        };
        let voters = self.node.raft.prs().conf().voters().clone();
        voters.contains(own)
            && voters.ids().iter().filter(|peer| lately(*peer)).count() * 2 > voters.ids().len()
    }

    /// A leader that is alone tells those who wait, and goes on trying.
    pub(super) fn tell_if_alone(&mut self, now: u64) {
        if self.leads() && !self.hears_majority(now) {
            self.answer_all(NodeError::NotLeader { leader: None });
        }
    }

    /// Takes a command, or says at once that this is not the place.
    pub(super) fn take_command(&mut self, command: Command, now: u64, leader: Option<DiskId>) {
        if self.leads() && !self.hears_majority(now) {
            // Not taken: nothing of it can come true later.
            let _ = command
                .answer
                .send(Err(NodeError::NotLeader { leader: None }));
        } else if self.leads() {
            self.commands.push_back(command);
        } else {
            // The asker may have gone.
            let _ = command.answer.send(Err(NodeError::NotLeader { leader }));
        }
    }

    /// Takes a query.
    pub(super) fn take_query(
        &mut self,
        query: Query,
        answer: Answerer<Answer>,
        now: u64,
        leader: Option<DiskId>,
    ) {
        if self.leads() {
            self.readings.push(Reading {
                query,
                answer,
                since: now,
            });
        } else {
            let _ = answer.send(Err(NodeError::NotLeader { leader }));
        }
    }

    /// Turns the commands that wait into entries.
    pub(super) fn propose(&mut self, now: Timestamp) {
        while self.leads() && !self.commands.is_empty() && self.proposed.len() < MAX_PROPOSED {
            let mut batch = Batch {
                time: now,
                commands: Vec::new(),
            };
            let mut answers = Vec::new();
            let mut bytes = 0;
            while let Some(next) = self.commands.front() {
                let full = batch.commands.len() >= MAX_BATCH_COMMANDS
                    || bytes + next.bytes > MAX_BATCH_BYTES;
                if full && !batch.commands.is_empty() {
                    break;
                }
                let Some(command) = self.commands.pop_front() else {
                    break;
                };
                bytes += command.bytes;
                batch.commands.push(command.request);
                answers.push(command.answer);
            }
            let data = crate::protocol::encode(&batch);
            match self.node.propose(Vec::new(), data.to_vec()) {
                Ok(()) => {
                    let at = LogEnd {
                        index: self.node.raft.raft_log.last_index(),
                        term: self.node.raft.term,
                    };
                    self.proposed.push_back(Proposed { at, answers });
                }
                // Leadership is being handed over: it was not taken.
                Err(error) => {
                    tracing::debug!(group = %self.id, %error, "a proposal was dropped");
                    for answer in answers {
                        let _ = answer.send(Err(NodeError::NotLeader { leader: None }));
                    }
                }
            }
        }
    }

    /// Answers the commands of an entry that was applied.
    pub(super) fn answer(&mut self, at: LogEnd, outcomes: Vec<Outcome>) {
        while let Some(first) = self.proposed.front() {
            if first.at.index > at.index {
                return;
            }
            let Some(proposed) = self.proposed.pop_front() else {
                return;
            };
            if proposed.at == at {
                for (answer, outcome) in proposed.answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
                return;
            }
            // Another leader's entry took its place.
            for answer in proposed.answers {
                let _ = answer.send(Err(NodeError::NoQuorum));
            }
        }
    }

    /// Begins a read round for the queries that wait, if none is being confirmed.
    pub(super) fn begin_reads(&mut self, now: u64) {
        if self.readings.is_empty() || !self.leads() || !self.node.raft.commit_to_current_term() {
            return;
        }
        let confirming = self.rounds.back().is_some_and(|round| {
            round.index.is_none() && now.saturating_sub(round.since) < READ_ROUND_TICKS
        });
        if confirming {
            return;
        }
        let context = self.next_context;
        self.next_context += 1;
        let mut readings = std::mem::take(&mut self.readings);
        // A round that was not confirmed in time is begun anew with these.
        if let Some(stuck) = self.rounds.pop_back_if(|round| round.index.is_none()) {
            readings.extend(stuck.readings);
        }
        self.node.read_index(context.to_be_bytes().to_vec());
        self.rounds.push_back(ReadRound {
            context,
            since: now,
            readings,
            index: None,
        });
    }

    /// A majority has confirmed a round.
    pub(super) fn confirm_reads(&mut self, context: &[u8], index: u64) {
        let Ok(context) = <[u8; 8]>::try_from(context).map(u64::from_be_bytes) else {
            return;
        };
        for round in &mut self.rounds {
            if round.context <= context && round.index.is_none() {
                round.index = Some(index);
            }
        }
    }

    /// Queries that may be answered from the state as it is applied now.
    pub(super) fn ready_reads(&mut self) -> Vec<Reading> {
        let mut ready = Vec::new();
        let applied = self.applied.index;
        while let Some(round) = self
            .rounds
            .pop_front_if(|round| round.index.is_some_and(|index| index <= applied))
        {
            ready.extend(round.readings);
        }
        ready
    }

    /// Gives up queries that have waited too long.
    pub(super) fn expire_reads(&mut self, now: u64) {
        let late = |reading: &Reading| now.saturating_sub(reading.since) >= QUERY_TICKS;
        let mut expired = Vec::new();
        for list in self
            .rounds
            .iter_mut()
            .map(|round| &mut round.readings)
            .chain(std::iter::once(&mut self.readings))
        {
            expired.extend(list.extract_if(.., |reading| late(reading)));
        }
        for reading in expired {
            let _ = reading.answer.send(Err(NodeError::NoQuorum));
        }
    }

    /// Notes a change of role or term; whoever waited on the old one is told.
    /// Says whether there was one.
    pub(super) fn notice_role(&mut self, leader: Option<DiskId>) -> bool {
        let role = (self.node.raft.state, self.node.raft.term);
        if role == self.role {
            return false;
        }
        let led = self.role.0 == StateRole::Leader;
        self.role = role;
        if led {
            self.step_down(leader);
        }
        true
    }

    fn step_down(&mut self, leader: Option<DiskId>) {
        self.ticking = false;
        self.answer_all(NodeError::NotLeader { leader });
        self.proposed.clear();
    }

    /// Answers whoever waits with an error; those whose command is on its way
    /// with one that leaves open what becomes of it.
    fn answer_all(&mut self, error: NodeError) {
        for command in self.commands.drain(..) {
            let _ = command.answer.send(Err(error.clone()));
        }
        for proposed in &mut self.proposed {
            for answer in proposed.answers.drain(..) {
                // It may be committed yet: the same request id tells.
                let _ = answer.send(Err(NodeError::NoQuorum));
            }
        }
        let rounds = self.rounds.drain(..).flat_map(|round| round.readings);
        for reading in rounds.chain(self.readings.drain(..)) {
            let _ = reading.answer.send(Err(error.clone()));
        }
    }
}
