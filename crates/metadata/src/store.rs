//! The state store of a node: one ordered key-value store for all its groups,
//! in one file of the runtime's disk (see `docs/decisions/0002-state-store.md`),
//! with what was committed last in memory (`docs/decisions/0007-rows-in-memory.md`).
//!
//! A row's key is its group (2 bytes, big-endian), then what the group made of
//! it (its table's number first). Within a group keys are given and shown
//! without the group's prefix.
//!
//! Promises: a [`WriteBatch`] becomes visible whole or not at all; the applied
//! index of a group changes in the same batch as its rows; after a crash the
//! store holds all batches up to the last durable one, or up to a later one
//! that had been frozen. Calls block, and a flush can take a third of a second.
//!
//! States: batches gather in the active layer; [`Store::freeze`] makes it the
//! frozen one, and a new one active; [`Store::flush`] writes the frozen one in
//! one transaction, and then drops it. There is one frozen layer at most.

mod backend;
mod batch;
mod checked;
mod error;
mod layer;
mod reuse;
#[cfg(test)]
mod tests;
mod trouble;
mod view;

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_model::GroupId;
use holdfast_runtime::{Disk, File};
use redb::{ReadableDatabase, TableDefinition};

pub use batch::{GroupTxn, WriteBatch};
pub use error::StoreError;
pub use view::{GroupView, ReadView, Row, Rows, Visit};

use backend::Backend;
use error::{begin_error, commit_error, read_error, write_error};
use layer::{Changes, Layer, Layers};
use reuse::Reuse;
use trouble::FirstError;

type RowTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;
type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");

/// Pages held in memory, in bytes: the inner pages of some ten million rows.
const CACHE_BYTES: usize = 64 << 20;
/// The row that holds the applied index and its term; no table has the number 0.
const APPLIED: &[u8] = &[0, 0];

/// The rows of all groups of a node.
pub struct Store {
    database: redb::Database,
    file: Arc<dyn File>,
    cut: Arc<AtomicBool>,
    first_error: FirstError,
    reuse: Reuse,
    /// Held by whoever writes: there is one writer.
    writing: Mutex<()>,
    /// Held by whoever flushes, across IO.
    flushing: Mutex<()>,
    /// Held only briefly: never across IO.
    memory: Mutex<Memory>,
}

/// What is not in the file yet.
#[derive(Default)]
struct Memory {
    active: Arc<Layer>,
    frozen: Option<Arc<Layer>>,
    /// Of the last batch that was committed.
    sequence: u64,
}

