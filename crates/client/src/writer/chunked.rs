//! An object that is longer than the inline limit: its chunks, one after the
//! other, each on the disks that were chosen for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast_metadata::command::MAX_CHUNKS_PER_COMMAND;
use holdfast_metadata::protocol::UploadRequest;
use holdfast_model::record::STRIPE_BYTES;
use holdfast_model::{
    Chunk, ClusterState, DiskId, FragmentHeader, FragmentId, Generation, GroupId, UploadId,
};

use super::chunk::{Behind, ChunkShape, ClosingChunk, OpenChunk};
use super::fragment::FragmentUpload;
use super::stripes::{check_supported, stripe_columns};
use super::{MAX_CODED_CHUNK_BYTES, ObjectTarget, ObjectWriter, WRITER_BYTES};
use crate::cluster::Cluster;
use crate::error::ClusterError;

/// What there is once the object is longer than the inline limit.
pub(super) struct Chunked {
    pub state: Arc<ClusterState>,
    pub group: GroupId,
    pub upload: UploadId,
    pub generation: Generation,
    pub open: Option<OpenChunk>,
    pub closing: Option<ClosingChunk>,
    /// Settled and not yet appended.
    pub held: Vec<Chunk>,
    pub next_index: u32,
    pub chunk_bytes: Option<u32>,
    pub object_bytes: u64,
    /// Whether the last chunk cut is shorter than the first, so that none may follow.
    pub short: bool,
    pub avoid: BTreeSet<DiskId>,
    /// When the intent was last recorded.
    pub intent: Option<Duration>,
}

impl ObjectWriter {
    pub(super) async fn begin_chunks(&mut self) -> Result<(), ClusterError> {
        if std::mem::take(&mut self.thought_small) {
            // Given back first: who holds some and waits for more can block everybody.
            self.permit = None;
            self.permit = Some(self.budget.take(WRITER_BYTES).await);
        }
        let state = self.cluster.require_state()?;
        check_supported(state.layout.redundancy)?;
        let group = self
            .cluster
            .group_of(self.target.bucket, &self.target.key)?;
        self.chunked = Some(Chunked {
            state,
            group,
            upload: UploadId::from_bytes(self.cluster.env().entropy.id()),
            generation: self.cluster.generation(group).await?,
            open: None,
            closing: None,
            held: Vec::new(),
            next_index: 0,
            chunk_bytes: None,
            object_bytes: 0,
            short: false,
            avoid: BTreeSet::new(),
            intent: None,
        });
        Ok(())
    }

    /// Sends what is in the buffer as a stripe of the open chunk, which is
    /// opened if there is none.
    pub(super) async fn send_stripe(&mut self) -> Result<(), ClusterError> {
        let stripe = self.buffer.split().freeze();
        if stripe.is_empty() {
            return Ok(());
        }
        self.open_chunk()?;
        let Some(chunked) = &mut self.chunked else {
            return Err(lost());
        };
        let Some(open) = &mut chunked.open else {
            return Err(lost());
        };
        let bytes = stripe.len();
        let columns = stripe_columns(open.shape.redundancy, stripe)?;
        let behind = open.send(self.cluster.env(), &columns, bytes).await?;
        leave_behind(&self.cluster, chunked, behind);
        Ok(())
    }

    fn open_chunk(&mut self) -> Result<(), ClusterError> {
        let Some(chunked) = &mut self.chunked else {
            return Err(lost());
        };
        if chunked.open.is_some() {
            return Ok(());
        }
        if chunked.short {
            return Err(ClusterError::Internal(
                "only the last chunk of an object may be shorter than the others".into(),
            ));
        }
        let shape = ChunkShape {
            index: chunked.next_index,
            redundancy: chunked.state.layout.redundancy,
            stripe_bytes: STRIPE_BYTES,
            generation: chunked.generation,
        };
        let fragments = start_fragments(&self.cluster, &self.target, &self.trace, chunked, shape)?;
        chunked.open = Some(OpenChunk::new(shape, fragments));
        chunked.next_index += 1;
        Ok(())
    }

