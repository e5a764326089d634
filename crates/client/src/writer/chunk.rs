//! One chunk on its way to the disks: all its fragments at once.
//!
//! ```text
//! OpenChunk --send*--> OpenChunk --end--> ClosingChunk --settle--> Chunk
//! ```
//!
//! A node that fails, or for which the others have waited [`SLOWER_LIMIT`] in
//! this chunk, is left behind while enough remain; else the chunk fails.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use holdfast_model::{Chunk, DiskId, FragmentPlace, Redundancy};
use holdfast_runtime::Env;
use holdfast_runtime::clock::within;

use super::fragment::{Column, FragmentUpload, Piece};
use crate::error::{CallError, ClusterError};

/// How long enough others may wait for the rest, over all stripes of a chunk:
/// more than one sync of a slow disk, and little beside what an upload of many
/// chunks takes. A limit for each stripe alone would let a node hold back every
/// one of them.
const SLOWER_LIMIT: Duration = Duration::from_secs(2);
/// How long a stripe may take when not even enough nodes take it.
const STRIPE_LIMIT: Duration = Duration::from_secs(30);
/// How long a chunk waits for its last fragments once enough are durable.
const LAST_FRAGMENTS_LIMIT: Duration = Duration::from_secs(2);
/// How long nodes may take to make a fragment durable.
const DURABLE_LIMIT: Duration = Duration::from_secs(30);

/// What a chunk is to be.
#[derive(Clone, Copy)]
pub(super) struct ChunkShape {
    pub index: u32,
    pub redundancy: Redundancy,
    pub stripe_bytes: u32,
    pub generation: holdfast_model::Generation,
}

/// A chunk that takes bytes.
pub(super) struct OpenChunk {
    pub shape: ChunkShape,
    pub stored: u64,
    fragments: Vec<FragmentUpload>,
    /// How long enough fragments have waited for the others so far.
    waited: Duration,
}

/// Who no longer takes part in a chunk.
#[derive(Default)]
pub(super) struct Behind {
    /// Their uploads have ended.
    pub failed: BTreeSet<DiskId>,
    /// They were too slow.
    pub late: BTreeSet<DiskId>,
}

/// A chunk whose bytes are all sent.
pub(super) struct ClosingChunk {
    shape: ChunkShape,
    size: u32,
    stored: u64,
    since: Duration,
    fragments: Vec<FragmentUpload>,
}

/// Who has a chunk in the end.
pub(super) struct Settled {
    pub chunk: Chunk,
    pub failed: BTreeSet<DiskId>,
    /// Of those, who gave no answer in time.
    pub late: BTreeSet<DiskId>,
}

impl OpenChunk {
    pub fn new(shape: ChunkShape, fragments: Vec<FragmentUpload>) -> Self {
        Self {
            shape,
            stored: 0,
            fragments,
            waited: Duration::ZERO,
        }
    }

    /// Sends a stripe of `bytes` bytes to all fragments; who is left behind.
    pub async fn send(
        &mut self,
        env: &Env,
        columns: &[Column],
        bytes: usize,
    ) -> Result<Behind, ClusterError> {
        let column = |index: u8| columns.get(usize::from(index)).cloned();
        let behind = self
            .send_all(env, |index| column(index).map(Piece::Column))
            .await?;
        self.stored += bytes as u64;
        Ok(behind)
    }

    /// Says to all fragments that this was all. `size` is what the chunk holds
    /// of the object.
    pub async fn end(
        mut self,
        env: &Env,
        size: u32,
    ) -> Result<(ClosingChunk, Behind), ClusterError> {
        let behind = self.send_all(env, |_| Some(Piece::End)).await?;
        let closing = ClosingChunk {
            shape: self.shape,
            size,
            stored: self.stored,
            since: env.clock.monotonic(),
            fragments: self.fragments,
        };
        Ok((closing, behind))
    }

