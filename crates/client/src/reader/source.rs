//! A chunk's stored bytes, from whichever fragment gives them.
//!
//! Fragments are tried in order: nodes that are up first, among those a random
//! one. When one fails in mid-chunk the next goes on at the byte that was due.
//! When none is left the chunk's row is fetched once more, since repair may
//! have moved fragments meanwhile, and all are tried a second time.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use holdfast_metadata::command::MissingFragment;
use holdfast_metadata::protocol::{BLOCK_BYTES, DownloadRequest, NodeError};
use holdfast_model::{Chunk, FragmentPlace, GroupId, UploadId};
use holdfast_runtime::TransportError;
use holdfast_runtime::clock::within;

use crate::blocks::BlockDecoder;
use crate::cluster::Cluster;
use crate::error::{CallError, ClusterError};
use crate::node::{DOWNLOAD_DEADLINE, Pieces};

/// How long a node may give nothing in the middle of a fragment. Less than the
/// transport allows: there is another fragment.
const PIECE_DEADLINE: Duration = Duration::from_secs(5);
/// How often a chunk's fragments are all tried.
const PASSES: u32 = 2;

/// Reads a range of a chunk's stored bytes.
pub(super) struct ChunkSource {
    group: GroupId,
    upload: UploadId,
    chunk: Chunk,
    /// The stored byte that is delivered next.
    next: u64,
    end: u64,
    places: VecDeque<FragmentPlace>,
    passes: u32,
    open: Option<OpenFragment>,
    /// Fragments that are not where the row says.
    pub missing: Vec<MissingFragment>,
}

struct OpenFragment {
    place: FragmentPlace,
    pieces: Pieces,
    blocks: BlockDecoder,
    /// The stored byte with which the next block begins.
    at: u64,
}

impl ChunkSource {
    pub fn new(
        cluster: &Cluster,
        group: GroupId,
        upload: UploadId,
        chunk: Chunk,
        range: Range<u64>,
    ) -> Self {
        Self {
            group,
            upload,
            next: range.start,
            end: range.end.min(u64::from(chunk.stored)),
            places: in_order(cluster, &chunk.fragments),
            chunk,
            passes: 1,
            open: None,
            missing: Vec::new(),
        }
    }

    pub fn upload(&self) -> UploadId {
        self.upload
    }

    pub fn chunk(&self) -> u32 {
        self.chunk.index
    }

