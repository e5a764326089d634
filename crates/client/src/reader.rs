//! Objects on their way out: verified, whole or an error, never a wrong byte.
//!
//! Chunk by chunk; of each chunk only the blocks that the range needs. A
//! fragment that cannot be read is left for the next one at the very byte where
//! it failed ([`source`]). What is compressed is decoded as it comes
//! ([`decode`]). An object that is written anew meanwhile is read on where it is
//! then ([`record`]). A reader holds [`READER_BYTES`] of its budget, and a window
//! more where it decodes. Fragments found missing or corrupt are reported to
//! their group on the side, which has them repaired.

mod decode;
mod record;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use holdfast_metadata::command::{Command, MissingFragment};
use holdfast_metadata::query::{Answer, Query, UploadChunks};
use holdfast_model::record::{Coding, MAX_CHUNK_BYTES, STRIPE_BYTES};
use holdfast_model::{Chunk, GroupId, Part, Representation, UploadId};

use self::decode::FrameDecoder;
pub use self::record::read_record;
use self::source::ChunkSource;
use crate::budget::{MemoryBudget, Permit};
use crate::cluster::{Cluster, unexpected};
use crate::error::ClusterError;

/// What a download holds of the memory budget: a block that is sent, one that
/// is verified, and what the connection has read ahead.
pub const READER_BYTES: u64 = 2 * STRIPE_BYTES as u64;
/// Chunk rows that are fetched at once.
const ROWS_PAGE: u32 = 64;
/// How long the group may take to tell chunk rows.
const ROWS_DEADLINE: Duration = Duration::from_secs(10);
/// How long a report may try to reach the group; the scrub finds what it misses.
const REPORT_DEADLINE: Duration = Duration::from_secs(10);

/// Reads `range` of an object of `record_size` bytes; what lies past its end is
/// not there. `first_chunks` are rows that came with the record.
///
/// The stream ends after exactly the range, or with an error.
pub fn read_object(
    cluster: &Cluster,
    group: GroupId,
    record_size: u64,
    representation: &Representation,
    first_chunks: Vec<UploadChunks>,
    range: Range<u64>,
    budget: Arc<MemoryBudget>,
) -> BoxStream<'static, Result<Bytes, ClusterError>> {
    let end = range.end.min(record_size);
    let start = range.start.min(end);
    match representation {
        Representation::Inline { bytes, coding } => {
            read_inline(bytes.clone(), *coding, record_size, start..end)
        }
        Representation::Chunked { parts, coding } => {
            let mut rows = BTreeMap::new();
            for upload in first_chunks {
                for chunk in upload.chunks {
                    rows.insert((upload.upload, chunk.index), chunk);
                }
            }
            let reader = ObjectReader {
                cluster: cluster.clone(),
                group,
                parts: parts.clone(),
                coding: *coding,
                rows,
                next: start,
                end,
                open: None,
                missing: Vec::new(),
                budget,
                permit: None,
            };
            stream::try_unfold(reader, |mut reader| async move {
                Ok(reader.piece().await?.map(|piece| (piece, reader)))
            })
            .boxed()
        }
    }
}

