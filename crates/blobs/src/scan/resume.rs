//! Going on from the index: what it says is taken, what it says is on its way
//! out is freed again, and only extents that it does not speak for are looked
//! at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_model::FragmentId;
use holdfast_runtime::Disk;

use super::walk::{Piece, Walk};
use super::{Begin, Scan, open_segment, segment_numbers};
use crate::checkpoint::files::Saved;
use crate::fatal::Fatal;
use crate::format::{ALIGN, closing_at};
use crate::index::journal::{ExtentPayload, Journal, Line};
use crate::index::{Extent, Index, IndexSlice};
use crate::open::OpenError;
use crate::segment::{Found, Segment, read_padded};

impl Scan {
    /// Opens the segments that `saved` speaks of, and reads what is newer.
    pub(crate) fn resume(
        disk: &dyn Disk,
        fatal: &Fatal,
        saved: Saved,
    ) -> Result<(Self, Journal), OpenError> {
        let line = saved.told.line.unwrap_or_default();
        let condemned: Vec<ExtentPayload> = saved
            .told
            .frees
            .iter()
            .chain(&line.freeing)
            .copied()
            .collect();
        let mut scan = Self {
            index: Index {
                base: Some(Arc::new(saved.base)),
                delta: saved.delta,
                totals: saved.totals,
                journaled: true,
                ..Index::default()
            },
            next_sequence: line.next_sequence,
            condemned: condemned.iter().map(ExtentPayload::place).collect(),
            ..Self::default()
        };
        scan.report.resumed = true;
        for extent in &condemned {
            let listed = scan.current(&extent.id)?;
            if listed.is_some_and(|at| at.place() == extent.place()) {
                scan.index.set(extent.id, listed, None);
            }
        }
        scan.open_segments(disk, fatal, &line)?;
        for extent in condemned {
            if let Some(segment) = scan.segments.get(&extent.segment).cloned() {
                let extent = at(&segment, &extent, extent.id);
                scan.index.freeing.insert(extent.1.place(), extent);
            }
        }
        for held in &line.held {
            if let Some(segment) = scan.segments.get(&held.segment).cloned() {
                scan.look_at(&segment, held, &line)?;
            }
        }
        scan.drop_lost()?;
        scan.sum_up();
        Ok((scan, saved.journal))
    }

    fn open_segments(
        &mut self,
        disk: &dyn Disk,
        fatal: &Fatal,
        line: &Line,
    ) -> Result<(), OpenError> {
        let numbers = segment_numbers(disk)?;
        let last = numbers.last().copied();
        self.next_segment = last.map_or(0, |last| last + 1).max(line.next_segment);
        for number in numbers {
            let open = line.open.iter().find(|open| open.number == number);
            let damaged = line.damaged.iter().find(|d| d.number == number);
            let damaged = damaged.map_or(0, |damaged| damaged.places);
            let begin = match open {
                Some(open) => Begin {
                    from: open.end,
                    durable_end: open.durable_end,
                    damaged,
                },
                None if number >= line.next_segment => Begin {
                    from: ALIGN,
                    durable_end: 0,
                    damaged,
                },
                None => {
                    self.sealed_segment(disk, number, damaged)?;
                    continue;
                }
            };
            self.segment(disk, fatal, number, Some(number) == last, &begin)?;
        }
        Ok(())
    }

    /// Opens a segment of which all is known.
    fn sealed_segment(
        &mut self,
        disk: &dyn Disk,
        number: u32,
        damaged: u64,
    ) -> Result<(), OpenError> {
        let Some(mut segment) = open_segment(disk, number)? else {
            tracing::error!(segment = number, "a segment cannot be read");
            self.report.damaged += 1;
            return Ok(());
        };
        segment.damaged += damaged;
        self.report.damaged += segment.damaged;
        segment.headers_end.store(segment.bytes, Ordering::SeqCst);
        segment.durable_end.store(segment.bytes, Ordering::SeqCst);
        segment.sealed.store(true, Ordering::SeqCst);
        self.segments.insert(number, Arc::new(segment));
        Ok(())
    }

    /// Looks at an extent that a writer held when the line was taken.
    fn look_at(
        &mut self,
        segment: &Arc<Segment>,
        held: &ExtentPayload,
        line: &Line,
    ) -> Result<(), OpenError> {
        let mut walk = Walk::default();
        let (offset, max_bytes) = (u64::from(held.offset), u64::from(held.max_bytes));
        let piece = match walk.look(segment, offset) {
            Some((_, Found::Free(_))) => None,
            Some((_, Found::Header(header))) if header.max_bytes == max_bytes => {
                Some(walk.piece(segment, offset, max_bytes, header.fragment))
            }
            _ => match walk.look(segment, offset + closing_at(max_bytes)) {
                Some((sequence, Found::Closing(closing))) if closing.offset == offset => {
                    Some(Piece {
                        offset,
                        max_bytes,
                        fragment: closing.fragment,
                        sequence,
                        bytes: closing.bytes,
                        checksum: closing.checksum,
                        finished: true,
                        corrupt: true,
                    })
                }
                _ => {
                    self.bad_header(segment, held, line);
                    None
                }
            },
        };
        self.next_sequence = self.next_sequence.max(walk.max_sequence() + 1);
        if let Some(piece) = piece {
            self.take(segment, piece)?;
            // Written since the line, and perhaps not synced.
            if !self
                .fresh
                .iter()
                .any(|fresh| fresh.number == segment.number)
            {
                self.fresh.push(segment.clone());
            }
        }
        Ok(())
    }

    /// A header that was never durable was never acknowledged: its extent is
    /// freed. One that was is damage, and kept.
    fn bad_header(&mut self, segment: &Arc<Segment>, held: &ExtentPayload, line: &Line) {
        let offset = u64::from(held.offset);
        let open = line.open.iter().find(|open| open.number == held.segment);
        let durable = open.is_none_or(|open| offset < open.durable_end);
        if durable {
            tracing::error!(fragment = %held.id, "the header of an unfinished fragment is bad");
            self.report.damaged += 1;
            return;
        }
        let head = read_padded(&*segment.file, offset, ALIGN as usize);
        let empty = head.is_ok_and(|head| head.iter().all(|byte| *byte == 0));
        self.report.torn += u64::from(!empty);
        self.report.incomplete += u64::from(empty);
        let (id, extent) = at(segment, held, held.id);
        self.index.freeing.insert(extent.place(), (id, extent));
    }

    /// Takes fragments from the list whose segment is not there.
    fn drop_lost(&mut self) -> Result<(), OpenError> {
        let used = self.index.totals.segments.keys();
        let lost: Vec<u32> = used
            .copied()
            .filter(|n| !self.segments.contains_key(n))
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        let delta = Arc::new(self.index.delta.clone());
        let rows = IndexSlice::whole(delta, self.index.base.clone()).rows(None);
        let mut gone = BTreeMap::new();
        for row in rows {
            let (id, location) = row?;
            if lost.contains(&location.segment) {
                gone.insert(id, location);
            }
        }
        tracing::error!(segments = ?lost, fragments = gone.len(), "segments are gone");
        self.report.lost = gone.len() as u64;
        for (id, location) in gone {
            self.index.set(id, Some(location), None);
        }
        Ok(())
    }
}

fn at(segment: &Arc<Segment>, extent: &ExtentPayload, id: FragmentId) -> (FragmentId, Extent) {
    let extent = Extent {
        segment: segment.clone(),
        offset: u64::from(extent.offset),
        max_bytes: u64::from(extent.max_bytes),
    };
    (id, extent)
}
