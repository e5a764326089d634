//! Which fragments there are and where. A sorted base on disk holds them as of
//! one moment ([`base`]); what has changed since is in memory, in one map while
//! all is quiet and in two while they are merged into the next base. The maps
//! are let grow to a sixteenth of the base, so that a fragment costs some twelve
//! bytes of memory at most and not the 90 of a map.
//!
//! Reading the base is IO, and the index is locked only briefly:
//! [`Shared::with_entry`] looks first and then makes sure that nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use holdfast_model::{FragmentId, Generation};

use crate::digest::Digests;
use crate::engine::Shared;
use crate::format::{ALIGN, align, closing_at, closing_bytes, extent_bytes};
use crate::segment::Segment;

pub(crate) mod base;
mod entry;
pub(crate) mod journal;

use base::Base;
use journal::{Change, ExtentPayload};

/// The index cannot be read; what it speaks of may be whole.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The operating system refused.
    #[error("reading the index")]
    Io(#[from] io::Error),
    /// A file of the index is not what was written.
    #[error("index {number} is damaged: {what}")]
    Damaged {
        /// Its number.
        number: u64,
        /// What did not match.
        what: &'static str,
    },
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// Where a fragment is. Offsets fit in 32 bits as segments are at most 2 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub segment: u32,
    pub offset: u32,
    pub max_bytes: u32,
    pub bytes: u32,
    pub checksum: u32,
    pub corrupt: bool,
    pub generation: Generation,
}

impl Default for Location {
    fn default() -> Self {
        Self {
            segment: 0,
            offset: 0,
            max_bytes: 0,
            bytes: 0,
            checksum: 0,
            corrupt: false,
            generation: Generation(0),
        }
    }
}

impl Location {
    pub(crate) fn place(&self) -> Place {
        (self.segment, self.offset)
    }

    /// Bytes of the disk that it takes, without what was given back.
    pub(crate) fn occupied(&self) -> u64 {
        let max = u64::from(self.max_bytes);
        ALIGN + align(u64::from(self.bytes)) + closing_bytes(max)
    }
}

/// Segment and offset: the name of an extent.
pub(crate) type Place = (u32, u32);

/// An extent and the segment that holds it.
#[derive(Clone)]
pub(crate) struct Extent {
    pub segment: Arc<Segment>,
    pub offset: u64,
    pub max_bytes: u64,
}

impl Extent {
    pub(crate) fn place(&self) -> Place {
        (self.segment.number, self.offset as u32)
    }

    pub(crate) fn payload(&self, id: FragmentId) -> ExtentPayload {
        ExtentPayload {
            id,
            segment: self.segment.number,
            offset: self.offset as u32,
            max_bytes: self.max_bytes as u32,
        }
    }

    pub(crate) fn data_at(&self) -> u64 {
        self.offset + ALIGN
    }

    pub(crate) fn closing_at(&self) -> u64 {
        self.offset + closing_at(self.max_bytes)
    }

    pub(crate) fn bytes(&self) -> u64 {
        extent_bytes(self.max_bytes)
    }

    /// What was reserved and not used by `bytes` of data: offset and length.
    pub(crate) fn unused(&self, bytes: u64) -> (u64, u64) {
        let from = self.data_at() + align(bytes);
        (from, self.closing_at() - from)
    }
}

/// What has changed since a base; `None` for what is gone.
pub(crate) type Delta = BTreeMap<FragmentId, Option<Location>>;

/// How much of a segment is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Use {
    pub fragments: u64,
    /// Bytes of the disk.
    pub bytes: u64,
}

/// Sums over all fragments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    pub fragments: u64,
    /// Of data.
    pub bytes: u64,
    pub corrupt: u64,
    pub segments: BTreeMap<u32, Use>,
    pub digests: Digests,
}

impl Totals {
    pub(crate) fn add(&mut self, id: &FragmentId, at: &Location) {
        self.fragments += 1;
        self.bytes += u64::from(at.bytes);
        self.corrupt += u64::from(at.corrupt);
        let used = self.segments.entry(at.segment).or_default();
        used.fragments += 1;
        used.bytes += at.occupied();
        self.digests.add(id, at);
    }

    fn remove(&mut self, id: &FragmentId, at: &Location) {
        self.fragments -= 1;
        self.bytes -= u64::from(at.bytes);
        self.corrupt -= u64::from(at.corrupt);
        if let Some(used) = self.segments.get_mut(&at.segment) {
            used.fragments -= 1;
            used.bytes -= at.occupied();
            if used.fragments == 0 {
                self.segments.remove(&at.segment);
            }
        }
        self.digests.remove(id, at);
    }
}

