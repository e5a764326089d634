//! Commits and deletions of objects.

use holdfast_model::{Chunk, Generation, ObjectRecord, TaskId, TaskKind};
use minicbor::{Decode, Encode};

/// A commit.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct PutObject {
    /// The object. `created` and `revision` are set by the group; `downloads.left` too.
    #[n(0)]
    pub record: ObjectRecord,
    /// Chunks that were not appended before; they are the last part's.
    #[n(1)]
    pub chunks: Vec<Chunk>,
    /// The generation its fragments carry; `None` when it has none (inline).
    #[n(2)]
    pub generation: Option<Generation>,
    /// What the workers are to do with it.
    #[n(3)]
    pub tasks: Vec<NewTask>,
    /// On which condition.
    #[n(4)]
    pub condition: Condition,
    /// The lifetime in milliseconds; the group's time of the commit plus this
    /// is the expiry.
    #[n(5)]
    pub lifetime_millis: Option<u64>,
}

/// A task to be.
#[derive(Clone, Copy, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct NewTask {
    /// Its identity.
    #[n(0)]
    pub id: TaskId,
    /// What is to be done.
    #[n(1)]
    pub kind: TaskKind,
}

/// On which condition a commit is made.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Condition {
    /// None: it replaces what is there.
    #[n(0)]
    Always,
    /// No object has the key.
    #[n(1)]
    Absent,
    /// The object has this entity tag.
    #[n(2)]
    Matches(#[n(0)] String),
    /// No object has the key, or one that the same request made (its
    /// fingerprint is the same): then the answer is that object.
    #[n(3)]
    Idempotent,
}

/// Why an object is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum DeleteCause {
    /// Its owner, or who holds the token, wishes it.
    #[n(0)]
    Wish,
    /// It has expired. Refused if by the group's time it has not.
    #[n(1)]
    Expired,
    /// Its downloads are used up and settled. Refused if they are not.
    #[n(2)]
    Exhausted,
}
