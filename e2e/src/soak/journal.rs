//! What was acknowledged: the oracle.
//!
//! A file is in it from the moment its upload was answered 201. What a client
//! may see of it follows from [`File`] alone ([`File::must_be_there`],
//! [`File::may_be_there`]), which are asked with the moments at which a request
//! began and ended.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::numbers::Numbers;

/// How far from its second a file may expire: clocks, and a request's way.
const CLOCK_SLACK: Duration = Duration::from_secs(3);

/// A file that was acknowledged.
#[derive(Clone, Debug)]
pub struct File {
    pub id: String,
    /// What its bytes are made from.
    pub seed: u64,
    pub size: usize,
    /// At most so many downloads; 0 is without limit.
    pub limit: u32,
    /// Between when and when it expires.
    pub expires: Option<(Instant, Instant)>,
    /// Whether nobody deletes it.
    pub kept: bool,
    /// When its deletion was first asked for, and when it was acknowledged.
    pub deleting: Option<Instant>,
    pub deleted: Option<Instant>,
    /// Downloads that came whole.
    pub whole: u32,
    /// Downloads that were begun and did not come whole, or still may: each of
    /// them may count.
    pub open: u32,
}

impl File {
    /// Whether a request between these moments must find it, but for its limit.
    pub fn must_be_there(&self, ended: Instant) -> bool {
        let in_time = self
            .expires
            .is_none_or(|(first, _)| ended + CLOCK_SLACK < first);
        in_time && self.deleting.is_none_or(|at| ended < at)
    }

    /// Whether a request that began then may still find it.
    pub fn may_be_there(&self, began: Instant) -> bool {
        let in_time = self
            .expires
            .is_none_or(|(_, last)| began < last + CLOCK_SLACK);
        in_time && self.deleted.is_none_or(|at| began < at)
    }

    /// Whether its limit may be used up by what was downloaded and what may count.
    pub fn may_be_used_up(&self) -> bool {
        self.limit > 0 && self.whole + self.open >= self.limit
    }
}

#[derive(Default)]
struct Inner {
    files: Vec<File>,
    kept: usize,
    live_bytes: u64,
}

pub struct Journal {
    inner: Mutex<Inner>,
    log: Mutex<fs::File>,
}

impl Journal {
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self {
            inner: Mutex::default(),
            log: Mutex::new(fs::File::create(path)?),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line for whoever looks for a cause.
    pub fn write(&self, line: &str) {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // Only a help; the oracle is in memory.
        let _ = writeln!(log, "{:.3} {line}", since.as_secs_f64());
    }

    /// An upload was acknowledged.
    pub fn add(&self, file: File) {
        self.write(&format!("stored {} {} bytes", file.id, file.size));
        let mut inner = self.lock();
        inner.live_bytes += file.size as u64;
        inner.kept += usize::from(file.kept);
        inner.files.push(file);
    }

    /// One of the files that match, at random.
    pub fn pick(
        &self,
        numbers: &mut Numbers,
        matches: impl Fn(&File) -> bool,
    ) -> Option<(usize, File)> {
        let inner = self.lock();
        let count = inner.files.len();
        if count == 0 {
            return None;
        }
        let start = numbers.below(count as u64) as usize;
        (0..count)
            .map(|step| (start + step) % count)
            .find(|at| matches(&inner.files[*at]))
            .map(|at| (at, inner.files[at].clone()))
    }

    pub fn get(&self, at: usize) -> File {
        self.lock().files[at].clone()
    }

    /// Changes what is known of a file, and returns it.
    pub fn change(&self, at: usize, change: impl FnOnce(&mut File)) -> File {
        let mut inner = self.lock();
        let before = inner.files[at].deleted.is_some();
        change(&mut inner.files[at]);
        let file = inner.files[at].clone();
        if !before && file.deleted.is_some() {
            inner.live_bytes -= file.size as u64;
        }
        file
    }

    /// A download came whole: more of them than allowed are the end.
    pub fn came_whole(&self, at: usize) -> Result<()> {
        let file = self.change(at, |file| {
            file.whole += 1;
            file.open -= 1;
        });
        ensure!(
            file.limit == 0 || file.whole <= file.limit,
            "{} was downloaded {} times with a limit of {}",
            file.id,
            file.whole,
            file.limit
        );
        Ok(())
    }

    pub fn files(&self) -> Vec<File> {
        self.lock().files.clone()
    }

    /// How many files nobody deletes.
    pub fn kept(&self) -> usize {
        self.lock().kept
    }

    pub fn is_empty(&self) -> bool {
        self.lock().files.is_empty()
    }

    /// Files that were not deleted, and their bytes.
    pub fn live(&self) -> (usize, u64) {
        let inner = self.lock();
        let live = inner.files.iter().filter(|file| file.deleted.is_none());
        (live.count(), inner.live_bytes)
    }
}
