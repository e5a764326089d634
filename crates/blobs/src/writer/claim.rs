//! The end of a writer: its id is claimed, so that two do not finish it at
//! once, and what is durable is listed.

use std::sync::Arc;

use holdfast_model::{FragmentHeader, FragmentId};

use super::{WriteError, Written};
use crate::engine::Shared;
use crate::format::{ClosingPayload, kind, padded_record};
use crate::index::{Extent, Location};

/// Unused room below this is not worth a system call.
const GIVE_BACK_AT_LEAST: u64 = 64 << 10;

/// The claim of a writer on the id that it finishes.
pub(super) struct Claim {
    shared: Arc<Shared>,
    id: FragmentId,
}

/// What came of claiming an id.
pub(super) enum Claimed {
    Own(Claim),
    /// The same fragment is there already.
    Exists,
    /// Compaction is moving it: to be asked again.
    Moving,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.index().finishing.remove(&self.id);
    }
}

impl Shared {
    /// Claims an id. Blocks.
    pub(super) fn claim(
        self: &Arc<Self>,
        payload: &ClosingPayload,
        written: &Written,
    ) -> Result<Claimed, WriteError> {
        self.fatal.check()?;
        let id = payload.fragment.id;
        self.with_entry(&id, |index, old| {
            if index.moving.contains(&id) {
                return Ok(Claimed::Moving);
            }
            if index.finishing.contains_key(&id) {
                return Err(WriteError::InProgress(id));
            }
            if let Some(old) = old.filter(|old| !old.corrupt) {
                if (u64::from(old.bytes), old.checksum) != (written.bytes, written.checksum) {
                    return Err(WriteError::Exists(id));
                }
                // One of an older generation may be cleaned up at any time, so it
                // cannot stand for the newer.
                if old.generation >= payload.fragment.generation {
                    return Ok(Claimed::Exists);
                }
            }
            index.finishing.insert(id, old);
            Ok(Claimed::Own(Claim {
                shared: self.clone(),
                id,
            }))
        })?
    }

    /// Writes a closing record and gives back what the fragment did not use.
    pub(crate) fn close(
        &self,
        extent: &Extent,
        payload: &ClosingPayload,
    ) -> Result<(), WriteError> {
        // Its own number, later than that of any fragment of this name that was
        // finished before: at the start the latest one counts.
        let sequence = self.next_sequence();
        let record = padded_record(kind::CLOSING, extent.segment.id, sequence, payload);
        let (unused, len) = extent.unused(payload.bytes);
        if len >= GIVE_BACK_AT_LEAST {
            extent.segment.give_back(unused, len);
        }
        let at = extent.closing_at();
        let done = extent.segment.file.write_all_at(&record, at);
        done.map_err(WriteError::from_io)?;
        self.disk.reached("write: closing record written");
        Ok(())
    }

    /// Lists a durable fragment whose id is claimed; what it replaces goes.
    pub(super) fn publish(&self, extent: &Extent, header: &FragmentHeader, written: &Written) {
        let location = Location {
            segment: extent.segment.number,
            offset: extent.offset as u32,
            max_bytes: extent.max_bytes as u32,
            bytes: written.bytes as u32,
            checksum: written.checksum,
            corrupt: false,
            generation: header.generation,
        };
        let mut index = self.index();
        index.held.remove(&extent.place());
        let old = index.finishing.get(&header.id).copied().flatten();
        index.set(header.id, old, Some(location));
        if let Some(replaced) = old.and_then(|old| self.extent(&old)) {
            index
                .freeing
                .insert(replaced.place(), (header.id, replaced));
        }
    }
}
