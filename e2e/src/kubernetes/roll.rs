//! Looks on while pods are replaced: never two storage nodes away at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::task::JoinHandle;

use crate::kubernetes::children;
use crate::kubernetes::room::Room;

/// Shorter than a storage node takes to stop and start.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Looks until it is told to end.
pub struct Onlooker {
    ended: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    worst: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Onlooker {
    /// Begins to look at the storage pods of a cluster, of which `desired` are ready.
    pub fn begin(room: &Room, cluster: &str, desired: usize) -> Self {
        let (ended, looks, worst) =
            <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (pods, prefix) = (
            room.api::<Pod>(),
            format!("{}-", children::node_set(cluster)),
        );
        let (till, counted, most) = (ended.clone(), looks.clone(), worst.clone());
        let task = tokio::spawn(async move {
            while !till.load(Ordering::Relaxed) {
                if let Ok(ready) = count_ready(&pods, &prefix).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    most.fetch_max(desired.saturating_sub(ready), Ordering::Relaxed);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        Self {
            ended,
            looks,
            worst,
            task,
        }
    }

    /// Ends, and fails if ever more than one was away.
    pub async fn expect_one_at_a_time(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        self.task.await.context("the onlooker")?;
        ensure!(self.looks.load(Ordering::Relaxed) > 0, "nothing was seen");
        let worst = self.worst.load(Ordering::Relaxed);
        ensure!(worst <= 1, "{worst} storage nodes were away at once");
        Ok(())
    }
}

async fn count_ready(pods: &Api<Pod>, prefix: &str) -> Result<usize> {
    let pods = pods.list(&ListParams::default()).await?;
    let ours = pods.iter().filter(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        name.starts_with(prefix)
    });
    Ok(ours.filter(|pod| children::is_ready(pod)).count())
}
