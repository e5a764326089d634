//! What is lost comes back as it is written: metadata out of a backup, a
//! namespace on volumes that were retained.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::binary;
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::api::{ListParams, Patch, PatchParams};
use reqwest::StatusCode;
use serde_json::json;

use super::SETTLED;
use super::rest::Files;
use crate::outages::run;
use crate::room::Room;
use crate::spec::{encrypted, small};
use crate::state::id_of;

/// Where it is written how this is done.
const PAGE: &str = "docs/kubernetes.md";
/// What stands before lines that are run as they are, and which they are.
const MARK: &str = "<!-- run by the Kubernetes suite: ";
const BEGIN: &str = " -->\n```sh\n";
/// What the page calls the namespace.
const NAMESPACE: &str = "files";
/// Until all of a namespace is gone.
const GONE: Duration = Duration::from_secs(240);
/// What the page calls the backup.
const BACKUP: &str = "holdfast.backup";

/// Runs the page's own lines, on a cluster whose metadata has gone from every
/// disk once it slept.
pub async fn metadata_lost_everywhere_comes_back_out_of_a_backup(room: &Room) -> Result<()> {
    room.apply("demo", &small(room)).await?;
    let before = room.until_settled("demo", SETTLED).await?;
    let gateway = room.gateway("demo").await?;
    let files = Files::store(&gateway, 500).await?;
    let directory = tempfile::tempdir()?;
    let backup = directory.path().join(BACKUP);
    make_backup(room, &gateway, &backup).await?;
    let later = gateway.upload("later.bin", noise(9, 900), 0).await?;

    let lines = lines_of_the_page("restore")?;
    let (asleep, restored) = lines
        .split_once("kubectl wait --for=condition=Ready --timeout=2m")
        .context("the page does not wait for its pods")?;
    let namespace = &room.namespace;
    let prepare =
        format!("set -e; kubectl() {{ command kubectl --namespace {namespace} \"$@\"; }}\n");
    let lost = "for N in 0 1 2; do kubectl exec demo-restore-$N -- sh -c 'rm -r /data/0/state /data/0/raft'; done";
    let all = format!(
        "{prepare}{asleep}kubectl wait --for=condition=Ready --timeout=2m{}",
        restored.replacen('\n', &format!("\n{lost}\n"), 1)
    );
    run(&all.replace(BACKUP, &backup.display().to_string())).await?;

    let after = room.until_settled("demo", SETTLED).await?;
    ensure!(id_of(&after) == id_of(&before), "it is another cluster");
    let gateway = room.gateway("demo").await?;
    files.expect(&gateway).await?;
    let status = gateway.download(&later).await?.status();
    ensure!(
        status == StatusCode::NOT_FOUND,
        "what came after the backup: {status}"
    );
    gateway.upload("new.bin", noise(10, 40_000), 0).await?;
    Ok(())
}

async fn make_backup(room: &Room, gateway: &Gateway, file: &Path) -> Result<()> {
    let output = tokio::process::Command::new(binary("holdfast")?)
        .args(["admin", "backup"])
        .arg(file)
        .env("HOLDFAST_URL", gateway.url())
        .env("HOLDFAST_KEY", room.first_key("demo").await?)
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "holdfast admin backup: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Runs the page's own lines, on a cluster whose volumes are of a class that
/// retains them.
pub async fn a_namespace_that_is_gone_comes_back_on_volumes_that_were_retained(
    room: &Room,
) -> Result<()> {
    room.apply("demo", &encrypted(room)).await?;
    let before = room.until_settled("demo", SETTLED).await?;
    let files = Files::store(&room.gateway("demo").await?, 600).await?;
    let volumes = volumes(room).await?;
    reclaim(room, &volumes, "Retain").await?;
    let shown = namespace_lost(room, &before, &files, &volumes).await;
    // Or they would stay for ever.
    reclaim(room, &volumes, "Delete").await?;
    shown
}

async fn namespace_lost(
    room: &Room,
    before: &StorageCluster,
    files: &Files,
    volumes_before: &BTreeSet<String>,
) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let there = format!("set -e; cd {}\n", directory.path().display());
    let typed = |name: &str| -> Result<String> {
        let lines = lines_of_the_page(name)?;
        let lines = lines.replace(
            &format!("-n {NAMESPACE} "),
            &format!("-n {} ", room.namespace),
        );
        let quoted = format!("\"{NAMESPACE}\"");
        Ok(there.clone() + &lines.replace(&quoted, &format!("\"{}\"", room.namespace)))
    };
    run(&typed("keep")?).await?;
    let resource = json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "StorageCluster",
        "metadata": {"name": "demo"},
        "spec": encrypted(room),
    });
    std::fs::write(
        directory.path().join("storagecluster.yaml"),
        resource.to_string(),
    )?;

    room.close().await?;
    let namespaces = room.everywhere::<Namespace>();
    until("the namespace is gone", GONE, async || {
        let found = namespaces.get_opt(&room.namespace).await?;
        ensure!(found.is_none(), "it is there");
        Ok(())
    })
    .await?;
    // With the label of the suite, so that it is closed when a case ends early.
    room.open_again().await?;
    let lines = typed("bring back")?;
    let create = format!("kubectl create namespace {NAMESPACE}\n");
    ensure!(lines.contains(&create), "the page makes no namespace");
    run(&lines.replace(&create, "")).await?;

    let volumes = volumes(room).await?;
    ensure!(volumes == *volumes_before, "other volumes: {volumes:?}");
    let after = room.until_settled("demo", SETTLED).await?;
    ensure!(id_of(&after) == id_of(before), "it is another cluster");
    let gateway = room.gateway("demo").await?;
    files.expect(&gateway).await?;
    gateway.upload("new.bin", noise(11, 40_000), 0).await?;
    Ok(())
}

/// The volumes that claims here have.
async fn volumes(room: &Room) -> Result<BTreeSet<String>> {
    let listed = room
        .api::<PersistentVolumeClaim>()
        .list(&ListParams::default())
        .await?;
    let volume = |claim: PersistentVolumeClaim| claim.spec?.volume_name;
    Ok(listed.into_iter().filter_map(volume).collect())
}

async fn reclaim(room: &Room, volumes: &BTreeSet<String>, policy: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"persistentVolumeReclaimPolicy": policy}}));
    for volume in volumes {
        room.everywhere::<PersistentVolume>()
            .patch(volume, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("{volume}: {policy}"))?;
    }
    Ok(())
}

/// The lines that are marked with `name`.
fn lines_of_the_page(name: &str) -> Result<String> {
    let page = std::fs::read_to_string(PAGE).context("run this in the repository")?;
    let (_, rest) = page
        .split_once(&format!("{MARK}{name}{BEGIN}"))
        .with_context(|| format!("{PAGE} has no lines to {name}"))?;
    let (lines, _) = rest.split_once("```").context("the lines have no end")?;
    Ok(lines.to_owned())
}
