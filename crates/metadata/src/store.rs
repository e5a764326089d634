//! The state store of a node: one ordered key-value store for all its groups,
//! in one file of the runtime's disk (see `docs/decisions/0002-state-store.md`).
//!
//! A row's key is its group (2 bytes, big-endian), then what the group made of
//! it (its table's number first). Within a group keys are given and shown
//! without the group's prefix.
//!
//! Promises: a [`WriteBatch`] becomes visible whole or not at all; the applied
//! index of a group changes in the same batch as its rows; after a crash the
//! store holds a whole batch that is not older than the last durable commit.
//! Calls block, and a durable commit can take a third of a second.

mod backend;
mod reuse;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_model::GroupId;
use holdfast_runtime::{Disk, File};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use backend::Backend;
use reuse::Reuse;

type RowTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;
type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");

/// Pages held in memory, in bytes: the inner pages of some ten million rows.
const CACHE_BYTES: usize = 64 << 20;
/// The row that holds the applied index and its term; no table has the number 0.
const APPLIED: &[u8] = &[0, 0];

/// Why the store did not do what was asked. After any of these the store is
/// not to be used again: what a failed write left behind is unknown.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be opened or made.
    #[error("opening the state store {name}")]
    OpenFile {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The file holds no usable store.
    #[error("reading the state store {name}")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A transaction could not be begun.
    #[error("beginning a transaction of the state store")]
    Begin(#[source] Box<redb::Error>),
    /// A row could not be read.
    #[error("reading rows of the state store")]
    Read(#[source] Box<redb::Error>),
    /// A row could not be written.
    #[error("writing rows of the state store")]
    Write(#[source] Box<redb::Error>),
    /// The outcome of the commit is unknown.
    #[error("committing to the state store")]
    Commit(#[source] Box<redb::Error>),
    /// Rows could not be moved to the front of the file.
    #[error("compacting the state store")]
    Compact(#[source] Box<redb::CompactionError>),
    /// The file does not tell its length.
    #[error("asking for the length of the state store")]
    Length(#[source] io::Error),
    /// A row is not what was written.
    #[error("a row of the state store makes no sense: {0}")]
    Corrupt(String),
}

fn begin_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Begin(Box::new(error.into()))
}

fn read_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Read(Box::new(error.into()))
}

fn write_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Write(Box::new(error.into()))
}

fn commit_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Commit(Box::new(error.into()))
}

/// The rows of all groups of a node.
pub struct Store {
    database: redb::Database,
    file: Arc<dyn File>,
    cut: Arc<AtomicBool>,
    reuse: Arc<Reuse>,
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
        let backend = Backend {
            file: file.clone(),
            cut: cut.clone(),
        };
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
            reuse: Arc::default(),
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
        let batch = self.begin()?;
        batch.transaction.open_table(ROWS).map_err(write_error)?;
        batch.commit(true)
    }

    /// Begins to write. Waits while another batch is open: there is one writer.
    pub fn begin(&self) -> Result<WriteBatch, StoreError> {
        let transaction = self.database.begin_write().map_err(begin_error)?;
        Ok(WriteBatch {
            transaction,
            reuse: self.reuse.clone(),
            written: 0,
            freed: 0,
        })
    }

    /// What was committed, durably or not, as of now. Pages that it sees are
    /// not freed while it lives.
    pub fn snapshot(&self) -> Result<ReadView, StoreError> {
        let reader = self.database.begin_read().map_err(begin_error)?;
        let table = reader.open_table(ROWS).map_err(read_error)?;
        Ok(ReadView { table })
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
        let length = |file: &Arc<dyn File>| file.len().map_err(StoreError::Length);
        let before = length(&self.file)?;
        self.database
            .compact()
            .map_err(|error| StoreError::Compact(Box::new(error)))?;
        self.reuse.clear();
        Ok((before, length(&self.file)?))
    }

    /// Ends without making pending commits durable, as a crash would: dropping
    /// the store otherwise writes them out.
    pub fn abandon(self) {
        self.cut.store(true, Ordering::SeqCst);
    }
}

/// Writes that become visible together. Dropped uncommitted, it leaves nothing.
pub struct WriteBatch {
    transaction: redb::WriteTransaction,
    reuse: Arc<Reuse>,
    written: u64,
    freed: u64,
}

impl WriteBatch {
    /// The rows of one group.
    pub fn group(&mut self, group: GroupId) -> Result<GroupTxn<'_>, StoreError> {
        let table = self.transaction.open_table(ROWS).map_err(write_error)?;
        Ok(GroupTxn {
            table,
            group,
            written: &mut self.written,
            freed: &mut self.freed,
        })
    }

    /// Removes all rows of a group.
    pub fn delete_group(&mut self, group: GroupId) -> Result<(), StoreError> {
        let mut table = self.transaction.open_table(ROWS).map_err(write_error)?;
        let (from, to) = group_bounds(group);
        let freed = &mut self.freed;
        table
            .retain_in::<&[u8], _>((as_slice(&from), as_slice(&to)), |key, value| {
                *freed += (key.len() + value.len()) as u64;
                false
            })
            .map_err(write_error)
    }

    /// Makes the batch visible, and when `durable` also it and all before it
    /// safe from a crash.
    pub fn commit(mut self, durable: bool) -> Result<(), StoreError> {
        let durability = if durable {
            redb::Durability::Immediate
        } else {
            redb::Durability::None
        };
        self.transaction
            .set_durability(durability)
            .map_err(commit_error)?;
        // Without it, opening after a crash walks all pages.
        self.transaction.set_quick_repair(durable);
        self.transaction.commit().map_err(commit_error)?;
        self.reuse.note(self.written, self.freed);
        Ok(())
    }
}

