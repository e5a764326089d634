//! A chunk's stored bytes, from whichever fragment gives them.
//!
//! Fragments are tried in order: nodes that are up first, among those the ones
//! that were not slow lately, among those a random one. When one lets us wait,
//! another is asked as well, and whichever gives the block first goes on
//! ([`ChunkSource::block`]). When one fails in mid-chunk the next goes on at the byte that was due.
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
use crate::manager::Health;
use crate::node::{DOWNLOAD_DEADLINE, Pieces};

/// How long a node may give nothing in the middle of a fragment. Less than the
/// transport allows: there is another fragment.
const PIECE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a node may let us wait for a block before another one is asked as
/// well: longer than a disk that works takes, and a busy machine.
const HEDGE_AFTER: Duration = Duration::from_millis(150);
/// A node that gives fewer bytes a second than this, time in which nobody asks
/// not counted, uses up that patience by and by.
const SLOW_BYTES_PER_SECOND: u64 = 4 << 20;
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
    /// What it has given.
    bytes: u64,
    /// How long that was waited for.
    waited: Duration,
}

/// What is wanted of any fragment of the chunk.
#[derive(Clone, Copy)]
struct Want {
    group: GroupId,
    upload: UploadId,
    chunk: u32,
    stored: u64,
    next: u64,
    end: u64,
}

/// Where the next block is to come from.
enum Source {
    /// A fragment that is being read.
    Open(OpenFragment),
    /// One that is not open yet.
    Place(FragmentPlace),
}

impl Source {
    fn place(&self) -> FragmentPlace {
        match self {
            Self::Open(open) => open.place,
            Self::Place(place) => *place,
        }
    }

    /// How long to wait for its next block before another fragment is asked as
    /// well: what it has not used up by being slow before.
    fn patience(&self) -> Duration {
        match self {
            Self::Open(open) => {
                let fair = Duration::from_micros(open.bytes * 1_000_000 / SLOW_BYTES_PER_SECOND);
                let allowed = HEDGE_AFTER.saturating_add(fair);
                allowed.saturating_sub(open.waited).min(HEDGE_AFTER)
            }
            Self::Place(_) => HEDGE_AFTER,
        }
    }
}

/// What one or two attempts have come to.
struct Outcome {
    won: Option<(OpenFragment, Bytes)>,
    failed: Vec<(FragmentPlace, CallError)>,
}

impl Outcome {
    fn of(result: Result<(OpenFragment, Bytes), CallError>, place: FragmentPlace) -> Self {
        match result {
            Ok(won) => Self {
                won: Some(won),
                failed: Vec::new(),
            },
            Err(error) => Self {
                won: None,
                failed: vec![(place, error)],
            },
        }
    }

    /// Waits for the other attempt when this one has failed.
    async fn or(
        mut self,
        other: impl Future<Output = Result<(OpenFragment, Bytes), CallError>>,
        place: FragmentPlace,
    ) -> Self {
        if self.won.is_none() {
            let mut second = Self::of(other.await, place);
            self.won = second.won;
            self.failed.append(&mut second.failed);
        }
        self
    }
}

