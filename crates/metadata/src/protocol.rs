//! How storage nodes are called: the paths, and the types of their heads.
//!
//! Every answer's head is a [`Result`] of the path's answer type and a
//! [`NodeError`], encoded with [`encode_result`]; every request's is encoded
//! with [`encode`].

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_model::ids::{
    BucketId, ClusterId, DiskId, Epoch, Generation, GroupId, NodeId, RequestId, Timestamp,
};
use holdfast_model::{ClusterState, FragmentHeader, FragmentId, ObjectKey, Redundancy};
use minicbor::{Decode, Encode};

use crate::command::Command;
use crate::query::{Query, Totals};

/// The version of this protocol that a node speaks.
pub const WIRE_VERSION: u32 = 1;

/// [`UploadRequest`], then blocks; answers [`Uploaded`].
pub const UPLOAD: &str = "/upload";
/// [`DownloadRequest`]; answers [`Download`], then blocks.
pub const DOWNLOAD: &str = "/download";
/// [`FragmentIds`]; answers [`Deleted`].
pub const DELETE: &str = "/delete";
/// [`FilesRequest`]; answers [`Files`].
pub const FILES: &str = "/files";
/// [`RaftBatch`]; answers [`RaftAnswer`] once its messages are in the inbox.
pub const RAFT: &str = "/v1/raft";
/// A snapshot's message, then its rows; answers `()`.
pub const SNAPSHOT: &str = "/v1/snapshot";
/// [`ProposeRequest`]; answers [`Outcome`](crate::command::Outcome).
pub const PROPOSE: &str = "/v1/propose";
/// [`QueryRequest`]; answers [`Answer`](crate::query::Answer).
pub const QUERY: &str = "/v1/query";
/// `()`; answers [`Status`].
pub const STATUS: &str = "/v1/status";
/// [`Bootstrap`]; answers `()`.
pub const BOOTSTRAP: &str = "/v1/bootstrap";
/// [`MembersRequest`]; answers `()`.
pub const MEMBERS: &str = "/v1/members";
/// [`TransferRequest`]; answers `()`.
pub const TRANSFER: &str = "/v1/transfer";
/// [`BackupRequest`]; answers [`BackupHead`], then rows.
pub const BACKUP: &str = "/v1/backup";

/// Encodes a head.
pub fn encode<T: Encode<()>>(value: &T) -> Bytes {
    let mut buffer = Vec::new();
    // Writing to memory cannot fail.
    let _ = minicbor::encode(value, &mut buffer);
    buffer.into()
}

/// Reads a head. Strict: bytes after it are an error.
///
/// # Errors
/// When the bytes are not exactly one `T`.
pub fn decode<'b, T: Decode<'b, ()>>(head: &'b [u8]) -> Result<T, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(head);
    let value = decoder.decode()?;
    if decoder.position() != head.len() {
        return Err(minicbor::decode::Error::message("bytes after the head"));
    }
    Ok(value)
}

/// Encodes an answer's head: an array of 0 and the answer, or of 1 and the error.
pub fn encode_result<T: Encode<()>>(result: &Result<T, NodeError>) -> Bytes {
    encode(result)
}

/// Reads an answer's head, as [`encode_result`] writes it.
///
/// # Errors
/// When the bytes are no such head.
pub fn decode_result<'b, T: Decode<'b, ()>>(
    head: &'b [u8],
) -> Result<Result<T, NodeError>, minicbor::decode::Error> {
    decode(head)
}

