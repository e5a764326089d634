//! Answers to queries, from a consistent view of the group.

use holdfast_model::layout::SlotRange;
use holdfast_model::{BucketId, ClusterState, ObjectKey, Representation, Timestamp};

use super::{
    by_key, census, downloads, facts, keys, listing, objects, owns, rows, tasks, versions,
};
use crate::command::{MAX_PUBLISHED_TASKS, Refusal};
use crate::query::{Answer, MAX_DELIMITER_BYTES, MAX_PAGE, Query, Totals, UploadChunks};
use crate::store::{Rows, StoreError};

/// The most chunks that one answer carries: some MiB.
const MAX_CHUNKS: u32 = 10_000;

/// Answers a query. `leader_clock` is the clock of the leader that answers:
/// what has expired by it is expired, though the group's time may lag.
pub fn answer(
    view: &impl Rows,
    query: &Query,
    leader_clock: Timestamp,
) -> Result<Answer, StoreError> {
    let head = rows::read_head(view)?;
    let now = head.time.max(leader_clock);
    Ok(match query {
        Query::Object {
            bucket,
            key,
            chunks,
        } => {
            let found = objects::find(view, *bucket, key)?;
            object(view, (*bucket, key), found, *chunks, now)?
        }
        Query::Version {
            bucket,
            key,
            version,
            chunks,
        } => {
            let found = versions::find_version(view, *bucket, key, *version)?;
            object(view, (*bucket, key), found, *chunks, now)?
        }
        Query::Chunks {
            upload,
            from,
            limit,
        } => Answer::Chunks(listing::chunks(
            view,
            *upload,
            *from,
            (*limit).min(MAX_CHUNKS) as usize,
        )?),
        Query::List {
            bucket,
            owner,
            after,
            limit,
        } => listing::list(view, *bucket, *owner, after.as_ref(), page(*limit), now)?,
        Query::Tasks { state, limit } => {
            Answer::Tasks(listing::list_tasks(view, *state, page(*limit))?)
        }
        Query::Task { task } => Answer::Tasks(
            tasks::read_task(view, *task)?
                .map(|row| row.task)
                .into_iter()
                .collect(),
        ),
        Query::TasksOf { version } => Answer::Tasks(
            tasks::tasks_of(view, *version)?
                .into_iter()
                .map(|row| row.task)
                .collect(),
        ),
        Query::Totals => Answer::Totals(head.totals),
        Query::Generation => Answer::Generation {
            current: head.current,
            floor: head.floor,
        },
        Query::Cluster => match read_cluster(view)? {
            Some(state) => Answer::Cluster(Box::new(state)),
            None => Answer::Refused(Refusal::WrongGroup),
        },
        Query::Degraded { limit, after } => {
            Answer::Degraded(listing::degraded(view, *after, page(*limit))?)
        }
        Query::Garbage { limit, after } => {
            Answer::Garbage(listing::garbage(view, now, after.as_ref(), page(*limit))?)
        }
        Query::Keys(asked) => {
            let delimiter = asked.delimiter.as_deref().unwrap_or_default();
            if delimiter.len() > MAX_DELIMITER_BYTES {
                Answer::Refused(Refusal::Invalid("the delimiter is too long".to_owned()))
            } else {
                by_key::list(view, asked, page(asked.limit), now)?
            }
        }
        Query::Rows {
            after,
            limit,
            before,
        } => Answer::Rows(listing::chunk_rows(view, *after, *before, page(*limit))?),
        Query::Census => census::sums(view)?,
        Query::Bucket { bucket } => facts::bucket(view, *bucket)?,
        Query::Ticket { ticket } => Answer::Ticket(
            downloads::read_ticket(view, *ticket)?
                .map(|row| row.deadline)
                .filter(|deadline| *deadline > now),
        ),
    })
}

fn page(limit: u32) -> usize {
    limit.min(MAX_PAGE) as usize
}

fn object(
    view: &impl Rows,
    (bucket, key): (BucketId, &ObjectKey),
    found: Option<objects::Found>,
    count: u32,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    let owned: Vec<SlotRange> = rows::read(view, &keys::owned_slots())?.unwrap_or_default();
    if !owns(&owned, bucket, key) {
        return Ok(Answer::Refused(Refusal::WrongGroup));
    }
    let Some(found) = found else {
        return Ok(Answer::Object {
            record: None,
            chunks: Vec::new(),
            now,
        });
    };
    let record = objects::with_inline_bytes(view, found)?;
    let mut chunks = Vec::new();
    let mut room = MAX_CHUNKS;
    if let Representation::Chunked { parts, .. } = &record.representation {
        for part in parts {
            let wanted = count.min(part.chunks).min(room);
            if wanted == 0 {
                break;
            }
            room -= wanted;
            chunks.push(UploadChunks {
                upload: part.upload,
                chunks: listing::chunks(view, part.upload, 0, wanted as usize)?,
            });
        }
    }
    Ok(Answer::Object {
        record: Some(Box::new(record)),
        chunks,
        now,
    })
}

/// The cluster's state; `None` in every group but 0.
pub fn read_cluster(view: &impl Rows) -> Result<Option<ClusterState>, StoreError> {
    rows::read(view, &keys::cluster())
}

/// How many uploads have told the group of their intent, and not ended.
pub fn intents(view: &impl Rows) -> Result<u64, StoreError> {
    let mut count = 0;
    let from = keys::RowKey::new(keys::Table::Intents).done();
    let to = keys::RowKey::new(keys::Table::DeadUploads).done();
    view.scan(&from, &to, &mut |_, _| {
        count += 1;
        Ok(true)
    })?;
    Ok(count)
}

/// The group's counts.
pub fn totals(view: &impl Rows) -> Result<Totals, StoreError> {
    Ok(rows::read_head(view)?.totals)
}

/// The group's time.
pub fn time(view: &impl Rows) -> Result<Timestamp, StoreError> {
    Ok(rows::read_head(view)?.time)
}

/// How many tasks should be published at `now`.
pub fn tasks_due(view: &impl Rows, now: Timestamp) -> Result<u64, StoreError> {
    Ok(tasks::publishable(view, now, MAX_PUBLISHED_TASKS as usize)?.len() as u64)
}