    /// The next verified bytes, at most a block; `None` at the range's end.
    pub async fn block(&mut self, cluster: &Cluster) -> Result<Option<Bytes>, ClusterError> {
        while self.next < self.end {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => {
                    let place = self.next_place(cluster).await?;
                    match self.open(cluster, place).await {
                        Ok(open) => open,
                        Err(error) => {
                            self.note(place, &error);
                            continue;
                        }
                    }
                }
            };
            match self.next_of(cluster, &mut open).await {
                Ok(block) => {
                    self.next += block.len() as u64;
                    self.open = Some(open);
                    return Ok(Some(block));
                }
                Err(error) => self.note(open.place, &error),
            }
        }
        self.open = None;
        Ok(None)
    }

    async fn next_place(&mut self, cluster: &Cluster) -> Result<FragmentPlace, ClusterError> {
        loop {
            if let Some(place) = self.places.pop_front() {
                return Ok(place);
            }
            if self.passes >= PASSES {
                return Err(ClusterError::DataUnavailable {
                    upload: self.upload,
                    chunk: self.chunk.index,
                });
            }
            self.passes += 1;
            // Without the group the row at hand is as good as it gets.
            match super::fetch_rows(cluster, self.group, self.upload, self.chunk.index, 1).await {
                Ok(rows) => {
                    if let Some(row) = rows.into_iter().find(|r| r.index == self.chunk.index) {
                        self.chunk.fragments = row.fragments;
                    }
                }
                Err(error) => tracing::debug!(%error, "a chunk's row could not be read again"),
            }
            let gone = |place: &FragmentPlace| self.missing.iter().any(|m| m.place == *place);
            let places = in_order(cluster, &self.chunk.fragments);
            self.places = places.into_iter().filter(|p| !gone(p)).collect();
        }
    }

    async fn open(
        &mut self,
        cluster: &Cluster,
        place: FragmentPlace,
    ) -> Result<OpenFragment, CallError> {
        let node = cluster
            .manager()
            .node_of_disk(place.disk)
            .ok_or_else(|| NodeError::Mistaken("no node has the disk".into()))?;
        let request = DownloadRequest {
            disk: place.disk,
            id: place.id(self.group, self.upload, self.chunk.index),
            first: self.next,
            end: self.end,
        };
        let limit = DOWNLOAD_DEADLINE;
        let (head, pieces) = within(&*cluster.env().clock, limit, node.download(&request, None))
            .await
            .unwrap_or(Err(TransportError::Deadline { limit }.into()))?;
        if head.bytes != u64::from(self.chunk.stored) {
            // Another length than was committed: whatever it is, it is not
            // this fragment.
            return Err(NodeError::Corrupt.into());
        }
        if head.first != self.next - self.next % BLOCK_BYTES as u64 {
            let reason = format!("a fragment begins at byte {}", head.first);
            return Err(TransportError::Malformed { reason }.into());
        }
        Ok(OpenFragment {
            place,
            pieces,
            blocks: BlockDecoder::default(),
            at: head.first,
        })
    }

    /// What of the next block is wanted.
    async fn next_of(
        &mut self,
        cluster: &Cluster,
        open: &mut OpenFragment,
    ) -> Result<Bytes, CallError> {
        let limit = PIECE_DEADLINE;
        loop {
            if let Some(mut block) = open.blocks.next_block().map_err(TransportError::from)? {
                let begins = open.at;
                open.at += block.len() as u64;
                let whole = block.len() == BLOCK_BYTES;
                if !whole && open.at != u64::from(self.chunk.stored) {
                    let reason = "a short block in the middle of a fragment".into();
                    return Err(TransportError::Malformed { reason }.into());
                }
                block.truncate(self.end.saturating_sub(begins).min(BLOCK_BYTES as u64) as usize);
                let skip = self.next.saturating_sub(begins) as usize;
                block.advance(skip.min(block.len()));
                if block.is_empty() {
                    let reason = "blocks that were not asked for".into();
                    return Err(TransportError::Malformed { reason }.into());
                }
                return Ok(block);
            }
            match within(&*cluster.env().clock, limit, open.pieces.next()).await {
                Some(Some(piece)) => open.blocks.push(&piece?),
                Some(None) => {
                    open.blocks.finish().map_err(TransportError::from)?;
                    let reason = "the fragment ends too early".into();
                    return Err(TransportError::Broken { reason }.into());
                }
                None => return Err(TransportError::Deadline { limit }.into()),
            }
        }
    }

    fn note(&mut self, place: FragmentPlace, error: &CallError) {
        tracing::warn!(disk = %place.disk, upload = %self.upload, chunk = self.chunk.index, %error,
            "a fragment could not be read");
        let gone = matches!(
            error,
            CallError::Node(NodeError::NoSuchFragment | NodeError::Corrupt)
        );
        if gone {
            self.missing.push(MissingFragment {
                upload: self.upload,
                chunk: self.chunk.index,
                place,
            });
        }
    }
}

/// Fragments in the order in which to try them.
fn in_order(cluster: &Cluster, places: &[FragmentPlace]) -> VecDeque<FragmentPlace> {
    let mut ranked: Vec<_> = places
        .iter()
        .map(|place| {
            let health = cluster.manager().health_of_disk(place.disk);
            (health, cluster.env().entropy.number(), *place)
        })
        .collect();
    ranked.sort_by_key(|(health, tie, _)| (*health, *tie));
    ranked.into_iter().map(|(_, _, place)| place).collect()
}
