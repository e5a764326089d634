//! Who a node is: made once with its data directory, never used again for
//! another.

use std::io;

use holdfast_model::{ClusterId, DiskId, NodeId};
use holdfast_runtime::disk::{read_file, replace_file};
use holdfast_runtime::{Disk, Entropy};
use minicbor::{Decode, Encode};

use crate::restore::RESTORING_FILE;

/// The file that holds it.
const FILE: &str = "identity";
/// A file that says that the disk has failed once: what it holds must not be
/// served or voted with again.
const FAILED_FILE: &str = "failed";
/// The version of the data directory's layout that this release writes.
pub const DISK_VERSION: u32 = 1;

/// A node's identity.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Identity {
    /// The layout of the data directory.
    #[n(0)]
    pub disk_version: u32,
    /// The node.
    #[n(1)]
    pub node: NodeId,
    /// Its disk.
    #[n(2)]
    pub disk: DiskId,
    /// The cluster it was born into, or has joined.
    #[n(3)]
    pub cluster: Option<ClusterId>,
    /// How often this directory has been started.
    #[n(4)]
    pub incarnation: u64,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It could not be read or written.
    #[error("the data directory cannot be used: {0}")]
    Disk(#[from] io::Error),
    /// Its identity is damaged.
    #[error(
        "the file identity in the data directory is damaged ({0}): replace this disk as if it were empty"
    )]
    Damaged(String),
    /// A newer release has written it.
    #[error(
        "the data directory was written by a newer release (layout {found}, this one reads {DISK_VERSION}): use that release"
    )]
    TooNew {
        /// The version found.
        found: u32,
    },
    /// A restore has begun here and not ended.
    #[error(
        "a restore of a backup was not finished in this data directory: run `holdfast admin restore` again, with the same file and directories"
    )]
    Restoring,
    /// The disk has failed before.
    #[error(
        "this disk has failed before ({reason}), so what it holds cannot be trusted: give the node an empty data directory; the cluster will fill it"
    )]
    Failed {
        /// What was noted then.
        reason: String,
    },
}

impl Identity {
    /// Reads the identity in a data directory, or makes one, and counts a start.
    ///
    /// # Errors
    /// When the directory must not be used.
    pub fn start(disk: &dyn Disk, entropy: &dyn Entropy) -> Result<Self, IdentityError> {
        if read_file(disk, RESTORING_FILE)?.is_some() {
            return Err(IdentityError::Restoring);
        }
        let mut identity = match Self::find(disk)? {
            Some(found) => found,
            None => Self {
                disk_version: DISK_VERSION,
                node: NodeId::from_bytes(entropy.id()),
                disk: DiskId::from_bytes(entropy.id()),
                cluster: None,
                incarnation: 0,
            },
        };
        identity.incarnation += 1;
        identity.save(disk)?;
        Ok(identity)
    }

    /// The identity in a data directory, if there is one.
    ///
    /// # Errors
    /// When the directory must not be used.
    pub fn find(disk: &dyn Disk) -> Result<Option<Self>, IdentityError> {
        if let Some(reason) = read_file(disk, FAILED_FILE)? {
            let reason = String::from_utf8_lossy(&reason).into_owned();
            return Err(IdentityError::Failed { reason });
        }
        read_file(disk, FILE)?
            .map(|bytes| Self::read(&bytes))
            .transpose()
    }

    fn read(bytes: &[u8]) -> Result<Self, IdentityError> {
        let damaged = |what: &str| IdentityError::Damaged(what.to_owned());
        let (check, body) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| damaged("it is too short"))?;
        if u32::from_be_bytes(*check) != crc32c::crc32c(body) {
            return Err(damaged("its checksum does not match"));
        }
        let identity: Self = minicbor::decode(body).map_err(|error| damaged(&error.to_string()))?;
        if identity.disk_version > DISK_VERSION {
            return Err(IdentityError::TooNew {
                found: identity.disk_version,
            });
        }
        Ok(identity)
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, disk: &dyn Disk) -> io::Result<()> {
        let body = holdfast_metadata::protocol::encode(self);
        let mut bytes = crc32c::crc32c(&body).to_be_bytes().to_vec();
        bytes.extend_from_slice(&body);
        replace_file(disk, FILE, &bytes)
    }
}

/// Notes that the disk has failed, as well as a failed disk can.
pub fn mark_failed(disk: &dyn Disk, reason: &str) {
    if let Err(error) = replace_file(disk, FAILED_FILE, reason.as_bytes()) {
        tracing::error!(%error, "cannot note on the disk that it has failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_runtime::host::disk::Directory;
    use holdfast_runtime::host::system::SystemEntropy;

    #[test]
    fn an_identity_stays_and_counts_its_starts() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        let first = Identity::start(&disk, &SystemEntropy).unwrap();
        let second = Identity::start(&disk, &SystemEntropy).unwrap();
        assert_eq!((first.node, first.disk), (second.node, second.disk));
        assert_eq!((first.incarnation, second.incarnation), (1, 2));
    }

    #[test]
    fn a_damaged_or_failed_disk_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        Identity::start(&disk, &SystemEntropy).unwrap();
        let mut bytes = read_file(&disk, FILE).unwrap().unwrap().to_vec();
        bytes[9] ^= 1;
        replace_file(&disk, FILE, &bytes).unwrap();
        let error = Identity::start(&disk, &SystemEntropy).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged(_)), "{error}");
        mark_failed(&disk, "fsync: EIO");
        let error = Identity::start(&disk, &SystemEntropy).unwrap_err();
        assert!(matches!(error, IdentityError::Failed { .. }), "{error}");
    }
}