fn read_inline(
    bytes: Bytes,
    coding: Coding,
    size: u64,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes, ClusterError>> {
    if range.is_empty() {
        return stream::empty().boxed();
    }
    match coding {
        Coding::Identity if bytes.len() as u64 == size => {
            let piece = bytes.slice(range.start as usize..range.end as usize);
            stream::once(async { Ok(piece) }).boxed()
        }
        Coding::Identity => {
            let error = ClusterError::Internal("an inline object has another size".into());
            stream::once(async { Err(error) }).boxed()
        }
        Coding::Zstd => match FrameDecoder::new(range, size) {
            Err(error) => stream::once(async { Err(error) }).boxed(),
            Ok(mut decoder) => {
                decoder.push(bytes);
                stream::try_unfold(decoder, |mut decoder| async move {
                    Ok(match decoder.next_piece()? {
                        Some(piece) => Some((piece, decoder)),
                        None => decoder.finish().map(|()| None)?,
                    })
                })
                .boxed()
            }
        },
    }
}

struct ObjectReader {
    cluster: Cluster,
    group: GroupId,
    parts: Vec<Part>,
    coding: Coding,
    rows: BTreeMap<(UploadId, u32), Chunk>,
    /// The object's byte that is delivered next.
    next: u64,
    end: u64,
    open: Option<OpenChunk>,
    missing: Vec<MissingFragment>,
    budget: Arc<MemoryBudget>,
    permit: Option<Permit>,
}

/// The chunk that is being read.
struct OpenChunk {
    source: ChunkSource,
    /// Where coded bytes go through.
    decoder: Option<FrameDecoder>,
    /// The object's byte after the last that is wanted of this chunk.
    end: u64,
}

/// Where a byte of the object lies.
struct Place {
    part: Part,
    index: u32,
    /// The object's bytes that the chunk holds.
    span: Range<u64>,
}

impl ObjectReader {
    async fn piece(&mut self) -> Result<Option<Bytes>, ClusterError> {
        if self.next >= self.end {
            self.report();
            return Ok(None);
        }
        if self.permit.is_none() {
            self.permit = Some(self.budget.take(self.memory()).await);
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_chunk().await?,
        };
        let piece = open.piece(&self.cluster).await;
        self.missing.append(&mut open.source.missing);
        let Some(piece) = piece? else {
            return Err(ClusterError::Internal(format!(
                "chunk {} of upload {} has fewer bytes than its row says",
                open.source.chunk(),
                open.source.upload()
            )));
        };
        self.next += piece.len() as u64;
        if self.next < open.end {
            self.open = Some(open);
        }
        Ok(Some(piece))
    }

    fn memory(&self) -> u64 {
        let window = match self.coding {
            Coding::Identity => 0,
            Coding::Zstd => {
                let chunks = self.parts.iter().map(|part| u64::from(part.chunk_bytes));
                chunks.max().unwrap_or_default().min(MAX_CHUNK_BYTES)
            }
        };
        READER_BYTES + window
    }

    async fn open_chunk(&mut self) -> Result<OpenChunk, ClusterError> {
        let place = place_of(&self.parts, self.next).ok_or_else(|| {
            ClusterError::Internal("the object's parts are shorter than the object".into())
        })?;
        let chunk = self.row(place.part.upload, place.index).await?;
        crate::writer::check_supported(chunk.redundancy)?;
        if u64::from(chunk.size) != place.span.end - place.span.start {
            return Err(ClusterError::Internal(format!(
                "chunk {} of upload {} holds {} bytes of the object, not {}",
                place.index,
                place.part.upload,
                chunk.size,
                place.span.end - place.span.start
            )));
        }
        let end = self.end.min(place.span.end);
        let wanted = self.next - place.span.start..end - place.span.start;
        let size = u64::from(chunk.size);
        let stored = u64::from(chunk.stored);
        let (decoder, stored_range) = match self.coding {
            Coding::Identity => (None, wanted),
            Coding::Zstd => (Some(FrameDecoder::new(wanted, size)?), 0..stored),
        };
        let upload = place.part.upload;
        Ok(OpenChunk {
            source: ChunkSource::new(&self.cluster, self.group, upload, chunk, stored_range),
            decoder,
            end,
        })
    }

    /// A chunk's row, fetched with those after it.
    async fn row(&mut self, upload: UploadId, index: u32) -> Result<Chunk, ClusterError> {
        if let Some(chunk) = self.rows.remove(&(upload, index)) {
            return Ok(chunk);
        }
        self.rows.clear();
        for chunk in fetch_rows(&self.cluster, self.group, upload, index, ROWS_PAGE).await? {
            self.rows.insert((upload, chunk.index), chunk);
        }
        self.rows
            .remove(&(upload, index))
            .ok_or(ClusterError::DataUnavailable {
                upload,
                chunk: index,
            })
    }

    /// Tells the group, on the side, of fragments that are not where it thinks.
    fn report(&mut self) {
        if self.missing.is_empty() {
            return;
        }
        let fragments = std::mem::take(&mut self.missing);
        let (cluster, group) = (self.cluster.clone(), self.group);
        self.cluster.env().tasks.spawn(
            "report-missing",
            Box::pin(async move {
                let id = cluster.request_id();
                let command = Command::ReportMissing { fragments };
                if let Err(error) = cluster
                    .propose(group, id, command, REPORT_DEADLINE, None)
                    .await
                {
                    tracing::warn!(%group, %error, "missing fragments could not be reported");
                }
            }),
        );
    }
}

impl Drop for ObjectReader {
    /// A client that goes away must not take with it what was found out.
    fn drop(&mut self) {
        self.report();
    }
}

impl OpenChunk {
    async fn piece(&mut self, cluster: &Cluster) -> Result<Option<Bytes>, ClusterError> {
        let Some(decoder) = &mut self.decoder else {
            return self.source.block(cluster).await;
        };
        let mut last = None;
        loop {
            match decoder.next_piece()? {
                // The last one is held back until the frame has proved whole.
                Some(piece) if decoder.is_done() => last = Some(piece),
                Some(piece) => return Ok(Some(piece)),
                None if last.is_some() && decoder.finish().is_ok() => return Ok(last),
                None => match self.source.block(cluster).await? {
                    Some(block) => decoder.push(block),
                    None => return decoder.finish().map(|()| last),
                },
            }
        }
    }
}

async fn fetch_rows(
    cluster: &Cluster,
    group: GroupId,
    upload: UploadId,
    from: u32,
    limit: u32,
) -> Result<Vec<Chunk>, ClusterError> {
    let query = Query::Chunks {
        upload,
        from,
        limit,
    };
    match cluster.query(group, query, ROWS_DEADLINE, None).await? {
        Answer::Chunks(chunks) => Ok(chunks),
        other => Err(unexpected(&other)),
    }
}

/// The chunk that holds byte `offset` of an object.
fn place_of(parts: &[Part], offset: u64) -> Option<Place> {
    let mut start = 0;
    for part in parts {
        let end = start + part.size;
        if offset < end {
            let inside = offset - start;
            let index = inside.checked_div(u64::from(part.chunk_bytes))?;
            let first = start + index * u64::from(part.chunk_bytes);
            return Some(Place {
                part: *part,
                index: u32::try_from(index).ok()?,
                span: first..end.min(first + u64::from(part.chunk_bytes)),
            });
        }
        start = end;
    }
    None
}