/// The fragments, and the extents that are on their way in or out.
#[derive(Default)]
pub(crate) struct Index {
    pub base: Option<Arc<Base>>,
    /// What is being merged into the next base.
    pub frozen: Option<Arc<Delta>>,
    pub delta: Delta,
    /// Whether there is a journal that must hear of changes.
    pub journaled: bool,
    /// What has changed since the last line of the journal.
    pub unsaved: BTreeSet<FragmentId>,
    /// Ids that a writer is finishing, and what is listed of them now: two must
    /// not, or after a crash it would be open which of them was acknowledged.
    pub finishing: BTreeMap<FragmentId, Option<Location>>,
    /// Ids that compaction is moving: nobody deletes or replaces them meanwhile.
    pub moving: BTreeSet<FragmentId>,
    /// Extents of writers.
    pub held: BTreeMap<Place, ExtentPayload>,
    /// Extents given up or deleted, kept here until that is durable: a delete
    /// is answered only after every extent of its id has left.
    pub freeing: BTreeMap<Place, (FragmentId, Extent)>,
    pub totals: Totals,
}

impl Index {
    /// What the maps say of a fragment; the outer `None` when they are silent.
    pub(crate) fn recent(&self, id: &FragmentId) -> Option<Option<Location>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(id));
        self.delta.get(id).or_else(frozen).copied()
    }

    /// Lists a fragment, or no longer does. `old` is what was listed before.
    pub(crate) fn set(&mut self, id: FragmentId, old: Option<Location>, new: Option<Location>) {
        if let Some(old) = &old {
            self.totals.remove(&id, old);
        }
        if let Some(new) = &new {
            self.totals.add(&id, new);
        }
        if let Some(known) = self.finishing.get_mut(&id) {
            *known = new;
        }
        if self.journaled {
            self.unsaved.insert(id);
        }
        if self.base.is_none() && self.frozen.is_none() && new.is_none() {
            self.delta.remove(&id);
        } else {
            self.delta.insert(id, new);
        }
    }

    pub(crate) fn is_based_on(&self, base: &Arc<Base>) -> bool {
        self.base.as_ref().is_some_and(|now| Arc::ptr_eq(now, base))
    }

    /// Whether a segment holds no extent that is not free.
    pub(crate) fn is_clear_of(&self, segment: u32) -> bool {
        let all = (segment, 0)..=(segment, u32::MAX);
        !self.totals.segments.contains_key(&segment)
            && self.held.range(all.clone()).next().is_none()
            && self.freeing.range(all).next().is_none()
    }
}

impl Shared {
    /// Calls `with` on the locked index and what it says of a fragment. May
    /// read the base, so it blocks.
    pub(crate) fn with_entry<R>(
        &self,
        id: &FragmentId,
        with: impl FnOnce(&mut Index, Option<Location>) -> R,
    ) -> Result<R, IndexError> {
        loop {
            let base = {
                let mut index = self.index();
                if let Some(at) = index.recent(id) {
                    return Ok(with(&mut index, at));
                }
                let Some(base) = index.base.clone() else {
                    return Ok(with(&mut index, None));
                };
                base
            };
            let found = base.find(id);
            let mut index = self.index();
            if !index.is_based_on(&base) || index.recent(id).is_some() {
                continue;
            }
            match found {
                Ok(found) => return Ok(with(&mut index, found)),
                Err(error) => {
                    drop(index);
                    return Err(self.index_is_bad(error));
                }
            }
        }
    }

    /// What is listed of a fragment. Blocks.
    pub(crate) fn entry(&self, id: &FragmentId) -> Result<Option<Location>, IndexError> {
        self.with_entry(id, |_, at| at)
    }

    /// Marks a fragment as corrupt; false when it is no longer at that place.
    /// Blocks.
    pub(crate) fn mark_corrupt(&self, id: &FragmentId, place: Place) -> Result<bool, IndexError> {
        self.with_entry(id, |index, at| match at {
            Some(at) if at.place() == place => {
                let corrupt = true;
                index.set(*id, Some(at), Some(Location { corrupt, ..at }));
                true
            }
            _ => false,
        })
    }

