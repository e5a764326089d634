//! The rows of a group: which tables there are and how their keys are made.
//!
//! Numbers in keys are big-endian, so that rows sort by them; those that sort
//! newest first are stored inverted. An object's key is followed by a zero
//! byte, which no key contains, so that one key is never a prefix of another.

use holdfast_model::{
    AccessKeyId, BucketId, ObjectKey, RequestId, TaskId, TaskState, TicketId, Timestamp, UploadId,
    VersionId,
};

use crate::command::GarbageId;
use crate::store::StoreError;

/// A table of a group. The numbers are on disk: never reuse one. 0 is the
/// store's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Table {
    /// 0: [`Head`](super::rows::Head). 1: the slots owned. 2: what is known of
    /// the cluster's state.
    Meta = 1,
    /// bucket, key, 0, !sequence -> record without inline bytes.
    Objects = 2,
    /// sequence, what (0 the object, 1 + kind what was made of it) -> bytes.
    Inline = 3,
    /// bucket, owner, !created, key -> sequence.
    ByOwner = 4,
    /// bucket, !created, key -> sequence.
    ByCreated = 5,
    /// upload, chunk -> chunk.
    Chunks = 6,
    /// upload -> upload row.
    Uploads = 7,
    /// deadline, upload -> generation.
    Intents = 8,
    /// generation, upload -> nothing: uploads given up, until the floor has
    /// passed their generation.
    DeadUploads = 9,
    /// request -> outcome.
    Requests = 10,
    /// task -> task row.
    Tasks = 11,
    /// class, time, task -> nothing.
    TasksDue = 12,
    /// state, !created, task -> nothing.
    TasksByState = 13,
    /// version, task -> nothing.
    TasksByVersion = 14,
    /// ticket -> ticket row.
    Tickets = 15,
    /// version, ticket -> nothing.
    TicketsByVersion = 16,
    /// deadline, ticket -> nothing.
    TicketsDue = 17,
    /// expiry, bucket, key -> nothing.
    Expiry = 18,
    /// due, upload, chunk, serial -> where the fragments lie.
    Garbage = 19,
    /// upload, chunk, serial -> due: garbage of chunks that live on.
    LiveGarbage = 20,
    /// spare fragments, upload, chunk -> nothing.
    Degraded = 21,
    /// The cluster's state; of group 0 alone.
    Cluster = 22,
    /// generation, upload, chunk, fragment, disk -> nothing: collected places.
    Fences = 23,
    /// bucket -> what is known of it.
    Buckets = 24,
    /// bucket, key, 0, version (zeros for the null version) -> sequence: all
    /// versions but a null version that is the current one.
    Versions = 25,
    /// range -> [`RangeSums`](crate::query::RangeSums).
    Census = 26,
    /// upload -> due: uploads whose chunks are being removed, and when the
    /// garbage of those is due.
    Removing = 27,
}

/// Builds a row's key.
pub(crate) struct RowKey(Vec<u8>);

impl RowKey {
    pub(crate) fn new(table: Table) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(table as u8);
        Self(bytes)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn byte(self, byte: u8) -> Self {
        self.bytes(&[byte])
    }

    pub(crate) fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn time(self, time: Timestamp) -> Self {
        self.u64(time.0)
    }

    /// Later times sort first.
    pub(crate) fn newest(self, time: Timestamp) -> Self {
        self.u64(!time.0)
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The first key after all that begin with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // Table numbers are below 255, so a prefix is never all ones.
    vec![u8::MAX]
}

/// Reads fixed fields off a key.
pub(crate) struct KeyReader<'k>(pub(crate) &'k [u8]);

