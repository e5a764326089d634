//! Counting downloads: a limit of N gives at most N.
//!
//! A reservation takes one from the limit and makes a ticket. Requests under
//! it are that one download, until the ticket ends: an hour after its last
//! request ended, a day after it began at most (both settable). It is given back only when all
//! its requests ended with nothing sent; one whose gateway died stays open and
//! counts. When nothing is left of the limit and no ticket is good any more,
//! a task deletes the object.

use holdfast_model::{BucketId, ObjectKey, TicketId, VersionId};

use super::keys::{self, KeyReader, RowKey, Table};
use super::objects::Found;
use super::rows::{self, TicketRow};
use super::spans::{SpanError, Spans};
use super::{Applied, Machine, Stop, invalid};
use crate::command::{ByteSpan, EndedRequest, MAX_ENDS_PER_COMMAND, Outcome, Refusal, RequestEnd};
use crate::store::{Rows, StoreError};

fn no_longer(why: &str) -> Stop {
    Stop::Refused(Refusal::TicketEnded(why.to_owned()))
}

fn check_range(found: &Found, range: ByteSpan) -> Result<(), Stop> {
    if range.first > range.end || range.end > found.record.content.size {
        return Err(invalid("the object has no such bytes"));
    }
    Ok(())
}

fn left(found: &Found) -> u32 {
    found.record.downloads.map_or(0, |limit| limit.left)
}

/// A ticket's row.
pub(super) fn read_ticket(view: &impl Rows, id: TicketId) -> Result<Option<TicketRow>, StoreError> {
    rows::read(view, &keys::ticket(id))
}

impl Machine<'_, '_> {
    pub(super) fn reserve_download(
        &mut self,
        bucket: BucketId,
        key: &ObjectKey,
        version: VersionId,
        id: TicketId,
        range: ByteSpan,
    ) -> Applied {
        self.check_slot(bucket, key)?;
        let mut found = self.live_object(bucket, key, version)?;
        check_range(&found, range)?;
        let Some(limit) = found.record.downloads.as_mut() else {
            return Err(invalid("the object has no download limit"));
        };
        if limit.left == 0 {
            return Err(Refusal::Exhausted.into());
        }
        if read_ticket(self.rows, id)?.is_some() {
            return Err(invalid("the ticket exists"));
        }
        limit.left -= 1;
        let left = limit.left;
        found.record.revision += 1;
        let deadline = self.now().plus(self.known.times.ticket_max);
        let mut spans = Spans::default();
        let _ = spans.add(range);
        self.write_record(&found)?;
        self.mark(&keys::ticket_of(version, id))?;
        self.head.totals.tickets += 1;
        self.write_ticket(&TicketRow {
            id,
            bucket,
            key: key.clone(),
            version,
            started: self.now(),
            deadline,
            open: 1,
            sent: false,
            spans,
        })?;
        Ok(Outcome::Reserved { left, deadline })
    }

    pub(super) fn use_ticket(
        &mut self,
        bucket: BucketId,
        key: &ObjectKey,
        id: TicketId,
        range: ByteSpan,
    ) -> Applied {
        self.check_slot(bucket, key)?;
        let mut row = self.good_ticket(bucket, key, id)?;
        let found = self.live_object(bucket, key, row.version)?;
        check_range(&found, range)?;
        row.spans.add(range).map_err(|error| match error {
            SpanError::Used => no_longer("those bytes were served twice"),
            SpanError::TooMany => no_longer("too many separate ranges"),
        })?;
        self.rows.delete(&keys::ticket_due(row.deadline, id))?;
        row.open += 1;
        row.deadline = row.started.plus(self.known.times.ticket_max);
        self.write_ticket(&row)?;
        Ok(Outcome::Reserved {
            left: left(&found),
            deadline: row.deadline,
        })
    }

