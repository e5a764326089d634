//! What becomes of commands.

use holdfast_model::{
    ClusterState, Epoch, Generation, ObjectRecord, Permit, Task, Timestamp, VersionId,
};
use minicbor::{Decode, Encode};

/// What became of a command. Remembered by the request's id.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Outcome {
    /// Done, with nothing to tell.
    #[n(0)]
    Done,
    /// The object as it was committed, without its inline bytes.
    #[n(1)]
    Put(#[n(0)] Box<ObjectRecord>),
    /// The version that was deleted.
    #[n(2)]
    Deleted(#[n(0)] VersionId),
    /// A download was reserved, or goes on, until `deadline`; what is left of the limit.
    #[n(3)]
    Reserved {
        /// Downloads left after this one.
        #[n(0)]
        left: u32,
        /// When the ticket ends.
        #[n(1)]
        deadline: Timestamp,
    },
    /// Tasks to put into the queue.
    #[n(4)]
    Tasks(#[n(0)] Vec<Task>),
    /// The task, claimed; `attempts` is the attempt's number.
    #[n(5)]
    Claimed(#[n(0)] Box<Task>),
    /// The generation that new uploads carry, and the floor.
    #[n(6)]
    Generation {
        /// Of new uploads.
        #[n(0)]
        current: Generation,
        /// Below it commits are refused.
        #[n(1)]
        floor: Generation,
    },
    /// The cluster's state after a node's start.
    #[n(7)]
    Joined(#[n(0)] Box<ClusterState>),
    /// The permit.
    #[n(8)]
    Permit(#[n(0)] Permit),
    /// Refused; nothing was changed.
    #[n(9)]
    Refused(#[n(0)] Refusal),
    /// A bucket's deletion has begun: which attempt it is.
    #[n(10)]
    Deleting(#[n(0)] Epoch),
    /// A marker was laid: its version.
    #[n(11)]
    Marked(#[n(0)] VersionId),
}

/// Why a command was refused.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The slot is another group's.
    #[error("the object belongs to another group")]
    #[n(0)]
    WrongGroup,
    /// No such object, or not that version of it.
    #[error("there is no such object")]
    #[n(1)]
    NoSuchObject,
    /// The object has expired.
    #[error("the object has expired")]
    #[n(2)]
    Expired,
    /// No downloads are left.
    #[error("the object has no downloads left")]
    #[n(3)]
    Exhausted,
    /// The condition is not met; the object's entity tag, where there is one.
    #[error("the condition is not met")]
    #[n(4)]
    ConditionFailed(#[n(0)] Option<String>),
    /// The same idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    #[n(5)]
    KeyReused,
    /// The upload is older than the clean-up floor, its intent is unknown, or a chunk is missing.
    #[error("the upload cannot be committed: {0}")]
    #[n(6)]
    UploadLost(#[n(0)] String),
    /// No such task, or not to be claimed now.
    #[error("the task cannot be claimed now")]
    #[n(7)]
    NotClaimable,
    /// The attempt is old, or the version has changed.
    #[error("the attempt is no longer the current one")]
    #[n(8)]
    Fenced,
    /// No such ticket, it has ended, or those bytes were served twice already.
    #[error("the ticket is no longer good: {0}")]
    #[n(9)]
    TicketEnded(#[n(0)] String),
    /// The state has changed since it was looked at.
    #[error("the state has changed meanwhile")]
    #[n(10)]
    Stale,
    /// The object cannot be deleted for that cause yet.
    #[error("not yet")]
    #[n(11)]
    NotYet,
    /// Another holds what was asked for.
    #[error("{0}")]
    #[n(12)]
    Held(#[n(0)] String),
    /// Makes no sense here.
    #[error("{0}")]
    #[n(13)]
    Invalid(#[n(0)] String),
    /// The outcome of this request id was forgotten.
    #[error("the outcome is no longer known")]
    #[n(14)]
    OutcomeUnknown,
    /// No such bucket; in a group: none that it knows yet.
    #[error("there is no such bucket")]
    #[n(15)]
    NoSuchBucket,
    /// The bucket is being deleted.
    #[error("the bucket is being deleted")]
    #[n(16)]
    BucketSealed,
    /// A bucket that is to be deleted has objects.
    #[error("the bucket is not empty")]
    #[n(17)]
    BucketNotEmpty,
}
