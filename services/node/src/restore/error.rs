//! Why a restore fails.

use std::io;

use holdfast_metadata::log::LogError;
use holdfast_metadata::store::StoreError;
use holdfast_model::{ClusterId, GroupId};

use super::BackupError;
use crate::identity::IdentityError;

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
