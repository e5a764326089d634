//! The log's files: written at one end, purged at the other, used again.

mod again;
mod scan;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use holdfast_blobs::record::{HEAD_BYTES, decode_record, encode_record};
use holdfast_model::GroupId;
use holdfast_runtime::{Disk, File, Tasks};

pub use again::{Again, MAX_FILES};

use again::{is_done, note_resets};

use super::group::{GroupLog, Place};
use super::{CHECKPOINT_RECORD, Checkpoint, LogEnd, LogError, ROUND_RECORD, Round};

/// Bytes of a file: zeroed ahead, so that a sync of written data changes no
/// metadata of the file system.
pub const LOG_FILE_BYTES: u64 = 32 << 20;
/// Files kept for followers that lag; beyond them they get a snapshot.
const KEPT_FILES: usize = 2;
/// Purged files kept to be used again.
const SPARE_FILES: usize = 1;
/// The unit that a disk writes whole.
const SECTOR_BYTES: u64 = 512;
const DIR: &str = "raft";

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// Bytes of a file.
    pub file_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            file_bytes: LOG_FILE_BYTES,
        }
    }
}

/// The files of a disk's log. Cheap to share; one round is written at a time.
pub struct LogFiles {
    disk: Arc<dyn Disk>,
    settings: LogSettings,
    inner: Mutex<Inner>,
    /// Told of the points that are passed, where the simulation may cut power.
    points: OnceLock<Arc<dyn Tasks>>,
}

struct Inner {
    /// Oldest first; the last is being written.
    files: VecDeque<OpenFile>,
    spares: Vec<String>,
    /// Where the next record goes in the last file.
    offset: u64,
    /// The last round written.
    sequence: u64,
}

#[derive(Clone)]
struct OpenFile {
    number: u64,
    file: Arc<dyn File>,
    /// How far each group's log went when the file was begun; or where it began
    /// anew since, which is all that is needed of what came before.
    begun_at: BTreeMap<GroupId, LogEnd>,
}

/// A round is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Where.
    pub place: Place,
    /// Its number.
    pub sequence: u64,
}

/// What opening found.
pub struct Recovered {
    /// The files.
    pub files: Arc<LogFiles>,
    /// Each group's log.
    pub groups: BTreeMap<GroupId, GroupLog>,
}

