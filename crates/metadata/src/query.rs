//! Queries: what can be asked of a group without changing it. Each is answered
//! by the leader after it has confirmed that it leads (linearizable), unless it
//! says otherwise.

mod census;
mod keys;

use holdfast_model::ids::{
    AccessKeyId, BucketId, DiskId, Epoch, Generation, TaskId, TicketId, Timestamp, UploadId,
    VersionId,
};
use holdfast_model::{BucketFacts, Chunk, ClusterState, ObjectKey, ObjectRecord, Task, TaskState};
use minicbor::{Decode, Encode};

use crate::command::{GarbageId, Refusal};
pub use crate::state::repair_rank;
pub use census::{DiskSum, RangeSums};
pub use keys::{KeyCursor, KeyEntry, KeyPage, ListKeys, ListedObject, MAX_DELIMITER_BYTES};

/// The most rows of a page.
pub const MAX_PAGE: u32 = 1_000;

/// What is asked.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Query {
    /// The current version of an object, and its first chunks. Expired and
    /// exhausted objects are answered too, with the group's time: the asker
    /// refuses them; likewise a marker. Answers [`Answer::Object`].
    #[n(0)]
    Object {
        /// Its bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// How many chunks of each part to send along.
        #[n(2)]
        chunks: u32,
    },
    /// Chunks of an upload, from one on. Answers [`Answer::Chunks`].
    #[n(1)]
    Chunks {
        /// The upload.
        #[n(0)]
        upload: UploadId,
        /// The first.
        #[n(1)]
        from: u32,
        /// At most so many.
        #[n(2)]
        limit: u32,
    },
    /// Objects of a bucket, newest first. Answers [`Answer::Listing`].
    #[n(2)]
    List {
        /// The bucket.
        #[n(0)]
        bucket: BucketId,
        /// Only this owner's.
        #[n(1)]
        owner: Option<AccessKeyId>,
        /// From after this one on.
        #[n(2)]
        after: Option<ListPosition>,
        /// At most so many.
        #[n(3)]
        limit: u32,
    },
    /// Tasks, newest first. Answers [`Answer::Tasks`].
    #[n(3)]
    Tasks {
        /// Only those in this state.
        #[n(0)]
        state: Option<TaskState>,
        /// At most so many.
        #[n(1)]
        limit: u32,
    },
    /// One task. Answers [`Answer::Tasks`] with one or none.
    #[n(4)]
    Task {
        /// Which.
        #[n(0)]
        task: TaskId,
    },
    /// Counts of the group. Answers [`Answer::Totals`].
    #[n(5)]
    Totals,
    /// The generation for a new upload, and the floor. Answers [`Answer::Generation`].
    #[n(6)]
    Generation,
    /// The cluster's state; of group 0 alone. Answers [`Answer::Cluster`].
    #[n(7)]
    Cluster,
    /// Chunks below their redundancy, fewest to spare first, those that are lost
    /// last. Answers [`Answer::Degraded`].
    #[n(8)]
    Degraded {
        /// At most so many.
        #[n(0)]
        limit: u32,
        /// From after this one on.
        #[n(1)]
        after: Option<RepairPosition>,
    },
    /// Fragments that may be deleted now. Answers [`Answer::Garbage`].
    #[n(9)]
    Garbage {
        /// At most so many.
        #[n(0)]
        limit: u32,
        /// From after this one on.
        #[n(1)]
        after: Option<GarbageId>,
    },
    /// Chunk rows in the order of their uploads, for the census and for
    /// draining. Answers [`Answer::Rows`].
    #[n(10)]
    Rows {
        /// After this chunk.
        #[n(0)]
        after: Option<(UploadId, u32)>,
        /// At most so many.
        #[n(1)]
        limit: u32,
        /// Up to this upload's, exclusive; without it, to the end.
        #[n(2)]
        before: Option<UploadId>,
    },
    /// A ticket's standing. Answers [`Answer::Ticket`].
    #[n(11)]
    Ticket {
        /// The ticket.
        #[n(0)]
        ticket: TicketId,
    },
    /// What the group knows of a bucket, and whether it is empty there.
    /// Answers [`Answer::Bucket`].
    #[n(12)]
    Bucket {
        /// The bucket.
        #[n(0)]
        bucket: BucketId,
    },
    /// A version of an object, current or not; a marker too. Answers
    /// [`Answer::Object`].
    #[n(13)]
    Version {
        /// The object's bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// Which; [`VersionId::NULL`] for the null version.
        #[n(2)]
        version: VersionId,
        /// How many chunks of each part to send along.
        #[n(3)]
        chunks: u32,
    },
    /// Keys of a bucket, in the order of their bytes. Answers [`Answer::Keys`].
    #[n(14)]
    Keys(#[n(0)] ListKeys),
    /// The tasks of an object's version that are not forgotten. Answers
    /// [`Answer::Tasks`].
    #[n(20)]
    TasksOf {
        /// The version.
        #[n(0)]
        version: VersionId,
    },
    /// Sums over the chunk rows, for a census. Answers [`Answer::Census`].
    #[n(21)]
    Census,
}

/// A place in a listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(array)]
pub struct ListPosition {
    /// When the object was made.
    #[n(0)]
    pub created: Timestamp,
    /// Its key.
    #[n(1)]
    pub key: ObjectKey,
}

