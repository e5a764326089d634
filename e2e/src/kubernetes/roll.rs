//! Looks on while pods are replaced: never two storage nodes away at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
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
    /// The identities of all pods that were ever there. The task adds, and
    /// nobody else looks before it has ended.
    seen: Arc<Mutex<BTreeSet<String>>>,
    desired: usize,
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
        let seen = Arc::<Mutex<BTreeSet<String>>>::default();
        let (till, counted, most) = (ended.clone(), looks.clone(), worst.clone());
        let known = seen.clone();
        let task = tokio::spawn(async move {
            while !till.load(Ordering::Relaxed) {
                if let Ok(found) = look(&pods, &prefix).await {
                    let ready = found.iter().filter(|pod| children::is_ready(pod)).count();
                    counted.fetch_add(1, Ordering::Relaxed);
                    most.fetch_max(desired.saturating_sub(ready), Ordering::Relaxed);
                    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.extend(found.iter().filter_map(ResourceExt::uid));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        Self {
            ended,
            looks,
            worst,
            seen,
            desired,
            task,
        }
    }

    /// Ends, and fails if ever more than one was away.
    pub async fn expect_one_at_a_time(self) -> Result<()> {
        self.end().await.map(drop)
    }

    /// The same; and each must have been replaced, and none of them twice.
    pub async fn expect_each_replaced_once(self) -> Result<()> {
        let desired = self.desired;
        let seen = self.end().await?;
        ensure!(
            seen == 2 * desired,
            "there have been {seen} pods of {desired} storage nodes"
        );
        Ok(())
    }

    /// How many pods there have been.
    async fn end(self) -> Result<usize> {
        self.ended.store(true, Ordering::Relaxed);
        self.task.await.context("the onlooker")?;
        ensure!(self.looks.load(Ordering::Relaxed) > 0, "nothing was seen");
        let worst = self.worst.load(Ordering::Relaxed);
        ensure!(worst <= 1, "{worst} storage nodes were away at once");
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.len())
    }
}

async fn look(pods: &Api<Pod>, prefix: &str) -> Result<Vec<Pod>> {
    let mut pods = pods.list(&ListParams::default()).await?.items;
    pods.retain(|pod| pod.name_any().starts_with(prefix));
    Ok(pods)
}
