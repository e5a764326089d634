//! The file of the state store, as redb wants it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_runtime::File;

/// A file of the runtime's disk behind redb's trait. It takes no locks: a node
/// holds the lock on its data directory.
pub(super) struct Backend {
    pub file: Arc<dyn File>,
    pub cut: Arc<AtomicBool>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl Backend {
    fn file(&self) -> io::Result<&dyn File> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(io::Error::other("the store was cut off from its disk"));
        }
        Ok(self.file.as_ref())
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(data, offset)
    }
}
