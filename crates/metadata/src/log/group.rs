//! One group's part of the log, as Raft reads it.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::files::LogFiles;
use super::{GroupRound, LogEnd};
use crate::wire::{Members, WireHardState, raft_entry, snapshot_of};
use holdfast_model::GroupId;

/// Where an entry's record lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file's number.
    pub file: u64,
    /// Where the record begins.
    pub offset: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    term: u64,
    /// The entry, while it is kept in memory.
    entry: Option<Entry>,
    /// Its record, once it is written.
    place: Option<Place>,
}

/// What a log holds after some entry, to be written again.
#[derive(Debug)]
pub struct Tail {
    /// The group.
    pub group: GroupId,
    /// What it has promised.
    pub hard: WireHardState,
    /// The entry before the first.
    pub begin: LogEnd,
    /// The entries, in order.
    pub entries: Vec<TailEntry>,
}

/// An entry of a [`Tail`].
#[derive(Debug)]
pub struct TailEntry {
    /// Its index and term.
    pub at: LogEnd,
    /// The entry itself, if it is in memory.
    pub entry: Option<Entry>,
    /// The record that holds it.
    pub place: Place,
}

/// The log of one group: its recent entries in memory, the others by the place
/// of their record.
pub struct GroupLog {
    group: GroupId,
    files: Arc<LogFiles>,
    hard: WireHardState,
    /// The entry before the first.
    begin: LogEnd,
    slots: VecDeque<Slot>,
    members: Members,
    /// What a snapshot made now would be of.
    applied: LogEnd,
    /// The last entry that a record holds.
    recorded: LogEnd,
    /// Entries in memory, of which the oldest are dropped first.
    cached_from: u64,
}

/// How many entries of a group stay in memory, if they are written.
const CACHED_ENTRIES: u64 = 64;

impl GroupLog {
    /// The empty log of a group that begins after `begin`.
    pub fn new(group: GroupId, files: Arc<LogFiles>, begin: LogEnd) -> Self {
        Self {
            group,
            files,
            hard: WireHardState::default(),
            begin,
            slots: VecDeque::new(),
            members: Members::default(),
            applied: begin,
            recorded: begin,
            cached_from: begin.index + 1,
        }
    }

    /// The entry before the first.
    pub fn begin(&self) -> LogEnd {
        self.begin
    }

    /// The last entry, or where the log begins.
    pub fn end(&self) -> LogEnd {
        match self.slots.back() {
            Some(slot) => LogEnd {
                index: self.begin.index + self.slots.len() as u64,
                term: slot.term,
            },
            None => self.begin,
        }
    }

    /// The last entry that is written, which lags behind [`Self::end`].
    pub fn recorded(&self) -> LogEnd {
        self.recorded
    }

    /// What the group has promised.
    pub fn hard(&self) -> WireHardState {
        self.hard
    }

    /// Sets the promise; durable once its round is.
    pub fn set_hard(&mut self, hard: WireHardState) {
        self.hard = hard;
    }

    /// The members as of what is applied.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Sets the members.
    pub fn set_members(&mut self, members: Members) {
        self.members = members;
    }

    /// Says how far the state is.
    pub fn set_applied(&mut self, applied: LogEnd) {
        self.applied = applied;
    }

