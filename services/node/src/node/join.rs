//! How a node stays a member: it tells group 0 of every start, and keeps what
//! it knows of the cluster's state new.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast_client::ClusterError;
use holdfast_metadata::command::{ClusterCommand, Command, Outcome, Refusal};
use holdfast_model::{ClusterState, GroupId, NodeState};
use holdfast_runtime::{Address, Fatal, TasksExt};

use super::Node;
use crate::identity::Identity;
use crate::peers;

/// How often a node looks for a cluster or a newer state of it.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long group 0 may take.
const DEADLINE: Duration = Duration::from_secs(5);

impl Node {
    pub(super) async fn keep_membership(&self) {
        let mut joined = false;
        let mut saved = BTreeSet::new();
        loop {
            let state = self.cluster.state();
            if let Some(state) = &state {
                if !self.reads(state.active) {
                    return;
                }
                self.adopt(state).await;
                self.keep_release(state.active).await;
                self.keep_peers(state, &mut saved).await;
                if let Ok(groups) = self.born() {
                    groups.learn(Arc::clone(state));
                }
                let own = state.layout.nodes.get(&self.identity().node);
                if own.is_some_and(|node| node.state == NodeState::Lost) {
                    // Others fill its place: it must not vote or serve beside them.
                    return (self.on_fatal)(Fatal::Refused(
                        "the cluster refuses this node: it was given up for lost".to_owned(),
                    ));
                }
            }
            if state.is_some() && self.born().is_ok() && !joined {
                joined = self.join().await;
            }
            tokio::select! {
                biased;
                () = self.shutdown.begun() => return,
                () = self.env.clock.sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    /// Writes down where the others are, when that has changed.
    async fn keep_peers(&self, state: &ClusterState, saved: &mut BTreeSet<Address>) {
        let found = peers::addresses(state);
        if self.born().is_err() || found == *saved {
            return;
        }
        let (disk, written) = (self.disk.clone(), found.clone());
        let work = move || peers::save(disk.as_ref(), &written);
        match self.env.tasks.blocking(work).await {
            Some(Ok(())) => *saved = found,
            Some(Err(error)) => match Fatal::of_disk("the file peers", &error) {
                // Only a hint is lacking, and the next turn tries again.
                Fatal::NoRoom(reason) => tracing::debug!(reason, "peers were not written"),
                fatal => (self.on_fatal)(fatal),
            },
            None => {}
        }
    }

    /// A node without a cluster that was shown one becomes part of it.
    async fn adopt(&self, state: &ClusterState) {
        let _one = self.birth.lock().await;
        let identity = self.identity();
        if identity.cluster.is_some() || !self.may_join() {
            return;
        }
        let joined = Identity {
            cluster: Some(state.cluster),
            ..identity.noting(state.active)
        };
        if self.save_identity(joined).await
            && let Err(error) = self.start_groups(state.cluster).await
        {
            (self.on_fatal)(self.fatal(&error));
        }
    }

    /// Whether this node may join what it is shown: not one that the founding
    /// party is about to send its first state.
    fn may_join(&self) -> bool {
        let own = self.identity().node;
        self.cluster
            .state()
            .is_some_and(|state| !state.layout.nodes.contains_key(&own))
    }

    /// Tells group 0 of this start. Says whether it knows.
    async fn join(&self) -> bool {
        let identity = self.identity();
        let command = Command::Cluster(Box::new(ClusterCommand::Join {
            node: identity.node,
            disk: identity.disk,
            address: self.address.0.clone(),
            zone: self.zone.clone(),
            host: self.host.clone(),
            incarnation: identity.incarnation,
            supports: self.supports,
        }));
        let id = self.env.entropy.request_id(self.env.clock.as_ref());
        match self
            .cluster
            .propose(GroupId::CLUSTER, id, command, DEADLINE, None)
            .await
        {
            Ok(outcome) => {
                self.joined(outcome);
                tracing::info!(start = identity.incarnation, "group 0 knows of this start");
                true
            }
            Err(ClusterError::Refused(refusal @ (Refusal::Held(_) | Refusal::Invalid(_)))) => {
                (self.on_fatal)(Fatal::Refused(format!(
                    "the cluster refuses this node: {refusal}"
                )));
                false
            }
            Err(ClusterError::Refused(Refusal::Stale)) => {
                // Noted on the disk: each try to start it counts as one, and after
                // some of them its number would be none that was seen before.
                (self.on_fatal)(Fatal::Outdated(format!(
                    "the cluster refuses this node: it knows of a later start than this one, \
                     number {}, so that this disk is an older copy, or has failed and could not \
                     note it: replace it as if it were empty",
                    identity.incarnation
                )));
                false
            }
            Err(error) => {
                tracing::debug!(%error, "group 0 does not know of this start yet");
                false
            }
        }
    }
    /// Takes at once the state that group 0 answers with: it names the newest
    /// start of every disk, and an older copy of one may come before a member of
    /// group 0 has told it here.
    fn joined(&self, outcome: Outcome) {
        if let Outcome::Joined(state) = outcome {
            if let Ok(groups) = self.born() {
                groups.learn(Arc::new(ClusterState::clone(&state)));
            }
            self.cluster.learn(*state);
        }
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
pub(crate) mod tests;
