//! Stored bytes: chunks, which of them are degraded, and garbage.
//!
//! An upload owns chunks. A commit checks that all chunks of a representation
//! are there with enough durable fragments; whatever a change leaves without a
//! reference becomes a row of garbage in the same command.

use std::collections::BTreeMap;

use holdfast_model::record::{Coding, INLINE_LIMIT_BYTES};
use holdfast_model::{
    BucketId, Chunk, DiskId, FragmentPlace, Generation, ObjectKey, Part, Representation, Timestamp,
    UploadId,
};

use super::rows::{self, LiveGarbageRow, UploadRow, UploadState};
use super::{Machine, Stop, invalid, keys};
use crate::command::{GarbageId, MAX_CHUNKS_PER_COMMAND, Refusal};
use crate::store::{Rows, StoreError};

/// The most parts of an object: the limit of S3.
const MAX_PARTS: usize = 10_000;
/// How long what was replaced is kept for readers that have begun on it, in
/// milliseconds: they look the object up again for each 1 GiB.
pub(super) const REPLACED_GRACE_MILLIS: u64 = 10 * 60 * 1_000;
/// The rank of chunks that cannot be read any more: behind all that can be repaired.
const LOST: u8 = u8::MAX;

/// What a command wants stored, before it is checked.
pub(super) struct Proposed<'c> {
    pub bucket: BucketId,
    pub key: &'c ObjectKey,
    pub representation: &'c Representation,
    /// Chunks that were not appended before, of the last part.
    pub chunks: &'c [Chunk],
    pub generation: Option<Generation>,
    /// Bytes of the object.
    pub size: u64,
}

/// What a checked commit has to write.
#[derive(Default)]
pub(super) struct CommitPlan {
    uploads: Vec<(UploadId, u32, UploadRow)>,
    new_chunks: Vec<(UploadId, Option<Chunk>, Chunk)>,
    degraded: Vec<(UploadId, Chunk)>,
}

/// Where a chunk stands in the order of repair; `None` when it is whole.
pub fn repair_rank(chunk: &Chunk) -> Option<u8> {
    if chunk.missing() == 0 {
        return None;
    }
    let spare = chunk
        .fragments
        .len()
        .checked_sub(usize::from(chunk.redundancy.data));
    Some(spare.map_or(LOST, |spare| spare.min(usize::from(LOST - 1)) as u8))
}

/// Whether a chunk's places are such as a chunk can have.
pub(super) fn check_places(chunk: &Chunk, places: &[FragmentPlace]) -> Result<(), Stop> {
    let fragments = chunk.redundancy.fragments();
    for (at, place) in places.iter().enumerate() {
        if usize::from(place.index) >= fragments {
            return Err(invalid(format!("a chunk has no fragment {}", place.index)));
        }
        let twice = |other: &FragmentPlace| other.index == place.index;
        if places.iter().skip(at + 1).any(twice) {
            return Err(invalid(format!("fragment {} is named twice", place.index)));
        }
    }
    Ok(())
}

fn lost(why: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::UploadLost(why.into()))
}

impl Machine<'_, '_> {
    /// Whether fragments of that generation may still be committed.
    pub(super) fn check_generation(&self, generation: Generation) -> Result<(), Stop> {
        if generation > self.head.current {
            return Err(invalid("the generation has not begun"));
        }
        if generation < self.head.floor {
            return Err(lost("its generation lies below the floor"));
        }
        Ok(())
    }

    /// Checks a list of chunks as it arrives.
    pub(super) fn check_chunks(&self, chunks: &[Chunk]) -> Result<(), Stop> {
        if chunks.len() > MAX_CHUNKS_PER_COMMAND {
            return Err(invalid("too many chunks for one command"));
        }
        for chunk in chunks {
            check_places(chunk, &chunk.fragments)?;
            self.check_generation(chunk.generation)?;
        }
        Ok(())
    }

