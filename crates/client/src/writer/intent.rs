//! What a long upload tells its group before its commit, and what an aborted
//! one takes back.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_metadata::command::{Command, MAX_CHUNKS_PER_COMMAND};
use holdfast_metadata::protocol::FragmentIds;
use holdfast_model::{DiskId, FragmentId};
use holdfast_runtime::clock::within;

use super::ObjectWriter;
use crate::error::ClusterError;

/// An upload that takes longer records its intent, so that the clean-up waits for it.
pub const INTENT_AFTER: Duration = Duration::from_secs(30);
/// How often the intent is renewed: several times in the hour that it holds.
pub const RENEW_INTENT_EVERY: Duration = Duration::from_secs(10 * 60);
/// How long the group may take over intents and chunk lists.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// How long an aborted upload tries to tidy up.
const ABORT_DEADLINE: Duration = Duration::from_secs(5);
/// The most fragments that a delete may name.
const DELETE_AT_ONCE: usize = 1_000;

impl ObjectWriter {
    /// Records or renews the intent when it is time to.
    pub(super) async fn keep_intent(&mut self) -> Result<(), ClusterError> {
        let now = self.cluster.env().clock.monotonic();
        let Some(chunked) = &self.chunked else {
            return Ok(());
        };
        let due = match chunked.intent {
            None => now.saturating_sub(self.started) >= INTENT_AFTER,
            Some(last) => now.saturating_sub(last) >= RENEW_INTENT_EVERY,
        };
        if due {
            self.record_intent().await
        } else {
            Ok(())
        }
    }

    async fn record_intent(&mut self) -> Result<(), ClusterError> {
        let Some(chunked) = &mut self.chunked else {
            return Ok(());
        };
        let now = self.cluster.env().clock.monotonic();
        let command = Command::BeginUpload {
            upload: chunked.upload,
            generation: chunked.generation,
            bucket: self.target.bucket,
            key: self.target.key.clone(),
        };
        propose(&self.cluster, chunked.group, command, COMMAND_DEADLINE).await?;
        chunked.intent = Some(now);
        Ok(())
    }

    /// Tells the group the chunks that are held.
    pub(super) async fn append_held(&mut self) -> Result<(), ClusterError> {
        if self.chunked.as_ref().is_some_and(|c| c.intent.is_none()) {
            self.record_intent().await?;
        }
        let Some(chunked) = &mut self.chunked else {
            return Ok(());
        };
        let count = chunked.held.len().min(MAX_CHUNKS_PER_COMMAND);
        let command = Command::AppendChunks {
            upload: chunked.upload,
            chunks: chunked.held.iter().take(count).cloned().collect(),
        };
        propose(&self.cluster, chunked.group, command, COMMAND_DEADLINE).await?;
        chunked.held.drain(..count);
        Ok(())
    }

    /// Gives the object up. Must not be called once a commit of it may have
    /// been sent, which the types see to. Fragments are deleted, and an intent
    /// taken back, as well as that goes in [`ABORT_DEADLINE`]; the clean-up
    /// finds what is left.
    pub async fn abort(self) {
        let cluster = self.cluster.clone();
        within(&*cluster.env().clock, ABORT_DEADLINE, self.tidy_up()).await;
    }

    async fn tidy_up(mut self) {
        let Some(mut chunked) = self.chunked.take() else {
            return;
        };
        // Cuts off what is being sent; those fragments never come to be.
        chunked.open = None;
        if let Some(closing) = chunked.closing.take()
            && let Ok(settled) = closing.settle(self.cluster.env()).await
        {
            chunked.held.push(settled.chunk);
        }
        let mut by_disk: BTreeMap<DiskId, Vec<FragmentId>> = BTreeMap::new();
        for chunk in &chunked.held {
            for place in &chunk.fragments {
                let id = place.id(chunked.group, chunked.upload, chunk.index);
                by_disk.entry(place.disk).or_default().push(id);
            }
        }
        let manager = self.cluster.manager();
        join_all(by_disk.into_iter().map(|(disk, ids)| async move {
            let Some(node) = manager.node_of_disk(disk) else {
                return;
            };
            for ids in ids.chunks(DELETE_AT_ONCE) {
                let ids = ids.to_vec();
                if let Err(error) = node.delete(&FragmentIds { disk, ids, below: None }).await {
                    tracing::debug!(%disk, %error, "fragments of an aborted upload stay for the clean-up");
                    return;
                }
            }
        }))
        .await;
        if chunked.intent.is_some() {
            let upload = chunked.upload;
            let command = Command::AbortUpload { upload };
            if let Err(error) = propose(&self.cluster, chunked.group, command, ABORT_DEADLINE).await
            {
                tracing::debug!(%upload, %error, "an aborted upload's intent stays until it ends");
            }
        }
    }
}

async fn propose(
    cluster: &crate::Cluster,
    group: holdfast_model::GroupId,
    command: Command,
    deadline: Duration,
) -> Result<(), ClusterError> {
    let id = cluster.request_id();
    cluster.propose(group, id, command, deadline, None).await?;
    Ok(())
}
