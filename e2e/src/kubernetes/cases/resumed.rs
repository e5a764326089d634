//! Operators that die in the middle of something long, and the next one goes on
//! with it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde_json::json;

use super::volumes::{SIZED_CLASS, asked, claim, on};
use super::{SETTLED, TOLD, born_with_traffic};
use crate::chart::{kill_operators, scale_operators};
use crate::children::{
    ask_for_memory, asks_for_memory, is_ready, lives, node_set, storage_pods, until_all_ask,
};
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::{small, two_gateways, with};
use crate::traffic::{Patience, Traffic};
use crate::trust::Believed;

pub async fn the_operator_killed_in_the_middle_of_an_upgrade(room: &Room) -> Result<()> {
    const NODES: usize = 3;
    let (_, traffic) = born_with_traffic(room, &two_gateways(room)).await?;
    let onlooker = Onlooker::begin(room, "demo", NODES);
    ask_for_memory(room, "80Mi").await?;
    // Each time with the permit in its hands, and the node away.
    for done in 0..NODES {
        let what = format!("{done} nodes are new, and another is away");
        until(&what, SETTLED, async || {
            let pods = storage_pods(room, "demo").await?;
            let (new, old): (Vec<&Pod>, Vec<&Pod>) = pods
                .iter()
                .filter(|pod| is_ready(pod))
                .partition(|pod| asks_for_memory(pod, "80Mi"));
            let expected = (done, NODES - done - 1);
            let there = (new.len(), old.len());
            ensure!(there == expected, "{there:?} new and old ones are ready");
            Ok(())
        })
        .await?;
        kill_operators(room).await?;
    }
    until_all_ask(room, NODES, "80Mi", SETTLED).await?;
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_each_replaced_once().await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Holds an object back that is deleted: what is between two steps of the
/// operator is too short to be hit.
const HELD: &str = "e2e.holdfast.dev/held";

pub async fn the_operator_killed_in_the_middle_of_a_volume_expansion(room: &Room) -> Result<()> {
    let Ok(class) = std::env::var(SIZED_CLASS) else {
        println!("      skipped: {SIZED_CLASS} names no class");
        return Ok(());
    };
    let (_, traffic) = born_with_traffic(room, &with(small(room), on(&class, "1Gi"))).await?;
    let before = (lives(room).await?, set(room).await?.uid());
    hold(room, true).await?;
    let shown = killed_twice(room).await;
    // Whatever came of it: the namespace could not go, and others need an operator.
    let freed = free(room).await;
    scale_operators(room, 1).await?;
    shown.and(freed)?;

    until("the StatefulSet is another one", SETTLED, async || {
        let set = set(room).await?;
        ensure!(set.uid() != before.1, "it is the one of before");
        ensure!(template_size(&set).as_deref() == Some("2Gi"), "{set:?}");
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    for ordinal in 0..3 {
        let claim = claim(room, ordinal).await?;
        let size = capacity(&claim);
        ensure!(
            size.as_deref() == Some("2Gi"),
            "volume {ordinal} has {size:?}"
        );
    }
    let after = lives(room).await?;
    ensure!(
        after == before.0,
        "pods {after:?} in place of {:?}",
        before.0
    );
    traffic.finish_unharmed().await.map(drop)
}

/// Asks for more room, and kills the operator when the claims are asked for it,
/// and when the StatefulSet is deleted and not made again.
async fn killed_twice(room: &Room) -> Result<()> {
    room.change("demo", json!({"nodes": {"storage": {"size": "2Gi"}}}))
        .await?;
    until("a claim is asked for more", TOLD, async || {
        let size = asked(&claim(room, 0).await?);
        ensure!(size.as_deref() == Some("2Gi"), "it asks for {size:?}");
        Ok(())
    })
    .await?;
    kill_operators(room).await?;
    until("the StatefulSet is deleted", SETTLED, async || {
        let deleted = set(room).await?.metadata.deletion_timestamp;
        deleted.context("it is not").map(drop)
    })
    .await?;
    kill_operators(room).await?;
    scale_operators(room, 0).await?;
    hold(room, false).await?;
    until("the StatefulSet is gone", TOLD, async || {
        let found = room.api::<StatefulSet>().get_opt(&node_set("demo")).await?;
        ensure!(found.is_none(), "it is there");
        Ok(())
    })
    .await?;
    let pods = storage_pods(room, "demo").await?;
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    ensure!(ready == 3, "{ready} of three nodes serve without it");
    Ok(())
}

async fn set(room: &Room) -> Result<StatefulSet> {
    Ok(room.api::<StatefulSet>().get(&node_set("demo")).await?)
}

/// Has the StatefulSet stay when it is deleted, or lets it go.
async fn hold(room: &Room, held: bool) -> Result<()> {
    // Others take theirs away meanwhile.
    until("the finalizer is changed", TOLD, async || {
        let set = set(room).await?;
        let others = set.finalizers().iter().filter(|one| *one != HELD);
        let mut all: Vec<&str> = others.map(String::as_str).collect();
        all.extend(held.then_some(HELD));
        let version = set.resource_version();
        let change = json!({"metadata": {"finalizers": all, "resourceVersion": version}});
        room.merge::<StatefulSet>(&node_set("demo"), change).await
    })
    .await
}

async fn free(room: &Room) -> Result<()> {
    let set = room.api::<StatefulSet>().get_opt(&node_set("demo")).await?;
    match set.is_some_and(|set| set.finalizers().iter().any(|one| one == HELD)) {
        true => hold(room, false).await,
        false => Ok(()),
    }
}

fn template_size(set: &StatefulSet) -> Option<String> {
    let template = set
        .spec
        .as_ref()?
        .volume_claim_templates
        .as_ref()?
        .first()?;
    asked(template)
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<String> {
    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
    Some(capacity.get("storage")?.0.clone())
}

/// The kubelet brings a change to a pod within two minutes, for which an
/// authority and a credential have two steps each; and some for the kills.
const EXCHANGED: Duration = Duration::from_secs(600);
/// The value of the annotation.
const WISH: &str = "once";
/// Steps at whose beginnings the operator is killed.
const KILLED_AT: [(&str, &str); 3] = [
    ("Authority", "Adding"),
    ("Authority", "Switching"),
    ("ClusterCredential", "Switching"),
];

pub async fn the_operator_killed_in_the_middle_of_a_rotation(room: &Room) -> Result<()> {
    let spec = with(small(room), json!({"tls": {"mode": "Managed"}}));
    room.apply("demo", &spec).await?;
    room.until_settled("demo", SETTLED).await?;
    let believed = Believed::follow(room, "demo").await?;
    let gateway = room.gateway_trusting("demo", believed.trust()).await?;
    let traffic = Traffic::start(gateway, Patience::OneRetry).await?;
    let before = (lives(room).await?, room.authorities("demo").await?);

    let annotations = json!({"metadata": {"annotations": {"holdfast.dev/rotate": WISH}}});
    room.merge::<StorageCluster>("demo", annotations).await?;
    for (credential, step) in KILLED_AT {
        let what = format!("{credential} is at {step}");
        room.until_cluster("demo", &what, EXCHANGED, |cluster| {
            let status = cluster.status.as_ref();
            let rotation = status.and_then(|status| status.rotation.as_ref());
            rotation.is_some_and(|one| one.credential == credential && one.step == step)
        })
        .await?;
        kill_operators(room).await?;
    }
    room.until_cluster("demo", "all is exchanged", EXCHANGED, |cluster| {
        let status = cluster.status.as_ref();
        status.is_some_and(|status| {
            status.rotated.as_deref() == Some(WISH) && status.rotation.is_none()
        })
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;

    let after = (lives(room).await?, room.authorities("demo").await?);
    ensure!(
        after.0 == before.0,
        "pods {:?} in place of {:?}",
        after.0,
        before.0
    );
    ensure!(after.1 != before.1, "the authority is the old one");
    traffic.finish_unharmed().await.map(drop)
}
