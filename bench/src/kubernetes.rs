//! What the operator takes over what it does, on a running Kubernetes cluster.
//!
//! Each figure is of the whole way, as a person sees it: from the command to
//! what the status says. Median and range of the rounds are shown; the worst
//! round is the upper end of the range.

mod birth;
mod idle;
mod losses;
mod scale;
mod upgrade;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::kubernetes::room::{Room, World};
use holdfast_e2e::kubernetes::spec::{small, with};
use serde_json::{Value, json};

use crate::limits;
use crate::sample::Figure;

/// Longer than anything here may take that is not stuck.
const LIMIT: Duration = Duration::from_secs(900);
/// A file of those that fill a cluster.
const FILE_BYTES: usize = 8 << 20;
/// Uploads at once that fill a cluster.
const UPLOADS: usize = 4;

/// How much of each.
#[derive(Args)]
pub struct Amounts {
    /// The tag of a store's images, which the machines have.
    #[arg(long, default_value = "dev", requires = "k8s")]
    tag: String,
    /// Another tag of such images, which upgrades go to and come back from.
    #[arg(long, requires = "k8s")]
    other_tag: Option<String>,
    /// Rounds of each figure of Kubernetes.
    #[arg(long, default_value_t = 5, requires = "k8s", value_parser = clap::value_parser!(u32).range(1..))]
    k8s_rounds: u32,
    /// What the cluster holds in which something is killed.
    #[arg(long, default_value_t = 1024, requires = "k8s")]
    held_mib: u64,
    /// The file whose download goes on through an upgrade.
    #[arg(long, default_value_t = 3072, requires = "k8s")]
    long_mib: u64,
    /// What the node holds that is removed.
    #[arg(long, default_value_t = 2048, requires = "k8s")]
    drained_mib: u64,
    /// How often a node is removed: each time takes some minutes.
    #[arg(long, default_value_t = 3, requires = "k8s", value_parser = clap::value_parser!(u32).range(1..))]
    removals: u32,
    /// Clusters that sleep while the operator is watched.
    #[arg(long, default_value_t = 50, requires = "k8s")]
    asleep: u32,
    /// For how many minutes it is watched.
    #[arg(long, default_value_t = 10, requires = "k8s", value_parser = clap::value_parser!(u64).range(1..))]
    watched_minutes: u64,
    /// Only figures whose part contains this: birth, losses, upgrade, scale, idle.
    #[arg(long, requires = "k8s")]
    only: Option<String>,
}

/// Measures, part by part; what one part leaves is gone before the next begins.
pub async fn measure(disk: &Path, amounts: &Amounts) -> Result<Vec<Figure>> {
    let world = World::reach(amounts.tag.clone(), None).await?;
    let at = disk.to_owned();
    let sequential = tokio::task::spawn_blocking(move || limits::sequential(&at)).await??;
    let mut figures = Vec::new();
    for part in ["birth", "losses", "upgrade", "scale", "idle"] {
        let only = amounts.only.as_deref();
        if only.is_some_and(|only| !part.contains(only)) {
            continue;
        }
        eprintln!("{part}");
        let room = Room::open(&world, &format!("bench-{part}")).await?;
        let measured = match part {
            "birth" => birth::measure(&room, amounts).await,
            "losses" => losses::measure(&room, amounts).await,
            "upgrade" => upgrade::measure(&room, amounts).await,
            "scale" => scale::measure(&room, amounts, sequential).await,
            _ => idle::measure(&room, amounts).await,
        };
        room.close().await?;
        figures.extend(measured.with_context(|| part.to_owned())?);
    }
    Ok(figures)
}

/// A small cluster with volumes for what is put on it.
fn roomy(room: &Room, change: Value) -> Value {
    let volumes = json!({"nodes": {"storage": {"size": "20Gi"}}});
    with(with(small(room), volumes), change)
}

/// Stores so much, in files of 8 MiB; what they are called.
async fn fill(gateway: &Gateway, mib: u64) -> Result<Vec<String>> {
    let files = (mib << 20).div_ceil(FILE_BYTES as u64);
    stream::iter(0..files)
        .map(|seed| store_one(gateway, seed))
        .buffer_unordered(UPLOADS)
        .try_collect()
        .await
}

/// A limit of the rate or of the budget is waited for.
async fn store_one(gateway: &Gateway, seed: u64) -> Result<String> {
    const TRIES: u32 = 30;
    let mut last = None;
    for _ in 0..TRIES {
        let bytes = noise(seed, FILE_BYTES);
        match gateway.upload("held.bin", bytes, 0).await {
            Ok(id) => return Ok(id),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    match last {
        Some(error) => Err(error.context("filling the cluster")),
        None => bail!("nothing was tried"),
    }
}
