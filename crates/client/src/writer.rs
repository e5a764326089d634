//! Objects on their way in: bytes of any number, in memory that does not grow
//! with them.
//!
//! Up to [`INLINE_LIMIT_BYTES`] stay in memory and travel in the metadata
//! command. What is longer is cut into chunks, and each chunk streamed by
//! stripes to as many disks as it has fragments. While one chunk is being made
//! durable the next one begins; no third does.
//!
//! What an upload holds of its [`MemoryBudget`] is [`WRITER_BYTES`]: a stripe
//! that is being filled, one that is offered, one in each queue (shared by all
//! fragments), one on its way. A piece given to [`ObjectWriter::write`] is the
//! caller's. Beside it there are at most [`MAX_CHUNKS_PER_COMMAND`](holdfast_metadata::command::MAX_CHUNKS_PER_COMMAND)
//! chunk rows.
//!
//! **Clean-up.** Fragments carry the group's generation of the upload's start.
//! An upload that takes longer than [`INTENT_AFTER`], or has more chunks than
//! fit a command, records its intent in the group and renews it. Whoever drops
//! a writer leaves orphans, which the clean-up finds; [`ObjectWriter::abort`]
//! spares it the work. What is handed out by [`ObjectWriter::finish`] must not
//! be deleted by the caller once a commit of it may have been sent.

mod chunk;
mod chunked;
mod fragment;
mod intent;
mod stripes;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_model::record::{Coding, INLINE_LIMIT_BYTES, MAX_CHUNK_BYTES, STRIPE_BYTES};
use holdfast_model::{
    BucketId, Chunk, Generation, ObjectKey, Part, Representation, Timestamp, VersionId,
};
use sha2::{Digest, Sha256};

use self::chunked::Chunked;
use crate::budget::{MemoryBudget, Permit};
use crate::cluster::Cluster;
use crate::error::ClusterError;

pub use self::intent::{INTENT_AFTER, RENEW_INTENT_EVERY};
pub(crate) use self::stripes::check_supported;

/// What an upload holds of the memory budget.
pub const WRITER_BYTES: u64 = 4 * STRIPE_BYTES as u64;
/// The most stored bytes of a chunk that the caller cuts: one that does not
/// get smaller when it is compressed gets a little larger.
pub const MAX_CODED_CHUNK_BYTES: u64 = MAX_CHUNK_BYTES + (64 << 10);

/// Which object is being written.
#[derive(Clone, Debug)]
pub struct ObjectTarget {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key, which decides its group.
    pub key: ObjectKey,
    /// The version that is to be.
    pub version: VersionId,
    /// Its expiry, for the fragments' closing records.
    pub expires: Option<Timestamp>,
}

/// What was written, ready to be committed.
#[derive(Clone, PartialEq, Debug)]
pub struct Written {
    /// Where the bytes are. [`Coding::Identity`], or [`Coding::Zstd`] when the
    /// caller cut coded chunks; of inline bytes the caller knows the coding.
    pub representation: Representation,
    /// Chunks that the group has not been told yet.
    pub chunks: Vec<Chunk>,
    /// The generation that the fragments carry; none when there are none.
    pub generation: Option<Generation>,
    /// Bytes written.
    pub size: u64,
    /// SHA-256 of the bytes written.
    pub sha256: [u8; 32],
}

/// Takes an object's bytes in.
pub struct ObjectWriter {
    cluster: Cluster,
    target: ObjectTarget,
    trace: Option<String>,
    budget: Arc<MemoryBudget>,
    permit: Option<Permit>,
    /// Whether the object is thought to be small, so that it takes little of the budget.
    thought_small: bool,
    started: Duration,
    hash: Sha256,
    size: u64,
    buffer: BytesMut,
    /// A cut that was asked for: what the chunk before it holds of the object,
    /// where that is not its length.
    cut: Option<Option<u32>>,
    coded: bool,
    chunked: Option<Chunked>,
}

impl ObjectWriter {
    /// A writer of `target`. A `size_hint` within the inline limit saves budget.
    pub fn new(
        cluster: &Cluster,
        target: ObjectTarget,
        size_hint: Option<u64>,
        budget: Arc<MemoryBudget>,
    ) -> Self {
        Self {
            started: cluster.env().clock.monotonic(),
            cluster: cluster.clone(),
            target,
            trace: None,
            budget,
            permit: None,
            thought_small: size_hint.is_some_and(|size| size <= INLINE_LIMIT_BYTES),
            hash: Sha256::new(),
            size: 0,
            buffer: BytesMut::new(),
            cut: None,
            coded: false,
            chunked: None,
        }
    }

    /// Sends a client's request id along with every call.
    pub fn with_trace(mut self, trace: Option<String>) -> Self {
        self.trace = trace;
        self
    }

    /// Takes bytes, and waits while the nodes are behind.
    ///
    /// # Errors
    /// When fewer nodes than are enough take the object, or its group cannot
    /// be asked. The writer is of no use any more, but for [`Self::abort`].
    pub async fn write(&mut self, data: Bytes) -> Result<(), ClusterError> {
        let result = self.take(data).await;
        result.map_err(|error| self.with_reason(error))
    }

    /// Where the object's group cannot decide anything either, that is what the
    /// client hears, whichever of the two was noticed first.
    fn with_reason(&self, error: ClusterError) -> ClusterError {
        match (&error, &self.chunked) {
            (ClusterError::NotEnoughNodes { .. }, Some(chunked))
                if self.cluster.lacks_majority(chunked.group) =>
            {
                ClusterError::NoQuorum {
                    group: chunked.group,
                }
            }
            _ => error,
        }
    }

