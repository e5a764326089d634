//! Compression: write the object anew as zstd frames, read that back, and only
//! then have the group refer to it.
//!
//! The old bytes stay until the group has dropped them. Length and SHA-256 of
//! the object are checked twice: of what was read, so that no damage is made
//! permanent, and of what reads back.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use holdfast_client::{ClusterError, ObjectWriter, Written, read_object, read_record};
use holdfast_metadata::command::Command;
use holdfast_metadata::query::UploadChunks;
use holdfast_model::record::Coding;
use holdfast_model::{Chunk, ObjectRecord, Representation};
use holdfast_runtime::TasksExt;
use sha2::{Digest, Sha256};

use super::{Claim, Done, Object, WorkError, Worker};
use crate::frames::{PlainChunks, compress_frame, is_worth_it};

/// Larger objects are left as they are: one attempt could not finish them.
const MAX_OBJECT_BYTES: u64 = 4 << 30;

pub(super) async fn compress(worker: &Worker, claim: &Claim) -> Result<Done, WorkError> {
    let Some(object) = worker.fetch(claim).await? else {
        return Ok(Done::Unneeded);
    };
    let record = &object.record;
    let size = record.content.size;
    let left_alone = record.expired(object.now)
        || record.representation.coding() != Coding::Identity
        || size == 0
        || size > MAX_OBJECT_BYTES;
    if left_alone {
        return Ok(Done::Unneeded);
    }
    let Some(written) = write_frames(worker, claim, &object).await? else {
        return Ok(Done::Unneeded);
    };
    let untold = match read_back(worker, claim, record, &written).await {
        Ok(untold) => untold,
        Err(error) => {
            worker.discard(claim.group, &written).await;
            return Err(error);
        }
    };
    let generation = match written.generation {
        Some(generation) => generation,
        None => worker.cluster.generation(claim.group).await?,
    };
    let command = Command::SwapRepresentation {
        bucket: claim.task.bucket,
        key: claim.task.key.clone(),
        version: claim.task.version,
        representation: written.representation.clone(),
        chunks: untold,
        task: claim.attempt(),
        generation,
    };
    metrics::counter!("holdfast_compressed_bytes_total", "side" => "before").increment(size);
    metrics::counter!("holdfast_compressed_bytes_total", "side" => "after").increment(written.size);
    worker.commit(claim.group, &written, command).await
}

type Pieces = BoxStream<'static, Result<bytes::Bytes, ClusterError>>;

/// Writes the object as frames; `None` when that gains too little.
async fn write_frames(
    worker: &Worker,
    claim: &Claim,
    object: &Object,
) -> Result<Option<Written>, WorkError> {
    let record = &object.record;
    let size = record.content.size;
    let pieces = read_record(
        &worker.cluster,
        claim.place(),
        record,
        object.first_chunks.clone(),
        0..size,
        worker.transfers.clone(),
    );
    let target = claim.target(record);
    let mut writer = ObjectWriter::new(
        &worker.cluster,
        target,
        Some(size),
        worker.transfers.clone(),
    )
    .coded();
    match pack(worker, record, pieces, &mut writer).await {
        Ok(true) => Ok(Some(writer.finish().await?)),
        Ok(false) => {
            writer.abort().await;
            Ok(None)
        }
        Err(error) => {
            writer.abort().await;
            Err(error)
        }
    }
}

/// Moves the object through the compressor. False as soon as it is clear that
/// too little is gained: by the first chunk, or at the end.
async fn pack(
    worker: &Worker,
    record: &ObjectRecord,
    mut pieces: Pieces,
    writer: &mut ObjectWriter,
) -> Result<bool, WorkError> {
    let mut hash = Sha256::new();
    let mut chunks = PlainChunks::default();
    let (mut plain_bytes, mut stored_bytes) = (0, 0);
    loop {
        let piece = pieces.next().await.transpose()?;
        let ended = piece.is_none();
        let mut full = match piece {
            Some(piece) => {
                hash.update(&piece);
                chunks.push(&piece)
            }
            None => chunks.finish(),
        };
        while let Some(plain) = full {
            let size = plain.len();
            let frame = frame(worker, plain).await?;
            let first = plain_bytes == 0;
            plain_bytes += size as u64;
            stored_bytes += frame.len() as u64;
            if first && !is_worth_it(plain_bytes, stored_bytes) {
                return Ok(false);
            }
            writer.write(frame).await?;
            // At most PLAIN_CHUNK_BYTES.
            writer.cut_coded_chunk(size as u32);
            full = chunks.push(&[]);
        }
        if ended {
            break;
        }
    }
    let sha256: [u8; 32] = hash.finalize().into();
    check(record, plain_bytes, sha256, "what was read")?;
    Ok(is_worth_it(plain_bytes, stored_bytes))
}

async fn frame(worker: &Worker, plain: bytes::Bytes) -> Result<bytes::Bytes, WorkError> {
    let tasks = &worker.cluster.env().tasks;
    let compressed = tasks.blocking(move || compress_frame(&plain)).await;
    compressed
        .ok_or(WorkError::Stopped)?
        .map_err(|error| WorkError::Retry(format!("compressing failed: {error}")))
}

/// Reads what was written through the path of every reader and compares.
/// Returns the chunks that the group has not been told.
async fn read_back(
    worker: &Worker,
    claim: &Claim,
    record: &ObjectRecord,
    written: &Written,
) -> Result<Vec<Chunk>, WorkError> {
    let size = record.content.size;
    let (first_chunks, untold) = rows(worker, claim, written).await?;
    let mut pieces = read_object(
        &worker.cluster,
        claim.group,
        size,
        &written.representation,
        first_chunks,
        0..size,
        worker.transfers.clone(),
    );
    let mut hash = Sha256::new();
    let mut read = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        hash.update(&piece);
        read += piece.len() as u64;
    }
    check(record, read, hash.finalize().into(), "what was compressed")?;
    Ok(untold)
}

/// The new chunks' rows to read by, and those to be committed. Where the
/// group was told the first already, it is told the rest, so that all can be
/// asked for.
async fn rows(
    worker: &Worker,
    claim: &Claim,
    written: &Written,
) -> Result<(Vec<UploadChunks>, Vec<Chunk>), WorkError> {
    let Representation::Chunked { parts, .. } = &written.representation else {
        return Ok((Vec::new(), Vec::new()));
    };
    let Some(part) = parts.first() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let (upload, chunks) = (part.upload, written.chunks.clone());
    if chunks.len() == part.chunks as usize {
        let first_chunks = UploadChunks {
            upload,
            chunks: chunks.clone(),
        };
        return Ok((vec![first_chunks], chunks));
    }
    let command = Command::AppendChunks { upload, chunks };
    worker.propose(claim.group, command).await?;
    Ok((Vec::new(), Vec::new()))
}

/// Whether bytes are the object's.
fn check(record: &ObjectRecord, size: u64, sha256: [u8; 32], what: &str) -> Result<(), WorkError> {
    if size == record.content.size && sha256 == record.content.sha256 {
        return Ok(());
    }
    tracing::error!(
        version = %record.version,
        size,
        expected = record.content.size,
        "{what} is not the object",
    );
    Err(WorkError::Retry(format!(
        "{what} is not the object: {size} bytes of {}, or another checksum",
        record.content.size
    )))
}
