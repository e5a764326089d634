//! What groups are told of the cluster's state, since what their commands do
//! depends on it.

use holdfast_model::{Epoch, ObjectTimes};
use minicbor::{Decode, Encode};

/// A part of the cluster's state, as of a revision of it.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct ClusterFacts {
    /// The revision.
    #[n(0)]
    pub revision: Epoch,
    /// The times that objects live by, where they are told.
    #[n(1)]
    pub times: Option<ObjectTimes>,
}
