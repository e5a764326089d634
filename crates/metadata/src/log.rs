//! The Raft log of all groups of a disk: one sequence of rounds, each one
//! record that is written and synced at once (group commit), in zeroed and
//! recycled files.
//!
//! A file begins with a [`Checkpoint`]: what every group had promised and how
//! far its log went when the file was begun. So every file before it may go as
//! soon as the state store has durably applied all that the checkpoint names.
//! What a group cannot apply is written again before it keeps too many files
//! ([`MAX_FILES`]).
//!
//! Invariants:
//! 1. A round is acknowledged only after its record is synced.
//! 2. Rounds are numbered without gaps; at most one is being written, so only
//!    the last record of the newest file can be torn. Anything else that is
//!    bad, or a log that ends before a sequence number that the state store
//!    has seen durable, is corruption, and opening fails.
//! 3. Records begin at multiples of 512 bytes, the unit that a disk writes
//!    whole, so that a torn record cannot damage the one before it.

mod files;
mod group;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use holdfast_model::GroupId;
use holdfast_runtime::Fatal;
use minicbor::{Decode, Encode};

pub use files::{Again, LOG_FILE_BYTES, LogFiles, LogSettings, MAX_FILES, Written};
pub use group::{GroupLog, Place, Tail, TailEntry};

use crate::wire::{WireEntry, WireHardState};

/// What a group adds to the log in a round.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct GroupRound {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// What it promises from now on.
    #[n(1)]
    pub hard: Option<WireHardState>,
    /// Its log begins anew after this index and term: a snapshot was installed.
    #[n(2)]
    pub reset: Option<LogEnd>,
    /// Entries; they replace those of the same and later indexes.
    #[n(3)]
    pub entries: Vec<WireEntry>,
    /// The group has left this disk.
    #[n(4)]
    pub removed: bool,
}

impl GroupRound {
    /// A round that says nothing yet.
    pub fn new(group: GroupId) -> Self {
        Self {
            group,
            hard: None,
            reset: None,
            entries: Vec::new(),
            removed: false,
        }
    }
}

/// Where a log ends, or begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct LogEnd {
    /// The index.
    #[n(0)]
    pub index: u64,
    /// The term of that index.
    #[n(1)]
    pub term: u64,
}

/// A record of kind [`ROUND_RECORD`].
#[derive(Clone, PartialEq, Debug, Default, Encode, Decode)]
pub struct Round {
    /// Each group that has something to say, once.
    #[n(0)]
    pub groups: Vec<GroupRound>,
}

/// A record of kind [`CHECKPOINT_RECORD`]: the first of each file.
#[derive(Clone, PartialEq, Debug, Default, Encode, Decode)]
pub struct Checkpoint {
    /// Each group's promise and the end of its log.
    #[n(0)]
    pub groups: BTreeMap<GroupId, (WireHardState, LogEnd)>,
}

/// The kind of a record that holds a [`Round`].
pub const ROUND_RECORD: u16 = 16;
/// The kind of a record that holds a [`Checkpoint`].
pub const CHECKPOINT_RECORD: u16 = 17;

/// Why the log could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error("the Raft log's disk: {0}")]
    Disk(#[from] std::io::Error),
    /// A record in the middle is bad.
    #[error(
        "the Raft log is corrupt in file {file} at byte {offset}: {reason}. This disk must not vote again: replace it as if it were empty"
    )]
    Corrupt {
        /// The file's number.
        file: u64,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Rounds are missing at the end.
    #[error(
        "the Raft log ends at round {found}, but round {known} was durable. This disk must not vote again: replace it as if it were empty"
    )]
    Shortened {
        /// The last round found.
        found: u64,
        /// A round known to have been durable.
        known: u64,
    },
    /// A round that is longer than a file.
    #[error("a round of {bytes} bytes does not fit into a log file")]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
}

impl LogError {
    /// What it comes to for the process.
    pub fn fatal(&self) -> Fatal {
        match self {
            // Nothing was asked of the disk yet.
            Self::TooLong { .. } => Fatal::broken("the Raft log", self),
            _ => Fatal::of_disk("the Raft log", self),
        }
    }
}
