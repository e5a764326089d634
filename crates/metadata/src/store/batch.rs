//! Writing: a batch gathers in memory, or, in bulk, goes into the file at once.

use std::ops::Bound;
use std::sync::MutexGuard;

use holdfast_model::GroupId;
use redb::ReadableTable;

use super::layer::Changes;
use super::view::{ReadView, Rows, Visit, as_slice, show};
use super::{APPLIED, ROWS, RowTable, Store, StoreError, commit_error, group_bounds, prefixed};
use super::{read_error, write_error};

/// Writes that become visible together. Dropped uncommitted, it leaves nothing.
pub struct WriteBatch<'s> {
    store: &'s Store,
    _writing: MutexGuard<'s, ()>,
    into: Into,
}

/// Where a batch writes.
enum Into {
    /// Into memory, over what there was when it began.
    Memory { view: ReadView, changes: Changes },
    /// Into the file.
    File {
        transaction: Box<redb::WriteTransaction>,
        written: u64,
        freed: u64,
    },
}

impl<'s> WriteBatch<'s> {
    pub(super) fn in_memory(
        store: &'s Store,
        writing: MutexGuard<'s, ()>,
    ) -> Result<Self, StoreError> {
        let into = Into::Memory {
            view: store.snapshot()?,
            changes: Changes::new(),
        };
        Ok(Self {
            store,
            _writing: writing,
            into,
        })
    }

    pub(super) fn in_file(
        store: &'s Store,
        writing: MutexGuard<'s, ()>,
        transaction: redb::WriteTransaction,
    ) -> Self {
        Self {
            store,
            _writing: writing,
            into: Into::File {
                transaction: Box::new(transaction),
                written: 0,
                freed: 0,
            },
        }
    }

    /// The rows of one group.
    pub fn group(&mut self, group: GroupId) -> Result<GroupTxn<'_>, StoreError> {
        let rows = match &mut self.into {
            Into::Memory { view, changes } => Writing::Memory { view, changes },
            Into::File {
                transaction,
                written,
                freed,
            } => Writing::File {
                table: transaction.open_table(ROWS).map_err(write_error)?,
                written,
                freed,
            },
        };
        Ok(GroupTxn { rows, group })
    }

    /// Removes all rows of a group. Of many rows better in bulk: in memory each
    /// is remembered as removed.
    pub fn delete_group(&mut self, group: GroupId) -> Result<(), StoreError> {
        let (from, to) = group_bounds(group);
        match &mut self.into {
            Into::Memory { view, changes } => {
                let over = part(changes, &from, &to);
                for row in view.merged(from, to, over)? {
                    changes.insert(row?.0, None);
                }
                Ok(())
            }
            Into::File {
                transaction, freed, ..
            } => {
                let to = as_slice(&to);
                let mut table = transaction.open_table(ROWS).map_err(write_error)?;
                table
                    .retain_in::<&[u8], _>((Bound::Included(from.as_slice()), to), |key, value| {
                        *freed += (key.len() + value.len()) as u64;
                        false
                    })
                    .map_err(write_error)
            }
        }
    }

    /// Makes the batch visible, and when `durable` also it and all before it
    /// safe from a crash. Blocks long only when durable, or in bulk.
    pub fn commit(self, durable: bool) -> Result<(), StoreError> {
        match self.into {
            Into::Memory { view, changes } => {
                drop(view);
                self.store.add(changes);
                if durable {
                    self.store.flush_all()?;
                }
                Ok(())
            }
            Into::File {
                transaction,
                written,
                freed,
            } => commit_to_file(self.store, *transaction, (written, freed), durable),
        }
    }
}

/// The changes of a range.
fn part(changes: &Changes, from: &[u8], to: &Bound<Vec<u8>>) -> Changes {
    let bounds = (Bound::Included(from), as_slice(to));
    let rows = changes.range::<[u8], _>(bounds);
    rows.map(|(key, change)| (key.clone(), change.clone()))
        .collect()
}

