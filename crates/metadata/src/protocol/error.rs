//! Why a node did not do what it was asked.

use holdfast_model::DiskId;
use minicbor::{Decode, Encode};

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
    /// The maintenance permit is not granted now.
    #[error("{0}")]
    #[n(13)]
    NotPermitted(#[n(0)] String),
    /// The disk is being emptied.
    #[error("the disk is being emptied and takes no fragments")]
    #[n(14)]
    Sealed,
}
