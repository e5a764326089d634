//! How a node becomes a member of a cluster that is being founded: its part of
//! the first state is durable before anybody counts on it.

use std::sync::Arc;

use holdfast_metadata::log::LogEnd;
use holdfast_metadata::protocol::{Bootstrap, NodeError};
use holdfast_metadata::raft::applier::write_members;
use holdfast_metadata::state::initial_rows;
use holdfast_metadata::store::{Store, StoreError};
use holdfast_metadata::wire::Members;
use holdfast_model::{ClusterState, DiskId};
use holdfast_runtime::{Fatal, TasksExt};

use super::{Node, StartError};
use crate::identity::{Identity, IdentityError};

/// Where every log and state of a newborn group begins.
const BIRTH: LogEnd = LogEnd { index: 1, term: 1 };

impl Node {
    /// Founds this node's part of a cluster.
    pub(super) async fn be_born(&self, request: Bootstrap) -> Result<(), NodeError> {
        let _one = self.birth.lock().await;
        let state = request.state;
        let identity = self.identity();
        match identity.cluster {
            Some(cluster) if cluster == state.cluster => return Ok(()),
            Some(cluster) => {
                return Err(NodeError::Mistaken(format!(
                    "this node belongs to cluster {cluster}"
                )));
            }
            None => {}
        }
        state.layout.check().map_err(NodeError::Invalid)?;
        if !self.supports.reads(state.active) {
            return Err(NodeError::Invalid(self.supports.refusal(state.active)));
        }
        let named = state.layout.nodes.get(&identity.node);
        if named.is_none_or(|node| node.disk != identity.disk) {
            return Err(NodeError::Mistaken(
                "the first state does not name this node".into(),
            ));
        }
        let (store, disk) = (self.store.clone(), self.disk.clone());
        let cluster = state.cluster;
        // Not every node carries group 0, and so knows the state by itself.
        let layout = state.layout.groups.iter();
        let carried = layout.filter(|(_, disks)| disks.contains(&identity.disk));
        let carried = carried.map(|(group, _)| *group).collect();
        let born = Identity {
            cluster: Some(cluster),
            ..identity.noting(state.active)
        };
        let (saved, first) = (born.clone(), Arc::new(ClusterState::clone(&state)));
        let done = self
            .env
            .tasks
            .blocking(move || -> Result<(), StartError> {
                write_first_rows(&store, &state, saved.disk)?;
                saved.save(disk.as_ref()).map_err(IdentityError::Disk)?;
                Ok(())
            })
            .await;
        let failed = |error: StartError| self.stillborn(&error);
        done.ok_or(NodeError::ShuttingDown)?.map_err(failed)?;
        self.ending.is_of(&born);
        *self.lock_identity() = born;
        self.start_groups(cluster).await.map_err(failed)?;
        let groups = self.born()?;
        // Who carries no member of group 0 has it from nowhere else.
        groups.learn(first.clone());
        self.cluster.learn(ClusterState::clone(&first));
        groups.create(carried).await?;
        tracing::info!(%cluster, "born");
        Ok(())
    }
}

impl Node {
    /// Ends the node where its birth has failed by its disk, and tells whoever
    /// founds the cluster. Nothing of it may be tried again: a sync would succeed
    /// of what was lost, and the state store is good for nothing after an error.
    fn stillborn(&self, error: &StartError) -> NodeError {
        let fatal = self.fatal(error);
        let told = match &fatal {
            Fatal::DiskFailed(_) => NodeError::DiskFailed,
            Fatal::NoRoom(_) => NodeError::DiskFull,
            _ => return NodeError::Invalid(error.to_string()),
        };
        (self.on_fatal)(fatal);
        told
    }
}

/// Writes the first rows of every group that `disk` carries, durably. Blocks.
fn write_first_rows(store: &Store, state: &ClusterState, disk: DiskId) -> Result<(), StoreError> {
    let mut batch = store.begin_bulk()?;
    for (group, disks) in &state.layout.groups {
        if !disks.contains(&disk) {
            continue;
        }
        // What an earlier birth that did not end has left.
        batch.delete_group(*group)?;
        let mut txn = batch.group(*group)?;
        for (key, value) in initial_rows(*group, state) {
            txn.put(&key, &value)?;
        }
        let voters = disks.iter().map(|disk| disk.raft_id()).collect();
        write_members(
            &mut txn,
            BIRTH,
            &Members {
                voters,
                ..Members::default()
            },
        )?;
    }
    batch.commit(true)
}

#[cfg(test)]
#[path = "born_tests.rs"]
mod tests;
