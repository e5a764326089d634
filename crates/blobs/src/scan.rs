//! Opening: the index is rebuilt from the headers and closing records of all
//! segments.
//!
//! Only the end of the last segment may be torn. Each record states up to
//! where headers were durable when it was written, so that a bad header below
//! that line is damage even there. Damage is counted and kept as it is; a
//! fragment of which a closing record still speaks is listed as corrupt.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use holdfast_model::FragmentId;
use holdfast_runtime::{Disk, Env, Tasks, TasksExt};

use crate::engine::{Allocator, Engine, EngineSettings, MAX_SEGMENT_BYTES, Shared};
use crate::fatal::{Failed, Fatal, OnFatal};
use crate::format::{ALIGN, FreePayload, SegmentPayload, kind, padded_record};
use crate::index::{Extent, Index, Location};
use crate::reader::is_sound;
use crate::record::{RecordError, decode_record};
use crate::segment::{DIRECTORY, Segment, is_full, is_unsupported, segment_name};

mod walk;

use walk::{Piece, Walk, walk};

/// Why the engine did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Settings that cannot work.
    #[error("segments must have 1 MiB to 2 GiB in steps of 4 KiB, not {0} bytes")]
    SegmentBytes(u64),
    /// Written by a newer release.
    #[error("segment {segment}: {source}")]
    Version {
        /// The segment.
        segment: u32,
        /// Which version it has.
        source: RecordError,
    },
    /// The disk has failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The operating system refused.
    #[error("opening the directory of segments")]
    Io(#[from] io::Error),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// What the scan found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScanReport {
    /// Segments.
    pub segments: u64,
    /// Fragments, the corrupt ones included.
    pub fragments: u64,
    /// Fragments of which a header or closing record is bad.
    pub corrupt: u64,
    /// Fragments that were never finished; freed.
    pub incomplete: u64,
    /// Ends of the last segment that a crash tore; freed.
    pub torn: u64,
    /// Places that hold something bad, of which no fragment's name is left.
    pub damaged: u64,
}

/// Segments smaller than this could not hold what people store.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;

impl Engine {
    /// Opens the engine on `disk`, which nobody else may be using, and reads
    /// the headers of all that is on it. `on_fatal` hears of a failed disk.
    ///
    /// # Errors
    /// [`OpenError`]; damage to what is stored is no error but in the report.
    pub async fn open(
        disk: Arc<dyn Disk>,
        env: &Env,
        settings: EngineSettings,
        on_fatal: OnFatal,
    ) -> Result<Self, OpenError> {
        let bytes = settings.segment_bytes;
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes) || !bytes.is_multiple_of(ALIGN)
        {
            return Err(OpenError::SegmentBytes(bytes));
        }
        let (tasks, entropy) = (env.tasks.clone(), env.entropy.clone());
        let work = {
            let tasks = tasks.clone();
            move || {
                let fatal = Arc::new(Fatal::new(on_fatal));
                let scan = Scan::run(&*disk, &fatal)?;
                let engine = Shared {
                    disk,
                    tasks: tasks as Arc<dyn Tasks>,
                    entropy,
                    settings,
                    fatal,
                    index: Mutex::new(scan.index),
                    segments: Mutex::new(scan.segments),
                    allocator: Mutex::new(Allocator {
                        active: scan.active,
                        next_segment: scan.next_segment,
                    }),
                    sequence: AtomicU64::new(scan.next_sequence),
                    report: scan.report,
                };
                let shared = Arc::new(engine);
                shared.settle()?;
                Ok(Self { shared })
            }
        };
        let done = tasks.blocking(work).await;
        done.unwrap_or(Err(OpenError::Ending))
    }
}

impl Shared {
    /// Makes what the scan read durable (a killed process may have left it in
    /// memory only), frees what is nobody's, and removes dead segments.
    fn settle(&self) -> Result<(), OpenError> {
        let freeing: Vec<Extent> = {
            let index = self.index();
            index.freeing.values().map(|(_, e)| e.clone()).collect()
        };
        let segments: Vec<_> = self.segments().values().cloned().collect();
        // First what stays, in every segment; only then may anything go.
        for segment in &segments {
            segment.sync_now(&self.fatal)?;
        }
        let mut touched = BTreeMap::new();
        for extent in &freeing {
            self.write_free(extent)?;
            touched.insert(extent.segment.number, extent.segment.clone());
        }
        for segment in touched.values() {
            segment.sync_now(&self.fatal)?;
        }
        for extent in &freeing {
            self.release(extent);
        }
        for segment in &segments {
            self.remove_if_dead(segment);
        }
        let report = &self.report;
        if report.corrupt + report.damaged > 0 {
            tracing::error!(?report, "the disk holds damage");
        } else {
            tracing::info!(?report, "opened");
        }
        Ok(())
    }
}

