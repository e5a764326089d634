//! Buckets, as group 0 keeps them.

use minicbor::{Decode, Encode};

use crate::ids::{BucketId, Epoch, Timestamp};
use crate::names::BucketName;

/// The bucket of the HTTP API's files. It cannot be deleted.
pub const FILES_BUCKET: &str = "files";

/// A bucket.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Bucket {
    /// Its identity, by which objects are hashed to slots. Never used again.
    #[n(0)]
    pub id: BucketId,
    /// Its name.
    #[n(1)]
    pub name: BucketName,
    /// When it was made.
    #[n(2)]
    pub created: Timestamp,
    /// Whether its objects have versions.
    #[n(3)]
    #[cbor(default)]
    pub versioning: Versioning,
    /// The deletion that is under way.
    #[n(4)]
    pub deletion: Option<BucketDeletion>,
    /// The last attempt at a deletion that found the bucket not empty.
    #[n(5)]
    pub refused: Option<Epoch>,
}

impl Bucket {
    /// A new bucket, without versions.
    pub fn new(id: BucketId, name: BucketName, created: Timestamp) -> Self {
        Self {
            id,
            name,
            created,
            versioning: Versioning::Unversioned,
            deletion: None,
            refused: None,
        }
    }

    /// What groups are to know of it; `None` once it is being removed.
    pub fn facts(&self) -> Option<BucketFacts> {
        let phase = self.deletion.map(|deletion| deletion.phase);
        (phase != Some(DeletionPhase::Removing)).then_some(BucketFacts {
            id: self.id,
            versioning: self.versioning,
            sealed: phase.is_some(),
        })
    }
}

/// Whether a bucket's objects have versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Versioning {
    /// They never had: a commit replaces, a deletion removes.
    #[default]
    #[n(0)]
    Unversioned,
    /// A commit makes a version beside the others, a deletion a marker.
    #[n(1)]
    Enabled,
    /// Versions are kept; a commit, or a marker, replaces the null version.
    #[n(2)]
    Suspended,
}

/// A deletion that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct BucketDeletion {
    /// Which attempt: the revision of the cluster's state that began it.
    #[n(0)]
    pub attempt: Epoch,
    /// How far it is.
    #[n(1)]
    pub phase: DeletionPhase,
}

/// How far a deletion is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum DeletionPhase {
    /// Every group is to refuse commits to it and to say whether it is empty there.
    #[n(0)]
    Sealing,
    /// It was sealed and empty in every group: each is to forget it.
    #[n(1)]
    Removing,
}

/// What a group knows of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct BucketFacts {
    /// The bucket.
    #[n(0)]
    pub id: BucketId,
    /// Whether its objects have versions.
    #[n(1)]
    pub versioning: Versioning,
    /// Whether commits to it are refused.
    #[n(2)]
    pub sealed: bool,
}
