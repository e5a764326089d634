//! Which fragments there are and where. A sorted base on disk holds them as of
//! one moment ([`base`]); what has changed since is in memory ([`delta`]), once
//! while all is quiet and twice while it is merged into the next base. It is let
//! grow to a sixteenth of the base, so that a fragment costs some eight bytes of
//! memory at most.
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
pub(crate) mod delta;
pub(crate) mod entry;
pub(crate) mod journal;
mod slice;

use base::Base;
use delta::Delta;
use journal::ExtentPayload;
pub(crate) use slice::IndexSlice;

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

    pub(crate) fn remove(&mut self, id: &FragmentId, at: &Location) {
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
    /// While a bad base is made anew: what was listed, at the freeze, of each
    /// fragment that has changed since.
    pub before: Option<Delta>,
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
        self.delta.get(id).or_else(frozen)
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
        if let Some(before) = self.before.as_mut().filter(|all| all.get(&id).is_none()) {
            before.insert(id, old);
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
        self: &Arc<Self>,
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
    pub(crate) fn entry(self: &Arc<Self>, id: &FragmentId) -> Result<Option<Location>, IndexError> {
        self.with_entry(id, |_, at| at)
    }

    /// Marks a fragment as corrupt; false when it is no longer at that place.
    /// Blocks.
    pub(crate) fn mark_corrupt(
        self: &Arc<Self>,
        id: &FragmentId,
        place: Place,
    ) -> Result<bool, IndexError> {
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
        self: &Arc<Self>,
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
            let base = slice.base();
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
