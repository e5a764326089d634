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

use holdfast_metadata::log::{
    Checkpoint, GroupRound, LogEnd, LogError, LogFiles, LogSettings, Round,
};
use holdfast_metadata::raft::applier::{read_members, write_members};
use holdfast_metadata::state::renew_restored;
use holdfast_metadata::store::{Rows, Store, StoreError, Visit};
use holdfast_metadata::wire::{Members, WireHardState};
use holdfast_model::{ClusterId, DiskId, GroupId, NodeId};
use holdfast_runtime::Disk;

use crate::identity::{Identity, IdentityError};

mod places;
mod sections;
#[cfg(test)]
mod tests;

pub use places::RESTORING_FILE;
pub use sections::BackupError;

use places::{STORE_FILE, Under};
use sections::{Part, RowsPart, walk};

/// How far the new term lies above the highest that is known. A log that cannot
/// be read, or a node that is not here, may have seen higher ones; no cluster
/// holds a million elections between a backup and its restore.
const TERM_LEAP: u64 = 1 << 20;
/// Bytes of rows after which they are made durable.
const DURABLE_AFTER_BYTES: usize = 64 << 20;

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

/// Why nothing was restored, or not all.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A directory could not be read or written.
    #[error("{directory}: {source}")]
    Disk {
        /// Which.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// A directory's identity is no use.
    #[error("{directory}: {source}")]
    Identity {
        /// Which.
        directory: String,
        /// Why.
        source: IdentityError,
    },
    /// Not a node's directory.
    #[error("{directory} is no node's data directory: it has no file identity")]
    NoIdentity {
        /// Which.
        directory: String,
    },
    /// A node that belongs to no cluster.
    #[error("the node in {directory} belongs to no cluster: leave it out, it can join afterwards")]
    NoCluster {
        /// Which.
        directory: String,
    },
    /// A node of another cluster.
    #[error("{directory} belongs to cluster {found}, and the backup is of cluster {backup}")]
    OtherCluster {
        /// Which.
        directory: String,
        /// Its cluster.
        found: ClusterId,
        /// The backup's.
        backup: ClusterId,
    },
    /// One disk twice.
    #[error("{first} and {second} are copies of one disk: leave one out, and never start both")]
    SameDisk {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Too few members.
    #[error(
        "{given} of the {all} members of group {group} are in these directories, which is no majority: name those of the other nodes too, or use --force and restore them from the same file before any node is started"
    )]
    TooFew {
        /// The group.
        group: GroupId,
        /// How many are given.
        given: usize,
        /// Of how many.
        all: usize,
    },
    /// The old files' new place is taken.
    #[error("{directory} has a directory {kept_as} already")]
    KeptBefore {
        /// Which.
        directory: String,
        /// The name.
        kept_as: String,
    },
    /// The new state could not be written.
    #[error("{directory}: {source}")]
    Store {
        /// Which.
        directory: String,
        /// Why.
        source: StoreError,
    },
    /// The new log could not be written.
    #[error("{directory}: {source}")]
    Log {
        /// Which.
        directory: String,
        /// Why.
        source: LogError,
    },
}

/// A group as the backup has it.
#[derive(Clone, PartialEq, Debug)]
struct BackedUp {
    end: LogEnd,
    members: Members,
}

impl BackedUp {
    fn has(&self, disk: DiskId) -> bool {
        let members = &self.members;
        [
            &members.voters,
            &members.learners,
            &members.voters_outgoing,
            &members.learners_next,
        ]
        .iter()
        .any(|list| list.contains(&disk.raft_id()))
    }
}

/// A directory that was found fit.
struct Target {
    name: String,
    disk: Arc<dyn Disk>,
    identity: Identity,
}

impl Target {
    fn failed(&self) -> impl Fn(io::Error) -> RestoreError {
        let directory = self.name.clone();
        move |source| RestoreError::Disk {
            directory: directory.clone(),
            source,
        }
    }

