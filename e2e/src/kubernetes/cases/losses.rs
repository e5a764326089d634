//! Pods, volumes and machines that go.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::{BIRTH, SETTLED};
use crate::children::{claim_uid, node_claim, node_pod, replace_pod};
use crate::machines::Machines;
use crate::room::Room;
use crate::spec::{small, two_gateways};
use crate::state;
use crate::traffic::{Patience, Traffic};

pub async fn a_deleted_storage_pod_comes_back_and_nothing_fails(room: &Room) -> Result<()> {
    room.apply("demo", &small(room)).await?;
    let before = room.until_settled("demo", BIRTH).await?;
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
    room.apply("demo", &small(room)).await?;
    room.until_settled("demo", BIRTH).await?;
    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway, Patience::Until(AWAY)).await?;
    room.api::<Pod>()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    // Not yet the status of before.
    room.until_cluster("demo", "the loss is told", BIRTH, |cluster| {
        !state::is_settled(cluster)
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn a_lost_node_is_replaced_when_named(room: &Room) -> Result<()> {
    room.apply("demo", &small(room)).await?;
    let before = room.until_settled("demo", BIRTH).await?;
    let traffic = Traffic::start(room.gateway("demo").await?, Patience::OneRetry).await?;

    // A node that lives is not given up, whoever names it.
    let (living, lost) = (node_id(&before, 0)?, node_id(&before, 2)?);
    let claims = [0, 2].map(|ordinal| claim_uid(room, "demo", ordinal));
    let claims = futures_util::future::try_join_all(claims).await?;
    room.change("demo", json!({"removedNodes": [living]}))
        .await?;
    room.until_cluster("demo", "the refusal is told", BIRTH, |cluster| {
        state::is_current(cluster) && says(cluster, &living)
    })
    .await?;
    ensure!(
        claim_uid(room, "demo", 0).await? == claims[0],
        "a living node's volume is gone"
    );
    room.change("demo", json!({"removedNodes": []})).await?;

    // The volume goes with its node: what comes back is empty, so another node.
    room.api::<PersistentVolumeClaim>()
        .delete(&node_claim("demo", 2), &DeleteParams::default())
        .await?;
    let at_once = DeleteParams::default().grace_period(0);
    room.api::<Pod>()
        .delete(&node_pod("demo", 2), &at_once)
        .await?;
    until("the volume is gone", BIRTH, async || {
        let now = claim_uid(room, "demo", 2).await.unwrap_or_default();
        ensure!(now != claims[1], "it is still there");
        Ok(())
    })
    .await?;
    room.until_cluster("demo", "the loss is told", BIRTH, |cluster| {
        state::is(cluster, "Degraded", "True")
    })
    .await?;
    room.change("demo", json!({"removedNodes": [lost]})).await?;
    let after = room.until_settled("demo", SETTLED).await?;
    ensure!(node_id(&after, 2)? != lost, "the lost node is still listed");
    ensure!(
        claim_uid(room, "demo", 0).await? == claims[0],
        "another volume went too"
    );
    traffic.finish_unharmed().await.map(drop)
}

/// Whether any condition speaks of that node.
fn says(cluster: &StorageCluster, id: &str) -> bool {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.message.contains(id))
}

pub async fn a_crashed_machine_comes_back(room: &Room) -> Result<()> {
    /// A silent machine is noticed, its Service addresses are dropped.
    const AWAY: Duration = Duration::from_secs(150);
    let Some(machines) = Machines::given() else {
        println!("      no machine can be crashed here: left out");
        return Ok(());
    };
    room.apply("demo", &two_gateways(room)).await?;
    room.until_settled("demo", BIRTH).await?;
    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway, Patience::Until(AWAY)).await?;
    let pod = room.api::<Pod>().get(&node_pod("demo", 1)).await?;
    let machine = pod
        .spec
        .and_then(|spec| spec.node_name)
        .context("no machine")?;
    machines.crash(&machine).await?;
    // Whatever comes now, the machine gets its power back.
    let away = stays_away(room, &machine).await;
    machines.start(&machine).await?;
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