/// Why a node did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, thiserror::Error)]
pub enum NodeError {
    /// Another disk leads the group, if it is known which.
    #[error("not the leader")]
    #[n(0)]
    NotLeader {
        /// The leader's disk.
        #[n(0)]
        leader: Option<DiskId>,
    },
    /// The node does not carry the group.
    #[error("the group is not here")]
    #[n(1)]
    NoSuchGroup,
    /// Leadership could not be confirmed, or was lost before the command was
    /// committed: it may or may not be done. The same request id tells.
    #[error("no quorum")]
    #[n(2)]
    NoQuorum,
    /// Too much is waiting.
    #[error("busy")]
    #[n(3)]
    Busy {
        /// When to come again.
        #[n(0)]
        retry_after_millis: u64,
    },
    /// The disk is full, down to its reserve.
    #[error("the disk is full")]
    #[n(4)]
    DiskFull,
    /// The disk has failed; the node is ending.
    #[error("the disk has failed")]
    #[n(5)]
    DiskFailed,
    /// No such fragment.
    #[error("there is no such fragment")]
    #[n(6)]
    NoSuchFragment,
    /// The fragment is there and cannot be read.
    #[error("the fragment is corrupt")]
    #[n(7)]
    Corrupt,
    /// The node belongs to no cluster yet.
    #[error("the node belongs to no cluster yet")]
    #[n(8)]
    NotBorn,
    /// The call is meant for another cluster, node or disk.
    #[error("meant for another: {0}")]
    #[n(9)]
    Mistaken(#[n(0)] String),
    /// The call makes no sense.
    #[error("{0}")]
    #[n(10)]
    Invalid(#[n(0)] String),
    /// The node is shutting down.
    #[error("shutting down")]
    #[n(11)]
    ShuttingDown,
    /// The bytes do not have the checksum they came with.
    #[error("the bytes were damaged on the way")]
    #[n(12)]
    Damaged,
}

/// Stores a fragment. The body is blocks: each the length (4 bytes,
/// big-endian) and CRC-32C (4 bytes) of up to [`BLOCK_BYTES`], then those.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct UploadRequest {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The fragment.
    #[n(1)]
    pub header: FragmentHeader,
    /// The most bytes it may have: so much is reserved.
    #[n(2)]
    pub max_bytes: u64,
    /// The object's key, for the closing record.
    #[n(3)]
    pub key: Option<ObjectKey>,
    /// The object's expiry, for the closing record.
    #[n(4)]
    pub expires: Option<Timestamp>,
}

/// Bytes of a block: the unit that is checksummed on disk and on the way.
pub const BLOCK_BYTES: usize = 64 << 10;

/// A fragment is durable.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Uploaded {
    /// Its bytes.
    #[n(0)]
    pub bytes: u64,
}

/// Reads a fragment.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct DownloadRequest {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The fragment.
    #[n(1)]
    pub id: FragmentId,
    /// The first byte wanted; the answer begins at the block that holds it.
    #[n(2)]
    pub first: u64,
    /// The byte after the last one wanted; the answer ends with the block that
    /// holds the last.
    #[n(3)]
    pub end: u64,
}

/// A fragment, or a part of it, follows as blocks, as in [`UploadRequest`].
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Download {
    /// The whole fragment's bytes.
    #[n(0)]
    pub bytes: u64,
    /// Where the first block begins.
    #[n(1)]
    pub first: u64,
    /// Its generation.
    #[n(2)]
    pub generation: Generation,
}

/// Fragments to delete from a disk.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct FragmentIds {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The fragments, at most 1,000.
    #[n(1)]
    pub ids: Vec<FragmentId>,
    /// Only those of a generation below this one: a repair may have written a
    /// fragment of the same name anew since the caller looked.
    #[n(2)]
    pub below: Option<Generation>,
}

/// How many of them were there. All are gone now, durably.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Deleted {
    /// How many.
    #[n(0)]
    pub count: u32,
}

/// A page of a disk's fragments in order.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct FilesRequest {
    /// The disk that is meant; without one, the node's.
    #[n(0)]
    pub disk: Option<DiskId>,
    /// From after this one on.
    #[n(1)]
    pub after: Option<FragmentId>,
    /// Up to this one, exclusive.
    #[n(2)]
    pub before: Option<FragmentId>,
    /// At most so many.
    #[n(3)]
    pub limit: u32,
}

/// Fragments.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Files {
    /// The disk.
    #[n(0)]
    pub disk: DiskId,
    /// The page.
    #[n(1)]
    pub files: Vec<FileEntry>,
    /// Whether there are more.
    #[n(2)]
    pub more: bool,
}

/// A fragment as its disk knows it.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct FileEntry {
    /// Its name.
    #[n(0)]
    pub id: FragmentId,
    /// Its generation.
    #[n(1)]
    pub generation: Generation,
    /// Its bytes.
    #[n(2)]
    pub bytes: u64,
    /// Whether a read of it has failed.
    #[n(3)]
    pub corrupt: bool,
}

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

/// The messages are in the inbox.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct RaftAnswer {
    /// The receiver's wall clock.
    #[n(0)]
    pub received: Timestamp,
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

