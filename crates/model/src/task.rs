//! Tasks: work that an object asks of the workers, kept in its group.

use minicbor::{Decode, Encode};

use crate::ids::{BucketId, TaskId, Timestamp, VersionId};
use crate::names::ObjectKey;

/// How often a task is tried before it counts as failed.
pub const MAX_ATTEMPTS: u32 = 3;

/// What is to be done.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Make a small picture of an image.
    #[n(0)]
    Thumbnail,
    /// Swap the stored bytes for smaller ones, if that gains enough.
    #[n(1)]
    Compress,
    /// Delete an object that has expired or has no downloads left.
    #[n(2)]
    Delete,
}

/// Where a task stands.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for a worker.
    #[n(0)]
    Pending,
    /// A worker has claimed it, until its deadline.
    #[n(1)]
    Running,
    /// Done.
    #[n(2)]
    Done,
    /// Given up after [`MAX_ATTEMPTS`], or at once where trying again is useless.
    #[n(3)]
    Failed,
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Task {
    /// Its identity.
    #[n(0)]
    pub id: TaskId,
    /// What is to be done.
    #[n(1)]
    pub kind: TaskKind,
    /// The object's bucket.
    #[n(2)]
    pub bucket: BucketId,
    /// The object's key.
    #[n(3)]
    pub key: ObjectKey,
    /// The version for which it was asked; of another it says nothing.
    #[n(4)]
    pub version: VersionId,
    /// Where it stands.
    #[n(5)]
    pub state: TaskState,
    /// How often it has been claimed. The number is also the fencing token: a
    /// result that names an older attempt is refused.
    #[n(6)]
    pub attempts: u32,
    /// When it may next be claimed (pending), or is taken from its worker (running).
    #[n(7)]
    pub due: Timestamp,
    /// When it was asked for.
    #[n(8)]
    pub created: Timestamp,
    /// When it last changed.
    #[n(9)]
    pub updated: Timestamp,
    /// Why the last attempt failed.
    #[n(10)]
    pub error: Option<String>,
    /// Who claimed it last.
    #[n(11)]
    pub worker: Option<String>,
}
