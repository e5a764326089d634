//! Opening: what log and state hold becomes groups.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_model::GroupId;
use tokio::sync::mpsc;

use super::{
    Driver, Group, GroupsParts, Inbox, Reader, Replies, Stalls, StartError, Work, WritingAgain,
};
use crate::log::{GroupLog, LogEnd, LogFiles};
use crate::raft::applier;
use crate::raft::rounds::Rounds;
use crate::state;
use crate::store::Rows;

impl Driver {
    /// Opens log and state and makes the groups that they hold.
    pub(super) fn open(
        parts: GroupsParts,
        inbox: Inbox,
        work: mpsc::UnboundedSender<Work>,
    ) -> Result<Self, StartError> {
        let durable = applier::durable_sequence(&parts.store)?;
        let recovered = LogFiles::open(parts.disk.clone(), parts.log, durable)?;
        recovered.files.tell_points(parts.env.tasks.clone());
        let reader = Reader::start(
            parts.env.clone(),
            parts.store.clone(),
            parts.on_fatal.clone(),
            parts.shutdown.clone(),
        );
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
            durable: BTreeMap::new(),
            again: WritingAgain::default(),
            ticks: 0,
            leaving: BTreeSet::new(),
            told: 0,
            clock_off: parts.clock_off,
            handing_over: None,
            stalls: Stalls::default(),
            replies: Replies::default(),
            reader,
            turns: parts.pulse.part("the Raft loop"),
            writes: parts.pulse.part("the writer of the Raft log"),
            calls: parts.calls,
        };
        for (id, log) in recovered.groups {
            driver.open_group(id, Some(log))?;
        }
        driver.open_unlogged()?;
        Ok(driver)
    }

    /// Groups whose first rows were written, and whose first round was not: the
    /// crash came between. They have promised nothing yet. Others without a log
    /// have left this disk, or wait for their leader.
    pub(super) fn open_unlogged(&mut self) -> Result<(), StartError> {
        let view = self.store.snapshot()?;
        for id in view.groups()? {
            let newborn = view
                .group(id)
                .applied()?
                .is_some_and(|(index, _)| index == 1);
            if id.0 & applier::STAGED == 0 && newborn && !self.groups.contains_key(&id) {
                self.open_group(id, None)?;
            }
        }
        Ok(())
    }

    /// Has the log told where a group begins, before any entry follows: without
    /// it the next start would count entries from zero.
    fn note_begin(&mut self, id: GroupId) {
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
    pub(super) fn open_group(
        &mut self,
        id: GroupId,
        log: Option<GroupLog>,
    ) -> Result<(), StartError> {
        let view = self.store.snapshot()?;
        let rows = view.group(id);
        let (index, term) = rows.applied()?.unwrap_or_default();
        let applied = LogEnd { index, term };
        let mut unlogged = log.is_none();
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
            unlogged = true;
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
        group.led_at = self.ticks;
        group.preferred = self.prefers(id);
        self.groups.insert(id, group);
        if unlogged {
            self.note_begin(id);
        }
        Ok(())
    }

    /// Whether this disk is to lead a group when nobody does: leaders are
    /// spread over a group's members by its number.
    pub(super) fn prefers(&self, id: GroupId) -> bool {
        let Some(state) = self.shared.state() else {
            return false;
        };
        let Some(disks) = state.layout.groups.get(&id) else {
            return false;
        };
        disks.get(usize::from(id.0) % disks.len().max(1)) == Some(&self.identity.disk)
    }
}
