//! Raft's messages and entries in our own format, on the wire and in the log.
//!
//! The library's protobuf types end here: nothing that comes from outside is
//! ever given to its decoder.

#![allow(
    clippy::field_reassign_with_default,
    reason = "the library's types have private fields"
)]

use bytes::Bytes;
use holdfast_model::record::shared_bytes;
use minicbor::{Decode, Encode};
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};

/// Why a message or an entry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not in our format.
    #[error("cannot read a Raft message: {0}")]
    Decode(#[from] minicbor::decode::Error),
    /// A number that stands for nothing.
    #[error("a Raft message has the unknown {what} {number}")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// Its value.
        number: i32,
    },
    /// A change of members that the library cannot have made.
    #[error("cannot read a change of members: {0}")]
    ConfChange(#[from] protobuf::ProtobufError),
}

/// An entry of a group's log.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct WireEntry {
    /// The term.
    #[n(0)]
    pub term: u64,
    /// The index.
    #[n(1)]
    pub index: u64,
    /// A batch of commands, encoded; empty for the entry that opens a term.
    #[cbor(n(2), with = "shared_bytes")]
    pub data: Bytes,
    /// A change of members, instead of data.
    #[n(3)]
    pub members: Option<MemberChange>,
}

/// A change of members, made at once or through a joint configuration.
#[derive(Clone, PartialEq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct MemberChange {
    /// Each change: what (0 add a voter, 1 remove, 2 add a learner) and whom.
    #[n(0)]
    pub changes: Vec<(u8, u64)>,
}

/// The members of a group.
#[derive(Clone, PartialEq, Debug, Default, Encode, Decode)]
pub struct Members {
    /// Who votes.
    #[n(0)]
    pub voters: Vec<u64>,
    /// Who only follows.
    #[n(1)]
    pub learners: Vec<u64>,
    /// Who voted before, during a joint configuration.
    #[n(2)]
    pub voters_outgoing: Vec<u64>,
    /// Who becomes a learner when it is left.
    #[n(3)]
    pub learners_next: Vec<u64>,
    /// Whether it is left by itself.
    #[n(4)]
    pub auto_leave: bool,
}

impl From<&ConfState> for Members {
    fn from(state: &ConfState) -> Self {
        Self {
            voters: state.voters.clone(),
            learners: state.learners.clone(),
            voters_outgoing: state.voters_outgoing.clone(),
            learners_next: state.learners_next.clone(),
            auto_leave: state.auto_leave,
        }
        .sorted()
    }
}

impl Members {
    /// The same members in the order of their numbers: Raft keeps them in sets
    /// without one, and replicas must have the same bytes.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.voters.sort_unstable();
        self.learners.sort_unstable();
        self.voters_outgoing.sort_unstable();
        self.learners_next.sort_unstable();
        self
    }
}

impl From<&Members> for ConfState {
    fn from(members: &Members) -> Self {
        let mut state = Self::default();
        state.voters.clone_from(&members.voters);
        state.learners.clone_from(&members.learners);
        state.voters_outgoing.clone_from(&members.voters_outgoing);
        state.learners_next.clone_from(&members.learners_next);
        state.auto_leave = members.auto_leave;
        state
    }
}

/// A group's promise: its term, its vote in it, and what is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct WireHardState {
    /// The term.
    #[n(0)]
    pub term: u64,
    /// For whom it voted; 0 for nobody.
    #[n(1)]
    pub vote: u64,
    /// The last index known to be committed.
    #[n(2)]
    pub commit: u64,
}

impl From<&HardState> for WireHardState {
    fn from(state: &HardState) -> Self {
        Self {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        }
    }
}

