//! What a journal is told: all that is new, and where everything stands.

use std::io;
use std::sync::atomic::Ordering;

use super::files::journal_name;
use super::{CheckpointError, LINE_EVERY};
use crate::engine::Shared;
use crate::index::Index;
use crate::index::base::Base;
use crate::index::entry::{ENTRY_BYTES, encode_entry};
use crate::index::journal::{DamagedSegment, Journal, Line, OpenSegment};

impl Shared {
    /// A journal with all that has changed since the freeze, as of now.
    pub(super) fn begin_journal(&self, base: &Base, number: u64) -> io::Result<Journal> {
        let file = self.disk.create(&journal_name(number))?;
        let mut journal = Journal::new(file, base.id);
        let (rows, line, unsaved, was_journaled) = {
            let allocator = self.allocator();
            let mut index = self.index();
            let rows: Vec<Vec<u8>> = index.delta.to_bytes(LINE_EVERY).collect();
            let unsaved = std::mem::take(&mut index.unsaved);
            let was_journaled = std::mem::replace(&mut index.journaled, true);
            let line = self.line(allocator.next_segment, &index);
            (rows, line, unsaved, was_journaled)
        };
        // All of it is durable before the base has its name, so only the last
        // record need say where everything stands.
        let mut pieces = rows.into_iter();
        let last = pieces.next_back().unwrap_or_default();
        let written = pieces
            .try_for_each(|piece| journal.write_changes(piece, Line::default()))
            .and_then(|()| journal.write_changes(last, line));
        if written.is_err() {
            let mut index = self.index();
            index.journaled = was_journaled;
            // The old journal goes on, and its next line must have all of them.
            if was_journaled {
                index.unsaved.extend(unsaved);
            } else {
                index.unsaved.clear();
            }
        }
        written.map(|()| journal)
    }

    /// Writes what has changed, and a line, into the journal; nothing without
    /// a journal.
    pub(super) fn write_line(&self) -> Result<(), CheckpointError> {
        let mut state = self.keeper.state();
        let Some(journal) = &mut state.journal else {
            return Ok(());
        };
        let (rows, line) = {
            let allocator = self.allocator();
            let mut index = self.index();
            let unsaved = std::mem::take(&mut index.unsaved);
            let mut rows = Vec::with_capacity(unsaved.len() * ENTRY_BYTES);
            for id in unsaved {
                if let Some(at) = index.recent(&id) {
                    encode_entry(&id, at.as_ref(), &mut rows);
                }
            }
            (rows, self.line(allocator.next_segment, &index))
        };
        if let Err(error) = journal.write_changes(rows, line) {
            self.give_up_index(&mut state)?;
            return Err(error.into());
        }
        self.disk.reached("line: written");
        journal
            .sync()
            .map_err(|error| self.index_not_synced(&error))?;
        self.disk.reached("line: synced");
        self.keeper.measure(journal);
        Ok(())
    }

    /// Where everything stands. Both locks are held.
    pub(super) fn line(&self, next_segment: u32, index: &Index) -> Line {
        let segments = self.segments();
        let open = segments
            .values()
            .filter(|s| !s.sealed.load(Ordering::SeqCst));
        let damaged = segments.values().filter(|s| s.damaged > 0);
        let freeing = index.freeing.values();
        Line {
            next_segment,
            next_sequence: self.sequence.load(Ordering::SeqCst),
            open: open
                .map(|segment| OpenSegment {
                    number: segment.number,
                    end: segment.headers_end.load(Ordering::SeqCst),
                    durable_end: segment.durable_end.load(Ordering::SeqCst),
                })
                .collect(),
            held: index.held.values().copied().collect(),
            freeing: freeing.map(|(id, extent)| extent.payload(*id)).collect(),
            damaged: damaged
                .map(|segment| DamagedSegment {
                    number: segment.number,
                    places: segment.damaged,
                })
                .collect(),
        }
    }
}
