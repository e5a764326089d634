//! Repair and clean-up: fragments that are missing, replaced or collected.
//!
//! A fragment's name is its place in a chunk, so one that takes the place of
//! another on the same disk bears the same name as what is to be deleted
//! there. Two rules keep clean-up from deleting the newcomer: a place whose
//! garbage waits is refused, and one whose garbage was collected needs a
//! generation later than the collection, since a fragment written before may
//! be what was deleted. For this, collecting such garbage advances the
//! generation.

use holdfast_model::{Chunk, FragmentPlace, Generation, UploadId};

use super::keys;
use super::rows::{self, LiveGarbageRow, UploadState};
use super::stored::{REPLACED_GRACE_MILLIS, check_places};
use super::{Applied, Machine, Stop, invalid};
use crate::command::{GarbageId, MissingFragment, Outcome, Refusal};
use crate::store::StoreError;

/// The most items in one report or collection.
const MAX_ITEMS: usize = 10_000;

impl Machine<'_, '_> {
    fn read_chunk(&self, upload: UploadId, chunk: u32) -> Result<Option<Chunk>, StoreError> {
        rows::read(self.rows, &keys::chunk(upload, chunk))
    }

    fn upload_state(&self, upload: UploadId) -> Result<Option<UploadState>, StoreError> {
        Ok(rows::read_upload(self.rows, upload)?.map(|row| row.state))
    }

    /// Removes fragments from their chunks. What may be left of them on disk is
    /// overwritten by the repair, or found by the clean-up by generations.
    pub(super) fn report_missing(&mut self, fragments: &[MissingFragment]) -> Applied {
        if fragments.len() > MAX_ITEMS {
            return Err(invalid("too many fragments for one command"));
        }
        for missing in fragments {
            let Some(old) = self.read_chunk(missing.upload, missing.chunk)? else {
                continue;
            };
            let mut chunk = old.clone();
            chunk.fragments.retain(|place| *place != missing.place);
            if chunk.fragments.len() == old.fragments.len() {
                continue;
            }
            self.put_chunk(missing.upload, Some(&old), &chunk)?;
            let state = self.upload_state(missing.upload)?;
            // Those that are being removed are listed until their rows go.
            if matches!(state, Some(UploadState::Committed | UploadState::Removed)) {
                self.uncount_degraded(missing.upload, &old)?;
                self.count_degraded(missing.upload, &chunk)?;
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn replace_fragments(
        &mut self,
        upload: UploadId,
        index: u32,
        seen: &[FragmentPlace],
        now: &[FragmentPlace],
        generation: Generation,
    ) -> Applied {
        let old = self.read_chunk(upload, index)?.ok_or(Refusal::Stale)?;
        let committed = self.upload_state(upload)? == Some(UploadState::Committed);
        if old.fragments != seen || !committed {
            return Err(Refusal::Stale.into());
        }
        self.check_generation(generation)?;
        check_places(&old, now)?;
        if !old.redundancy.readable(now.len()) && now.len() < old.fragments.len() {
            return Err(invalid("too few fragments would be left"));
        }
        self.check_fences(upload, index, seen, now, generation)?;
        self.uncount_degraded(upload, &old)?;
        let due = self.now().plus(REPLACED_GRACE_MILLIS);
        self.discard_places(due, upload, &old, now)?;
        let chunk = Chunk {
            fragments: now.to_vec(),
            ..old.clone()
        };
        self.put_chunk(upload, Some(&old), &chunk)?;
        self.count_degraded(upload, &chunk)?;
        Ok(Outcome::Done)
    }

    /// Whether a chunk given by an upload takes no place that was its own
    /// before and is being cleaned up.
    pub(super) fn check_new_places(&self, upload: UploadId, chunk: &Chunk) -> Result<(), Stop> {
        let old = self.read_chunk(upload, chunk.index)?;
        let seen = old.map(|old| old.fragments).unwrap_or_default();
        self.check_fences(
            upload,
            chunk.index,
            &seen,
            &chunk.fragments,
            chunk.generation,
        )
    }

    fn check_fences(
        &self,
        upload: UploadId,
        chunk: u32,
        seen: &[FragmentPlace],
        now: &[FragmentPlace],
        generation: Generation,
    ) -> Result<(), Stop> {
        let prefix = keys::live_garbage_of(upload, chunk);
        for (_, value) in rows::prefixed(self.rows, &prefix, usize::MAX)? {
            let row: LiveGarbageRow = rows::decode(&value)?;
            let fenced = row
                .collected
                .is_none_or(|collected| generation <= collected);
            let takes = |place: &&FragmentPlace| {
                !seen.contains(place) && row.places.contains(&(place.index, place.disk))
            };
            if fenced && let Some(place) = now.iter().find(takes) {
                let why = format!(
                    "fragment {} on disk {} is still to be cleaned up",
                    place.index, place.disk
                );
                return Err(Refusal::Held(why).into());
            }
        }
        Ok(())
    }

    pub(super) fn collected_garbage(&mut self, items: &[GarbageId]) -> Applied {
        if items.len() > MAX_ITEMS {
            return Err(invalid("too many items for one command"));
        }
        let generation = self.head.current;
        let mut fenced = false;
        for id in items {
            if !self.rows.delete(&keys::garbage(id))? {
                continue;
            }
            self.head.totals.garbage -= 1;
            let live = keys::live_garbage(id);
            let Some(mut row) = rows::read::<LiveGarbageRow>(self.rows, &live)? else {
                continue;
            };
            row.collected = Some(generation);
            self.put(&live, &row)?;
            self.add_fence(generation.0, id)?;
            fenced = true;
        }
        if fenced {
            self.head.current.0 += 1;
        }
        Ok(Outcome::Done)
    }
}