/// A place in the list of chunks to be repaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct RepairPosition {
    /// [`repair_rank`] of the chunk.
    #[n(0)]
    pub rank: u8,
    /// The upload that owns it.
    #[n(1)]
    pub upload: UploadId,
    /// Its number.
    #[n(2)]
    pub chunk: u32,
}

impl RepairPosition {
    /// The place of a chunk as it was listed.
    pub fn of(row: &ChunkRow) -> Option<Self> {
        Some(Self {
            rank: repair_rank(&row.chunk)?,
            upload: row.upload,
            chunk: row.chunk.index,
        })
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Answer {
    /// An object, if there is one.
    #[n(0)]
    Object {
        /// The record.
        #[n(0)]
        record: Option<Box<ObjectRecord>>,
        /// Its first chunks, by part.
        #[n(1)]
        chunks: Vec<UploadChunks>,
        /// The group's time, or the leader's clock where that is later.
        #[n(2)]
        now: Timestamp,
    },
    /// Chunks.
    #[n(1)]
    Chunks(#[n(0)] Vec<Chunk>),
    /// Records without inline bytes.
    #[n(2)]
    Listing {
        /// The records.
        #[n(0)]
        records: Vec<ObjectRecord>,
        /// The group's time.
        #[n(1)]
        now: Timestamp,
        /// Whether there are more.
        #[n(2)]
        more: bool,
    },
    /// Tasks.
    #[n(3)]
    Tasks(#[n(0)] Vec<Task>),
    /// Counts.
    #[n(4)]
    Totals(#[n(0)] Totals),
    /// Generations.
    #[n(5)]
    Generation {
        /// Of new uploads.
        #[n(0)]
        current: Generation,
        /// Below it commits are refused.
        #[n(1)]
        floor: Generation,
    },
    /// The cluster's state.
    #[n(6)]
    Cluster(#[n(0)] Box<ClusterState>),
    /// Chunks to be repaired.
    #[n(7)]
    Degraded(#[n(0)] Vec<ChunkRow>),
    /// Fragments to be deleted.
    #[n(8)]
    Garbage(#[n(0)] Vec<GarbageRow>),
    /// Chunk rows.
    #[n(9)]
    Rows(#[n(0)] Vec<ChunkRow>),
    /// Whether the ticket is good, and until when.
    #[n(10)]
    Ticket(#[n(0)] Option<Timestamp>),
    /// Not this group's to answer: the slot, or the cluster's state, is another's.
    #[n(11)]
    Refused(#[n(0)] Refusal),
    /// A bucket in a group.
    #[n(12)]
    Bucket {
        /// What is known of it, if anything is.
        #[n(0)]
        facts: Option<BucketFacts>,
        /// The revision of the cluster's state that this is of.
        #[n(1)]
        revision: Epoch,
        /// Whether the group has no object, version or marker in it.
        #[n(2)]
        empty: bool,
    },
    /// A page of keys.
    #[n(13)]
    Keys(#[n(0)] KeyPage),
    /// The sums of each range that is not empty, in order.
    #[n(14)]
    Census(#[n(0)] Vec<RangeSums>),
}

/// Chunks of one upload.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct UploadChunks {
    /// The upload.
    #[n(0)]
    pub upload: UploadId,
    /// Its chunks, from 0 on.
    #[n(1)]
    pub chunks: Vec<Chunk>,
}

/// A chunk with the upload that owns it.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct ChunkRow {
    /// The upload.
    #[n(0)]
    pub upload: UploadId,
    /// The chunk.
    #[n(1)]
    pub chunk: Chunk,
    /// The object's bucket, for the fragment's header.
    #[n(2)]
    pub bucket: BucketId,
    /// Whether the upload is committed; one that is not belongs to a running upload.
    #[n(3)]
    pub committed: bool,
}

/// Fragments to be deleted.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct GarbageRow {
    /// The row.
    #[n(0)]
    pub id: GarbageId,
    /// Where the fragments lie.
    #[n(1)]
    pub places: Vec<(u8, DiskId)>,
}

/// Counts of a group, kept with every change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, serde::Serialize)]
#[cbor(array)]
pub struct Totals {
    /// Objects.
    #[n(0)]
    pub objects: u64,
    /// Their bytes.
    #[n(1)]
    pub bytes: u64,
    /// Chunks.
    #[n(2)]
    pub chunks: u64,
    /// Chunks below their redundancy but readable.
    #[n(3)]
    pub degraded: u64,
    /// Chunks of which no longer enough fragments are left.
    #[n(4)]
    pub lost: u64,
    /// Tasks that wait.
    #[n(5)]
    pub tasks_pending: u64,
    /// Tasks that a worker has.
    #[n(6)]
    pub tasks_running: u64,
    /// Tasks given up.
    #[n(7)]
    pub tasks_failed: u64,
    /// Tasks done and not yet forgotten.
    #[n(8)]
    pub tasks_done: u64,
    /// Rows of garbage.
    #[n(9)]
    pub garbage: u64,
    /// Reserved downloads that are not settled.
    #[n(10)]
    pub tickets: u64,
    /// Uploads that have begun and not ended.
    #[n(11)]
    pub uploads: u64,
}