impl<'k> KeyReader<'k> {
    /// The key after its table's number.
    pub(crate) fn after_table(key: &'k [u8]) -> Self {
        Self(key.get(1..).unwrap_or_default())
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (first, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| StoreError::Corrupt("a key is too short".to_owned()))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StoreError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StoreError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp(self.u64()?))
    }

    /// The rest, as an object's key.
    pub(crate) fn object_key(self) -> Result<ObjectKey, StoreError> {
        let text = std::str::from_utf8(self.0)
            .map_err(|_| StoreError::Corrupt("an object's key in an index".to_owned()))?;
        ObjectKey::new(text)
            .map_err(|_| StoreError::Corrupt("an object's key in an index".to_owned()))
    }
}

pub(crate) fn census(range: u8) -> Vec<u8> {
    RowKey::new(Table::Census).byte(range).done()
}

pub(crate) fn removing(upload: UploadId) -> Vec<u8> {
    RowKey::new(Table::Removing).bytes(upload.as_bytes()).done()
}

pub(crate) fn head() -> Vec<u8> {
    RowKey::new(Table::Meta).byte(0).done()
}

pub(crate) fn owned_slots() -> Vec<u8> {
    RowKey::new(Table::Meta).byte(1).done()
}

pub(crate) fn known() -> Vec<u8> {
    RowKey::new(Table::Meta).byte(2).done()
}

pub(crate) fn bucket(id: BucketId) -> Vec<u8> {
    RowKey::new(Table::Buckets).bytes(id.as_bytes()).done()
}

/// Begins the rows of all objects of a bucket.
pub(crate) fn objects_of(bucket: BucketId) -> Vec<u8> {
    RowKey::new(Table::Objects).bytes(bucket.as_bytes()).done()
}

pub(crate) fn cluster() -> Vec<u8> {
    RowKey::new(Table::Cluster).done()
}

/// Begins the rows of all versions of an object.
pub(crate) fn object_versions(bucket: BucketId, key: &ObjectKey) -> Vec<u8> {
    RowKey::new(Table::Objects)
        .bytes(bucket.as_bytes())
        .bytes(key.as_str().as_bytes())
        .byte(0)
        .done()
}

pub(crate) fn object(bucket: BucketId, key: &ObjectKey, sequence: u64) -> Vec<u8> {
    RowKey(object_versions(bucket, key)).u64(!sequence).done()
}

pub(crate) fn version(bucket: BucketId, key: &ObjectKey, version: VersionId) -> Vec<u8> {
    RowKey::new(Table::Versions)
        .bytes(bucket.as_bytes())
        .bytes(key.as_str().as_bytes())
        .byte(0)
        .bytes(version.as_bytes())
        .done()
}

pub(crate) fn inline(sequence: u64, what: u8) -> Vec<u8> {
    RowKey::new(Table::Inline).u64(sequence).byte(what).done()
}

/// Begins an owner's listing rows.
pub(crate) fn owner_listing(bucket: BucketId, owner: AccessKeyId) -> RowKey {
    RowKey::new(Table::ByOwner)
        .bytes(bucket.as_bytes())
        .bytes(owner.as_bytes())
}

/// Begins a bucket's listing rows.
pub(crate) fn bucket_listing(bucket: BucketId) -> RowKey {
    RowKey::new(Table::ByCreated).bytes(bucket.as_bytes())
}

/// Ends a listing row's key.
pub(crate) fn listed(start: RowKey, created: Timestamp, key: &ObjectKey) -> Vec<u8> {
    start.newest(created).bytes(key.as_str().as_bytes()).done()
}

pub(crate) fn chunks(upload: UploadId) -> Vec<u8> {
    RowKey::new(Table::Chunks).bytes(upload.as_bytes()).done()
}

pub(crate) fn chunk(upload: UploadId, index: u32) -> Vec<u8> {
    RowKey(chunks(upload)).u32(index).done()
}

pub(crate) fn upload(upload: UploadId) -> Vec<u8> {
    RowKey::new(Table::Uploads).bytes(upload.as_bytes()).done()
}

