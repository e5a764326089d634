//! How much the store can take without growing. Its file keeps the pages of
//! deleted rows for later rows, so that a disk with little room left does not
//! show what deleting has gained.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of rows that were deleted and not yet written anew, counted since the
/// store was opened.
#[derive(Debug, Default)]
pub(super) struct Reuse(AtomicU64);

impl Reuse {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A batch that wrote and freed so many bytes was committed.
    pub(super) fn note(&self, written: u64, freed: u64) {
        // There is one writer, so nobody changes it in between.
        let bytes = self.bytes().saturating_add(freed).saturating_sub(written);
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// All unused pages were given back.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