    /// Where the term of an index is known.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.begin.index {
            return Some(self.begin.term);
        }
        let at = index.checked_sub(self.begin.index + 1)?;
        self.slots.get(at as usize).map(|slot| slot.term)
    }

    /// Adds entries, which replace those of the same and later indexes.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.begin.index + 1) as usize;
        self.slots.truncate(keep);
        for entry in entries {
            self.slots.push_back(Slot {
                term: entry.term,
                entry: Some(entry.clone()),
                place: None,
            });
        }
        self.cached_from = self.cached_from.min(first.index);
    }

    /// Replays what a record says of this group.
    pub(super) fn replay(&mut self, round: &GroupRound, place: Place) {
        if let Some(hard) = round.hard {
            self.hard = hard;
        }
        if let Some(reset) = round.reset {
            self.reset(reset);
        }
        for entry in &round.entries {
            if entry.index < self.begin.index {
                continue;
            }
            if entry.index == self.begin.index {
                // Replaced an entry that was the last when the file was begun.
                self.begin.term = entry.term;
                self.slots.clear();
                continue;
            }
            let keep = (entry.index - self.begin.index - 1) as usize;
            self.slots.truncate(keep);
            self.slots.push_back(Slot {
                term: entry.term,
                entry: None,
                place: Some(place),
            });
        }
        self.cached_from = self.end().index + 1;
        self.recorded = self.end();
    }

    /// Says where entries of a round were written, and lets older ones leave
    /// memory.
    pub fn written(&mut self, round: &GroupRound, place: Place) {
        for entry in &round.entries {
            let Some(at) = entry.index.checked_sub(self.begin.index + 1) else {
                continue;
            };
            if let Some(slot) = self.slots.get_mut(at as usize)
                && slot.term == entry.term
            {
                slot.place = Some(place);
            }
        }
        if let Some(last) = round.entries.last() {
            self.recorded = LogEnd {
                index: last.index,
                term: last.term,
            };
        }
        let keep_from = self.end().index.saturating_sub(CACHED_ENTRIES);
        while self.cached_from <= keep_from {
            let at = self.cached_from.saturating_sub(self.begin.index + 1) as usize;
            match self.slots.get_mut(at) {
                // What is not applied yet will be read soon.
                Some(slot) if slot.place.is_some() && self.cached_from <= self.applied.index => {
                    slot.entry = None;
                }
                _ => break,
            }
            self.cached_from += 1;
        }
    }

    /// What the log holds after entry `after`; none while it has something that
    /// no record holds yet.
    pub fn tail(&self, after: u64) -> Option<Tail> {
        if self.recorded != self.end() {
            return None;
        }
        let index = after.max(self.begin.index);
        let begin = LogEnd {
            index,
            term: self.term_of(index)?,
        };
        let slots = self.slots.iter().zip(self.begin.index + 1..);
        let entries = slots
            .filter(|(_, at)| *at > index)
            .map(|(slot, index)| {
                let at = LogEnd {
                    index,
                    term: slot.term,
                };
                Some(TailEntry {
                    at,
                    entry: slot.entry.clone(),
                    place: slot.place?,
                })
            })
            .collect::<Option<_>>()?;
        Some(Tail {
            group: self.group,
            hard: self.hard,
            begin,
            entries,
        })
    }

    /// Says where entries were written again.
    pub fn moved(&mut self, round: &GroupRound, place: Place) {
        for entry in &round.entries {
            let at = entry.index.checked_sub(self.begin.index + 1);
            let slot = at.and_then(|at| self.slots.get_mut(at as usize));
            // Another leader may have replaced it meanwhile.
            if let Some(slot) = slot.filter(|slot| slot.term == entry.term) {
                slot.place = Some(place);
            }
        }
    }

    /// Forgets the entries up to `end`.
    pub fn purge(&mut self, end: LogEnd) {
        if end.index <= self.begin.index {
            return;
        }
        let gone = (end.index - self.begin.index).min(self.slots.len() as u64);
        let term = self.term_of(end.index).unwrap_or(end.term);
        self.slots.drain(..gone as usize);
        self.begin = LogEnd {
            index: end.index,
            term,
        };
        self.cached_from = self.cached_from.max(end.index + 1);
    }

    /// Begins anew after `end`: a snapshot was installed.
    pub fn reset(&mut self, end: LogEnd) {
        self.slots.clear();
        self.begin = end;
        self.recorded = end;
        self.cached_from = end.index + 1;
        if self.applied.index < end.index {
            self.applied = end;
        }
        self.hard.commit = self.hard.commit.max(end.index);
    }

    fn entry(&self, index: u64) -> raft::Result<Entry> {
        let slot = index
            .checked_sub(self.begin.index + 1)
            .and_then(|at| self.slots.get(at as usize))
            .ok_or(raft::Error::Store(StorageError::Unavailable))?;
        if let Some(entry) = &slot.entry {
            return Ok(entry.clone());
        }
        let place = slot
            .place
            .ok_or(raft::Error::Store(StorageError::Unavailable))?;
        let other = |error: Box<dyn std::error::Error + Send + Sync>| {
            raft::Error::Store(StorageError::Other(error))
        };
        let round = self
            .files
            .read_round(place)
            .map_err(|error| other(Box::new(error)))?;
        let found = round
            .groups
            .iter()
            .filter(|part| part.group == self.group)
            .flat_map(|part| &part.entries)
            .find(|entry| entry.index == index && entry.term == slot.term)
            .ok_or(raft::Error::Store(StorageError::Unavailable))?;
        raft_entry(found).map_err(|error| other(Box::new(error)))
    }
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            HardState::from(&self.hard),
            ConfState::from(&self.members),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.begin.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut entries: Vec<Entry> = Vec::new();
        let mut size = 0u64;
        for index in low..high {
            let entry = self.entry(index)?;
            size += entry.data.len() as u64 + 32;
            if size > max_size && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.begin.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.term_of(index)
            .ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.begin.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.end().index)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<raft::eraftpb::Snapshot> {
        if self.applied.index < request_index {
            return Err(raft::Error::Store(
                StorageError::SnapshotTemporarilyUnavailable,
            ));
        }
        Ok(snapshot_of(
            self.applied.index,
            self.applied.term,
            &self.members,
        ))
    }
}
