//! More storage nodes, and fewer again.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_crd::ClusterPhase;
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::wait::until;
use serde_json::Value;

use super::{SETTLED, TOLD};
use crate::chart::kill_operators;
use crate::children::{claim_uid, node_replicas, pod_uid};
use crate::room::Room;
use crate::spec::encrypted;
use crate::state;
use crate::traffic::{Patience, Traffic};

/// The node that comes and goes.
pub const FOURTH: u32 = 3;

pub async fn scaling_to_four_and_back_keeps_every_file(room: &Room) -> Result<()> {
    let (traffic, gateway) = grown_to_four(room).await?;
    let (id, claim) = fourth(room).await?;

    room.scale("demo", 3).await?;
    let last = watch_it_leave(room, &gateway, &id).await?;
    ensure!(last == Some(0), "the node left with {last:?} fragments");
    room.until_settled("demo", SETTLED).await?;
    // Retained, unless asked otherwise.
    ensure!(
        claim_uid(room, "demo", FOURTH).await? == claim,
        "its volume is gone"
    );
    traffic.finish_unharmed().await.map(drop)
}

pub async fn the_operator_killed_in_the_middle_of_scale_down(room: &Room) -> Result<()> {
    const KILLS: u32 = 3;
    /// The dead one's Lease has run out, and its successor has begun to work.
    const BETWEEN: Duration = Duration::from_secs(20);
    let (traffic, gateway) = grown_to_four(room).await?;
    let (id, _) = fourth(room).await?;

    room.scale("demo", 3).await?;
    room.until_cluster("demo", "the drain begins", TOLD, |cluster| {
        let phase = cluster.status.as_ref().and_then(|status| status.phase);
        phase == Some(ClusterPhase::Scaling)
    })
    .await?;
    let killing = async {
        for _ in 0..KILLS {
            kill_operators(room).await?;
            tokio::time::sleep(BETWEEN).await;
        }
        anyhow::Ok(())
    };
    let (killed, last) = tokio::join!(killing, watch_it_leave(room, &gateway, &id));
    killed?;
    let last = last?;
    ensure!(last == Some(0), "the node left with {last:?} fragments");
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Stored beside what the client stores, so that a drain has something to move.
const BULK: u64 = 12;
const BULK_FILE: usize = 9 << 20;

pub async fn a_larger_number_calls_a_drain_off(room: &Room) -> Result<()> {
    let (traffic, gateway) = grown_to_four(room).await?;
    let bulk = store_bulk(&gateway).await?;
    let before = (fourth(room).await?, pod_uid(room, FOURTH).await?);

    room.scale("demo", 3).await?;
    until_it_drains(room).await?;
    room.scale("demo", 4).await?;
    room.until_cluster("demo", "the node takes data again", SETTLED, |cluster| {
        let node = state::node(cluster, FOURTH);
        state::is_settled(cluster) && node.is_some_and(|node| node.state == "Active")
    })
    .await?;
    let after = (fourth(room).await?, pod_uid(room, FOURTH).await?);
    ensure!(after == before, "{after:?} in place of {before:?}");
    until("it holds data", SETTLED, async || {
        let held = fragments_of(&gateway, &after.0.0).await?;
        ensure!(held.is_some_and(|held| held > 0), "it holds {held:?}");
        Ok(())
    })
    .await?;
    for (id, bytes) in &bulk {
        gateway.expect(id, bytes).await?;
    }
    traffic.finish_unharmed().await.map(drop)
}

/// Stores what a drain needs some time for.
pub async fn store_bulk(gateway: &Gateway) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for seed in 0..BULK {
        let bytes = noise(seed << 16, BULK_FILE);
        let id = gateway.upload("bulk.bin", bytes.clone(), 0).await?;
        files.push((id, bytes));
    }
    Ok(files)
}

/// Waits until the fourth node is being emptied.
pub async fn until_it_drains(room: &Room) -> Result<()> {
    room.until_cluster("demo", "the drain begins", TOLD, |cluster| {
        let node = state::node(cluster, FOURTH);
        node.is_some_and(|node| node.state == "Draining")
    })
    .await
    .map(drop)
}

/// A cluster of four nodes, which was one of three with files in it.
async fn grown_to_four(room: &Room) -> Result<(Traffic, Gateway)> {
    room.apply("demo", &encrypted(room)).await?;
    room.until_settled("demo", SETTLED).await?;
    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway.clone(), Patience::OneRetry).await?;
    room.scale("demo", 4).await?;
    room.until_settled("demo", SETTLED).await?;
    let (id, _) = fourth(room).await?;
    // Otherwise it could leave without having held anything.
    until("the new node holds data", SETTLED, async || {
        let held = fragments_of(&gateway, &id).await?;
        ensure!(held.is_some_and(|held| held > 0), "it holds {held:?}");
        Ok(())
    })
    .await?;
    Ok((traffic, gateway))
}

/// The fourth node's identity, and that of its volume.
async fn fourth(room: &Room) -> Result<(String, String)> {
    let cluster = room.cluster("demo").await?;
    let node = state::node(&cluster, FOURTH).context("there is no fourth node")?;
    let id = node.id.clone().context("the fourth node has no identity")?;
    Ok((id, claim_uid(room, "demo", FOURTH).await?))
}

/// Looks at a node until its pod is taken away; how many fragments it had last.
async fn watch_it_leave(room: &Room, gateway: &Gateway, id: &str) -> Result<Option<u64>> {
    let mut last = None;
    until("the node is removed", SETTLED, async || {
        let replicas = node_replicas(room, "demo").await?;
        if replicas == FOURTH as i32 {
            return Ok(());
        }
        // What it has while it still is there; a request may fail meanwhile.
        if let Ok(Some(held)) = fragments_of(gateway, id).await {
            last = Some(held);
        }
        bail!("{replicas} replicas, {last:?} fragments on it")
    })
    .await?;
    Ok(last)
}

/// How many fragments a node holds, as the cluster says. None when it is not listed.
pub async fn fragments_of(gateway: &Gateway, id: &str) -> Result<Option<u64>> {
    let nodes = gateway.json("/api/nodes").await?;
    let listed = nodes.get("nodes").and_then(Value::as_array);
    Ok(listed
        .context("no nodes")?
        .iter()
        .find(|node| node.get("id").and_then(Value::as_str) == Some(id))
        .and_then(|node| node.get("fragments"))
        .and_then(Value::as_u64))
}
