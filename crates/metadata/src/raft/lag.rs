//! How far a member is behind what its group has committed, as far as leaders
//! have told it.
//!
//! A leader's append names all that is committed, also to a member that lacks
//! most of it; its heartbeat names no more than what that member has. So the
//! highest index that was ever announced is kept: what is committed stays so.
//! A member that nobody speaks to is not behind: it does not know of anything
//! that it lacks.

use std::fmt;

use raft::eraftpb::{Message, MessageType};

/// A member that has so many entries more to apply is far behind. A member that
/// is well is a few behind, each with many commands; a learner gets its vote
/// when it is as near as this.
pub const FAR_BEHIND_ENTRIES: u64 = 1_000;

/// How far a member is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lag {
    announced: u64,
    applied: u64,
    snapshot: bool,
}

impl Lag {
    /// Of a member that has applied so much of what leaders have announced as
    /// committed, and that takes in a snapshot or does not.
    pub fn of(announced: u64, applied: u64, snapshot: bool) -> Self {
        Self {
            announced,
            applied,
            snapshot,
        }
    }

    /// The same while a snapshot is being received.
    #[must_use]
    pub(super) fn receiving(self) -> Self {
        Self {
            snapshot: true,
            ..self
        }
    }

    /// Entries that were announced and are not applied.
    pub fn entries(&self) -> u64 {
        self.announced.saturating_sub(self.applied)
    }

    /// Whether the member is far behind: by more than [`FAR_BEHIND_ENTRIES`], or
    /// so far that it is sent a snapshot.
    pub fn is_far(&self) -> bool {
        self.snapshot || self.entries() > FAR_BEHIND_ENTRIES
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.snapshot {
            f.write_str("takes in a snapshot")
        } else {
            write!(f, "is {} entries behind", self.entries())
        }
    }
}

/// What a message announces as committed. Whoever sent it, in whichever term:
/// what was committed once stays so.
pub(super) fn announced(message: &Message) -> u64 {
    match message.get_msg_type() {
        MessageType::MsgAppend | MessageType::MsgHeartbeat => message.commit,
        MessageType::MsgSnapshot => message.get_snapshot().get_metadata().index,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_announce_what_is_committed_and_others_nothing() {
        let mut message = Message {
            commit: 7,
            ..Message::default()
        };
        message.mut_snapshot().mut_metadata().index = 9;
        for (kind, index) in [
            (MessageType::MsgAppend, 7),
            (MessageType::MsgHeartbeat, 7),
            (MessageType::MsgSnapshot, 9),
            (MessageType::MsgAppendResponse, 0),
            (MessageType::MsgRequestVote, 0),
        ] {
            message.set_msg_type(kind);
            assert_eq!(announced(&message), index, "{kind:?}");
        }
    }

    #[test]
    fn far_behind_is_more_than_a_thousand_entries_or_a_snapshot() {
        let lag = |announced, applied| Lag::of(announced, applied, false);
        assert!(!lag(1_500, 500).is_far());
        assert!(lag(1_500, 499).is_far());
        assert_eq!(lag(1_500, 499).to_string(), "is 1001 entries behind");
        assert!(!lag(0, 5_000).is_far(), "nobody has spoken to it");
        for near in [Lag::of(1_500, 1_500, true), lag(1_500, 1_500).receiving()] {
            assert!(near.is_far());
            assert_eq!(near.to_string(), "takes in a snapshot");
        }
    }
}