    /// Sends every fragment its piece at once: all may take as long as enough
    /// of them need, and the others a little longer.
    async fn send_all(
        &mut self,
        env: &Env,
        piece: impl Fn(u8) -> Option<Piece>,
    ) -> Result<Behind, ClusterError> {
        let enough = self.shape.redundancy.enough();
        let mut done: BTreeSet<u8> = BTreeSet::new();
        let mut ended: BTreeSet<u8> = BTreeSet::new();
        let mut sending: FuturesUnordered<_> = self
            .fragments
            .iter()
            .filter_map(|fragment| Some((fragment, piece(fragment.index)?)))
            .map(|(fragment, piece)| async move { (fragment.index, fragment.send(piece).await) })
            .collect();
        let mut end = env.clock.monotonic().saturating_add(STRIPE_LIMIT);
        let mut enough_at = None;
        loop {
            let left = end.saturating_sub(env.clock.monotonic());
            match within(&*env.clock, left, sending.next()).await {
                None | Some(None) => break,
                Some(Some((index, false))) => {
                    ended.insert(index);
                }
                Some(Some((index, true))) => {
                    done.insert(index);
                    if done.len() == enough {
                        let now = env.clock.monotonic();
                        enough_at = Some(now);
                        end = now.saturating_add(SLOWER_LIMIT.saturating_sub(self.waited));
                    }
                }
            }
        }
        drop(sending);
        if let Some(at) = enough_at {
            self.waited += env.clock.monotonic().saturating_sub(at);
        }
        self.keep(&done, &ended)
    }

    fn keep(&mut self, done: &BTreeSet<u8>, ended: &BTreeSet<u8>) -> Result<Behind, ClusterError> {
        let mut behind = Behind::default();
        self.fragments.retain(|fragment| {
            let keep = done.contains(&fragment.index);
            if !keep {
                tracing::warn!(disk = %fragment.disk, "a node is left behind in an upload");
                match ended.contains(&fragment.index) {
                    true => behind.failed.insert(fragment.disk),
                    false => behind.late.insert(fragment.disk),
                };
            }
            keep
        });
        let (have, need) = (self.fragments.len(), self.shape.redundancy.enough());
        if have < need {
            return Err(ClusterError::NotEnoughNodes { have, need });
        }
        Ok(behind)
    }
}

impl ClosingChunk {
    /// Waits until enough fragments are durable, and a little for the rest.
    pub async fn settle(self, env: &Env) -> Result<Settled, ClusterError> {
        let enough = self.shape.redundancy.enough();
        let mut durable = Vec::new();
        let mut failed: BTreeSet<DiskId> = self.fragments.iter().map(|f| f.disk).collect();
        let mut late = failed.clone();
        let mut full = false;
        let mut end = self.since.saturating_add(DURABLE_LIMIT);
        let expected = self.stored;
        let mut waiting: FuturesUnordered<_> = self
            .fragments
            .into_iter()
            .map(|fragment| async move {
                let place = FragmentPlace {
                    index: fragment.index,
                    disk: fragment.disk,
                };
                (place, fragment.answer.await)
            })
            .collect();
        loop {
            let left = end.saturating_sub(env.clock.monotonic());
            // An answer that is there already counts, however late it is looked at.
            match within(&*env.clock, left, waiting.next()).await {
                None | Some(None) => break,
                Some(Some((place, answer))) => {
                    late.remove(&place.disk);
                    let Ok(answered) = answer else { continue };
                    match answered.result {
                        Ok(bytes) if bytes == expected => {
                            failed.remove(&place.disk);
                            durable.push(place);
                            if durable.len() == enough {
                                end = answered.at.saturating_add(LAST_FRAGMENTS_LIMIT);
                            }
                        }
                        Ok(bytes) => {
                            tracing::error!(disk = %place.disk, bytes, expected,
                                "a node took another number of bytes than were sent");
                        }
                        Err(error) => {
                            tracing::warn!(disk = %place.disk, %error, "a fragment was not stored");
                            full |= is_full(&error);
                        }
                    }
                }
            }
        }
        if durable.len() < enough {
            return Err(if full {
                ClusterError::DiskFull
            } else {
                ClusterError::NotEnoughNodes {
                    have: durable.len(),
                    need: enough,
                }
            });
        }
        durable.sort_by_key(|place| place.index);
        let shape = self.shape;
        Ok(Settled {
            chunk: Chunk {
                index: shape.index,
                size: self.size,
                stored: expected as u32,
                redundancy: shape.redundancy,
                stripe_bytes: shape.stripe_bytes,
                generation: shape.generation,
                fragments: durable,
            },
            failed,
            late,
        })
    }
}

fn is_full(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Node(holdfast_metadata::protocol::NodeError::DiskFull)
    )
}
