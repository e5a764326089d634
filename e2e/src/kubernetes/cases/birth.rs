//! The first apply, and those that are refused.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::content::noise;
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{BIRTH, SETTLED};
use crate::children::{claim_uid, node_pod};
use crate::room::Room;
use crate::spec::{example, small, with};
use crate::state::{self, CONDITIONS};
use crate::traffic::{Patience, Traffic};

const ZONE: &str = "topology.kubernetes.io/zone";

pub async fn apply_makes_a_cluster_that_stores_and_serves(room: &Room) -> Result<()> {
    room.apply("demo", &example()?).await?;
    let first = room.until_cluster("demo", "a first status", BIRTH, |cluster| {
        cluster.status.is_some()
    });
    all_conditions_are_there(&first.await?)?;
    room.until_ready("demo", BIRTH).await?;

    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway.clone(), Patience::OneRetry).await?;
    for (seed, size) in [0, 900, 300_000, 20 << 20].into_iter().enumerate() {
        let bytes = noise(seed as u64, size);
        let id = gateway.upload("first.bin", bytes.clone(), 0).await?;
        gateway.expect(&id, &bytes).await?;
    }

    // The first census comes when it comes.
    let cluster = room.until_settled("demo", SETTLED).await?;
    all_conditions_are_there(&cluster)?;
    ensure!(
        state::is(&cluster, "Stalled", "False"),
        "{}",
        state::say(&cluster)
    );
    let status = cluster.status.as_ref().context("no status")?;
    ensure!(status.cluster_id.is_some(), "no clusterId");
    // The example names no tag: the one of then is recorded.
    let images: Vec<&String> = status.images.values().collect();
    ensure!(
        images.iter().any(|image| image.contains(&room.tag)),
        "images {images:?}, and not {}",
        room.tag
    );
    nodes_are_told_as_they_are(room, &cluster).await?;
    traffic.finish_unharmed().await.map(drop)
}

fn all_conditions_are_there(cluster: &StorageCluster) -> Result<()> {
    for kind in CONDITIONS {
        let condition = state::condition(cluster, kind).with_context(|| format!("no {kind}"))?;
        ensure!(!condition.reason.is_empty(), "{kind} has no reason");
    }
    Ok(())
}

/// Three, each with an identity, its volume, and a zone that there is.
async fn nodes_are_told_as_they_are(room: &Room, cluster: &StorageCluster) -> Result<()> {
    let machines = room
        .everywhere::<Node>()
        .list(&ListParams::default())
        .await?;
    let zones: BTreeSet<&str> = machines
        .iter()
        .filter_map(|node| node.metadata.labels.as_ref()?.get(ZONE))
        .map(String::as_str)
        .collect();
    let mut identities = BTreeSet::new();
    let mut used = BTreeSet::new();
    for ordinal in 0..3 {
        let node = state::node(cluster, ordinal)
            .with_context(|| format!("no node {ordinal}: {}", state::say(cluster)))?;
        ensure!(node.pod == node_pod("demo", ordinal), "{node:?}");
        identities.insert(node.id.as_ref().with_context(|| format!("{node:?}"))?);
        let claim = claim_uid(room, "demo", ordinal).await?;
        ensure!(
            node.pvc_uid.as_ref() == Some(&claim),
            "{node:?} is on {claim}"
        );
        let zone = node.zone.as_deref().unwrap_or_default();
        ensure!(zones.contains(zone), "{node:?}: there are {zones:?}");
        used.insert(zone);
    }
    ensure!(identities.len() == 3, "identities: {identities:?}");
    // Preferred spread fills every zone before it uses one twice.
    ensure!(used.len() == zones.len().min(3), "{used:?} of {zones:?}");
    Ok(())
}

pub async fn a_contradiction_is_refused_with_a_sentence(room: &Room) -> Result<()> {
    let base = small(room);
    for (change, sentence) in never_right() {
        refused(room, "wrong", with(base.clone(), change), sentence).await?;
    }
    let found = room.api::<StorageCluster>().get_opt("wrong").await?;
    ensure!(found.is_none(), "a contradiction was taken");

    // What exists and may not change so; it runs nothing.
    let quiet = with(base, json!({"hibernate": true, "suspend": true}));
    room.apply("kept", &quiet).await?;
    for (change, sentence) in never_right_later() {
        refused(room, "kept", with(quiet.clone(), change), sentence).await?;
    }
    room.apply(
        "kept",
        &with(quiet, json!({"nodes": {"storage": {"size": "3Gi"}}})),
    )
    .await
    .context("a volume that grows")?;
    Ok(())
}

fn never_right() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"redundancy": {"copies": 5}}),
            "at least as many nodes as copies",
        ),
        (
            json!({"redundancy": {"metadataReplicas": 5}}),
            "at least as many nodes as replicas of metadata",
        ),
        (
            json!({"redundancy": {"metadataReplicas": 4}}),
            "there are 3 or 5 replicas of metadata",
        ),
        (
            json!({"queue": {"type": "Managed", "external": {"secretName": "mine"}}}),
            "external is given with type External, and only then",
        ),
        (
            json!({"queue": {"type": "External", "managed": {}, "external": {"secretName": "mine"}}}),
            "managed is given with type Managed only",
        ),
        (
            json!({"cache": {"type": "External"}}),
            "external is given with type External, and only then",
        ),
        (
            json!({"tls": {"mode": "CertManager"}}),
            "issuerRef is given with mode CertManager, and only then",
        ),
        (
            json!({"nodes": {"storage": {"size": "900Mi"}}}),
            "a volume needs at least 1Gi",
        ),
        (
            json!({"worker": {"autoscale": {"min": 3, "max": 2}}}),
            "min is above max",
        ),
    ]
}

fn never_right_later() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"nodes": {"storage": {"size": "1Gi"}}}),
            "a volume cannot shrink",
        ),
        (
            json!({"redundancy": {"copies": 2}}),
            "the redundancy is fixed when the cluster is born",
        ),
        (
            json!({"tls": {"mode": "Managed"}}),
            "TLS is turned on or off while the cluster sleeps",
        ),
    ]
}

async fn refused(room: &Room, name: &str, spec: Value, sentence: &str) -> Result<()> {
    // The definition may be a moment old.
    until("an answer", BIRTH, async || {
        match room.apply(name, &spec).await {
            Err(kube::Error::Api(status)) if status.message.contains(sentence) => Ok(()),
            Err(error) => bail!("instead of {sentence:?}: {error}"),
            Ok(_) => bail!("taken, although {sentence}"),
        }
    })
    .await
}
