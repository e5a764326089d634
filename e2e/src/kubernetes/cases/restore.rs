//! The metadata of a cluster is lost, and comes back out of a backup.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::binary;
use reqwest::StatusCode;

use super::SETTLED;
use super::rest::Files;
use crate::outages::run;
use crate::room::Room;
use crate::spec::small;
use crate::state::id_of;

/// Where it is written how this is done.
const PAGE: &str = "docs/kubernetes.md";
/// What stands before the lines that are run as they are.
const MARK: &str = "<!-- run by the Kubernetes suite -->\n```sh\n";
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

    let lines = lines_of_the_page()?;
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

fn lines_of_the_page() -> Result<String> {
    let page = std::fs::read_to_string(PAGE).context("run this in the repository")?;
    let (_, rest) = page
        .split_once(MARK)
        .with_context(|| format!("{PAGE} has no lines to run"))?;
    let (lines, _) = rest.split_once("```").context("the lines have no end")?;
    Ok(lines.to_owned())
}
