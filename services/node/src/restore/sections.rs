//! Reads a backup, section by section (`docs/formats.md`), checking all of it.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use holdfast_metadata::protocol::BackupHead;
use holdfast_metadata::raft::snapshot::take_rows;
use holdfast_model::{ClusterState, GroupId};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"HFBACKUP";
const VERSION: u32 = 1;
/// The longest section: the longest row (32 MiB) behind a full piece of others,
/// with room to spare.
const MAX_SECTION_BYTES: u32 = 128 << 20;

const CLUSTER: u8 = 1;
const GROUP: u8 = 2;
const ROWS: u8 = 3;
const GROUP_END: u8 = 4;
const END: u8 = 5;

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be read.
    #[error("reading the backup: {0}")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("this is no backup of Holdfast")]
    NoBackup,
    /// A newer release has written it.
    #[error("the backup has format {0}, this release reads {VERSION}: use a newer one")]
    TooNew(u32),
    /// It ends too early.
    #[error("the backup is not whole: it broke off while it was written or copied")]
    Short,
    /// Its bytes are not those that were written.
    #[error("the backup is damaged: its bytes do not match its closing hash")]
    Hash,
    /// It makes no sense.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
}

/// Whole rows of a group.
pub(super) struct RowsPart<'a> {
    pub group: GroupId,
    pub rows: &'a [(Bytes, Bytes)],
}

/// What is shown of a backup.
pub(super) enum Part<'a> {
    Rows(RowsPart<'a>),
    GroupEnd(&'a BackupHead),
}

/// Reads a whole backup and shows its parts in order. What was shown counts
/// only when this returns without an error: the hash comes last.
pub(super) fn walk<E: From<BackupError>>(
    source: impl Read,
    show: &mut dyn FnMut(Part<'_>) -> Result<(), E>,
) -> Result<ClusterState, E> {
    let mut source = Hashed {
        source: io::BufReader::new(source),
        hash: Sha256::new(),
    };
    source.head()?;
    let (CLUSTER, payload) = source.section()? else {
        return Err(damaged("it does not begin with the cluster").into());
    };
    let state: ClusterState = decode(&payload, "the cluster")?;
    let mut group: Option<Group> = None;
    loop {
        let before = source.hash.clone();
        let (kind, payload) = source.section()?;
        match (kind, &mut group) {
            (GROUP, None) => group = Some(Group::begin(decode(&payload, "a group")?)),
            (ROWS, Some(open)) => {
                let rows = open.take(&payload)?;
                show(Part::Rows(RowsPart {
                    group: open.head.group,
                    rows: &rows,
                }))?;
            }
            (GROUP_END, Some(open)) => {
                open.check_end(&payload)?;
                show(Part::GroupEnd(&open.head))?;
                group = None;
            }
            (END, None) => {
                if before.finalize().as_slice() != payload.as_ref() {
                    return Err(BackupError::Hash.into());
                }
                source.check_nothing_follows()?;
                return Ok(state);
            }
            _ => return Err(damaged(&format!("a section of kind {kind} out of order")).into()),
        }
    }
}

/// A group that is being read.
struct Group {
    head: BackupHead,
    bytes: u64,
    rest: BytesMut,
}

impl Group {
    fn begin(head: BackupHead) -> Self {
        Self {
            head,
            bytes: 0,
            rest: BytesMut::new(),
        }
    }

    fn take(&mut self, piece: &[u8]) -> Result<Vec<(Bytes, Bytes)>, BackupError> {
        self.bytes += piece.len() as u64;
        self.rest.extend_from_slice(piece);
        take_rows(&mut self.rest).map_err(|reason| damaged(&reason))
    }

    fn check_end(&self, payload: &[u8]) -> Result<(), BackupError> {
        if payload != self.bytes.to_be_bytes() || !self.rest.is_empty() {
            return Err(damaged(&format!(
                "rows of group {} are missing",
                self.head.group
            )));
        }
        Ok(())
    }
}

struct Hashed<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    fn head(&mut self) -> Result<(), BackupError> {
        let mut magic = [0; 8];
        match self.fill(&mut magic) {
            Err(BackupError::Short) => return Err(BackupError::NoBackup),
            other => other?,
        }
        if &magic != MAGIC {
            return Err(BackupError::NoBackup);
        }
        let mut version = [0; 4];
        self.fill(&mut version)?;
        match u32::from_be_bytes(version) {
            VERSION => Ok(()),
            other => Err(BackupError::TooNew(other)),
        }
    }

    fn section(&mut self) -> Result<(u8, Bytes), BackupError> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [kind, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]);
        if length > MAX_SECTION_BYTES {
            return Err(damaged("a section is too long"));
        }
        let mut payload = BytesMut::zeroed(length as usize);
        self.fill(&mut payload)?;
        Ok((kind, payload.freeze()))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BackupError> {
        self.source
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => BackupError::Short,
                _ => BackupError::Read(error),
            })?;
        self.hash.update(&*buffer);
        Ok(())
    }

    fn check_nothing_follows(&mut self) -> Result<(), BackupError> {
        match self.fill(&mut [0]) {
            Err(BackupError::Short) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(damaged("something follows its end")),
        }
    }
}

fn decode<T: for<'b> minicbor::Decode<'b, ()>>(bytes: &[u8], what: &str) -> Result<T, BackupError> {
    minicbor::decode(bytes).map_err(|error| damaged(&format!("{what}: {error}")))
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}
