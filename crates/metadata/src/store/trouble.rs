//! What an error of the store comes to for the process.
//!
//! The file's first error decides. redb keeps none: of whatever it is asked
//! afterwards it says that there was an error before.

use std::io;
use std::sync::{Arc, OnceLock};

use holdfast_runtime::Fatal;
use holdfast_runtime::fatal::is_no_room;

use super::{Store, StoreError};

const WHAT: &str = "the state store";

/// The first errors of the store's file. Copies are the same.
#[derive(Clone, Default)]
pub(super) struct FirstError(Arc<Errors>);

#[derive(Default)]
struct Errors {
    no_room: OnceLock<Seen>,
    other: OnceLock<Seen>,
}

/// An error's kind and text.
type Seen = (io::ErrorKind, String);

impl FirstError {
    /// Keeps the error of a call, if it is the first.
    pub fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let first = match is_no_room(error) {
                true => &self.0.no_room,
                false => &self.0.other,
            };
            first.get_or_init(|| (error.kind(), error.to_string()));
        }
        result
    }

    /// Want of room explains what follows only where nothing else went wrong:
    /// redb does without some of its writes, and goes on.
    fn get(&self) -> Option<io::Error> {
        let (kind, text) = self.0.other.get().or_else(|| self.0.no_room.get())?;
        Some(io::Error::new(*kind, text.clone()))
    }
}

impl StoreError {
    /// Whether the disk is to blame, as far as the error itself shows.
    fn is_of_disk(&self) -> bool {
        let error = match self {
            // Pages are checked as they are read: what was read is what was written.
            Self::Corrupt(_) => return false,
            Self::OpenFile { .. } | Self::Length(_) => return true,
            Self::Compact(source) => {
                return matches!(source.as_ref(), redb::CompactionError::Storage(_));
            }
            Self::Open { source, .. }
            | Self::Begin(source)
            | Self::Read(source)
            | Self::Write(source)
            | Self::Commit(source) => source.as_ref(),
        };
        matches!(
            error,
            redb::Error::Io(_) | redb::Error::Corrupted(_) | redb::Error::PreviousIo
        )
    }
}

impl Store {
    /// What an error of this store comes to: only the disk's own errors, and
    /// pages that do not match their checksums, say that the disk has failed;
    /// one without room has not. Anything else is a fault of ours, the same on
    /// every member's disk.
    pub fn fatal(&self, error: &StoreError) -> Fatal {
        match self.first_error.get() {
            _ if matches!(error, StoreError::Corrupt(_)) => Fatal::broken(WHAT, error),
            // What redb says after it follows from it.
            Some(first) => Fatal::of_disk(WHAT, &first),
            None if error.is_of_disk() => Fatal::of_disk(WHAT, error),
            None => Fatal::broken(WHAT, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::GroupId;
    use holdfast_runtime::Disk;
    use holdfast_runtime::memory_disk::MemoryDisk;

    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn store() -> (MemoryDisk, Store) {
        let memory = MemoryDisk::new(1 << 30, 1);
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        (memory, Store::open(&disk, "state").unwrap())
    }

    /// Writes a MiB of rows into the file, and reads one.
    fn use_it(store: &Store, row: u8) -> Result<(), StoreError> {
        let mut batch = store.begin_bulk()?;
        let mut txn = batch.group(GROUP)?;
        for part in 0..64 {
            txn.put(&[row, part], &[row; 16 << 10])?;
        }
        drop(txn);
        batch.commit(true)
    }

    #[test]
    fn whatever_follows_a_write_without_room_comes_to_no_room_and_not_to_a_failed_disk() {
        let (memory, store) = store();
        use_it(&store, 1).unwrap();
        memory.set_free(100 << 10);
        let first = use_it(&store, 2).unwrap_err();
        assert!(matches!(store.fatal(&first), Fatal::NoRoom(_)), "{first:?}");
        // There is room again, and redb has not forgotten.
        memory.set_free(1 << 29);
        let later = use_it(&store, 3).unwrap_err();
        assert!(!format!("{later:?}").contains("StorageFull"), "{later:?}");
        assert!(matches!(store.fatal(&later), Fatal::NoRoom(_)), "{later:?}");
    }

    #[test]
    fn a_sync_that_fails_and_what_follows_it_come_to_a_failed_disk() {
        let (memory, store) = store();
        memory.fail_next_sync();
        let first = use_it(&store, 1).unwrap_err();
        let later = use_it(&store, 2).unwrap_err();
        for error in [first, later] {
            let fatal = store.fatal(&error);
            assert!(matches!(fatal, Fatal::DiskFailed(_)), "{fatal:?}");
        }
    }

    #[test]
    fn a_row_that_makes_no_sense_says_nothing_of_the_disk() {
        let (_, store) = store();
        let error = StoreError::Corrupt("no row of the task 7".into());
        let fatal = store.fatal(&error);
        assert!(
            matches!(&fatal, Fatal::Broken(why) if why.contains("task 7")),
            "{fatal:?}"
        );
    }
}