    /// Up to `limit` fragments after `after`, sorted: each as it was at some
    /// moment during the call. Blocks.
    pub(crate) fn rows_after(
        &self,
        after: Option<FragmentId>,
        limit: usize,
    ) -> Result<Vec<(FragmentId, Location)>, IndexError> {
        let mut rows = Vec::new();
        let mut after = after;
        loop {
            let wanted = limit - rows.len();
            let (slice, to) = {
                let index = self.index();
                IndexSlice::take(&index, after, wanted)
            };
            let base = slice.base.clone();
            let had = rows.len();
            if let Err(error) = slice.merge(after, to, limit, &mut rows) {
                // A base that was replaced meanwhile may be gone.
                let replaced = base.is_some_and(|base| !self.index().is_based_on(&base));
                if !replaced {
                    return Err(self.index_is_bad(error));
                }
                rows.truncate(had);
                continue;
            }
            if to.is_none() || rows.len() >= limit {
                return Ok(rows);
            }
            after = to;
        }
    }
}

/// A part of the index as of one moment.
pub(crate) struct IndexSlice {
    delta: Vec<Change>,
    frozen: Option<Arc<Delta>>,
    base: Option<Arc<Base>>,
}

impl IndexSlice {
    /// All of the index, with `delta` in place of its own newest changes.
    pub(crate) fn whole(frozen: Arc<Delta>, base: Option<Arc<Base>>) -> Self {
        Self {
            delta: Vec::new(),
            frozen: Some(frozen),
            base,
        }
    }

    /// Up to `most` changes are copied; with more, the name to which the slice
    /// speaks is returned.
    fn take(index: &Index, after: Option<FragmentId>, most: usize) -> (Self, Option<FragmentId>) {
        use std::ops::Bound::{Excluded, Unbounded};
        // An empty page would never end.
        let most = most.max(1);
        let from = after.map_or(Unbounded, Excluded);
        let range = index.delta.range((from, Unbounded)).take(most);
        let delta: Vec<Change> = range.map(|(id, at)| (*id, *at)).collect();
        let to = delta.last().filter(|_| delta.len() == most);
        let to = to.map(|(id, _)| *id);
        let slice = Self {
            delta,
            frozen: index.frozen.clone(),
            base: index.base.clone(),
        };
        (slice, to)
    }

    fn merge(
        self,
        after: Option<FragmentId>,
        to: Option<FragmentId>,
        limit: usize,
        rows: &mut Vec<(FragmentId, Location)>,
    ) -> Result<(), IndexError> {
        for row in self.rows(after) {
            let (id, at) = row?;
            if rows.len() >= limit || to.is_some_and(|to| id > to) {
                break;
            }
            rows.push((id, at));
        }
        Ok(())
    }

    /// The rows after a name, in order: what is newer goes first.
    pub(crate) fn rows(
        self,
        after: Option<FragmentId>,
    ) -> impl Iterator<Item = Result<(FragmentId, Location), IndexError>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut newest = self.delta.into_iter().peekable();
        let mut base = self.base.map(|base| base.after(after).peekable());
        let mut frozen_after = after;
        let frozen = self.frozen;
        let next_frozen = move |past: bool, at: &mut Option<FragmentId>| -> Option<Change> {
            let from = at.map_or(Unbounded, Excluded);
            let next = frozen.as_ref()?.range((from, Unbounded)).next();
            let next = next.map(|(id, at)| (*id, *at));
            if past {
                *at = next.map(|(id, _)| id).or(*at);
            }
            next
        };
        std::iter::from_fn(move || {
            loop {
                let of_base = match base.as_mut().and_then(|base| base.peek()) {
                    Some(Err(_)) => {
                        let error = base.as_mut().and_then(Iterator::next)?;
                        base = None;
                        return Some(error);
                    }
                    Some(Ok((id, _))) => Some(*id),
                    None => None,
                };
                let of_frozen = next_frozen(false, &mut frozen_after).map(|(id, _)| id);
                let of_newest = newest.peek().map(|(id, _)| *id);
                let id = [of_base, of_frozen, of_newest]
                    .into_iter()
                    .flatten()
                    .min()?;
                // Of each that speaks of it the row is taken; the newest counts.
                let mut row = None;
                if of_base == Some(id)
                    && let Some(Ok((_, at))) = base.as_mut().and_then(Iterator::next)
                {
                    row = Some(at);
                }
                if of_frozen == Some(id) {
                    row = next_frozen(true, &mut frozen_after).and_then(|(_, at)| at);
                }
                if of_newest == Some(id) {
                    row = newest.next().and_then(|(_, at)| at);
                }
                if let Some(at) = row {
                    return Some(Ok((id, at)));
                }
            }
        })
    }
}
