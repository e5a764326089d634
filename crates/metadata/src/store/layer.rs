//! Rows in memory that are not yet in the file: what was committed since the
//! last flush, by version, so that a view sees what was there when it was taken.
//!
//! Why: a commit to the file rewrites whole pages and the path to each, a
//! hundred bytes for every byte of a small object. Here many commits gather,
//! rows that change often (heads, counts) are written once, and rows that lie
//! side by side go in together. What is lost with the memory is in the Raft log.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A row's value; none where the row was removed.
pub(super) type Change = Option<Arc<[u8]>>;
/// Changes by their whole key.
pub(super) type Changes = BTreeMap<Vec<u8>, Change>;

/// Changes by whole key and, newest first, the commit that made them.
type Versions = BTreeMap<(Vec<u8>, Reverse<u64>), Change>;

/// What a version costs beside its key and value, roughly, in bytes.
const VERSION_BYTES: usize = 96;

/// Versions of rows. Frozen once its writing to the file begins.
#[derive(Default)]
pub(super) struct Layer {
    // Written by one batch at a time, at its commit; read in pieces.
    versions: RwLock<Versions>,
    bytes: AtomicUsize,
}

impl Layer {
    /// Bytes held, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes the changes of one commit.
    pub fn add(&self, changes: Changes, sequence: u64) {
        let mut bytes = 0;
        let mut versions = self
            .versions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for (key, change) in changes {
            bytes += VERSION_BYTES + key.len() + change.as_ref().map_or(0, |value| value.len());
            versions.insert((key, Reverse(sequence)), change);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The newest version of a row as of `sequence`, if there is one here.
    pub fn get(&self, key: &[u8], sequence: u64) -> Option<Change> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let from = (key.to_vec(), Reverse(sequence));
        let ((found, _), change) = versions.range(from..).next()?;
        (found == key).then(|| change.clone())
    }

    /// Up to `limit` rows of `from..to` as of `sequence`, in order.
    pub fn range(
        &self,
        from: &[u8],
        to: Bound<&[u8]>,
        sequence: u64,
        limit: usize,
    ) -> Vec<(Vec<u8>, Change)> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<(Vec<u8>, Change)> = Vec::new();
        for ((key, Reverse(at)), change) in versions.range((from.to_vec(), Reverse(u64::MAX))..) {
            let beyond = match to {
                Bound::Excluded(to) => key.as_slice() >= to,
                Bound::Included(to) => key.as_slice() > to,
                Bound::Unbounded => false,
            };
            if beyond {
                break;
            }
            let known = rows.last().is_some_and(|(last, _)| last == key);
            if *at > sequence || known {
                continue;
            }
            if rows.len() >= limit {
                break;
            }
            rows.push((key.clone(), change.clone()));
        }
        rows
    }

    /// Shows the newest version of each row, in order.
    pub fn newest<E>(
        &self,
        mut visit: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let mut last: Option<&[u8]> = None;
        for ((key, _), change) in versions.iter() {
            if last != Some(key.as_slice()) {
                visit(key, change.as_deref())?;
                last = Some(key);
            }
        }
        Ok(())
    }
}

/// Layers as one commit left them, newest first.
#[derive(Clone)]
pub(super) struct Layers {
    pub layers: Vec<Arc<Layer>>,
    pub sequence: u64,
}

impl Layers {
    /// The newest version of a row, if one is in memory.
    pub fn get(&self, key: &[u8]) -> Option<Change> {
        let mut layers = self.layers.iter();
        layers.find_map(|layer| layer.get(key, self.sequence))
    }

    /// Up to `limit` rows of `from..to`, in order, and where to go on.
    pub fn range(&self, from: &[u8], to: Bound<&[u8]>, limit: usize) -> Piece {
        let mut rows = Changes::new();
        let mut more: Option<Vec<u8>> = None;
        for layer in self.layers.iter().rev() {
            let found = layer.range(from, to, self.sequence, limit);
            if found.len() == limit
                && let Some((last, _)) = found.last()
            {
                // What another layer shows beyond it may lie between this one's rows.
                more = Some(more.map_or_else(|| last.clone(), |more| more.min(last.clone())));
            }
            rows.extend(found);
        }
        if let Some(end) = &more {
            let mut beyond = rows.split_off(end);
            rows.extend(beyond.remove_entry(end));
        }
        Piece {
            rows: rows.into_iter().collect(),
            next: more.map(|mut last| {
                last.push(0);
                last
            }),
        }
    }
}

/// Some rows of a range.
pub(super) struct Piece {
    pub rows: Vec<(Vec<u8>, Change)>,
    /// Where the next piece begins; none after the last.
    pub next: Option<Vec<u8>>,
}
