//! Volumes that grow, that cannot, and that are full.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::ListParams;
use reqwest::Method;
use serde_json::{Value, json};

use super::{SETTLED, TOLD, born_with_patient_traffic, born_with_traffic};
use crate::children::{node_claim, node_set};
use crate::room::Room;
use crate::spec::{small, with};
use crate::state;

/// Names a class whose volumes hold what they were asked to hold, and no more.
pub const SIZED_CLASS: &str = "HOLDFAST_SIZED_CLASS";

/// A class that allows expansion, or one that does not. The cluster's default
/// rather than another.
async fn class(room: &Room, grows: bool) -> Result<Option<String>> {
    let classes = room.everywhere::<StorageClass>();
    let mut fitting = classes.list(&ListParams::default()).await?.items;
    fitting.retain(|class| class.allow_volume_expansion.unwrap_or(false) == grows);
    let is_default = |class: &StorageClass| {
        let said = "storageclass.kubernetes.io/is-default-class";
        class
            .annotations()
            .get(said)
            .is_some_and(|said| said == "true")
    };
    fitting.sort_by_key(|class| !is_default(class));
    let found = fitting.first().map(ResourceExt::name_any);
    if found.is_none() {
        println!("      skipped: there is no StorageClass with allowVolumeExpansion: {grows}");
    }
    Ok(found)
}

pub fn on(class: &str, size: &str) -> Value {
    json!({"nodes": {"storage": {"storageClassName": class, "size": size}}})
}

pub async fn volumes_grow_where_their_class_allows(room: &Room) -> Result<()> {
    let Some(class) = class(room, true).await? else {
        return Ok(());
    };
    let (_, traffic) = born_with_traffic(room, &with(small(room), on(&class, "2Gi"))).await?;
    room.change("demo", json!({"nodes": {"storage": {"size": "3Gi"}}}))
        .await?;
    until("all volumes have grown", SETTLED, async || {
        for ordinal in 0..3 {
            let claim = claim(room, ordinal).await?;
            let capacity = claim.status.and_then(|status| status.capacity);
            let size = capacity.and_then(|mut all| all.remove("storage"));
            ensure!(
                size.as_ref().is_some_and(|size| size.0 == "3Gi"),
                "{ordinal} has {size:?}"
            );
        }
        Ok(())
    })
    .await?;
    // A node that comes later has as much.
    room.scale("demo", 4).await?;
    let whole = room.until_settled("demo", SETTLED).await?;
    ensure!(
        asked(&claim(room, 3).await?) == Some("3Gi".into()),
        "the new node's volume is another: {}",
        state::say(&whole)
    );
    let set = room.api::<StatefulSet>().get(&node_set("demo")).await?;
    let template = serde_json::to_string(&set.spec)?;
    ensure!(template.contains("3Gi"), "{template}");
    traffic.finish_unharmed().await.map(drop)
}

pub async fn volumes_that_cannot_grow_are_told(room: &Room) -> Result<()> {
    let Some(class) = class(room, false).await? else {
        return Ok(());
    };
    let (_, traffic) = born_with_traffic(room, &with(small(room), on(&class, "2Gi"))).await?;
    room.change("demo", json!({"nodes": {"storage": {"size": "3Gi"}}}))
        .await?;
    room.until_cluster("demo", "it is told", TOLD, |cluster| {
        state::condition(cluster, "Stalled").is_some_and(|stalled| {
            stalled.status == "True"
                && stalled.reason == "VolumesCannotGrow"
                && stalled.message.contains(&node_claim("demo", 0))
        })
    })
    .await?;
    ensure!(
        asked(&claim(room, 0).await?) == Some("2Gi".into()),
        "the claim asks for more than it can get"
    );
    // What was asked for is not in place, and what is there serves on.
    let cluster = room.cluster("demo").await?;
    ensure!(
        state::is(&cluster, "Ready", "False") && state::is(&cluster, "Degraded", "False"),
        "{}",
        state::say(&cluster)
    );
    traffic.finish_unharmed().await.map(drop)
}

pub async fn claim(room: &Room, ordinal: u32) -> Result<PersistentVolumeClaim> {
    let claims = room.api::<PersistentVolumeClaim>();
    Ok(claims.get(&node_claim("demo", ordinal)).await?)
}