    async fn take(&mut self, mut data: Bytes) -> Result<(), ClusterError> {
        self.hash.update(&data);
        self.size += data.len() as u64;
        while !data.is_empty() {
            if self.permit.is_none() {
                let bytes = if self.thought_small {
                    INLINE_LIMIT_BYTES
                } else {
                    WRITER_BYTES
                };
                self.permit = Some(self.budget.take(bytes).await);
            }
            let inline = self.chunked.is_none();
            if inline {
                let total = self.buffer.len() as u64 + data.len() as u64;
                if total > INLINE_LIMIT_BYTES || self.cut.is_some() {
                    self.begin_chunks().await?;
                } else {
                    self.buffer.extend_from_slice(&data);
                    return Ok(());
                }
            }
            if let Some(object_bytes) = self.cut.take() {
                self.end_chunk(object_bytes).await?;
            }
            let taken = self.take_some(&mut data)?;
            if taken {
                self.send_stripe().await?;
            }
            if self.chunk_is_full() {
                self.end_chunk(None).await?;
            }
        }
        self.keep_intent().await
    }

    /// Ends the current chunk here, however short it is.
    pub fn cut_chunk(&mut self) {
        self.cut = Some(None);
    }

    /// Ends the current chunk here: its bytes are one zstd frame of
    /// `object_bytes` bytes of the object. All chunks but the last must hold
    /// the same number. The caller then cuts every chunk, of at most
    /// [`MAX_CODED_CHUNK_BYTES`].
    pub fn cut_coded_chunk(&mut self, object_bytes: u32) {
        self.coded = true;
        self.cut = Some(Some(object_bytes));
    }

    /// Says before the first write that every chunk will be cut by
    /// [`Self::cut_coded_chunk`].
    pub fn coded(mut self) -> Self {
        self.coded = true;
        self
    }

    /// All has been written. Every chunk is durable on enough disks when this
    /// returns.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(mut self) -> Result<Written, ClusterError> {
        if self.chunked.is_none() && !self.buffer.is_empty() && self.is_room_scarce()? {
            self.begin_chunks().await?;
        }
        if self.chunked.is_some() {
            let last_cut = self.cut.take().flatten();
            let ended = self.end_chunk(last_cut).await;
            ended.map_err(|error| self.with_reason(error))?;
            let settled = self.settle_closing().await;
            settled.map_err(|error| self.with_reason(error))?;
        }
        let sha256 = std::mem::take(&mut self.hash).finalize().into();
        let coding = if self.coded {
            Coding::Zstd
        } else {
            Coding::Identity
        };
        let (size, bytes) = (self.size, std::mem::take(&mut self.buffer).freeze());
        Ok(match self.chunked.take() {
            None => Written {
                representation: Representation::Inline { bytes, coding },
                chunks: Vec::new(),
                generation: None,
                size,
                sha256,
            },
            Some(chunked) => Written {
                representation: Representation::Chunked {
                    parts: vec![Part {
                        upload: chunked.upload,
                        chunks: chunked.next_index,
                        size: chunked.object_bytes,
                        chunk_bytes: chunked.chunk_bytes.unwrap_or_default(),
                        sums: Default::default(),
                    }],
                    coding,
                },
                chunks: chunked.held,
                generation: Some(chunked.generation),
                size,
                sha256,
            },
        })
    }

    /// Whether a member of the object's group is full: what travels inside a
    /// command lands in the state of every member, and one that is full could go
    /// on only on its reserve. The bytes go to other disks then.
    ///
    /// # Errors
    /// [`ClusterError::DiskFull`] when so many are full that no majority has room.
    fn is_room_scarce(&self) -> Result<bool, ClusterError> {
        let state = self.cluster.require_state()?;
        let group = self
            .cluster
            .group_of(self.target.bucket, &self.target.key)?;
        let uses = self.cluster.manager().uses();
        let members = state
            .layout
            .groups
            .get(&group)
            .map_or(&[][..], Vec::as_slice);
        let full = members
            .iter()
            .filter_map(|disk| uses.get(disk))
            .filter(|room| room.answers && room.inline_full)
            .count();
        if full > 0 && full * 2 >= members.len() {
            return Err(ClusterError::DiskFull);
        }
        Ok(full > 0)
    }

    /// Moves bytes to the buffer, up to a whole stripe or the chunk's end.
    /// True when a stripe is to be sent.
    fn take_some(&mut self, data: &mut Bytes) -> Result<bool, ClusterError> {
        let stored = self.open_bytes();
        let limit = if self.coded {
            MAX_CODED_CHUNK_BYTES
        } else {
            MAX_CHUNK_BYTES
        };
        let room = (limit - stored.min(limit)) as usize;
        let stripe = (STRIPE_BYTES as usize).min(room);
        let missing = stripe.saturating_sub(self.buffer.len());
        if missing == 0 && self.coded {
            return Err(ClusterError::Internal(format!(
                "a coded chunk is longer than {MAX_CODED_CHUNK_BYTES} bytes"
            )));
        }
        let taken = data.split_to(missing.min(data.len()));
        self.buffer.extend_from_slice(&taken);
        Ok(self.buffer.len() >= stripe)
    }

    fn open_bytes(&self) -> u64 {
        let open = self.chunked.as_ref().and_then(|c| c.open.as_ref());
        open.map_or(0, |open| open.stored)
    }

    fn chunk_is_full(&self) -> bool {
        !self.coded && self.open_bytes() >= MAX_CHUNK_BYTES
    }
}