impl ChunkSource {
    pub fn new(
        cluster: &Cluster,
        group: GroupId,
        upload: UploadId,
        chunk: Chunk,
        range: Range<u64>,
    ) -> Self {
        cluster.manager().laggards().earn();
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
            let source = match self.open.take() {
                Some(open) => Source::Open(open),
                None => Source::Place(self.next_place(cluster).await?),
            };
            if let Some((open, block)) = self.race(cluster, source).await {
                self.next += block.len() as u64;
                self.open = Some(open);
                return Ok(Some(block));
            }
        }
        self.open = None;
        Ok(None)
    }

    /// The next block of one fragment, or of another one when the first lets
    /// us wait for longer than its patience: whichever comes first. None when
    /// those that were asked have failed.
    async fn race(&mut self, cluster: &Cluster, source: Source) -> Option<(OpenFragment, Bytes)> {
        let clock = &*cluster.env().clock;
        let want = Want {
            group: self.group,
            upload: self.upload,
            chunk: self.chunk.index,
            stored: u64::from(self.chunk.stored),
            next: self.next,
            end: self.end,
        };
        let (place, patience) = (source.place(), source.patience());
        let began = clock.monotonic();
        let (outcome, hedged) = {
            let first = want.attempt(cluster, source);
            tokio::pin!(first);
            match within(clock, patience, &mut first).await {
                Some(outcome) => (Outcome::of(outcome, place), None),
                None => match self.place_for_hedge(cluster) {
                    None => (Outcome::of(first.await, place), None),
                    Some(other) => {
                        metrics::counter!("holdfast_hedged_reads_total").increment(1);
                        let second = want.attempt(cluster, Source::Place(other));
                        tokio::pin!(second);
                        let outcome = tokio::select! {
                            biased;
                            done = &mut first => Outcome::of(done, place).or(second, other).await,
                            done = &mut second => Outcome::of(done, other).or(first, place).await,
                        };
                        (outcome, Some(other))
                    }
                },
            }
        };
        let Outcome { mut won, failed } = outcome;
        if let Some((open, _)) = &mut won {
            open.waited += clock.monotonic().saturating_sub(began);
        }
        if let Some(other) = hedged {
            self.places.retain(|at| *at != other);
            let winner = won.as_ref().map(|(open, _)| open.place);
            if winner == Some(other) {
                cluster.manager().note_slow(place.disk);
            }
            // Who was not needed, or only slow, may be asked again, last.
            for asked in [place, other] {
                let has_failed = failed.iter().any(|(at, _)| *at == asked);
                if winner != Some(asked) && !has_failed {
                    self.places.push_back(asked);
                }
            }
        }
        for (place, error) in failed {
            self.note(place, &error);
        }
        won
    }

    /// Another fragment, whose node is up and not slow, if a hedge may be made.
    fn place_for_hedge(&self, cluster: &Cluster) -> Option<FragmentPlace> {
        let manager = cluster.manager();
        let fit = |place: &&FragmentPlace| {
            manager.health_of_disk(place.disk) == Health::Up && !manager.is_slow(place.disk)
        };
        let place = self.places.iter().find(fit)?;
        manager.laggards().may_hedge().then_some(*place)
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

impl Want {
    /// Opens a fragment where it is not open yet, and reads its next block.
    async fn attempt(
        self,
        cluster: &Cluster,
        source: Source,
    ) -> Result<(OpenFragment, Bytes), CallError> {
        let mut open = match source {
            Source::Open(open) => open,
            Source::Place(place) => self.open(cluster, place).await?,
        };
        let block = self.next_of(cluster, &mut open).await?;
        open.bytes += block.len() as u64;
        Ok((open, block))
    }

    async fn open(
        self,
        cluster: &Cluster,
        place: FragmentPlace,
    ) -> Result<OpenFragment, CallError> {
        let node = cluster
            .manager()
            .node_of_disk(place.disk)
            .ok_or_else(|| NodeError::Mistaken("no node has the disk".into()))?;
        let request = DownloadRequest {
            disk: place.disk,
            id: place.id(self.group, self.upload, self.chunk),
            first: self.next,
            end: self.end,
            copy: false,
        };
        let limit = DOWNLOAD_DEADLINE;
        let (head, pieces) = within(&*cluster.env().clock, limit, node.download(&request, None))
            .await
            .unwrap_or(Err(TransportError::Deadline { limit }.into()))?;
        if head.bytes != self.stored {
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
            bytes: 0,
            waited: Duration::ZERO,
        })
    }

    /// What of the next block is wanted.
    async fn next_of(self, cluster: &Cluster, open: &mut OpenFragment) -> Result<Bytes, CallError> {
        let limit = PIECE_DEADLINE;
        loop {
            if let Some(mut block) = open.blocks.next_block().map_err(TransportError::from)? {
                let begins = open.at;
                open.at += block.len() as u64;
                let whole = block.len() == BLOCK_BYTES;
                if !whole && open.at != self.stored {
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
}

/// Fragments in the order in which to try them.
fn in_order(cluster: &Cluster, places: &[FragmentPlace]) -> VecDeque<FragmentPlace> {
    let mut ranked: Vec<_> = places
        .iter()
        .map(|place| {
            let health = cluster.manager().health_of_disk(place.disk);
            let slow = cluster.manager().is_slow(place.disk);
            ((health, slow, cluster.env().entropy.number()), *place)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, place)| place).collect()
}