    /// Ends the open chunk, once the one before it is durable.
    pub(super) async fn end_chunk(
        &mut self,
        object_bytes: Option<u32>,
    ) -> Result<(), ClusterError> {
        self.send_stripe().await?;
        self.settle_closing().await?;
        let Some(chunked) = &mut self.chunked else {
            return Err(lost());
        };
        let Some(open) = chunked.open.take() else {
            return Ok(());
        };
        let size = object_bytes.unwrap_or(open.stored as u32);
        let usual = *chunked.chunk_bytes.get_or_insert(size);
        if size > usual {
            return Err(ClusterError::Internal(
                "a chunk holds more of the object than those before it".into(),
            ));
        }
        chunked.short = size < usual;
        chunked.object_bytes += u64::from(size);
        let (closing, behind) = open.end(self.cluster.env(), size).await?;
        chunked.closing = Some(closing);
        leave_behind(&self.cluster, chunked, behind);
        Ok(())
    }

    pub(super) async fn settle_closing(&mut self) -> Result<(), ClusterError> {
        let Some(chunked) = &mut self.chunked else {
            return Ok(());
        };
        let Some(closing) = chunked.closing.take() else {
            return Ok(());
        };
        let settled = closing.settle(self.cluster.env()).await?;
        for disk in &settled.late {
            self.cluster.manager().note_slow(*disk);
        }
        chunked.avoid.extend(settled.failed);
        chunked.held.push(settled.chunk);
        if chunked.held.len() > MAX_CHUNKS_PER_COMMAND {
            self.append_held().await?;
        }
        Ok(())
    }
}

/// The rest of the upload, and for a while everybody else, goes on without
/// those that were left behind.
fn leave_behind(cluster: &Cluster, chunked: &mut Chunked, behind: Behind) {
    for disk in &behind.late {
        cluster.manager().note_slow(*disk);
    }
    chunked.avoid.extend(behind.late);
    chunked.avoid.extend(behind.failed);
}

/// Starts an upload to each of the disks chosen for a chunk.
fn start_fragments(
    cluster: &Cluster,
    target: &ObjectTarget,
    trace: &Option<String>,
    chunked: &Chunked,
    shape: ChunkShape,
) -> Result<Vec<FragmentUpload>, ClusterError> {
    let count = shape.redundancy.fragments();
    let need = shape.redundancy.enough();
    let mut avoid = chunked.avoid.clone();
    avoid.extend(cluster.manager().slow_disks());
    // Who is slow is left out where enough others remain, even if the chunk is
    // born with a fragment less: repair makes that one, and nobody waits for it.
    let mut disks = cluster.manager().pick_avoiding(count, &[], &avoid);
    if disks.len() < need {
        disks = cluster.manager().pick_avoiding(count, &[], &chunked.avoid);
    }
    if disks.len() < need {
        // A disk that was slow once, under load, is better than none.
        disks = cluster.manager().pick(count, &[]);
    }
    let nodes: Vec<_> = disks
        .into_iter()
        .filter_map(|disk| Some((disk, cluster.manager().node_of_disk(disk)?)))
        .collect();
    if nodes.len() < need {
        let manager = cluster.manager();
        return Err(if manager.lacks_room_only(need, &chunked.avoid) {
            ClusterError::DiskFull
        } else {
            let have = nodes.len();
            ClusterError::NotEnoughNodes { have, need }
        });
    }
    let start = |(index, (disk, node))| {
        let request = UploadRequest {
            disk,
            header: FragmentHeader {
                id: FragmentId {
                    group: chunked.group,
                    upload: chunked.upload,
                    chunk: shape.index,
                    index,
                },
                cluster: chunked.state.cluster,
                bucket: target.bucket,
                version: target.version,
                redundancy: shape.redundancy,
                stripe_bytes: shape.stripe_bytes,
                generation: shape.generation,
                encryption_key: None,
            },
            max_bytes: MAX_CODED_CHUNK_BYTES,
            key: Some(target.key.clone()),
            expires: target.expires,
            copy: false,
        };
        FragmentUpload::start(cluster.env(), node, request, trace.clone())
    };
    Ok((0u8..).zip(nodes).map(start).collect())
}

fn lost() -> ClusterError {
    ClusterError::Internal("a writer was used after it had failed".into())
}
