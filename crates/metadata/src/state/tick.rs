//! What time alone demands, in bounded steps, and when it next demands something.

use holdfast_model::{BucketId, Timestamp, VersionId};

use super::keys::{self, KeyReader, RowKey, Table};
use super::tasks::{self, DueClass};
use super::{Applied, Machine, removal, requests, rows};
use crate::command::Outcome;
use crate::store::{Rows, StoreError};

/// Rows of each kind that one tick deals with: some milliseconds of work.
const ROWS_PER_TICK: usize = 256;
/// Uploads that one tick gives up.
const UPLOADS_PER_TICK: usize = 16;
/// How long outcomes may outstay their time, in milliseconds: commands forget
/// old ones as they come, so ticks need not hurry.
const FORGET_SLACK_MILLIS: u64 = 60 * 1_000;

/// When a tick would next do something. Publishing tasks is not a tick's work.
pub fn next_due(view: &impl Rows) -> Result<Option<Timestamp>, StoreError> {
    if removal::waits(view)? {
        return Ok(Some(Timestamp(0)));
    }
    let forget = requests::next_forgotten(view)?.map(|time| time.plus(FORGET_SLACK_MILLIS));
    let mut next = forget;
    let mut consider = |time: Option<Timestamp>| {
        next = match (next, time) {
            (Some(next), Some(time)) => Some(next.min(time)),
            (next, time) => next.or(time),
        };
    };
    for table in [Table::Intents, Table::Expiry, Table::TicketsDue] {
        let first = rows::prefixed(view, &RowKey::new(table).done(), 1)?.pop();
        if let Some((key, _)) = first {
            consider(Some(KeyReader::after_table(&key).time()?));
        }
    }
    for class in [DueClass::TakeBack, DueClass::Forget, DueClass::Failed] {
        consider(tasks::next_of(view, class)?);
    }
    Ok(next)
}

impl Machine<'_, '_> {
    pub(super) fn tick(&mut self) -> Applied {
        self.forget_outcomes(ROWS_PER_TICK)?;
        self.go_on_removing()?;
        self.drop_late_uploads(UPLOADS_PER_TICK)?;
        self.forget_dead_uploads(ROWS_PER_TICK)?;
        self.forget_fences(ROWS_PER_TICK)?;
        self.plan_expired(ROWS_PER_TICK)?;
        self.settle_late_tickets(ROWS_PER_TICK)?;
        let now = self.now();
        for id in tasks::due(self.rows, DueClass::TakeBack, now, ROWS_PER_TICK)? {
            self.take_back(id)?;
        }
        for id in tasks::due(self.rows, DueClass::Forget, now, ROWS_PER_TICK)? {
            let row = self.task_row(id)?;
            self.drop_task(&row)?;
        }
        for id in tasks::due(self.rows, DueClass::Failed, now, ROWS_PER_TICK)? {
            self.end_failed(id)?;
        }
        Ok(Outcome::Done)
    }

    /// Gives objects that have expired their delete task. Readers refuse them
    /// already; the data goes a grace time later.
    fn plan_expired(&mut self, limit: usize) -> Result<(), StoreError> {
        let from = RowKey::new(Table::Expiry).done();
        let to = RowKey::new(Table::Expiry).time(self.now().plus(1)).done();
        for (row_key, _) in rows::page(self.rows, &from, &to, limit)? {
            self.rows.delete(&row_key)?;
            let mut key = KeyReader::after_table(&row_key);
            let expires = key.time()?;
            let bucket = BucketId::from_bytes(key.take()?);
            let key = key.object_key()?;
            // What expires is a null version: others have no expiry.
            if let Some(found) = self.find_version(bucket, &key, VersionId::NULL)? {
                self.ensure_delete_task(&found, expires.plus(self.known.times.expiry_grace))?;
            }
        }
        Ok(())
    }

    /// Forgets fences that the floor has made needless.
    fn forget_fences(&mut self, limit: usize) -> Result<(), StoreError> {
        let from = RowKey::new(Table::Fences).done();
        let to = RowKey::new(Table::Fences).u64(self.head.floor.0).done();
        for (key, _) in rows::page(self.rows, &from, &to, limit)? {
            self.rows.delete(&key)?;
            let mut fence = KeyReader::after_table(&key);
            fence.u64()?;
            let live = RowKey::new(Table::LiveGarbage).bytes(fence.0).done();
            self.rows.delete(&live)?;
        }
        Ok(())
    }

    /// Notes that collected garbage of a chunk that lives on keeps its places
    /// fenced until the floor has passed `generation`.
    pub(super) fn add_fence(
        &mut self,
        generation: u64,
        id: &crate::command::GarbageId,
    ) -> Result<(), StoreError> {
        let live = keys::live_garbage(id);
        let key = RowKey::new(Table::Fences)
            .u64(generation)
            .bytes(live.get(1..).unwrap_or_default())
            .done();
        self.mark(&key)
    }
}