/// The scan as it goes.
#[derive(Default)]
struct Scan {
    index: Index,
    segments: BTreeMap<u32, Arc<Segment>>,
    active: Option<Arc<Segment>>,
    next_segment: u32,
    next_sequence: u64,
    /// Of each fragment, the sequence number that won.
    winners: BTreeMap<FragmentId, u64>,
    report: ScanReport,
}

impl Scan {
    fn run(disk: &dyn Disk, fatal: &Fatal) -> Result<Self, OpenError> {
        disk.create_dir(DIRECTORY)?;
        let mut scan = Self {
            next_sequence: 1,
            ..Self::default()
        };
        let mut numbers = Vec::new();
        for name in disk.list(DIRECTORY)? {
            let Some(rest) = name.strip_prefix("segment-") else {
                continue;
            };
            match (rest.strip_suffix(".new"), rest.parse::<u32>()) {
                // A birth cut short.
                (Some(_), _) => disk.remove(&format!("{DIRECTORY}/{name}"))?,
                (None, Ok(number)) => numbers.push(number),
                (None, Err(_)) => tracing::warn!(name, "no file of the engine"),
            }
        }
        numbers.sort_unstable();
        let last = numbers.last().copied();
        scan.next_segment = last.map_or(0, |last| last + 1);
        for number in numbers {
            scan.segment(disk, fatal, number, Some(number) == last)?;
        }
        scan.report.segments = scan.segments.len() as u64;
        scan.report.fragments = scan.index.fragments.len() as u64;
        scan.report.corrupt = scan
            .index
            .fragments
            .values()
            .filter(|at| at.corrupt)
            .count() as u64;
        Ok(scan)
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        fatal: &Fatal,
        number: u32,
        last: bool,
    ) -> Result<(), OpenError> {
        let Some(mut segment) = open_segment(disk, number)? else {
            // Nothing in it says what it was: kept as it is, for people.
            tracing::error!(segment = number, "a segment cannot be read");
            self.report.damaged += 1;
            return Ok(());
        };
        let walk = walk(&segment, last);
        self.next_sequence = self.next_sequence.max(walk.max_sequence + 1);
        self.report.torn += walk.torn;
        self.report.damaged += walk.damaged + u64::from(segment.damaged);
        segment.damaged |= walk.damaged > 0;
        let open_end = prepare_end(&segment, &walk, self.next_sequence, fatal)?;
        self.next_sequence += 1 + walk.torn;
        let end = open_end.unwrap_or(segment.bytes);
        segment.headers_end.store(end, Ordering::SeqCst);
        segment.durable_end.store(end, Ordering::SeqCst);
        segment.sealed.store(open_end.is_none(), Ordering::SeqCst);
        let segment = Arc::new(segment);
        for piece in walk.pieces {
            self.take(&segment, piece);
        }
        if open_end.is_some() {
            self.active = Some(segment.clone());
        }
        self.segments.insert(number, segment);
        Ok(())
    }

    /// Takes one extent into the index, or to those that are to be freed.
    fn take(&mut self, segment: &Arc<Segment>, piece: Piece) {
        segment.live.fetch_add(1, Ordering::SeqCst);
        let extent = Extent {
            segment: segment.clone(),
            offset: piece.offset,
            max_bytes: piece.max_bytes,
        };
        let id = piece.fragment.id;
        if !piece.finished {
            self.report.incomplete += 1;
            self.index.freeing.insert(extent.place(), (id, extent));
            return;
        }
        let location = Location {
            segment: segment.number,
            offset: piece.offset as u32,
            max_bytes: piece.max_bytes as u32,
            bytes: piece.bytes as u32,
            checksum: piece.checksum,
            corrupt: piece.corrupt,
            generation: piece.fragment.generation,
        };
        if let Some(old) = self.index.fragments.get(&id).copied() {
            let Some(rival) = self.extent(&old, segment) else {
                return;
            };
            // Of two, the one finished last was acknowledged last, if it was
            // acknowledged at all: a crash may have kept its closing record and
            // lost its data. So both are read before one goes.
            let rank = |at: &Location, extent: &Extent, sequence: u64| {
                (is_sound(extent, &id), !at.corrupt, sequence)
            };
            let old_sequence = self.winners.get(&id).copied().unwrap_or(0);
            let wins = rank(&location, &extent, piece.sequence) > rank(&old, &rival, old_sequence);
            let loser = if wins { rival } else { extent };
            self.index.freeing.insert(loser.place(), (id, loser));
            if !wins {
                return;
            }
        }
        self.winners.insert(id, piece.sequence);
        self.index.insert(id, location);
    }

    /// The extent at a location, in `current` or a segment before it.
    fn extent(&self, at: &Location, current: &Arc<Segment>) -> Option<Extent> {
        let segment = if at.segment == current.number {
            current
        } else {
            self.segments.get(&at.segment)?
        };
        Some(Extent {
            segment: segment.clone(),
            offset: u64::from(at.offset),
            max_bytes: u64::from(at.max_bytes),
        })
    }
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
    segment.damaged = true;
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
