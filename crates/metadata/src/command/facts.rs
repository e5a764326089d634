//! What groups are told of the cluster's state, since what their commands do
//! depends on it.

use holdfast_model::{BucketFacts, BucketId, Epoch, ObjectTimes};
use minicbor::{Decode, Encode};

/// A part of the cluster's state, as of a revision of it.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct ClusterFacts {
    /// The revision.
    #[n(0)]
    pub revision: Epoch,
    /// The times that objects live by. They come with, or after, the last of
    /// the buckets: a group of an earlier release takes all until then.
    #[n(1)]
    pub times: Option<ObjectTimes>,
    /// Buckets that there are; at most [`MAX_BUCKETS_TOLD`].
    #[n(2)]
    #[cbor(default)]
    pub buckets: Vec<BucketFacts>,
    /// Buckets to forget: they are sealed, and empty in every group.
    #[n(3)]
    #[cbor(default)]
    pub removed: Vec<BucketId>,
}

/// The most buckets in one command: some ten KiB.
pub const MAX_BUCKETS_TOLD: usize = 1_000;
