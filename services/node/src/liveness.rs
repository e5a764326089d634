//! Whether a node's own loops and its disk move: what `/healthz` says, and so
//! what a machine restarts it for. Never whether others are there.

use std::sync::Arc;
use std::time::Duration;

use holdfast_runtime::host::operations::Check;
use holdfast_runtime::{Disk, Env, Shutdown, TasksExt};

use crate::node::Node;

/// How often the disk is asked while nobody else may have anything to ask it. It
/// costs a disk that is idle next to nothing: there is nothing to write.
const ASK_INTERVAL: Duration = Duration::from_secs(5);

/// What stands still in a node, or on its disk.
pub(crate) fn alive(node: Arc<Node>) -> Check {
    Arc::new(move || {
        let still = node.disk_calls().still().or_else(|| node.pulse().still());
        still.map_or(Ok(()), |still| Err(still.to_string()))
    })
}

/// Has a sync go to the disk now and then, so that one that hangs is noticed on
/// a node that has nothing to do. What hangs is a call of [`Node::disk_calls`].
pub(crate) async fn keep_asking(env: Env, disk: Arc<dyn Disk>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.begun() => return,
            () = env.clock.sleep(ASK_INTERVAL) => {}
        }
        let asked = disk.clone();
        match env.tasks.blocking(move || asked.sync_dir("")).await {
            Some(Ok(())) => {}
            // Who has something to lose by it asks, and is told, as well.
            Some(Err(error)) => tracing::warn!(%error, "the data directory was not synced"),
            None => return,
        }
    }
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