/// What a node says of itself. It costs no IO.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Status {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// Its disk.
    #[n(1)]
    pub disk: DiskId,
    /// Its cluster, once it is born.
    #[n(2)]
    pub cluster: Option<ClusterId>,
    /// How often it has been started.
    #[n(3)]
    pub incarnation: u64,
    /// The protocol it speaks.
    #[n(4)]
    pub wire_version: u32,
    /// Its wall clock.
    #[n(5)]
    pub now: Timestamp,
    /// What it knows of the cluster's state, perhaps an older one.
    #[n(6)]
    pub state: Option<Box<ClusterState>>,
    /// Its disk's room.
    #[n(7)]
    pub space: DiskStatus,
    /// The groups it carries.
    #[n(8)]
    pub groups: Vec<GroupStatus>,
    /// Whether it is shutting down.
    #[n(9)]
    pub draining: bool,
    /// Since when this process runs.
    #[n(10)]
    pub started: Timestamp,
    /// Where it wants to be called, as `host:port`.
    #[n(11)]
    pub address: String,
    /// Its zone, when it was told.
    #[n(12)]
    pub zone: Option<String>,
    /// Its machine, when it was told.
    #[n(13)]
    pub host: Option<String>,
}

/// A disk's room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct DiskStatus {
    /// Bytes it can hold.
    #[n(0)]
    pub capacity: u64,
    /// Bytes that may still be written, the reserve not counted.
    #[n(1)]
    pub free: u64,
    /// Fragments.
    #[n(2)]
    pub fragments: u64,
    /// Their bytes.
    #[n(3)]
    pub fragment_bytes: u64,
    /// Fragments known to be corrupt.
    #[n(4)]
    pub corrupt: u64,
    /// Whether fragments are refused.
    #[n(5)]
    pub full: bool,
    /// Whether what travels inside commands is refused.
    #[n(6)]
    #[cbor(default)]
    pub inline_full: bool,
}

/// A group as one of its members sees it.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct GroupStatus {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// Its leader, if one is known.
    #[n(1)]
    pub leader: Option<DiskId>,
    /// The term.
    #[n(2)]
    pub term: u64,
    /// The last applied index.
    #[n(3)]
    pub applied: u64,
    /// The last committed index.
    #[n(4)]
    pub committed: u64,
    /// Members that vote, by Raft number.
    #[n(5)]
    pub voters: Vec<u64>,
    /// Members that only follow.
    #[n(6)]
    pub learners: Vec<u64>,
    /// For leaders: the last index known to be on each member.
    #[n(7)]
    pub matched: BTreeMap<u64, u64>,
    /// The group's counts.
    #[n(8)]
    pub totals: Totals,
    /// Tasks that should be published now.
    #[n(9)]
    pub tasks_due: u64,
    /// Whether this member, as leader, has heard from a majority lately.
    #[n(10)]
    pub active: bool,
}

/// Founds a cluster. Idempotent; refused by a node that belongs to another.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Bootstrap {
    /// The cluster's first state, the same on every member: group members,
    /// slots, nodes, the first credential, the bucket of files.
    #[n(0)]
    pub state: ClusterState,
}

/// What a new cluster is like.
#[derive(Clone, PartialEq, Debug)]
pub struct BirthPlan {
    /// The redundancy of chunks.
    pub redundancy: Redundancy,
    /// On how many nodes each group is kept.
    pub metadata_replicas: u8,
    /// How many groups share the slots.
    pub groups: u16,
    /// The bucket of files' identity.
    pub files_bucket: BucketId,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_head_is_read_back() {
        let good: Result<Uploaded, NodeError> = Ok(Uploaded { bytes: 7 });
        let bad: Result<Uploaded, NodeError> = Err(NodeError::Busy {
            retry_after_millis: 5,
        });
        for head in [good, bad] {
            assert_eq!(decode_result(&encode_result(&head)).unwrap(), head);
        }
        let nothing: Result<(), NodeError> = Ok(());
        assert_eq!(decode_result(&encode_result(&nothing)).unwrap(), nothing);
    }

    #[test]
    fn bytes_after_a_head_are_refused() {
        let mut head = encode(&Uploaded { bytes: 7 }).to_vec();
        head.push(0);
        assert!(decode::<Uploaded>(&head).is_err());
    }
}
