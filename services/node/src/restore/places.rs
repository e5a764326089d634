//! Where the new files are while they are made, where the old ones go, and how
//! they change places.
//!
//! A directory is in one of four states, each entered durably:
//! - nothing is marked: what is in place counts, what is in [`STAGING`] is waste;
//! - marked `old`: the new is whole; what is in place is old and moves away;
//! - marked `new`: what is in place is new; the rest of it moves in;
//! - nothing is marked again.
//!
//! Every move can be done again, so a crash anywhere is ended by [`install`].

use std::io;
use std::sync::Arc;

use holdfast_runtime::Disk;
use holdfast_runtime::disk::{File, Space, read_file, replace_file};

/// The file that says that a restore has begun to change places.
pub const RESTORING_FILE: &str = "restoring";
/// The state store's file, as the node opens it.
pub(super) const STORE_FILE: &str = "state";
/// The directory of the Raft log's files, as the log opens it.
const LOG_DIR: &str = "raft";
/// Where the new files are made.
const STAGING: &str = "restore.new";

/// A directory inside a disk, as a disk.
pub(super) struct Under {
    disk: Arc<dyn Disk>,
    dir: &'static str,
}

impl Under {
    /// The place of new files, made.
    pub fn staging(disk: Arc<dyn Disk>) -> io::Result<Self> {
        disk.create_dir(STAGING)?;
        Ok(Self { disk, dir: STAGING })
    }

    fn name(&self, name: &str) -> String {
        inside(self.dir, name)
    }
}

impl Disk for Under {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.open(&self.name(name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(&self.name(name))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.disk.create_dir(&self.name(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(&self.name(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.name(from), &self.name(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(&self.name(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(&self.name(dir))
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn reached(&self, point: &'static str) {
        self.disk.reached(point);
    }
}

fn inside(dir: &str, name: &str) -> String {
    match (dir, name) {
        (dir, "") => dir.to_owned(),
        ("", name) => name.to_owned(),
        (dir, name) => format!("{dir}/{name}"),
    }
}

/// Whether the disk has a directory of that name.
pub(super) fn is_there(disk: &dyn Disk, dir: &str) -> io::Result<bool> {
    Ok(disk.list("")?.iter().any(|name| name == dir))
}

/// Says that the new files are whole, and where the old ones are to go.
pub(super) fn mark(disk: &dyn Disk, kept_as: &str) -> io::Result<()> {
    replace_file(disk, RESTORING_FILE, format!("old {kept_as}").as_bytes())
}

/// Has the files change places, from wherever an earlier run stopped.
pub(super) fn install(disk: &dyn Disk) -> io::Result<()> {
    while let Some(mark) = read_file(disk, RESTORING_FILE)? {
        let mark = String::from_utf8_lossy(&mark).into_owned();
        match mark.split_once(' ') {
            Some(("old", kept_as)) => {
                move_files(disk, "", kept_as)?;
                replace_file(disk, RESTORING_FILE, format!("new {kept_as}").as_bytes())?;
            }
            Some(("new", _)) => {
                move_files(disk, STAGING, "")?;
                disk.remove(RESTORING_FILE)?;
                disk.sync_dir("")?;
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the file {RESTORING_FILE} cannot be understood"),
                ));
            }
        }
    }
    Ok(())
}

/// Moves the state store and the log, as far as they are there.
fn move_files(disk: &dyn Disk, from: &str, to: &str) -> io::Result<()> {
    let (log_from, log_to) = (inside(from, LOG_DIR), inside(to, LOG_DIR));
    disk.create_dir(&log_to)?;
    for file in files_of(disk, &log_from)? {
        disk.rename(&inside(&log_from, &file), &inside(&log_to, &file))?;
    }
    match disk.rename(&inside(from, STORE_FILE), &inside(to, STORE_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The new names before the old ones' end: a file in two places is harmless,
    // one in none is not.
    for dir in [log_to.as_str(), to, log_from.as_str(), from] {
        match disk.sync_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what an earlier run has made and not brought into place.
pub(super) fn discard(disk: &dyn Disk) -> io::Result<()> {
    let log = inside(STAGING, LOG_DIR);
    for file in files_of(disk, &log)? {
        disk.remove(&inside(&log, &file))?;
    }
    match disk.remove(&inside(STAGING, STORE_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn files_of(disk: &dyn Disk, dir: &str) -> io::Result<Vec<String>> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}
