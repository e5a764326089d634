//! The calls about fragments: the disk engine behind the protocol.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_blobs::{
    Closing, Compactor, DeleteError, Engine, FragmentState, IndexError, ReadError, WriteError,
    Written,
};
use holdfast_client::Permit;
use holdfast_client::blocks::{BlockDecoder, encode_known_block};
use holdfast_controller::{CompactDisk, CompactionStep};
use holdfast_metadata::protocol::{
    BLOCK_BYTES, Carried, Deleted, Digests, DigestsRequest, Download, DownloadRequest, FileEntry,
    Files, FilesRequest, FragmentIds, NodeError, RangeDigest, UploadRequest, Uploaded,
};
use holdfast_model::record::{MAX_CHUNK_BYTES, STRIPE_BYTES};
use holdfast_model::{ClusterId, DiskId, FragmentHeader};
use holdfast_runtime::{Body, TransportError};

use crate::limits::Limits;
use crate::load::{Copying, Load, Wait};

/// Fragments in one page.
pub const MAX_FILES: u32 = 10_000;
/// Fragments deleted by one call.
const MAX_DELETED: usize = 1_000;
/// A fragment is at most a chunk, and what coding a stripe rounds up.
const MAX_FRAGMENT_BYTES: u64 = MAX_CHUNK_BYTES + STRIPE_BYTES as u64;

/// What an upload holds in memory: a stripe that is being written, and one that
/// is being collected.
const UPLOAD_BYTES: u64 = 2 * STRIPE_BYTES as u64;
/// What a download holds beside a stripe that is on its way: a block that is
/// being sent.
const SENDING_BYTES: u64 = BLOCK_BYTES as u64;

/// The fragments of a disk.
#[derive(Clone)]
pub struct Fragments {
    engine: Engine,
    disk: DiskId,
    limits: Arc<Limits>,
    load: Arc<Load>,
}

impl Fragments {
    /// Serves what `engine` holds.
    pub fn new(engine: Engine, disk: DiskId, limits: Arc<Limits>, load: Arc<Load>) -> Self {
        Self {
            engine,
            disk,
            limits,
            load,
        }
    }

    /// Memory for a fragment on its way, and a note that a copy is under way.
    async fn room(&self, bytes: u64, copy: bool) -> Result<OnItsWay, NodeError> {
        let (room, waited) = self.limits.room(bytes, copy).await.inspect_err(|_| {
            if !copy {
                self.load.waited();
            }
        })?;
        if waited && !copy {
            self.load.waited();
        }
        Ok(OnItsWay {
            _room: room,
            _copying: copy.then(|| self.load.copying()),
        })
    }

