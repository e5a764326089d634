//! Keeping the index on disk: lines in the journal now and then, a new base
//! when much has changed, and notes of deletes before they happen.
//!
//! A base is made in three steps: what has changed is set apart (*frozen*);
//! base and frozen are merged into a new file while the engine goes on; and
//! everything that changed meanwhile is written into a new journal, with the
//! line of that moment, before the new base gets its name. Whatever fails or is
//! cut short on the way leaves the old base and journal as they are.
//!
//! When the journal cannot be written (a disk without any room), the index is
//! given up on disk before anything is deleted: the next start reads the
//! segments, which alone are the truth. Locks are taken in the order keeper,
//! allocator, index, segments.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_model::FragmentId;
use holdfast_runtime::{Disk, TasksExt};

use crate::engine::{Engine, Shared};
use crate::fatal::Failed;
use crate::index::base::{Base, BaseWriter};
use crate::index::journal::{Change, DamagedSegment, ExtentPayload, Journal, Line, OpenSegment};
use crate::index::{Delta, Extent, Index, IndexError, IndexSlice, Place};
use crate::segment::{DIRECTORY, is_full};

pub(crate) mod files;

use files::{IndexFiles, base_name, idle_name, journal_name, new_name};

/// Changes in memory before there is a base, or a new one: few enough that a
/// start without a base looks at them in a second.
const MERGE_AT_LEAST: u64 = 4096;
/// A base is made anew when this part of it has changed: in memory a change
/// takes some 90 bytes, so that this part costs 6 bytes a fragment, and twice
/// that while it is merged.
const MERGE_PART: u64 = 16;
/// Changes after which the journal gets a line: what a start after a crash
/// looks at, two reads each.
const LINE_EVERY: usize = 1024;
/// Extents in one record of deletes: far below what a record may hold.
const FREES_AT_ONCE: usize = 10_000;
/// A journal longer than this is replaced: one that grew by deletes of what had
/// just been written, and is read whole at the start.
const MAX_JOURNAL_BYTES: u64 = 64 << 20;

