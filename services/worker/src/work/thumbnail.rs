//! Thumbnails: read the image, make it small, attach the result to its object.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use holdfast_client::{ClusterError, ObjectWriter, read_record};
use holdfast_metadata::command::Command;
use holdfast_model::{Content, Derived, DerivedKind};
use holdfast_runtime::TasksExt;

use super::{Claim, Done, Object, WorkError, Worker};
use crate::picture::{self, Picture, PictureError};

/// The largest file of which a thumbnail is made: it is held in memory.
const MAX_SOURCE_BYTES: u64 = 64 << 20;
/// Decoded images above this are made one at a time.
const LARGE_DECODED_BYTES: u64 = 32 << 20;

pub(super) async fn make(worker: &Worker, claim: &Claim) -> Result<Done, WorkError> {
    let Some(object) = worker.fetch(claim).await? else {
        return Ok(Done::Unneeded);
    };
    if object.record.expired(object.now) {
        return Ok(Done::Unneeded);
    }
    let size = object.record.content.size;
    if size > MAX_SOURCE_BYTES {
        return Err(WorkError::Final(format!(
            "the image has {size} bytes; thumbnails are made of at most {MAX_SOURCE_BYTES}"
        )));
    }
    let source = read_whole(worker, claim, &object).await?;
    let picture = decode(worker, source).await?;
    let target = claim.target(&object.record);
    attach(worker, claim, target, picture).await
}

async fn read_whole(worker: &Worker, claim: &Claim, object: &Object) -> Result<Bytes, WorkError> {
    let size = object.record.content.size;
    let mut pieces = read_record(
        &worker.cluster,
        claim.place(),
        &object.record,
        object.first_chunks.clone(),
        0..size,
        worker.transfers.clone(),
    );
    // At most MAX_SOURCE_BYTES.
    let mut whole = BytesMut::with_capacity(size as usize);
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole.freeze())
}

/// Makes the picture on a thread of its own; large images one at a time.
async fn decode(worker: &Worker, source: Bytes) -> Result<Picture, WorkError> {
    let tasks = worker.cluster.env().tasks.clone();
    let header = source.clone();
    let probed = tasks
        .blocking(move || picture::decoded_bytes(&header))
        .await;
    let needed = probed.ok_or(WorkError::Stopped)?.map_err(refuse)?;
    let turn = if needed > LARGE_DECODED_BYTES {
        // Fails only when the semaphore is closed, which it never is.
        worker.large_images.clone().acquire_owned().await.ok()
    } else {
        None
    };
    let made = tasks
        .blocking(move || {
            // Held by the work and not by its waiter, who may give up.
            let _turn = turn;
            picture::make_thumbnail(&source)
        })
        .await;
    made.ok_or(WorkError::Stopped)?.map_err(refuse)
}

fn refuse(error: PictureError) -> WorkError {
    WorkError::Final(error.to_string())
}

async fn attach(
    worker: &Worker,
    claim: &Claim,
    target: holdfast_client::ObjectTarget,
    picture: Picture,
) -> Result<Done, WorkError> {
    let size = picture.bytes.len() as u64;
    let mut writer = ObjectWriter::new(
        &worker.cluster,
        target,
        Some(size),
        worker.transfers.clone(),
    );
    if let Err(error) = writer.write(picture.bytes).await {
        writer.abort().await;
        return Err(error.into());
    }
    let written = writer.finish().await?;
    let generation = match written.generation {
        Some(generation) => generation,
        None => worker.cluster.generation(claim.group).await?,
    };
    let content = Content {
        filename: None,
        mime: picture.mime.into(),
        size: written.size,
        sha256: written.sha256,
        etag: hex::encode(written.sha256),
        checksums: Default::default(),
    };
    if content.size != size {
        return Err(ClusterError::Internal("the thumbnail was not written whole".into()).into());
    }
    let derived = Derived {
        kind: DerivedKind::Thumbnail,
        content,
        representation: written.representation.clone(),
    };
    let command = Command::AttachDerived {
        bucket: claim.task.bucket,
        key: claim.task.key.clone(),
        version: claim.task.version,
        derived: Box::new(derived),
        chunks: written.chunks.clone(),
        task: claim.attempt(),
        generation,
    };
    worker.commit(claim.group, &written, command).await
}
