//! One fragment from disk to disk: read and verified, written, read back.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use holdfast_client::CallError;
use holdfast_client::blocks::{BlockDecoder, encode_block};
use holdfast_client::node::DOWNLOAD_DEADLINE;
use holdfast_metadata::protocol::{DownloadRequest, UploadRequest};
use holdfast_metadata::query::ChunkRow;
use holdfast_model::{
    DiskId, FragmentHeader, FragmentId, FragmentPlace, Generation, GroupId, VersionId,
};
use holdfast_runtime::clock::within;
use holdfast_runtime::{Body, TransportError};

use crate::error::WorkError;
use crate::shared::Shared;

/// How long a node may pause in the middle of a fragment.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a fragment may take to be written and made durable.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// The version in the header of a repaired fragment: a chunk's row does not
/// tell the object's, and nothing reads it from there.
const UNKNOWN_VERSION: VersionId = VersionId::from_bytes([0; 16]);

/// A fragment's bytes, whole and verified.
pub(crate) struct Whole {
    /// Its blocks: at most a chunk, 8 MiB and a little.
    pub blocks: Vec<Bytes>,
    /// CRC-32C of all of it.
    pub checksum: u32,
}

/// Reads a fragment of `bytes` bytes whole; every block is verified.
pub(crate) async fn read_whole(
    shared: &Shared,
    disk: DiskId,
    id: FragmentId,
    bytes: u64,
) -> Result<Whole, WorkError> {
    let failed = |source| WorkError::AskNode {
        attempted: "the read of a fragment",
        disk,
        source,
    };
    let node = shared.node(disk)?;
    let clock = &*shared.env.clock;
    let request = DownloadRequest {
        disk,
        id,
        first: 0,
        end: bytes,
        copy: false,
    };
    let limit = DOWNLOAD_DEADLINE;
    let (head, mut pieces) = within(clock, limit, node.download(&request, None))
        .await
        .unwrap_or_else(|| Err(TransportError::Deadline { limit }.into()))
        .map_err(failed)?;
    let malformed = |reason: String| failed(TransportError::Malformed { reason }.into());
    if head.bytes != bytes {
        return Err(malformed(format!(
            "it has {} bytes and not {bytes}",
            head.bytes
        )));
    }
    let (mut decoder, mut blocks) = (BlockDecoder::default(), Vec::new());
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
            blocks.push(block);
        }
    }
    decoder.finish().map_err(|e| malformed(e.to_string()))?;
    if got != bytes {
        return Err(malformed(format!("{got} of {bytes} bytes came")));
    }
    Ok(Whole { blocks, checksum })
}

/// Where a fragment is to be written.
pub(crate) struct Target<'a> {
    pub group: GroupId,
    pub row: &'a ChunkRow,
    pub place: FragmentPlace,
    pub generation: Generation,
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
    let id = target.place.id(target.group, row.upload, row.chunk.index);
    let bytes = u64::from(row.chunk.stored);
    let request = UploadRequest {
        disk,
        header: FragmentHeader {
            id,
            cluster: shared.state()?.cluster,
            bucket: row.bucket,
            version: UNKNOWN_VERSION,
            redundancy: row.chunk.redundancy,
            stripe_bytes: row.chunk.stripe_bytes,
            generation: target.generation,
            encryption_key: None,
        },
        max_bytes: bytes,
        key: None,
        expires: None,
        copy: false,
    };
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
    let back = read_whole(shared, disk, id, bytes).await?;
    if uploaded.bytes != bytes || back.checksum != whole.checksum {
        return Err(WorkError::CopyDiffers { disk });
    }
    Ok(())
}
