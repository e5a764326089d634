//! One segment file: reading its records, and making what was written to it
//! durable with one sync for all who wait.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_runtime::{Disk, File, Tasks};

use crate::fatal::{Failed, Fatal};
use crate::format::{
    ALIGN, ClosingPayload, FreePayload, HeaderPayload, SegmentPayload, closing_at, closing_bytes,
    extent_bytes, kind, padded_record,
};
use crate::record::{Record, RecordError, decode_record};
use crate::rounds::Rounds;
use crate::writer::WriteError;

/// The directory of segments.
pub(crate) const DIRECTORY: &str = "blobs";

pub(crate) fn segment_name(number: u32) -> String {
    format!("{DIRECTORY}/segment-{number:08}")
}

/// An open segment.
pub(crate) struct Segment {
    pub number: u32,
    /// What its frames name as their file.
    pub id: u64,
    pub bytes: u64,
    pub file: Arc<dyn File>,
    /// Places that hold something that could not be read: with any, it is never
    /// removed.
    pub damaged: u64,
    /// Takes no more extents.
    pub sealed: AtomicBool,
    /// All headers below were written.
    pub headers_end: AtomicU64,
    /// All headers below are durable.
    pub durable_end: AtomicU64,
    /// One sync at a time, so that its error is seen by nobody else first.
    syncing: Mutex<()>,
    rounds: Arc<Rounds>,
}

/// A record and where it was found.
pub(crate) enum Found {
    Header(HeaderPayload),
    Free(FreePayload),
    Closing(ClosingPayload),
}

impl Segment {
    pub(crate) fn new(number: u32, id: u64, bytes: u64, file: Arc<dyn File>) -> Self {
        Self {
            number,
            id,
            bytes,
            file,
            damaged: 0,
            sealed: AtomicBool::new(false),
            headers_end: AtomicU64::new(ALIGN),
            durable_end: AtomicU64::new(ALIGN),
            syncing: Mutex::new(()),
            rounds: Arc::default(),
        }
    }

    /// Makes a segment. It gets its name only when it is durable, so that one
    /// without its first block is damage and never a birth cut short.
    pub(crate) fn create(
        disk: &dyn Disk,
        fatal: &Fatal,
        number: u32,
        id: u64,
        bytes: u64,
    ) -> Result<Self, WriteError> {
        let name = segment_name(number);
        let temporary = format!("{name}.new");
        let file = disk.create(&temporary).map_err(WriteError::from_io)?;
        let prepare = || {
            match file.allocate(0, bytes) {
                Err(error) if is_unsupported(&error) => file.set_len(bytes)?,
                other => other?,
            }
            let payload = SegmentPayload {
                number,
                file: id,
                bytes,
            };
            let block = padded_record(kind::SEGMENT, u64::from(number), 0, &payload);
            file.write_all_at(&block, 0)
        };
        if let Err(error) = prepare() {
            // Left behind it would only take room until the next start.
            let _ = disk.remove(&temporary);
            return Err(WriteError::from_io(error));
        }
        let publish = || {
            file.sync()?;
            disk.rename(&temporary, &name)?;
            disk.sync_dir(DIRECTORY)
        };
        publish().map_err(|error| fatal.fail(format!("making {name}: {error}")))?;
        Ok(Self::new(number, id, bytes, file))
    }

    /// The valid record of this segment at `offset`, if it names that place.
    pub(crate) fn record_at(&self, offset: u64) -> io::Result<Option<(u64, Found)>> {
        let block = read_padded(&*self.file, offset, ALIGN as usize)?;
        match decode_record(&block) {
            Ok(Some(record)) => Ok(self.understand(offset, &record)),
            Err(RecordError::Torn(_)) => {
                // Longer than a block, as closing records of large fragments are.
                let longest = closing_bytes(self.bytes) as usize;
                let bytes = read_padded(&*self.file, offset, longest)?;
                let record = decode_record(&bytes).ok().flatten();
                Ok(record.and_then(|record| self.understand(offset, &record)))
            }
            Ok(None) | Err(_) => Ok(None),
        }
    }

    fn understand(&self, offset: u64, record: &Record<'_>) -> Option<(u64, Found)> {
        if record.file != self.id {
            return None;
        }
        let fits = |start: u64, bytes: u64| {
            start.is_multiple_of(ALIGN)
                && bytes.is_multiple_of(ALIGN)
                && start.checked_add(bytes).is_some_and(|e| e <= self.bytes)
        };
        let found = match record.kind {
            kind::HEADER => {
                let header: HeaderPayload = minicbor::decode(record.payload).ok()?;
                let good = header.max_bytes <= self.bytes
                    && header.offset == offset
                    && fits(offset, extent_bytes(header.max_bytes));
                good.then_some(Found::Header(header))
            }
            kind::FREE => {
                let free: FreePayload = minicbor::decode(record.payload).ok()?;
                let good = free.offset == offset && free.bytes > 0 && fits(offset, free.bytes);
                good.then_some(Found::Free(free))
            }
            kind::CLOSING => {
                let closing: ClosingPayload = minicbor::decode(record.payload).ok()?;
                let good = closing.max_bytes <= self.bytes
                    && fits(closing.offset, extent_bytes(closing.max_bytes))
                    && closing.offset + closing_at(closing.max_bytes) == offset
                    && closing.bytes <= closing.max_bytes;
                good.then_some(Found::Closing(closing))
            }
            _ => None,
        };
        found.map(|found| (record.sequence, found))
    }

    /// Syncs here and now; a failure is the end of the disk.
    pub(crate) fn sync_now(&self, fatal: &Fatal) -> Result<(), Failed> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        fatal.check()?;
        let headers_end = self.headers_end.load(Ordering::SeqCst);
        match self.file.sync() {
            Ok(()) => {
                self.durable_end.fetch_max(headers_end, Ordering::SeqCst);
                Ok(())
            }
            Err(error) => {
                Err(fatal.fail(format!("syncing {}: {error}", segment_name(self.number))))
            }
        }
    }

    /// Returns when all that was written before the call is durable. One sync
    /// serves everybody who waits when it begins.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        tasks: &Arc<dyn Tasks>,
        fatal: &Arc<Fatal>,
    ) -> Result<(), Failed> {
        let (segment, in_work) = (self.clone(), fatal.clone());
        // An error reaches whoever waits through `fatal`.
        let sync = Arc::new(move || drop(segment.sync_now(&in_work)));
        self.rounds.join(tasks, fatal, sync).await
    }

    /// Gives room back where the file system can; it only costs space where not.
    pub(crate) fn give_back(&self, offset: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        match self.file.punch_hole(offset, len) {
            Ok(()) => true,
            Err(error) => {
                if !is_unsupported(&error) {
                    tracing::warn!(%error, segment = self.number, "cannot give room back");
                }
                false
            }
        }
    }
}

/// Reads `len` bytes, zeros past the end of the file.
pub(crate) fn read_padded(file: &dyn File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let there = file.len()?.saturating_sub(offset).min(len as u64) as usize;
    let mut bytes = vec![0; len];
    if let Some(part) = bytes.get_mut(..there).filter(|part| !part.is_empty()) {
        file.read_exact_at(part, offset)?;
    }
    Ok(bytes)
}

/// Whether the file system does not know the call.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    // ENOSYS and EOPNOTSUPP are both of this kind.
    error.kind() == io::ErrorKind::Unsupported
}

/// Whether the disk has no room, which is no fault of it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
