//! Reading: each block is verified before it is handed out.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use holdfast_model::{FragmentHeader, FragmentId, ObjectKey, Timestamp};
use holdfast_runtime::TasksExt;

use crate::engine::{Engine, Shared};
use crate::format::{BLOCK_BYTES, ClosingPayload, STRIPE_BYTES, block_check};
use crate::index::{Extent, IndexError};
use crate::segment::Found;

/// Why a fragment, or the rest of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none of that name.
    #[error("fragment {0} is not here")]
    NotFound(FragmentId),
    /// What is on disk is not what was written. The fragment is listed as
    /// corrupt from now on.
    #[error("fragment {id} is corrupt: {what}")]
    Corrupt {
        /// The fragment.
        id: FragmentId,
        /// What did not match.
        what: String,
    },
    /// The range begins after the end.
    #[error("a range from {start} on, of {bytes} bytes")]
    Range {
        /// Where it begins.
        start: u64,
        /// How long the fragment is.
        bytes: u64,
    },
    /// The operating system refused.
    #[error("reading fragment {id}")]
    Io {
        /// The fragment.
        id: FragmentId,
        /// What it said.
        source: io::Error,
    },
    /// The index cannot be read, so nobody knows where it is.
    #[error(transparent)]
    Index(IndexError),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// What a fragment says of itself.
#[derive(Clone, PartialEq, Debug)]
pub struct FragmentMeta {
    /// As it was begun.
    pub header: FragmentHeader,
    /// Bytes of data.
    pub bytes: u64,
    /// crc32c of all of them.
    pub checksum: u32,
    /// The object's key.
    pub key: Option<ObjectKey>,
    /// When it expires.
    pub expires: Option<Timestamp>,
}

/// Verified bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Where in the fragment they are.
    pub offset: u64,
    /// The bytes, at most [`BLOCK_BYTES`].
    pub data: Bytes,
    /// crc32c of them, so that the next hop can verify them.
    pub checksum: u32,
}

/// Verified blocks, in order; an error ends them.
pub type Blocks = BoxStream<'static, Result<Block, ReadError>>;

/// A read under way.
struct Reading {
    shared: Arc<Shared>,
    id: FragmentId,
    extent: Extent,
    closing: ClosingPayload,
    range: Range<u64>,
}

impl Engine {
    /// Reads a range, cut at the end of the fragment. Memory in use is a stripe
    /// of 256 KiB at a time.
    ///
    /// # Errors
    /// Before the first block when the fragment is not here or its closing
    /// record is bad; in the stream for what follows.
    pub async fn read(
        &self,
        id: FragmentId,
        range: Range<u64>,
    ) -> Result<(FragmentMeta, Blocks), ReadError> {
        let shared = self.shared.clone();
        let work = move || open_reading(shared, id, range);
        let done = self.shared.tasks.blocking(work).await;
        let reading = done.unwrap_or(Err(ReadError::Ending))?;
        let closing = &reading.closing;
        let meta = FragmentMeta {
            header: closing.fragment.clone(),
            bytes: closing.bytes,
            checksum: closing.checksum,
            key: closing.key.clone(),
            expires: closing.expires,
        };
        Ok((meta, blocks(reading)))
    }

    /// Reads all of a fragment and its header and compares every checksum: a
    /// step of scrubbing. What is bad is listed as corrupt from now on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn verify(&self, id: FragmentId) -> Result<FragmentMeta, ReadError> {
        let (meta, blocks) = self.read(id, 0..u64::MAX).await?;
        let sum = |sum: u32, block: Block| async move {
            Ok(crc32c::crc32c_combine(
                sum,
                block.checksum,
                block.data.len(),
            ))
        };
        let found = blocks.try_fold(0, sum).await?;
        let shared = self.shared.clone();
        let expected = meta.clone();
        let work = move || {
            let extent = shared.located(&id)?;
            if found != expected.checksum {
                return Err(shared.corrupt(id, &extent, "the sum of its blocks".into()));
            }
            match extent.segment.record_at(extent.offset) {
                Ok(Some((_, Found::Header(header)))) if header.fragment == expected.header => {
                    Ok(())
                }
                Ok(_) => Err(shared.corrupt(id, &extent, "its header".into())),
                Err(source) => Err(shared.unreadable(id, &extent, source)),
            }
        };
        let done = self.shared.tasks.blocking(work).await;
        done.unwrap_or(Err(ReadError::Ending))?;
        Ok(meta)
    }
}