    pub(super) fn end_request(
        &mut self,
        bucket: BucketId,
        key: &ObjectKey,
        id: TicketId,
        range: ByteSpan,
        end: RequestEnd,
    ) -> Applied {
        self.check_slot(bucket, key)?;
        let mut row = self.good_ticket(bucket, key, id)?;
        if row.open == 0 {
            return Err(no_longer("it has no open request"));
        }
        let found = self
            .find_version(bucket, key, row.version)?
            .ok_or(Refusal::NoSuchObject)?;
        self.rows.delete(&keys::ticket_due(row.deadline, id))?;
        row.open -= 1;
        match end {
            RequestEnd::Sent => row.sent = true,
            RequestEnd::GivenBack => row.spans.subtract(range),
        }
        if row.open == 0 && !row.sent {
            self.give_back(found, &row)?;
        } else if row.open == 0 && row.spans.used_up(found.record.content.size) {
            self.remove_ticket(&row)?;
            self.delete_if_exhausted(&found)?;
        } else {
            if row.open == 0 {
                let idle = self.now().plus(self.known.times.ticket_idle);
                row.deadline = idle.min(row.started.plus(self.known.times.ticket_max));
            }
            self.write_ticket(&row)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn end_requests(&mut self, ends: &[EndedRequest]) -> Applied {
        if ends.len() > MAX_ENDS_PER_COMMAND {
            let most = MAX_ENDS_PER_COMMAND;
            return Err(Refusal::Invalid(format!("at most {most} requests at once")).into());
        }
        for one in ends {
            let ended = self.end_request(one.bucket, &one.key, one.ticket, one.range, one.end);
            if let Err(stop @ Stop::Store(_)) = ended {
                return Err(stop);
            }
        }
        Ok(Outcome::Done)
    }

    fn give_back(&mut self, mut found: Found, row: &TicketRow) -> Result<(), StoreError> {
        if let Some(limit) = found.record.downloads.as_mut() {
            limit.left = (limit.left + 1).min(limit.limit);
        }
        found.record.revision += 1;
        self.write_record(&found)?;
        self.remove_ticket(row)
    }

    /// The version of an object, if it may still be had.
    fn live_object(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        version: VersionId,
    ) -> Result<Found, Stop> {
        let found = self
            .find_version(bucket, key, version)?
            .ok_or(Refusal::NoSuchObject)?;
        if found.record.expired(self.now()) {
            return Err(Refusal::Expired.into());
        }
        Ok(found)
    }

    /// The ticket, if it is the object's and has not ended.
    fn good_ticket(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        id: TicketId,
    ) -> Result<TicketRow, Stop> {
        let row = read_ticket(self.rows, id)?.ok_or_else(|| no_longer("it is not known"))?;
        if row.bucket != bucket || row.key != *key {
            return Err(no_longer("it is another object's"));
        }
        if row.deadline <= self.now() {
            return Err(no_longer("it is past its deadline"));
        }
        Ok(row)
    }

    fn write_ticket(&mut self, row: &TicketRow) -> Result<(), StoreError> {
        self.mark(&keys::ticket_due(row.deadline, row.id))?;
        self.put(&keys::ticket(row.id), row)
    }

    fn remove_ticket(&mut self, row: &TicketRow) -> Result<(), StoreError> {
        self.rows.delete(&keys::ticket(row.id))?;
        self.rows.delete(&keys::ticket_of(row.version, row.id))?;
        self.rows.delete(&keys::ticket_due(row.deadline, row.id))?;
        self.head.totals.tickets -= 1;
        Ok(())
    }

    pub(super) fn has_live_tickets(&self, version: VersionId) -> Result<bool, StoreError> {
        for id in self.tickets_of(version, usize::MAX)? {
            let row = read_ticket(self.rows, id)?;
            if row.is_some_and(|row| row.deadline > self.now()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn tickets_of(&self, version: VersionId, limit: usize) -> Result<Vec<TicketId>, StoreError> {
        rows::prefixed(self.rows, &keys::tickets_of(version), limit)?
            .iter()
            .map(|(key, _)| {
                let mut key = KeyReader::after_table(key);
                key.take::<16>()?;
                Ok(TicketId::from_bytes(key.take()?))
            })
            .collect()
    }

    pub(super) fn drop_tickets_of(&mut self, version: VersionId) -> Result<(), StoreError> {
        for id in self.tickets_of(version, usize::MAX)? {
            if let Some(row) = read_ticket(self.rows, id)? {
                self.remove_ticket(&row)?;
            }
        }
        Ok(())
    }

    fn delete_if_exhausted(&mut self, found: &Found) -> Result<(), StoreError> {
        let used_up = found.record.downloads.is_some_and(|limit| limit.left == 0);
        if used_up && self.tickets_of(found.record.version, 1)?.is_empty() {
            self.ensure_delete_task(found, self.now())?;
        }
        Ok(())
    }

    /// Settles up to `limit` tickets that are past their deadline: they count.
    pub(super) fn settle_late_tickets(&mut self, limit: usize) -> Result<(), StoreError> {
        let from = RowKey::new(Table::TicketsDue).done();
        let to = RowKey::new(Table::TicketsDue)
            .time(self.now().plus(1))
            .done();
        for (key, _) in rows::page(self.rows, &from, &to, limit)? {
            let mut key = KeyReader::after_table(&key);
            key.time()?;
            let id = TicketId::from_bytes(key.take()?);
            let row = read_ticket(self.rows, id)?
                .ok_or_else(|| StoreError::Corrupt(format!("no row of the ticket {id}")))?;
            self.remove_ticket(&row)?;
            let found = self.find_version(row.bucket, &row.key, row.version)?;
            if let Some(found) = found {
                self.delete_if_exhausted(&found)?;
            }
        }
        Ok(())
    }
}
