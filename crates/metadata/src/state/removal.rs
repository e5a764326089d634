//! Removal of chunks that nobody refers to any more, in steps.
//!
//! An object may have hundreds of thousands of chunks, and a command must not
//! take longer than an election. So a command removes at most
//! [`ROWS_PER_COMMAND`] of their rows; uploads of which more is left are entered
//! in a table, and each tick goes on with them. Nothing but the log drives it:
//! whoever leads proposes ticks while there is something in that table.
//!
//! ```text
//! Committed -> Removed -> (its last row gone) no row
//! Open      -> Dead    -> (its last row gone) Dead, until the floor has passed
//! ```
//!
//! From the first command on no object refers to the upload, nobody repairs its
//! chunks, and the census does not count them. Their fragments are referred to
//! until their rows have become garbage, so that none is ever an orphan.

use holdfast_model::{Chunk, Representation, Timestamp, UploadId};

use super::Machine;
use super::keys::{self, KeyReader, RowKey, Table};
use super::rows::{self, UploadState};
use crate::store::{Rows, StoreError};

/// Chunk rows that one command removes: 8 GiB of an object, some 10 ms of work.
pub(super) const ROWS_PER_COMMAND: usize = 1_024;
/// Uploads that are looked at in one tick, of those being removed.
const UPLOADS_PER_TICK: usize = 256;

/// Whether any upload is being removed.
pub(super) fn waits(view: &impl Rows) -> Result<bool, StoreError> {
    let table = RowKey::new(Table::Removing).done();
    Ok(!rows::prefixed(view, &table, 1)?.is_empty())
}

impl Machine<'_, '_> {
    /// Removes what a representation refers to: its uploads at once, their
    /// chunks as far as this command may.
    pub(super) fn discard_representation(
        &mut self,
        due: Timestamp,
        representation: &Representation,
    ) -> Result<(), StoreError> {
        let Representation::Chunked { parts, .. } = representation else {
            return Ok(());
        };
        for part in parts {
            let upload = part.upload;
            self.uncount_upload(upload, part.chunks)?;
            if self.discard_chunks(due, upload)? {
                self.rows.delete(&keys::upload(upload))?;
            } else if let Some(mut row) = rows::read_upload(self.rows, upload)? {
                row.state = UploadState::Removed;
                self.put(&keys::upload(upload), &row)?;
            }
        }
        Ok(())
    }

    /// Removes chunks of an upload, as many as this command may; their
    /// fragments become garbage that is due at `due`. Whether none are left;
    /// else ticks go on with them.
    pub(super) fn discard_chunks(
        &mut self,
        due: Timestamp,
        upload: UploadId,
    ) -> Result<bool, StoreError> {
        let page = rows::prefixed(self.rows, &keys::chunks(upload), self.removable + 1)?;
        let all = page.len() <= self.removable;
        for (_, value) in page.into_iter().take(self.removable) {
            self.removable -= 1;
            let chunk: Chunk = rows::decode(&value)?;
            self.uncount_degraded(upload, &chunk)?;
            self.delete_chunk(upload, &chunk)?;
            self.head.totals.chunks -= 1;
            let places: Vec<_> = chunk.fragments.iter().map(|p| (p.index, p.disk)).collect();
            if !places.is_empty() {
                self.add_garbage(due, upload, chunk.index, &places)?;
            }
        }
        if !all {
            self.put(&keys::removing(upload), &due)?;
        }
        Ok(all)
    }

    /// Whether chunks of an upload wait to be removed.
    pub(super) fn is_being_removed(&self, upload: UploadId) -> Result<bool, StoreError> {
        Ok(self.rows.get(&keys::removing(upload))?.is_some())
    }

    /// Goes on with uploads that are being removed.
    pub(super) fn go_on_removing(&mut self) -> Result<(), StoreError> {
        let table = RowKey::new(Table::Removing).done();
        for (key, value) in rows::prefixed(self.rows, &table, UPLOADS_PER_TICK)? {
            let upload = UploadId::from_bytes(KeyReader::after_table(&key).take()?);
            if !self.discard_chunks(rows::decode(&value)?, upload)? {
                return Ok(());
            }
            self.rows.delete(&key)?;
            let row = rows::read_upload(self.rows, upload)?;
            if row.is_some_and(|row| row.state == UploadState::Removed) {
                self.rows.delete(&keys::upload(upload))?;
            }
        }
        Ok(())
    }
}
