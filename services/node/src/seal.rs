//! Whether a disk takes fragments, so that what was counted on a disk that is
//! being emptied stays so.
//!
//! A gateway may not have heard for minutes that a disk is drained, and its upload
//! may be committed: neither the count nor the layout stops it. The disk does,
//! once sealed. The seal is durable, and ends only with a layout newer than the
//! one that it was made in: a node that has just started may not have heard of
//! that one either.

use std::io;
use std::sync::{Mutex, PoisonError};

use holdfast_metadata::protocol::{self, NodeError};
use holdfast_model::Epoch;
use holdfast_runtime::Disk;
use holdfast_runtime::disk::{read_file, replace_file};
use minicbor::{Decode, Encode};
use tokio::sync::{RwLock, RwLockReadGuard};

/// The file that keeps it.
const FILE: &str = "sealed";
/// The version of the file.
const VERSION: u32 = 1;

/// What the file holds, after a CRC-32C of it.
#[derive(Encode, Decode)]
struct Kept {
    #[n(0)]
    version: u32,
    #[n(1)]
    epoch: Epoch,
}

/// The gate of a disk.
#[derive(Debug, Default)]
pub struct Seal {
    /// The layout in which it was sealed.
    since: Mutex<Option<Epoch>>,
    /// Held, shared, by each fragment that is being written.
    open: RwLock<()>,
}

impl Seal {
    /// The seal of a data directory, if it has one. Blocks.
    ///
    /// # Errors
    /// When its file cannot be read, or is damaged.
    pub fn find(disk: &dyn Disk) -> io::Result<Self> {
        let since = read_file(disk, FILE)?.map(|bytes| read(&bytes));
        Ok(Self {
            since: Mutex::new(since.transpose()?),
            open: RwLock::default(),
        })
    }

    /// Lets a fragment in, and counts it as open until the guard is dropped.
    /// `taking` is the newest layout that the node knows, if data may go to the
    /// disk in it.
    ///
    /// # Errors
    /// [`NodeError::Sealed`].
    pub fn enter(&self, taking: Option<Epoch>) -> Result<RwLockReadGuard<'_, ()>, NodeError> {
        // Who seals sets the epoch first, and then waits for this.
        let open = self.open.try_read().map_err(|_| NodeError::Sealed)?;
        let mut since = self.lock();
        if since.is_some_and(|since| taking.is_none_or(|taking| taking <= since)) {
            return Err(NodeError::Sealed);
        }
        *since = None;
        Ok(open)
    }

    /// Lets nothing in from now on. [`Self::quiet`] is waited for afterwards.
    pub fn close(&self, epoch: Epoch) {
        let mut since = self.lock();
        *since = (*since).max(Some(epoch));
    }

    /// Waits until nothing is being written that was let in before.
    pub async fn quiet(&self) {
        drop(self.open.write().await);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Epoch>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a seal durably. Blocks.
///
/// # Errors
/// When the disk refuses.
pub fn keep(disk: &dyn Disk, epoch: Epoch) -> io::Result<()> {
    let body = protocol::encode(&Kept {
        version: VERSION,
        epoch,
    });
    let mut bytes = crc32c::crc32c(&body).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    replace_file(disk, FILE, &bytes)
}

fn read(bytes: &[u8]) -> io::Result<Epoch> {
    let damaged = |what: &str| {
        let text = format!("the file {FILE} in the data directory is damaged ({what})");
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let (check, body) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged("it is too short"))?;
    if u32::from_be_bytes(*check) != crc32c::crc32c(body) {
        return Err(damaged("its checksum does not match"));
    }
    let kept: Kept = minicbor::decode(body).map_err(|error| damaged(&error.to_string()))?;
    if kept.version != VERSION {
        return Err(damaged(&format!("version {}", kept.version)));
    }
    Ok(kept.epoch)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_seal_ends_only_with_a_newer_layout_that_gives_the_disk_data() {
        let seal = Seal::default();
        assert!(seal.enter(None).is_ok());
        seal.close(Epoch(7));
        for old in [None, Some(Epoch(6)), Some(Epoch(7))] {
            assert_eq!(seal.enter(old).err(), Some(NodeError::Sealed), "{old:?}");
        }
        assert!(seal.enter(Some(Epoch(8))).is_ok());
        // It has ended: what the node knows later makes no difference.
        assert!(seal.enter(None).is_ok());
        seal.close(Epoch(9));
        seal.close(Epoch(8));
        assert!(seal.enter(Some(Epoch(9))).is_err(), "never an older one");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_let_in_is_waited_for_and_nothing_more_gets_in() {
        let seal = Seal::default();
        let open = seal.enter(None).unwrap();
        seal.close(Epoch(1));
        let quiet = seal.quiet();
        tokio::pin!(quiet);
        let soon = tokio::time::timeout(Duration::from_secs(5), &mut quiet);
        assert!(soon.await.is_err(), "a fragment is being written");
        assert!(seal.enter(Some(Epoch(2))).is_err(), "somebody waits");
        drop(open);
        quiet.await;
        assert!(seal.enter(Some(Epoch(2))).is_ok());
    }

    #[test]
    fn a_seal_is_found_again_and_a_damaged_one_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let disk = holdfast_runtime::host::disk::Directory::open(directory.path()).unwrap();
        assert!(Seal::find(&disk).unwrap().enter(None).is_ok());
        keep(&disk, Epoch(3)).unwrap();
        let found = Seal::find(&disk).unwrap();
        assert!(found.enter(Some(Epoch(3))).is_err());
        assert!(found.enter(Some(Epoch(4))).is_ok());

        let mut bytes = read_file(&disk, FILE).unwrap().unwrap().to_vec();
        bytes[5] ^= 1;
        replace_file(&disk, FILE, &bytes).unwrap();
        let told = Seal::find(&disk).unwrap_err().to_string();
        assert!(told.contains("checksum"), "{told}");
    }
}
