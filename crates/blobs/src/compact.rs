//! Compaction: what still lives in segments that are nearly empty moves to the
//! newest one, so that their files, with all their holes, can go.
//!
//! A fragment is read and verified, its copy is written and synced, the copy is
//! read back and verified, then the index is switched, and only then is the
//! original freed. One that does not verify stays where it is, listed as
//! corrupt. While an id moves, whoever would delete or replace it waits: a copy
//! that is on disk and not listed yet must not outlive its fragment. A reader
//! that is overtaken goes on in the new place.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use holdfast_model::{FragmentHeader, FragmentId};
use holdfast_runtime::TasksExt;

use crate::engine::{Engine, Shared};
use crate::fatal::Failed;
use crate::format::ClosingPayload;
use crate::index::{Extent, IndexError, Location};
use crate::reader::soundness;
use crate::reclaim::DeleteError;
use crate::room::{Allowance, Held};
use crate::segment::{Found, Segment};
use crate::writer::WriteError;

/// A segment is compacted when less than this part of it is in use: four give
/// one, so that a byte is moved for every three that come free.
const SPARSE_PART: u64 = 4;
/// Fragments that move together and share a sync: who deletes one of them
/// waits for all.
const BATCH_FRAGMENTS: usize = 64;
/// Bytes that move together, unless one fragment has more.
const BATCH_BYTES: u64 = 4 << 20;
/// Rows of the index looked through at once.
const PAGE_ROWS: usize = 50_000;

/// Why fragments were not moved. They are where they were.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// Not even the reserve has room for the copies.
    #[error("the disk has no room for compaction")]
    Full,
    /// Writing the copies.
    #[error("writing copies")]
    Write(#[source] WriteError),
    /// Freeing the originals.
    #[error("freeing what was moved")]
    Free(#[from] DeleteError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk has failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// What a step of compaction did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Compacted {
    /// Fragments moved.
    pub moved: u64,
    /// Bytes of data read and written for them.
    pub bytes: u64,
    /// Fragments found corrupt; they stay.
    pub corrupt: u64,
    /// There is nothing to do for now.
    pub idle: bool,
}

/// Compacts, step by step. Make one for an engine and no more.
pub struct Compactor {
    engine: Engine,
    /// The segment being emptied, and what is still to be moved, last first.
    victim: Option<(u32, Vec<(FragmentId, Location)>)>,
    /// Segments that did not become empty, with the fragments they had left:
    /// left alone until that changes.
    stuck: BTreeMap<u32, u64>,
}

impl Compactor {
    /// A compactor of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            victim: None,
            stuck: BTreeMap::new(),
        }
    }

    /// Moves a batch of at most 64 fragments.
    ///
    /// # Errors
    /// When something was in the way; the next call goes on.
    pub async fn step(&mut self) -> Result<Compacted, CompactError> {
        self.engine.shared.fatal.check()?;
        if self.victim.as_ref().is_none_or(|(_, left)| left.is_empty()) {
            self.leave_victim();
            let Some(number) = self.engine.shared.sparsest(&self.stuck) else {
                let idle = true;
                return Ok(Compacted {
                    idle,
                    ..Compacted::default()
                });
            };
            let shared = self.engine.shared.clone();
            let left = self.engine.work(move || shared.rows_in(number)).await?;
            self.victim = Some((number, left));
        }
        let Some((_, left)) = &mut self.victim else {
            return Ok(Compacted::default());
        };
        let batch = next_batch(left);
        let result = self.engine.move_batch(batch).await;
        if result.is_err() {
            // What was not moved is found again.
            self.victim = None;
        }
        result
    }

    /// Remembers a segment that still holds something.
    fn leave_victim(&mut self) {
        let index = self.engine.shared.index();
        if let Some((number, _)) = self.victim.take()
            && let Some(used) = index.totals.segments.get(&number)
        {
            self.stuck.insert(number, used.fragments);
        }
        let there = &index.totals.segments;
        self.stuck.retain(|number, _| there.contains_key(number));
    }
}

