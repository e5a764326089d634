//! Who a node is: made once with its data directory, never used again for
//! another.

use std::io;

use holdfast_model::{ActiveRelease, ClusterId, DiskId, NodeId, Supported};
use holdfast_runtime::disk::{read_file, replace_file};
use holdfast_runtime::{Disk, Entropy};
use minicbor::{Decode, Encode};

use crate::restore::RESTORING_FILE;

/// The file that holds it.
const FILE: &str = "identity";
/// A file that says that the disk has failed once: what it holds must not be
/// served or voted with again.
const FAILED_FILE: &str = "failed";

/// A node's identity.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Identity {
    /// The disk format that the data directory may hold.
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
    /// The formats that the cluster wrote when that was last noted here: before
    /// anything is written in them, so that a program that cannot read them is
    /// refused without asking anybody.
    #[n(5)]
    pub active: Option<ActiveRelease>,
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
    /// It is of a cluster whose formats this program cannot read.
    #[error("this release cannot use the data directory: {0}")]
    Release(String),
    /// The same, of a data directory that does not say of which release it is.
    #[error(
        "the data directory has disk format {found}, and this is release {} (disk {}): use the release that wrote it",
        .own.release,
        .own.disk
    )]
    Format {
        /// The format found.
        found: u32,
        /// What this program reads.
        own: Supported,
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
    /// `supports` is what the program that starts can read.
    ///
    /// # Errors
    /// When the directory must not be used; then nothing is written.
    pub fn start(
        disk: &dyn Disk,
        entropy: &dyn Entropy,
        supports: &Supported,
    ) -> Result<Self, IdentityError> {
        if read_file(disk, RESTORING_FILE)?.is_some() {
            return Err(IdentityError::Restoring);
        }
        let mut identity = match Self::find(disk)? {
            Some(found) => found,
            None => Self {
                // The oldest: its cluster is not known, and may be of that.
                disk_version: supports.disk.min,
                node: NodeId::from_bytes(entropy.id()),
                disk: DiskId::from_bytes(entropy.id()),
                cluster: None,
                incarnation: 0,
                active: None,
            },
        };
        identity.check_release(supports)?;
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
        minicbor::decode(body).map_err(|error| damaged(&error.to_string()))
    }

    /// Whether a program can read what the data directory may hold.
    ///
    /// # Errors
    /// With the release that is needed.
    pub fn check_release(&self, supports: &Supported) -> Result<(), IdentityError> {
        match self.active {
            Some(active) if !supports.reads(active) => {
                Err(IdentityError::Release(supports.refusal(active)))
            }
            None if !supports.disk.contains(self.disk_version) => Err(IdentityError::Format {
                found: self.disk_version,
                own: *supports,
            }),
            _ => Ok(()),
        }
    }

    /// The same identity in a cluster that writes `active`. Formats never go
    /// down: what they were, the data directory may hold.
    pub fn noting(self, active: ActiveRelease) -> Self {
        match self.active {
            Some(noted) if !noted.is_older_than(active) => self,
            _ => Self {
                disk_version: active.disk.max(self.disk_version),
                active: Some(active),
                ..self
            },
        }
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

/// Notes durably that the disk has failed.
///
/// # Errors
/// When the disk does not take it. It may be there all the same: not synced, it
/// still stops who starts before the machine is restarted, for as long as the
/// page cache says more than the disk holds.
pub fn mark_failed(disk: &dyn Disk, reason: &str) -> io::Result<()> {
    let marked = replace_file(disk, FAILED_FILE, reason.as_bytes());
    if marked.is_err()
        && let Ok(file) = disk.create(FAILED_FILE)
    {
        // As good as it gets.
        let _ = file.write_all_at(reason.as_bytes(), 0);
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_runtime::host::disk::Directory;
    use holdfast_runtime::host::system::SystemEntropy;

    fn start(disk: &dyn Disk) -> Result<Identity, IdentityError> {
        Identity::start(disk, &SystemEntropy, &Supported::OWN)
    }

    #[test]
    fn an_identity_stays_and_counts_its_starts() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        let first = start(&disk).unwrap();
        let second = start(&disk).unwrap();
        assert_eq!((first.node, first.disk), (second.node, second.disk));
        assert_eq!((first.incarnation, second.incarnation), (1, 2));
    }

    #[test]
    fn a_damaged_or_failed_disk_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        start(&disk).unwrap();
        let mut bytes = read_file(&disk, FILE).unwrap().unwrap().to_vec();
        bytes[9] ^= 1;
        replace_file(&disk, FILE, &bytes).unwrap();
        let error = start(&disk).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged(_)), "{error}");
        mark_failed(&disk, "fsync: EIO").unwrap();
        let error = start(&disk).unwrap_err();
        assert!(matches!(error, IdentityError::Failed { .. }), "{error}");
    }

    #[test]
    fn a_directory_of_a_cluster_that_went_on_is_refused_with_the_release_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        let next = Supported::OWN.ahead();
        let first = Identity::start(&disk, &SystemEntropy, &next).unwrap();
        // Before the cluster has gone on, the older program may come back.
        let now = Supported::OWN.newest();
        first.clone().noting(now).save(&disk).unwrap();
        let again = start(&disk).unwrap();
        assert_eq!(again.incarnation, 2);
        again.noting(next.newest()).save(&disk).unwrap();
        let error = start(&disk).unwrap_err().to_string();
        let needed = format!("image of release {} at least", next.newest().release);
        assert!(error.contains(&needed), "{error}");
        // Nothing was counted, and the newer program goes on.
        let third = Identity::start(&disk, &SystemEntropy, &next).unwrap();
        assert_eq!(third.incarnation, 3);
        // Nobody takes back what may have been written.
        assert_eq!(third.clone().noting(now), third);
    }

    #[test]
    fn the_format_stays_as_it_is_and_that_of_before_is_read() {
        let identity = Identity {
            disk_version: 1,
            node: NodeId::from_bytes([1; 16]),
            disk: DiskId::from_bytes([2; 16]),
            cluster: Some(ClusterId::from_bytes([3; 16])),
            incarnation: 7,
            active: None,
        };
        let id = |byte: u8| [&[0x50][..], &[byte; 16]].concat();
        let fields = [&[1][..], &id(1), &id(2), &id(3), &[7]].concat();
        let with_check = |body: Vec<u8>| {
            let check = crc32c::crc32c(&body).to_be_bytes();
            [&check[..], &body].concat()
        };
        let earlier = with_check([&[0x85][..], &fields].concat());
        assert_eq!(Identity::read(&earlier).unwrap(), identity);
        let identity = identity.noting(ActiveRelease::FIRST);
        let active = [0x83, 0x83, 0, 1, 0, 1, 1];
        let now = with_check([&[0x86][..], &fields, &active].concat());
        assert_eq!(Identity::read(&now).unwrap(), identity);
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        identity.save(&disk).unwrap();
        assert_eq!(read_file(&disk, FILE).unwrap().unwrap(), now);
    }
}
