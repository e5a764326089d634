//! Progress, and what the disks hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::journal::Journal;

/// How often a line is printed.
const EVERY: Duration = Duration::from_secs(15);
/// Past it clients only delete.
const FULL_BYTES: u64 = 1_600 << 20;
/// Past it the run fails: it must never fill somebody's disk.
const MOST_BYTES: u64 = 2_400 << 20;

/// What the reporter is told.
pub struct Watch {
    pub done: AtomicU64,
    pub faults: AtomicU64,
    fault: Mutex<String>,
    full: AtomicBool,
    data: PathBuf,
    start: Instant,
}

impl Watch {
    pub fn new(data: PathBuf) -> Self {
        Self {
            done: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            fault: Mutex::default(),
            full: AtomicBool::new(false),
            data,
            start: Instant::now(),
        }
    }

    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// What is broken now.
    pub fn breaks(&self, what: &str) {
        what.clone_into(&mut self.fault.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Prints a line now and then, until it is dropped.
    pub async fn report(&self, journal: &Journal) -> Result<()> {
        loop {
            tokio::time::sleep(EVERY).await;
            let bytes = self.show(journal);
            self.full.store(bytes > FULL_BYTES, Ordering::Relaxed);
            ensure!(bytes <= MOST_BYTES, "{} MiB on the disks", bytes >> 20);
        }
    }

    /// Prints a line; what the disks hold.
    pub fn show(&self, journal: &Journal) -> u64 {
        let (live, live_bytes) = journal.live();
        let bytes = disk_bytes(&self.data);
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        println!(
            "{:>6.0} s: {} done, {} files stored, {live} live of {} MiB, {} MiB on disk, {} faults, now: {fault}",
            self.start.elapsed().as_secs_f64(),
            self.done.load(Ordering::Relaxed),
            journal.files().len(),
            live_bytes >> 20,
            bytes >> 20,
            self.faults.load(Ordering::Relaxed),
        );
        bytes
    }
}

/// What the files below a directory really take. Those that vanish meanwhile
/// take nothing.
fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