/// Commits a transaction of the file.
pub(super) fn commit_to_file(
    store: &Store,
    mut transaction: redb::WriteTransaction,
    (written, freed): (u64, u64),
    durable: bool,
) -> Result<(), StoreError> {
    let durability = if durable {
        redb::Durability::Immediate
    } else {
        redb::Durability::None
    };
    transaction
        .set_durability(durability)
        .map_err(commit_error)?;
    // Without it, opening after a crash walks all pages.
    transaction.set_quick_repair(durable);
    transaction.commit().map_err(commit_error)?;
    store.reuse.note(written, freed);
    Ok(())
}

/// One group in a [`WriteBatch`]: reads see its writes.
pub struct GroupTxn<'b> {
    rows: Writing<'b>,
    group: GroupId,
}

enum Writing<'b> {
    Memory {
        view: &'b ReadView,
        changes: &'b mut Changes,
    },
    File {
        table: RowTable<'b>,
        written: &'b mut u64,
        freed: &'b mut u64,
    },
}

impl Rows for GroupTxn<'_> {
    fn group(&self) -> GroupId {
        self.group
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = prefixed(self.group, key);
        match &self.rows {
            Writing::Memory { view, changes } => match changes.get(&key) {
                Some(change) => Ok(change.as_ref().map(|value| value.to_vec())),
                None => view.get(&key),
            },
            Writing::File { table, .. } => {
                let value = table.get(key.as_slice()).map_err(read_error)?;
                Ok(value.map(|value| value.value().to_vec()))
            }
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let (from, to) = (prefixed(self.group, from), prefixed(self.group, to));
        match &self.rows {
            Writing::Memory { view, changes } => {
                let to = Bound::Excluded(to);
                let over = part(changes, &from, &to);
                show(view.merged(from, to, over)?, visit)
            }
            Writing::File { table, .. } => {
                let range = table.range::<&[u8]>(from.as_slice()..to.as_slice());
                for row in range.map_err(read_error)? {
                    let (key, value) = row.map_err(read_error)?;
                    if !visit(key.value().get(2..).unwrap_or_default(), value.value())? {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

impl GroupTxn<'_> {
    /// Writes a row, replacing what had its key. Rows of a snapshot are loaded
    /// with this too.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let key = prefixed(self.group, key);
        match &mut self.rows {
            Writing::Memory { changes, .. } => {
                changes.insert(key, Some(value.into()));
            }
            Writing::File {
                table,
                written,
                freed,
            } => {
                let (into, from) = insert(table, &key, value)?;
                **written += into;
                **freed += from;
            }
        }
        Ok(())
    }

    /// Removes a row; says whether there was one.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let there = match &self.rows {
            Writing::Memory { .. } => self.get(key)?.is_some(),
            Writing::File { .. } => false,
        };
        let key = prefixed(self.group, key);
        match &mut self.rows {
            Writing::Memory { changes, .. } => {
                if there {
                    changes.insert(key, None);
                }
                Ok(there)
            }
            Writing::File { table, freed, .. } => {
                let bytes = remove(table, &key)?;
                **freed += bytes;
                Ok(bytes > 0)
            }
        }
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

/// Writes a row into the file: bytes that it takes, and that it has freed.
pub(super) fn insert(
    table: &mut RowTable<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(u64, u64), StoreError> {
    let old = table.insert(key, value).map_err(write_error)?;
    let freed = old.map_or(0, |old| key.len() + old.value().len());
    Ok(((key.len() + value.len()) as u64, freed as u64))
}

/// Removes a row from the file: bytes that it has freed, none where there was none.
pub(super) fn remove(table: &mut RowTable<'_>, key: &[u8]) -> Result<u64, StoreError> {
    let old = table.remove(key).map_err(write_error)?;
    Ok(old.map_or(0, |old| (key.len() + old.value().len()) as u64))
}
