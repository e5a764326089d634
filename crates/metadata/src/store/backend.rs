//! The file of the state store, as redb wants it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_runtime::File;

use super::checked::CheckedFile;
use super::trouble::FirstError;

/// A file of the runtime's disk behind redb's trait. It takes no locks: a node
/// holds the lock on its data directory.
pub(super) struct Backend {
    pages: Pages,
    cut: Arc<AtomicBool>,
    first_error: FirstError,
}

/// What the file is.
enum Pages {
    Checked(CheckedFile),
    /// Of an earlier version, without checksums.
    Plain(Arc<dyn File>),
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl Backend {
    /// Opens the store's file. Once `cut` is set, nothing reaches it any more.
    /// `first_error` keeps the first error of the file.
    pub(super) fn open(
        file: Arc<dyn File>,
        cut: Arc<AtomicBool>,
        first_error: FirstError,
    ) -> io::Result<Self> {
        let pages = match CheckedFile::open(file.clone())? {
            Some(checked) => Pages::Checked(checked),
            None => Pages::Plain(file),
        };
        Ok(Self {
            pages,
            cut,
            first_error,
        })
    }

    fn pages(&self) -> io::Result<&Pages> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(io::Error::other("the store was cut off from its disk"));
        }
        Ok(&self.pages)
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.first_error.note(match self.pages()? {
            Pages::Checked(file) => file.len(),
            Pages::Plain(file) => file.len(),
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.first_error.note(match self.pages()? {
            Pages::Checked(file) => file.read(offset, out),
            Pages::Plain(file) => file.read_exact_at(out, offset),
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.first_error.note(match self.pages()? {
            Pages::Checked(file) => file.set_len(len),
            Pages::Plain(file) => file.set_len(len),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.first_error.note(match self.pages()? {
            Pages::Checked(file) => file.sync(),
            Pages::Plain(file) => file.sync(),
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.first_error.note(match self.pages()? {
            Pages::Checked(file) => file.write(offset, data),
            Pages::Plain(file) => file.write_all_at(data, offset),
        })
    }
}