/// Compaction may overtake the look at a place: then there is another.
fn open_reading(
    shared: Arc<Shared>,
    id: FragmentId,
    range: Range<u64>,
) -> Result<Reading, ReadError> {
    loop {
        let extent = shared.located(&id)?;
        let place = extent.place();
        match open_reading_at(shared.clone(), id, extent, range.clone()) {
            Err(ReadError::NotFound(_)) if shared.located(&id)?.place() != place => {}
            other => return other,
        }
    }
}

fn open_reading_at(
    shared: Arc<Shared>,
    id: FragmentId,
    extent: Extent,
    range: Range<u64>,
) -> Result<Reading, ReadError> {
    let closing = match extent.segment.record_at(extent.closing_at()) {
        Ok(Some((_, Found::Closing(closing))))
            if closing.offset == extent.offset && closing.fragment.id == id =>
        {
            closing
        }
        Ok(_) => return Err(shared.corrupt(id, &extent, "its closing record".into())),
        Err(source) => return Err(shared.unreadable(id, &extent, source)),
    };
    let bytes = closing.bytes;
    if range.start > bytes {
        let start = range.start;
        return Err(ReadError::Range { start, bytes });
    }
    let range = range.start..range.end.min(bytes).max(range.start);
    Ok(Reading {
        shared,
        id,
        extent,
        closing,
        range,
    })
}

fn blocks(reading: Reading) -> Blocks {
    let at = reading.range.start;
    stream::unfold(Some((Arc::new(reading), at)), |state| async {
        let (reading, at) = state?;
        if at >= reading.range.end {
            return None;
        }
        let in_work = reading.clone();
        let done = reading
            .shared
            .tasks
            .blocking(move || in_work.stripe_wherever(at))
            .await;
        match done.unwrap_or(Err(ReadError::Ending)) {
            Ok((reading, stripe)) => {
                let next = stripe.last().map_or(reading.range.end, end_of);
                let stripe = stream::iter(stripe.into_iter().map(Ok)).left_stream();
                Some((stripe, Some((reading, next))))
            }
            Err(error) => {
                let error = stream::once(async { Err(error) }).right_stream();
                Some((error, None))
            }
        }
    })
    .flatten()
    .boxed()
}

fn end_of(block: &Block) -> u64 {
    block.offset + block.data.len() as u64
}

impl Reading {
    /// The next blocks, from where the fragment is now if compaction has moved
    /// it meanwhile.
    fn stripe_wherever(self: Arc<Self>, at: u64) -> Result<(Arc<Self>, Vec<Block>), ReadError> {
        let error = match self.stripe(at) {
            Ok(stripe) => return Ok((self, stripe)),
            Err(error @ ReadError::NotFound(_)) => error,
            Err(error) => return Err(error),
        };
        let moved = open_reading(self.shared.clone(), self.id, self.range.clone());
        let same = |moved: &Self| {
            let (ours, theirs) = (&self.closing, &moved.closing);
            (ours.bytes, ours.checksum) == (theirs.bytes, theirs.checksum)
        };
        match moved {
            Ok(moved) if same(&moved) => Arc::new(moved).stripe_wherever(at),
            _ => Err(error),
        }
    }