    /// Checks that what is proposed is there, whole and durable enough.
    pub(super) fn plan_commit(&self, proposed: &Proposed<'_>) -> Result<CommitPlan, Stop> {
        let mut plan = CommitPlan::default();
        let parts = match proposed.representation {
            Representation::Inline { bytes, coding } => {
                let fits = bytes.len() as u64 <= INLINE_LIMIT_BYTES
                    && (*coding != Coding::Identity || bytes.len() as u64 == proposed.size);
                return if fits && proposed.chunks.is_empty() {
                    Ok(plan)
                } else {
                    Err(invalid("the inline bytes do not have the object's size"))
                };
            }
            Representation::Chunked { parts, .. } => parts,
        };
        let Some(generation) = proposed.generation else {
            return Err(invalid("a commit of chunks needs their generation"));
        };
        self.check_generation(generation)?;
        self.check_chunks(proposed.chunks)?;
        if parts.is_empty() || parts.len() > MAX_PARTS {
            return Err(invalid("too few or too many parts"));
        }
        if parts.iter().map(|part| part.size).sum::<u64>() != proposed.size {
            return Err(invalid("the parts do not add up to the object's size"));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (at, part) in parts.iter().enumerate() {
            if !seen.insert(part.upload) {
                return Err(invalid("two parts are of one upload"));
            }
            let last = at + 1 == parts.len();
            let chunks = if last { proposed.chunks } else { &[] };
            self.plan_part(proposed, generation, part, chunks, &mut plan)?;
        }
        Ok(plan)
    }

    fn plan_part(
        &self,
        proposed: &Proposed<'_>,
        generation: Generation,
        part: &Part,
        chunks: &[Chunk],
        plan: &mut CommitPlan,
    ) -> Result<(), Stop> {
        let row = match rows::read_upload(self.rows, part.upload)? {
            None => UploadRow {
                bucket: proposed.bucket,
                key: proposed.key.clone(),
                generation,
                state: UploadState::Committed,
            },
            Some(row) => {
                match row.state {
                    UploadState::Committed => return Err(invalid("the upload is committed")),
                    UploadState::Dead => return Err(lost("it was given up")),
                    UploadState::Removed => return Err(lost("its object is gone")),
                    UploadState::Open(_) => self.check_generation(row.generation)?,
                }
                if row.bucket != proposed.bucket || row.key != *proposed.key {
                    return Err(invalid("the upload is for another object"));
                }
                row
            }
        };
        let mut given: BTreeMap<u32, &Chunk> = BTreeMap::new();
        for chunk in chunks {
            if given.insert(chunk.index, chunk).is_some() {
                return Err(invalid("a chunk is given twice"));
            }
        }
        let mut check = PartCheck::new(part);
        let prefix = keys::chunks(part.upload);
        let mut bad = None;
        self.rows
            .scan(&prefix, &keys::after_prefix(&prefix), &mut |_, value| {
                let old: Chunk = rows::decode(value)?;
                let chunk = given.remove(&old.index);
                if let Err(stop) = check.take(chunk.unwrap_or(&old)) {
                    bad = Some(stop);
                    return Ok(false);
                }
                match chunk {
                    Some(chunk) => plan
                        .new_chunks
                        .push((part.upload, Some(old), chunk.clone())),
                    None if old.missing() > 0 => plan.degraded.push((part.upload, old)),
                    None => {}
                }
                Ok(true)
            })?;
        if let Some(stop) = bad {
            return Err(stop);
        }
        for chunk in given.into_values() {
            check.take(chunk)?;
            plan.new_chunks.push((part.upload, None, chunk.clone()));
        }
        check.finish()?;
        for chunk in chunks {
            self.check_new_places(part.upload, chunk)?;
        }
        plan.uploads.push((part.upload, part.chunks, row));
        Ok(())
    }

    /// Writes what [`Self::plan_commit`] has checked.
    pub(super) fn commit_plan(&mut self, plan: CommitPlan) -> Result<(), StoreError> {
        for (upload, chunks, mut row) in plan.uploads {
            if let UploadState::Open(deadline) = row.state {
                self.rows.delete(&keys::intent(deadline, upload))?;
                self.head.totals.uploads -= 1;
            }
            row.state = UploadState::Committed;
            self.put(&keys::upload(upload), &row)?;
            self.count_upload(upload, chunks)?;
        }
        for (upload, chunk) in plan.degraded {
            self.count_degraded(upload, &chunk)?;
        }
        for (upload, old, chunk) in plan.new_chunks {
            self.write_chunk(upload, old.as_ref(), &chunk)?;
            self.count_degraded(upload, &chunk)?;
        }
        Ok(())
    }

    /// Writes a chunk of an upload that runs; places that it had and has no
    /// longer become garbage.
    pub(super) fn write_chunk(
        &mut self,
        upload: UploadId,
        old: Option<&Chunk>,
        chunk: &Chunk,
    ) -> Result<(), StoreError> {
        match old {
            Some(old) => {
                let due = self.now().plus(REPLACED_GRACE_MILLIS);
                self.discard_places(due, upload, old, &chunk.fragments)?;
            }
            None => self.head.totals.chunks += 1,
        }
        self.put_chunk(upload, old, chunk)
    }

    /// Enters a chunk of a committed upload among the degraded, if it is.
    pub(super) fn count_degraded(
        &mut self,
        upload: UploadId,
        chunk: &Chunk,
    ) -> Result<(), StoreError> {
        match repair_rank(chunk) {
            None => return Ok(()),
            Some(LOST) => self.head.totals.lost += 1,
            Some(_) => self.head.totals.degraded += 1,
        }
        let rank = repair_rank(chunk).unwrap_or_default();
        self.count_in_range(upload, true)?;
        self.mark(&keys::degraded(rank, upload, chunk.index))
    }

    /// Takes a chunk from among the degraded, if it is there.
    pub(super) fn uncount_degraded(
        &mut self,
        upload: UploadId,
        chunk: &Chunk,
    ) -> Result<(), StoreError> {
        let Some(rank) = repair_rank(chunk) else {
            return Ok(());
        };
        if self
            .rows
            .delete(&keys::degraded(rank, upload, chunk.index))?
        {
            self.count_in_range(upload, false)?;
            match rank {
                LOST => self.head.totals.lost -= 1,
                _ => self.head.totals.degraded -= 1,
            }
        }
        Ok(())
    }

    /// Makes those places of a chunk garbage that are not in `kept`; the chunk
    /// itself lives on.
    pub(super) fn discard_places(
        &mut self,
        due: Timestamp,
        upload: UploadId,
        chunk: &Chunk,
        kept: &[FragmentPlace],
    ) -> Result<(), StoreError> {
        let places: Vec<(u8, DiskId)> = chunk
            .fragments
            .iter()
            .filter(|place| !kept.contains(place))
            .map(|place| (place.index, place.disk))
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        let id = self.add_garbage(due, upload, chunk.index, &places)?;
        let live = LiveGarbageRow {
            places,
            collected: None,
        };
        self.put(&keys::live_garbage(&id), &live)
    }

    pub(super) fn add_garbage(
        &mut self,
        due: Timestamp,
        upload: UploadId,
        chunk: u32,
        places: &[(u8, DiskId)],
    ) -> Result<GarbageId, StoreError> {
        let id = GarbageId {
            due,
            upload,
            chunk,
            serial: self.next_sequence(),
        };
        self.put(&keys::garbage(&id), &places.to_vec())?;
        self.head.totals.garbage += 1;
        Ok(id)
    }
}

/// Sums up the chunks of a part, in any order and each once.
struct PartCheck<'p> {
    part: &'p Part,
    count: u32,
    size: u64,
}

impl<'p> PartCheck<'p> {
    fn new(part: &'p Part) -> Self {
        Self {
            part,
            count: 0,
            size: 0,
        }
    }

    fn take(&mut self, chunk: &Chunk) -> Result<(), Stop> {
        if chunk.index >= self.part.chunks {
            return Err(invalid("the part has fewer chunks"));
        }
        if chunk.index + 1 < self.part.chunks && chunk.size != self.part.chunk_bytes {
            return Err(invalid("a chunk that is not the last has another size"));
        }
        if chunk.fragments.len() < chunk.redundancy.enough() {
            return Err(lost(format!("chunk {} is not durable enough", chunk.index)));
        }
        self.count += 1;
        self.size += u64::from(chunk.size);
        Ok(())
    }

    fn finish(&self) -> Result<(), Stop> {
        if self.count < self.part.chunks {
            return Err(lost(format!(
                "{} of {} chunks are missing",
                self.part.chunks - self.count,
                self.part.chunks
            )));
        }
        if self.size != self.part.size {
            return Err(invalid("the chunks do not add up to the part's size"));
        }
        Ok(())
    }
}
