//! Commits and deletions of objects.

use holdfast_model::{
    AccessKeyId, BucketId, Chunk, Generation, ObjectKey, ObjectRecord, TaskId, TaskKind, VersionId,
};
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
    /// The object is this version.
    #[n(4)]
    Version(#[n(0)] VersionId),
    /// No object has the key, or one that the same request made (its
    /// fingerprint is the same): then the answer is that object.
    #[n(3)]
    Idempotent,
}

/// A deletion as S3 has it.
///
/// Without a version: in a bucket that never had versions the object goes; in
/// one that has, a marker is laid over the others, in one that had, the marker
/// takes the null version's place. With a version: that version or marker goes.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct DeleteVersion {
    /// The object's bucket.
    #[n(0)]
    pub bucket: BucketId,
    /// Its key.
    #[n(1)]
    pub key: ObjectKey,
    /// Which version; [`VersionId::NULL`] for the null version.
    #[n(2)]
    pub version: Option<VersionId>,
    /// On which condition, of what would be deleted or covered. Not
    /// [`Condition::Idempotent`] or [`Condition::Absent`].
    #[n(3)]
    pub condition: Condition,
    /// The marker to be, where one is made.
    #[n(4)]
    pub marker: Option<NewMarker>,
}

/// A marker to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct NewMarker {
    /// Its version.
    #[n(0)]
    pub version: VersionId,
    /// Whose it is.
    #[n(1)]
    pub owner: AccessKeyId,
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
