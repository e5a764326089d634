//! Opening: from the index where there is a whole one, else from the headers
//! and closing records of all segments.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use holdfast_runtime::{Disk, Env, Tasks, TasksExt};
use tokio::sync::Notify;

use crate::checkpoint::Keeper;
use crate::checkpoint::files::{IndexFiles, Saved};
use crate::engine::{Engine, EngineSettings, MAX_SEGMENT_BYTES, Shared};
use crate::fatal::{Failed, Fatal, OnFatal};
use crate::format::ALIGN;
use crate::index::journal::Journal;
use crate::index::{Extent, IndexError};
use crate::record::RecordError;
use crate::room::Allocator;
use crate::rounds::Rounds;
use crate::scan::Scan;
use crate::segment::{DIRECTORY, Segment};

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
    /// The index became unreadable while it was read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The operating system refused.
    #[error("opening the directory of segments")]
    Io(#[from] io::Error),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// What was found at the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScanReport {
    /// Whether the index was there, and only what is newer was looked at.
    pub resumed: bool,
    /// Extents that were looked at.
    pub looked_at: u64,
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
    /// Fragments of the index whose segment is gone: no longer listed.
    pub lost: u64,
}

/// Segments smaller than this could not hold what people store.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;

impl Engine {
    /// Opens the engine on `disk`, which nobody else may be using. `on_fatal`
    /// hears of a failed disk.
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
                let (scan, keeper) = read_disk(disk.as_ref(), &fatal)?;
                let shared = Arc::new(Shared {
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
                    keeper,
                    intents: Mutex::default(),
                    intent_rounds: Arc::<Rounds>::default(),
                    reclaiming: AtomicBool::new(false),
                    moved: Notify::new(),
                    report: scan.report,
                });
                shared.settle(&scan.fresh)?;
                Ok(Self { shared })
            }
        };
        let done = tasks.blocking(work).await;
        let engine = done.unwrap_or(Err(OpenError::Ending))?;
        engine.keep_index_in_background();
        Ok(engine)
    }
}

/// By the index if there is one that is whole.
fn read_disk(disk: &dyn Disk, fatal: &Fatal) -> Result<(Scan, Keeper), OpenError> {
    disk.create_dir(DIRECTORY)?;
    let files = IndexFiles::list(disk)?;
    let resumed = match files.load(disk) {
        Ok(None) => None,
        Ok(Some(saved)) => {
            let settled = saved.journal.settle();
            settled.map_err(|error| fatal.fail(format!("syncing the index: {error}")))?;
            resume(disk, fatal, saved)?
        }
        Err(error) => {
            tracing::error!(%error, "the index is of no use: every segment is read instead");
            None
        }
    };
    if let Some((scan, number, journal)) = resumed {
        return Ok((scan, Keeper::new(files.highest(), Some((number, journal)))));
    }
    let scan = Scan::full(disk, fatal, files.condemned(disk))?;
    Ok((scan, Keeper::new(files.highest(), None)))
}

/// `None` when the index turned out to be of no use.
fn resume(
    disk: &dyn Disk,
    fatal: &Fatal,
    saved: Saved,
) -> Result<Option<(Scan, u64, Journal)>, OpenError> {
    let number = saved.base.number;
    match Scan::resume(disk, fatal, saved) {
        Ok((scan, journal)) => Ok(Some((scan, number, journal))),
        Err(OpenError::Index(error)) => {
            tracing::error!(%error, "the index is of no use: every segment is read instead");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Shared {
    /// Makes what the scan read durable (a killed process may have left it in
    /// memory only), frees what is nobody's, and removes dead segments.
    fn settle(&self, fresh: &[Arc<Segment>]) -> Result<(), OpenError> {
        let freeing: Vec<Extent> = {
            let index = self.index();
            index.freeing.values().map(|(_, e)| e.clone()).collect()
        };
        // First what stays, in every segment; only then may anything go.
        for segment in fresh {
            segment.sync_now(&self.fatal)?;
        }
        // Noted like any other free: what lost to a newer extent of its name is
        // still in the base, and the newer may be deleted before the next line.
        self.note_frees_now()?;
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
        let segments: Vec<_> = self.segments().values().cloned().collect();
        for segment in &segments {
            self.remove_if_dead(segment);
        }
        self.keeper.tidy(self.disk.as_ref());
        let report = &self.report;
        if report.corrupt + report.damaged + report.lost > 0 {
            tracing::error!(?report, "the disk holds damage");
        } else {
            tracing::info!(?report, "opened");
        }
        Ok(())
    }
}
