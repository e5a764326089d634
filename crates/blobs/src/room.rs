//! Room for extents: who may have how much, segments that take them, and when
//! a segment goes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_model::{FragmentHeader, FragmentId};

use crate::engine::Shared;
use crate::format::{ALIGN, FreePayload, HeaderPayload, extent_bytes, kind, padded_record};
use crate::index::Extent;
use crate::segment::{Segment, is_full};
use crate::writer::WriteError;

/// Who asks for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Allowance {
    /// A fragment from outside.
    Fragment,
    /// Compaction, which gives back more than it takes.
    Reserve,
}

impl Allowance {
    /// What it must leave: compaction leaves half of the reserve to the
    /// metadata log.
    fn kept_back(self, reserve: u64) -> u64 {
        match self {
            Self::Fragment => reserve,
            Self::Reserve => reserve / 2,
        }
    }
}

/// Who gives out extents.
pub(crate) struct Allocator {
    /// The segment that takes extents.
    pub active: Option<Arc<Segment>>,
    pub next_segment: u32,
}

/// Holds an extent for a writer; given up when dropped, unless it was kept.
pub(crate) struct Held {
    pub shared: Arc<Shared>,
    pub id: FragmentId,
    pub extent: Extent,
    pub kept: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.kept {
            let mut index = self.shared.index();
            let place = self.extent.place();
            index.held.remove(&place);
            index.freeing.insert(place, (self.id, self.extent.clone()));
        }
    }
}

impl Segment {
    /// Bytes that no extent has yet.
    pub(crate) fn room(&self) -> u64 {
        self.bytes - self.headers_end.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Gives out an extent and writes its header. Blocks.
    pub(crate) fn allocate(
        self: &Arc<Self>,
        header: &FragmentHeader,
        max_bytes: u64,
        allowance: Allowance,
    ) -> Result<Held, WriteError> {
        let bytes = extent_bytes(max_bytes);
        let largest = self.settings.segment_bytes - ALIGN;
        if bytes > largest {
            return Err(WriteError::TooLarge { max_bytes });
        }
        let mut allocator = self.allocator();
        self.fatal.check()?;
        let space = self.disk.space().map_err(WriteError::Io)?;
        let usable = space
            .free
            .checked_sub(allowance.kept_back(self.reserve(space)))
            .ok_or(WriteError::Full)?;
        let segment = self.segment_with_room(&mut allocator, bytes, usable)?;
        let offset = segment.headers_end.load(Ordering::SeqCst);
        let payload = HeaderPayload {
            offset,
            max_bytes,
            durable_end: segment.durable_end.load(Ordering::SeqCst),
            fragment: header.clone(),
        };
        let block = padded_record(kind::HEADER, segment.id, self.next_sequence(), &payload);
        // A failed write leaves the offset to the next one, which writes over it.
        let written = segment.file.write_all_at(&block, offset);
        written.map_err(WriteError::from_io)?;
        let extent = Extent {
            segment,
            offset,
            max_bytes,
        };
        let held = extent.payload(header.id);
        self.index().held.insert(extent.place(), held);
        // Last: a line in the journal must not lie beyond what it knows of.
        let end = &extent.segment.headers_end;
        end.store(offset + bytes, Ordering::SeqCst);
        self.disk.reached("write: header written");
        Ok(Held {
            shared: self.clone(),
            id: header.id,
            extent,
            kept: false,
        })
    }

    /// The active segment if it has room, else a new one.
    fn segment_with_room(
        &self,
        allocator: &mut Allocator,
        bytes: u64,
        usable: u64,
    ) -> Result<Arc<Segment>, WriteError> {
        if let Some(active) = &allocator.active
            && active.room() >= bytes
        {
            return Ok(active.clone());
        }
        // Near the end of the disk segments get smaller, so that all of it is used.
        let whole = self.settings.segment_bytes;
        let room = (usable - usable % ALIGN).min(whole);
        if room < ALIGN + bytes {
            return Err(WriteError::Full);
        }
        if let Some(active) = &allocator.active {
            self.seal(active)?;
        }
        if let Some(sealed) = allocator.active.take() {
            self.remove_if_dead(&sealed);
        }
        let number = allocator.next_segment;
        allocator.next_segment += 1;
        // Zero names no file, so that a frame of zeros can never match.
        let id = self.entropy.number().max(1);
        let segment = Segment::create(&*self.disk, &self.fatal, number, id, room)?;
        let segment = Arc::new(segment);
        self.segments().insert(number, segment.clone());
        allocator.active = Some(segment.clone());
        Ok(segment)
    }

    /// Chains a segment to its end and syncs it.
    pub(crate) fn seal(&self, segment: &Segment) -> Result<(), WriteError> {
        let room = segment.room();
        if room > 0 {
            let offset = segment.bytes - room;
            let payload = FreePayload {
                offset,
                bytes: room,
            };
            let block = padded_record(kind::FREE, segment.id, self.next_sequence(), &payload);
            let written = segment.file.write_all_at(&block, offset);
            written.map_err(WriteError::from_io)?;
            segment.headers_end.store(segment.bytes, Ordering::SeqCst);
            segment.sync_now(&self.fatal)?;
            segment.give_back(offset + ALIGN, room - ALIGN);
        } else {
            segment.sync_now(&self.fatal)?;
        }
        segment.sealed.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Removes a segment that holds nothing and takes nothing. Blocks. After a
    /// crash its name may be back; then it is removed again.
    pub(crate) fn remove_if_dead(&self, segment: &Segment) {
        let dead = segment.sealed.load(Ordering::SeqCst)
            && segment.damaged == 0
            && self.index().is_clear_of(segment.number);
        if !dead || self.segments().remove(&segment.number).is_none() {
            return;
        }
        let name = crate::segment::segment_name(segment.number);
        if let Err(error) = self.disk.remove(&name) {
            tracing::warn!(%error, name, "cannot remove an empty segment");
        } else if let Err(error) = self.disk.sync_dir(crate::segment::DIRECTORY) {
            self.fatal.fail(format!("removing {name}: {error}"));
        }
    }
}

impl WriteError {
    pub(crate) fn from_io(error: io::Error) -> Self {
        if is_full(&error) {
            Self::Full
        } else {
            Self::Io(error)
        }
    }
}