    fn store(&self) -> impl Fn(StoreError) -> RestoreError {
        let directory = self.name.clone();
        move |source| RestoreError::Store {
            directory: directory.clone(),
            source,
        }
    }
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

/// Reads the whole backup: checks it, and says what groups it has and how many rows.
fn survey(
    source: Box<dyn Read>,
    groups: &mut BTreeMap<GroupId, BackedUp>,
) -> Result<(holdfast_model::ClusterState, u64), RestoreError> {
    let mut count = 0;
    let mut few = FewRows::default();
    let state = walk::<BackupError>(source, &mut |part| {
        match part {
            Part::Rows(RowsPart { group, rows }) => {
                count += rows.len() as u64;
                few.group = group;
                // What the log and the members need is in rows that no table has.
                for (key, value) in rows {
                    if matches!(key.first(), Some(0 | 0xff)) {
                        few.rows.insert(key.to_vec(), value.to_vec());
                    }
                }
            }
            Part::GroupEnd(head) => {
                let found = std::mem::take(&mut few);
                let damaged =
                    |what: &str| BackupError::Damaged(format!("group {}: {what}", head.group));
                let members = read_members(&found).map_err(|error| damaged(&error.to_string()))?;
                let applied = found
                    .applied()
                    .map_err(|error| damaged(&error.to_string()))?;
                if members.voters.is_empty() || applied != Some((head.applied, head.term)) {
                    return Err(damaged("its members or its index are missing"));
                }
                let end = LogEnd {
                    index: head.applied,
                    term: head.term,
                };
                groups.insert(head.group, BackedUp { end, members });
            }
        }
        Ok(())
    })?;
    let mut named = state.layout.groups.keys();
    if let Some(missing) = named.find(|group| !groups.contains_key(group)) {
        return Err(BackupError::Damaged(format!("group {missing} is missing")).into());
    }
    Ok((state, count))
}

fn check_directories(
    directories: Vec<(String, Arc<dyn Disk>)>,
    cluster: ClusterId,
) -> Result<Vec<Target>, RestoreError> {
    let mut targets: Vec<Target> = Vec::new();
    for (name, disk) in directories {
        let directory = name.clone();
        let identity = Identity::find(disk.as_ref()).map_err(|source| RestoreError::Identity {
            directory: directory.clone(),
            source,
        })?;
        let identity = identity.ok_or_else(|| RestoreError::NoIdentity {
            directory: directory.clone(),
        })?;
        match identity.cluster {
            Some(found) if found == cluster => {}
            Some(found) => {
                return Err(RestoreError::OtherCluster {
                    directory,
                    found,
                    backup: cluster,
                });
            }
            None => return Err(RestoreError::NoCluster { directory }),
        }
        let same = |other: &&Target| other.identity.disk == identity.disk;
        if let Some(other) = targets.iter().find(same) {
            return Err(RestoreError::SameDisk {
                first: other.name.clone(),
                second: name,
            });
        }
        targets.push(Target {
            name,
            disk,
            identity,
        });
    }
    Ok(targets)
}

fn check_majorities(
    groups: &BTreeMap<GroupId, BackedUp>,
    targets: &[Target],
) -> Result<(), RestoreError> {
    for (group, backed_up) in groups {
        // During a change of members both majorities are needed.
        for voters in [
            &backed_up.members.voters,
            &backed_up.members.voters_outgoing,
        ] {
            let is_given = |voter: &&u64| {
                let mut disks = targets.iter().map(|target| target.identity.disk.raft_id());
                disks.any(|disk| disk == **voter)
            };
            let (given, all) = (voters.iter().filter(is_given).count(), voters.len());
            if all > 0 && given * 2 <= all {
                return Err(RestoreError::TooFew {
                    group: *group,
                    given,
                    all,
                });
            }
        }
    }
    Ok(())
}

fn carried(groups: &BTreeMap<GroupId, BackedUp>, disk: DiskId) -> BTreeMap<GroupId, BackedUp> {
    let groups = groups.iter().filter(|(_, group)| group.has(disk));
    groups.map(|(id, group)| (*id, group.clone())).collect()
}

/// Writes the new state store and log durably, beside the old ones.
fn write_beside(
    target: &Target,
    source: Box<dyn Read>,
    groups: &BTreeMap<GroupId, BackedUp>,
    term: u64,
    log: LogSettings,
) -> Result<(), RestoreError> {
    let beside: Arc<dyn Disk> =
        Arc::new(Under::staging(target.disk.clone()).map_err(target.failed())?);
    let store = Store::open(&beside, STORE_FILE).map_err(target.store())?;
    write_rows(target, &store, source, groups)?;
    let failed = |source| RestoreError::Log {
        directory: target.name.clone(),
        source,
    };
    let files = LogFiles::open(beside, log, 0).map_err(failed)?.files;
    let begin = |(group, backed_up): (&GroupId, &BackedUp)| GroupRound {
        hard: Some(WireHardState {
            term,
            vote: 0,
            commit: backed_up.end.index,
        }),
        reset: Some(backed_up.end),
        ..GroupRound::new(*group)
    };
    let round = Round {
        groups: groups.iter().map(begin).collect(),
    };
    files
        .write(&round, &Checkpoint::default())
        .map_err(failed)?;
    Ok(())
}

fn write_rows(
    target: &Target,
    store: &Store,
    source: Box<dyn Read>,
    groups: &BTreeMap<GroupId, BackedUp>,
) -> Result<(), RestoreError> {
    let failed = target.store();
    let mut bytes = 0;
    walk::<RestoreError>(source, &mut |part| {
        let Part::Rows(RowsPart { group, rows }) = part else {
            return Ok(());
        };
        if !groups.contains_key(&group) {
            return Ok(());
        }
        let mut batch = store.begin_bulk().map_err(&failed)?;
        let mut txn = batch.group(group).map_err(&failed)?;
        for (key, value) in rows {
            bytes += key.len() + value.len();
            txn.put(key, value).map_err(&failed)?;
        }
        drop(txn);
        // What is not durable stays in memory until something after it is.
        let durable = bytes >= DURABLE_AFTER_BYTES;
        bytes = if durable { 0 } else { bytes };
        batch.commit(durable).map_err(&failed)
    })?;
    let mut batch = store.begin_bulk().map_err(&failed)?;
    for (group, backed_up) in groups {
        let mut txn = batch.group(*group).map_err(&failed)?;
        renew_restored(&mut txn).map_err(&failed)?;
        write_members(&mut txn, backed_up.end, &backed_up.members).map_err(&failed)?;
    }
    batch.commit(true).map_err(&failed)
}

/// The few rows of a group that are needed before all others.
#[derive(Default)]
struct FewRows {
    group: GroupId,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Rows for FewRows {
    fn group(&self) -> GroupId {
        self.group
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let from = self
            .rows
            .iter()
            .skip_while(|(key, _)| key.as_slice() < from);
        for (key, value) in from.take_while(|(key, _)| key.as_slice() < to) {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}
