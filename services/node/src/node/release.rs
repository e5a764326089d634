//! What a node does about the formats that its cluster writes: it notes them on
//! its volume before anything is written in them, ends where it cannot read
//! them, and has group 0 raise them when it is told to.

use std::time::Duration;

use holdfast_client::ClusterError;
use holdfast_metadata::protocol::{FinalizeRequest, NodeError};
use holdfast_model::{ActiveRelease, GroupId};
use holdfast_runtime::{Fatal, TasksExt};

use super::Node;
use crate::identity::Identity;

/// How long group 0 may take.
const DEADLINE: Duration = Duration::from_secs(10);

impl Node {
    /// Whether this program can read what the cluster writes; ends it otherwise.
    pub(super) fn reads(&self, active: ActiveRelease) -> bool {
        let reads = self.supports.reads(active);
        if !reads {
            let why = format!(
                "the cluster refuses this node: {}",
                self.supports.refusal(active)
            );
            (self.on_fatal)(Fatal::Refused(why));
        }
        reads
    }

    /// Notes on the volume what the cluster writes, when that has changed.
    pub(super) async fn keep_release(&self, active: ActiveRelease) {
        let _one = self.birth.lock().await;
        let identity = self.identity();
        let noted = identity.clone().noting(active);
        if identity.cluster.is_none() || noted == identity {
            return;
        }
        if self.save_identity(noted).await {
            tracing::info!(%active, "the volume says which formats it may hold");
        }
    }

    /// Writes the identity durably and goes by it; ends the process where the
    /// disk does not take it. Says whether it was written.
    pub(super) async fn save_identity(&self, identity: Identity) -> bool {
        let (disk, saved) = (self.disk.clone(), identity.clone());
        let work = move || saved.save(disk.as_ref());
        match self.env.tasks.blocking(work).await {
            Some(Ok(())) => {
                self.ending.is_of(&identity);
                *self.lock_identity() = identity;
                true
            }
            Some(Err(error)) => {
                (self.on_fatal)(Fatal::of_disk("the data directory", &error));
                false
            }
            None => false,
        }
    }

    /// Has group 0 let the cluster write the formats of a release.
    pub(super) async fn finalize(
        &self,
        request: FinalizeRequest,
    ) -> Result<ActiveRelease, NodeError> {
        let done = self.cluster.finalize(request.to, request.id, DEADLINE);
        done.await.map_err(|error| match error {
            ClusterError::Refused(refusal) => NodeError::NotPermitted(refusal.to_string()),
            // The same request id tells what became of it.
            ClusterError::NoQuorum {
                group: GroupId::CLUSTER,
            }
            | ClusterError::OutcomeUnknown { .. } => NodeError::NoQuorum,
            other => NodeError::NotPermitted(other.to_string()),
        })
    }
}