    /// Reads and verifies the whole blocks around the next bytes.
    fn stripe(&self, at: u64) -> Result<Vec<Block>, ReadError> {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let start = at - at % BLOCK;
        let end = (start + STRIPE_BYTES as u64)
            .min(self.range.end.next_multiple_of(BLOCK))
            .min(self.closing.bytes);
        let from = self.extent.data_at() + start;
        let mut rest = match self
            .extent
            .segment
            .file
            .read_at(from, (end - start) as usize)
        {
            Ok(bytes) => bytes,
            Err(source) => return Err(self.shared.unreadable(self.id, &self.extent, source)),
        };
        let mut verified = Vec::with_capacity(STRIPE_BYTES / BLOCK_BYTES);
        let mut offset = start;
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(BLOCK_BYTES));
            let number = offset / BLOCK;
            let plain = crc32c::crc32c(&data);
            if self.closing.check(number) != Some(block_check(plain, &self.id, number)) {
                let what = format!("block {number}");
                return Err(self.shared.corrupt(self.id, &self.extent, what));
            }
            let next = offset + data.len() as u64;
            verified.push(self.cut(offset, data, plain));
            offset = next;
        }
        Ok(verified)
    }

    /// The part of a verified block that was asked for.
    fn cut(&self, offset: u64, data: Bytes, plain: u32) -> Block {
        let from = self.range.start.saturating_sub(offset) as usize;
        let to = (self.range.end - offset).min(data.len() as u64) as usize;
        if (from, to) == (0, data.len()) {
            return Block {
                offset,
                data,
                checksum: plain,
            };
        }
        let data = data.slice(from.min(to)..to);
        Block {
            offset: offset + from as u64,
            checksum: crc32c::crc32c(&data),
            data,
        }
    }
}

/// Whether every block of a finished extent is what its closing record says,
/// and nobody has begun to free it; and the record's sequence number.
pub(crate) fn soundness(extent: &Extent, id: &FragmentId) -> (bool, u64) {
    let segment = &extent.segment;
    let Ok(Some((sequence, Found::Closing(closing)))) = segment.record_at(extent.closing_at())
    else {
        return (false, 0);
    };
    let freed = matches!(
        segment.record_at(extent.offset),
        Ok(Some((_, Found::Free(_))))
    );
    let own = closing.fragment.id == *id && closing.offset == extent.offset;
    (
        own && !freed && blocks_match(extent, id, &closing),
        sequence,
    )
}

fn blocks_match(extent: &Extent, id: &FragmentId, closing: &ClosingPayload) -> bool {
    let mut at = 0;
    while at < closing.bytes {
        let len = (closing.bytes - at).min(BLOCK_BYTES as u64);
        let from = extent.data_at() + at;
        let Ok(block) = extent.segment.file.read_at(from, len as usize) else {
            return false;
        };
        let number = at / BLOCK_BYTES as u64;
        let check = block_check(crc32c::crc32c(&block), id, number);
        if closing.check(number) != Some(check) {
            return false;
        }
        at += len;
    }
    true
}

impl Shared {
    fn located(self: &Arc<Self>, id: &FragmentId) -> Result<Extent, ReadError> {
        let at = self.entry(id).map_err(ReadError::Index)?;
        at.and_then(|at| self.extent(&at))
            .ok_or(ReadError::NotFound(*id))
    }

    /// Marks a fragment as corrupt; one that was deleted or replaced meanwhile
    /// has only been overtaken.
    fn corrupt(self: &Arc<Self>, id: FragmentId, extent: &Extent, what: String) -> ReadError {
        match self.mark_corrupt(&id, extent.place()) {
            Ok(true) => {
                tracing::warn!(fragment = %id, what, "a fragment is corrupt");
                ReadError::Corrupt { id, what }
            }
            Ok(false) => ReadError::NotFound(id),
            Err(error) => ReadError::Index(error),
        }
    }

    /// What the disk cannot read is as lost as what it reads wrongly.
    fn unreadable(
        self: &Arc<Self>,
        id: FragmentId,
        extent: &Extent,
        source: io::Error,
    ) -> ReadError {
        match self.corrupt(id, extent, format!("unreadable: {source}")) {
            ReadError::Corrupt { .. } => ReadError::Io { id, source },
            other => other,
        }
    }
}
