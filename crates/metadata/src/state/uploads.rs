//! Uploads that run, and the generations by which clean-up never races them.
//!
//! States: none -> open -> committed, or open -> dead. An open upload holds
//! the floor at or below its generation until its deadline. A dead one stays
//! known until the floor has passed its generation, so that it cannot come
//! back after its chunks have become garbage. How the chunks go is [`removal`]'s.
//!
//! [`removal`]: super::removal

use holdfast_model::{BucketId, Chunk, Generation, ObjectKey, UploadId};

use super::keys::{self, KeyReader, RowKey, Table};
use super::rows::{self, UploadRow, UploadState};
use super::{Applied, Machine, invalid};
use crate::command::{INTENT_MILLIS, Outcome, Refusal};
use crate::store::{Rows, StoreError};

impl Machine<'_, '_> {
    pub(super) fn begin_upload(
        &mut self,
        upload: UploadId,
        generation: Generation,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> Applied {
        self.check_slot(bucket, key)?;
        self.open_bucket(bucket)?;
        self.check_generation(generation)?;
        let old = rows::read_upload(self.rows, upload)?;
        if let Some(old) = &old {
            if old.bucket != bucket || old.key != *key || old.generation != generation {
                return Err(invalid("the upload has begun otherwise"));
            }
            match old.state {
                // A late copy of the command that began it.
                UploadState::Committed => return Ok(Outcome::Done),
                UploadState::Dead | UploadState::Removed => {
                    return Err(Refusal::UploadLost("it was given up".to_owned()).into());
                }
                UploadState::Open(deadline) => {
                    self.rows.delete(&keys::intent(deadline, upload))?;
                }
            }
        }
        if old.is_none() {
            self.head.totals.uploads += 1;
        }
        let deadline = self.now().plus(INTENT_MILLIS);
        self.put(&keys::intent(deadline, upload), &generation)?;
        let row = UploadRow {
            bucket,
            key: key.clone(),
            generation,
            state: UploadState::Open(deadline),
        };
        self.put(&keys::upload(upload), &row)?;
        Ok(Outcome::Done)
    }

    pub(super) fn append_chunks(&mut self, upload: UploadId, chunks: &[Chunk]) -> Applied {
        let row = rows::read_upload(self.rows, upload)?;
        match row.as_ref().map(|row| row.state) {
            Some(UploadState::Open(_)) => {}
            Some(UploadState::Committed) => return Err(invalid("the upload is committed")),
            Some(UploadState::Dead | UploadState::Removed) | None => {
                return Err(Refusal::UploadLost("it is not known".to_owned()).into());
            }
        }
        if let Some(row) = row {
            self.check_generation(row.generation)?;
        }
        self.check_chunks(chunks)?;
        for chunk in chunks {
            self.check_new_places(upload, chunk)?;
        }
        for chunk in chunks {
            let old: Option<Chunk> = rows::read(self.rows, &keys::chunk(upload, chunk.index))?;
            self.write_chunk(upload, old.as_ref(), chunk)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn abort_upload(&mut self, upload: UploadId) -> Applied {
        let Some(row) = rows::read_upload(self.rows, upload)? else {
            return Ok(Outcome::Done);
        };
        if row.state == UploadState::Committed {
            return Err(invalid("the upload is committed"));
        }
        self.give_up(upload, row)?;
        Ok(Outcome::Done)
    }

    /// Gives an upload that is open up.
    pub(super) fn give_up(
        &mut self,
        upload: UploadId,
        mut row: UploadRow,
    ) -> Result<(), StoreError> {
        let UploadState::Open(deadline) = row.state else {
            return Ok(());
        };
        self.rows.delete(&keys::intent(deadline, upload))?;
        self.head.totals.uploads -= 1;
        // Those that are left a tick removes; that needs no mark in this row.
        let _ = self.discard_chunks(self.now(), upload)?;
        row.state = UploadState::Dead;
        self.mark(&keys::dead_upload(row.generation.0, upload))?;
        self.put(&keys::upload(upload), &row)
    }

    pub(super) fn advance_generation(&mut self) -> Applied {
        self.head.current.0 += 1;
        Ok(self.generations())
    }

    pub(super) fn raise_floor(&mut self, to: Generation) -> Applied {
        let mut floor = to.min(self.head.current);
        let live = RowKey::new(Table::Intents).time(self.now().plus(1)).done();
        let end = keys::after_prefix(&RowKey::new(Table::Intents).done());
        self.rows.scan(&live, &end, &mut |_, value| {
            floor = floor.min(rows::decode(value)?);
            Ok(true)
        })?;
        self.head.floor = self.head.floor.max(floor);
        Ok(self.generations())
    }

    fn generations(&self) -> Outcome {
        Outcome::Generation {
            current: self.head.current,
            floor: self.head.floor,
        }
    }

    /// Gives up to `limit` uploads up whose intents were not renewed.
    pub(super) fn drop_late_uploads(&mut self, limit: usize) -> Result<(), StoreError> {
        let from = RowKey::new(Table::Intents).done();
        let to = RowKey::new(Table::Intents).time(self.now().plus(1)).done();
        for (key, _) in rows::page(self.rows, &from, &to, limit)? {
            let mut key = KeyReader::after_table(&key);
            key.time()?;
            let upload = UploadId::from_bytes(key.take()?);
            let row = rows::read_upload(self.rows, upload)?
                .ok_or_else(|| StoreError::Corrupt(format!("no row of the upload {upload}")))?;
            self.give_up(upload, row)?;
        }
        Ok(())
    }

    /// Forgets up to `limit` dead uploads that the floor refuses by now.
    pub(super) fn forget_dead_uploads(&mut self, limit: usize) -> Result<(), StoreError> {
        let from = RowKey::new(Table::DeadUploads).done();
        let to = RowKey::new(Table::DeadUploads)
            .u64(self.head.floor.0)
            .done();
        for (row, _) in rows::page(self.rows, &from, &to, limit)? {
            let mut key = KeyReader::after_table(&row);
            key.u64()?;
            let upload = UploadId::from_bytes(key.take()?);
            // Not before its last chunk is gone: chunks need the row.
            if !self.is_being_removed(upload)? {
                self.rows.delete(&row)?;
                self.rows.delete(&keys::upload(upload))?;
            }
        }
        Ok(())
    }
}