pub fn asked(claim: &PersistentVolumeClaim) -> Option<String> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    Some(resources.requests.as_ref()?.get("storage")?.0.clone())
}

/// Names a class that has no volumes above 20Gi.
const LIMITED_CLASS: &str = "HOLDFAST_LIMITED_CLASS";

pub async fn volumes_that_their_class_does_not_give_are_told(room: &Room) -> Result<()> {
    let Ok(class) = std::env::var(LIMITED_CLASS) else {
        println!("      skipped: {LIMITED_CLASS} names no class");
        return Ok(());
    };
    room.apply("large", &with(small(room), on(&class, "25Gi")))
        .await?;
    let told = room
        .until_cluster("large", "it is told", TOLD, |cluster| {
            state::condition(cluster, "Stalled").is_some_and(|stalled| {
                let of_one = (0..3).any(|n| stalled.message.contains(&node_claim("large", n)));
                stalled.status == "True" && stalled.reason == "ProvisioningFailed" && of_one
            })
        })
        .await?;
    // In the provisioner's own words.
    let about = ListParams::default().fields("reason=ProvisioningFailed");
    let events = room.api::<Event>().list(&about).await?.items;
    let words = events.iter().filter_map(|event| event.message.as_deref());
    let stalled = state::condition(&told, "Stalled").context("no Stalled")?;
    ensure!(
        words
            .into_iter()
            .any(|words| stalled.message.contains(words)),
        "{}",
        state::say(&told)
    );

    // What the class has is given, beside the one that waits.
    let (_, traffic) = born_with_traffic(room, &with(small(room), on(&class, "2Gi"))).await?;
    let large = room.cluster("large").await?;
    ensure!(
        state::is(&large, "Ready", "False") && state::is(&large, "Stalled", "True"),
        "{}",
        state::say(&large)
    );
    traffic.finish_unharmed().await.map(drop)
}

/// Large enough that a small volume is full soon.
const FILE: usize = 32 << 20;

pub async fn full_volumes_refuse_uploads_and_deletions_work(room: &Room) -> Result<()> {
    let Ok(class) = std::env::var(SIZED_CLASS) else {
        println!("      skipped: {SIZED_CLASS} names no class");
        return Ok(());
    };
    let spec = with(small(room), on(&class, "1Gi"));
    // What it uploads is refused while the volumes are full, and tried again.
    let (_, traffic) = born_with_patient_traffic(room, &spec).await?;
    let gateway = room.gateway("demo").await?;
    let files = fill(&gateway).await?;
    ensure!(files.len() > 4, "full with {} files", files.len());
    for (id, seed) in &files {
        gateway.expect(id, &noise(*seed, FILE)).await?;
    }
    let (going, staying) = files.split_at(files.len() / 2);
    for (id, _) in going {
        let deleted = gateway
            .request(Method::DELETE, &format!("/api/files/{id}"))
            .send()
            .await?;
        let status = deleted.status();
        ensure!(status.is_success(), "a deletion of a full store: {status}");
    }
    // What was deleted is room again.
    let bytes = noise(9_999, FILE);
    let id = until("an upload", SETTLED, async || {
        gateway.upload("again.bin", bytes.clone(), 0).await
    })
    .await?;
    gateway.expect(&id, &bytes).await?;
    for (id, seed) in staying {
        gateway.expect(id, &noise(*seed, FILE)).await?;
    }
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Uploads until it is refused several times; what was acknowledged.
pub async fn fill(gateway: &Gateway) -> Result<Vec<(String, u64)>> {
    /// Twice what the volumes hold.
    const MOST: u64 = (2 << 30) / FILE as u64;
    let mut files = Vec::new();
    let mut refused = 0;
    for seed in 0..MOST {
        let response = gateway
            .request(Method::PUT, "/api/upload/full.bin?download_limit=0")
            .body(noise(seed, FILE))
            .send()
            .await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        if status == 201 {
            let file: Value = serde_json::from_str(&text)?;
            let id = file.get("file_id").and_then(Value::as_str);
            files.push((id.context("no file_id")?.to_owned(), seed));
            continue;
        }
        ensure!(
            status == 507 || status == 503,
            "a full store answers {status}: {text}"
        );
        refused += 1;
        if refused == 3 {
            return Ok(files);
        }
    }
    anyhow::bail!(
        "{} files of {FILE} bytes were taken, and it is not full",
        files.len()
    )
}
