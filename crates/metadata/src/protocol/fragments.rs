//! Calls about fragments.

use holdfast_model::{
    DiskId, FragmentHeader, FragmentId, Generation, GroupId, ObjectKey, Timestamp,
};
use minicbor::{Decode, Encode};

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

/// Asks what a disk holds of a group, summed up.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct DigestsRequest {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The group.
    #[n(1)]
    pub group: GroupId,
}

/// What a disk holds of a group, by range of upload ids.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Digests {
    /// The disk.
    #[n(0)]
    pub disk: DiskId,
    /// The ranges that are not empty, in order.
    #[n(1)]
    pub ranges: Vec<RangeDigest>,
}

/// What a disk holds of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct RangeDigest {
    /// Which ([`census_range`](holdfast_model::fragment::census_range)).
    #[n(0)]
    pub range: u8,
    /// How many fragments, corrupt ones too.
    #[n(1)]
    pub fragments: u64,
    /// The exclusive or of the digests of the names of those that are not
    /// known to be corrupt ([`FragmentId::digest`]).
    #[n(2)]
    pub names: u64,
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