impl Store {
    /// Opens the store in the file `name`, making it where there is none.
    pub fn open(disk: &Arc<dyn Disk>, name: &str) -> Result<Self, StoreError> {
        let file = match disk.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create(name).and_then(|file| {
                    disk.sync_dir(holdfast_runtime::disk::parent(name))
                        .map(|()| file)
                })
            }
            other => other,
        }
        .map_err(|source| StoreError::OpenFile {
            name: name.to_owned(),
            source,
        })?;
        let cut = Arc::new(AtomicBool::new(false));
        let first_error = FirstError::default();
        let backend =
            Backend::open(file.clone(), cut.clone(), first_error.clone()).map_err(|source| {
                StoreError::OpenFile {
                    name: name.to_owned(),
                    source,
                }
            })?;
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| StoreError::Open {
                name: name.to_owned(),
                source: Box::new(error.into()),
            })?;
        let store = Self {
            database,
            file,
            cut,
            first_error,
            reuse: Reuse::default(),
            writing: Mutex::default(),
            flushing: Mutex::default(),
            memory: Mutex::default(),
        };
        store.make_table()?;
        Ok(store)
    }

    /// Readers need the table to exist.
    fn make_table(&self) -> Result<(), StoreError> {
        let reader = self.database.begin_read().map_err(begin_error)?;
        match reader.open_table(ROWS) {
            Ok(_) => return Ok(()),
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(read_error(error)),
        }
        let transaction = self.database.begin_write().map_err(begin_error)?;
        transaction.open_table(ROWS).map_err(write_error)?;
        batch::commit_to_file(self, transaction, (0, 0), true)
    }

    /// Begins to write. Waits while another batch is open.
    pub fn begin(&self) -> Result<WriteBatch<'_>, StoreError> {
        WriteBatch::in_memory(self, lock(&self.writing))
    }

    /// Begins to write into the file, for many rows: snapshots, births,
    /// restores. What is in memory goes there first.
    pub fn begin_bulk(&self) -> Result<WriteBatch<'_>, StoreError> {
        let writing = lock(&self.writing);
        self.flush_all()?;
        let transaction = self.database.begin_write().map_err(begin_error)?;
        Ok(WriteBatch::in_file(self, writing, transaction))
    }

    /// What was committed, durably or not, as of now. Pages that it sees are
    /// not freed while it lives.
    pub fn snapshot(&self) -> Result<ReadView, StoreError> {
        // Under the lock, so that no layer leaves memory after the file was looked at
        // and before the layers are.
        let memory = lock(&self.memory);
        let reader = self.database.begin_read().map_err(begin_error)?;
        let mut layers = vec![memory.active.clone()];
        layers.extend(memory.frozen.clone());
        let sequence = memory.sequence;
        drop(memory);
        let table = reader.open_table(ROWS).map_err(read_error)?;
        Ok(ReadView {
            layers: Layers { layers, sequence },
            table,
        })
    }

    /// Takes the changes of one batch; its writer holds the lock on writing.
    fn add(&self, changes: Changes) {
        let mut memory = lock(&self.memory);
        // A view that has the layer already does not look at later sequences.
        memory.active.add(changes, memory.sequence + 1);
        memory.sequence += 1;
    }

    /// Bytes in memory that a flush has not begun to write.
    pub fn gathered(&self) -> usize {
        lock(&self.memory).active.bytes()
    }

    /// Gives what was committed up to now to the next [`Store::flush`]. Answers
    /// false, and does nothing, while an earlier one is not in the file yet.
    pub fn freeze(&self) -> bool {
        let mut memory = lock(&self.memory);
        if memory.frozen.is_some() {
            return false;
        }
        memory.frozen = Some(std::mem::take(&mut memory.active));
        true
    }

    /// Writes what is frozen into the file, durably. Batches may be committed meanwhile.
    pub fn flush(&self) -> Result<(), StoreError> {
        let _flushing = lock(&self.flushing);
        let frozen = lock(&self.memory).frozen.clone();
        let Some(layer) = frozen else { return Ok(()) };
        let transaction = self.database.begin_write().map_err(begin_error)?;
        let (mut written, mut freed) = (0, 0);
        {
            let mut table = transaction.open_table(ROWS).map_err(write_error)?;
            layer.newest(|key, value| {
                match value {
                    Some(value) => {
                        let (into, from) = batch::insert(&mut table, key, value)?;
                        written += into;
                        freed += from;
                    }
                    None => freed += batch::remove(&mut table, key)?,
                }
                Ok::<_, StoreError>(())
            })?;
        }
        batch::commit_to_file(self, transaction, (written, freed), true)?;
        lock(&self.memory).frozen = None;
        Ok(())
    }

    /// Writes all that was committed into the file; the caller holds the lock on writing.
    fn flush_all(&self) -> Result<(), StoreError> {
        self.flush()?;
        self.freeze();
        self.flush()
    }

    /// Bytes that rows can take before the file grows, as far as deletions since
    /// the store was opened tell.
    pub fn reusable(&self) -> u64 {
        self.reuse.bytes()
    }

    /// Moves rows to the front of the file and cuts off what is unused behind
    /// them. Returns the file's length before and after, in bytes.
    ///
    /// # Errors
    /// Also when a view of the store lives.
    pub fn compact(&mut self) -> Result<(u64, u64), StoreError> {
        self.begin_bulk()?.commit(true)?;
        let length = |file: &Arc<dyn File>| file.len().map_err(StoreError::Length);
        let before = length(&self.file)?;
        self.database
            .compact()
            .map_err(|error| StoreError::Compact(Box::new(error)))?;
        self.reuse.clear();
        Ok((before, length(&self.file)?))
    }

    /// Ends without writing anything more, as a crash would.
    pub fn abandon(self) {
        self.cut.store(true, Ordering::SeqCst);
    }
}

// A panic ends the process (see runtime::telemetry), so a poisoned lock is seen
// in tests alone.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prefixed(group: GroupId, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + key.len());
    bytes.extend_from_slice(&group.0.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The first key of a group, and where the next one begins.
fn group_bounds(group: GroupId) -> (Vec<u8>, Bound<Vec<u8>>) {
    let to = match group.0.checked_add(1) {
        Some(next) => Bound::Excluded(next.to_be_bytes().to_vec()),
        None => Bound::Unbounded,
    };
    (group.0.to_be_bytes().to_vec(), to)
}
