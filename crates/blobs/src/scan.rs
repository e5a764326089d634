//! Reading the segments at the start: all of them where there is no index, else
//! those that the index does not speak for ([`resume`]).
//!
//! Only the end of the last segment may be torn. Each record states up to
//! where headers were durable when it was written, so that a bad header below
//! that line is damage even there. Damage is counted and kept as it is; a
//! fragment of which a closing record still speaks is listed as corrupt.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_model::FragmentId;
use holdfast_runtime::Disk;

use crate::engine::MAX_SEGMENT_BYTES;
use crate::fatal::Fatal;
use crate::format::{ALIGN, FreePayload, SegmentPayload, kind, padded_record};
use crate::index::{Extent, Index, IndexError, Location, Place};
use crate::open::{OpenError, ScanReport};
use crate::reader::soundness;
use crate::record::{RecordError, decode_record};
use crate::segment::{DIRECTORY, Segment, is_full, is_unsupported, segment_name};

mod resume;
mod walk;

pub(crate) use walk::rows_below;
use walk::{Piece, Walk, walk};

/// Where the walk over a segment begins.
struct Begin {
    from: u64,
    /// Headers below are known to have been durable.
    durable_end: u64,
    /// Places known to be bad.
    damaged: u64,
}

/// The scan as it goes.
#[derive(Default)]
pub(crate) struct Scan {
    pub index: Index,
    pub segments: BTreeMap<u32, Arc<Segment>>,
    pub active: Option<Arc<Segment>>,
    pub next_segment: u32,
    pub next_sequence: u64,
    /// Segments of which something was read that may be in memory only.
    pub fresh: Vec<Arc<Segment>>,
    pub report: ScanReport,
    /// Extents that are to be freed whatever stands in them.
    condemned: BTreeSet<Place>,
}

impl Scan {
    /// Reads every segment. Extents in `condemned` were deleted.
    pub(crate) fn full(
        disk: &dyn Disk,
        fatal: &Fatal,
        condemned: BTreeSet<Place>,
    ) -> Result<Self, OpenError> {
        let mut scan = Self {
            next_sequence: 1,
            condemned,
            ..Self::default()
        };
        let numbers = segment_numbers(disk)?;
        let last = numbers.last().copied();
        // A number that a journal speaks of is not given again while that is there:
        // extents of the new segment would count as deleted.
        let spoken_of = scan.condemned.last().map(|(number, _)| *number);
        let used = last.max(spoken_of);
        scan.next_segment = used.map_or(0, |used| used + 1);
        for number in numbers {
            let begin = Begin {
                from: ALIGN,
                durable_end: 0,
                damaged: 0,
            };
            scan.segment(disk, fatal, number, Some(number) == last, &begin)?;
        }
        scan.sum_up();
        Ok(scan)
    }

    fn sum_up(&mut self) {
        self.report.segments = self.segments.len() as u64;
        self.report.fragments = self.index.totals.fragments;
        self.report.corrupt = self.index.totals.corrupt;
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        fatal: &Fatal,
        number: u32,
        last: bool,
        begin: &Begin,
    ) -> Result<(), OpenError> {
        let Some(mut segment) = open_segment(disk, number)? else {
            // Nothing in it says what it was: kept as it is, for people.
            tracing::error!(segment = number, "a segment cannot be read");
            self.report.damaged += 1;
            return Ok(());
        };
        segment.damaged += begin.damaged;
        let walk = walk(&segment, last, begin.from, begin.durable_end);
        self.next_sequence = self.next_sequence.max(walk.max_sequence + 1);
        segment.damaged += walk.damaged;
        self.report.torn += walk.torn;
        self.report.damaged += segment.damaged;
        let open_end = prepare_end(&segment, &walk, self.next_sequence, fatal)?;
        self.next_sequence += 1 + walk.torn;
        let end = open_end.unwrap_or(segment.bytes);
        segment.headers_end.store(end, Ordering::SeqCst);
        segment.durable_end.store(end, Ordering::SeqCst);
        segment.sealed.store(open_end.is_none(), Ordering::SeqCst);
        let segment = Arc::new(segment);
        if open_end.is_some() {
            self.active = Some(segment.clone());
        }
        self.segments.insert(number, segment.clone());
        for piece in walk.pieces {
            self.take(&segment, piece)?;
        }
        self.fresh.push(segment);
        Ok(())
    }

    /// What is listed of a fragment so far.
    fn current(&self, id: &FragmentId) -> Result<Option<Location>, IndexError> {
        match (self.index.recent(id), &self.index.base) {
            (Some(at), _) => Ok(at),
            (None, Some(base)) => base.find(id),
            (None, None) => Ok(None),
        }
    }