fn name(number: u64) -> String {
    format!("{DIR}/{number:016x}")
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // A panic ends the process, so a poisoned lock is never seen.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogFiles {
    /// Opens a disk's log, or begins one. `durable` is the last round that the
    /// state store has seen durable.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] and [`LogError::Shortened`]: the disk has lost
    /// what it promised, and must count as empty.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: LogSettings,
        durable: u64,
    ) -> Result<Recovered, LogError> {
        disk.create_dir(DIR)?;
        let mut numbers = Vec::new();
        let mut spares = Vec::new();
        for file in disk.list(DIR)? {
            match u64::from_str_radix(&file, 16) {
                Ok(number) if file.len() == 16 => numbers.push(number),
                _ => spares.push(format!("{DIR}/{file}")),
            }
        }
        numbers.sort_unstable();
        let inner = Inner {
            files: VecDeque::new(),
            spares,
            offset: 0,
            sequence: 0,
        };
        let files = Arc::new(Self {
            disk,
            settings,
            inner: Mutex::new(inner),
            points: OnceLock::new(),
        });
        let groups = files.scan(&numbers)?;
        let found = files.make_durable()?;
        if found < durable {
            return Err(LogError::Shortened {
                found,
                known: durable,
            });
        }
        Ok(Recovered { files, groups })
    }

    /// Tells `tasks` of every point that is passed from now on.
    pub fn tell_points(&self, tasks: Arc<dyn Tasks>) {
        // Told once, when the log is opened.
        let _ = self.points.set(tasks);
    }

    fn pass(&self, point: &'static str) {
        if let Some(tasks) = self.points.get() {
            tasks.pass(point);
        }
    }

    /// Syncs what was found: a process that was killed may have left a round that
    /// is in the file and not on the disk, and what is read is answered for.
    /// Returns the last round.
    fn make_durable(&self) -> Result<u64, LogError> {
        let inner = lock(&self.inner);
        if let Some(newest) = inner.files.back() {
            newest.file.sync()?;
            self.disk.sync_dir(DIR)?;
        }
        Ok(inner.sequence)
    }

    /// Writes a round and syncs it. Blocks.
    ///
    /// # Errors
    /// After [`LogError::Disk`] nothing on the disk can be trusted: the caller
    /// ends the process.
    pub fn write(&self, round: &Round, checkpoint: &Checkpoint) -> Result<Written, LogError> {
        let payload = crate::protocol::encode(round);
        let mut inner = lock(&self.inner);
        let sequence = inner.sequence + 1;
        let bytes = (HEAD_BYTES + payload.len()) as u64;
        if bytes > self.settings.file_bytes / 2 {
            return Err(LogError::TooLong {
                bytes: bytes as usize,
            });
        }
        if inner.files.is_empty() || inner.offset + bytes > self.settings.file_bytes {
            self.begin_file(&mut inner, checkpoint)?;
        }
        let sequence = sequence.max(inner.sequence + 1);
        let offset = inner.offset;
        let Some(current) = inner.files.back() else {
            return Err(LogError::Disk(std::io::Error::other("no log file")));
        };
        let number = current.number;
        let record = encode_record(ROUND_RECORD, number, sequence, &payload);
        current.file.write_all_at(&record, offset)?;
        self.pass("log.written");
        current.file.sync()?;
        self.pass("log.synced");
        inner.offset = aligned(offset + bytes);
        inner.sequence = sequence;
        note_resets(&mut inner, round);
        Ok(Written {
            place: Place {
                file: number,
                offset,
            },
            sequence,
        })
    }

    /// Begins the next file with a checkpoint, in a spare file if there is one.
    fn begin_file(&self, inner: &mut Inner, checkpoint: &Checkpoint) -> Result<(), LogError> {
        let number = inner.files.back().map_or(1, |last| last.number + 1);
        let spare = format!("{DIR}/next");
        match inner.spares.pop() {
            Some(old) => {
                if old != spare {
                    self.disk.rename(&old, &spare)?;
                }
                // Before it is written over: a power cut must not bring the name back
                // under which it was read.
                self.disk.sync_dir(DIR)?;
            }
            None => {
                let file = self.disk.create(&spare)?;
                file.allocate(0, self.settings.file_bytes)?;
                let zeros = vec![0; (1 << 20).min(self.settings.file_bytes as usize)];
                let mut at = 0;
                while at < self.settings.file_bytes {
                    let len = zeros.len().min((self.settings.file_bytes - at) as usize);
                    file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
                    at += len as u64;
                }
            }
        }
        let file = self.disk.open(&spare)?;
        if file.len()? < self.settings.file_bytes {
            // Left half-made by a crash, or by another setting.
            file.allocate(0, self.settings.file_bytes)?;
        }
        let payload = crate::protocol::encode(checkpoint);
        let sequence = inner.sequence + 1;
        let record = encode_record(CHECKPOINT_RECORD, number, sequence, &payload);
        file.write_all_at(&record, 0)?;
        file.sync()?;
        self.pass("log.file_begun");
        self.disk.rename(&spare, &name(number))?;
        self.pass("log.file_named");
        self.disk.sync_dir(DIR)?;
        let begun_at = checkpoint
            .groups
            .iter()
            .map(|(group, (_, end))| (*group, *end))
            .collect();
        inner.files.push_back(OpenFile {
            number,
            file,
            begun_at,
        });
        inner.sequence = sequence;
        inner.offset = aligned(record.len() as u64);
        Ok(())
    }

    /// Frees the files of which every entry is durably applied, but for a few,
    /// and says where each group's log begins now. Blocks.
    pub fn purge(
        &self,
        applied: &BTreeMap<GroupId, u64>,
    ) -> Result<BTreeMap<GroupId, LogEnd>, LogError> {
        let mut inner = lock(&self.inner);
        while inner.files.len() > KEPT_FILES {
            let Some(second) = inner.files.get(1) else {
                break;
            };
            let mut ends = second.begun_at.iter();
            if !ends.all(|(group, end)| is_done(applied, *group, *end)) {
                break;
            }
            let Some(old) = inner.files.pop_front() else {
                break;
            };
            if inner.spares.len() < SPARE_FILES {
                let spare = format!("{DIR}/spare-{:016x}", old.number);
                self.disk.rename(&name(old.number), &spare)?;
                inner.spares.push(spare);
            } else {
                self.disk.remove(&name(old.number))?;
            }
            self.pass("log.purged");
        }
        Ok(inner
            .files
            .front()
            .map(|first| first.begun_at.clone())
            .unwrap_or_default())
    }

    /// Reads a round again, for an entry that has left memory.
    pub fn read_round(&self, place: Place) -> Result<Round, LogError> {
        let file = {
            let inner = lock(&self.inner);
            inner
                .files
                .iter()
                .find(|file| file.number == place.file)
                .map(|f| f.file.clone())
        };
        let file = file.ok_or_else(|| corrupt(place.file, place.offset, "the file is gone"))?;
        let mut head = vec![0; HEAD_BYTES];
        file.read_exact_at(&mut head, place.offset)?;
        let len = head.get(8..12).map_or(0, |b| {
            b.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b))
        });
        if u64::from(len) > self.settings.file_bytes {
            return Err(corrupt(place.file, place.offset, "a record is too long"));
        }
        let bytes = file.read_at(place.offset, HEAD_BYTES + len as usize)?;
        let record = decode_record(&bytes)
            .map_err(|error| corrupt(place.file, place.offset, &error.to_string()))?
            .filter(|record| record.file == place.file && record.kind == ROUND_RECORD)
            .ok_or_else(|| corrupt(place.file, place.offset, "another record is there"))?;
        minicbor::decode(record.payload)
            .map_err(|error| corrupt(place.file, place.offset, &error.to_string()))
    }

    /// The number of the file that is being written; 0 before there is one.
    pub fn newest(&self) -> u64 {
        lock(&self.inner).files.back().map_or(0, |file| file.number)
    }

    /// The last round written.
    pub fn sequence(&self) -> u64 {
        lock(&self.inner).sequence
    }
}

fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(SECTOR_BYTES)
}

fn corrupt(file: u64, offset: u64, reason: &str) -> LogError {
    LogError::Corrupt {
        file,
        offset,
        reason: reason.into(),
    }
}
