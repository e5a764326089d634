//! Clusters that sleep, go, come back, and have neighbours.

use anyhow::{Context, Result, ensure};
use holdfast_crd::{ClusterPhase, StorageCluster};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::wait::until;
use kube::api::DeleteParams;
use reqwest::StatusCode;
use serde_json::json;

use super::{SETTLED, TOLD, born_with_patient_traffic, born_with_traffic};
use crate::children::{claim_uid, until_no_pods};
use crate::room::Room;
use crate::spec::{encrypted, small};
use crate::state::{self, id_of};
use crate::traffic::{Patience, Traffic};

/// Inline, one chunk, several chunks.
const SIZES: [usize; 4] = [900, 40_000, 1 << 20, 9 << 20];

/// Files that must come back.
pub struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    /// Stores some, which are others for each seed.
    pub async fn store(gateway: &Gateway, seed: u64) -> Result<Self> {
        let mut files = Vec::new();
        for (at, size) in SIZES.into_iter().enumerate() {
            let bytes = noise(seed + at as u64, size);
            let id = gateway.upload("kept.bin", bytes.clone(), 0).await?;
            files.push((id, bytes));
        }
        Ok(Self(files))
    }

    /// Looks at the first of them, once.
    pub async fn expect_once(&self, gateway: &Gateway) -> Result<()> {
        let (id, bytes) = self.0.first().context("no file")?;
        gateway.expect(id, bytes).await
    }

    /// Looks at all of them.
    pub async fn expect(&self, gateway: &Gateway) -> Result<()> {
        for (id, bytes) in &self.0 {
            until("a file", TOLD, async || gateway.expect(id, bytes).await).await?;
        }
        Ok(())
    }
}

async fn claims(room: &Room) -> Result<Vec<String>> {
    let claims = (0..3).map(|ordinal| claim_uid(room, "demo", ordinal));
    futures_util::future::try_join_all(claims).await
}

pub async fn a_resource_deleted_and_made_again_finds_its_files(room: &Room) -> Result<()> {
    let (before, traffic) = born_with_traffic(room, &encrypted(room)).await?;
    let files = Files::store(&room.gateway("demo").await?, 100).await?;
    let (key, volumes) = (room.first_key("demo").await?, claims(room).await?);
    let authorities = room.authorities("demo").await?;
    traffic.finish_unharmed().await?;

    let resources = room.api::<StorageCluster>();
    resources.delete("demo", &DeleteParams::default()).await?;
    until_no_pods(room, "demo", SETTLED).await?;
    let left = resources.get_opt("demo").await?;
    ensure!(left.is_none(), "the resource is still there");

    let (after, traffic) = born_with_traffic(room, &encrypted(room)).await?;
    ensure!(id_of(&after).is_some(), "no clusterId");
    ensure!(id_of(&after) == id_of(&before), "it is another cluster");
    ensure!(claims(room).await? == volumes, "there are other volumes");
    ensure!(room.first_key("demo").await? == key, "there is another key");
    ensure!(
        room.authorities("demo").await? == authorities,
        "who believed the authority of before does not believe it any more"
    );
    files.expect(&room.gateway("demo").await?).await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn hibernate_and_wake(room: &Room) -> Result<()> {
    // The client goes on trying while the store sleeps.
    let (before, traffic) = born_with_patient_traffic(room, &small(room)).await?;
    let files = Files::store(&room.gateway("demo").await?, 200).await?;
    let volumes = claims(room).await?;

    room.change("demo", json!({"hibernate": true})).await?;
    room.until_cluster("demo", "it sleeps", SETTLED, |cluster| {
        let phase = cluster.status.as_ref().and_then(|status| status.phase);
        state::is_current(cluster)
            && phase == Some(ClusterPhase::Hibernated)
            && state::condition(cluster, "Ready")
                .is_some_and(|c| c.status == "False" && c.reason == "Hibernated")
    })
    .await?;
    until_no_pods(room, "demo", SETTLED).await?;
    ensure!(claims(room).await? == volumes, "volumes went");

    room.change("demo", json!({"hibernate": false})).await?;
    let after = room.until_settled("demo", SETTLED).await?;
    ensure!(id_of(&after) == id_of(&before), "it is another cluster");
    files.expect(&room.gateway("demo").await?).await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn two_clusters_in_one_namespace(room: &Room) -> Result<()> {
    for name in ["demo", "other"] {
        room.apply(name, &small(room)).await?;
    }
    let demo = room.until_settled("demo", SETTLED).await?;
    let other = room.until_settled("other", SETTLED).await?;
    ensure!(id_of(&demo) != id_of(&other), "both are the same cluster");
    let (here, there) = (room.gateway("demo").await?, room.gateway("other").await?);
    let traffic = Traffic::start(there.clone(), Patience::OneRetry).await?;
    let (mine, theirs) = (
        Files::store(&here, 300).await?,
        Files::store(&there, 400).await?,
    );
    let (id, _) = mine.0.first().context("no file")?;
    let status = there.download(id).await?.status();
    ensure!(
        status == StatusCode::NOT_FOUND,
        "the other one has it: {status}"
    );
    mine.expect(&here).await?;

    room.api::<StorageCluster>()
        .delete("demo", &DeleteParams::default())
        .await?;
    until_no_pods(room, "demo", SETTLED).await?;
    room.until_settled("other", SETTLED).await?;
    theirs.expect(&there).await?;
    traffic.finish_unharmed().await.map(drop)
}