/// A consistent view of all groups.
pub struct ReadView {
    table: ReadTable,
}

impl ReadView {
    /// One group's rows.
    pub fn group(&self, group: GroupId) -> GroupView<'_> {
        GroupView {
            table: &self.table,
            group,
        }
    }

    /// All rows of a group in order, keys without the group's prefix. The
    /// iterator keeps the view alive.
    pub fn rows(
        &self,
        group: GroupId,
    ) -> Result<impl Iterator<Item = Result<Row, StoreError>> + Send + use<>, StoreError> {
        let (from, to) = group_bounds(group);
        let range = self
            .table
            .range::<&[u8]>((as_slice(&from), as_slice(&to)))
            .map_err(read_error)?;
        Ok(range.map(|row| {
            let (key, value) = row.map_err(read_error)?;
            let key = key.value().get(2..).unwrap_or_default().to_vec();
            Ok((key, value.value().to_vec()))
        }))
    }
}

/// A row's key, without its group, and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Is shown rows, key and value, until it answers false.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'v;

/// Rows of one group that can be read. Keys are without the group's prefix.
pub trait Rows {
    /// The group.
    fn group(&self) -> GroupId;

    /// A row's value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Shows rows from `from` up to and without `to`, in order, until `visit`
    /// answers false.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The index and term of the last applied entry; `None` for a group that
    /// is not here.
    fn applied(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let Some(value) = self.get(APPLIED)? else {
            return Ok(None);
        };
        let number = |at: usize| {
            let bytes = value.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        match (number(0), number(8)) {
            (Some(index), Some(term)) => Ok(Some((index, term))),
            _ => Err(StoreError::Corrupt("the applied index".to_owned())),
        }
    }
}

/// One group in a [`ReadView`].
pub struct GroupView<'v> {
    table: &'v ReadTable,
    group: GroupId,
}

/// One group in a [`WriteBatch`]: reads see its writes.
pub struct GroupTxn<'b> {
    table: RowTable<'b>,
    group: GroupId,
    written: &'b mut u64,
    freed: &'b mut u64,
}

impl Rows for GroupView<'_> {
    fn group(&self) -> GroupId {
        self.group
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get_row(self.table, self.group, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        scan_rows(self.table, self.group, (from, to), visit)
    }
}

impl Rows for GroupTxn<'_> {
    fn group(&self) -> GroupId {
        self.group
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get_row(&self.table, self.group, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        scan_rows(&self.table, self.group, (from, to), visit)
    }
}

impl GroupTxn<'_> {
    /// Writes a row, replacing what had its key. Rows of a snapshot are loaded
    /// with this too.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let key = prefixed(self.group, key);
        let old = self
            .table
            .insert(key.as_slice(), value)
            .map_err(write_error)?;
        *self.written += (key.len() + value.len()) as u64;
        if let Some(old) = old {
            *self.freed += (key.len() + old.value().len()) as u64;
        }
        Ok(())
    }

    /// Removes a row; says whether there was one.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let key = prefixed(self.group, key);
        let old = self.table.remove(key.as_slice()).map_err(write_error)?;
        if let Some(old) = &old {
            *self.freed += (key.len() + old.value().len()) as u64;
        }
        Ok(old.is_some())
    }

    /// Notes the entry up to which the rows are.
    pub fn set_applied(&mut self, index: u64, term: u64) -> Result<(), StoreError> {
        let mut value = [0; 16];
        let (first, second) = value.split_at_mut(8);
        first.copy_from_slice(&index.to_be_bytes());
        second.copy_from_slice(&term.to_be_bytes());
        self.put(APPLIED, &value)
    }
}

fn get_row(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    group: GroupId,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let key = prefixed(group, key);
    let value = table.get(key.as_slice()).map_err(read_error)?;
    Ok(value.map(|value| value.value().to_vec()))
}

fn scan_rows(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    group: GroupId,
    (from, to): (&[u8], &[u8]),
    visit: &mut Visit<'_>,
) -> Result<(), StoreError> {
    if from >= to {
        return Ok(());
    }
    let (from, to) = (prefixed(group, from), prefixed(group, to));
    let range = table
        .range::<&[u8]>(from.as_slice()..to.as_slice())
        .map_err(read_error)?;
    for row in range {
        let (key, value) = row.map_err(read_error)?;
        if !visit(key.value().get(2..).unwrap_or_default(), value.value())? {
            break;
        }
    }
    Ok(())
}

fn prefixed(group: GroupId, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + key.len());
    bytes.extend_from_slice(&group.0.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

fn group_bounds(group: GroupId) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let to = match group.0.checked_add(1) {
        Some(next) => Bound::Excluded(next.to_be_bytes().to_vec()),
        None => Bound::Unbounded,
    };
    (Bound::Included(group.0.to_be_bytes().to_vec()), to)
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(bytes) => Bound::Included(bytes.as_slice()),
        Bound::Excluded(bytes) => Bound::Excluded(bytes.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}
