//! Volumes of nodes that were removed: they stay, bring nobody back by
//! themselves, and are used again, or deleted, when that is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use holdfast_crd::{ClusterPhase, StorageCluster};
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::rest::Files;
use super::scale::{FOURTH, fragments_of};
use super::{SETTLED, born_with_patient_traffic, born_with_traffic};
use crate::children::{claim_uid, node_claim, node_pod, node_set, until_no_pods};
use crate::room::Room;
use crate::spec::{small, with};
use crate::state;

fn of_four(room: &Room) -> Value {
    with(small(room), json!({"nodes": {"replicas": 4}}))
}

/// `kubectl scale`, and waits until it is so.
async fn scaled_to(room: &Room, replicas: u32) -> Result<StorageCluster> {
    room.scale("demo", replicas).await?;
    room.until_settled("demo", SETTLED).await
}

pub async fn a_retired_volume_brings_no_node_back(room: &Room) -> Result<()> {
    // The store is away while it sleeps.
    let (_, traffic) = born_with_patient_traffic(room, &of_four(room)).await?;
    scaled_to(room, 3).await?;
    let claim = claim_uid(room, "demo", FOURTH).await?;
    let absence = Absence::begin(room);

    room.change("demo", json!({"hibernate": true})).await?;
    room.until_cluster("demo", "it sleeps", SETTLED, |cluster| {
        let phase = cluster.status.as_ref().and_then(|status| status.phase);
        state::is_current(cluster) && phase == Some(ClusterPhase::Hibernated)
    })
    .await?;
    until_no_pods(room, "demo", SETTLED).await?;
    room.change("demo", json!({"hibernate": false})).await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await?;

    let files = Files::store(&room.gateway("demo").await?, 500).await?;
    room.api::<StorageCluster>()
        .delete("demo", &DeleteParams::default())
        .await?;
    until_no_pods(room, "demo", SETTLED).await?;
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    files.expect(&room.gateway("demo").await?).await?;
    traffic.finish_unharmed().await?;

    absence.expect_all_along().await?;
    let kept = claim_uid(room, "demo", FOURTH).await?;
    ensure!(kept == claim, "its volume is another one");
    Ok(())
}

/// Looks whether the fourth node stays away.
struct Absence {
    ended: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Absence {
    /// Shorter than a pod takes to come and go.
    const LOOK_AGAIN: Duration = Duration::from_millis(200);

    fn begin(room: &Room) -> Self {
        let (ended, looks, seen) =
            <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (till, counted, found) = (ended.clone(), looks.clone(), seen.clone());
        let pods = room.api::<Pod>();
        let task = tokio::spawn(async move {
            while !till.load(Ordering::Relaxed) {
                if let Ok(pod) = pods.get_opt(&node_pod("demo", FOURTH)).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    found.fetch_add(usize::from(pod.is_some()), Ordering::Relaxed);
                }
                tokio::time::sleep(Self::LOOK_AGAIN).await;
            }
        });
        Self {
            ended,
            looks,
            seen,
            task,
        }
    }

    /// Ends, and fails if it was ever there.
    async fn expect_all_along(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        self.task.await.context("who looks for the fourth node")?;
        ensure!(self.looks.load(Ordering::Relaxed) > 0, "nobody looked");
        let seen = self.seen.load(Ordering::Relaxed);
        ensure!(seen == 0, "the fourth node was there {seen} times");
        Ok(())
    }
}

pub async fn a_volume_is_used_again_and_deleted_by_the_operator_where_asked(
    room: &Room,
) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &of_four(room)).await?;
    let gateway = room.gateway("demo").await?;
    let files = Files::store(&gateway, 600).await?;
    scaled_to(room, 3).await?;
    let claim = claim_uid(room, "demo", FOURTH).await?;

    scaled_to(room, 4).await?;
    let four = room
        .until_cluster("demo", "the fourth takes data", SETTLED, |cluster| {
            let node = state::node(cluster, FOURTH);
            state::is_settled(cluster) && node.is_some_and(|node| node.state == "Active")
        })
        .await?;
    ensure!(
        claim_uid(room, "demo", FOURTH).await? == claim,
        "it is on another volume"
    );
    let node = state::node(&four, FOURTH).and_then(|node| node.id.clone());
    let node = node.context("the fourth node has no identity")?;
    until("it holds data", SETTLED, async || {
        let held = fragments_of(&gateway, &node).await?;
        ensure!(held.is_some_and(|held| held > 0), "it holds {held:?}");
        Ok(())
    })
    .await?;
    files.expect(&gateway).await?;

    let others = async || try_join_all((0..3).map(|n| claim_uid(room, "demo", n))).await;
    let before = others().await?;
    let going = json!({"nodes": {"storage": {"retention": {"whenScaledDown": "Delete"}}}});
    room.change("demo", going).await?;
    scaled_to(room, 3).await?;
    until("its volume is deleted", SETTLED, async || {
        let claims = room.api::<PersistentVolumeClaim>();
        let found = claims.get_opt(&node_claim("demo", FOURTH)).await?;
        let uid = found.and_then(|claim| claim.uid());
        ensure!(uid.is_none(), "{uid:?} is there");
        Ok(())
    })
    .await?;
    // By the operator, which knows that it is empty, and not by Kubernetes.
    let set = room.api::<StatefulSet>().get(&node_set("demo")).await?;
    let policy = set
        .spec
        .and_then(|spec| spec.persistent_volume_claim_retention_policy);
    let when_scaled = policy.and_then(|policy| policy.when_scaled);
    ensure!(
        when_scaled.as_deref().is_none_or(|when| when == "Retain"),
        "whenScaled is {when_scaled:?}"
    );
    ensure!(others().await? == before, "another volume is gone");
    room.until_settled("demo", SETTLED).await?;
    files.expect(&gateway).await?;
    traffic.finish_unharmed().await.map(drop)
}