/// Why the index was not saved. Nothing is lost: the next start reads more.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk has failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The operating system refused.
    #[error("writing the index")]
    Io(#[from] io::Error),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// The index's place on disk.
pub(crate) struct Keeper {
    /// Held across IO, so locked in blocking work alone.
    state: Mutex<State>,
    merging: AtomicBool,
    lining: AtomicBool,
    /// Changes at which the next base is made; raised when that has failed.
    merge_at: AtomicU64,
}

struct State {
    /// None without a base on disk.
    journal: Option<Journal>,
    /// The highest number used.
    number: u64,
    /// That of the base on disk.
    current: Option<u64>,
}

impl Keeper {
    /// `number` is the highest in use, `saved` the base that was read.
    pub(crate) fn new(number: u64, saved: Option<(u64, Journal)>) -> Self {
        let (current, journal) = saved.unzip();
        let state = State {
            journal,
            number,
            current,
        };
        Self {
            state: Mutex::new(state),
            merging: AtomicBool::new(false),
            lining: AtomicBool::new(false),
            merge_at: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what older indexes and births cut short have left.
    pub(crate) fn tidy(&self, disk: &dyn Disk) {
        let state = self.state();
        match IndexFiles::list(disk) {
            Ok(files) => files.remove_but(disk, state.current),
            Err(error) => tracing::warn!(%error, "cannot list the files of the index"),
        }
    }
}

/// One base at a time; gives back what was frozen when it was not made.
struct Merging {
    shared: Arc<Shared>,
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.shared.index().thaw();
        self.shared.keeper.merging.store(false, Ordering::SeqCst);
    }
}

impl Index {
    fn freeze(&mut self) -> (Arc<Delta>, Option<Arc<Base>>) {
        let frozen = Arc::new(std::mem::take(&mut self.delta));
        self.frozen = Some(frozen.clone());
        (frozen, self.base.clone())
    }

    /// Nothing is left to be given back once the next base is there.
    fn thaw(&mut self) {
        let Some(frozen) = self.frozen.take() else {
            return;
        };
        let mut delta = Arc::unwrap_or_clone(frozen);
        delta.append(&mut self.delta);
        self.delta = delta;
        if self.journaled {
            // Nobody knows any more which of them the old journal has.
            self.unsaved = self.delta.keys().copied().collect();
        }
    }
}

impl Engine {
    /// Makes a new base of the index. A restart then looks at nothing older.
    /// When one is being made already, it returns at once.
    ///
    /// # Errors
    /// When the old one stays.
    pub async fn checkpoint(&self) -> Result<(), CheckpointError> {
        if self.shared.keeper.merging.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let _merging = Merging {
            shared: self.shared.clone(),
        };
        let shared = self.shared.clone();
        let (frozen, old) = self.step(move || Ok(shared.index().freeze())).await?;
        let shared = self.shared.clone();
        let (base, number) = self
            .step(move || shared.write_base(IndexSlice::whole(frozen, old)))
            .await?;
        let shared = self.shared.clone();
        self.step(move || shared.switch_base(base, number)).await
    }

    /// Saves what has changed, so that the next start finds it at once: for an
    /// orderly end.
    ///
    /// # Errors
    /// When the next start will have to look for itself.
    pub async fn save(&self) -> Result<(), CheckpointError> {
        if !self.shared.index().journaled {
            return self.checkpoint().await;
        }
        let shared = self.shared.clone();
        self.step(move || shared.write_line()).await
    }

    async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let fatal = self.shared.fatal.clone();
        let work = move || {
            fatal.check()?;
            work()
        };
        let done = self.shared.tasks.blocking(work).await;
        done.unwrap_or(Err(CheckpointError::Ending))
    }

    /// Begins a line or a base when it is time.
    pub(crate) fn keep_index_in_background(&self) {
        let (merge, line) = self.shared.is_time_to_keep();
        if merge {
            let engine = self.clone();
            let run = async move {
                let changes = engine.shared.index().delta.len() as u64;
                if let Err(error) = engine.checkpoint().await {
                    tracing::warn!(%error, "no new base of the index; the old one stays");
                    let next = changes + MERGE_AT_LEAST.max(changes / 4);
                    engine.shared.keeper.merge_at.store(next, Ordering::SeqCst);
                } else {
                    engine.shared.keeper.merge_at.store(0, Ordering::SeqCst);
                }
            };
            self.shared.tasks.spawn("merge the index", Box::pin(run));
        } else if line && !self.shared.keeper.lining.swap(true, Ordering::SeqCst) {
            let engine = self.clone();
            let run = async move {
                let saved = engine.save().await;
                engine.shared.keeper.lining.store(false, Ordering::SeqCst);
                if let Err(error) = saved {
                    tracing::warn!(%error, "no line in the journal of the index");
                }
            };
            self.shared.tasks.spawn("note the index", Box::pin(run));
        }
    }
}

impl Shared {
    fn is_time_to_keep(&self) -> (bool, bool) {
        let index = self.index();
        let base = index.base.as_ref().map_or(0, |base| base.entries);
        let least = self.keeper.merge_at.load(Ordering::SeqCst);
        let merge_at = MERGE_AT_LEAST.max(base / MERGE_PART).max(least);
        let merging = self.keeper.merging.load(Ordering::SeqCst);
        (
            index.delta.len() as u64 >= merge_at && !merging,
            index.journaled && index.unsaved.len() >= LINE_EVERY,
        )
    }

    /// Merges `rows` into a file that has no name yet.
    fn write_base(&self, rows: IndexSlice) -> Result<(Base, u64), CheckpointError> {
        let number = {
            let mut state = self.keeper.state();
            state.number += 1;
            state.number
        };
        let name = new_name(number);
        let id = self.entropy.number().max(1);
        let write = || -> Result<Base, CheckpointError> {
            let mut writer = BaseWriter::create(self.disk.as_ref(), &name, id, number)?;
            for row in rows.rows(None) {
                let (id, at) = row?;
                writer.push(&id, &at)?;
            }
            Ok(writer.finish()?)
        };
        let base = write().inspect_err(|_| drop(self.disk.remove(&name)))?;
        self.disk.reached("checkpoint: written");
        base.sync().map_err(|error| self.index_not_synced(&error))?;
        self.disk.reached("checkpoint: synced");
        Ok((base, number))
    }

    /// Gives a new base its name and its journal.
    fn switch_base(&self, base: Base, number: u64) -> Result<(), CheckpointError> {
        let mut state = self.keeper.state();
        let was_journaled = self.index().journaled;
        let journal = match self.begin_journal(&base, number) {
            Ok(journal) => journal,
            Err(error) => {
                self.index().journaled = was_journaled;
                let _ = self.disk.remove(&journal_name(number));
                let _ = self.disk.remove(&new_name(number));
                return Err(error.into());
            }
        };
        let publish = || {
            journal.sync()?;
            self.disk.sync_dir(DIRECTORY)?;
            self.disk.reached("checkpoint: journal begun");
            self.disk.rename(&new_name(number), &base_name(number))?;
            self.disk.reached("checkpoint: renamed");
            self.disk.sync_dir(DIRECTORY)
        };
        publish().map_err(|error| self.index_not_synced(&error))?;
        self.disk.reached("checkpoint: durable");
        {
            let mut index = self.index();
            index.base = Some(Arc::new(base));
            index.frozen = None;
        }
        state.journal = Some(journal);
        state.current = Some(number);
        drop(state);
        self.keeper.tidy(self.disk.as_ref());
        self.disk.reached("checkpoint: tidied");
        Ok(())
    }

    /// A journal with all that has changed since the freeze, as of now.
    fn begin_journal(&self, base: &Base, number: u64) -> io::Result<Journal> {
        let file = self.disk.create(&journal_name(number))?;
        let mut journal = Journal::new(file, base.id);
        let (changes, line) = {
            let allocator = self.allocator();
            let mut index = self.index();
            let changes: Vec<Change> = index.delta.iter().map(|(id, at)| (*id, *at)).collect();
            index.unsaved.clear();
            index.journaled = true;
            (changes, self.line(allocator.next_segment, &index))
        };
        journal.write_changes(&changes, line)?;
        Ok(journal)
    }

    /// Writes what has changed, and a line, into the journal; nothing without
    /// a journal.
    fn write_line(&self) -> Result<(), CheckpointError> {
        let mut state = self.keeper.state();
        let Some(journal) = &mut state.journal else {
            return Ok(());
        };
        let (changes, line) = {
            let allocator = self.allocator();
            let mut index = self.index();
            let unsaved = std::mem::take(&mut index.unsaved);
            let changed = |id: FragmentId| Some((id, index.recent(&id)?));
            let changes: Vec<Change> = unsaved.into_iter().filter_map(changed).collect();
            (changes, self.line(allocator.next_segment, &index))
        };
        if let Err(error) = journal.write_changes(&changes, line) {
            self.give_up_index(&mut state)?;
            return Err(error.into());
        }
        self.disk.reached("line: written");
        journal
            .sync()
            .map_err(|error| self.index_not_synced(&error))?;
        self.disk.reached("line: synced");
        if journal.bytes() > MAX_JOURNAL_BYTES {
            self.keeper.merge_at.store(0, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Where everything stands. Both locks are held.
    fn line(&self, next_segment: u32, index: &Index) -> Line {
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

    /// Notes durably, if there is a journal, that extents are about to be
    /// freed. Many who wait share one sync.
    pub(crate) async fn note_frees(
        self: &Arc<Self>,
        extents: impl Iterator<Item = (FragmentId, Extent)>,
    ) -> Result<(), Failed> {
        // Whoever frees the same extents at the same time notes them once.
        let payloads = extents.map(|(id, extent)| (extent.place(), extent.payload(id)));
        self.intents().extend(payloads);
        let shared = self.clone();
        let work = Arc::new(move || {
            if let Err(error) = shared.write_intents() {
                shared.fatal.fail(format!("noting deletes: {error}"));
            }
        });
        let rounds = &self.intent_rounds;
        rounds.join(&self.tasks, &self.fatal, work).await
    }

    /// Notes all that is to be freed. For the start; blocks.
    pub(crate) fn note_frees_now(&self) -> Result<(), Failed> {
        let extents: Vec<_> = {
            let index = self.index();
            let freeing = index.freeing.values();
            freeing.map(|(id, extent)| extent.payload(*id)).collect()
        };
        if extents.is_empty() {
            return Ok(());
        }
        let noted = extents.into_iter().map(|extent| (extent.place(), extent));
        self.intents().extend(noted);
        self.write_intents()
            .map_err(|error| self.fatal.fail(format!("noting deletes: {error}")))
    }

    fn intents(&self) -> MutexGuard<'_, BTreeMap<Place, ExtentPayload>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_intents(&self) -> Result<(), CheckpointError> {
        self.fatal.check()?;
        let mut state = self.keeper.state();
        let intents = std::mem::take(&mut *self.intents());
        let Some(journal) = &mut state.journal else {
            return Ok(());
        };
        let intents: Vec<ExtentPayload> = intents.into_values().collect();
        for some in intents.chunks(FREES_AT_ONCE) {
            if let Err(error) = journal.write_frees(some.to_vec()) {
                tracing::warn!(%error, "deletes cannot be noted: the index is given up");
                return self.give_up_index(&mut state);
            }
            self.disk.reached("delete: noted");
            journal
                .sync()
                .map_err(|error| self.index_not_synced(&error))?;
        }
        self.disk.reached("delete: note synced");
        Ok(())
    }

    /// Takes the index's name on disk away, durably: it will not be true any
    /// more. It is still used by this process.
    fn give_up_index(&self, state: &mut State) -> Result<(), CheckpointError> {
        if state.journal.take().is_none() {
            return Ok(());
        }
        {
            let mut index = self.index();
            index.journaled = false;
            index.unsaved.clear();
        }
        let Some(number) = state.current.take() else {
            return Ok(());
        };
        let give_up = || {
            self.disk.rename(&base_name(number), &idle_name(number))?;
            self.disk.sync_dir(DIRECTORY)
        };
        give_up().map_err(|error| self.index_not_synced(&error))?;
        Ok(())
    }

    /// What was found bad is not trusted at the next start either.
    pub(crate) fn index_is_bad(&self, error: IndexError) -> IndexError {
        tracing::error!(%error, "the index is bad: the next start reads every segment");
        if let Err(error) = self.give_up_index(&mut self.keeper.state()) {
            tracing::error!(%error, "the index cannot be given up");
        }
        error
    }

    fn index_not_synced(&self, error: &io::Error) -> CheckpointError {
        let what = if is_full(error) { "no room" } else { "failed" };
        self.fatal
            .fail(format!("syncing the index: {what}: {error}"))
            .into()
    }
}