impl From<&WireHardState> for HardState {
    fn from(state: &WireHardState) -> Self {
        let mut hard = Self::default();
        hard.term = state.term;
        hard.vote = state.vote;
        hard.commit = state.commit;
        hard
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireSnapshot {
    #[n(0)]
    index: u64,
    #[n(1)]
    term: u64,
    #[n(2)]
    members: Members,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireMessage {
    #[n(0)]
    kind: i32,
    #[n(1)]
    to: u64,
    #[n(2)]
    from: u64,
    #[n(3)]
    term: u64,
    #[n(4)]
    log_term: u64,
    #[n(5)]
    index: u64,
    #[n(6)]
    entries: Vec<WireEntry>,
    #[n(7)]
    commit: u64,
    #[n(8)]
    commit_term: u64,
    #[n(9)]
    request_snapshot: u64,
    #[n(10)]
    reject: bool,
    #[n(11)]
    reject_hint: u64,
    #[cbor(n(12), with = "shared_bytes")]
    context: Bytes,
    #[n(13)]
    priority: i64,
    #[n(14)]
    snapshot: Option<WireSnapshot>,
}

/// What kinds of message another node may send. The others are this node's own
/// to itself; from outside they would make it propose or campaign.
fn from_outside(kind: MessageType) -> bool {
    !matches!(
        kind,
        MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
    )
}

/// Encodes a message.
pub fn encode_message(message: &Message) -> Result<Bytes, WireError> {
    let entries = message
        .entries
        .iter()
        .map(wire_entry)
        .collect::<Result<_, _>>()?;
    let snapshot = message.snapshot.as_ref().map(|snapshot| {
        let meta = snapshot.get_metadata();
        WireSnapshot {
            index: meta.index,
            term: meta.term,
            members: Members::from(meta.get_conf_state()),
        }
    });
    let wire = WireMessage {
        kind: message.msg_type as i32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries,
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context.clone(),
        priority: message.priority,
        snapshot,
    };
    Ok(crate::protocol::encode(&wire))
}

/// Decodes a message that came from another node.
pub fn decode_message(bytes: &[u8]) -> Result<Message, WireError> {
    let wire: WireMessage = minicbor::decode(bytes)?;
    let kind = protobuf::ProtobufEnum::from_i32(wire.kind)
        .filter(|kind| from_outside(*kind))
        .ok_or(WireError::Unknown {
            what: "kind",
            number: wire.kind,
        })?;
    let mut message = Message::default();
    message.msg_type = kind;
    message.to = wire.to;
    message.from = wire.from;
    message.term = wire.term;
    message.log_term = wire.log_term;
    message.index = wire.index;
    message.entries = wire
        .entries
        .iter()
        .map(raft_entry)
        .collect::<Result<Vec<_>, _>>()?
        .into();
    message.commit = wire.commit;
    message.commit_term = wire.commit_term;
    message.request_snapshot = wire.request_snapshot;
    message.reject = wire.reject;
    message.reject_hint = wire.reject_hint;
    message.context = wire.context;
    message.priority = wire.priority;
    if let Some(snapshot) = &wire.snapshot {
        message.set_snapshot(snapshot_of(
            snapshot.index,
            snapshot.term,
            &snapshot.members,
        ));
    }
    Ok(message)
}

/// A snapshot without data: the rows travel beside it.
pub fn snapshot_of(index: u64, term: u64, members: &Members) -> Snapshot {
    let mut meta = SnapshotMetadata::default();
    meta.index = index;
    meta.term = term;
    meta.set_conf_state(members.into());
    let mut snapshot = Snapshot::default();
    snapshot.set_metadata(meta);
    snapshot
}

/// An entry in our format.
pub fn wire_entry(entry: &Entry) -> Result<WireEntry, WireError> {
    let (data, members) = match entry.entry_type {
        EntryType::EntryNormal => (entry.data.clone(), None),
        _ => (Bytes::new(), Some(member_change(entry)?)),
    };
    Ok(WireEntry {
        term: entry.term,
        index: entry.index,
        data,
        members,
    })
}

/// An entry in the library's.
pub fn raft_entry(wire: &WireEntry) -> Result<Entry, WireError> {
    let mut entry = Entry::default();
    entry.term = wire.term;
    entry.index = wire.index;
    match &wire.members {
        None => entry.data = wire.data.clone(),
        Some(change) => {
            entry.entry_type = EntryType::EntryConfChangeV2;
            entry.data = conf_change(change)?.write_to_bytes()?.into();
        }
    }
    Ok(entry)
}

/// The change of members in an entry that the library made on this node.
pub fn member_change(entry: &Entry) -> Result<MemberChange, WireError> {
    let mut change = ConfChangeV2::default();
    change.merge_from_bytes(&entry.data)?;
    let changes = change
        .changes
        .iter()
        .map(|single| {
            let kind = match single.change_type {
                ConfChangeType::AddNode => 0,
                ConfChangeType::RemoveNode => 1,
                ConfChangeType::AddLearnerNode => 2,
            };
            (kind, single.node_id)
        })
        .collect();
    Ok(MemberChange { changes })
}

/// The library's form of a change of members.
pub fn conf_change(change: &MemberChange) -> Result<ConfChangeV2, WireError> {
    let mut all = ConfChangeV2::default();
    all.set_transition(ConfChangeTransition::Auto);
    for (kind, id) in &change.changes {
        let mut single = ConfChangeSingle::default();
        single.change_type = match kind {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::RemoveNode,
            2 => ConfChangeType::AddLearnerNode,
            _ => {
                return Err(WireError::Unknown {
                    what: "change",
                    number: i32::from(*kind),
                });
            }
        };
        single.node_id = *id;
        all.changes.push(single);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_back_whole() {
        let mut entry = Entry::default();
        (entry.term, entry.index, entry.data) = (3, 9, Bytes::from_static(b"batch"));
        let change = MemberChange {
            changes: vec![(2, 77), (0, 78), (1, 79)],
        };
        let members = raft_entry(&WireEntry {
            term: 3,
            index: 10,
            data: Bytes::new(),
            members: Some(change.clone()),
        })
        .unwrap();
        let mut message = Message::default();
        message.msg_type = MessageType::MsgAppend;
        (message.to, message.from, message.term, message.commit) = (1, 2, 3, 8);
        message.entries = vec![entry, members].into();
        message.context = Bytes::from_static(b"context");
        let back = decode_message(&encode_message(&message).unwrap()).unwrap();
        assert_eq!(back, message);
        assert_eq!(member_change(&back.entries[1]).unwrap(), change);
    }

    #[test]
    fn nobody_else_can_make_this_node_propose_or_campaign() {
        for kind in [
            MessageType::MsgHup,
            MessageType::MsgPropose,
            MessageType::MsgReadIndex,
        ] {
            let mut message = Message::default();
            message.msg_type = kind;
            let bytes = encode_message(&message).unwrap();
            assert!(decode_message(&bytes).is_err(), "{kind:?} was taken");
        }
    }
}
