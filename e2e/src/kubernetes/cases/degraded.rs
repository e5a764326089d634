//! A cluster that cannot become whole, and a person who says that an update goes
//! on all the same.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::content::noise;
use holdfast_e2e::wait::{stays, until};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use super::scale::fragments_of;
use super::{PATIENCE, SETTLED, TOLD};
use crate::children::{
    ask_for_memory, node_claim, node_pod, node_set, storage_pods, until_all_ask,
};
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::{two_gateways, with};
use crate::state;
use crate::told::until_told;
use crate::traffic::{Patience, Traffic};

const NODES: usize = 3;
/// The node that is lost; an update begins with it.
const LAST: u32 = 2;
/// Large enough that its bytes are on a node, and not in the metadata.
const FILE: usize = 300_000;
/// Ten rounds of an operator that has something to do.
const LEFT_ALONE: Duration = Duration::from_secs(20);

pub async fn a_word_for_one_generation_takes_degraded_nodes_one_at_a_time(
    room: &Room,
) -> Result<()> {
    // One copy: what was on a lost disk alone does not come back, and the
    // cluster says so for ever.
    let spec = with(two_gateways(room), json!({"redundancy": {"copies": 1}}));
    room.apply("demo", &spec).await?;
    let born = room.until_settled("demo", SETTLED).await?;
    lose_objects(room, &born).await?;
    // Its files are of after the loss, and on one node each.
    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway, Patience::Until(PATIENCE)).await?;
    let onlooker = Onlooker::begin(room, "demo", NODES);

    let before = pods(room).await?;
    ask_for_memory(room, "80Mi").await?;
    until_told(room, "demo", &[&node_pod("demo", LAST), "lost"], TOLD).await?;
    ensure!(pods(room).await? == before, "a pod was replaced unasked");
    let generation = room.cluster("demo").await?.metadata.generation;
    let generation = generation.context("no generation")?.to_string();
    let word = json!({"metadata": {"annotations": {
        "holdfast.dev/proceed-while-degraded": generation,
    }}});
    room.merge::<StorageCluster>("demo", word).await?;
    until_all_ask(room, NODES, "80Mi", SETTLED).await?;
    onlooker.expect_each_replaced_once().await?;

    // The word was about that generation.
    let before = pods(room).await?;
    ask_for_memory(room, "96Mi").await?;
    until("the next generation is planned", TOLD, async || {
        let set = room.api::<StatefulSet>().get(&node_set("demo")).await?;
        let template = serde_json::to_string(&set.spec)?;
        ensure!(template.contains("96Mi"), "the pods are to be as before");
        Ok(())
    })
    .await?;
    stays("no pod is replaced", LEFT_ALONE, async || {
        let now = pods(room).await?;
        ensure!(now == before, "{now:?} in place of {before:?}");
        Ok(())
    })
    .await?;
    traffic.finish_unharmed().await.map(drop)
}

/// The identities of the storage nodes' pods.
async fn pods(room: &Room) -> Result<BTreeSet<String>> {
    let pods = storage_pods(room, "demo").await?;
    let uids: BTreeSet<String> = pods.iter().filter_map(ResourceExt::uid).collect();
    ensure!(uids.len() == NODES, "there are {} storage pods", uids.len());
    Ok(uids)
}

/// Stores files, takes the disk that some of them are on, and says that it will
/// not come back. All nodes answer afterwards.
async fn lose_objects(room: &Room, born: &StorageCluster) -> Result<()> {
    let gateway = room.gateway("demo").await?;
    let old = id_of(born)?;
    let mut seed = 0;
    until("the last node holds files", SETTLED, async || {
        seed += 1;
        let bytes = noise(seed, FILE);
        gateway.upload("lost.bin", bytes, 0).await?;
        let held = fragments_of(&gateway, &old).await?;
        ensure!(held.is_some_and(|held| held > 2), "it holds {held:?}");
        Ok(())
    })
    .await?;
    let now = DeleteParams::default();
    room.api::<PersistentVolumeClaim>()
        .delete(&node_claim("demo", LAST), &now)
        .await?;
    room.api::<Pod>()
        .delete(&node_pod("demo", LAST), &now)
        .await?;
    room.until_cluster("demo", "a new node", SETTLED, |cluster| {
        id_of(cluster).is_ok_and(|id| id != old)
    })
    .await?;
    room.change("demo", json!({"removedNodes": [old]})).await?;
    room.until_cluster(
        "demo",
        "objects are lost, and all answer",
        SETTLED,
        |cluster| {
            let Some(status) = &cluster.status else {
                return false;
            };
            let lost = status.objects.as_ref().is_some_and(|one| one.lost > 0);
            let active = status.nodes.list.iter().filter(|n| n.state == "Active");
            let there = active.count() == NODES && status.nodes.ready as usize == NODES;
            state::is_current(cluster) && state::is(cluster, "Degraded", "True") && lost && there
        },
    )
    .await
    .map(drop)
}

fn id_of(cluster: &StorageCluster) -> Result<String> {
    let node = state::node(cluster, LAST).and_then(|node| node.id.clone());
    node.with_context(|| format!("the node has no identity: {}", state::say(cluster)))
}
