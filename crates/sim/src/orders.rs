//! What a person orders of a cluster: nodes drained, or given up for lost. An
//! order is given when the node is seen, and again until it is taken or refused,
//! as a person would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_client::{Cluster, ClusterError};
use holdfast_metadata::command::{ClusterCommand, Command};
use holdfast_model::{GroupId, NodeId, NodeState};

use crate::world::World;

/// How long an order may take before it is given again.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// Someone who gives orders.
pub struct Operator {
    cluster: Cluster,
}

impl Operator {
    /// An operator on a machine of their own.
    pub fn new(world: &World) -> Self {
        let (cluster, _) = world.client("operator:1");
        Self { cluster }
    }

    /// Orders a node into a state; the flag says when it is done.
    pub fn order(&self, world: &World, node: NodeId, wanted: NodeState) -> Arc<AtomicBool> {
        let done = Arc::new(AtomicBool::new(false));
        let (cluster, told) = (self.cluster.clone(), done.clone());
        let trace = world.trace.clone();
        let env = cluster.env().clone();
        env.tasks.spawn(
            "order",
            Box::pin(async move {
                loop {
                    // Nobody orders about a node that they do not see yet.
                    let state = cluster.state();
                    if state.is_none_or(|state| !state.layout.nodes.contains_key(&node)) {
                        cluster.env().clock.sleep(AGAIN).await;
                        continue;
                    }
                    match try_order(&cluster, node, wanted).await {
                        Ok(()) => {
                            trace.tell(&format!("node {node} is ordered to be {wanted:?}"));
                            return told.store(true, Ordering::Relaxed);
                        }
                        Err(ClusterError::Refused(why)) => {
                            return trace.wrong(format!("node {node} to be {wanted:?}: {why}"));
                        }
                        Err(_) => cluster.env().clock.sleep(AGAIN).await,
                    }
                }
            }),
        );
        done
    }
}

async fn try_order(cluster: &Cluster, node: NodeId, state: NodeState) -> Result<(), ClusterError> {
    let command = Command::Cluster(Box::new(ClusterCommand::SetNodeState { node, state }));
    let env = cluster.env();
    let id = env.entropy.request_id(env.clock.as_ref());
    cluster
        .propose(GroupId::CLUSTER, id, command, DEADLINE, None)
        .await
        .map(|_| ())
}
