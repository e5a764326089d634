//! Disks that are full: refused with 507, reads go on, deletions make room.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, stream};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Shape};
use holdfast_e2e::wait::until;
use reqwest::{Method, StatusCode};
use tempfile::TempDir;

use crate::{Kept, SETTLE, claim, ensure_eq, expect_all};

/// Room for a node's logs and state, and some files.
const DISK_BYTES: u64 = 320 << 20;
/// Kept for metadata, deletions and compaction.
const RESERVE_BYTES: u64 = 128 << 20;
const FILE_BYTES: usize = 4 << 20;

/// A small file system in memory, one for each node; gone when dropped.
struct SmallDisks {
    paths: Vec<PathBuf>,
    _files: TempDir,
}

impl SmallDisks {
    fn mount(count: usize, bytes: u64) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let mut disks = Self {
            paths: Vec::new(),
            _files: files,
        };
        for number in 1..=count {
            let path = disks._files.path().join(format!("disk{number}"));
            std::fs::create_dir(&path)?;
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o"])
                .arg(format!("size={bytes}"))
                .arg("holdfast-test")
                .arg(&path))
            .context("this test needs the right to mount a tmpfs: run it as root, in a container with CAP_SYS_ADMIN")?;
            disks.paths.push(path);
        }
        Ok(disks)
    }
}

impl Drop for SmallDisks {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = run(Command::new("umount").arg("-l").arg(path));
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_recovers() -> Result<()> {
    // Before the cluster, so that it is dropped after it.
    let disks = SmallDisks::mount(3, DISK_BYTES)?;
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        workers: 1,
        node_settings: vec![
            ("HOLDFAST_DISK_RESERVE", RESERVE_BYTES.to_string()),
            ("HOLDFAST_CENSUS_INTERVAL", "2s".into()),
        ],
        data: disks.paths.iter().map(|disk| disk.join("data")).collect(),
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::uploads_end_with_507_reads_go_on_and_deletions_make_room(&mut cluster));
    claim!(self::a_full_disk_survives_a_restart(&mut cluster));
    drop(cluster);
    drop(disks);
    Ok(())
}

/// Uploads until it is refused; what was taken, and the refusal.
async fn fill(gateway: &Gateway, seed: u64) -> Result<(Vec<Kept>, StatusCode, String)> {
    let mut kept = Vec::new();
    for number in 0..DISK_BYTES / FILE_BYTES as u64 {
        let bytes = noise(seed + number, FILE_BYTES);
        let put = gateway
            .request(Method::PUT, "/api/upload/fill.bin?download_limit=0")
            .body(bytes.clone());
        let response = put.send().await?;
        let status = response.status();
        let text = response.text().await?;
        if status != StatusCode::CREATED {
            return Ok((kept, status, text));
        }
        let file: serde_json::Value = serde_json::from_str(&text)?;
        let id = file["file_id"].as_str().context("no file_id")?.to_owned();
        kept.push(Kept { id, bytes });
    }
    bail!("{} files fit where they cannot", kept.len())
}

async fn uploads_end_with_507_reads_go_on_and_deletions_make_room(
    cluster: &mut Cluster,
) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let (mut kept, status, text) = fill(&gateway, 1_000).await?;
    println!("{} files of 4 MiB fit; then {status}: {text}", kept.len());
    ensure!(kept.len() >= 4, "only {} files fit", kept.len());
    ensure_eq("the status", status, StatusCode::INSUFFICIENT_STORAGE)?;
    ensure!(text.contains("\"disk_full\""), "{text}");
    expect_all(&gateway, &kept).await.context("reads go on")?;
    for node in &mut cluster.nodes {
        let program = node.program.as_mut().context("it does not run")?;
        ensure!(program.ended()?.is_none(), "{} ended", node.name);
    }

    let half = kept.split_off(kept.len() / 2);
    let deleted = half.len();
    delete_all(&gateway, half.into_iter()).await?;
    let room = Duration::from_secs(90);
    let more = until("deletions make room", room, async || {
        let (more, ..) = fill(&gateway, 2_000).await?;
        ensure!(more.len() >= deleted / 2, "{} fit again", more.len());
        Ok(more)
    })
    .await?;
    expect_all(&gateway, &kept).await?;
    expect_all(&gateway, &more).await
}

