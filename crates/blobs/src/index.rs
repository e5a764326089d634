//! Which fragments there are and where: all of it in memory, rebuilt by the
//! scan at the start. A fragment costs 56 bytes, and about 90 with the tree's
//! own overhead: a million fragments are some 90 MB.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_model::{FragmentId, Generation};

use crate::format::{ALIGN, align, closing_at, extent_bytes};
use crate::segment::Segment;

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

impl Location {
    pub(crate) fn place(&self) -> Place {
        (self.segment, self.offset)
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

/// The fragments, and the extents that are on their way out.
#[derive(Default)]
pub(crate) struct Index {
    pub fragments: BTreeMap<FragmentId, Location>,
    /// Ids that a writer is finishing: two must not, or after a crash it would
    /// be open which of them was acknowledged.
    pub finishing: BTreeSet<FragmentId>,
    /// Extents given up or deleted, kept here until that is durable: a delete
    /// is answered only after every extent of its id has left.
    pub freeing: BTreeMap<Place, (FragmentId, Extent)>,
    /// Bytes of all fragments.
    pub bytes: u64,
    /// How many are corrupt.
    pub corrupt: u64,
}

impl Index {
    pub(crate) fn insert(&mut self, id: FragmentId, location: Location) -> Option<Location> {
        self.bytes += u64::from(location.bytes);
        self.corrupt += u64::from(location.corrupt);
        let old = self.fragments.insert(id, location);
        self.uncount(old);
        old
    }

    pub(crate) fn remove(&mut self, id: &FragmentId) -> Option<Location> {
        let old = self.fragments.remove(id);
        self.uncount(old);
        old
    }

    /// Marks a fragment as corrupt; false when it is no longer at that place.
    pub(crate) fn mark_corrupt(&mut self, id: &FragmentId, place: Place) -> bool {
        match self.fragments.get_mut(id) {
            Some(at) if at.place() == place => {
                self.corrupt += u64::from(!at.corrupt);
                at.corrupt = true;
                true
            }
            _ => false,
        }
    }

    fn uncount(&mut self, old: Option<Location>) {
        self.bytes -= old.map_or(0, |old| u64::from(old.bytes));
        self.corrupt -= old.map_or(0, |old| u64::from(old.corrupt));
    }
}
