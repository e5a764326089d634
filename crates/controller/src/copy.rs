//! One fragment from disk to disk: read and verified, written, read back.
//!
//! A copy carries what its original does: the group's row says where a chunk is
//! and under which generation, and the fragment itself says all else (version,
//! object key, expiry, encryption key). Nodes of earlier releases do not tell
//! that, which is no reason to leave a chunk with a copy less: another source is
//! asked for it, and if none tells, the copy is written without, as those
//! releases did, which is logged and counted.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use holdfast_client::CallError;
use holdfast_client::blocks::{BlockDecoder, encode_block};
use holdfast_client::node::{DOWNLOAD_DEADLINE, Pieces};
use holdfast_metadata::protocol::{Carried, Download, DownloadRequest, UploadRequest};
use holdfast_metadata::query::ChunkRow;
use holdfast_model::{
    ClusterId, DiskId, FragmentHeader, FragmentId, FragmentPlace, Generation, GroupId, VersionId,
};
use holdfast_runtime::clock::within;
use holdfast_runtime::{Body, TransportError};

use crate::error::WorkError;
use crate::shared::Shared;

/// How long a node may pause in the middle of a fragment.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a fragment may take to be written and made durable.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// The version in a copy whose source did not tell it: the group's row of a
/// chunk does not name the object.
const UNKNOWN_VERSION: VersionId = VersionId::from_bytes([0; 16]);

/// A fragment's bytes, whole and verified.
pub(crate) struct Whole {
    /// Its blocks: at most a chunk, 8 MiB and a little.
    pub blocks: Vec<Bytes>,
    /// CRC-32C of all of it.
    pub checksum: u32,
    /// What it carries; none where its node does not tell.
    pub carried: Option<Box<Carried>>,
}

impl Whole {
    /// Whether it is known what a copy is to carry.
    pub fn tells_all(&self) -> bool {
        tells_all(self.carried.as_deref())
    }
}

fn tells_all(carried: Option<&Carried>) -> bool {
    carried.is_some_and(|carried| carried.header.version != UNKNOWN_VERSION)
}

fn unread(disk: DiskId) -> impl Fn(CallError) -> WorkError {
    move |source| WorkError::AskNode {
        attempted: "the read of a fragment",
        disk,
        source,
    }
}

/// Begins to read a fragment up to a byte.
async fn begin_read(
    shared: &Shared,
    disk: DiskId,
    id: FragmentId,
    end: u64,
) -> Result<(Download, Pieces), WorkError> {
    let node = shared.node(disk)?;
    let request = DownloadRequest {
        disk,
        id,
        first: 0,
        end,
        copy: true,
    };
    let limit = DOWNLOAD_DEADLINE;
    let begun = within(&*shared.env.clock, limit, node.download(&request, None))
        .await
        .unwrap_or_else(|| Err(TransportError::Deadline { limit }.into()))
        .map_err(unread(disk))?;
    shared.repair_pace.heard(begun.0.pressed);
    Ok(begun)
}

/// What a fragment carries, without its bytes; none where its node does not
/// tell, or the fragment does not have all of it.
pub(crate) async fn read_carried(
    shared: &Shared,
    disk: DiskId,
    id: FragmentId,
) -> Result<Option<Box<Carried>>, WorkError> {
    let (head, _) = begin_read(shared, disk, id, 0).await?;
    Ok(head.carried.filter(|carried| tells_all(Some(carried))))
}

/// Reads a fragment of `bytes` bytes whole; every block is verified.
pub(crate) async fn read_whole(
    shared: &Shared,
    disk: DiskId,
    id: FragmentId,
    bytes: u64,
) -> Result<Whole, WorkError> {
    let mut blocks = Vec::new();
    let read = read_through(shared, disk, id, bytes, |block| blocks.push(block)).await?;
    Ok(Whole {
        blocks,
        checksum: read.checksum,
        carried: read.carried,
    })
}

/// What was read of a fragment beside its blocks.
struct ReadThrough {
    checksum: u32,
    carried: Option<Box<Carried>>,
}

/// The same, handing out block by block.
async fn read_through(
    shared: &Shared,
    disk: DiskId,
    id: FragmentId,
    bytes: u64,
    mut take: impl FnMut(Bytes),
) -> Result<ReadThrough, WorkError> {
    let failed = unread(disk);
    let clock = &*shared.env.clock;
    let (head, mut pieces) = begin_read(shared, disk, id, bytes).await?;
    let malformed = |reason: String| failed(TransportError::Malformed { reason }.into());
    if head.bytes != bytes {
        return Err(malformed(format!(
            "it has {} bytes and not {bytes}",
            head.bytes
        )));
    }
    let mut decoder = BlockDecoder::default();
    let (mut checksum, mut got) = (0, 0);
    loop {
        let limit = PIECE_DEADLINE;
        match within(clock, limit, pieces.next()).await {
            None => return Err(failed(TransportError::Deadline { limit }.into())),
            Some(None) => break,
            Some(Some(piece)) => decoder.push(&piece.map_err(|e| failed(e.into()))?),
        }
        while let Some(block) = decoder.next_block().map_err(|e| malformed(e.to_string()))? {
            got += block.len() as u64;
            if got > bytes {
                return Err(malformed("more bytes than it has".into()));
            }
            checksum = crc32c::crc32c_append(checksum, &block);
            take(block);
        }
    }
    decoder.finish().map_err(|e| malformed(e.to_string()))?;
    if got != bytes {
        return Err(malformed(format!("{got} of {bytes} bytes came")));
    }
    Ok(ReadThrough {
        checksum,
        carried: head.carried,
    })
}