async fn a_full_disk_survives_a_restart(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let (_, status, _) = fill(&gateway, 3_000).await?;
    ensure_eq("the status", status, StatusCode::INSUFFICIENT_STORAGE)?;
    let page = gateway.json("/api/files?limit=200").await?;
    let before = page["files"].as_array().context("no list")?.len();
    for node in &mut cluster.nodes {
        node.kill();
    }
    for at in 0..cluster.nodes.len() {
        cluster.start_node(at).await?;
    }
    until("reads resume", SETTLE, async || {
        let page = gateway.json("/api/files?limit=200").await?;
        let files = page["files"].as_array().context("no list")?;
        ensure!(files.len() == before, "{} files of {before}", files.len());
        let id = files[0]["file_id"].as_str().context("no file_id")?;
        let status = gateway.download(id).await?.status();
        ensure_eq("a download", status, StatusCode::OK)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_that_fill_the_reserve_lose_nothing() -> Result<()> {
    /// Little more than the logs take from the beginning.
    const DISK_BYTES: u64 = 224 << 20;
    let disks = SmallDisks::mount(3, DISK_BYTES)?;
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        node_settings: vec![("HOLDFAST_DISK_RESERVE", (64 << 20).to_string())],
        data: disks.paths.iter().map(|disk| disk.join("data")).collect(),
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::small_files_until_nothing_fits(&mut cluster));
    drop(cluster);
    drop(disks);
    Ok(())
}

async fn upload(gateway: &Gateway, bytes: Vec<u8>) -> Result<Kept> {
    let put = gateway.request(Method::PUT, "/api/upload/small.bin?download_limit=0");
    let response = put.body(bytes.clone()).send().await?;
    ensure_eq("an upload", response.status(), StatusCode::CREATED)?;
    let file: serde_json::Value = response.json().await?;
    let id = file["file_id"].as_str().context("no file_id")?.to_owned();
    Ok(Kept { id, bytes })
}

async fn delete_all(gateway: &Gateway, files: impl Iterator<Item = Kept>) -> Result<()> {
    for Kept { id, .. } in files {
        let path = format!("/api/files/{id}");
        let status = gateway
            .request(Method::DELETE, &path)
            .send()
            .await?
            .status();
        ensure!(status.is_success(), "DELETE: {status}");
    }
    Ok(())
}

async fn small_files_until_nothing_fits(cluster: &mut Cluster) -> Result<()> {
    const FILE: usize = 15_000;
    const AT_ONCE: usize = 16;
    const MOST: u64 = 20_000;
    let gateway = &cluster.gateway(0)?;
    let mut kept = Vec::new();
    let mut refusal = None;
    let mut running = stream::iter(0..MOST)
        .map(|seed| async move {
            let bytes = noise(seed, FILE);
            let put = gateway.request(Method::PUT, "/api/upload/small.bin?download_limit=0");
            let response = put.body(bytes.clone()).send().await?;
            let status = response.status();
            let text = response.text().await?;
            if status != StatusCode::CREATED {
                return Ok(Err((status, text)));
            }
            let file: serde_json::Value = serde_json::from_str(&text)?;
            let id = file["file_id"].as_str().context("no file_id")?.to_owned();
            anyhow::Ok(Ok(Kept { id, bytes }))
        })
        .buffer_unordered(AT_ONCE);
    while let Some(answer) = running.next().await {
        match answer? {
            Ok(file) => kept.push(file),
            Err(refused) => {
                refusal = Some(refused);
                break;
            }
        }
    }
    let (status, text) = refusal.context("nothing was refused")?;
    println!("{} small files fit; then {status}: {text}", kept.len());
    ensure_eq("the status", status, StatusCode::INSUFFICIENT_STORAGE)?;
    for node in &mut cluster.nodes {
        let program = node.program.as_mut().context("it does not run")?;
        ensure!(program.ended()?.is_none(), "{} ended", node.name);
    }
    ensure!(kept.len() >= 400, "only {} files fit", kept.len());
    expect_all(gateway, &kept[kept.len() - 200..]).await?;

    // Deleting makes room while the nodes run, though the file systems show none.
    let deleted = kept.len() / 2;
    delete_all(gateway, kept.drain(..deleted)).await?;
    let again = until("deletions make room", Duration::from_secs(60), async || {
        let bytes = noise(MOST + 1, FILE);
        upload(gateway, bytes).await
    })
    .await?;
    kept.push(again);

    // A restart gives the room back to the file systems.
    kept.drain(..kept.len().saturating_sub(400));
    delete_all(gateway, kept.drain(..200)).await?;
    cluster.members().for_each(|member| member.kill());
    for at in 0..cluster.nodes.len() {
        cluster.start_node(at).await?;
    }
    cluster.gateways[0].start()?;
    until("reading resumes", SETTLE, async || {
        expect_all(gateway, &kept[..2]).await
    })
    .await?;
    expect_all(gateway, &kept).await
}