pub(crate) fn intent(deadline: Timestamp, upload: UploadId) -> Vec<u8> {
    RowKey::new(Table::Intents)
        .time(deadline)
        .bytes(upload.as_bytes())
        .done()
}

pub(crate) fn dead_upload(generation: u64, upload: UploadId) -> Vec<u8> {
    RowKey::new(Table::DeadUploads)
        .u64(generation)
        .bytes(upload.as_bytes())
        .done()
}

pub(crate) fn request(id: RequestId) -> Vec<u8> {
    RowKey::new(Table::Requests).bytes(id.as_bytes()).done()
}

/// The first key of requests whose senders' clocks showed `time` or later.
pub(crate) fn requests_from(time: Timestamp) -> Vec<u8> {
    let [_, _, rest @ ..] = time.0.min((1 << 48) - 1).to_be_bytes();
    RowKey::new(Table::Requests).bytes(&rest).done()
}

pub(crate) fn task(id: TaskId) -> Vec<u8> {
    RowKey::new(Table::Tasks).bytes(id.as_bytes()).done()
}

pub(crate) fn tasks_of_state(state: TaskState) -> RowKey {
    RowKey::new(Table::TasksByState).byte(match state {
        TaskState::Pending => 0,
        TaskState::Running => 1,
        TaskState::Done => 2,
        TaskState::Failed => 3,
    })
}

pub(crate) fn task_by_state(state: TaskState, created: Timestamp, id: TaskId) -> Vec<u8> {
    tasks_of_state(state)
        .newest(created)
        .bytes(id.as_bytes())
        .done()
}

pub(crate) fn tasks_of(version: VersionId) -> Vec<u8> {
    RowKey::new(Table::TasksByVersion)
        .bytes(version.as_bytes())
        .done()
}

pub(crate) fn task_of(version: VersionId, id: TaskId) -> Vec<u8> {
    RowKey(tasks_of(version)).bytes(id.as_bytes()).done()
}

pub(crate) fn ticket(id: TicketId) -> Vec<u8> {
    RowKey::new(Table::Tickets).bytes(id.as_bytes()).done()
}

pub(crate) fn tickets_of(version: VersionId) -> Vec<u8> {
    RowKey::new(Table::TicketsByVersion)
        .bytes(version.as_bytes())
        .done()
}

pub(crate) fn ticket_of(version: VersionId, id: TicketId) -> Vec<u8> {
    RowKey(tickets_of(version)).bytes(id.as_bytes()).done()
}

pub(crate) fn ticket_due(deadline: Timestamp, id: TicketId) -> Vec<u8> {
    RowKey::new(Table::TicketsDue)
        .time(deadline)
        .bytes(id.as_bytes())
        .done()
}

pub(crate) fn expiry(expires: Timestamp, bucket: BucketId, key: &ObjectKey) -> Vec<u8> {
    RowKey::new(Table::Expiry)
        .time(expires)
        .bytes(bucket.as_bytes())
        .bytes(key.as_str().as_bytes())
        .done()
}

pub(crate) fn garbage(id: &GarbageId) -> Vec<u8> {
    RowKey::new(Table::Garbage)
        .time(id.due)
        .bytes(id.upload.as_bytes())
        .u32(id.chunk)
        .u64(id.serial)
        .done()
}

pub(crate) fn live_garbage_of(upload: UploadId, chunk: u32) -> Vec<u8> {
    RowKey::new(Table::LiveGarbage)
        .bytes(upload.as_bytes())
        .u32(chunk)
        .done()
}

pub(crate) fn live_garbage(id: &GarbageId) -> Vec<u8> {
    RowKey(live_garbage_of(id.upload, id.chunk))
        .u64(id.serial)
        .done()
}

pub(crate) fn degraded(rank: u8, upload: UploadId, chunk: u32) -> Vec<u8> {
    RowKey::new(Table::Degraded)
        .byte(rank)
        .bytes(upload.as_bytes())
        .u32(chunk)
        .done()
}
