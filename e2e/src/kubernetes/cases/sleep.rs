//! Clusters that are to sleep while something is under way: that ends first.

use anyhow::{Result, bail, ensure};
use holdfast_crd::{ClusterPhase, StorageCluster};
use holdfast_e2e::wait::until;
use serde_json::json;

use super::scale::{FOURTH, store_bulk, until_it_drains};
use super::{SETTLED, TOLD, born_with_patient_traffic};
use crate::children::{
    ask_for_memory, node_replicas, ready_with_memory, storage_pods, until_no_pods,
    until_one_is_away,
};
use crate::room::Room;
use crate::spec::{small, with};
use crate::state;

const NODES: usize = 3;

pub async fn hibernation_waits_for_the_end_of_a_drain(room: &Room) -> Result<()> {
    let four = with(small(room), json!({"nodes": {"replicas": NODES + 1}}));
    let (_, traffic) = born_with_patient_traffic(room, &four).await?;
    let gateway = room.gateway("demo").await?;
    let bulk = store_bulk(&gateway).await?;
    room.scale("demo", FOURTH).await?;
    until_it_drains(room).await?;
    room.change("demo", json!({"hibernate": true})).await?;
    until_told_to_wait(room).await?;

    let mut removed = false;
    let mut too_early = false;
    until("it sleeps", SETTLED, async || {
        let replicas = node_replicas(room, "demo").await?;
        removed |= replicas == FOURTH as i32;
        too_early |= replicas == 0 && !removed;
        asleep(&room.cluster("demo").await?)
    })
    .await?;
    ensure!(!too_early, "it slept before the fourth node was removed");
    wakes_up(room).await?;
    let pods = storage_pods(room, "demo").await?;
    ensure!(pods.len() == NODES, "{} storage pods", pods.len());
    for (id, bytes) in &bulk {
        gateway.expect(id, bytes).await?;
    }
    traffic.finish_unharmed().await.map(drop)
}

pub async fn hibernation_waits_for_the_end_of_an_upgrade(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_patient_traffic(room, &small(room)).await?;
    ask_for_memory(room, "80Mi").await?;
    until_one_is_away(room, NODES, SETTLED).await?;
    room.change("demo", json!({"hibernate": true})).await?;
    until_told_to_wait(room).await?;

    let mut done = false;
    let mut too_early = false;
    until("it sleeps", SETTLED, async || {
        let replicas = node_replicas(room, "demo").await?;
        done |= ready_with_memory(room, "80Mi").await? == NODES;
        too_early |= replicas == 0 && !done;
        asleep(&room.cluster("demo").await?)
    })
    .await?;
    ensure!(!too_early, "it slept in the middle of the upgrade");
    wakes_up(room).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Waits until a condition says that the cluster is to sleep and does not yet.
async fn until_told_to_wait(room: &Room) -> Result<()> {
    room.until_cluster("demo", "it is told to wait", TOLD, |cluster| {
        asleep(cluster).is_err()
            && state::is_current(cluster)
            && state::tells(cluster, |message| {
                let message = message.to_lowercase();
                let of_sleep = message.contains("sleep") || message.contains("hibernat");
                of_sleep && (message.contains("not") || message.contains("wait"))
            })
    })
    .await
    .map(drop)
}

fn asleep(cluster: &StorageCluster) -> Result<()> {
    let phase = cluster.status.as_ref().and_then(|status| status.phase);
    if phase != Some(ClusterPhase::Hibernated) {
        bail!("{}", state::say(cluster));
    }
    Ok(())
}

async fn wakes_up(room: &Room) -> Result<()> {
    until_no_pods(room, "demo", SETTLED).await?;
    room.change("demo", json!({"hibernate": false})).await?;
    room.until_settled("demo", SETTLED).await.map(drop)
}
