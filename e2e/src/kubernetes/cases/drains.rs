//! Nodes that an administrator has emptied: `holdfast admin drain`.

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::{SETTLED, TOLD, born_with_traffic};
use crate::children::{ask_for_memory, until_all_ask, until_one_is_away};
use crate::outages::run;
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::{two_gateways, with};
use crate::state;

const NODES: usize = 4;

pub async fn a_drain_asked_for_during_an_upgrade_ends_as_it_does_and_is_kept(
    room: &Room,
) -> Result<()> {
    let four = with(two_gateways(room), json!({"nodes": {"replicas": NODES}}));
    let (born, traffic) = born_with_traffic(room, &four).await?;
    let leaving = one_of_two_in_a_zone(&born)?;
    let node = state::node(&born, leaving).and_then(|node| node.id.clone());
    let node = node.context("the node has no identity")?;
    let onlooker = Onlooker::begin(room, "demo", NODES);
    ask_for_memory(room, "80Mi").await?;
    until_one_is_away(room, NODES, SETTLED).await?;
    admin(room, &format!("drain {node}")).await?;
    until_it_is(room, leaving, "Draining").await?;

    // What was asked first is finished, and so is what was asked then.
    until_all_ask(room, NODES, "80Mi", SETTLED).await?;
    until_it_is(room, leaving, "Drained").await?;
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_each_replaced_once().await?;
    let held = fragments(room, &node).await?;
    ensure!(held == 0, "{held} fragments are on a node that is drained");

    // The operator does something else, and does not undo it.
    room.change("demo", json!({"worker": {"replicas": 2}}))
        .await?;
    until("another worker", SETTLED, async || {
        let deployment = room.api::<Deployment>().get("demo-worker").await?;
        let available = deployment.status.and_then(|s| s.available_replicas);
        ensure!(available == Some(2), "{available:?} workers");
        Ok(())
    })
    .await?;
    let cluster = room.until_settled("demo", SETTLED).await?;
    ensure!(
        state::node(&cluster, leaving).is_some_and(|node| node.state == "Drained"),
        "the drain was undone: {}",
        state::say(&cluster)
    );
    admin(room, &format!("activate {node}")).await?;
    until_it_is(room, leaving, "Active").await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// A node without which every zone has one: four of them are on three machines.
fn one_of_two_in_a_zone(cluster: &StorageCluster) -> Result<u32> {
    let zone = |ordinal| state::node(cluster, ordinal).and_then(|node| node.zone.clone());
    let ordinals = 0..NODES as u32;
    let shared = |ordinal: &u32| {
        let mut others = ordinals.clone().filter(|other| other != ordinal);
        others.any(|other| zone(other).is_some() && zone(other) == zone(*ordinal))
    };
    let mut found = ordinals.clone().filter(shared);
    found.next().context("no two nodes are in one zone")
}

/// As an administrator does it, who has a key because a gateway has one.
async fn admin(room: &Room, order: &str) -> Result<()> {
    let line = format!(
        "kubectl --namespace {} exec deployment/demo-gateway -- holdfast admin {order} 2>&1",
        room.namespace
    );
    run(&line).await.map(drop)
}

async fn until_it_is(room: &Room, ordinal: u32, wanted: &str) -> Result<()> {
    let limit = if wanted == "Drained" { SETTLED } else { TOLD };
    room.until_cluster("demo", wanted, limit, |cluster| {
        state::node(cluster, ordinal).is_some_and(|node| node.state == wanted)
    })
    .await
    .map(drop)
}

/// How many fragments are on a node, as the cluster says.
async fn fragments(room: &Room, id: &str) -> Result<u64> {
    let nodes = room.gateway("demo").await?.json("/api/nodes").await?;
    let listed = nodes.get("nodes").and_then(Value::as_array);
    let mut listed = listed.into_iter().flatten();
    let node = listed.find(|node| node.get("id").and_then(Value::as_str) == Some(id));
    let fragments = node.and_then(|node| node.get("fragments")?.as_u64());
    fragments.context("the node is not listed")
}
