//! A disk that hangs: calls of it begin and do not return. The node is found
//! not to be alive, and nobody else is; what it led is led by others meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::processes::{Cluster, Shape};
use holdfast_e2e::wait::until;
use tempfile::TempDir;

use crate::{ensure_eq, told};

/// Room for a node's logs and state, and some files.
const DISK_BYTES: u64 = 512 << 20;
/// A call has hung for so long when the node is no longer alive.
const STILL_LIMIT: Duration = Duration::from_secs(30);
/// What stands still may have moved for the last time so long before the order to
/// freeze: the engine says that it moves every 2 s.
const BEFORE: Duration = Duration::from_secs(3);
/// And so much later at most it is told: until something is written.
const SLACK: Duration = Duration::from_secs(30);
/// So long after the disk has begun to hang the groups that its node led are led
/// by others: it gives them away after 3 s, and this machine may be busy.
const PASSED_ON: Duration = Duration::from_secs(15);

/// A file system of its own, which can be frozen; thawed and gone when dropped.
struct Freezer {
    path: PathBuf,
    _files: TempDir,
}

impl Freezer {
    fn mount() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let (image, path) = (files.path().join("image"), files.path().join("disk"));
        File::create(&image)?.set_len(DISK_BYTES)?;
        std::fs::create_dir(&path)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))
            .context("this test needs the right to mount a file system: run it as root, in a container with CAP_SYS_ADMIN and loop devices")?;
        let _files = files;
        Ok(Self { path, _files })
    }

    fn set(&self, order: &str) -> Result<()> {
        run(Command::new("fsfreeze").arg(order).arg(&self.path))
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Who hangs in it can be ended only once it is thawed.
        let _ = self.set("--unfreeze");
        let _ = run(Command::new("umount").arg("-l").arg(&self.path));
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
async fn a_disk_that_hangs() -> Result<()> {
    // Before the cluster, so that it is dropped after it.
    let freezer = Freezer::mount()?;
    let plain = tempfile::tempdir()?;
    let data = |at: &Path| at.join("data");
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        data: vec![
            data(&freezer.path),
            data(&plain.path().join("2")),
            data(&plain.path().join("3")),
        ],
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    for node in &mut cluster.nodes {
        node.ready().await?;
    }
    let start = Instant::now();
    let result = is_not_alive_until_it_goes_on(&cluster, &freezer).await;
    // Before the processes end: they cannot while they hang.
    freezer.set("--unfreeze").ok();
    told("is_not_alive_until_it_goes_on", start, result, &cluster)
}

async fn is_not_alive_until_it_goes_on(cluster: &Cluster, freezer: &Freezer) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let [hangs, others @ ..] = &cluster.nodes[..] else {
        bail!("there are three nodes");
    };
    ensure_eq("alive", hangs.health().await?, (200, "alive\n".into()))?;
    // What hangs may have begun before the file system is still: freezing one
    // writes first what is dirty.
    let begun = Instant::now();
    freezer.set("--freeze")?;
    let limit = STILL_LIMIT + SLACK;
    let mut held_up = Vec::new();
    let why = until(
        "the node whose disk hangs is not alive",
        limit,
        async || {
            // So that the disk has something to do; two of three are enough.
            let at = begun.elapsed();
            let uploaded = gateway.upload("more.bin", noise(1, 64 << 10), 0).await;
            if let Err(error) = uploaded
                && at > PASSED_ON
            {
                held_up.push(format!("after {at:?}: {error}"));
            }
            let (status, why) = hangs.health().await?;
            ensure!(status == 503, "{status}: {why}");
            Ok(why)
        },
    )
    .await?;
    println!("after {:.1} s: {why}", begun.elapsed().as_secs_f64());
    ensure!(
        begun.elapsed() + BEFORE > STILL_LIMIT,
        "it was given no time"
    );
    ensure!(why.contains("has not moved for"), "{why}");
    ensure!(held_up.is_empty(), "{held_up:?}");
    for other in others {
        ensure_eq(&other.name, other.health().await?, (200, "alive\n".into()))?;
    }
    let nodes = gateway.json("/api/nodes").await?;
    let listed = nodes["nodes"].as_array().context("no nodes are listed")?;
    for node in listed {
        let own = format!(":{}", hangs.port);
        let is_it = node["address"]
            .as_str()
            .context("no address")?
            .ends_with(&own);
        ensure!(node["disk_hangs"] == is_it, "{node}");
    }
    freezer.set("--unfreeze")?;
    until("it is alive again", limit, async || {
        ensure_eq("alive", hangs.health().await?, (200, "alive\n".into()))
    })
    .await
}
