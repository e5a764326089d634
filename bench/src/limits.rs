//! What this machine's disk can do, in the ways that stores use it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::sample::{Figure, figure, median_millis};
use crate::store::SMALL_BYTES;

/// Copies that the file-per-object way makes, as the store does.
const COPIES: usize = 3;

/// The machine's limits in one round.
pub struct Limits {
    /// One fdatasync of an overwritten block, milliseconds, median.
    pub sync_millis: f64,
    /// Records a second in a log that writers share syncs of.
    pub log_records: f64,
    /// Objects a second, each three files with fdatasync, rename and directory sync.
    pub file_objects: f64,
    /// MB a second of one large file, synced at its end.
    pub sequential_mb: f64,
}

impl Limits {
    /// As figures.
    pub fn figures(&self) -> Vec<Figure> {
        vec![
            figure("limit: fdatasync of 4 KiB, p50", self.sync_millis, "ms"),
            figure(
                "limit: group-commit log, 4 KiB",
                self.log_records,
                "records/s",
            ),
            figure(
                "limit: file per object, 3 copies",
                self.file_objects,
                "objects/s",
            ),
            figure(
                "limit: sequential durable write",
                self.sequential_mb,
                "MB/s",
            ),
        ]
    }
}

/// Measures them in the directory.
pub fn measure(dir: &Path, writers: usize, time: Duration) -> Result<Limits> {
    let dir = tempfile::tempdir_in(dir)?;
    Ok(Limits {
        sync_millis: sync(dir.path(), time / 4)?,
        log_records: group_commit(dir.path(), writers, time)?,
        file_objects: file_per_object(dir.path(), writers, time)?,
        sequential_mb: sequential(dir.path())?,
    })
}

fn zeroed(path: &Path, bytes: usize) -> Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    file.write_all(&vec![0; bytes])?;
    file.sync_all()?;
    Ok(file)
}

fn sync(dir: &Path, time: Duration) -> Result<f64> {
    let file = zeroed(&dir.join("sync"), 1 << 20)?;
    let (begin, block) = (Instant::now(), [7; SMALL_BYTES]);
    let mut took = Vec::new();
    while begin.elapsed() < time {
        let one = Instant::now();
        file.write_all_at(&block, (took.len() % 256 * SMALL_BYTES) as u64)?;
        file.sync_data()?;
        took.push(one.elapsed());
    }
    Ok(median_millis(took))
}

/// What the writers of a log share: how many records wait, and how far is durable.
#[derive(Default)]
struct Shared {
    state: Mutex<(u64, u64)>,
    changed: Condvar,
}

fn group_commit(dir: &Path, writers: usize, time: Duration) -> Result<f64> {
    const LOG_BYTES: usize = 64 << 20;
    let file = zeroed(&dir.join("log"), LOG_BYTES)?;
    let shared = Arc::new(Shared::default());
    let end = Instant::now() + time;
    let threads: Vec<_> = (0..writers)
        .map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                while Instant::now() < end {
                    let Ok(mut state) = shared.state.lock() else {
                        return;
                    };
                    state.0 += 1;
                    let own = state.0;
                    shared.changed.notify_all();
                    while state.1 < own && Instant::now() < end {
                        match shared
                            .changed
                            .wait_timeout(state, Duration::from_millis(50))
                        {
                            Ok((next, _)) => state = next,
                            Err(_) => return,
                        }
                    }
                }
            })
        })
        .collect();
    let (mut done, mut offset) = (0, 0);
    while Instant::now() < end {
        let waiting = {
            let state = shared
                .state
                .lock()
                .map_err(|_| anyhow!("a writer failed"))?;
            let (state, _) = shared
                .changed
                .wait_timeout_while(state, Duration::from_millis(50), |state| state.0 == state.1)
                .map_err(|_| anyhow!("a writer failed"))?;
            state.0
        };
        let bytes = (waiting - done) as usize * SMALL_BYTES;
        if offset + bytes > LOG_BYTES {
            offset = 0;
        }
        file.write_all_at(&vec![7; bytes], offset as u64)?;
        file.sync_data()?;
        offset += bytes;
        done = waiting;
        shared
            .state
            .lock()
            .map_err(|_| anyhow!("a writer failed"))?
            .1 = done;
        shared.changed.notify_all();
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a writer failed"))?;
    }
    Ok(done as f64 / time.as_secs_f64())
}

fn file_per_object(dir: &Path, writers: usize, time: Duration) -> Result<f64> {
    let end = Instant::now() + time;
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let dir = dir.to_owned();
            std::thread::spawn(move || -> Result<u64> {
                let mut done = 0;
                while Instant::now() < end {
                    for copy in 0..COPIES {
                        one_file(
                            &dir.join(format!("copy-{copy}")),
                            &format!("{writer}-{done}"),
                        )?;
                    }
                    done += 1;
                }
                Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for thread in threads {
        done += thread.join().map_err(|_| anyhow!("a writer failed"))??;
    }
    Ok(done as f64 / time.as_secs_f64())
}

fn one_file(dir: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let temporary = dir.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(&[7; SMALL_BYTES])?;
    file.sync_data()?;
    std::fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

/// MB a second of one large file, synced at its end.
pub fn sequential(dir: &Path) -> Result<f64> {
    const BYTES: usize = 1 << 30;
    let path = dir.join("sequential");
    let mut file = File::create(&path)?;
    let piece = vec![7; 4 << 20];
    let begin = Instant::now();
    for _ in 0..BYTES / piece.len() {
        file.write_all(&piece)?;
    }
    file.sync_data()?;
    let took = begin.elapsed();
    std::fs::remove_file(path)?;
    Ok(BYTES as f64 / 1e6 / took.as_secs_f64())
}
