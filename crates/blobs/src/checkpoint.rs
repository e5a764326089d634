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

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_model::FragmentId;
use holdfast_runtime::{Disk, TasksExt};

use crate::engine::{Engine, Shared};
use crate::fatal::Failed;
use crate::index::base::{Base, BaseWriter};
use crate::index::delta::Delta;
use crate::index::journal::Journal;
use crate::index::{Index, IndexError, IndexSlice, Location};
use crate::segment::DIRECTORY;

pub(crate) mod files;
mod heal;
mod lines;
mod notes;
#[cfg(test)]
mod tests;

use files::{IndexFiles, base_name, journal_name, new_name};
use heal::Healed;

/// Changes in memory before there is a base, or a new one: few enough that a
/// start without a base looks at them in a second.
const MERGE_AT_LEAST: u64 = 4096;
/// A base is made anew when this part of it has changed: in memory a change
/// takes some 57 bytes, so that this part costs 4 bytes a fragment, and twice
/// that while it is merged.
const MERGE_PART: u64 = 16;
/// Changes after which the journal gets a line: what a start after a crash
/// looks at, two reads each.
const LINE_EVERY: usize = 1024;
/// A journal longer than this is replaced, with its base: one that grew by what
/// was changed again and again, and is read whole at the start.
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
    healing: AtomicBool,
    /// Changes at which the next base is made; raised when that has failed.
    merge_at: AtomicU64,
    /// Whether the journal has become too long.
    long: AtomicBool,
    /// Look-ups that may still fail before healing is tried again.
    heal_pause: AtomicU64,
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
            healing: AtomicBool::new(false),
            merge_at: AtomicU64::new(0),
            long: AtomicBool::new(false),
            heal_pause: AtomicU64::new(0),
        }
    }

    /// Notes how long the journal has become.
    fn measure(&self, journal: &Journal) {
        let long = journal.bytes() > MAX_JOURNAL_BYTES;
        self.long.store(long, Ordering::SeqCst);
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

impl Merging {
    /// `None` while one is being made.
    fn begin(shared: &Arc<Shared>) -> Option<Self> {
        let busy = shared.keeper.merging.swap(true, Ordering::SeqCst);
        // Made only then: its end is that of the base being made.
        (!busy).then(|| Self {
            shared: shared.clone(),
        })
    }
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
        self.before = None;
        let Some(frozen) = self.frozen.take() else {
            return;
        };
        let newer = std::mem::replace(&mut self.delta, Arc::unwrap_or_clone(frozen));
        for (id, at) in newer.iter() {
            self.delta.insert(id, at);
        }
        if self.journaled {
            // Nobody knows any more which of them the old journal has.
            self.unsaved = self.delta.iter().map(|(id, _)| id).collect();
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
        let made = self.make_base().await;
        made.map_err(|error| match error {
            CheckpointError::Index(error) => self.shared.index_is_bad(error).into(),
            other => other,
        })
    }

    async fn make_base(&self) -> Result<(), CheckpointError> {
        let Some(_merging) = Merging::begin(&self.shared) else {
            return Ok(());
        };
        let shared = self.shared.clone();
        let (frozen, old) = self.step(move || Ok(shared.index().freeze())).await?;
        let shared = self.shared.clone();
        let rows = IndexSlice::whole(frozen, old);
        let (base, number) = self
            .step(move || shared.write_base(rows, |_, _| {}))
            .await?;
        let shared = self.shared.clone();
        self.step(move || shared.switch_base(base, number, None))
            .await
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
        let long = self.keeper.long.load(Ordering::SeqCst);
        let much = MERGE_AT_LEAST.max(base / MERGE_PART);
        let merge_at = if long { least } else { much.max(least) };
        let merging = self.keeper.merging.load(Ordering::SeqCst);
        (
            index.delta.len() as u64 >= merge_at && !merging,
            index.journaled && index.unsaved.len() >= LINE_EVERY,
        )
    }

    /// Merges `rows` into a file that has no name yet; `each` sees them.
    fn write_base(
        &self,
        rows: IndexSlice,
        mut each: impl FnMut(&FragmentId, &Location),
    ) -> Result<(Base, u64), CheckpointError> {
        let number = {
            let mut state = self.keeper.state();
            state.number += 1;
            state.number
        };
        let name = new_name(number);
        let id = self.entropy.number().max(1);
        let write = || -> Result<Base, CheckpointError> {
            let most = rows.len_at_most();
            let mut writer = BaseWriter::create(self.disk.as_ref(), &name, id, number, most)?;
            for row in rows.rows(None) {
                let (id, at) = row?;
                each(&id, &at);
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
    fn switch_base(
        &self,
        base: Base,
        number: u64,
        healed: Option<Healed>,
    ) -> Result<(), CheckpointError> {
        let mut state = self.keeper.state();
        let journal = match self.begin_journal(&base, number) {
            Ok(journal) => journal,
            Err(error) => {
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
            if let Some(healed) = healed {
                healed.settle(&mut index);
            }
            index.base = Some(Arc::new(base));
            index.frozen = None;
        }
        self.keeper.measure(&journal);
        state.journal = Some(journal);
        state.current = Some(number);
        drop(state);
        self.keeper.tidy(self.disk.as_ref());
        self.disk.reached("checkpoint: tidied");
        Ok(())
    }
}
