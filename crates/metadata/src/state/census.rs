//! The sums that a census compares with the disks, kept with every change of a
//! chunk or of what stands of its upload.
//!
//! They follow from the other rows alone, so a snapshot of a group has them and
//! whoever begins to lead has them at once; [`check_invariants`] computes them
//! again. A batch reads and writes the row of a range once, however many chunks
//! it changes.
//!
//! [`check_invariants`]: super::check_invariants

use holdfast_model::fragment::census_range;
use holdfast_model::{Chunk, UploadId};

use super::{Machine, keys, rows};
use crate::query::{Answer, RangeSums};
use crate::store::{Rows, StoreError};

/// The sums of all ranges that are not empty.
pub(super) fn sums(view: &impl Rows) -> Result<Answer, StoreError> {
    let table = keys::RowKey::new(keys::Table::Census).done();
    let rows = rows::prefixed(view, &table, holdfast_model::fragment::CENSUS_RANGES)?;
    let sums = rows.iter().map(|(_, value)| rows::decode(value));
    Ok(Answer::Census(sums.collect::<Result<_, _>>()?))
}

impl Machine<'_, '_> {
    fn sums_of(&mut self, upload: UploadId) -> Result<&mut RangeSums, StoreError> {
        use std::collections::btree_map::Entry;
        let range = census_range(upload);
        Ok(match self.census.entry(range) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let stored = rows::read(self.rows, &keys::census(range))?;
                new.insert(stored.unwrap_or_else(|| RangeSums::of(range)))
            }
        })
    }

    /// Writes the sums that a batch has changed.
    pub(super) fn save_census(&mut self) -> Result<(), StoreError> {
        for (range, sums) in std::mem::take(&mut self.census) {
            let key = keys::census(range);
            if sums.is_empty() {
                self.rows.delete(&key)?;
            } else {
                self.put(&key, &sums)?;
            }
        }
        Ok(())
    }

    /// Writes a chunk's row in place of what was there.
    pub(super) fn put_chunk(
        &mut self,
        upload: UploadId,
        old: Option<&Chunk>,
        new: &Chunk,
    ) -> Result<(), StoreError> {
        let group = self.rows.group();
        let sums = self.sums_of(upload)?;
        if let Some(old) = old {
            sums.remove(group, upload, old);
        }
        sums.add(group, upload, new);
        self.put(&keys::chunk(upload, new.index), new)
    }

    /// Removes a chunk's row.
    pub(super) fn delete_chunk(&mut self, upload: UploadId, old: &Chunk) -> Result<(), StoreError> {
        let group = self.rows.group();
        self.sums_of(upload)?.remove(group, upload, old);
        self.rows.delete(&keys::chunk(upload, old.index))?;
        Ok(())
    }

    /// Counts an upload of so many chunks that an object refers to from now on.
    pub(super) fn count_upload(&mut self, upload: UploadId, chunks: u32) -> Result<(), StoreError> {
        let sums = self.sums_of(upload)?;
        sums.objects = sums.objects.wrapping_add(u64::from(chunks > 0));
        sums.chunks = sums.chunks.wrapping_add(u64::from(chunks));
        Ok(())
    }

    /// No longer counts it.
    pub(super) fn uncount_upload(
        &mut self,
        upload: UploadId,
        chunks: u32,
    ) -> Result<(), StoreError> {
        let sums = self.sums_of(upload)?;
        sums.objects = sums.objects.wrapping_sub(u64::from(chunks > 0));
        sums.chunks = sums.chunks.wrapping_sub(u64::from(chunks));
        Ok(())
    }

    /// Counts one more, or one less, among the degraded of a range.
    pub(super) fn count_in_range(
        &mut self,
        upload: UploadId,
        more: bool,
    ) -> Result<(), StoreError> {
        let sums = self.sums_of(upload)?;
        let by = if more { 1 } else { u64::MAX };
        sums.degraded = sums.degraded.wrapping_add(by);
        Ok(())
    }
}
