//! An object as its record has it, wherever its bytes are by now.
//!
//! A task may write an object anew while somebody reads it; what lay there before
//! is deleted soon after. The bytes of the object are the same, so a reader that
//! finds them gone asks where they are and goes on at the byte where it was.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use holdfast_metadata::query::UploadChunks;
use holdfast_model::{ObjectRecord, Representation, VersionId};

use super::{ROWS_DEADLINE, read_object};
use crate::budget::MemoryBudget;
use crate::cluster::{Cluster, ObjectPlace};
use crate::error::ClusterError;

/// Reads `range` of an object, as [`read_object`] does, and goes on where the
/// bytes of this version were moved to meanwhile.
///
/// The stream ends after exactly the range, or with an error;
/// [`ClusterError::DataUnavailable`] is told only of bytes that the record at that
/// moment does not lead to either.
pub fn read_record(
    cluster: &Cluster,
    at: ObjectPlace,
    record: &ObjectRecord,
    first_chunks: Vec<UploadChunks>,
    range: Range<u64>,
    budget: Arc<MemoryBudget>,
) -> BoxStream<'static, Result<Bytes, ClusterError>> {
    // What came with the record cannot go away.
    if let Representation::Inline { .. } = record.representation {
        let (group, size) = (at.group, record.content.size);
        return read_object(
            cluster,
            group,
            size,
            &record.representation,
            first_chunks,
            range,
            budget,
        );
    }
    let mut reader = RecordReader {
        cluster: cluster.clone(),
        at,
        version: record.version,
        size: record.content.size,
        representation: record.representation.clone(),
        next: range.start,
        end: range.end,
        budget,
        pieces: stream::empty().boxed(),
    };
    reader.open(first_chunks);
    stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.piece().await?.map(|piece| (piece, reader)))
    })
    .boxed()
}

struct RecordReader {
    cluster: Cluster,
    at: ObjectPlace,
    version: VersionId,
    size: u64,
    representation: Representation,
    /// The object's byte that is delivered next.
    next: u64,
    end: u64,
    budget: Arc<MemoryBudget>,
    pieces: BoxStream<'static, Result<Bytes, ClusterError>>,
}

impl RecordReader {
    fn open(&mut self, first_chunks: Vec<UploadChunks>) {
        self.pieces = read_object(
            &self.cluster,
            self.at.group,
            self.size,
            &self.representation,
            first_chunks,
            self.next..self.end,
            self.budget.clone(),
        );
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, ClusterError> {
        loop {
            match self.pieces.next().await {
                None => return Ok(None),
                Some(Ok(piece)) => {
                    self.next += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Some(Err(error)) => self.look_again(error).await?,
            }
        }
    }

    /// Finds the bytes where they are now. Comes to an end: each time they are
    /// somewhere else.
    ///
    /// # Errors
    /// The one that was met, where they are not elsewhere.
    async fn look_again(&mut self, met: ClusterError) -> Result<(), ClusterError> {
        if !matches!(met, ClusterError::DataUnavailable { .. }) {
            return Err(met);
        }
        let now = self.cluster.look_up(&self.at, 0, ROWS_DEADLINE, None).await;
        match now.ok().and_then(|now| now.record) {
            Some(record)
                if record.version == self.version
                    && record.representation != self.representation =>
            {
                tracing::debug!(version = %self.version, at = self.next, "an object was written anew under its reader");
                self.representation = record.representation;
                self.open(Vec::new());
                Ok(())
            }
            _ => Err(met),
        }
    }
}
