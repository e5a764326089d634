//! Puts a backup's metadata into the data directories of a cluster whose
//! processes are stopped. Fragments and identities stay; the state store and
//! the Raft log are made anew from the backup.
//!
//! Promises:
//! 1. Nothing is changed before the whole backup was read and its closing hash
//!    found right, every directory was found to be of the backup's cluster, and
//!    everything new was written durably beside the old.
//! 2. Then each directory is marked and its files change places. A node refuses
//!    to start on a marked directory, and running the restore again ends what
//!    was begun. The old files are kept under another name.
//! 3. All members of a group begin from the same rows, index, term of that
//!    index and members. Their current term is far above any earlier one, so
//!    that a message from before means nothing.
//!
//! Raft's safety needs more than a program can see: a node that is started with
//! what it had before the restore holds entries that nobody else has. So all
//! nodes are restored, or begin empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use holdfast_metadata::log::{LogFiles, LogSettings};
use holdfast_model::{ClusterId, DiskId, NodeId};
use holdfast_runtime::Disk;

mod directories;
mod error;
mod places;
mod sections;
mod survey;
#[cfg(test)]
mod tests;
mod write;

pub use error::RestoreError;
pub use places::RESTORING_FILE;
pub use sections::BackupError;

use directories::{check_directories, check_majorities};
use survey::{carried, survey};
use write::write_beside;

/// How far the new term lies above the highest that is known. A log that cannot
/// be read, or a node that is not here, may have seen higher ones; no cluster
/// holds a million elections between a backup and its restore.
const TERM_LEAP: u64 = 1 << 20;

/// What is restored, and into what.
pub struct RestoreParts<'a> {
    /// Opens the backup from its beginning; it is read several times.
    pub backup: &'a dyn Fn() -> io::Result<Box<dyn Read>>,
    /// The data directories, held, each with what people call it.
    pub directories: Vec<(String, Arc<dyn Disk>)>,
    /// The new directory inside each of them that takes the old files.
    pub kept_as: String,
    /// How logs are kept.
    pub log: LogSettings,
    /// Goes on where the directories hold no majority of some group.
    pub force: bool,
}

/// What was done.
#[derive(Clone, PartialEq, Debug)]
pub struct Restored {
    /// The cluster.
    pub cluster: ClusterId,
    /// Each directory, with how many groups it carries now.
    pub directories: Vec<(String, usize)>,
    /// Directories whose log could not be read for its terms.
    pub unread_logs: Vec<String>,
    /// Nodes of the backup that are in none of the directories, with addresses.
    pub absent: Vec<(NodeId, String)>,
    /// Rows of all groups.
    pub rows: u64,
}

/// Restores. Blocks.
///
/// # Errors
/// [`RestoreError`]. Up to where the files change places nothing has happened;
/// after an error there, running it again ends what was begun.
pub fn restore(parts: RestoreParts<'_>) -> Result<Restored, RestoreError> {
    let open = || (parts.backup)().map_err(BackupError::Read);
    let mut groups = BTreeMap::new();
    let (state, rows) = survey(open()?, &mut groups)?;
    let targets = check_directories(parts.directories, state.cluster)?;
    if !parts.force {
        check_majorities(&groups, &targets)?;
    }
    for target in &targets {
        let failed = target.failed();
        places::install(target.disk.as_ref()).map_err(&failed)?;
        places::discard(target.disk.as_ref()).map_err(&failed)?;
        if places::is_there(target.disk.as_ref(), &parts.kept_as).map_err(&failed)? {
            return Err(RestoreError::KeptBefore {
                directory: target.name.clone(),
                kept_as: parts.kept_as,
            });
        }
    }
    let mut unread_logs = Vec::new();
    let mut highest = groups.values().map(|group| group.end.term).max();
    for target in &targets {
        match LogFiles::open(target.disk.clone(), parts.log, 0) {
            Ok(found) => {
                let terms = found.groups.values();
                highest = highest.max(terms.map(|log| log.hard().term.max(log.end().term)).max());
            }
            Err(_) => unread_logs.push(target.name.clone()),
        }
    }
    let term = highest.unwrap_or_default() + TERM_LEAP;
    let mut directories = Vec::new();
    for target in &targets {
        let carried = carried(&groups, target.identity.disk);
        let written = write_beside(target, open()?, &carried, term, parts.log);
        if written.is_err() {
            // What was half made is removed now, or else by the next run.
            let _ = places::discard(target.disk.as_ref());
        }
        written?;
        directories.push((target.name.clone(), carried.len()));
    }
    for target in &targets {
        places::mark(target.disk.as_ref(), &parts.kept_as).map_err(target.failed())?;
    }
    for target in &targets {
        places::install(target.disk.as_ref()).map_err(target.failed())?;
    }
    let given: BTreeSet<DiskId> = targets.iter().map(|target| target.identity.disk).collect();
    let absent = state.layout.nodes.values();
    let absent = absent.filter(|node| node.keeps_data() && !given.contains(&node.disk));
    Ok(Restored {
        cluster: state.cluster,
        directories,
        unread_logs,
        absent: absent.map(|node| (node.id, node.address.clone())).collect(),
        rows,
    })
}
