//! The engine: what the node calls. Reading, writing and deleting are in
//! modules of their own; here are the state they share and room for extents.
//!
//! Invariants:
//! 1. Extents are given out, and their headers written, in order under one
//!    lock: a sync covers every header before those that its callers wrote.
//! 2. A segment is sealed (chained to its end, and synced) before the next one
//!    takes its first extent.
//! 3. An offset of a segment is given out once.
//! 4. The index names a fragment only after it is durable, and its extent is
//!    overwritten only after the index does not.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_model::{FragmentId, Generation, GroupId};
use holdfast_runtime::disk::Space;
use holdfast_runtime::{Disk, Entropy, Tasks, TasksExt};
use tokio::sync::Notify;

use crate::checkpoint::Keeper;
use crate::digest::Digest;
use crate::fatal::Fatal;
use crate::format::extent_bytes;
use crate::index::journal::ExtentPayload;
use crate::index::{Extent, Index, IndexError, Location, Place};
use crate::open::ScanReport;
use crate::room::Allocator;
use crate::rounds::Rounds;
use crate::segment::Segment;

/// The largest segment: offsets in the index have 32 bits.
pub const MAX_SEGMENT_BYTES: u64 = 2 << 30;

/// What is asked of the engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// Bytes of a segment: large, so that there are few files, small, so that
    /// the last one does not hold much of a small disk.
    pub segment_bytes: u64,
    /// Bytes that only the metadata log, deletes and compaction may use;
    /// [`standard_reserve`] without it.
    pub reserve_bytes: Option<u64>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            reserve_bytes: None,
        }
    }
}

/// The larger of 1 GiB and 2 % of the disk, at most an eighth of it.
pub fn standard_reserve(total: u64) -> u64 {
    (1 << 30).max(total / 50).min(total / 8)
}

/// Whether a fragment can be read, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FragmentState {
    /// Nothing bad was found.
    Whole,
    /// Something of it did not match its checksum; it must be written anew.
    Corrupt,
}

/// A fragment in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentEntry {
    /// Its name.
    pub id: FragmentId,
    /// The clean-up generation it was written under.
    pub generation: Generation,
    /// Bytes of data.
    pub bytes: u64,
    /// Whether it can be read.
    pub state: FragmentState,
}

/// What the engine holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineStats {
    /// Bytes of the disk.
    pub total: u64,
    /// Bytes free on it, without what segments have reserved.
    pub free: u64,
    /// Bytes kept back from fragments.
    pub reserve: u64,
    /// Fragments.
    pub fragments: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// Fragments known to be corrupt.
    pub corrupt: u64,
    /// Segment files.
    pub segments: u64,
    /// Whether a new fragment of 1 MiB would be refused.
    pub full: bool,
}

/// The disk engine. Copies are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub tasks: Arc<dyn Tasks>,
    pub entropy: Arc<dyn Entropy>,
    pub settings: EngineSettings,
    pub fatal: Arc<Fatal>,
    /// Held only briefly: never across IO.
    pub index: Mutex<Index>,
    /// Held only briefly: never across IO.
    pub segments: Mutex<BTreeMap<u32, Arc<Segment>>>,
    /// Held across IO, so locked in blocking work alone.
    pub allocator: Mutex<Allocator>,
    pub sequence: AtomicU64,
    /// The index's place on disk.
    pub keeper: Keeper,
    /// Frees that wait to be noted in the journal.
    pub intents: Mutex<BTreeMap<Place, ExtentPayload>>,
    pub intent_rounds: Arc<Rounds>,
    /// Whether extents are being freed in the background.
    pub reclaiming: AtomicBool,
    /// Told when ids no longer move.
    pub moved: Notify,
    pub report: ScanReport,
}

impl Engine {
    /// What the scan at the start found.
    pub fn report(&self) -> &ScanReport {
        &self.shared.report
    }

    /// Up to `limit` fragments after `after`, sorted; each as it was at some
    /// moment during the call.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn list(
        &self,
        after: Option<FragmentId>,
        limit: usize,
    ) -> Result<Vec<FragmentEntry>, IndexError> {
        let shared = self.shared.clone();
        let work = move || {
            let rows = shared.rows_after(after, limit)?;
            Ok(rows.iter().map(|(id, at)| entry(*id, at)).collect())
        };
        let done = self.shared.tasks.blocking(work).await;
        done.unwrap_or(Err(IndexError::Ending))
    }

    /// What is known of one fragment.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn find(&self, id: &FragmentId) -> Result<Option<FragmentEntry>, IndexError> {
        let (shared, id) = (self.shared.clone(), *id);
        let work = move || Ok(shared.entry(&id)?.map(|at| entry(id, &at)));
        let done = self.shared.tasks.blocking(work).await;
        done.unwrap_or(Err(IndexError::Ending))
    }

    /// The digests of a group's fragments, by the first byte of the upload's
    /// id; a range without fragments has none. From memory.
    pub fn digests(&self, group: GroupId) -> BTreeMap<u8, Digest> {
        self.shared.index().totals.digests.of_group(group)
    }

    /// What the engine holds, and how much room there is.
    ///
    /// # Errors
    /// When the file system does not say.
    pub async fn stats(&self) -> io::Result<EngineStats> {
        let shared = self.shared.clone();
        let work = move || -> io::Result<EngineStats> {
            let space = shared.disk.space()?;
            let reserve = shared.reserve(space);
            let room = shared.allocator().active.as_ref().map_or(0, |s| s.room());
            let usable = space.free.saturating_sub(reserve) + room;
            let segments = shared.segments().len() as u64;
            let index = shared.index();
            Ok(EngineStats {
                total: space.total,
                free: space.free,
                reserve,
                fragments: index.totals.fragments,
                bytes: index.totals.bytes,
                corrupt: index.totals.corrupt,
                segments,
                full: space.free < reserve || usable < extent_bytes(1 << 20),
            })
        };
        let done = self.shared.tasks.blocking(work).await;
        done.unwrap_or_else(|| Err(io::Error::other("the process is ending")))
    }
}

fn entry(id: FragmentId, at: &Location) -> FragmentEntry {
    FragmentEntry {
        id,
        generation: at.generation,
        bytes: u64::from(at.bytes),
        state: if at.corrupt {
            FragmentState::Corrupt
        } else {
            FragmentState::Whole
        },
    }
}

impl Shared {
    // A panic ends the process (see runtime::telemetry), so a poisoned lock is
    // seen in tests alone.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.allocator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn reserve(&self, space: Space) -> u64 {
        self.settings
            .reserve_bytes
            .unwrap_or_else(|| standard_reserve(space.total))
    }

    /// The extent at a location, while its segment is there.
    pub(crate) fn extent(&self, at: &Location) -> Option<Extent> {
        Some(Extent {
            segment: self.segments().get(&at.segment)?.clone(),
            offset: u64::from(at.offset),
            max_bytes: u64::from(at.max_bytes),
        })
    }
}