    /// What is said of the clients' waits to who copies.
    fn pressed(&self, copy: bool) -> Option<bool> {
        copy.then(|| self.load.pressed())
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn check(&self, disk: DiskId) -> Result<(), NodeError> {
        if disk == self.disk {
            return Ok(());
        }
        Err(NodeError::Mistaken(format!("this is disk {}", self.disk)))
    }

    /// Stores a fragment from a stream of blocks.
    pub async fn upload(
        &self,
        cluster: ClusterId,
        request: UploadRequest,
        body: Body,
    ) -> Result<Uploaded, NodeError> {
        self.check(request.disk)?;
        if request.header.cluster != cluster {
            return Err(NodeError::Mistaken(format!("this is cluster {cluster}")));
        }
        if request.max_bytes > MAX_FRAGMENT_BYTES {
            return Err(NodeError::Invalid(format!(
                "a fragment has at most {MAX_FRAGMENT_BYTES} bytes"
            )));
        }
        let closing = Closing {
            key: request.key,
            expires: request.expires,
            // Each block came with its own, which the engine keeps.
            checksum: None,
        };
        let copy = request.copy;
        let _on_its_way = self.room(UPLOAD_BYTES, copy).await?;
        let pieces = Pieces::new(body);
        let written = if request.max_bytes <= STRIPE_BYTES as u64 {
            self.store_small(request.header, request.max_bytes, pieces, closing, copy)
                .await?
        } else {
            self.store(request.header, request.max_bytes, pieces, closing, copy)
                .await?
        };
        metrics::counter!("holdfast_node_bytes_total", "direction" => "in")
            .increment(written.bytes);
        Ok(Uploaded {
            bytes: written.bytes,
            pressed: self.pressed(copy),
        })
    }

    /// Collects what fits in a stripe, so that the engine is asked once.
    async fn store_small(
        &self,
        header: FragmentHeader,
        max_bytes: u64,
        mut pieces: Pieces,
        closing: Closing,
        copy: bool,
    ) -> Result<Written, NodeError> {
        let mut data = BytesMut::new();
        while let Some((block, _)) = pieces.next_block().await? {
            data.extend_from_slice(&block);
            if data.len() as u64 > max_bytes {
                return Err(write_error(WriteError::TooLong { max_bytes }));
            }
        }
        let put = self.engine.put_small(header, data.freeze(), closing);
        let put = self.load.timed(Wait::Write, copy, put);
        put.await.map_err(write_error)
    }

    async fn store(
        &self,
        header: FragmentHeader,
        max_bytes: u64,
        mut pieces: Pieces,
        closing: Closing,
        copy: bool,
    ) -> Result<Written, NodeError> {
        let mut writer = match self.engine.begin(header, max_bytes).await {
            Ok(writer) => writer,
            Err(error) => {
                // To its end: a sender that is cut off in the middle hears of a
                // broken connection, and never that the disk is full.
                while let Some(Ok(_)) = pieces.body.next().await {}
                return Err(write_error(error));
            }
        };
        while let Some((block, checksum)) = pieces.next_block().await? {
            let written = writer.write_verified(block, checksum);
            written.await.map_err(write_error)?;
        }
        let finish = self.load.timed(Wait::Write, copy, writer.finish(closing));
        finish.await.map_err(write_error)
    }

    /// Reads a fragment, or the blocks that hold a range of it.
    pub async fn download(&self, request: DownloadRequest) -> Result<(Download, Body), NodeError> {
        self.check(request.disk)?;
        let block = BLOCK_BYTES as u64;
        let first = request.first - request.first % block;
        let end = request.end.div_ceil(block).saturating_mul(block);
        let wanted = end.saturating_sub(first).min(STRIPE_BYTES as u64);
        let on_its_way = self.room(wanted + SENDING_BYTES, request.copy).await?;
        let read = self.engine.read(request.id, first..end);
        let read = self.load.timed(Wait::Read, request.copy, read);
        let (meta, blocks) = match read.await {
            Ok(read) => read,
            // An empty fragment has no blocks, and is whole.
            Err(error) => return Err(read_error(&error)),
        };
        let generation = meta.header.generation;
        let carried = request.copy.then(|| {
            Box::new(Carried {
                header: meta.header,
                key: meta.key,
                expires: meta.expires,
            })
        });
        let head = Download {
            bytes: meta.bytes,
            first,
            generation,
            carried,
            pressed: self.pressed(request.copy),
        };
        let pieces = blocks
            .map_ok(move |block| {
                // Given back with the last block, or when the reader is gone.
                let _held = &on_its_way;
                metrics::counter!("holdfast_node_bytes_total", "direction" => "out")
                    .increment(block.data.len() as u64);
                let pieces = encode_known_block(block.data, block.checksum);
                stream::iter(pieces.map(Ok::<Bytes, TransportError>))
            })
            .map_err(|error| {
                tracing::warn!(%error, "a fragment could not be read to its end");
                TransportError::Broken {
                    reason: error.to_string(),
                }
            })
            .try_flatten();
        Ok((head, Body::stream(pieces)))
    }

    /// Deletes fragments, durably.
    pub async fn delete(&self, request: FragmentIds) -> Result<Deleted, NodeError> {
        self.check(request.disk)?;
        if request.ids.len() > MAX_DELETED {
            return Err(NodeError::Invalid(format!(
                "at most {MAX_DELETED} fragments at once"
            )));
        }
        // Together, so that they share a sync.
        let deletes = request
            .ids
            .into_iter()
            .map(|id| self.engine.delete_below(id, request.below));
        let mut count = 0;
        for done in futures_util::future::join_all(deletes).await {
            count += u32::from(done.map_err(delete_error)?);
        }
        Ok(Deleted { count })
    }

    /// A page of the disk's fragments.
    pub async fn files(&self, request: &FilesRequest) -> Result<Files, NodeError> {
        if let Some(disk) = request.disk {
            self.check(disk)?;
        }
        let limit = request.limit.clamp(1, MAX_FILES) as usize;
        let listed = self.engine.list(request.after, limit + 1).await;
        let mut entries = listed.map_err(index_error)?;
        if let Some(before) = request.before {
            entries.retain(|entry| entry.id < before);
        }
        let more = entries.len() > limit;
        entries.truncate(limit);
        let files = entries
            .into_iter()
            .map(|entry| FileEntry {
                id: entry.id,
                generation: entry.generation,
                bytes: entry.bytes,
                corrupt: entry.state == FragmentState::Corrupt,
            })
            .collect();
        Ok(Files {
            disk: self.disk,
            files,
            more,
        })
    }

    /// What the disk holds of a group, summed up.
    pub fn digests(&self, request: &DigestsRequest) -> Result<Digests, NodeError> {
        self.check(request.disk)?;
        let digests = self.engine.digests(request.group).into_iter();
        let ranges = digests.map(|(range, digest)| RangeDigest {
            range,
            fragments: digest.fragments,
            names: digest.names,
        });
        Ok(Digests {
            disk: self.disk,
            ranges: ranges.collect(),
        })
    }
}

/// What a fragment holds for as long as it comes or goes.
struct OnItsWay {
    _room: Permit,
    _copying: Option<Copying>,
}

/// The blocks of a body, each verified.
struct Pieces {
    body: BoxStream<'static, Result<Bytes, TransportError>>,
    decoder: BlockDecoder,
    ended: bool,
}

impl Pieces {
    fn new(body: Body) -> Self {
        Self {
            body: body.into_stream().boxed(),
            decoder: BlockDecoder::default(),
            ended: false,
        }
    }

