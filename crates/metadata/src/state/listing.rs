//! Listings: pages of objects, tasks and chunks.

use holdfast_model::{
    AccessKeyId, BucketId, Chunk, ObjectRecord, Task, TaskId, TaskState, Timestamp, UploadId,
};

use super::keys::{self, KeyReader, RowKey, Table};
use super::objects::ended;
use super::rows::{self, UploadState};
use super::tasks::read_task;
use crate::command::GarbageId;
use crate::query::{Answer, ChunkRow, GarbageRow, ListPosition, RepairPosition};
use crate::store::{Rows, StoreError};

/// Objects of a bucket, newest first, without those that have ended: these are
/// passed over, and deleted some time after they end, so there are never many.
pub(super) fn list(
    view: &impl Rows,
    bucket: BucketId,
    owner: Option<AccessKeyId>,
    after: Option<&ListPosition>,
    limit: usize,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    let start = || match owner {
        Some(owner) => keys::owner_listing(bucket, owner),
        None => keys::bucket_listing(bucket),
    };
    let prefix = start().done();
    let from = after.map_or_else(
        || prefix.clone(),
        |after| {
            let mut key = keys::listed(start(), after.created, &after.key);
            // The first key after that one.
            key.push(0);
            key
        },
    );
    let mut records = Vec::new();
    let mut more = false;
    view.scan(&from, &keys::after_prefix(&prefix), &mut |key, sequence| {
        let mut rest = KeyReader(key.get(prefix.len()..).unwrap_or_default());
        rest.time()?;
        let key = rest.object_key()?;
        let row = keys::object(bucket, &key, rows::decode(sequence)?);
        let record: ObjectRecord = rows::read(view, &row)?
            .ok_or_else(|| StoreError::Corrupt(format!("{key:?} is listed and not there")))?;
        if ended(&record, now) {
            return Ok(true);
        }
        if records.len() == limit {
            more = true;
            return Ok(false);
        }
        records.push(record);
        Ok(true)
    })?;
    Ok(Answer::Listing { records, now, more })
}

/// Tasks, newest first.
pub(super) fn list_tasks(
    view: &impl Rows,
    state: Option<TaskState>,
    limit: usize,
) -> Result<Vec<Task>, StoreError> {
    let states = match state {
        Some(state) => vec![state],
        None => vec![
            TaskState::Pending,
            TaskState::Running,
            TaskState::Done,
            TaskState::Failed,
        ],
    };
    let mut newest: Vec<Vec<u8>> = Vec::new();
    for state in states {
        let page = rows::prefixed(view, &keys::tasks_of_state(state).done(), limit)?;
        // Without table and state: what is left sorts newest first.
        newest.extend(
            page.into_iter()
                .filter_map(|(key, _)| Some(key.get(2..)?.to_vec())),
        );
    }
    newest.sort_unstable();
    newest.truncate(limit);
    let mut tasks = Vec::with_capacity(newest.len());
    for key in newest {
        let mut key = KeyReader(&key);
        key.u64()?;
        let id = TaskId::from_bytes(key.take()?);
        if let Some(row) = read_task(view, id)? {
            tasks.push(row.task);
        }
    }
    Ok(tasks)
}

/// Chunks of an upload, from one on.
pub(super) fn chunks(
    view: &impl Rows,
    upload: UploadId,
    from: u32,
    limit: usize,
) -> Result<Vec<Chunk>, StoreError> {
    let end = keys::after_prefix(&keys::chunks(upload));
    rows::page(view, &keys::chunk(upload, from), &end, limit)?
        .iter()
        .map(|(_, value)| rows::decode(value))
        .collect()
}

/// Reads chunk rows, and the row of each upload once.
struct ChunkRows<'v, R> {
    view: &'v R,
    last: Option<(UploadId, BucketId, bool)>,
}

impl<R: Rows> ChunkRows<'_, R> {
    fn row(&mut self, upload: UploadId, chunk: Chunk) -> Result<ChunkRow, StoreError> {
        let (bucket, committed) = match self.last {
            Some((last, bucket, committed)) if last == upload => (bucket, committed),
            _ => {
                let row = rows::read_upload(self.view, upload)?.ok_or_else(|| {
                    StoreError::Corrupt(format!("chunks of the unknown upload {upload}"))
                })?;
                (row.bucket, row.state == UploadState::Committed)
            }
        };
        self.last = Some((upload, bucket, committed));
        Ok(ChunkRow {
            upload,
            chunk,
            bucket,
            committed,
        })
    }
}

/// All chunk rows after one, up to those of the upload `before`.
pub(super) fn chunk_rows(
    view: &impl Rows,
    after: Option<(UploadId, u32)>,
    before: Option<UploadId>,
    limit: usize,
) -> Result<Vec<ChunkRow>, StoreError> {
    let table = RowKey::new(Table::Chunks).done();
    let from = after.map_or_else(
        || table.clone(),
        |(upload, chunk)| {
            let mut key = keys::chunk(upload, chunk);
            key.push(0);
            key
        },
    );
    let to = before.map_or_else(|| keys::after_prefix(&table), keys::chunks);
    let mut reader = ChunkRows { view, last: None };
    rows::page(view, &from, &to, limit)?
        .iter()
        .map(|(key, value)| {
            let upload = UploadId::from_bytes(KeyReader::after_table(key).take()?);
            reader.row(upload, rows::decode(value)?)
        })
        .collect()
}

/// Chunks below their redundancy: fewest to spare first, lost ones last.
pub(super) fn degraded(
    view: &impl Rows,
    after: Option<RepairPosition>,
    limit: usize,
) -> Result<Vec<ChunkRow>, StoreError> {
    let mut reader = ChunkRows { view, last: None };
    let table = RowKey::new(Table::Degraded).done();
    let from = after.map_or_else(
        || table.clone(),
        |after| following(keys::degraded(after.rank, after.upload, after.chunk)),
    );
    rows::page(view, &from, &keys::after_prefix(&table), limit)?
        .iter()
        .map(|(key, _)| {
            let mut key = KeyReader::after_table(key);
            key.take::<1>()?;
            let (upload, index) = (UploadId::from_bytes(key.take()?), key.u32()?);
            let chunk = rows::read(view, &keys::chunk(upload, index))?.ok_or_else(|| {
                StoreError::Corrupt(format!(
                    "chunk {index} of {upload} is degraded and not there"
                ))
            })?;
            reader.row(upload, chunk)
        })
        .collect()
}

/// The first key after one.
fn following(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// Garbage that is due.
pub(super) fn garbage(
    view: &impl Rows,
    now: Timestamp,
    after: Option<&GarbageId>,
    limit: usize,
) -> Result<Vec<GarbageRow>, StoreError> {
    let from = after.map_or_else(
        || RowKey::new(Table::Garbage).done(),
        |after| following(keys::garbage(after)),
    );
    let to = RowKey::new(Table::Garbage).time(now.plus(1)).done();
    rows::page(view, &from, &to, limit)?
        .iter()
        .map(|(key, value)| {
            let mut key = KeyReader::after_table(key);
            let id = GarbageId {
                due: key.time()?,
                upload: UploadId::from_bytes(key.take()?),
                chunk: key.u32()?,
                serial: key.u64()?,
            };
            let places = rows::decode(value)?;
            Ok(GarbageRow { id, places })
        })
        .collect()
}
