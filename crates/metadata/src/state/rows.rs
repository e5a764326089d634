//! What rows hold, beside the records of the model. CBOR; a field's number
//! keeps its meaning.

use holdfast_model::{
    BucketFacts, BucketId, DiskId, Epoch, Generation, ObjectKey, ObjectTimes, Task, TicketId,
    Timestamp, UploadId, VersionId,
};
use minicbor::{Decode, Encode};

use super::spans::Spans;
use crate::query::Totals;
use crate::store::{Rows, StoreError};

/// What changes with nearly every batch, read and written once for each.
#[derive(Clone, PartialEq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Head {
    /// The group's time.
    #[n(0)]
    pub time: Timestamp,
    /// Numbers objects, garbage and tasks: one count for all.
    #[n(1)]
    pub sequence: u64,
    /// The generation of new uploads.
    #[n(2)]
    pub current: Generation,
    /// Below it commits are refused.
    #[n(3)]
    pub floor: Generation,
    /// Counts.
    #[n(4)]
    pub totals: Totals,
}

/// What a group knows of the cluster's state. Where there is no such row it was
/// never told.
#[derive(Clone, PartialEq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct KnownRow {
    /// The revision of the cluster's state that the times are of.
    #[n(0)]
    pub times_revision: Epoch,
    #[n(1)]
    pub times: ObjectTimes,
    /// The highest revision at which buckets were forgotten, so that what is
    /// older cannot bring one back; `None` when the group, of an earlier
    /// release, was never told of buckets and takes all.
    #[n(2)]
    pub forgotten: Option<Epoch>,
}

/// What a group knows of a bucket.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct BucketRow {
    /// The revision of the cluster's state that this is of.
    #[n(0)]
    pub revision: Epoch,
    #[n(1)]
    pub facts: BucketFacts,
}

/// An upload that has begun.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct UploadRow {
    #[n(0)]
    pub bucket: BucketId,
    #[n(1)]
    pub key: ObjectKey,
    #[n(2)]
    pub generation: Generation,
    #[n(3)]
    pub state: UploadState,
}

/// Where an upload stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum UploadState {
    /// Its intent holds the floor down until then.
    #[n(0)]
    Open(#[n(0)] Timestamp),
    /// An object refers to it.
    #[n(1)]
    Committed,
    /// Given up: its chunks are garbage, and it must not come back.
    #[n(2)]
    Dead,
    /// No object refers to it any more; its last chunks are being removed.
    #[n(3)]
    Removed,
}

/// A task, and where it is in the queue's eyes.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct TaskRow {
    #[n(0)]
    pub task: Task,
    /// Published until then, while it is pending.
    #[n(1)]
    pub published: Option<Timestamp>,
}

/// A download that has been reserved.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct TicketRow {
    #[n(0)]
    pub id: TicketId,
    #[n(1)]
    pub bucket: BucketId,
    #[n(2)]
    pub key: ObjectKey,
    #[n(3)]
    pub version: VersionId,
    #[n(4)]
    pub started: Timestamp,
    #[n(5)]
    pub deadline: Timestamp,
    /// Requests that have not ended.
    #[n(6)]
    pub open: u32,
    /// Whether any request has ended with bytes sent.
    #[n(7)]
    pub sent: bool,
    /// How often each byte was served or promised.
    #[n(8)]
    pub spans: Spans,
}

/// Garbage of a chunk that lives on.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct LiveGarbageRow {
    #[n(0)]
    pub places: Vec<(u8, DiskId)>,
    /// The generation in which it was collected: a fragment that takes such a
    /// place again must be of a later one, since an earlier one may be what
    /// was deleted.
    #[n(1)]
    pub collected: Option<Generation>,
}

pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, StoreError> {
    minicbor::decode(bytes)
        .map_err(|error| StoreError::Corrupt(format!("{}: {error}", std::any::type_name::<T>())))
}

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    // Writing to memory cannot fail.
    let _ = minicbor::encode(value, &mut bytes);
    bytes
}

/// Reads a row.
pub(crate) fn read<T: for<'b> Decode<'b, ()>>(
    rows: &impl Rows,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    rows.get(key)?.map(|bytes| decode(&bytes)).transpose()
}

/// Up to `limit` rows of `from..to`.
pub(crate) fn page(
    rows: &impl Rows,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<Vec<crate::store::Row>, StoreError> {
    let mut found = Vec::new();
    if limit > 0 {
        rows.scan(from, to, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(found.len() < limit)
        })?;
    }
    Ok(found)
}

/// All rows that begin with `prefix`, at most `limit`.
pub(crate) fn prefixed(
    rows: &impl Rows,
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<crate::store::Row>, StoreError> {
    page(rows, prefix, &super::keys::after_prefix(prefix), limit)
}

/// The group's head.
pub(crate) fn read_head(rows: &impl Rows) -> Result<Head, StoreError> {
    Ok(read(rows, &super::keys::head())?.unwrap_or_default())
}

/// An upload's row.
pub(crate) fn read_upload(
    rows: &impl Rows,
    upload: UploadId,
) -> Result<Option<UploadRow>, StoreError> {
    read(rows, &super::keys::upload(upload))
}
