//! What the number of files costs: the first page of a list, and a node's start.
//!
//! Real processes and real uploads, with the group commit and the caches as they
//! are then; a million takes some ten minutes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Shape};
use serde_json::Value;

use crate::load::Load;
use crate::sample::{Figure, figure};

/// A page of a list, the longest that may be asked for.
const PAGE: usize = 1000;
/// Pages and starts that are measured at each number of files.
const SAMPLES: usize = 20;
const STARTS: usize = 3;
/// Clients that fill the store.
const CLIENTS: usize = 64;
/// How long a node may take to end in order.
const ENDS: Duration = Duration::from_secs(60);

/// Stores a tenth of `files`, then the rest, and measures at both.
pub async fn measure(dir: &Path, files: u64) -> Result<Vec<Figure>> {
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        gateway_settings: vec![
            ("HOLDFAST_KEY_RATE", "0".into()),
            ("HOLDFAST_ADDRESS_RATE", "0".into()),
        ],
        data: (1..=3).map(|n| dir.join(format!("files-{n}"))).collect(),
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    let mut figures = Vec::new();
    let mut there = 0;
    for wanted in [files / 10, files] {
        fill(&cluster, wanted - there).await?;
        there = wanted;
        figures.extend(pages(&cluster.gateway(0)?, wanted).await?);
        figures.extend(starts(&mut cluster, wanted).await?);
    }
    Ok(figures)
}

/// Stores so many small files.
async fn fill(cluster: &Cluster, files: u64) -> Result<()> {
    const SAY_EVERY: u64 = 50_000;
    let load = Load::new(cluster.gateway(0)?.url())?;
    let load = &load;
    stream::iter(0..files)
        .map(|number| async move {
            if number % SAY_EVERY == 0 {
                eprintln!("  {number} of {files} files");
            }
            load.upload("bin", Bytes::from_static(b"one of many"), 0)
                .await
                .map(drop)
        })
        .buffer_unordered(CLIENTS)
        .try_for_each(|()| async { Ok(()) })
        .await
}

/// The first page, again and again.
async fn pages(gateway: &Gateway, files: u64) -> Result<Vec<Figure>> {
    let what = format!("first page of {PAGE} of {files} files");
    let mut figures = Vec::new();
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let page = gateway.json(&format!("/api/files?limit={PAGE}")).await?;
        figures.push(figure(&what, begun.elapsed().as_secs_f64() * 1e3, "ms"));
        let listed = page.get("files").and_then(Value::as_array);
        let listed = listed.map_or(0, Vec::len);
        ensure!(listed == PAGE.min(files as usize), "{listed} files listed");
    }
    Ok(figures)
}

/// From a node's start until it serves: once it was ended in order, and once
/// it was killed.
async fn starts(cluster: &mut Cluster, files: u64) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for orderly in [true, false] {
        for round in 0..STARTS {
            let at = round % cluster.nodes.len();
            match orderly {
                true => cluster.nodes[at].stop(ENDS).await?,
                false => cluster.kill_nodes(&[at]),
            }
            let begun = Instant::now();
            cluster.start_node(at).await?;
            let how = if orderly { "an orderly end" } else { "a kill" };
            let what = format!("a node's start after {how}, {files} files");
            figures.push(figure(&what, begun.elapsed().as_secs_f64(), "s"));
            for node in &mut cluster.nodes {
                node.ready().await?;
            }
        }
    }
    Ok(figures)
}
