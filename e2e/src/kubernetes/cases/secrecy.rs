//! Encryption, and the exchange of what it rests on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::content::{noise, picture};
use holdfast_e2e::wait::until;
use image::ImageFormat;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::{SETTLED, TOLD};
use crate::children::restarts;
use crate::room::Room;
use crate::spec::{small, with};
use crate::traffic::{Patience, Traffic};
use crate::trust::Believed;

/// The kubelet brings a change to a pod within two minutes; an authority has two
/// steps that wait for it, and then credential and passwords together as well.
const EXCHANGED: Duration = Duration::from_secs(540);
/// What must be another one afterwards.
const EXCHANGED_KEYS: [&str; 4] = [
    "cluster-secret",
    "rabbitmq-user",
    "rabbitmq-password",
    "redis-password",
];
/// Storage nodes, a gateway, a worker, a broker and a cache.
const PARTS: usize = 7;
/// The value of the annotation.
const WISH: &str = "once";

pub async fn authority_credential_and_passwords_are_exchanged_and_no_pod_restarts(
    room: &Room,
) -> Result<()> {
    room.apply(
        "demo",
        &with(small(room), json!({"tls": {"mode": "Managed"}})),
    )
    .await?;
    room.until_settled("demo", SETTLED).await?;
    let believed = Believed::follow(room, "demo").await?;
    let client = room.gateway_trusting("demo", believed.trust()).await?;
    let traffic = Traffic::start(client, Patience::OneRetry).await?;
    let content = noise(7, 300_000);
    let gateway = room.gateway("demo").await?;
    let file = gateway.upload("kept.bin", content.clone(), 0).await?;
    let before = (identities(room).await?, secrets(room).await?);

    let annotations = json!({"holdfast.dev/rotate": WISH});
    room.merge::<StorageCluster>("demo", json!({"metadata": {"annotations": annotations}}))
        .await?;
    room.until_cluster("demo", "an exchange is told", TOLD, |cluster| {
        let status = cluster.status.as_ref();
        status.is_some_and(|status| status.rotation.is_some())
    })
    .await?;
    room.until_cluster("demo", "all is exchanged", EXCHANGED, |cluster| {
        let status = cluster.status.as_ref();
        status.is_some_and(|status| status.rotated.as_deref() == Some(WISH))
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;

    let after = (identities(room).await?, secrets(room).await?);
    for (uid, restarts) in &before.0 {
        ensure!(after.0.get(uid) == Some(restarts), "a pod was restarted");
    }
    ensure!(before.1.0 != after.1.0, "the authority is the old one");
    for key in EXCHANGED_KEYS {
        let value = |secrets: &BTreeMap<String, ByteString>| secrets.get(key).cloned();
        let new = value(&after.1.1);
        ensure!(new.is_some(), "{key} is gone");
        ensure!(value(&before.1.1) != new, "{key} is the old one");
    }
    let of_an_exchange = |key: &&String| key.ends_with("-previous") || key.ends_with("-next");
    let left: Vec<_> = after.1.1.keys().filter(of_an_exchange).collect();
    ensure!(left.is_empty(), "{left:?} are left of the exchange");
    // A task goes through the queue, by its new user.
    let gateway = room.gateway("demo").await?;
    let picture = gateway
        .upload("picture.png", picture(7, 640, 480, ImageFormat::Png)?, 0)
        .await?;
    until("a thumbnail", SETTLED, async || {
        gateway.thumbnail(&picture).await
    })
    .await?;
    gateway.expect(&file, &content).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Each pod of the cluster, and how often its containers have begun.
async fn identities(room: &Room) -> Result<BTreeMap<Option<String>, i32>> {
    let labelled = ListParams::default().labels("app.kubernetes.io/instance=demo");
    let pods = room.api::<Pod>().list(&labelled).await?.items;
    ensure!(pods.len() >= PARTS, "there are only {} pods", pods.len());
    Ok(pods.iter().map(|pod| (pod.uid(), restarts(pod))).collect())
}

/// The authority, and what the credentials' Secret holds.
async fn secrets(room: &Room) -> Result<(Vec<u8>, BTreeMap<String, ByteString>)> {
    let secret = room.api::<Secret>().get("demo-credentials").await?;
    let authorities = room.authorities("demo").await?;
    Ok((authorities, secret.data.unwrap_or_default()))
}
