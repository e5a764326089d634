//! Writing again what old files hold for nobody but a group that stands still.
//!
//! A group without a majority keeps entries that it can neither apply nor drop,
//! and the file that holds them, and so all later ones of all groups. Past
//! [`MAX_FILES`] what such groups hold goes into the newest file once more: one
//! round, with for each group its promise, a reset to what the state store has
//! durably applied, and every entry after that. To who reads the log it is a
//! group that begins anew with the same entries, so that nothing before the
//! round is needed of it. Until the round is synced, what it repeats is where
//! it was; a round that a crash tears is as one that was never begun.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_blobs::record::HEAD_BYTES;
use holdfast_model::GroupId;

use super::{Inner, LogFiles, Written, corrupt, lock};
use crate::log::group::{Place, Tail};
use crate::log::{Checkpoint, GroupRound, LogEnd, LogError, Round};
use crate::wire::wire_entry;

/// Files past which what pins the oldest is written again. A node that is well
/// has half as many at most: the state is made durable every 16 MiB of entries.
pub const MAX_FILES: usize = 8;
/// What a round of groups has around them, at most.
const ROUND_BYTES: usize = 64;

/// What was written again, and where.
pub type Again = (Round, Written);

impl LogFiles {
    /// The groups but for which no more than [`MAX_FILES`] were needed, by what
    /// is durably applied of each.
    pub fn pinned_by(&self, applied: &BTreeMap<GroupId, u64>) -> BTreeSet<GroupId> {
        let inner = lock(&self.inner);
        let over = inner.files.len().saturating_sub(MAX_FILES);
        let begun = inner.files.iter().skip(1).take(over);
        begun
            .flat_map(|file| &file.begun_at)
            .filter(|(group, end)| !is_done(applied, **group, **end))
            .map(|(group, _)| *group)
            .collect()
    }

    /// Writes tails again, in one round: as many as fit into it, and none where
    /// none does. No file that they lie in may be freed meanwhile. Blocks.
    ///
    /// # Errors
    /// As [`LogFiles::write`].
    pub fn write_again(
        &self,
        tails: &[Tail],
        checkpoint: &Checkpoint,
    ) -> Result<Option<Again>, LogError> {
        let room = (self.settings.file_bytes / 2) as usize - HEAD_BYTES - ROUND_BYTES;
        let mut round = Round::default();
        let mut bytes = 0;
        for tail in tails {
            let part = self.read_tail(tail)?;
            let more = crate::protocol::encode(&part).len();
            if bytes + more <= room {
                bytes += more;
                round.groups.push(part);
            } else if bytes > 0 {
                break;
            } else {
                tracing::warn!(
                    group = %tail.group,
                    bytes = more,
                    "what a group has not applied is too long to be written again"
                );
            }
        }
        if round.groups.is_empty() {
            return Ok(None);
        }
        let written = self.write(&round, checkpoint)?;
        self.pass("log.written_again");
        Ok(Some((round, written)))
    }

    /// A group's part of a round that says all that there is to say of it.
    fn read_tail(&self, tail: &Tail) -> Result<GroupRound, LogError> {
        let mut part = GroupRound::new(tail.group);
        part.hard = Some(tail.hard);
        part.reset = Some(tail.begin);
        let mut read: Option<(Place, Round)> = None;
        for one in &tail.entries {
            let wrong = |reason: &str| corrupt(one.place.file, one.place.offset, reason);
            if let Some(entry) = &one.entry {
                let entry = wire_entry(entry).map_err(|error| wrong(&error.to_string()))?;
                part.entries.push(entry);
                continue;
            }
            let round = match read.take() {
                Some((place, round)) if place == one.place => round,
                _ => self.read_round(one.place)?,
            };
            let groups = round.groups.iter().filter(|part| part.group == tail.group);
            let found = groups
                .flat_map(|part| &part.entries)
                .find(|entry| (entry.index, entry.term) == (one.at.index, one.at.term));
            part.entries
                .push(found.ok_or_else(|| wrong("an entry is missing"))?.clone());
            read = Some((one.place, round));
        }
        Ok(part)
    }
}

/// Whether nothing up to `end` is needed of a group.
pub(super) fn is_done(applied: &BTreeMap<GroupId, u64>, group: GroupId, end: LogEnd) -> bool {
    applied.get(&group).is_none_or(|index| *index >= end.index)
}

/// A group that begins anew in a round needs nothing of what was written before,
/// once the state has what comes before its beginning.
pub(super) fn note_resets(inner: &mut Inner, round: &Round) {
    for part in &round.groups {
        let Some(begin) = part.reset else { continue };
        for file in &mut inner.files {
            if let Some(end) = file.begun_at.get_mut(&part.group) {
                *end = begin;
            }
        }
    }
}