/// Where a fragment is to be written.
pub(crate) struct Target<'a> {
    pub group: GroupId,
    pub row: &'a ChunkRow,
    pub place: FragmentPlace,
    pub generation: Generation,
}

/// What a copy is written with: where it is, as the group has it, and all else
/// as the fragment that was read carries it.
fn copy_request(
    cluster: ClusterId,
    target: &Target<'_>,
    carried: Option<&Carried>,
) -> UploadRequest {
    let row = target.row;
    let header = carried.map(|carried| &carried.header);
    UploadRequest {
        disk: target.place.disk,
        header: FragmentHeader {
            id: target.place.id(target.group, row.upload, row.chunk.index),
            cluster,
            bucket: row.bucket,
            version: header.map_or(UNKNOWN_VERSION, |header| header.version),
            redundancy: row.chunk.redundancy,
            stripe_bytes: row.chunk.stripe_bytes,
            generation: target.generation,
            encryption_key: header.and_then(|header| header.encryption_key),
        },
        max_bytes: u64::from(row.chunk.stored),
        key: carried.and_then(|carried| carried.key.clone()),
        expires: carried.and_then(|carried| carried.expires),
        copy: true,
    }
}

/// Writes a fragment and reads it back. A corrupt or older one of the same
/// name on that disk is replaced by the disk itself.
pub(crate) async fn write_verified(
    shared: &Shared,
    target: &Target<'_>,
    whole: &Whole,
) -> Result<(), WorkError> {
    let (row, disk) = (target.row, target.place.disk);
    let failed = |source| WorkError::AskNode {
        attempted: "the write of a fragment",
        disk,
        source,
    };
    let bytes = u64::from(row.chunk.stored);
    let request = copy_request(shared.state()?.cluster, target, whole.carried.as_deref());
    let id = request.header.id;
    let pieces: Vec<_> = whole
        .blocks
        .iter()
        .cloned()
        .flat_map(encode_block)
        .map(Ok)
        .collect();
    let body = Body::stream(stream::iter(pieces));
    let node = shared.node(disk)?;
    let limit = WRITE_DEADLINE;
    let uploaded = within(&*shared.env.clock, limit, node.upload(&request, body, None))
        .await
        .unwrap_or_else(|| Err(CallError::from(TransportError::Deadline { limit })))
        .map_err(failed)?;
    shared.repair_pace.heard(uploaded.pressed);
    let back = read_through(shared, disk, id, bytes, |_| {}).await?;
    if uploaded.bytes != bytes || back.checksum != whole.checksum {
        return Err(WorkError::CopyDiffers { disk });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use holdfast_model::{BucketId, Chunk, ObjectKey, Redundancy, Timestamp, UploadId};

    use super::*;
    use crate::scenario::disk;

    const CLUSTER: ClusterId = ClusterId::from_bytes([7; 16]);
    const GROUP: GroupId = GroupId(3);

    fn row() -> ChunkRow {
        ChunkRow {
            upload: UploadId::from_bytes([4; 16]),
            chunk: Chunk {
                index: 5,
                size: 70,
                stored: 70,
                redundancy: Redundancy::copies(3),
                stripe_bytes: 4096,
                generation: Generation(1),
                fragments: Vec::new(),
            },
            bucket: BucketId::from_bytes([8; 16]),
            committed: true,
        }
    }

    /// What the fragment of that index was written with.
    fn original(index: u8) -> Carried {
        let place = FragmentPlace {
            index,
            disk: disk(1),
        };
        Carried {
            header: FragmentHeader {
                id: place.id(GROUP, row().upload, 5),
                cluster: CLUSTER,
                bucket: row().bucket,
                version: VersionId::from_bytes([9; 16]),
                redundancy: Redundancy::copies(3),
                stripe_bytes: 4096,
                generation: Generation(1),
                encryption_key: Some(12),
            },
            key: ObjectKey::new("a/b").ok(),
            expires: Some(Timestamp(11)),
        }
    }

    #[test]
    fn does_a_copy_carry_all_that_its_original_does_but_its_own_place_and_generation() {
        let (row, from) = (row(), original(0));
        let place = FragmentPlace {
            index: 2,
            disk: disk(6),
        };
        let target = Target {
            group: GROUP,
            row: &row,
            place,
            generation: Generation(9),
        };
        let copy = copy_request(CLUSTER, &target, Some(&from));
        let mut expected = original(2);
        expected.header.generation = Generation(9);
        let written = Carried {
            header: copy.header,
            key: copy.key,
            expires: copy.expires,
        };
        assert_eq!(written, expected);
        assert_eq!((copy.disk, copy.max_bytes, copy.copy), (disk(6), 70, true));
        // Of a node that does not tell: what the group knows, and no more.
        let plain = copy_request(CLUSTER, &target, None);
        assert_eq!(plain.header.version, UNKNOWN_VERSION);
        assert_eq!((plain.key, plain.expires), (None, None));
        assert_eq!(plain.header.id, expected.header.id);
    }

    #[test]
    fn is_a_copy_that_an_earlier_release_made_known_by_its_missing_version() {
        assert!(tells_all(Some(&original(0))) && !tells_all(None));
        let mut stripped = original(0);
        stripped.header.version = UNKNOWN_VERSION;
        assert!(!tells_all(Some(&stripped)));
    }
}
