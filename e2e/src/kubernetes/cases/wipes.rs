//! Volumes that come back empty, and what the queue and the cache forget.

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::content::picture;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::wait::until;
use image::ImageFormat;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::{SETTLED, TOLD, born_with_traffic};
use crate::children::{claim_uid, is_ready, node_claim, node_pod};
use crate::room::Room;
use crate::spec::small;
use crate::state;

pub async fn a_node_whose_volume_was_deleted_is_another_one(room: &Room) -> Result<()> {
    let (before, traffic) = born_with_traffic(room, &small(room)).await?;
    let old = id_of(&before, 0)?;
    let volume = claim_uid(room, "demo", 0).await?;
    let now = DeleteParams::default();
    room.api::<PersistentVolumeClaim>()
        .delete(&node_claim("demo", 0), &now)
        .await?;
    room.api::<Pod>().delete(&node_pod("demo", 0), &now).await?;

    // It comes back by itself, empty, and is no authority about anything.
    let new = room
        .until_cluster("demo", "a new node", SETTLED, |cluster| {
            id_of(cluster, 0).is_ok_and(|id| id != old)
        })
        .await?;
    ensure!(
        claim_uid(room, "demo", 0).await? != volume,
        "it is on the old volume"
    );
    let degraded = room
        .until_cluster("demo", "the lost node is named", TOLD, |cluster| {
            state::condition(cluster, "Degraded")
                .is_some_and(|c| c.status == "True" && c.message.contains(&old))
        })
        .await;
    degraded.with_context(|| format!("{old} was there before: {}", state::say(&new)))?;

    // Nobody but a person knows that the old one will not come back.
    room.change("demo", json!({"removedNodes": [old]})).await?;
    let after = room.until_settled("demo", SETTLED).await?;
    ensure!(id_of(&after, 0)? == id_of(&new, 0)?, "a third node");
    traffic.finish_unharmed().await.map(drop)
}

fn id_of(cluster: &StorageCluster, ordinal: u32) -> Result<String> {
    state::node(cluster, ordinal)
        .and_then(|node| node.id.clone())
        .with_context(|| format!("node {ordinal} has no identity: {}", state::say(cluster)))
}

pub async fn a_wiped_queue_delays_tasks_and_loses_none(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let gateway = room.gateway("demo").await?;
    let first = upload_picture(&gateway, 1).await?;
    let claims = room.api::<PersistentVolumeClaim>();
    let name = "data-demo-rabbitmq-0";
    let old = claims.get(name).await?.uid();
    let now = DeleteParams::default();
    claims.delete(name, &now).await?;
    room.api::<Pod>().delete("demo-rabbitmq-0", &now).await?;
    // Accepted while there is no queue at all.
    let second = upload_picture(&gateway, 2).await?;
    until("an empty queue is there", SETTLED, async || {
        ensure!(claims.get(name).await?.uid() != old, "the old volume");
        let pod = room.api::<Pod>().get("demo-rabbitmq-0").await?;
        ensure!(is_ready(&pod), "it is not ready");
        Ok(())
    })
    .await?;
    let third = upload_picture(&gateway, 3).await?;
    for id in [first, second, third] {
        until("a thumbnail", SETTLED, async || {
            gateway.thumbnail(&id).await
        })
        .await?;
    }
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

async fn upload_picture(gateway: &Gateway, seed: u64) -> Result<String> {
    let bytes = picture(seed, 640, 480, ImageFormat::Png)?;
    gateway.upload("picture.png", bytes, 0).await
}

pub async fn a_deleted_cache_is_missed_by_nobody(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let caches = ListParams::default().labels("app.kubernetes.io/component=redis");
    let pods = room.api::<Pod>();
    let old = pods.list(&caches).await?.items;
    let old = old.first().context("there is no cache")?;
    pods.delete(&old.name_any(), &DeleteParams::default().grace_period(0))
        .await?;
    until("another cache is there", SETTLED, async || {
        let found = pods.list(&caches).await?;
        let another = found
            .iter()
            .any(|pod| pod.uid() != old.uid() && is_ready(pod));
        ensure!(another, "there is none");
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}