    /// Takes one extent into the index, or to those that are to be freed.
    fn take(&mut self, segment: &Arc<Segment>, piece: Piece) -> Result<(), IndexError> {
        self.report.looked_at += 1;
        let extent = Extent {
            segment: segment.clone(),
            offset: piece.offset,
            max_bytes: piece.max_bytes,
        };
        let id = piece.fragment.id;
        let condemned = self.condemned.contains(&extent.place());
        if !piece.finished || condemned {
            self.report.incomplete += u64::from(!condemned);
            self.index.freeing.insert(extent.place(), (id, extent));
            return Ok(());
        }
        let location = piece.location(segment);
        let old = self.current(&id)?;
        if old.is_some_and(|old| old.place() == location.place()) {
            return Ok(());
        }
        if let Some(old) = old
            && let Some(rival) = self.extent(&old)
        {
            // Of two, the one finished last was acknowledged last, if it was
            // acknowledged at all: a crash may have kept its closing record and
            // lost its data. So both are read before one goes.
            let rank = |at: &Location, extent: &Extent| {
                let (sound, sequence) = soundness(extent, &id);
                (sound, !at.corrupt, sequence)
            };
            let wins = rank(&location, &extent) > rank(&old, &rival);
            let loser = if wins { rival } else { extent };
            self.index.freeing.insert(loser.place(), (id, loser));
            if !wins {
                return Ok(());
            }
        }
        self.index.set(id, old, Some(location));
        Ok(())
    }

    /// The extent at a location, in a segment that was opened.
    fn extent(&self, at: &Location) -> Option<Extent> {
        Some(Extent {
            segment: self.segments.get(&at.segment)?.clone(),
            offset: u64::from(at.offset),
            max_bytes: u64::from(at.max_bytes),
        })
    }
}

/// The segments there are, sorted; births cut short are removed.
fn segment_numbers(disk: &dyn Disk) -> Result<Vec<u32>, OpenError> {
    let mut numbers = Vec::new();
    for name in disk.list(DIRECTORY)? {
        let Some(rest) = name.strip_prefix("segment-") else {
            continue;
        };
        match (rest.strip_suffix(".new"), rest.parse::<u32>()) {
            (Some(_), _) => disk.remove(&format!("{DIRECTORY}/{name}"))?,
            (None, Ok(number)) => numbers.push(number),
            (None, Err(_)) => tracing::warn!(name, "no file of the engine"),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens a segment by its first block or, if that is bad, by the first extent.
fn open_segment(disk: &dyn Disk, number: u32) -> Result<Option<Segment>, OpenError> {
    let file = disk.open(&segment_name(number))?;
    let read = |offset| crate::segment::read_padded(&*file, offset, ALIGN as usize);
    let first = read(0).unwrap_or_default();
    let wrong_version = |source| OpenError::Version {
        segment: number,
        source,
    };
    match decode_record(&first) {
        Ok(Some(record)) if record.kind == kind::SEGMENT && record.file == u64::from(number) => {
            if let Ok(payload) = minicbor::decode::<SegmentPayload>(record.payload) {
                let bytes = payload.bytes.min(MAX_SEGMENT_BYTES);
                return Ok(Some(Segment::new(number, payload.file, bytes, file)));
            }
        }
        Err(source @ RecordError::Version(_)) => return Err(wrong_version(source)),
        _ => {}
    }
    let second = read(ALIGN).unwrap_or_default();
    let Ok(Some(record)) = decode_record(&second) else {
        return Ok(None);
    };
    let bytes = file.len()?.min(MAX_SEGMENT_BYTES);
    let mut segment = Segment::new(number, record.file, bytes - bytes % ALIGN, file.clone());
    segment.damaged = 1;
    Ok(Some(segment))
}

/// Makes the end of a segment fit for more extents and returns where it is;
/// `None` when the segment takes no more.
fn prepare_end(
    segment: &Segment,
    walk: &Walk,
    sequence: u64,
    fatal: &Fatal,
) -> Result<Option<u64>, OpenError> {
    for (sequence, (offset, end)) in (sequence..).zip(&walk.holes) {
        write_free(segment, *offset, end - offset, sequence)?;
    }
    let Some(end) = walk.open_end else {
        return Ok(None);
    };
    let room = segment.bytes - end;
    // Nothing that an unfinished write left may follow the extents to come.
    let cleared = match segment.file.punch_hole(end, room) {
        Ok(()) => true,
        Err(error) if is_unsupported(&error) => false,
        Err(error) => return Err(error.into()),
    };
    if !cleared {
        write_free(segment, end, room, sequence + walk.torn)?;
        segment.sync_now(fatal)?;
        return Ok(None);
    }
    match segment.file.allocate(end, room) {
        Err(error) if !is_full(&error) && !is_unsupported(&error) => return Err(error.into()),
        _ => {}
    }
    segment.sync_now(fatal)?;
    Ok(Some(end))
}

fn write_free(segment: &Segment, offset: u64, bytes: u64, sequence: u64) -> io::Result<()> {
    let payload = FreePayload { offset, bytes };
    let block = padded_record(kind::FREE, segment.id, sequence, &payload);
    segment.file.write_all_at(&block, offset)
}
