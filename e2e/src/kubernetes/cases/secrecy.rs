//! Encryption, and the exchange of what it rests on.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::content::noise;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;

use super::{SETTLED, TOLD};
use crate::children::storage_pods;
use crate::room::Room;
use crate::spec::{small, with};

/// The kubelet brings a change to a pod within two minutes, and an authority and
/// a credential have two steps each that wait for it.
const EXCHANGED: Duration = Duration::from_secs(540);
/// The value of the annotation.
const WISH: &str = "once";

pub async fn authority_and_credential_are_exchanged_and_no_pod_restarts(room: &Room) -> Result<()> {
    room.apply(
        "demo",
        &with(small(room), json!({"tls": {"mode": "Managed"}})),
    )
    .await?;
    room.until_settled("demo", SETTLED).await?;
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
    ensure!(before.0 == after.0, "a storage node was restarted");
    ensure!(before.1.0 != after.1.0, "the authority is the old one");
    ensure!(before.1.1 != after.1.1, "the credential is the old one");
    room.gateway("demo").await?.expect(&file, &content).await
}

async fn identities(room: &Room) -> Result<Vec<Option<String>>> {
    let pods = storage_pods(room, "demo").await?;
    Ok(pods.iter().map(ResourceExt::uid).collect())
}

/// The authority and the credential.
async fn secrets(room: &Room) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let secret = room.api::<Secret>().get("demo-credentials").await?;
    let credential = secret
        .data
        .and_then(|mut data| data.remove("cluster-secret"));
    Ok((
        room.authorities("demo").await?,
        credential.map(|bytes| bytes.0),
    ))
}
