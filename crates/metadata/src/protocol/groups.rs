//! Calls about metadata groups: messages between members, commands,
//! queries, births, members and backups.

use bytes::Bytes;
use holdfast_model::{ClusterId, ClusterState, DiskId, Epoch, GroupId, RequestId, Timestamp};
use minicbor::{Decode, Encode};

use crate::command::Command;
use crate::query::Query;

/// Raft messages of many groups between two disks.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct RaftBatch {
    /// The cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// Whose messages they are.
    #[n(1)]
    pub from: DiskId,
    /// For whom.
    #[n(2)]
    pub to: DiskId,
    /// How often the sender has been started: peers remember the highest, and
    /// a lower one is an older copy of the disk.
    #[n(3)]
    pub incarnation: u64,
    /// The sender's wall clock.
    #[n(4)]
    pub sent: Timestamp,
    /// The messages.
    #[n(5)]
    pub messages: Vec<GroupMessage>,
    /// The sum of what the sender knows of starts; `None` from older releases.
    #[n(6)]
    pub knows: Option<u64>,
    /// What the sender knows of starts, where the receiver may not know all of it.
    #[n(7)]
    #[cbor(default)]
    pub starts: Vec<DiskStart>,
}

/// How often a disk has been started, as far as somebody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct DiskStart {
    /// Raft's number of the disk.
    #[n(0)]
    pub member: u64,
    /// The number of its newest start.
    #[n(1)]
    pub incarnation: u64,
}

/// A Raft message of a group.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct GroupMessage {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// The message, in the format of the `wire` module of this crate.
    #[cbor(n(1), with = "holdfast_model::record::shared_bytes")]
    pub message: Bytes,
}

/// The messages are taken in.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct RaftAnswer {
    /// The receiver's wall clock.
    #[n(0)]
    pub received: Timestamp,
    /// How often the receiver's disk has been started.
    #[n(1)]
    pub incarnation: u64,
    /// What the receiver has to say to the sender at once.
    #[n(2)]
    pub messages: Vec<GroupMessage>,
    /// What the receiver knows of starts, where the sender's sum is another.
    #[n(3)]
    #[cbor(default)]
    pub starts: Vec<DiskStart>,
}

/// Proposes a command.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct ProposeRequest {
    /// To which group.
    #[n(0)]
    pub group: GroupId,
    /// Its identity.
    #[n(1)]
    pub id: RequestId,
    /// The command.
    #[n(2)]
    pub command: Command,
}

/// Asks a query.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct QueryRequest {
    /// Of which group.
    #[n(0)]
    pub group: GroupId,
    /// The query.
    #[n(1)]
    pub query: Query,
}

/// Founds a cluster. Idempotent; refused by a node that belongs to another.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Bootstrap {
    /// The cluster's first state, the same on every member: group members,
    /// slots, nodes, the first credential, the bucket of files.
    #[n(0)]
    pub state: ClusterState,
}

/// Changes who carries a group, one step at a time.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct MembersRequest {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// The layout that demands it; an older one than the leader knows is refused.
    #[n(1)]
    pub epoch: Epoch,
    /// The step.
    #[n(2)]
    pub step: MemberStep,
    /// Raft's numbers of the voters that the step was planned for, rising;
    /// refused when the group has others. `None` from older releases.
    #[n(3)]
    pub voters: Option<Vec<u64>>,
}

/// A step of a change of members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum MemberStep {
    /// Lets a disk follow without a vote.
    #[n(0)]
    AddLearner(#[n(0)] DiskId),
    /// Gives a learner its vote and takes that of another, in one change.
    #[n(1)]
    Swap {
        /// The learner.
        #[n(0)]
        add: DiskId,
        /// The member that goes.
        #[n(1)]
        remove: Option<DiskId>,
    },
    /// Takes a member away.
    #[n(2)]
    Remove(#[n(0)] DiskId),
}

/// Asks a leader to hand over.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct TransferRequest {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// To whom; to anybody where none is named.
    #[n(1)]
    pub to: Option<DiskId>,
}

/// Asks for the rows of a group, as of one moment.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct BackupRequest {
    /// The group.
    #[n(0)]
    pub group: GroupId,
}

/// The rows follow: each the lengths (4 bytes, big-endian) of key and value,
/// then those, without the group's prefix.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct BackupHead {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// The index that the rows are of.
    #[n(1)]
    pub applied: u64,
    /// The term of that index.
    #[n(2)]
    pub term: u64,
}