fn next_batch(left: &mut Vec<(FragmentId, Location)>) -> Vec<(FragmentId, Location)> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some((id, at)) = left.pop() {
        bytes += u64::from(at.bytes);
        batch.push((id, at));
        if batch.len() >= BATCH_FRAGMENTS || bytes >= BATCH_BYTES {
            break;
        }
    }
    batch
}

/// A copy that is written and not listed.
struct Copy {
    id: FragmentId,
    old: Location,
    new: Location,
    held: Held,
}

/// Fragments on their way. Copies that were not listed are given up before
/// others may have the ids.
struct Moves {
    copies: Vec<Copy>,
    ids: Vec<FragmentId>,
    shared: Arc<Shared>,
}

impl Drop for Moves {
    fn drop(&mut self) {
        self.copies.clear();
        let mut index = self.shared.index();
        for id in &self.ids {
            index.moving.remove(id);
        }
        drop(index);
        self.shared.moved.notify_waiters();
    }
}

impl Engine {
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, CompactError> {
        let done = self.shared.tasks.blocking(work).await;
        Ok(done.ok_or(CompactError::Ending)??)
    }

    async fn move_batch(
        &self,
        batch: Vec<(FragmentId, Location)>,
    ) -> Result<Compacted, CompactError> {
        let mut did = Compacted::default();
        let shared = self.shared.clone();
        let copy = move || shared.copy_batch(batch);
        let done = self.shared.tasks.blocking(copy).await;
        let (moves, corrupt) = done.unwrap_or(Err(CompactError::Ending))?;
        did.corrupt += corrupt;
        self.shared.disk.reached("compact: copied");
        let mut segments: BTreeMap<u32, Arc<Segment>> = BTreeMap::new();
        for copy in &moves.copies {
            let segment = &copy.held.extent.segment;
            segments.insert(segment.number, segment.clone());
        }
        for segment in segments.values() {
            segment
                .commit(&self.shared.tasks, &self.shared.fatal)
                .await?;
        }
        self.shared.disk.reached("compact: synced");
        let switch = move || moves.switch();
        let done = self.shared.tasks.blocking(switch).await;
        let (moved, bytes) = done.ok_or(CompactError::Ending)??;
        did.moved += moved;
        did.bytes += bytes;
        self.shared.disk.reached("compact: switched");
        self.reclaim().await?;
        self.shared.disk.reached("compact: freed");
        self.keep_index_in_background();
        Ok(did)
    }
}

impl Moves {
    /// Reads every copy back, and lists those that are whole in place of their
    /// originals. Returns how many, and their bytes.
    fn switch(mut self) -> Result<(u64, u64), IndexError> {
        let (mut moved, mut bytes) = (0, 0);
        let mut copies = std::mem::take(&mut self.copies);
        copies.retain(|copy| {
            let (sound, _) = soundness(&copy.held.extent, &copy.id);
            if !sound {
                tracing::warn!(fragment = %copy.id, "a copy does not verify: the original stays");
            }
            sound
        });
        self.shared.disk.reached("compact: verified");
        for mut copy in copies {
            let shared = &self.shared;
            let switched = shared.with_entry(&copy.id, |index, now| {
                let Some(now) = now.filter(|now| now.place() == copy.old.place()) else {
                    return false;
                };
                index.held.remove(&copy.new.place());
                index.set(copy.id, Some(now), Some(copy.new));
                if let Some(old) = shared.extent(&now) {
                    index.freeing.insert(old.place(), (copy.id, old));
                }
                true
            })?;
            copy.held.kept = switched;
            moved += u64::from(switched);
            bytes += u64::from(switched) * u64::from(copy.new.bytes);
        }
        Ok((moved, bytes))
    }
}

impl Shared {
    /// The sealed segment of which the least is in use, if that is little.
    fn sparsest(&self, stuck: &BTreeMap<u32, u64>) -> Option<u32> {
        let index = self.index();
        let segments = self.segments();
        let sparse = segments.values().filter_map(|segment| {
            let used = index.totals.segments.get(&segment.number)?;
            let sealed = segment.sealed.load(Ordering::SeqCst);
            let fits = used.bytes.saturating_mul(SPARSE_PART) < segment.bytes;
            let stuck = stuck.get(&segment.number) == Some(&used.fragments);
            (sealed && segment.damaged == 0 && fits && !stuck)
                .then_some((used.bytes, segment.number))
        });
        sparse.min().map(|(_, number)| number)
    }

