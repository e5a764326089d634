//! Fragments that are missing, and garbage.

use holdfast_model::{FragmentPlace, Timestamp, UploadId};
use minicbor::{Decode, Encode};

/// A fragment that is not where it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct MissingFragment {
    /// The upload that owns the chunk.
    #[n(0)]
    pub upload: UploadId,
    /// The chunk.
    #[n(1)]
    pub chunk: u32,
    /// Where the fragment should be. Without effect if the group has it
    /// elsewhere by now.
    #[n(2)]
    pub place: FragmentPlace,
}

/// A row of garbage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(array)]
pub struct GarbageId {
    /// From when on it may be collected.
    #[n(0)]
    pub due: Timestamp,
    /// Whose fragments.
    #[n(1)]
    pub upload: UploadId,
    /// Which chunk.
    #[n(2)]
    pub chunk: u32,
    /// Distinguishes rows of one chunk.
    #[n(3)]
    pub serial: u64,
}