    /// With its crc32c.
    async fn next_block(&mut self) -> Result<Option<(Bytes, u32)>, NodeError> {
        loop {
            let next = self.decoder.next_known_block();
            if let Some(block) = next.map_err(|_| NodeError::Damaged)? {
                return Ok(Some(block));
            }
            if self.ended {
                let decoder = std::mem::take(&mut self.decoder);
                decoder.finish().map_err(|_| NodeError::Damaged)?;
                return Ok(None);
            }
            match self.body.next().await {
                Some(Ok(piece)) => self.decoder.push(&piece),
                Some(Err(error)) => return Err(NodeError::Invalid(error.to_string())),
                None => self.ended = true,
            }
        }
    }
}

/// Compacts the engine for the controller.
pub struct Compacting(Compactor);

impl Compacting {
    /// The one compactor of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self(Compactor::new(engine))
    }
}

impl CompactDisk for Compacting {
    fn step(&mut self) -> BoxFuture<'_, Result<CompactionStep, String>> {
        Box::pin(async {
            let did = self.0.step().await.map_err(|error| error.to_string())?;
            Ok(CompactionStep {
                moved: did.moved,
                bytes: did.bytes,
                corrupt: did.corrupt,
                idle: did.idle,
            })
        })
    }
}

fn write_error(error: WriteError) -> NodeError {
    match error {
        WriteError::Full => NodeError::DiskFull,
        WriteError::Failed(_) => NodeError::DiskFailed,
        WriteError::Ending => NodeError::ShuttingDown,
        WriteError::Index(error) => index_error(error),
        other => NodeError::Invalid(other.to_string()),
    }
}

/// A disk that cannot tell what it holds counts as silent, never as empty.
fn index_error(error: IndexError) -> NodeError {
    match error {
        IndexError::Ending => NodeError::ShuttingDown,
        other => NodeError::Invalid(other.to_string()),
    }
}

fn read_error(error: &ReadError) -> NodeError {
    match error {
        ReadError::NotFound(_) => NodeError::NoSuchFragment,
        ReadError::Corrupt { .. } | ReadError::Io { .. } => NodeError::Corrupt,
        ReadError::Range { .. } | ReadError::Index(_) => NodeError::Invalid(error.to_string()),
        ReadError::Ending => NodeError::ShuttingDown,
    }
}

fn delete_error(error: DeleteError) -> NodeError {
    match error {
        DeleteError::Failed(_) => NodeError::DiskFailed,
        DeleteError::Ending => NodeError::ShuttingDown,
        DeleteError::Io(_) | DeleteError::Index(_) => NodeError::Invalid(error.to_string()),
    }
}

#[cfg(test)]
#[path = "fragments_tests.rs"]
mod tests;
