//! Pods, volumes and machines that go.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use holdfast_crd::StorageCluster;
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::{SETTLED, TOLD};
use crate::children::{claim_uid, node_pod, replace_pod};
use crate::machines::{allow_pods, machine_of, machine_without_operator};
use crate::outages::Outage;
use crate::room::Room;
use crate::spec::{encrypted, small, two_gateways};
use crate::state;
use crate::traffic::{Patience, Traffic};

pub async fn a_deleted_storage_pod_comes_back_and_nothing_fails(room: &Room) -> Result<()> {
    room.apply("demo", &encrypted(room)).await?;
    let before = room.until_settled("demo", SETTLED).await?;
    let traffic = Traffic::start(room.gateway("demo").await?, Patience::OneRetry).await?;
    replace_pod(room, "demo", 1, SETTLED).await?;
    let after = room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await?;
    ensure!(
        node_id(&after, 1)? == node_id(&before, 1)?,
        "the node has another identity"
    );
    // With one node away a cluster can serve, and says so all the time.
    let since =
        |cluster| state::condition(cluster, "Ready").map(|c| c.last_transition_time.clone());
    ensure!(
        since(&before) == since(&after),
        "it was not Ready meanwhile"
    );
    Ok(())
}

fn node_id(cluster: &StorageCluster, ordinal: u32) -> Result<String> {
    state::node(cluster, ordinal)
        .and_then(|node| node.id.clone())
        .with_context(|| format!("node {ordinal} has no identity: {}", state::say(cluster)))
}

pub async fn all_pods_deleted_at_once(room: &Room) -> Result<()> {
    const AWAY: Duration = Duration::from_secs(240);
    room.apply("demo", &encrypted(room)).await?;
    room.until_settled("demo", SETTLED).await?;
    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway, Patience::Until(AWAY)).await?;
    room.api::<Pod>()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    // Not yet the status of before.
    room.until_cluster("demo", "the loss is told", TOLD, |cluster| {
        !state::is_settled(cluster)
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn a_lost_node_is_replaced_when_named(room: &Room) -> Result<()> {
    room.apply("demo", &small(room)).await?;
    let before = room.until_settled("demo", SETTLED).await?;
    let traffic = Traffic::start(room.gateway("demo").await?, Patience::OneRetry).await?;
    a_living_node_is_not_given_up(room, &node_id(&before, 0)?).await?;

    // A volume of a machine on which nothing may start any more is as good as lost.
    let machine = machine_of(room, 2).await?;
    allow_pods(room, &machine, false).await?;
    let replaced = lose_and_name(room, &node_id(&before, 2)?).await;
    allow_pods(room, &machine, true).await?;
    replaced?;
    traffic.finish_unharmed().await.map(drop)
}

async fn a_living_node_is_not_given_up(room: &Room, id: &str) -> Result<()> {
    let claim = claim_uid(room, "demo", 0).await?;
    room.change("demo", json!({"removedNodes": [id]})).await?;
    room.until_cluster("demo", "the refusal is told", TOLD, |cluster| {
        state::is_current(cluster) && says(cluster, id)
    })
    .await?;
    ensure!(
        claim_uid(room, "demo", 0).await? == claim,
        "a living node's volume is gone"
    );
    room.change("demo", json!({"removedNodes": []})).await
}

async fn lose_and_name(room: &Room, lost: &str) -> Result<()> {
    let claims = try_join_all((0..3).map(|ordinal| claim_uid(room, "demo", ordinal))).await?;
    room.api::<Pod>()
        .delete(&node_pod("demo", 2), &DeleteParams::default())
        .await?;
    room.until_cluster("demo", "the loss is told", TOLD, |cluster| {
        state::is(cluster, "Degraded", "True")
    })
    .await?;
    room.change("demo", json!({"removedNodes": [lost]})).await?;
    let after = room.until_settled("demo", SETTLED).await?;
    ensure!(node_id(&after, 2)? != lost, "the lost node is still listed");
    let now = try_join_all((0..3).map(|ordinal| claim_uid(room, "demo", ordinal))).await?;
    ensure!(
        now[..2] == claims[..2] && now[2] != claims[2],
        "volumes {now:?} in place of {claims:?}"
    );
    Ok(())
}

/// Whether any condition speaks of that node.
fn says(cluster: &StorageCluster, id: &str) -> bool {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.message.contains(id))
}

pub async fn a_crashed_machine_comes_back(room: &Room) -> Result<()> {
    /// A silent machine is noticed, its Service addresses are dropped.
    const AWAY: Duration = Duration::from_secs(150);
    let Some(power) = Outage::of_power() else {
        return Ok(());
    };
    room.apply("demo", &two_gateways(room)).await?;
    room.until_settled("demo", SETTLED).await?;
    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway, Patience::Until(AWAY)).await?;
    let machine = machine_without_operator(room).await?;
    power.begin_at(&machine).await?;
    // Whatever comes now, the machine gets its power back.
    let away = stays_away(room, &machine).await;
    power.end_at(&machine).await?;
    away?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Waits until Kubernetes and the status have noticed that a machine is away.
async fn stays_away(room: &Room, machine: &str) -> Result<()> {
    until("the machine is missed", SETTLED, async || {
        let node = room.everywhere::<Node>().get(machine).await?;
        let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        if ready {
            bail!("{} is ready", node.name_any());
        }
        Ok(())
    })
    .await?;
    room.until_cluster("demo", "the loss is told", SETTLED, |cluster| {
        state::is(cluster, "Degraded", "True") && state::is(cluster, "Ready", "True")
    })
    .await
    .map(drop)
}