    /// The whole fragments in a segment, by falling offset. Blocks.
    fn rows_in(self: &Arc<Self>, segment: u32) -> Result<Vec<(FragmentId, Location)>, IndexError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.rows_after(after, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = Some(*last);
            let own = page.into_iter().filter(|(_, at)| at.segment == segment);
            found.extend(own.filter(|(_, at)| !at.corrupt));
        }
        found.sort_unstable_by_key(|(_, at)| std::cmp::Reverse(at.offset));
        Ok(found)
    }

    /// Claims the ids of a batch and writes copies of what verifies. Returns
    /// how many did not as well. Blocks.
    fn copy_batch(
        self: &Arc<Self>,
        batch: Vec<(FragmentId, Location)>,
    ) -> Result<(Moves, u64), CompactError> {
        self.fatal.check()?;
        let mut moves = Moves {
            copies: Vec::new(),
            ids: Vec::new(),
            shared: self.clone(),
        };
        let mut corrupt = 0;
        for (id, old) in batch {
            let claimed = self.with_entry(&id, |index, now| {
                let free = now == Some(old) && !index.finishing.contains_key(&id);
                free && index.moving.insert(id)
            })?;
            if !claimed {
                continue;
            }
            moves.ids.push(id);
            let Some(extent) = self.extent(&old) else {
                continue;
            };
            match read_verified(&extent, &id) {
                Ok((header, closing, data)) => {
                    let copy = self.write_copy(&old, header, closing, &data)?;
                    moves.copies.push(copy);
                }
                Err(what) => {
                    tracing::warn!(fragment = %id, what, "a fragment to be moved is corrupt");
                    self.mark_corrupt(&id, old.place())?;
                    corrupt += 1;
                }
            }
        }
        Ok((moves, corrupt))
    }

    fn write_copy(
        self: &Arc<Self>,
        old: &Location,
        header: FragmentHeader,
        closing: ClosingPayload,
        data: &Bytes,
    ) -> Result<Copy, CompactError> {
        let failed = |error: WriteError| match error {
            WriteError::Full => CompactError::Full,
            other => CompactError::Write(other),
        };
        // As long as the data: what was reserved and not used stays behind.
        let max_bytes = closing.bytes;
        let held = self.allocate(&header, max_bytes, Allowance::Reserve);
        let held = held.map_err(failed)?;
        let extent = held.extent.clone();
        let io = |error: io::Error| failed(WriteError::from_io(error));
        let file = &extent.segment.file;
        file.write_all_at(data, extent.data_at()).map_err(io)?;
        let closing = ClosingPayload {
            offset: extent.offset,
            max_bytes,
            durable_end: extent.segment.durable_end.load(Ordering::SeqCst),
            ..closing
        };
        self.close(&extent, &closing).map_err(failed)?;
        let new = Location {
            segment: extent.segment.number,
            offset: extent.offset as u32,
            max_bytes: max_bytes as u32,
            corrupt: false,
            ..*old
        };
        Ok(Copy {
            id: header.id,
            old: *old,
            new,
            held,
        })
    }
}

/// Header, closing record and data of a fragment, every checksum compared; or
/// what does not match.
fn read_verified(
    extent: &Extent,
    id: &FragmentId,
) -> Result<(FragmentHeader, ClosingPayload, Bytes), &'static str> {
    let segment = &extent.segment;
    let Ok(Some((_, Found::Header(header)))) = segment.record_at(extent.offset) else {
        return Err("its header");
    };
    let Ok(Some((_, Found::Closing(closing)))) = segment.record_at(extent.closing_at()) else {
        return Err("its closing record");
    };
    if header.fragment.id != *id || closing.fragment != header.fragment {
        return Err("its name");
    }
    let len = closing.bytes as usize;
    let Ok(data) = segment.file.read_at(extent.data_at(), len) else {
        return Err("its data, which cannot be read");
    };
    if crc32c::crc32c(&data) != closing.checksum {
        return Err("its data");
    }
    if !soundness(extent, id).0 {
        return Err("one of its blocks");
    }
    Ok((header.fragment, closing, data))
}
